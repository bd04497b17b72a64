package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// freezeGate waits while the server or the app is frozen.
func (r *run) freezeGate(ctx context.Context) (domain.Gate, error) {
	f, err := r.s.frozen(ctx, r.d.App)
	if err != nil || f == nil {
		return passed("none"), err
	}
	since, err := r.instant(ctx, "frozen since")
	if err != nil {
		return domain.Gate{}, err
	}
	until := since.Add(queueWait)
	if time.Now().After(until) {
		return domain.Gate{}, domain.Errorf(domain.Expired, "frozen by %s for more than %s: %s", f.By, queueWait, f.Reason)
	}
	if f.Until != nil && f.Until.Before(until) {
		until = *f.Until
	}
	return waiting(f.By, until, "frozen: %s", f.Reason), nil
}

// frozen returns the freeze that holds for an app now, nil when none does. Several are told as one: an app goes on when all
// are over.
func (s *Service) frozen(ctx context.Context, app string) (*domain.Freeze, error) {
	list, err := s.ports.Store.Freezes(ctx)
	if err != nil {
		return nil, err
	}
	return together(holding(list, app)), nil
}

// holding are the freezes that hold for an app now.
func holding(list []domain.Freeze, app string) []domain.Freeze {
	now := time.Now()
	return slices.DeleteFunc(slices.Clone(list), func(f domain.Freeze) bool {
		return f.App != "" && f.App != app || runOut(f, now)
	})
}

// runOut reports whether a freeze has run out.
func runOut(f domain.Freeze, now time.Time) bool { return f.Until != nil && !f.Until.After(now) }

// together tells several freezes as one, with every owner and every reason.
func together(list []domain.Freeze) *domain.Freeze {
	if len(list) == 0 {
		return nil
	}
	all := list[0]
	if len(list) == 1 {
		return &all
	}
	var owners, reasons []string
	for _, f := range list {
		if !slices.Contains(owners, f.By) {
			owners = append(owners, f.By)
		}
		reasons = append(reasons, fmt.Sprintf("%s (%s, by %s)", f.Reason, reach(f.App), f.By))
		if f.Since.After(all.Since) {
			all.Since = f.Since
		}
		if f.Until == nil || all.Until == nil {
			all.Until = nil
		} else if f.Until.After(*all.Until) {
			all.Until = f.Until
		}
	}
	all.By, all.Reason = strings.Join(owners, ", "), strings.Join(reasons, "; ")
	return &all
}

// reach names what a freeze is about.
func reach(app string) string {
	if app == "" {
		return "the whole server"
	}
	return app
}

// Freeze stops what would start Deploy production, and every shift up; never a rollback. One of the same reach is replaced.
func (s *Service) Freeze(ctx context.Context, app, by, reason string, until *time.Time) (domain.Frozen, error) {
	if strings.TrimSpace(reason) == "" {
		return domain.Frozen{}, domain.Errorf(domain.Invalid, "a freeze needs a reason").WithHint(`--reason "database move"`)
	}
	f := domain.Freeze{App: app, By: by, Reason: reason, Since: *now(), Until: until}
	if runOut(f, f.Since) {
		return domain.Frozen{}, domain.Errorf(domain.Invalid, "a freeze until %s is over already", until.UTC().Format(time.RFC3339))
	}
	if app != "" {
		if _, err := s.ports.Store.Delivery(ctx, app, 0); err != nil {
			return domain.Frozen{}, err
		}
	}
	s.freezing.Lock()
	defer s.freezing.Unlock()
	list, err := s.ports.Store.Freezes(ctx)
	if err != nil {
		return domain.Frozen{}, err
	}
	result := domain.Frozen{Freeze: f}
	data := map[string]any{"reason": reason, "until": until}
	for _, other := range list {
		switch {
		case runOut(other, f.Since):
		case other.App == app:
			result.Replaced = &other
			data["replaced"] = fmt.Sprintf("%s: %s", other.By, other.Reason)
		case other.App == "" || app == "":
			result.Beside = append(result.Beside, other)
		}
	}
	if err := s.ports.Store.SetFreeze(ctx, f); err != nil {
		return domain.Frozen{}, err
	}
	s.emit(ctx, domain.Event{Type: "freeze.set", App: app, By: by, Data: data})
	result.Waits, result.Keeps, err = s.stoppedBy(ctx, app)
	return result, err
}

// stoppedBy lists the deliveries that a freeze stops now: those that wait before production, and those that keep the weight
// which they have there.
func (s *Service) stoppedBy(ctx context.Context, app string) (waits, keeps []string, err error) {
	active, err := s.ports.Store.ActiveDeliveries(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, d := range active {
		if app != "" && d.App != app {
			continue
		}
		name := fmt.Sprintf("%s #%d", d.App, d.Number)
		r := s.find(d.App, d.Number)
		switch {
		case r != nil && r.rolloutIn(domain.Production) != nil:
			if r.rolloutIn(domain.Production).Open() {
				keeps = append(keeps, name)
			}
		case d.Stages[productionStage].Started != nil:
			waits = append(waits, name)
		}
	}
	return waits, keeps, nil
}

// Thaw lifts a freeze, and the hold of the app. A freeze is lifted by who set it, or by an operator of the server.
func (s *Service) Thaw(ctx context.Context, app, by, reason string, operator bool) error {
	if strings.TrimSpace(reason) == "" {
		return domain.Errorf(domain.Invalid, "a thaw needs a reason").WithHint(`--reason "the move is over"`)
	}
	s.freezing.Lock()
	defer s.freezing.Unlock()
	f, err := s.freezeOf(ctx, app)
	if err != nil {
		return err
	}
	var hold *domain.Hold
	if app != "" {
		if hold, err = s.ports.Store.Hold(ctx, app); err != nil {
			return err
		}
	}
	if f == nil && hold == nil {
		return domain.Errorf(domain.NotFound, "nothing to thaw: there is no freeze of %s%s", reach(app), orHold(app)).
			WithHint("belay status shows what stops an app")
	}
	if hold != nil && !operator {
		return domain.Errorf(domain.Refused, "not thawed: %s is held after a rollback: %s", app, hold.Reason).
			WithHint("a person lifts it on the server itself, through its socket; or %s", hold.WayOut)
	}
	if f != nil {
		if f.By != by && !operator {
			return domain.Errorf(domain.Refused, "not thawed: %s froze %s: %s", f.By, reach(app), f.Reason).
				WithHint("%s lifts it, or an operator: whoever calls belay thaw on the server itself, through its socket", f.By)
		}
		if err := s.lift(ctx, *f, by, reason); err != nil {
			return err
		}
	}
	if hold == nil {
		return nil
	}
	if err := s.ports.Store.ClearHold(ctx, app); err != nil {
		return err
	}
	s.emit(ctx, domain.Event{Type: "hold.lifted", App: app, By: by, Data: map[string]any{"reason": reason}})
	return nil
}

func orHold(app string) string {
	if app == "" {
		return ""
	}
	return ", and it is not held"
}

// freezeOf returns the freeze of just this app, or of the whole server with ""; nil when there is none.
func (s *Service) freezeOf(ctx context.Context, app string) (*domain.Freeze, error) {
	list, err := s.ports.Store.Freezes(ctx)
	if i := slices.IndexFunc(list, func(f domain.Freeze) bool { return f.App == app }); err == nil && i >= 0 {
		return &list[i], nil
	}
	return nil, err
}

func (s *Service) lift(ctx context.Context, f domain.Freeze, by, reason string) error {
	if err := s.ports.Store.LiftFreeze(ctx, f.App); err != nil {
		return err
	}
	s.emit(ctx, domain.Event{Type: "freeze.lifted", App: f.App, By: by, Data: map[string]any{
		"reason": reason, "frozen_by": f.By, "frozen_since": f.Since, "freeze": f.Reason,
	}})
	return nil
}

// thawEvery is how often freezes that have run out are looked for. They hold nothing from their end on: this only says so.
const thawEvery = 5 * time.Second

// thaws lifts freezes that have run out, and tells it.
func (s *Service) thaws() {
	look := time.NewTicker(thawEvery)
	defer look.Stop()
	for {
		if err := s.liftOver(s.life); err != nil && s.life.Err() == nil {
			s.options.Log.Error("lift a freeze that has run out", "error", err)
		}
		select {
		case <-look.C:
		case <-s.life.Done():
			return
		}
	}
}

func (s *Service) liftOver(ctx context.Context) error {
	s.freezing.Lock()
	defer s.freezing.Unlock()
	list, err := s.ports.Store.Freezes(ctx)
	if err != nil {
		return err
	}
	for _, f := range list {
		if !runOut(f, time.Now()) {
			continue
		}
		if err := s.lift(ctx, f, "belay", "it was set until "+f.Until.UTC().Format(time.RFC3339)); err != nil {
			return err
		}
	}
	return nil
}
