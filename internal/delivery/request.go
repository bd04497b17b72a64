package delivery

import (
	"io"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Submission is a commit handed over for delivery.
type Submission struct {
	App    string
	Commit string // full SHA
	Folder string // of belay.yaml within the repository, "" for its root
	By     string
	// Login is the user as whom By logged in, where that is another one.
	Login string
	// From is the address of a running app to take over as stable, "" for none.
	From string
	// Urgent is why this delivery goes before all others, "" for an ordinary one.
	Urgent string
	Bundle io.Reader // git bundle that holds the commit, over what Have listed; nil when the server holds it already
	// Key makes a repeated request answer with the first one's delivery.
	Key string
}

// RollbackRequest asks to go back.
type RollbackRequest struct {
	App         string
	Environment domain.Environment
	To          string // release id or commit; "" is the release before
	By, Reason  string
	Accepted    time.Time // when the server had read the request: rollback times count from here
}

// LogQuery selects log lines.
type LogQuery struct {
	App      string
	Delivery int    // 0: the newest
	Stage    string // "" is all stages
	Role     string // instances of this role instead of stages
	Follow   bool
	Since    time.Time
}

// ExecRequest asks for a one-off command.
type ExecRequest struct {
	App         string
	Environment domain.Environment
	Argv        []string
	By          string
}

// PlanRequest asks what would happen.
type PlanRequest struct {
	App    string
	Commit string
	File   []byte // belay.yaml as it is at the commit
}

// PlanView is the answer: the seven rows, in order, with the production plan's steps beneath its row.
type PlanView struct {
	App      string    `json:"app"`
	Commit   string    `json:"commit"`
	Stable   string    `json:"stable,omitempty"` // commit that is stable in production
	Delivery int       `json:"delivery,omitempty"`
	Rows     []PlanRow `json:"rows"`
	Earliest float64   `json:"earliest"` // seconds until it could be done
	Rollback string    `json:"rollback"` // sentence: where one could go back to
	Parity   string    `json:"parity,omitempty"`
	Loosened []string  `json:"loosened"`
	// Policy is what the server's policy demands beyond the file.
	Policy []string `json:"policy,omitempty"`
	// NotInForce lists what the file says and this server does not do yet.
	NotInForce []string `json:"not_in_force,omitempty"`
	Refused    string   `json:"refused,omitempty"` // why it would be refused now
	// Capacity is the sum of what both releases need beside each other, and what the machine has.
	Capacity string `json:"capacity,omitempty"`
	// LowTraffic says what the app's traffic can show within a step, and what happens where that is not enough.
	LowTraffic string `json:"low_traffic,omitempty"`
	// RollbackSeconds says how long a rollback would take, as it was last measured.
	RollbackSeconds string `json:"rollback_seconds,omitempty"`
}

// PlanRow is one stage of a plan.
type PlanRow struct {
	Stage   domain.Stage `json:"stage"`
	Summary string       `json:"summary"`
	Steps   []PlanStep   `json:"steps,omitempty"`
}

// PlanStep is one numbered step: `2  start   next/0 next/1   checks at 0 %`.
type PlanStep struct {
	Verb   string `json:"verb"`
	What   string `json:"what"`
	Detail string `json:"detail,omitempty"`
}

// EventFilter selects events; zero values select all.
type EventFilter struct {
	App      string
	Delivery int
	Types    []string
}

// Health is what the server knows of itself.
type Health struct {
	Version    string   `json:"version"`
	PID        int      `json:"pid"`
	Data       string   `json:"data"`
	Started    string   `json:"started"`
	ProxyPID   int      `json:"proxy_pid,omitempty"`
	ProxyUp    bool     `json:"proxy_up"`
	Traffic    []string `json:"traffic"` // addresses of the proxy
	FreeBytes  int64    `json:"free_bytes"`
	StoreBytes int64    `json:"store_bytes"`
	Sandbox    string   `json:"sandbox"` // how repository code is kept apart, or why it is not
	// Policy is the file of the server's policy, and what is wrong with it; "" when there is none.
	Policy string `json:"policy,omitempty"`
}
