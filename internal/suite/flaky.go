package suite

import "fmt"

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
func (f Flake) String() string { return fmt.Sprintf("%s %d of %d runs", f.Name, f.Runs, f.Of) }
