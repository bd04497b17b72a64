package web

import (
	"context"
	"io"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Service is all that the API asks of the control plane. Errors are *domain.Error, whose code becomes the HTTP status.
// By is always the proven identity of the caller.
type Service interface {
	// Have lists commits of the app that the server holds already, newest first, so that a bundle can leave them out.
	Have(ctx context.Context, app string) ([]string, error)
	// Ship proves the commit, stores a new delivery and starts it.
	Ship(ctx context.Context, s Submission) (domain.Delivery, error)
	// Apps lists the names of all apps, sorted.
	Apps(ctx context.Context) ([]string, error)
	Status(ctx context.Context, app string) (domain.AppStatus, error)
	// Deliveries lists the newest first, at most limit.
	Deliveries(ctx context.Context, app string, limit int) ([]domain.Delivery, error)
	// Delivery returns one; number 0 is the newest.
	Delivery(ctx context.Context, app string, number int) (domain.Delivery, error)
	// Cancel ends a delivery: before production it is rejected, during a rollout it is rolled back.
	Cancel(ctx context.Context, app string, number int, by, reason string) (domain.Delivery, error)
	// Rollback goes back and returns what was observed when the traffic has moved.
	Rollback(ctx context.Context, r RollbackRequest) (domain.RollbackResult, error)
	Explain(ctx context.Context, app string, number int) (domain.Explanation, error)
	// Logs writes what was logged and, with Follow, goes on until ctx ends or the delivery is final.
	Logs(ctx context.Context, q LogQuery, w io.Writer) error
	// Exec runs a one-off command in the stable release and returns its exit code.
	Exec(ctx context.Context, r ExecRequest, stdin io.Reader, stdout, stderr io.Writer) (int, error)
	// Plan says what would happen if the file were shipped now. Nothing is touched.
	Plan(ctx context.Context, r PlanRequest) (PlanView, error)
	// Events calls f for each stored event after seq that matches, in order, and goes on with new ones until ctx ends or f
	// returns an error. It never blocks those who store events.
	Events(ctx context.Context, after int64, filter EventFilter, f func(domain.Event) error) error
	// LastEvent returns the number of the newest stored event.
	LastEvent(ctx context.Context) (int64, error)
	Freeze(ctx context.Context, app, by, reason string, until *time.Time) error
	// Thaw lifts a freeze, and the hold of the app when app is given.
	Thaw(ctx context.Context, app, by, reason string) error
	// Health says what runs: versions, processes, disk.
	Health(ctx context.Context) (Health, error)
}

// Submission is a commit handed over for delivery.
type Submission struct {
	App    string
	Commit string // full SHA
	Folder string // of belay.yaml within the repository, "" for its root
	By     string
	Bundle io.Reader // git bundle that holds the commit, over what Have listed; nil when the server holds it already
	// Key makes a repeated request answer with the first one's delivery.
	Key string
	// From is the address of a running app to take over as stable, "" for none.
	From string
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
	// NotInForce lists what the file says and this server does not do yet.
	NotInForce []string `json:"not_in_force,omitempty"`
	Refused    string   `json:"refused,omitempty"` // why it would be refused now
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
}
