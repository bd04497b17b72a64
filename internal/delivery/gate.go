package delivery

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// gates are the conditions before Deploy production. They are asked in this order; the first that says no decides.
func (r *run) gates(ctx context.Context) error {
	var shown []domain.Gate
	for _, g := range []struct {
		name string
		open func(context.Context) (string, error)
	}{
		{"newest", r.newestGate},
		{"held", r.heldGate},
		{"freeze", r.freezeGate},
		{"staging", r.stagingGate},
	} {
		detail, err := g.open(ctx)
		gate := domain.Gate{Name: g.name, State: "passed", Detail: detail}
		if err != nil {
			gate.State, gate.Detail = "refused", err.Error()
		}
		shown = append(shown, gate)
		r.update(ctx, func(d *domain.Delivery) { d.Gates, d.Checklist = shown, r.checklist(d) })
		kind := "gate.passed"
		if err != nil {
			kind = "gate.refused"
		}
		r.event(ctx, domain.Event{Type: kind, Data: map[string]any{"gate": g.name, "detail": gate.Detail}})
		if err != nil {
			return err
		}
	}
	return nil
}

// newestGate: once a newer delivery has passed Verify staging, an older one does not go before it or after it.
func (r *run) newestGate(ctx context.Context) (string, error) {
	latest, err := r.s.ports.Store.Delivery(ctx, r.d.App, 0)
	if err != nil || latest.Number <= r.d.Number {
		return "it is the newest", err
	}
	if r.d.Urgent != "" {
		return "urgent: it goes before newer ones", nil
	}
	list, err := r.s.ports.Store.Deliveries(ctx, r.d.App, latest.Number-r.d.Number)
	if err != nil {
		return "", err
	}
	for _, d := range list {
		if d.Number > r.d.Number && len(d.Stages) > 3 && d.Stages[3].State == domain.DoneState {
			return "", domain.Errorf(domain.Superseded, "by #%d, which passed Verify staging before", d.Number)
		}
	}
	return "no newer one has passed Verify staging", nil
}

// heldGate: after a rollback no delivery that began before it enters production, and the release that was taken back does
// not come again.
func (r *run) heldGate(ctx context.Context) (string, error) {
	if err := r.liftHold(ctx); err != nil { // the rollback may have ended after this delivery passed Verify staging
		return "", err
	}
	h, err := r.s.ports.Store.Hold(ctx, r.d.App)
	if err != nil || h == nil {
		return "not held", err
	}
	if same, err := r.sameAsHeld(ctx, *h); err != nil {
		return "", err
	} else if same {
		return "", domain.Errorf(domain.Refused, "%s is held: this is the release that #%d took back: %s", r.d.App, h.Delivery, h.Reason).
			WithHint("ship a commit that mends it, or: belay thaw --app %s --reason …", r.d.App)
	}
	return "", domain.Errorf(domain.Refused, "%s is held since %s by %s: %s", r.d.App, h.Since.Format("15:04:05Z"), h.Owner, h.Reason).
		WithHint("%s", h.WayOut)
}

// sameAsHeld reports whether this delivery would put the same release into production again.
func (r *run) sameAsHeld(ctx context.Context, h domain.Hold) (bool, error) {
	_, versions, err := r.s.ports.Secrets.Resolve(ctx, r.d.App, r.file, domain.Production)
	if err != nil {
		return false, err
	}
	would := domain.Release{Digest: r.artifact.Digest, Config: configHash(r.file, domain.Production), Secrets: versions}
	return would.Same(h.Bad), nil
}

// liftHold: a delivery that began after the rollback, or an urgent one, with another release, lifts the hold when it has
// passed Verify staging.
func (r *run) liftHold(ctx context.Context) error {
	h, err := r.s.ports.Store.Hold(ctx, r.d.App)
	if err != nil || h == nil || r.d.Urgent == "" && r.d.Created.Before(h.Since) {
		return err
	}
	if same, err := r.sameAsHeld(ctx, *h); err != nil || same {
		return err
	}
	if err := r.s.ports.Store.ClearHold(ctx, r.d.App); err != nil {
		return err
	}
	r.event(ctx, domain.Event{Type: "hold.lifted", By: "belay", Data: map[string]any{"reason": "a newer release passed Verify staging"}})
	return nil
}

// hold stops what comes after a rollback of production.
func (r *run) hold(ctx context.Context, cause error) error {
	roll := r.rolloutIn(domain.Production)
	if roll == nil {
		return nil
	}
	since := *now()
	if roll.Record.Ended != nil { // stored again after a crash it is not younger
		since = *roll.Record.Ended
	}
	bad := roll.Next
	bad.Workloads = nil
	owner := roll.Record.By
	if owner == "" {
		owner = "belay"
	}
	return r.s.ports.Store.SetHold(ctx, r.d.App, domain.Hold{
		Reason: strings.TrimPrefix(cause.Error(), rolledBackPrefix), Owner: owner, Since: since, Delivery: r.d.Number, Bad: bad,
		WayOut: wayOut(r.d.App),
	})
}

func wayOut(app string) string {
	return fmt.Sprintf("ship another release: it lifts the hold when it passes Verify staging; or belay thaw --app %s --reason …", app)
}

// freezeEvery is how often a delivery that waits at a freeze looks again.
const freezeEvery = time.Second

// freezeGate waits while the server or the app is frozen. What happens meanwhile counts.
func (r *run) freezeGate(ctx context.Context) (string, error) {
	return "none", r.thawed(ctx, "the rollout", func() error {
		if _, err := r.newestGate(ctx); err != nil {
			return err
		}
		_, err := r.heldGate(ctx)
		return err
	})
}

// thawed waits until nothing is frozen. While it waits, still is asked whether that makes sense.
func (r *run) thawed(ctx context.Context, what string, still func() error) error {
	f, err := r.s.frozen(ctx, r.d.App)
	if err != nil || f == nil {
		return err
	}
	deadline := time.Now().Add(queueWait)
	until := deadline
	if f.Until != nil && f.Until.Before(until) {
		until = *f.Until
	}
	r.wait(ctx, fmt.Sprintf("%s waits, frozen: %s", what, f.Reason), f.By, until)
	defer func() {
		if r.s.life.Err() == nil { // after a restart it still waits
			r.goOn(ctx)
		}
	}()
	look := time.NewTicker(freezeEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if f, err = r.s.frozen(ctx, r.d.App); err != nil {
			return err
		}
		if still != nil {
			if err := still(); err != nil {
				return err
			}
		}
		if f == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return domain.Errorf(domain.Expired, "frozen by %s for more than %s: %s", f.By, queueWait, f.Reason)
		}
	}
}

// frozen returns the freeze that holds for an app now, nil when none does.
func (s *Service) frozen(ctx context.Context, app string) (*domain.Freeze, error) {
	list, err := s.ports.Store.Freezes(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range list {
		if (f.App == "" || f.App == app) && (f.Until == nil || f.Until.After(time.Now())) {
			return &f, nil
		}
	}
	return nil, nil
}

// unhealthyFor is how long staging may miss an instance before that counts.
const unhealthyFor = 10 * time.Second

// evidenceFor is how long the verification of staging counts.
const evidenceFor = 24 * time.Hour

// stagingGate: staging runs this artifact, verified not too long ago, and is still healthy.
func (r *run) stagingGate(ctx context.Context) (string, error) {
	slot, err := r.s.ports.Store.Slot(ctx, r.d.App, domain.Staging)
	if err != nil {
		return "", err
	}
	d := r.snapshot()
	verified := d.Stages[3].Ended
	if verified == nil || time.Since(*verified) > evidenceFor {
		return "", domain.Errorf(domain.Refused, "staging was not verified within the last %s", evidenceFor).WithHint("ship it again")
	}
	age := time.Since(*verified).Round(time.Second)
	rel, err := r.s.ports.Store.Release(ctx, slot.Stable)
	if err != nil {
		return "", err
	}
	if rel.Digest != r.artifact.Digest {
		return fmt.Sprintf("verified %s ago; staging runs a newer release since", age), nil
	}
	healthy, wanted, err := r.s.health(ctx, rel)
	for end := time.Now().Add(unhealthyFor); err == nil && healthy < wanted && time.Now().Before(end); { // one look decides nothing
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
		healthy, wanted, err = r.s.health(ctx, rel)
	}
	if err != nil {
		return "", err
	}
	if healthy < wanted {
		return "", domain.Errorf(domain.Failed, "staging is no longer healthy: %d of %d instances", healthy, wanted).
			WithHint("belay logs --role … shows why; then ship again")
	}
	return fmt.Sprintf("verified %s ago, healthy %d of %d", age, healthy, wanted), nil
}

// health counts the healthy instances of a release.
func (s *Service) health(ctx context.Context, rel domain.Release) (healthy, wanted int, err error) {
	list, err := s.ports.Runner.List(ctx, rel.App, rel.Environment)
	for _, i := range list {
		if i.Release == rel.ID && i.State == domain.Healthy {
			healthy++
		}
	}
	for _, w := range rel.Workloads {
		wanted += w.Instances
	}
	return healthy, wanted, err
}

// Freeze stops what would start Deploy production.
func (s *Service) Freeze(ctx context.Context, app, by, reason string, until *time.Time) error {
	if reason == "" {
		return domain.Errorf(domain.Invalid, "a freeze needs a reason").WithHint(`--reason "database move"`)
	}
	f := domain.Freeze{App: app, By: by, Reason: reason, Since: *now(), Until: until}
	if err := s.ports.Store.SetFreeze(ctx, f); err != nil {
		return err
	}
	s.emit(ctx, domain.Event{Type: "freeze.set", App: app, By: by, Data: map[string]any{"reason": reason, "until": until}})
	return nil
}

// stopped reports whether there is a freeze of just this app (or of the server, with ""), or a hold of the app.
func (s *Service) stopped(ctx context.Context, app string) (bool, error) {
	list, err := s.ports.Store.Freezes(ctx)
	if err != nil {
		return false, err
	}
	for _, f := range list {
		if f.App == app {
			return true, nil
		}
	}
	if app == "" {
		return false, nil
	}
	h, err := s.ports.Store.Hold(ctx, app)
	return h != nil, err
}

// Thaw lifts a freeze, and the hold of the app.
func (s *Service) Thaw(ctx context.Context, app, by, reason string) error {
	if reason == "" {
		return domain.Errorf(domain.Invalid, "a thaw needs a reason").WithHint(`--reason "the move is over"`)
	}
	if frozen, err := s.stopped(ctx, app); err != nil {
		return err
	} else if !frozen {
		return domain.Errorf(domain.NotFound, "nothing to thaw: there is no such freeze, and no hold").
			WithHint("belay status shows what stops an app")
	}
	if err := s.ports.Store.LiftFreeze(ctx, app); err != nil {
		return err
	}
	s.emit(ctx, domain.Event{Type: "freeze.lifted", App: app, By: by, Data: map[string]any{"reason": reason}})
	if app == "" {
		return nil
	}
	if h, err := s.ports.Store.Hold(ctx, app); err != nil || h == nil {
		return err
	}
	s.emit(ctx, domain.Event{Type: "hold.lifted", App: app, By: by, Data: map[string]any{"reason": reason}})
	return s.ports.Store.ClearHold(ctx, app)
}
