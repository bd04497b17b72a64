package rollout

import (
	"context"
	"sync"

	"github.com/belay-cd/belay/internal/domain"
)

// Rollout is one release replacing another in one environment. The engine that runs it is the only one that writes Record;
// everybody else asks View.
type Rollout struct {
	Record domain.RolloutRecord
	Plan   Plan
	Stable *domain.Release // nil in a first delivery
	Next   domain.Release

	mu        sync.Mutex
	interrupt error
	stop      context.CancelCauseFunc
	over      chan struct{}
}

// Fleet returns what strategies plan for.
func (r *Rollout) Fleet() Fleet {
	return Fleet{Environment: r.Record.Environment, Stable: RolesOf(r.Stable), Next: RolesOf(&r.Next)}
}

// Warm reports whether stable stays whole until next is stable: then a rollback moves the traffic at once.
func (r *Rollout) Warm() bool {
	for _, s := range r.Plan[:max(0, r.Plan.Settled())] {
		if s.Verb == Retire && s.Side == domain.Stable && r.instance(s).Workload.Kind == domain.Web {
			return false
		}
	}
	return r.Stable != nil
}

// View returns a copy of the rollout as it is now, for whoever is not its engine.
func (r *Rollout) View() *Rollout {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Rollout{Record: r.Record, Plan: r.Plan, Stable: r.Stable, Next: r.Next}
}

// change changes the record, and tells those who wait for its end.
func (r *Rollout) change(f func(*domain.RolloutRecord)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.Record)
	if r.over != nil && r.Record.Ended != nil {
		r.closeOver()
	}
}

// Over returns a channel that is closed once the rollout has an end: next is stable, or gone.
func (r *Rollout) Over() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over == nil {
		r.over = make(chan struct{})
	}
	if r.Record.Ended != nil {
		r.closeOver()
	}
	return r.over
}

func (r *Rollout) closeOver() {
	select {
	case <-r.over:
	default:
		close(r.over)
	}
}

// Open reports whether the rollout has no end yet.
func (r *Rollout) Open() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Record.Ended == nil
}

// Interrupt makes the rollout go back, for cause, whatever it is doing. It does not wait. Once next is stable it does
// nothing: whoever asks learns that from Over.
func (r *Rollout) Interrupt(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.interrupt == nil {
		r.interrupt = cause
	}
	if r.stop != nil {
		r.stop(r.interrupt)
	}
}

// Interrupted returns why somebody wanted the rollout back; nil when nobody did.
func (r *Rollout) Interrupted() error { return r.wanted(nil) }

// GoesBack reports whether somebody wanted the rollout back.
func (r *Rollout) GoesBack() bool { return r.Interrupted() != nil }

// wanted returns why somebody interrupted the rollout, or otherwise.
func (r *Rollout) wanted(otherwise error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.interrupt != nil {
		return r.interrupt
	}
	return otherwise
}

// work returns a context that ends with ctx and with Interrupt.
func (r *Rollout) work(ctx context.Context) (context.Context, func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	work, stop := context.WithCancelCause(ctx)
	r.stop = stop
	if r.interrupt != nil {
		stop(r.interrupt)
	}
	return work, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stop = nil
		stop(nil)
	}
}
