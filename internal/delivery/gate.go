package delivery

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// gate is a condition before Deploy production. Its look reads what is true now and touches nothing: it is asked once a
// second for as long as the delivery waits, and once more when production is free for it.
type gate struct {
	name string
	// look says whether the gate is open. One that waits names who can open it and until when; an error ends the delivery.
	look func(*run, context.Context) (domain.Gate, error)
}

// gates are all conditions, in the order in which they are shown. All must be open at one moment.
var gates = [...]gate{
	{"newest", (*run).newestGate},
	{"held", (*run).heldGate},
	{"freeze", (*run).freezeGate},
	{"window", (*run).windowGate},
	{"parity", (*run).parityGate},
	{"staging", (*run).stagingGate},
	{"policy", (*run).policyGate},
	{gateWayBack, (*run).wayBackGate},
	{gateApprovals, (*run).approvalsGate},
}

// The states of a gate.
const (
	gatePassed  = "passed"
	gateWaiting = "waiting"
	gateRefused = "refused"
)

// passed is an open gate.
func passed(format string, args ...any) domain.Gate {
	return domain.Gate{State: gatePassed, Detail: fmt.Sprintf(format, args...)}
}

// waiting is a gate that owner can open until expires.
func waiting(owner string, expires time.Time, format string, args ...any) domain.Gate {
	expires = expires.UTC()
	return domain.Gate{State: gateWaiting, Detail: fmt.Sprintf(format, args...), Owner: owner, Expires: &expires}
}

// gateEvery is how often a delivery that waits at a gate looks again.
const gateEvery = time.Second

// admitted waits until every gate is open and production is free at one moment. A wait at a gate holds no place: others go
// by, and what they change counts.
func (r *run) admitted(ctx context.Context) error {
	for {
		if err := r.waitAtGates(ctx); err != nil {
			return err
		}
		if err := r.enter(ctx, domain.Production); err != nil {
			return err
		}
		shut, err := r.sweep(ctx)
		if err != nil || shut == nil {
			return err
		}
		r.leave(domain.Production)
	}
}

// waitAtGates returns when all gates were open in one sweep. It shows what is waited for.
func (r *run) waitAtGates(ctx context.Context) error {
	look := time.NewTicker(gateEvery)
	defer look.Stop()
	shown := ""
	for {
		shut, err := r.sweep(ctx)
		if err != nil {
			return err
		}
		if shut == nil {
			if shown != "" {
				r.goOn(ctx)
			}
			return nil
		}
		if text := shut.Name + shut.Detail + shut.Owner; text != shown {
			shown = text
			r.wait(ctx, shut.Detail, shut.Owner, *shut.Expires)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// sweep asks every gate once, shows them all, and returns the first that is shut.
func (r *run) sweep(ctx context.Context) (shut *domain.Gate, err error) {
	r.looking.Lock()
	defer r.looking.Unlock()
	before := r.snapshot().Gates
	var list []domain.Gate
	for _, g := range gates {
		var now domain.Gate
		if now, err = r.look(ctx, g); err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			now = domain.Gate{State: gateRefused, Detail: err.Error()}
		}
		now.Name = g.name
		list = append(list, now)
		if now.State == gateWaiting && shut == nil {
			shut = &now
		}
		if err != nil {
			break
		}
	}
	if !reflect.DeepEqual(before, list) {
		r.update(ctx, func(d *domain.Delivery) { d.Gates = list })
		items := r.checklist(ctx)
		r.update(ctx, func(d *domain.Delivery) { d.Checklist = items })
	}
	for _, now := range list {
		if now.State != gateWaiting && !slices.ContainsFunc(before, func(g domain.Gate) bool { return g.Name == now.Name && g.State == now.State }) {
			r.event(ctx, domain.Event{Type: "gate." + now.State, Data: map[string]any{"gate": now.Name, "detail": now.Detail}})
		}
	}
	return shut, err
}

// blindFor is how long a gate may be impossible to look at, because the store or a driver does not answer.
const blindFor = 10 * time.Minute

// look asks one gate. What is no refusal but a failure to look keeps it shut for a while: a full disk ends no delivery.
func (r *run) look(ctx context.Context, g gate) (domain.Gate, error) {
	now, err := g.look(r, ctx)
	var known *domain.Error
	if err == nil || errors.As(err, &known) || ctx.Err() != nil {
		delete(r.blind, g.name)
		return now, err
	}
	since, blind := r.blind[g.name]
	if !blind {
		since = time.Now()
		r.blind[g.name] = since
	}
	if time.Since(since) > blindFor {
		return now, domain.Errorf(domain.Failed, "gate %s cannot be looked at for %s: %w", g.name, blindFor, err)
	}
	return waiting("belay", since.Add(blindFor), "gate %s cannot be looked at: %v", g.name, err), nil
}

// newestGate: once a newer delivery has passed Verify staging, an older one does not go before it or after it.
func (r *run) newestGate(ctx context.Context) (domain.Gate, error) {
	latest, err := r.s.ports.Store.Delivery(ctx, r.d.App, 0)
	if err != nil || latest.Number <= r.d.Number {
		return passed("it is the newest"), err
	}
	if r.d.Urgent != "" {
		return passed("urgent: it goes before newer ones"), nil
	}
	list, err := r.s.ports.Store.Deliveries(ctx, r.d.App, latest.Number-r.d.Number)
	if err != nil {
		return domain.Gate{}, err
	}
	for _, d := range list {
		if d.Number > r.d.Number && len(d.Stages) > 3 && d.Stages[3].State == domain.DoneState {
			return domain.Gate{}, domain.Errorf(domain.Superseded, "by #%d, which passed Verify staging before", d.Number)
		}
	}
	return passed("no newer one has passed Verify staging"), nil
}

// heldGate: after a rollback no delivery that began before it enters production, and the release that was taken back does
// not come again.
func (r *run) heldGate(ctx context.Context) (domain.Gate, error) {
	if err := r.liftHold(ctx); err != nil { // the rollback may have ended after this delivery passed Verify staging
		return domain.Gate{}, err
	}
	h, err := r.s.ports.Store.Hold(ctx, r.d.App)
	if err != nil || h == nil {
		return passed("not held"), err
	}
	if same, err := r.sameAsHeld(ctx, *h); err != nil {
		return domain.Gate{}, err
	} else if same {
		return domain.Gate{}, domain.Errorf(domain.Refused, "%s is held: this is the release that #%d took back: %s", r.d.App, h.Delivery, h.Reason).
			WithHint("ship a commit that mends it, or: belay thaw --app %s --reason …", r.d.App)
	}
	return domain.Gate{}, domain.Errorf(domain.Refused, "%s is held since %s by %s: %s", r.d.App, h.Since.Format("15:04:05Z"), h.Owner, h.Reason).
		WithHint("%s", h.WayOut)
}

// sameAsHeld reports whether this delivery would put the same release into production again.
func (r *run) sameAsHeld(ctx context.Context, h domain.Hold) (bool, error) {
	config := configHash(r.file, domain.Production)
	if r.artifact.Digest != h.Bad.Digest || config != h.Bad.Config { // no provider has to be asked: what mends does not wait for one
		return false, nil
	}
	_, versions, err := r.s.ports.Secrets.Resolve(ctx, r.d.App, r.file, domain.Production)
	if err != nil {
		return false, err
	}
	would := domain.Release{Digest: r.artifact.Digest, Config: config, Secrets: versions}
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

// unhealthyFor is how long staging may miss an instance before that counts.
const unhealthyFor = 10 * time.Second

// evidenceFor is how long the verification of staging counts.
const evidenceFor = 24 * time.Hour

// stagingGate: staging runs this artifact, verified not too long ago, and is still healthy.
func (r *run) stagingGate(ctx context.Context) (domain.Gate, error) {
	slot, err := r.s.ports.Store.Slot(ctx, r.d.App, domain.Staging)
	if err != nil {
		return domain.Gate{}, err
	}
	d := r.snapshot()
	verified := d.Stages[3].Ended
	if verified == nil || ageOf(*verified) > evidenceFor {
		return domain.Gate{}, domain.Errorf(domain.Refused, "staging was not verified within the last %s", evidenceFor).WithHint("ship it again")
	}
	rel, err := r.s.ports.Store.Release(ctx, slot.Stable)
	if err != nil {
		return domain.Gate{}, err
	}
	at := verified.Format("15:04:05Z")
	if rel.Digest != r.artifact.Digest {
		return passed("verified at %s; staging runs a newer release since", at), nil
	}
	healthy, wanted, err := r.s.health(ctx, rel)
	if err != nil {
		return domain.Gate{}, err
	}
	if healthy >= wanted {
		r.missed = time.Time{}
		return passed("verified at %s, healthy %d of %d", at, healthy, wanted), nil
	}
	if r.missed.IsZero() { // one look decides nothing
		r.missed = time.Now()
	}
	if time.Since(r.missed) >= unhealthyFor {
		return domain.Gate{}, domain.Errorf(domain.Failed, "staging is no longer healthy: %d of %d instances", healthy, wanted).
			WithHint("belay logs --role … shows why; then ship again")
	}
	return waiting("belay", r.missed.Add(unhealthyFor), "staging is healthy with %d of %d instances", healthy, wanted), nil
}

// ageOf is how long ago something was seen, by the clock that has gone on more: the monotonic one stands still while the
// machine sleeps, and the wall clock may be set back.
func ageOf(at time.Time) time.Duration {
	monotonic, wall := time.Since(at), time.Now().Round(0).Sub(at.Round(0))
	if wall < -clockSlack {
		return math.MaxInt64
	}
	return max(monotonic, wall)
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
