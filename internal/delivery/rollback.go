package delivery

import (
	"context"
	"encoding/json"
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
	if r, roll := s.openRollout(q.App, q.Environment); roll != nil && q.To == "" {
		return s.warm(ctx, q, r, roll)
	}
	return s.cold(ctx, q)
}

// openRollout finds the rollout that is open in an environment, and its run.
func (s *Service) openRollout(app string, env domain.Environment) (*run, *rollout.Rollout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		if r.d.App != app {
			continue
		}
		r.mu.Lock()
		roll := r.rollouts[env]
		r.mu.Unlock()
		if roll != nil && roll.Record.Ended == nil {
			return r, roll
		}
	}
	return nil, nil
}

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
	select {
	case <-r.lowered:
	case <-ctx.Done():
		return domain.RollbackResult{}, context.Cause(ctx)
	case <-time.After(rollbackAnswer):
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

// observeLast adds what the data plane saw of the release that left.
func (s *Service) observeLast(ctx context.Context, q RollbackRequest, release string, res *domain.RollbackResult) {
	if at, open, err := s.ports.Traffic.LastRequest(ctx, q.App, q.Environment, release); err == nil {
		res.Open = open
		res.LastRequest = max(0, at.Sub(q.Accepted).Seconds())
	}
	_, res.Failed = s.ports.Measurements.Served(q.App, q.Environment, q.Accepted)
	res.Sentence = fmt.Sprintf("traffic moved in %.0f ms; %s failed", res.Moved*1000, plural(int(res.Failed), "request"))
}

// cold goes back after done: the target's instances start from what is local, are checked, and take all traffic.
func (s *Service) cold(ctx context.Context, q RollbackRequest) (domain.RollbackResult, error) {
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
		State: domain.RolloutOpen, Started: *now(), By: q.By, Reason: "",
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
		return domain.RollbackResult{}, err
	}
	if q.Environment == domain.Production {
		if err := s.holdAfter(ctx, q, from); err != nil {
			return domain.RollbackResult{}, err
		}
	}
	done := make(chan error, 1)
	s.goBack(roll, q.By, done)
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	res := domain.RollbackResult{App: q.App, Environment: q.Environment, From: from.Commit, To: target.Commit,
		Moved: time.Since(q.Accepted).Seconds()}
	s.observeLast(ctx, q, from.ID, &res)
	return res, err
}

// holdAfter holds an app whose finished release was taken back.
func (s *Service) holdAfter(ctx context.Context, q RollbackRequest, bad domain.Release) error {
	bad.Workloads = nil
	reason := q.Reason
	if reason == "" {
		reason = "rolled back by " + q.By
	}
	return s.ports.Store.SetHold(ctx, q.App, domain.Hold{Reason: reason, Owner: q.By, Since: *now(), Delivery: bad.Delivery, Bad: bad,
		WayOut: fmt.Sprintf("ship another release: it lifts the hold when it passes Verify staging; or belay thaw --app %s --reason …", q.App)})
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
func (s *Service) goBack(roll *rollout.Rollout, by string, done chan<- error) {
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
	s.wg.Go(func() {
		err := s.engine.Advance(s.life, roll, deploy)
		s.mu.Lock()
		delete(s.returns, roll.Record.ID)
		s.mu.Unlock()
		kind, data := "rollout.rolled_back", map[string]any{"sentence": "back on " + roll.Next.Short(), "to": roll.Next.Commit}
		if err != nil {
			kind, data = "rollout.page", map[string]any{"sentence": "the rollback failed: " + err.Error()}
		}
		s.emit(s.life, domain.Event{Type: kind, App: roll.Record.App, Environment: roll.Record.Environment, By: by, Data: data})
		done <- err
	})
}

// resumeReturn goes on with a way back that the last process left open.
func (s *Service) resumeReturn(ctx context.Context, rec domain.RolloutRecord) error {
	roll, err := s.loadRollout(ctx, rec.ID)
	if err != nil {
		return fmt.Errorf("rollout %s: %w", rec.ID, err)
	}
	done := make(chan error, 1)
	s.goBack(roll, rec.By, done)
	return nil
}

// Explain tells why a delivery ended as it did, and judges the stored measurements again.
func (s *Service) Explain(ctx context.Context, app string, number int) (domain.Explanation, error) {
	d, err := s.ports.Store.Delivery(ctx, app, number)
	if err != nil {
		return domain.Explanation{}, err
	}
	e := domain.Explanation{Delivery: d.Number, App: app, Same: true}
	if d.Outcome != nil {
		e.Sentence = d.Outcome.Sentence
	} else {
		e.Sentence = fmt.Sprintf("#%d is %s", d.Number, d.State)
	}
	if e.Lines, err = s.decisions(ctx, d); err != nil {
		return e, err
	}
	past := s.newRun(d)
	var stored decision
	found, err := past.recall(ctx, "decision", &stored)
	if err != nil || !found {
		e.Detail = "no trigger acted: there is nothing to judge again"
		return e, err
	}
	e.Replayed = true
	again := judge(stored)
	e.Same = again == stored.Verdict
	e.Detail = fmt.Sprintf("replayed from %s: the same verdict", plural(len(stored.History.Seconds), "stored tick"))
	if !e.Same {
		e.Detail = fmt.Sprintf("replayed from %s: another verdict: %s", plural(len(stored.History.Seconds), "stored tick"), again.Sentence)
	}
	return e, nil
}

// decisions lists what was decided, in the order in which it happened.
func (s *Service) decisions(ctx context.Context, d domain.Delivery) ([]string, error) {
	events, err := s.ports.Store.Events(ctx, 0, EventFilter{App: d.App, Delivery: d.Number}, explainDepth)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, e := range events {
		what := ""
		for _, key := range []string{"step", "sentence", "summary", "detail", "reason"} {
			if text, ok := e.Data[key].(string); ok && text != "" {
				what = text
				break
			}
		}
		if e.Stage == "" && what == "" || strings.HasPrefix(e.Type, "instance.") {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s  %-20s %s", e.At.Format("15:04:05"), e.Type, what))
	}
	return lines, nil
}

const explainDepth = 10_000
