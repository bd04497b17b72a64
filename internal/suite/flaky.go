package suite

import (
	"cmp"
	"fmt"
	"slices"
)

const (
	flakyRuns = 20 // newest runs, with this one, in which a flaky test is remembered
	maxFlaky  = 50 // flaky tests named of a run
)

// Flake is a test that ended otherwise although nothing had changed, or that passed only when it was tried again.
type Flake struct {
	Name string `json:"name"`
	// Now says that it did so in this run; else only in one of the runs before.
	Now bool `json:"now,omitempty"`
	// Runs is in how many of the newest Of runs it did.
	Runs int `json:"runs"`
	Of   int `json:"of"`
}

// String is "TestX 2 of 20 runs".
func (f Flake) String() string {
	if f.Of == 1 {
		return f.Name + " in this run"
	}
	return fmt.Sprintf("%s %d of %d runs", f.Name, f.Runs, f.Of)
}

// flakes names the tests that were flaky in a run or in one of those before. Same are the runs with the same inputs,
// recent those of the level; both newest first, both without this one.
func flakes(cases []Case, same, recent []Run) []Flake {
	recent = recent[:min(len(recent), flakyRuns-1)]
	times, now := map[string]int{}, map[string]bool{}
	for _, name := range flakyNow(cases, same) {
		times[name], now[name] = 1, true
	}
	for _, run := range recent {
		for _, f := range run.Result.Flaky {
			if f.Now {
				times[f.Name]++
			}
		}
	}
	list := make([]Flake, 0, len(times))
	for name, n := range times {
		list = append(list, Flake{Name: name, Now: now[name], Runs: n, Of: len(recent) + 1})
	}
	slices.SortFunc(list, func(a, b Flake) int {
		if a.Now != b.Now {
			if a.Now {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.Runs, a.Runs), cmp.Compare(a.Name, b.Name))
	})
	return list[:min(len(list), maxFlaky)]
}

// flakyNow names the tests of which the run itself says so, and those that ended otherwise in the newest run with the same
// inputs in which they ran.
func flakyNow(cases []Case, same []Run) []string {
	ends, names := map[string]CaseState{}, map[string]bool{}
	for _, c := range cases {
		names[c.Name] = names[c.Name] || c.Flaky
	}
	for name, end := range endsOf(cases) {
		ends[name] = end
	}
	for _, run := range same {
		for name, was := range endsOf(run.Cases) {
			if is, open := ends[name]; open {
				names[name] = names[name] || is != was
				delete(ends, name)
			}
		}
	}
	var list []string
	for name, flaky := range names {
		if flaky {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// endsOf is how each test ended, those that were skipped left out. Of several with one name, one that failed counts.
func endsOf(cases []Case) map[string]CaseState {
	ends := map[string]CaseState{}
	for _, c := range cases {
		if c.State == CaseSkipped || ends[c.Name] == CaseFailed {
			continue
		}
		ends[c.Name] = c.State
	}
	return ends
}
