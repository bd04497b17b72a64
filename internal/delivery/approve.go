package delivery

import (
	"context"

	"github.com/belay-cd/belay/internal/domain"
)

// Approve says yes to what a delivery asks: that a step whose evidence is too thin goes on.
func (s *Service) Approve(ctx context.Context, app string, number int, by, reason string) (domain.Delivery, error) {
	d, err := s.ports.Store.Delivery(ctx, app, number)
	if err != nil {
		return d, err
	}
	if d.State.Final() {
		return d, domain.Errorf(domain.Refused, "#%d has ended: %s", d.Number, d.State)
	}
	r := s.find(app, d.Number)
	if r == nil || !r.asking() {
		return d, domain.Errorf(domain.Refused, "#%d asks nothing now", d.Number).WithHint("belay show %d says what it waits for", d.Number)
	}
	f := domain.Fact{App: app, Delivery: d.Number, Environment: domain.Production, Kind: approveFact, By: by, Reason: reason, At: *now()}
	if err := s.ports.Store.PutFact(ctx, f); err != nil {
		return d, err
	}
	r.event(ctx, domain.Event{Type: "gate.passed", Environment: domain.Production, By: by,
		Data: map[string]any{"gate": "evidence", "detail": "approved by " + by + because(reason)}})
	return s.ports.Store.Delivery(ctx, app, d.Number)
}

// Reject says no to a delivery, wherever it is: before production it ends, after that it is rolled back.
func (s *Service) Reject(ctx context.Context, app string, number int, by, reason string) (domain.Delivery, error) {
	return s.endNow(ctx, domain.Fact{App: app, Delivery: number, Kind: rejectFact, By: by, Reason: reason})
}

// approveFact is the kind of the fact that lets an asking step go on.
const approveFact = "approve"

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
