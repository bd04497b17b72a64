package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
)

// rollbackAnswer is how long a caller waits to hear that the traffic has moved; the rollback itself goes on.
const rollbackAnswer = 90 * time.Second

// Rollback goes back. While a rollout is open stable is warm, and the traffic moves at once; the wish is stored after the
// flip, because a full disk must not delay it. When the delivery is done, the release before it is started first.
func (s *Service) Rollback(ctx context.Context, q RollbackRequest) (domain.RollbackResult, error) {
	if q.Environment == "" {
		q.Environment = domain.Production
	}
	if !q.Environment.Valid() {
		return domain.RollbackResult{}, domain.Errorf(domain.Invalid, "unknown environment %q: there are two, staging and production", q.Environment)
	}
	if q.Accepted.IsZero() {
		q.Accepted = time.Now()
	}
	s.awaitLoaded(ctx, q.App)
	if r, roll := s.openRollout(q.App, q.Environment); roll != nil && (q.To == "" || isRelease(roll.Stable, q.To)) {
		res, err := s.warm(ctx, q, r, roll)
		if !errors.Is(err, errSettled) {
			return res, err
		}
	}
	if _, roll := s.openRollout(q.App, q.Environment); roll != nil && roll.Stable != nil && q.To != "" {
		return domain.RollbackResult{}, domain.Errorf(domain.Conflict, "not rolled back to %s: #%d is in %s, and goes back to %s", q.To,
			roll.Record.Delivery, q.Environment, roll.Stable.Short()).WithHint("belay rollback first, then again with --to %s", q.To)
	}
	return s.cold(ctx, q)
}

// loadWithin is how long a rollback waits for what an earlier life of the process left: a moment after a restart.
const loadWithin = 5 * time.Second

// awaitLoaded waits until the open rollouts of an app are known again after a restart.
func (s *Service) awaitLoaded(ctx context.Context, app string) {
	s.mu.Lock()
	var list []*run
	for _, r := range s.runs {
		if r.d.App == app {
			list = append(list, r)
		}
	}
	s.mu.Unlock()
	timeout := time.NewTimer(loadWithin)
	defer timeout.Stop()
	for _, r := range list {
		select {
		case <-r.loaded:
		case <-r.over:
		case <-ctx.Done():
			return
		case <-timeout.C:
			return
		}
	}
}

// isRelease reports whether a release is the one that was named, by its id or by its commit.
func isRelease(rel *domain.Release, name string) bool {
	return rel != nil && (rel.ID == name || len(name) >= 7 && strings.HasPrefix(rel.Commit, name))
}

// openRollout finds the rollout that is open in an environment, and its run.
func (s *Service) openRollout(app string, env domain.Environment) (*run, *rollout.Rollout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		if r.d.App != app {
			continue
		}
		if roll := r.rolloutIn(env); roll != nil && roll.Open() {
			return r, roll
		}
	}
	return nil, nil
}

// errSettled says that next became stable before the wish to roll back reached its rollout.
var errSettled = errors.New("next is stable")

func (s *Service) warm(ctx context.Context, q RollbackRequest, r *run, roll *rollout.Rollout) (domain.RollbackResult, error) {
	if roll.Stable == nil {
		return domain.RollbackResult{}, domain.Errorf(domain.Refused, "not rolled back: %s is the first release of %s in %s: there is nothing to go back to",
			roll.Next.Short(), q.App, q.Environment).WithHint("belay cancel %d ends the delivery", r.d.Number)
	}
	f := domain.Fact{App: q.App, Delivery: r.d.Number, Environment: q.Environment, Kind: "rollback", By: q.By, Reason: q.Reason, At: *now()}
	roll.Interrupt(wish(f))
	if err := s.ports.Store.PutFact(ctx, f); err != nil {
		s.options.Log.Error("store the wish to roll back", "delivery", r.d.Number, "error", err)
	}
	timeout := time.NewTimer(rollbackAnswer)
	defer timeout.Stop()
	select {
	case <-r.loweredIn(q.Environment):
	case <-roll.Over():
		if roll.View().Record.State == domain.RolloutDone {
			return domain.RollbackResult{}, errSettled
		}
	case <-ctx.Done():
		return domain.RollbackResult{}, context.Cause(ctx)
	case <-timeout.C:
		return domain.RollbackResult{}, domain.Errorf(domain.Failed, "the rollback is not acknowledged after %s: it goes on", rollbackAnswer).
			WithHint("belay show %d --follow", r.d.Number)
	}
	res := domain.RollbackResult{
		App: q.App, Environment: q.Environment, From: roll.Next.Commit, To: roll.Stable.Commit, Warm: true,
		Moved: time.Since(q.Accepted).Seconds(),
	}
	s.observeLast(ctx, q, roll.Next.ID, &res)
	return res, nil
}

// loweredIn is closed when a rollback of the open rollout has moved the traffic.
func (r *run) loweredIn(env domain.Environment) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lowered[env]
}

// observeLast adds what the data plane saw of the release that left.
func (s *Service) observeLast(ctx context.Context, q RollbackRequest, release string, res *domain.RollbackResult) {
	if at, open, err := s.ports.Traffic.LastRequest(ctx, q.App, q.Environment, release); err == nil {
		res.Open = open
		res.LastRequest = max(0, at.Sub(q.Accepted).Seconds())
	}
	_, res.Failed = s.ports.Measurements.Served(q.App, q.Environment, q.Accepted)
	if q.Environment == domain.Production {
		res.Sentence = q.App + " is held until a newer digest passes"
	}
}

// cold goes back after done: the target's instances start from what is local, are checked, and take all traffic.
func (s *Service) cold(ctx context.Context, q RollbackRequest) (domain.RollbackResult, error) {
	if err := s.stopRest(ctx, q); err != nil {
		return domain.RollbackResult{}, err
	}
	slot, err := s.ports.Store.Slot(ctx, q.App, q.Environment)
	if err != nil {
		return domain.RollbackResult{}, err
	}
	if slot.Stable == "" {
		return domain.RollbackResult{}, domain.Errorf(domain.NotFound, "nothing runs in %s of %s", q.Environment, q.App)
	}
	target, err := s.target(ctx, q, slot)
	if err != nil {
		return domain.RollbackResult{}, err
	}
	from, err := s.ports.Store.Release(ctx, slot.Stable)
	if err != nil {
		return domain.RollbackResult{}, err
	}
	rec := domain.RolloutRecord{
		ID: domain.NewID("rol_"), App: q.App, Environment: q.Environment, Stable: slot.Stable, Next: target.ID,
		State: domain.RolloutOpen, Started: *now(), By: q.By, Reason: q.Reason,
	}
	roll, err := s.dress(ctx, rec)
	if err != nil {
		return domain.RollbackResult{}, err
	}
	roll.Plan = rollout.Return(roll.Fleet())
	if rec.Plan, err = json.Marshal(roll.Plan); err != nil {
		return domain.RollbackResult{}, err
	}
	roll.Record = rec
	if _, err := s.ports.Store.OpenRollout(ctx, rec); err != nil {
		if domain.CodeOf(err) == domain.Conflict { // a delivery came in between
			err = domain.Errorf(domain.Conflict, "not rolled back: %w", err).WithHint("belay rollback again: it takes that one back")
		}
		return domain.RollbackResult{}, err
	}
	if q.Environment == domain.Production {
		if err := s.holdAfter(ctx, rec, from); err != nil { // the rollback does not wait for it; it is held again at its end
			s.options.Log.Error("hold the app", "app", q.App, "error", err)
		}
	}
	done := make(chan error, 1)
	r := s.goBack(roll, q.By, done)
	select {
	case <-r.back: // what left drains and retires behind the answer
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	res := domain.RollbackResult{App: q.App, Environment: q.Environment, From: from.Commit, To: target.Commit,
		Moved: time.Since(q.Accepted).Seconds()}
	s.observeLast(ctx, q, from.ID, &res)
	if replaced, rerr := s.replacedIn(ctx, target); rerr == nil && replaced != "" {
		res.Sentence = strings.TrimPrefix(res.Sentence+"; "+replaced, "; ")
	}
	return res, err
}

// errTakenBack ends what is left to do of a delivery whose release is stable already: stable must not retire while somebody
// goes back to it.
var errTakenBack = errors.New("taken back after its end")

// stopRest stops the retirement of the release that a cold rollback may go back to, and waits until it is still.
func (s *Service) stopRest(ctx context.Context, q RollbackRequest) error {
	s.mu.Lock()
	var busy *run
	for _, r := range s.runs {
		roll := r.rolloutIn(q.Environment)
		r.mu.Lock()
		held := r.leases[q.Environment] != nil
		r.mu.Unlock()
		if r.d.App == q.App && roll != nil && held && roll.View().Record.State == domain.RolloutDone {
			busy = r
		}
	}
	s.mu.Unlock()
	if busy == nil {
		return nil
	}
	if q.Environment == domain.Staging {
		return domain.Errorf(domain.Conflict, "#%d is still in staging", busy.d.Number).WithHint("belay show %d --follow, then again", busy.d.Number)
	}
	busy.halt(errTakenBack)
	select {
	case <-busy.over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// holdAfter holds an app whose finished release was taken back.
func (s *Service) holdAfter(ctx context.Context, rec domain.RolloutRecord, bad domain.Release) error {
	bad.Workloads = nil
	reason := rec.Reason
	if reason == "" {
		reason = "rolled back by " + rec.By
	}
	return s.ports.Store.SetHold(ctx, rec.App, domain.Hold{Reason: reason, Owner: rec.By, Since: rec.Started, Delivery: bad.Delivery, Bad: bad,
		WayOut: wayOut(rec.App)})
}

// target is where to: the release before, or the one that was named.
func (s *Service) target(ctx context.Context, q RollbackRequest, slot domain.Slot) (domain.Release, error) {
	if q.To == "" {
		if slot.Previous == "" {
			return domain.Release{}, domain.Errorf(domain.Refused, "not rolled back: there is no release of %s before this one in %s", q.App, q.Environment)
		}
		return s.ports.Store.Release(ctx, slot.Previous)
	}
	list, err := s.ports.Store.Releases(ctx, q.App, q.Environment, releaseDepth)
	if err != nil {
		return domain.Release{}, err
	}
	for _, r := range list {
		if r.ID == slot.Stable && (q.To == r.ID || strings.HasPrefix(r.Commit, q.To)) {
			return r, domain.Errorf(domain.Refused, "not rolled back: %s is what serves %s now", q.To, q.Environment)
		}
		if r.ID == q.To || len(q.To) >= 7 && strings.HasPrefix(r.Commit, q.To) {
			return r, s.ports.Runner.Prepare(ctx, r.Digest)
		}
	}
	return domain.Release{}, domain.Errorf(domain.Invalid, "no release %s of %s in %s", q.To, q.App, q.Environment).WithHint("belay status --json lists them")
}

const releaseDepth = 200

// goBack runs a stored way back in the background.
func (s *Service) goBack(roll *rollout.Rollout, by string, done chan<- error) *run {
	r := s.newRun(domain.Delivery{ID: roll.Record.ID, App: roll.Record.App, ShippedBy: by, Stages: newStages()})
	r.bare = true
	r.rollouts[roll.Record.Environment] = roll
	s.mu.Lock()
	s.returns[roll.Record.ID] = r
	s.mu.Unlock()
	deploy := domain.DeployProduction
	if roll.Record.Environment == domain.Staging {
		deploy = domain.DeployStaging
	}
	asked := roll.Record
	begun := s.spawn(func() {
		err := s.engine.Advance(s.life, roll, deploy)
		s.mu.Lock()
		delete(s.returns, roll.Record.ID)
		s.mu.Unlock()
		if err == nil && asked.Environment == domain.Production && roll.Stable != nil {
			if herr := s.holdAfter(s.life, asked, *roll.Stable); herr != nil {
				s.options.Log.Error("hold the app", "app", asked.App, "error", herr)
			}
		}
		if s.life.Err() == nil { // a shutdown is no failure
			s.tellReturn(roll, by, err)
			if rerr := r.remember(s.life, returnOver, true); rerr != nil {
				s.options.Log.Error("store the end of the rollback", "rollout", roll.Record.ID, "error", rerr)
			}
		}
		done <- err
	})
	if !begun {
		done <- context.Cause(s.life)
	}
	return r
}

// returnOver is recorded when nothing of a way back is left to do: its rollout has an end before, when its target is stable.
const returnOver = "over"

// resumeReturns goes on with what is left of ways back whose target is stable already.
func (s *Service) resumeReturns(ctx context.Context) error {
	apps, err := s.ports.Store.Apps(ctx)
	if err != nil {
		return err
	}
	for _, app := range apps {
		past, err := s.ports.Store.RolloutsOf(ctx, app, 0)
		if err != nil {
			return err
		}
		for _, rec := range past {
			if _, over, err := s.ports.Store.Lookup(ctx, rec.ID, returnOver); err != nil || over || rec.State != domain.RolloutDone {
				continue
			}
			if err := s.resumeReturn(ctx, rec); err != nil {
				s.options.Log.Error("go on with a rollback", "rollout", rec.ID, "error", err)
			}
		}
	}
	return nil
}

func (s *Service) tellReturn(roll *rollout.Rollout, by string, err error) {
	kind, data := "rollout.rolled_back", map[string]any{"sentence": "back on " + roll.Next.Short(), "to": roll.Next.Commit}
	if replaced, rerr := s.replacedIn(s.life, roll.Next); rerr == nil && replaced != "" {
		data["sentence"] = "back on " + roll.Next.Short() + "; " + replaced
	}
	if err != nil {
		kind, data = "rollout.page", map[string]any{"sentence": "the rollback failed: " + err.Error()}
	}
	s.emit(s.life, domain.Event{Type: kind, App: roll.Record.App, Environment: roll.Record.Environment, By: by, Data: data})
}

// resumeReturn goes on with a way back that the last process left open.
func (s *Service) resumeReturn(ctx context.Context, rec domain.RolloutRecord) error {
	roll, err := s.loadRollout(ctx, rec.ID)
	if err != nil {
		return fmt.Errorf("rollout %s: %w", rec.ID, err)
	}
	if rec.Delivery != 0 { // its delivery has an end, and nobody watches it
		roll.Interrupt(fmt.Errorf("its delivery #%d ended without it", rec.Delivery))
	}
	s.goBack(roll, rec.By, make(chan error, 1))
	return nil
}
