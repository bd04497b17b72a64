package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/journal"
)

// retryEvery is the pause between two tries of a rollback that meets an obstacle.
const retryEvery = time.Second

// Revert goes back to stable: one function, whoever asks. Next loses its traffic first, then the decision is recorded, then
// the rest follows from what is observed, again and again until it is so. It never waits on next, and only ctx (the life of
// the process) ends it early. It returns *RolledBack, or the cause of ctx. The cause that was recorded first stays the cause,
// also after a restart.
func (e *Engine) Revert(ctx context.Context, r *Rollout, cause error) error {
	began := time.Now()
	result := &RolledBack{Shifted: r.Record.Shifted != nil, Left: r.Stable == nil && r.Record.Shifted != nil}
	var lowerErr, recordErr error
	if r.Record.Ended == nil && !result.Left {
		if result.Moved, lowerErr = e.lower(ctx, r); lowerErr == nil {
			e.Observer.Lowered(ctx, r, result.Moved)
		}
	}
	result.Cause = e.recordCause(ctx, r, cause)
	if r.Record.Ended == nil && !result.Left {
		r.change(func(rec *domain.RolloutRecord) {
			rec.State, rec.Reason, rec.By = domain.RolloutReverting, result.Cause.Error(), askedBy(result.Cause)
		})
		recordErr = e.Ledger.SaveRollout(context.WithoutCancel(ctx), r.Record) // tried again by the final record below
	}
	nextPage := began.Add(e.Limits.Rollback)
	for {
		err := e.revertOnce(ctx, r, result, began)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if now := time.Now(); now.After(nextPage) {
			e.Observer.Page(ctx, r, fmt.Sprintf("the rollback is not done after %s: %s", now.Sub(began).Round(time.Second),
				errors.Join(err, lowerErr, recordErr)))
			nextPage = now.Add(e.Limits.PageEvery)
		}
		select {
		case <-time.After(retryEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	e.Observer.RolledBack(ctx, r, result)
	return result
}

// recordCause stores why, once: it keeps its code and who asked through a restart. A shutdown does not keep it from the disk.
func (e *Engine) recordCause(ctx context.Context, r *Rollout, cause error) error {
	run, fresh := journal.Run{Store: e.Journal, ID: r.Record.ID}, false
	err := journal.Exec(context.WithoutCancel(ctx), run, "rollback", func(context.Context) error { fresh = true; return cause })
	var known *journal.Failure
	if !fresh && errors.As(err, &known) {
		return known
	}
	return cause
}

// askedBy names who wanted the rollback.
func askedBy(cause error) string {
	var by interface{ AskedBy() string }
	if errors.As(cause, &by) {
		return by.AskedBy()
	}
	return ""
}

// lower takes from next at once what the healthy instances of stable can carry, and latches the rollout.
func (e *Engine) lower(ctx context.Context, r *Rollout) (time.Duration, error) {
	began := time.Now()
	if r.Stable == nil {
		return 0, nil
	}
	weight := domain.WeightAll
	if t, err := e.Router.State(ctx, r.Record.App, r.Record.Environment); err == nil {
		weight = t.Weight
		if t.Rollout != r.Record.ID {
			weight = 0
		}
	}
	o, err := e.observe(ctx, r, weight)
	if err != nil {
		return 0, err
	}
	first := Rollback(r.Fleet(), o)[0]
	if err := e.Router.Split(ctx, r.split(first.Weight, true)); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// revertOnce does whatever still has to be done. Each try computes the plan afresh.
func (e *Engine) revertOnce(ctx context.Context, r *Rollout, result *RolledBack, began time.Time) error {
	switch {
	case result.Left:
		return e.leave(ctx, r, result)
	case r.Record.Ended != nil:
		return nil // an earlier life of the process did it all
	}
	ctx, cancel := context.WithTimeoutCause(ctx, e.Limits.Rollback,
		domain.Errorf(domain.Failed, "the rollback took longer than %s", e.Limits.Rollback))
	defer cancel()
	traffic := Traffic{Weight: 0}
	if r.Stable != nil {
		var err error
		if traffic, err = e.Router.State(ctx, r.Record.App, r.Record.Environment); err != nil {
			return err
		}
	}
	o, err := e.observe(ctx, r, traffic.Weight)
	if err != nil {
		return err
	}
	var retiring errgroup.Group // traffic never waits on next; what must not run twice does
	for _, s := range Rollback(r.Fleet(), o) {
		switch inst := r.instance(s); {
		case s.Verb == Retire:
			retiring.Go(func() error { return contain(func() error { return e.retire(ctx, r, s) }) })
		case s.Verb == Start:
			if inst.Workload.Kind != domain.Web {
				err = retiring.Wait()
			}
			if err == nil {
				_, err = e.Driver.Start(ctx, inst)
			}
		case r.Stable != nil:
			err = e.Router.Split(ctx, r.split(s.Weight, true))
			if err == nil && s.Weight == 0 && result.Moved == 0 {
				result.Moved = time.Since(began)
				e.Observer.Lowered(ctx, r, result.Moved)
			}
		}
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", s, err), retiring.Wait())
		}
	}
	if err := retiring.Wait(); err != nil {
		return err
	}
	return e.close(ctx, r)
}

// close takes next out of the data plane and stores the end. The slot keeps its stable release.
func (e *Engine) close(ctx context.Context, r *Rollout) error {
	if r.Stable != nil {
		alone := Split{App: r.Record.App, Environment: r.Record.Environment, Stable: r.Stable}
		if err := e.Router.Split(ctx, alone); err != nil {
			return err
		}
	}
	now := time.Now().UTC()
	rec := r.Record
	rec.State, rec.Ended = domain.RolloutRolledBack, &now
	if err := e.Ledger.Settle(ctx, rec); err != nil {
		return err
	}
	r.change(func(old *domain.RolloutRecord) { *old = rec })
	return nil
}

// leave ends the rollout of a first delivery that already had traffic: there is nothing to go back to, so what serves
// goes on serving, and the failure is loud.
func (e *Engine) leave(ctx context.Context, r *Rollout, result *RolledBack) error {
	if r.Record.Ended == nil {
		now := time.Now().UTC()
		rec := r.Record
		rec.State, rec.Reason, rec.By, rec.Ended = domain.RolloutDone, result.Cause.Error(), askedBy(result.Cause), &now
		if err := e.Ledger.Settle(ctx, rec); err != nil {
			return err
		}
		r.change(func(old *domain.RolloutRecord) { *old = rec })
	}
	return e.Router.Split(ctx, Split{App: r.Record.App, Environment: r.Record.Environment, Stable: &r.Next})
}

// observe lists what is up, by side.
func (e *Engine) observe(ctx context.Context, r *Rollout, weight int) (Observed, error) {
	o := Observed{Weight: weight, Stable: map[Slot]bool{}, Next: map[Slot]bool{}}
	list, err := e.Driver.List(ctx, r.Record.App, r.Record.Environment)
	if err != nil {
		return o, err
	}
	for _, i := range list {
		slot := Slot{i.Role, i.Index}
		switch {
		case i.Release == r.Next.ID && i.State != domain.Stopped:
			o.Next[slot] = i.State == domain.Healthy
		case r.Stable != nil && i.Release == r.Stable.ID && i.State == domain.Healthy:
			o.Stable[slot] = true
		}
	}
	return o, nil
}
