package suite

import (
	"context"
	"time"
)

// Case is one test of a run.
type Case struct {
	Name string `json:"name"`
	// Unit is what a shard can be made of: the Go package, or the file of the test; "" where the report does not say.
	Unit  string        `json:"unit,omitempty"`
	State CaseState     `json:"state"`
	Took  time.Duration `json:"took,omitempty"`
	Flaky bool          `json:"flaky,omitempty"` // it passed only when it was tried again within the run
}

// CaseState is how one test ended.
type CaseState string

// The ends of a test.
const (
	CasePassed  CaseState = "passed"
	CaseFailed  CaseState = "failed"
	CaseSkipped CaseState = "skipped"
)

// Run is one run of a level as it is remembered.
type Run struct {
	App   string `json:"app"`
	Level string `json:"level"`
	// Inputs is the hash over everything that the level's result may depend on; World the part of it that is not in the
	// commit: command, environment, toolchains, services.
	Inputs string    `json:"inputs"`
	World  string    `json:"world"`
	Commit string    `json:"commit"`
	At     time.Time `json:"at"`
	// Delivery is the delivery that ran it; 0 for a run before a merge.
	Delivery int    `json:"delivery,omitempty"`
	Result   Result `json:"result"`
	Cases    []Case `json:"cases,omitempty"`
	// Once says why nobody may use its result again: it reached a network. Empty: its inputs are all that it depends on.
	Once string `json:"once,omitempty"`
	// Parts are the hashes of which Inputs is one: they say what differs from an earlier run.
	Parts map[string]string `json:"parts,omitempty"`
}

// Memory remembers runs, green and red. What Save took is durable.
type Memory interface {
	// Green returns the newest green run of a level with these inputs whose result may be used again; nil when there is
	// none.
	Green(ctx context.Context, app, level, inputs string) (*Run, error)
	// Same lists the runs of a level with these inputs, newest first.
	Same(ctx context.Context, app, level, inputs string) ([]Run, error)
	// Recent lists the newest runs of a level that really ran, newest first.
	Recent(ctx context.Context, app, level string, limit int) ([]Run, error)
	Save(ctx context.Context, r Run) error
}
