// Package journal lets straight-line code survive a crash: the outcome of each step is stored, and a run that starts
// again skips the steps whose outcome is known.
//
// The contract: a step runs at least once, so it must be absolute (weight is 5 %), never relative (5 % more). Code between
// steps must be pure.
package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// ErrSuspended is the cause with which a process that shuts down cancels its runs. A suspended run has neither
// succeeded nor failed: it goes on at the next start.
var ErrSuspended = errors.New("suspended")

// Store keeps records. Save is durable when it returns; Lookup sees every earlier Save of the run and name.
type Store interface {
	Lookup(ctx context.Context, run, name string) (record []byte, found bool, err error)
	Save(ctx context.Context, run, name string, record []byte) error
}

// Run is one durable run: its records share an id.
type Run struct {
	Store Store
	ID    string
}

// Failure is the error of a step that was recorded as failed. It survives a restart with its code, message and hint.
type Failure struct {
	Step    string      `json:"step"`
	Code    domain.Code `json:"code"`
	Message string      `json:"message"`
	Hint    string      `json:"hint,omitempty"`
	By      string      `json:"by,omitempty"` // who decided it: the trigger of the guard, a person
}

func (f *Failure) Error() string { return f.Message }

// AskedBy names who decided it.
func (f *Failure) AskedBy() string { return f.By }

// failure keeps of err what has to survive a restart.
func failure(step string, err error) *Failure {
	f := &Failure{Step: step, Code: domain.CodeOf(err), Message: err.Error(), Hint: domain.HintOf(err)}
	var by interface{ AskedBy() string }
	if errors.As(err, &by) {
		f.By = by.AskedBy()
	}
	return f
}

// Unwrap lets domain.CodeOf and domain.HintOf see what was recorded.
func (f *Failure) Unwrap() error {
	return &domain.Error{Code: f.Code, Message: f.Message, Hint: f.Hint}
}

type record struct {
	Value   json.RawMessage `json:"value,omitempty"`
	Failure *Failure        `json:"failure,omitempty"`
}

// Do runs f once and remembers what it returned, also that it failed. What is interrupted (ctx ended while f ran) has no
// outcome and runs again next time; the error is then the cause of ctx, whatever f made of it.
func Do[T any](ctx context.Context, r Run, name string, f func(context.Context) (T, error)) (T, error) {
	var value T
	raw, found, err := r.Store.Lookup(ctx, r.ID, name)
	if err == nil && found {
		return restore[T](raw)
	}
	if ctx.Err() != nil { // a store whose caller is gone fails: that is no outcome either
		return value, context.Cause(ctx)
	}
	if err != nil {
		return value, fmt.Errorf("journal: %s: %w", name, err)
	}
	value, err = f(ctx)
	if err != nil && ctx.Err() != nil {
		return value, context.Cause(ctx)
	}
	var rec record
	if err != nil {
		rec.Failure = failure(name, err)
	} else if rec.Value, err = json.Marshal(value); err != nil {
		return value, fmt.Errorf("journal: %s: %w", name, err)
	}
	if raw, err = json.Marshal(rec); err != nil {
		return value, fmt.Errorf("journal: %s: %w", name, err)
	}
	if err := r.Store.Save(context.WithoutCancel(ctx), r.ID, name, raw); err != nil {
		err = fmt.Errorf("journal: %s: %w", name, err)
		if rec.Failure != nil { // why the step failed counts more than that it could not be written down
			err = errors.Join(rec.Failure, err)
		}
		return value, err
	}
	if rec.Failure != nil {
		return value, rec.Failure
	}
	return value, nil
}

func restore[T any](raw []byte) (T, error) {
	var value T
	var rec record
	if err := json.Unmarshal(raw, &rec); err != nil {
		return value, fmt.Errorf("journal: unreadable record: %w", err)
	}
	if rec.Failure != nil {
		return value, rec.Failure
	}
	return value, json.Unmarshal(rec.Value, &value)
}

// Exec is Do for a function that returns only an error.
func Exec(ctx context.Context, r Run, name string, f func(context.Context) error) error {
	_, err := Do(ctx, r, name, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })
	return err
}

// Instant returns the time at which it was first asked for, also after a restart.
func Instant(ctx context.Context, r Run, name string) (time.Time, error) {
	return Do(ctx, r, name, func(context.Context) (time.Time, error) { return time.Now().UTC(), nil })
}
