package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/rollout"
)

// A newer delivery need not wait for the end of a quiet Monitor: the one that runs ends early, its release is stable from
// then on, and the last release that was done stays as a second way back.

// errGivesWay ends the watch of a Monitor in which a newer delivery takes over.
var errGivesWay = errors.New("a newer delivery takes over")

// takenOver is what is stored before a Monitor ends early.
type takenOver struct {
	By      int           `json:"by"` // number of the newer delivery
	After   time.Duration `json:"after"`
	Monitor time.Duration `json:"monitor"`
}

// takenOverKey is where it is stored.
const takenOverKey = "taken over"

// cause is how the delivery that gave way ends.
func (t takenOver) cause(commit string) error {
	return domain.Errorf(domain.Superseded, "by #%d after %s of %s: %s is stable, and was not watched to the end", t.By,
		minutes(t.After), minutes(t.Monitor), commit)
}

func minutes(d time.Duration) string {
	if d < time.Minute {
		return domain.Span(d.Round(time.Second))
	}
	return domain.Span(d.Round(time.Minute))
}

// giveWay ends the watch of a Monitor when a newer delivery waits for production, the least time under watch has passed and
// was seen, nothing is held and nothing suspected. Everywhere else the watch goes on to its end.
func (s *Service) giveWay(ctx context.Context, r *run, roll *rollout.Rollout, w rollout.Watch, samples guard.Samples, quiet func() bool) (context.Context, func()) {
	rec := roll.Record
	if rec.Environment != domain.Production || rec.Delivery == 0 || w.Hold == 0 || w.Proof || !r.inMonitor() {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	least := min(max(r.settings.Rollout.Soak, time.Second), w.Hold)
	var work sync.WaitGroup
	work.Go(func() {
		second := time.NewTicker(time.Second)
		defer second.Stop()
		for {
			select {
			case <-second.C:
			case <-ctx.Done():
				return
			}
			after := time.Since(w.From)
			newer, urgent := s.environments[domain.Production].next(r)
			if newer == 0 || urgent && roll.Stable != nil || // that one rolls back
				after < least || after >= w.Hold || !quiet() {
				continue
			}
			seen, err := samples.Observed(ctx, w.From)
			if err != nil || float64(seen) < config.BakeObserved*after.Seconds() {
				continue
			}
			if err := r.remember(ctx, takenOverKey, takenOver{By: newer, After: after, Monitor: w.Hold}); err != nil {
				s.options.Log.Error("store that a newer delivery takes over", "delivery", r.d.Number, "error", err)
				continue
			}
			cancel(errGivesWay)
			return
		}
	})
	return ctx, func() { cancel(nil); work.Wait() }
}

// inMonitor reports whether the run is in its last stage.
func (r *run) inMonitor() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.d.Stages[len(Stages)-1].Started != nil
}

// gaveWay returns how the delivery ends when a newer one took over in its Monitor; nil when none did, or when the Monitor
// went on to its end all the same.
func (r *run) gaveWay() error {
	var t takenOver
	if found, err := r.recall(r.s.life, takenOverKey, &t); err != nil || !found {
		return err
	}
	for _, row := range r.snapshot().Stages {
		for _, s := range row.Steps {
			if row.Name == domain.Monitor && s.Verdict == gaveWay {
				return t.cause(r.d.short())
			}
		}
	}
	return nil
}

// gaveWay is the verdict of a bake that a newer delivery ended.
const gaveWay = "gave_way"

// preempt makes way for an urgent delivery that waits for production: its instances are healthy at 0 % before the rollout
// that runs is rolled back, and whoever only waits at a gate gives way. Where the machine has no room for a third release they
// start after it. It is called once a second, and does each thing once.
func (r *run) preempt(ctx context.Context) error {
	holder := r.s.environments[domain.Production].holder(r)
	if holder == nil || holder.d.Urgent != "" {
		return nil
	}
	if shut, err := r.sweep(ctx); err != nil || shut != nil {
		return err // nothing would go up: nothing is taken back for it
	}
	roll := holder.rolloutIn(domain.Production)
	if roll == nil {
		holder.stop(domain.Errorf(domain.Superseded, "by urgent #%d: %s", r.d.Number, r.d.Urgent))
		return nil
	}
	if !roll.Open() || roll.Stable == nil || roll.GoesBack() {
		return nil
	}
	if same, err := r.sameAsHeld(ctx, domain.Hold{Bad: roll.Next}); err != nil {
		return err
	} else if same {
		return domain.Errorf(domain.Refused, "this is the release that #%d brings already", holder.d.Number)
	}
	if err := r.warmUp(ctx); err != nil {
		return err
	}
	f := domain.Fact{App: r.d.App, Delivery: holder.d.Number, Environment: domain.Production, Kind: "rollback", By: r.d.ShippedBy,
		Reason: fmt.Sprintf("urgent #%d: %s", r.d.Number, r.d.Urgent), At: *now()}
	if err := r.s.ports.Store.PutFact(ctx, f); err != nil {
		return err
	}
	roll.Interrupt(wish(f))
	return nil
}

// warmUp starts the web instances of an urgent release before its rollout is open.
func (r *run) warmUp(ctx context.Context) error {
	id, err := r.nextRelease(ctx, domain.Production)
	if err != nil {
		return err
	}
	next, err := r.s.ports.Store.Release(ctx, id)
	if err != nil {
		return err
	}
	if crowded := r.crowded(ctx, next); crowded {
		return nil // they start when the rollout that runs has made room
	}
	for _, role := range rollout.RolesOf(&next) {
		for i := 0; role.Kind == domain.Web && i < role.Instances; i++ {
			if _, err := r.s.ports.Runner.Start(ctx, rollout.InstanceOf(&next, role.Name, i)); err != nil {
				return errors.Join(err, r.coolDown(next))
			}
		}
	}
	return nil
}

// crowded tells when the machine has no room for a third release.
func (r *run) crowded(ctx context.Context, next domain.Release) bool {
	_, err := r.s.ports.Runner.Capacity(ctx, next, 0)
	if err != nil {
		r.event(ctx, domain.Event{Type: "rollout.crowded", Environment: domain.Production, Data: map[string]any{"sentence": err.Error()}})
	}
	return err != nil
}

// leaveNothing stops what an urgent delivery started before it had a rollout, when it never got one.
func (r *run) leaveNothing() error {
	if r.d.Urgent == "" || r.rolloutIn(domain.Production) != nil {
		return nil
	}
	list, err := r.s.ports.Store.Releases(r.s.life, r.d.App, domain.Production, releaseDepth)
	for _, rel := range list {
		if rel.Delivery == r.d.Number {
			err = errors.Join(err, r.coolDown(rel))
		}
	}
	return err
}

// coolDown stops what warmUp started of a release that gets no rollout.
func (r *run) coolDown(next domain.Release) error {
	var errs []error
	for _, role := range rollout.RolesOf(&next) {
		for i := 0; role.Kind == domain.Web && i < role.Instances; i++ {
			id := rollout.InstanceOf(&next, role.Name, i).InstanceID
			errs = append(errs, r.s.ports.Traffic.Drain(r.s.life, id, config.RollbackWebSocketDrain), r.s.ports.Runner.Stop(r.s.life, id))
		}
	}
	return errors.Join(errs...)
}
