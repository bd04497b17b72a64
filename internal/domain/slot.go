package domain

import "time"

// Slot is one environment of one app: what is stable there, and what may be gone back to.
type Slot struct {
	App         string      `json:"app"`
	Environment Environment `json:"environment"`
	// Stable is the release that the slot owns: the only one whose instances are started again by themselves.
	Stable string `json:"stable,omitempty"` // rel_…
	// Previous is the last release that was stable before; the target of a rollback after done.
	Previous string `json:"previous,omitempty"`
	// Done is the last release whose delivery was done: what one may go back to when Previous was superseded before its end.
	Done  string    `json:"done,omitempty"`
	Since time.Time `json:"since,omitzero"`
	Epoch int64     `json:"epoch"` // of the route, grows with each change
}

// RolloutState says how far a rollout is.
type RolloutState string

// The states of a rollout. Retired and Reverted are final.
const (
	RolloutOpen       RolloutState = "open"
	RolloutReverting  RolloutState = "reverting"   // a rollback runs
	RolloutRolledBack RolloutState = "rolled_back" // final: next is gone
	RolloutDone       RolloutState = "done"        // final: next is stable now
)

// RolloutRecord is one release replacing another in one environment, as stored. At most one per app and environment is open.
type RolloutRecord struct {
	ID          string       `json:"id"` // rol_…
	App         string       `json:"app"`
	Environment Environment  `json:"environment"`
	Delivery    int          `json:"delivery"`
	Stable      string       `json:"stable,omitempty"` // rel_…; "" in a first delivery
	Next        string       `json:"next"`             // rel_…
	State       RolloutState `json:"state"`
	Plan        []byte       `json:"plan"`   // the stored plan, JSON of rollout.Plan
	Config      []byte       `json:"config"` // settings of guard and checks, fixed when the rollout began
	Started     time.Time    `json:"started"`
	Shifted     *time.Time   `json:"shifted,omitempty"` // first traffic on next
	Ended       *time.Time   `json:"ended,omitempty"`
	Reason      string       `json:"reason,omitempty"` // of a rollback
	By          string       `json:"by,omitempty"`     // who asked for the rollback: guard, check, a person
}

// Fact is what a person wants, stored before anything acts on it: it is read, never consumed as a message.
type Fact struct {
	App         string      `json:"app"`
	Delivery    int         `json:"delivery,omitempty"`
	Environment Environment `json:"environment,omitempty"`
	Kind        string      `json:"kind"` // cancel, reject, rollback, approve, …
	// Gate is what an approval answers, Digest the artifact that it is about.
	Gate   string    `json:"gate,omitempty"`
	Digest string    `json:"digest,omitempty"`
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}
