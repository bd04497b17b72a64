package delivery

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
)

// openingWait is the longest wait of a shift for the next opening: a window that opens once a week, and a day more.
const openingWait = 8 * 24 * time.Hour

// windowGate waits for an opening that has room for all of the delivery's shifts up.
func (r *run) windowGate(ctx context.Context) (domain.Gate, error) {
	w := r.file.Gates.Window
	if w.Zero() {
		return passed("none: always open"), nil
	}
	if by, err := r.waived(ctx); err != nil || by != "" {
		return passed("waived by %s: urgent: %s", by, r.d.Urgent), err
	}
	slot, err := r.s.ports.Store.Slot(ctx, r.d.App, domain.Production)
	if err != nil {
		return domain.Gate{}, err
	}
	fleet, err := r.s.fleet(ctx, r.file, slot)
	if err != nil {
		return domain.Gate{}, err
	}
	takes := untilLastShift(rollout.New(fleet, r.settings.plan(domain.Production))) + r.startTime()
	return windowAt(w, time.Now(), takes, r.d.Urgent != "")
}

// startTime is how long the instances took to start in staging, as it was measured: the holds begin after that.
func (r *run) startTime() time.Duration {
	return time.Duration(startSeconds(r.snapshot(), domain.DeployStaging) * float64(time.Second))
}

// fleet is what a plan of production is made for.
func (s *Service) fleet(ctx context.Context, f *config.File, slot domain.Slot) (rollout.Fleet, error) {
	fleet := rollout.Fleet{Environment: domain.Production, Next: rolesOf(f)}
	if slot.Stable == "" {
		return fleet, nil
	}
	stable, err := s.ports.Store.Release(ctx, slot.Stable)
	fleet.Stable = rollout.RolesOf(&stable)
	return fleet, err
}

// windowAt says what the window says at a moment of a delivery whose last shift comes after takes.
func windowAt(w config.Window, now time.Time, takes time.Duration, urgent bool) (domain.Gate, error) {
	at, ok := w.Fit(now, takes)
	if !ok {
		return domain.Gate{}, neverFits(w, now, takes)
	}
	closes, shuts := w.Closes(now)
	switch {
	case at.After(now) && w.Open(now):
		return waiting(windowOwner(urgent), at, "the window shuts %s, and the last shift comes %s after the first: it begins %s",
			w.In(closes), domain.Span(takes.Truncate(time.Second)), w.In(at)), nil
	case at.After(now):
		return waiting(windowOwner(urgent), at, "outside of the window %s: it opens %s", w, w.In(at)), nil
	case !shuts:
		return passed("%s: open", w), nil
	default:
		return passed("%s: open until %s, the last shift comes after %s", w, w.In(closes), domain.Span(takes.Truncate(time.Second))), nil
	}
}

// windowOwner says who can change that a delivery waits for the window.
func windowOwner(urgent bool) string {
	if urgent {
		return "an approver can waive it"
	}
	return "the window"
}

// neverFits is the refusal of a plan for which no opening is long enough.
func neverFits(w config.Window, now time.Time, takes time.Duration) error {
	longest := w.Longest(now)
	if longest == 0 {
		return domain.Errorf(domain.Refused, "the window %s never opens", w).
			WithHint("what the last release that was done has holds, too: ship a window that has both in it first, then the narrower one")
	}
	return domain.Errorf(domain.Refused, "no opening of the window is long enough: the last shift comes %s after the first, and the longest opening of %s lasts %s",
		domain.Span(takes.Truncate(time.Second)), w, domain.Span(longest)).WithHint("shorten the holds of rollout.steps, or widen gates.window: a wider one counts from the next delivery on")
}

// untilLastShift is how long the holds of a plan take from its begin to its last shift up, each with its whole time. The
// shift that ends Monitor does not count: what it gives to the last few was proven on all others.
func untilLastShift(plan rollout.Plan) (last time.Duration) {
	sum := time.Duration(0)
	for _, s := range plan {
		if s.Stage != domain.DeployProduction {
			break
		}
		if s.Verb == rollout.Shift {
			last = sum
		}
		sum += s.Hold
	}
	return last
}

// waived returns who let an urgent delivery go outside of the window; "" when nobody did.
func (r *run) waived(ctx context.Context) (string, error) {
	if r.d.Urgent == "" {
		return "", nil
	}
	given, err := r.given(ctx, gateWindow)
	if err != nil || len(given) == 0 {
		return "", err
	}
	d := r.snapshot()
	var counted []domain.Approval
	for _, one := range r.waiver() {
		t := r.s.count(one, d.People, given)
		if !t.met() {
			return "", nil
		}
		counted = union(counted, t.counted)
	}
	return names(counted), nil
}

// admitWindow refuses a delivery for which no opening is long enough, before anything is built. An urgent one may be let
// through without any.
func (s *Service) admitWindow(ctx context.Context, own *config.File, urgent string) error {
	if urgent != "" {
		return nil
	}
	app := string(own.App)
	last, err := s.lastDone(ctx, app, int(^uint(0)>>1))
	if err != nil {
		return err
	}
	set, file := newSettings(own, last, s.policy().Floors(app))
	return s.fitsWindow(ctx, app, file, set)
}

// fitsWindow refuses a plan that can never fit.
func (s *Service) fitsWindow(ctx context.Context, app string, file *config.File, set settings) error {
	if file.Gates.Window.Zero() {
		return nil
	}
	slot, err := s.ports.Store.Slot(ctx, app, domain.Production)
	if err != nil {
		return err
	}
	fleet, err := s.fleet(ctx, file, slot)
	if err != nil {
		return err
	}
	_, err = windowAt(file.Gates.Window, time.Now(), untilLastShift(rollout.New(fleet, set.plan(domain.Production))), false)
	return err
}

// gatesNow says which gates stand before production, and what those say now that could keep a delivery waiting.
func (s *Service) gatesNow(ctx context.Context, app string, file *config.File, set settings, fleet rollout.Fleet) (text string, err error) {
	there, none := []string{"staging verified and healthy", "parity"}, []string{}
	var asked []string
	for _, d := range s.demands(file, s.policy().Floors(app)) {
		asked = append(asked, fmt.Sprintf("%d of %s", d.Need, d.whom()))
	}
	add := func(name, says string) {
		if says == "" {
			none = append(none, name)
		} else {
			there = append(there, says)
		}
	}
	add("approval", strings.Join(asked, " and "))
	now := ""
	if w := file.Gates.Window; !w.Zero() {
		gate, err := windowAt(w, time.Now(), untilLastShift(rollout.New(fleet, set.plan(domain.Production))), false)
		if now = gate.Detail; err != nil {
			now = err.Error()
		}
	}
	add("window", now)
	f, err := s.frozen(ctx, app)
	if err != nil {
		return "", err
	}
	now = ""
	if f != nil {
		now = fmt.Sprintf("frozen by %s: %s", f.By, f.Reason)
	}
	add("freeze", now)
	text = "gates: " + strings.Join(there, ", ")
	if len(none) > 0 {
		text += "; no " + or(none)
	}
	return text, nil
}

// or joins words as people do: a, b or c.
func or(words []string) string {
	n := len(words) - 1
	if n < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:n], ", ") + " or " + words[n]
}

// Raise waits until next may get more traffic: a freeze stops that, and a window that is shut; neither stops a rollback.
func (s *Service) Raise(ctx context.Context, roll *rollout.Rollout, weight int) error {
	if roll.Record.Delivery == 0 || roll.Record.Environment != domain.Production {
		return nil
	}
	r := s.owner(roll)
	look := time.NewTicker(gateEvery)
	defer look.Stop()
	shown := ""
	defer func() {
		if shown != "" && s.life.Err() == nil { // after a restart it still waits
			r.showGate(ctx, gateWindow)
			r.goOn(ctx)
		}
	}()
	shift := gate{"shift", func(r *run, ctx context.Context) (domain.Gate, error) { return r.stopped(ctx, roll, weight) }}
	for {
		now, err := r.look(ctx, shift) // a store that does not answer takes nothing back
		if err != nil || now.State == gatePassed {
			return err
		}
		if text := now.Detail + now.Owner; text != shown {
			shown = text
			r.showGate(ctx, gateWindow)
			r.wait(ctx, fmt.Sprintf("the shift to %s waits, %s", rollout.Percent(weight), now.Detail), now.Owner, *now.Expires)
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// stopped says whether next may get more traffic now, or why not.
func (r *run) stopped(ctx context.Context, roll *rollout.Rollout, weight int) (domain.Gate, error) {
	f, err := r.s.frozen(ctx, r.d.App)
	if err != nil {
		return domain.Gate{}, err
	}
	if f != nil {
		deadline := latest(f.Since, roll.Record.Started).Add(queueWait)
		if f.Until != nil { // who set it has said how long
			deadline = *f.Until
		}
		if time.Now().After(deadline) {
			return domain.Gate{}, domain.Errorf(domain.Expired, "frozen by %s for more than %s: %s", f.By, queueWait, f.Reason)
		}
		return waiting(f.By, deadline, "frozen: %s", f.Reason), nil
	}
	w, now := r.file.Gates.Window, time.Now()
	if w.Open(now) || endsMonitor(roll.Plan, weight) {
		return passed("open"), nil
	}
	if by, err := r.waived(ctx); err != nil || by != "" {
		return passed("waived by %s", by), err
	}
	at, ok := w.NextOpening(now)
	if !ok {
		return domain.Gate{}, neverFits(w, now, 0)
	}
	return waiting(windowOwner(r.d.Urgent != ""), at, "outside of the window %s: it opens %s", w, w.In(at)), nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// endsMonitor reports whether a weight is that of the shift which ends Monitor.
func endsMonitor(plan rollout.Plan, weight int) bool {
	for _, s := range plan {
		if s.Verb == rollout.Shift && s.Weight == weight {
			return s.Stage == domain.Monitor
		}
	}
	return false
}
