package delivery

import (
	"context"

	"github.com/belay-cd/belay/internal/domain"
)

// Approve records that a person agrees with a delivery that waits for somebody's word.
func (s *Service) Approve(ctx context.Context, app string, number int, by, reason string) (domain.Delivery, error) {
	d, err := s.Delivery(ctx, app, number)
	if err != nil {
		return d, err
	}
	if d.State != domain.WaitingState {
		return d, domain.Errorf(domain.Refused, "#%d waits for nobody: it is %s", d.Number, d.State).WithHint("belay show %d", d.Number)
	}
	f := domain.Fact{App: app, Delivery: d.Number, Kind: "approve", By: by, Reason: reason, At: *now()}
	if err := s.ports.Store.PutFact(ctx, f); err != nil {
		return d, err
	}
	return s.Delivery(ctx, app, d.Number)
}

// Reject records that a person says no: the delivery ends, and goes back where it had traffic.
func (s *Service) Reject(ctx context.Context, app string, number int, by, reason string) (domain.Delivery, error) {
	return s.Cancel(ctx, app, number, by, reason)
}
