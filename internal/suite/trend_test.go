package suite

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// past is a Memory of runs, newest first.
type past []Run

func (p past) Green(context.Context, string, string, string) (*Run, error) { return nil, nil }

func (p past) Same(_ context.Context, _, _, inputs string) ([]Run, error) {
	var same []Run
	for _, r := range p {
		if r.Inputs == inputs {
			same = append(same, r)
		}
	}
	return same, nil
}

func (p past) Recent(_ context.Context, _, _ string, limit int) ([]Run, error) {
	return p[:min(limit, len(p))], nil
}

func (p past) Save(context.Context, Run) error { return nil }

func passed(names ...string) []Case {
	var cases []Case
	for _, name := range names {
		state := CasePassed
		if bare, red := strings.CutPrefix(name, "!"); red {
			name, state = bare, CaseFailed
		}
		cases = append(cases, Case{Name: name, State: state, Took: time.Second})
	}
	return cases
}

func texts(list []Flake) string {
	var all []string
	for _, f := range list {
		all = append(all, fmt.Sprintf("%s now=%v", f, f.Now))
	}
	return strings.Join(all, "; ")
}

func TestFlakyTestsAreNamed(t *testing.T) {
	flake := func(name string, now bool) Result {
		return Result{Flaky: []Flake{{Name: name, Now: now, Runs: 9, Of: 9}}}
	}
	for name, c := range map[string]struct {
		cases []Case
		past  past
		want  string
	}{
		"another result with the same inputs": {passed("a", "b"), past{{Inputs: "x", Cases: passed("!a", "b")}}, "a 1 of 2 runs now=true"},
		"and the other way round":             {passed("!a", "b"), past{{Inputs: "x", Cases: passed("a", "b")}}, "a 1 of 2 runs now=true"},
		"with other inputs it is no flake":    {passed("a", "b"), past{{Inputs: "y", Cases: passed("!a", "b")}}, ""},
		"the newest of the same counts":       {passed("a"), past{{Inputs: "x", Cases: passed("a")}, {Inputs: "x", Cases: passed("!a")}}, ""},
		"one that did not run says nothing":   {passed("a"), past{{Inputs: "x", Cases: passed("b")}, {Inputs: "x", Cases: passed("!a")}}, "a 1 of 3 runs now=true"},
		"nor one that was skipped":            {[]Case{{Name: "a", State: CaseSkipped}}, past{{Inputs: "x", Cases: passed("!a")}}, ""},
		"tried again within the run":          {[]Case{{Name: "a", State: CasePassed, Flaky: true}}, past{}, "a in this run now=true"},
		"one name, several tests":             {passed("!a", "a"), past{{Inputs: "x", Cases: passed("a", "!a")}}, ""},
		"only the home has changed":           {passed("a"), past{{Parts: map[string]string{"files": "1", "home": "2"}, Cases: passed("!a")}}, "a 1 of 2 runs now=true"},
		"other files":                         {passed("a"), past{{Parts: map[string]string{"files": "2", "home": "1"}, Cases: passed("!a")}}, ""},
		"known from before":                   {passed("a", "b"), past{{Result: flake("b", true)}, {Result: flake("c", false)}, {Result: flake("b", true)}}, "b 2 of 4 runs now=false"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Result{State: Passed, Cases: c.cases}
			if err := (&Suite{Memory: c.past}).compare(t.Context(), "shop", key{inputs: "x", parts: map[string]string{"files": "1", "home": "1"}}, &r); err != nil {
				t.Fatal(err)
			}
			if got := texts(r.Flaky); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if r.State != Passed {
				t.Error("it changed the verdict")
			}
		})
	}
}

func TestFlakyTestsAreForgottenAfterTwentyRuns(t *testing.T) {
	runs := make(past, 30)
	for i := range runs {
		runs[i].Result.Flaky = []Flake{{Name: "often", Now: true}}
	}
	runs[19].Result.Flaky = []Flake{{Name: "long ago", Now: true}}
	runs[18].Result.Flaky = []Flake{{Name: "just", Now: true}}
	r := Result{State: Failed}
	if err := (&Suite{Memory: runs}).compare(t.Context(), "shop", key{inputs: "x", parts: map[string]string{"files": "1", "home": "1"}}, &r); err != nil || texts(r.Flaky) != "often 18 of 20 runs now=false; just 1 of 20 runs now=false" {
		t.Errorf("%s, %v", texts(r.Flaky), err)
	}
}

func TestTrend(t *testing.T) {
	green := func(took time.Duration, n int) Run {
		return Run{Delivery: 141, Result: Result{State: Passed, Counted: true, Passed: n, Took: took}, Cases: []Case{{Name: "TestImport", State: CasePassed, Took: took / 2}}}
	}
	usual := past{green(10*time.Second, 20), {Result: Result{State: Failed, Took: time.Hour}}, green(12*time.Second, 30), green(10*time.Second, 30), green(2*time.Second, 30)}
	for name, c := range map[string]struct {
		took           time.Duration
		n              int
		past           past
		trend, warning string
	}{
		"as before":          {10 * time.Second, 20, usual, "as fast as the last 4", ""},
		"slower":             {14 * time.Second, 20, usual, "40 % slower than the last 4", ""},
		"much slower":        {35 * time.Second, 20, usual, "3.5 times as long as the last 4", ""},
		"faster, and more":   {5 * time.Second, 21, usual, "50 % faster than the last 4, 1 test more than in #141", ""},
		"fewer":              {10 * time.Second, 8, usual, "as fast as the last 4", "12 tests fewer than in #141"},
		"a hair of a second": {90 * time.Millisecond, 20, past{green(10*time.Millisecond, 20), green(10*time.Millisecond, 20), green(10*time.Millisecond, 20)}, "as fast as the last 3", ""},
		"two runs are few":   {14 * time.Second, 20, usual[:3], "", ""},
		"the first run":      {14 * time.Second, 20, nil, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := Result{State: Passed, Counted: true, Passed: c.n, Took: c.took, Slowest: []Slow{{Name: "TestImport", Took: 9 * time.Second}}}
			if err := (&Suite{Memory: c.past}).compare(t.Context(), "shop", key{inputs: "x", parts: map[string]string{"files": "1", "home": "1"}}, &r); err != nil {
				t.Fatal(err)
			}
			if r.Trend != c.trend || strings.Join(r.Warnings, "") != c.warning {
				t.Errorf("%q, %q", r.Trend, r.Warnings)
			}
			if len(c.past) == 5 && r.Slowest[0].Usual != 5*time.Second || len(c.past) < 3 && r.Slowest[0].Usual != 0 {
				t.Errorf("usually %s", r.Slowest[0].Usual)
			}
		})
	}
	r := Result{State: Failed, Counted: true, Passed: 1, Took: time.Minute}
	if err := (&Suite{Memory: usual}).compare(t.Context(), "shop", key{inputs: "x", parts: map[string]string{"files": "1", "home": "1"}}, &r); err != nil || r.Trend != "" || r.Warnings != nil {
		t.Errorf("a red run has a trend: %+v, %v", r, err)
	}
}

func TestTestsThatDidNotRunAreMissed(t *testing.T) {
	unit := func(name, unit string) Case { return Case{Name: name, Unit: unit, State: CasePassed} }
	last := Run{Delivery: 7, Result: Result{State: Passed}, Cases: []Case{unit("a", "t/a.py"), unit("b", "t/a.py"), unit("gone", "t/gone.py"), {Name: "skip", State: CaseSkipped}}}
	there := func(unit string) bool { return unit == "t/a.py" }
	if got := missing([]Case{unit("a", "t/a.py")}, []Run{{Result: Result{State: Failed}}, last}, there); got != "1 test of the last run (#7) did not run: b" {
		t.Errorf("%q", got)
	}
	if got := missing(passed("a", "b"), []Run{last}, there); got != "" {
		t.Errorf("%q", got)
	}
}

func TestCasesAreBounded(t *testing.T) {
	var one, other tally
	for i := range maxCases {
		one.keep(Case{Name: fmt.Sprint(i)})
	}
	other.keep(Case{Name: strings.Repeat("x", 10*maxName)})
	one.Passed, other.Passed = maxCases, 1
	one.add(other)
	var r Result
	r.fill(one)
	if len(r.Cases) != maxCases || r.Passed != maxCases+1 || !strings.Contains(strings.Join(r.Warnings, ""), "1 test counted and not remembered by name") || len(other.Cases[0].Name) > maxName+3 {
		t.Errorf("%d cases, %d passed, %q", len(r.Cases), r.Passed, r.Warnings)
	}
}
