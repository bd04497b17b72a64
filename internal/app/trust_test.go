package app

import (
	"context"
	"testing"

	"github.com/belay-cd/belay/internal/suite"
)

// oneRun remembers one green run of every level.
type oneRun struct {
	suite.Memory
	run *suite.Run
}

func (o oneRun) Green(context.Context, string, string, string) (*suite.Run, error) { return o.run, nil }

// A branch that nobody merged may not turn a level of another commit green through files that are not among its inputs.
func TestResultsOfABranchCountForTheirOwnFiles(t *testing.T) {
	for _, c := range []struct {
		name, level, commit string
		delivery            int
		taken               bool
	}{
		{"of a delivery", "unit", "b", 141, true},
		{"of this commit", "unit", "a", 0, true},
		{"of a branch with other files", "unit", "b", 0, false},
		{"of a branch with the same files", "e2e", "b", 0, true},
	} {
		m := trusted{Memory: oneRun{run: &suite.Run{Commit: c.commit, Delivery: c.delivery}}, commit: "a", narrowed: map[string]bool{"unit": true}}
		if run, err := m.Green(t.Context(), "shop", c.level, "x"); err != nil || (run != nil) != c.taken {
			t.Errorf("%s: %+v %v", c.name, run, err)
		}
	}
	if run, err := (trusted{Memory: oneRun{}}).Green(t.Context(), "shop", "unit", "x"); run != nil || err != nil {
		t.Errorf("%+v %v", run, err)
	}
}
