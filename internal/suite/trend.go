package suite

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"
)

const (
	trendRuns  = 10 // newest green runs that a run is compared with
	leastRuns  = 3  // fewer say nothing
	shownSlow  = 5  // slowest tests with what they usually take
	namedTests = 3  // tests named in a warning
	// noise is what a time may differ by and nobody is told: a twentieth, and a tenth of a second.
	noise     = 0.05
	noiseTime = 100 * time.Millisecond
)

// compare fills into a result what the runs before say of it: flaky tests, and how its time and its count have changed. It
// changes no verdict.
func (s *Suite) compare(ctx context.Context, app string, k key, r *Result) error {
	same, err := s.Memory.Same(ctx, app, r.Level, k.inputs)
	if err != nil {
		return err
	}
	recent, err := s.Memory.Recent(ctx, app, r.Level, flakyRuns)
	if err != nil {
		return err
	}
	r.Flaky = flakes(r.Cases, append(alike(recent, k.parts), same...), recent)
	green := greenOf(recent)
	for i := range r.Slowest[:min(len(r.Slowest), shownSlow)] {
		r.Slowest[i].Usual = usual(r.Slowest[i].Name, green)
	}
	if r.State != Passed { // one that broke off early says nothing by its time and its count
		return nil
	}
	texts := []string{timeTrend(r.Took, green)}
	more, warning := countTrend(*r, green)
	texts = append(texts, more)
	if warning != "" {
		r.Warnings = append(r.Warnings, warning)
	}
	r.Trend = joinTexts(texts)
	return nil
}

// alike are the runs of which all that they depend on is the same but the home folder. Tests and tools leave files there:
// a run cannot be used again then, and yet nothing has changed that would excuse another result.
func alike(recent []Run, parts map[string]string) []Run {
	bare := func(parts map[string]string) map[string]string {
		parts = maps.Clone(parts)
		delete(parts, "home")
		return parts
	}
	var same []Run
	for _, run := range recent {
		if len(run.Parts) > 0 && maps.Equal(bare(run.Parts), bare(parts)) {
			same = append(same, run)
		}
	}
	return same
}

func greenOf(recent []Run) []Run {
	var green []Run
	for _, run := range recent {
		if run.Result.State == Passed && len(green) < trendRuns {
			green = append(green, run)
		}
	}
	return green
}

// usual is the median of what a test took in the green runs before; 0 when too few of them had it.
func usual(name string, green []Run) time.Duration {
	var times []time.Duration
	for _, run := range green {
		for _, c := range run.Cases {
			if c.Name == name && c.State == CasePassed {
				times = append(times, c.Took)
				break
			}
		}
	}
	if len(times) < leastRuns {
		return 0
	}
	return median(times)
}

// timeTrend is "8 % slower than the last 10"; "" when there is nothing to compare with.
func timeTrend(took time.Duration, green []Run) string {
	if len(green) < leastRuns {
		return ""
	}
	var times []time.Duration
	for _, run := range green {
		times = append(times, run.Result.Took)
	}
	return change(took, median(times), fmt.Sprintf("the last %d", len(green)))
}

// change says how a time differs from what it usually is.
func change(is, was time.Duration, than string) string {
	if was <= 0 || (is-was).Abs() < noiseTime || math.Abs(float64(is-was)) < noise*float64(was) {
		return "as fast as " + than
	}
	word := "slower"
	if is < was {
		word = "faster"
	}
	part := math.Abs(float64(is-was)) / float64(was)
	if part >= 2 {
		return fmt.Sprintf("%.1f times as long as %s", float64(is)/float64(was), than)
	}
	return fmt.Sprintf("%.0f %% %s than %s", 100*part, word, than)
}

// countTrend compares the number of tests with the newest green run that counted them: more is a text, fewer a warning.
func countTrend(r Result, green []Run) (more, warning string) {
	for _, run := range green {
		if !run.Result.Counted || !r.Counted {
			continue
		}
		n := r.Passed + r.Failed + r.Skipped - run.Result.Passed - run.Result.Failed - run.Result.Skipped
		switch {
		case n > 0:
			return fmt.Sprintf("%s more than in %s", tests(n), from(run.Delivery)), ""
		case n < 0:
			return "", fmt.Sprintf("%s fewer than in %s", tests(-n), from(run.Delivery))
		}
		return "", ""
	}
	return "", ""
}

func joinTexts(texts []string) string {
	all := ""
	for _, text := range texts {
		if text != "" && all != "" {
			all += ", "
		}
		all += text
	}
	return all
}

// missing warns of tests that passed in the newest green run, are nowhere now, and whose file or package is still there:
// the parts may have left them out.
func missing(cases []Case, recent []Run, there func(unit string) bool) string {
	green := greenOf(recent)
	if len(green) == 0 || len(green[0].Cases) >= maxCases || len(cases) >= maxCases {
		return ""
	}
	now := map[string]bool{}
	for _, c := range cases {
		now[c.Name] = true
	}
	var gone []string
	for _, c := range green[0].Cases {
		if c.State == CasePassed && !now[c.Name] && there(c.Unit) {
			now[c.Name] = true
			gone = append(gone, c.Name)
		}
	}
	if len(gone) == 0 {
		return ""
	}
	names := strings.Join(gone[:min(len(gone), namedTests)], ", ")
	if len(gone) > namedTests {
		names += ", …"
	}
	return fmt.Sprintf("%s of the last run (%s) did not run: %s", tests(len(gone)), from(green[0].Delivery), names)
}
