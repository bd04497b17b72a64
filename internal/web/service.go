package web

import (
	"context"
	"io"
	"time"

	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
)

// Service is all that the API asks of the control plane. Errors are *domain.Error, whose code becomes the HTTP status.
// By is always the proven identity of the caller.
type Service interface {
	// Have lists commits of the app that the server holds already, newest first, so that a bundle can leave them out.
	Have(ctx context.Context, app string) ([]string, error)
	// Ship proves the commit, stores a new delivery and starts it.
	Ship(ctx context.Context, s Submission) (domain.Delivery, error)
	// Test builds and tests a commit before its merge, and tells emit each fact in order. When ctx ends, so does all of it.
	Test(ctx context.Context, r TestRequest, emit func(TestEvent)) error
	// Apps lists the names of all apps, sorted.
	Apps(ctx context.Context) ([]string, error)
	Status(ctx context.Context, app string) (domain.AppStatus, error)
	// Deliveries lists the newest first, at most limit.
	Deliveries(ctx context.Context, app string, limit int) ([]domain.Delivery, error)
	// Delivery returns one; number 0 is the newest.
	Delivery(ctx context.Context, app string, number int) (domain.Delivery, error)
	// Cancel ends a delivery: before production it is rejected, during a rollout it is rolled back.
	Cancel(ctx context.Context, app string, number int, by, reason string) (domain.Delivery, error)
	// Approve records by's yes to what a delivery waits for.
	Approve(ctx context.Context, a Answer) (domain.Delivery, error)
	// Reject records by's no: the delivery ends, and goes back where it had traffic.
	Reject(ctx context.Context, app string, number int, by, reason string) (domain.Delivery, error)
	// Rollback goes back and returns what was observed when the traffic has moved.
	Rollback(ctx context.Context, r RollbackRequest) (domain.RollbackResult, error)
	Explain(ctx context.Context, app string, number int) (domain.Explanation, error)
	// Ticks calls see for each stored tick of a delivery's rollout, in order, with the judge's word after it.
	Ticks(ctx context.Context, app string, number int, see func(Replayed) error) error
	// Changes says what the delivery brings beside what serves in production.
	Changes(ctx context.Context, app string, number int) (Changes, error)
	// Evidence returns what is signed about a delivery.
	Evidence(ctx context.Context, app string, number int) (domain.Evidence, error)
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
	// It says what it replaced, and which deliveries it stops now.
	Freeze(ctx context.Context, app, by, reason string, until *time.Time) (domain.Frozen, error)
	// Thaw lifts a freeze, and the hold of the app when app is given.
	// A freeze is lifted by who set it, or by an operator of the server.
	Thaw(ctx context.Context, app, by, reason string, operator bool) error
	// SetSecret stores a value; what runs goes on with the version that it has.
	SetSecret(ctx context.Context, q SecretRequest) (domain.SecretSet, error)
	// RotateSecret sets a value, or takes the newest, and delivers what is stable again with it.
	RotateSecret(ctx context.Context, q SecretRequest) (RotationResult, error)
	// Secrets says everything about an app's secrets but their values.
	Secrets(ctx context.Context, app string) (domain.SecretReport, error)
	// SecretHistory lists the versions of a secret, oldest first; app "" is the server.
	SecretHistory(ctx context.Context, app, name string) ([]domain.SecretVersion, error)
	// Health says what runs: versions, processes, disk.
	Health(ctx context.Context) (Health, error)

	Channels
}

// What the API hands on is in the words of the control plane.
type (
	// Submission is a commit handed over for delivery.
	Submission = delivery.Submission
	// Changes is what a delivery brings.
	Changes = delivery.Changes
	// Replayed is one stored tick of a rollout, with what the judge says after it.
	Replayed = delivery.Replayed
	// Answer is a person's yes.
	Answer = delivery.Answer
	// RollbackRequest asks to go back.
	RollbackRequest = delivery.RollbackRequest
	// LogQuery selects log lines.
	LogQuery = delivery.LogQuery
	// ExecRequest asks for a one-off command.
	ExecRequest = delivery.ExecRequest
	// PlanRequest asks what would happen.
	PlanRequest = delivery.PlanRequest
	// PlanView is the answer.
	PlanView = delivery.PlanView
	// PlanRow is one stage of a plan.
	PlanRow = delivery.PlanRow
	// PlanStep is one numbered step.
	PlanStep = delivery.PlanStep
	// EventFilter selects events.
	EventFilter = delivery.EventFilter
	// SecretRequest asks to set or to rotate a secret.
	SecretRequest = delivery.SecretRequest
	// RotationResult is what a rotation has begun.
	RotationResult = delivery.RotationResult
	// Health is what the server knows of itself.
	Health = delivery.Health
)
