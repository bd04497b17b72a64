package delivery

import (
	"context"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
)

// Replayed is one stored tick of a rollout, with what the judge says after it. It is the line of a recording.
type Replayed struct {
	Rollout     string             `json:"rollout,omitempty"`
	Environment domain.Environment `json:"environment,omitempty"`
	// Held is what the rollout was held to; on its first tick only.
	Held *judge.Config `json:"held,omitempty"`
	judge.Tick
	Decision judge.Decision `json:"decision,omitempty"`
	Metric   string         `json:"metric,omitempty"`
	Evidence float64        `json:"evidence,omitempty"`
	Needed   float64        `json:"needed,omitempty"`
	Proof    float64        `json:"proof,omitempty"`
}

// Ticks calls see for each stored tick of a delivery's rollout, in order, with the judge's word after it: of production's
// rollout, of staging's where production was not reached.
func (s *Service) Ticks(ctx context.Context, app string, number int, see func(Replayed) error) error {
	d, err := s.ports.Store.Delivery(ctx, app, number)
	if err != nil {
		return err
	}
	list, err := s.ports.Store.RolloutsOf(ctx, app, d.Number)
	if err != nil {
		return err
	}
	rec, found := lastRollout(list)
	if !found {
		return domain.Errorf(domain.NotFound, "#%d moved no traffic: nothing was measured", d.Number)
	}
	fixed := termsOf(rec)
	j, held := judge.New(fixed.Judge), &fixed.Judge
	return s.ports.Measurements.Ticks(ctx, rec, func(t judge.Tick) error {
		line := Replayed{Rollout: rec.ID, Environment: rec.Environment, Tick: t}
		if fixed.Judge.Alpha > 0 {
			if !j.Tick(t) {
				return nil
			}
			v := j.Verdict()
			line.Held, held = held, nil
			line.Decision, line.Metric, line.Evidence, line.Needed, line.Proof = v.Decision, v.Metric, v.Evidence, v.Needed, v.Proof
		}
		return see(line)
	})
}

// lastRollout is the newest of production, else the newest of staging.
func lastRollout(list []domain.RolloutRecord) (rec domain.RolloutRecord, found bool) {
	for _, r := range list {
		if !found || r.Environment != rec.Environment && r.Environment == domain.Production || r.Environment == rec.Environment && r.Started.After(rec.Started) {
			rec, found = r, true
		}
	}
	return rec, found
}
