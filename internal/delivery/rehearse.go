package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/journal"
	"github.com/belay-cd/belay/internal/rollout"
)

// Staging is rolled back and forward again once in each delivery, under synthetic load: by the same function that takes
// production back, so that it is known to work before it is needed, and how long it takes.

// rehearsal is the cause of a rollback that nobody wants but to see that it works.
type rehearsal struct{}

func (rehearsal) Error() string { return "the rehearsal of the rollback" }

// AskedBy tells a rehearsal from a rollback, also after a restart.
func (rehearsal) AskedBy() string { return rehearser }

const rehearser = "rehearsal"

// rehearsed takes staging back and forward again, and verifies it, with synthetic visitors all the while. The first delivery
// has nothing to go back to.
func (r *run) rehearsed(ctx context.Context) error {
	roll, err := r.rollout(ctx, domain.Staging)
	if err != nil {
		return err
	}
	stop := r.s.ports.Synthetic.Load(r.life, CheckJob{File: r.file, Rollout: roll, Traffic: true}, config.RehearsalLoad)
	began := time.Now()
	err = r.backAndForth(ctx, roll)
	load := stop()
	if err != nil {
		return err
	}
	if roll.Stable == nil {
		r.update(ctx, func(d *domain.Delivery) {
			d.Rehearsal = &domain.Rehearsal{At: *now(), None: "none yet: the first delivery has nothing to go back to"}
		})
		return nil
	}
	_, unserved := r.s.ports.Measurements.Served(r.d.App, domain.Staging, began)
	r.update(ctx, func(d *domain.Delivery) {
		if d.Rehearsal != nil {
			d.Rehearsal.Requests, d.Rehearsal.Failed = load.Requests, unserved
			d.Rehearsal.Start = startSeconds(*d, domain.VerifyStaging)
		}
	})
	if unserved > 0 {
		return domain.Errorf(domain.Failed, "%s of %s synthetic requests failed while staging was rolled back and forward: %s", domain.Thousands(unserved),
			domain.Thousands(load.Requests), load.Message).WithHint("production's rollback would lose requests, too: does the app end its open requests before it stops?")
	}
	return nil
}

// backAndForth runs what is left of the first rollout; with a stable release beside it that is a way back and a second one.
func (r *run) backAndForth(ctx context.Context, first *rollout.Rollout) error {
	if first.Stable == nil {
		return r.advance(ctx, domain.Staging, domain.VerifyStaging)
	}
	done, err := journal.Do(r.life, r.journal(), "rehearsal", func(ctx context.Context) (domain.Rehearsal, error) {
		return r.takeStagingBack(ctx, first)
	})
	if err != nil {
		return err
	}
	r.update(ctx, func(d *domain.Delivery) {
		if d.Rehearsal == nil {
			d.Rehearsal = &done
		}
	})
	if err := r.meant(ctx, first); err != nil {
		return err
	}
	if _, err := r.openOnce("staging again", domain.Staging, first.Next.ID, again); err != nil {
		return err
	}
	return r.advance(ctx, domain.Staging, domain.VerifyStaging)
}

// meant returns the wish of a person who wanted staging back, or the delivery ended, while it was rehearsed: then it was none.
func (r *run) meant(ctx context.Context, roll *rollout.Rollout) error {
	if cause := roll.Interrupted(); cause != nil {
		return r.explainRollback(roll, &rollout.RolledBack{Cause: cause})
	}
	facts, err := r.s.ports.Store.Facts(ctx, r.d.App, r.d.Number)
	if err != nil {
		return err
	}
	for _, f := range facts {
		if f.Environment == domain.Staging && f.Kind == "rollback" && f.At.After(roll.Record.Started) {
			return r.explainRollback(roll, &rollout.RolledBack{Cause: wish(f)})
		}
	}
	return nil
}

// again is the quick way forward of a release that went the whole way once: without steps, and all of it in Verify staging.
func again(f rollout.Fleet, s rollout.Settings) rollout.Plan {
	s.Steps, s.Soak, s.Holdback = nil, 0, 0
	plan := rollout.New(f, s)
	for i := range plan {
		plan[i].Stage = domain.VerifyStaging
	}
	return plan
}

// takeStagingBack is a whole rollback within its deadline.
func (r *run) takeStagingBack(ctx context.Context, roll *rollout.Rollout) (domain.Rehearsal, error) {
	within := config.RollbackDeadline + config.StepSlack
	ctx, cancel := context.WithTimeoutCause(ctx, within, domain.Errorf(domain.Failed, "the rehearsal of the rollback was not over within %s", domain.Span(within)))
	defer cancel()
	traffic, err := r.s.ports.Traffic.State(ctx, r.d.App, domain.Staging)
	if err != nil {
		return domain.Rehearsal{}, err
	}
	var moved time.Duration
	known, err := r.recall(ctx, "moved "+string(domain.Staging), &moved)
	if err != nil {
		return domain.Rehearsal{}, err
	}
	cutOff := !known && (roll.View().Record.State != domain.RolloutOpen || traffic.Latched)
	began := time.Now()
	err = r.s.engine.Revert(ctx, roll, rehearsal{})
	var back *rollout.RolledBack
	if !errors.As(err, &back) {
		return domain.Rehearsal{}, err
	}
	var by interface{ AskedBy() string }
	if !errors.As(back.Cause, &by) || by.AskedBy() != rehearser {
		return domain.Rehearsal{}, r.explainRollback(roll, back) // somebody was quicker
	}
	switch {
	case cutOff:
		return domain.Rehearsal{At: began.UTC(), None: "it was, but how long it took was lost in a restart of the server"}, nil
	case !known:
		moved = back.Moved
	}
	return domain.Rehearsal{At: began.UTC(), Moved: moved.Seconds(), Whole: time.Since(began).Seconds()}, nil
}

// startSeconds is how long the instances of a stage's plan took to start, one after the other.
func startSeconds(d domain.Delivery, stage domain.Stage) (seconds float64) {
	for _, row := range d.Stages {
		for _, s := range row.Steps {
			if row.Name == stage && s.Verb == string(rollout.Start) && s.Started != nil && s.Ended != nil {
				seconds += s.Ended.Sub(*s.Started).Seconds()
			}
		}
	}
	return seconds
}

// rehearsalText tells a rehearsal in a few words; "" when there was none yet.
func rehearsalText(h *domain.Rehearsal) string {
	switch {
	case h == nil:
		return ""
	case h.None != "":
		return "rollback not rehearsed: " + h.None
	default:
		return fmt.Sprintf("rollback rehearsed: %s · %s of %s requests failed", moment(h.Moved), domain.Thousands(h.Failed), domain.Thousands(h.Requests))
	}
}

// moment prints seconds as people read them: 38 ms, 8.2 s.
func moment(seconds float64) string {
	if seconds < 1 {
		return fmt.Sprintf("%.0f ms", seconds*1000)
	}
	return fmt.Sprintf("%.1f s", seconds)
}
