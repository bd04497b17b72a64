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
	var lowerErr error
	if r.Record.Ended == nil && !result.Left {
		var left int
		if left, lowerErr = e.lower(ctx, r); lowerErr == nil && left == 0 {
			result.Moved = time.Since(began)
			e.Observer.Lowered(ctx, r, result.Moved)
		}
	}
	result.Cause = e.recordCause(ctx, r, cause)
	if r.Record.Ended == nil && !result.Left {
		r.change(func(rec *domain.RolloutRecord) {
			rec.State, rec.Reason, rec.By = domain.RolloutReverting, result.Cause.Error(), askedBy(result.Cause)
		})
		result.recorded = e.Ledger.SaveRollout(context.WithoutCancel(ctx), r.Record) == nil // tried again before the end
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
				errors.Join(err, lowerErr)))
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

// causeRecord is the name under which the journal keeps why a rollout goes back.
const causeRecord = "rollback"

// recordCause stores why, once: it keeps its code and who asked through a restart. A shutdown does not keep it from the disk.
func (e *Engine) recordCause(ctx context.Context, r *Rollout, cause error) error {
	run, fresh := journal.Run{Store: e.Journal, ID: r.Record.ID}, false
	err := journal.Exec(context.WithoutCancel(ctx), run, causeRecord, func(context.Context) error { fresh = true; return cause })
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

// lower takes from next at once what the healthy instances of stable can carry, and latches the rollout. It returns what
// next keeps until stable is whole again.
func (e *Engine) lower(ctx context.Context, r *Rollout) (left int, err error) {
	if r.Stable == nil {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	t, unknown := e.Router.State(ctx, r.Record.App, r.Record.Environment)
	o, err := e.observe(ctx, r, r.carried(t))
	if err != nil {
		return 0, err
	}
	if unknown != nil && cannotCarry(RolesOf(r.Stable), o.Stable) > 0 {
		return 0, unknown // what next keeps is never guessed
	}
	left = Rollback(r.Fleet(), o)[0].Weight
	return left, e.Router.Split(ctx, r.split(left, true))
}

// carried is what next gets of a traffic. One that names next as stable was about to make it so.
func (r *Rollout) carried(t Traffic) int {
	switch {
	case t.Rollout == r.Record.ID:
		return t.Weight
	case t.Rollout == "" && t.Stable == r.Next.ID:
		return domain.WeightAll
	default:
		return 0
	}
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
	o, err := e.observe(ctx, r, r.carried(traffic))
	if err != nil {
		return err
	}
	if err := e.goBack(ctx, r, Rollback(r.Fleet(), o), func() {
		if result.Moved == 0 {
			result.Moved = time.Since(began)
			e.Observer.Lowered(ctx, r, result.Moved)
		}
	}); err != nil {
		return err
	}
	return e.close(ctx, r, result)
}

// goBack runs a rollback's plan. Traffic never waits on next: what retires does so beside the rest. What must not run twice
// does wait: consumers of stable start when those of next are gone. Once next has no traffic, an instance of stable that does
// not start is somebody's, who is paged: it keeps no rollback open, and no fix from coming.
func (e *Engine) goBack(ctx context.Context, r *Rollout, plan Plan, moved func()) error {
	var leaving, rest errgroup.Group
	err := func() error {
		weight := domain.WeightAll
		for n, s := range plan {
			inst := r.instance(s)
			consumer := s.Verb != Shift && inst.Workload.Kind != domain.Web
			switch {
			case s.Verb == Retire && consumer:
				leaving.Go(func() error { return contain(func() error { return e.retire(ctx, r, s) }) })
			case s.Verb == Retire:
				rest.Go(func() error { return contain(func() error { return e.retire(ctx, r, s) }) })
			case s.Verb == Start && (consumer || weight == 0):
				rest.Go(func() error {
					if err := leaving.Wait(); consumer && err != nil {
						return err
					}
					return e.restart(ctx, r, s)
				})
			case s.Verb == Start:
				if _, err := e.Driver.Start(ctx, inst); err != nil {
					return fmt.Errorf("%s: %w", s, err)
				}
			case r.Stable != nil:
				if err := e.lowerTo(ctx, r, s.Weight, n == 0); err != nil {
					return fmt.Errorf("%s: %w", s, err)
				}
				if weight = s.Weight; weight == 0 {
					moved()
				}
			}
		}
		return nil
	}()
	return errors.Join(err, leaving.Wait(), rest.Wait())
}

// restart starts an instance that stable misses and that nothing of the rollback waits for; when it does not become healthy
// somebody is told. Its error is that of ctx.
func (e *Engine) restart(ctx context.Context, r *Rollout, s Step) error {
	limited, cancel := context.WithTimeout(ctx, e.Limits.Rollback*3/4)
	defer cancel()
	err := again(limited, func() error { _, err := e.Driver.Start(limited, r.instance(s)); return err })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		e.Observer.Page(ctx, r, fmt.Sprintf("%s does not become healthy: %s", s.What(), err))
	}
	return nil
}

// lowerTo lowers next to a weight, unless stable has lost instances since the plan was made: then it keeps what they cannot
// carry, and the plan is made anew.
func (e *Engine) lowerTo(ctx context.Context, r *Rollout, weight int, first bool) error {
	if !first {
		o, err := e.observe(ctx, r, 0)
		if err != nil {
			return err
		}
		if cannot := cannotCarry(RolesOf(r.Stable), o.Stable); cannot > weight {
			return domain.Errorf(domain.Failed, "stable has healthy instances for %s only", Percent(domain.WeightAll-cannot))
		}
	}
	return once(ctx, func(ctx context.Context) error { return e.Router.Split(ctx, r.split(weight, true)) })
}

// close takes next out of the data plane and stores the end. The slot keeps its stable release. The latch leaves the data
// plane only when the decision is on the disk.
func (e *Engine) close(ctx context.Context, r *Rollout, result *RolledBack) error {
	if !result.recorded {
		if err := e.Ledger.SaveRollout(ctx, r.Record); err != nil {
			return err
		}
		result.recorded = true
	}
	if r.Stable != nil {
		alone := Split{App: r.Record.App, Environment: r.Record.Environment, Stable: r.Stable}
		if err := once(ctx, func(ctx context.Context) error { return e.Router.Split(ctx, alone) }); err != nil {
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
	alone := Split{App: r.Record.App, Environment: r.Record.Environment, Stable: &r.Next}
	return once(ctx, func(ctx context.Context) error { return e.Router.Split(ctx, alone) })
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
