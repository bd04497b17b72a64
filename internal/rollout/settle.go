package rollout

import (
	"context"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/journal"
)

// settle makes next stable: the point of no return. The data plane comes first, so that the record says what was observed;
// from the record on nobody interrupts it, and it is done to its end.
func (e *Engine) settle(ctx context.Context, r *Rollout) error {
	run := journal.Run{Store: e.Journal, ID: r.Record.ID}
	return journal.Exec(ctx, run, "settle", func(ctx context.Context) error {
		if r.Record.State != domain.RolloutDone {
			if err := e.complete(ctx, r); err != nil {
				return err
			}
		}
		alone := Split{App: r.Record.App, Environment: r.Record.Environment, Stable: &r.Next}
		err := e.insist(ctx, r, "give next all traffic", func(ctx context.Context) error { return e.Router.Split(ctx, alone) })
		if err != nil || r.Record.State == domain.RolloutDone {
			return err
		}
		now := time.Now().UTC()
		rec := r.Record
		rec.State, rec.Ended = domain.RolloutDone, &now
		err = e.insist(ctx, r, "record that next is stable", func(ctx context.Context) error { return e.Ledger.Settle(ctx, rec) })
		if err != nil {
			return err
		}
		r.change(func(old *domain.RolloutRecord) { *old = rec })
		return nil
	})
}

// complete refuses to make a release stable that does not run as a whole.
func (e *Engine) complete(ctx context.Context, r *Rollout) error {
	up, err := e.observe(ctx, r, domain.WeightAll)
	if err != nil {
		return err
	}
	for _, role := range RolesOf(&r.Next) {
		for i := range role.Instances {
			if _, runs := up.Next[Slot{role.Name, i}]; !runs && e.started(r, role.Name, i) {
				return domain.Errorf(domain.Failed, "next/%s/%d does not run any more", role.Name, i)
			}
		}
	}
	return nil
}

// started reports whether the plan starts an instance before next is stable.
func (e *Engine) started(r *Rollout, role string, index int) bool {
	for _, s := range r.Plan[:r.Plan.Settled()+1] {
		if s.Verb == Start && s.Role == role && s.Index == index {
			return true
		}
	}
	return false
}
