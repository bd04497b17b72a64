package app

import (
	"context"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/sample"
)

// Ticks tells what was counted of a rollout, as its judge heard it.
func (m *measurements) Ticks(ctx context.Context, rec domain.RolloutRecord, see func(judge.Tick) error) error {
	heard := false
	err := m.judges.each(ctx, rec, func(t measure.Tick) error {
		said, ok := sample.TickOf(&t, rec.ID)
		if !ok {
			return nil
		}
		heard = true
		return see(said)
	})
	if err == nil && !heard {
		return domain.Errorf(domain.NotFound, "no tick of %s is stored: there was no traffic, or it is too long ago", rec.ID)
	}
	return err
}
