package delivery

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
)

// terms are what a rollout is held to, fixed when it begins.
type terms struct {
	Settings settings `json:"settings"`
	// Baseline is what stable served before; nil when it served nothing.
	Baseline *domain.Figures `json:"baseline,omitempty"`
	// Judge is what next is held to, and JudgeHash names it; without an Alpha nobody judges.
	Judge     judge.Config `json:"judge"`
	JudgeHash string       `json:"judge_hash"`
}

// termsOf returns what a rollout is held to; nothing where nothing was stored.
func termsOf(rec domain.RolloutRecord) (t terms) {
	if json.Unmarshal(rec.Config, &t) != nil {
		return terms{}
	}
	return t
}

// baselineOf returns the stored baseline of a rollout; nil when there is none.
func baselineOf(rec domain.RolloutRecord) *domain.Figures { return termsOf(rec).Baseline }

// fix fills in the terms of a rollout: what stable served before it, without the times in which this machine built or tested
// something.
func (s *Service) fix(ctx context.Context, rec domain.RolloutRecord, set settings) (terms, error) {
	t := terms{Settings: set}
	if rec.Stable == "" {
		return t, nil // a first release is compared with nothing: nobody judges it
	}
	busy, err := s.building(ctx, rec.Started.Add(-config.BaselineReach), rec.Started)
	if err != nil {
		return t, err
	}
	before := calmBefore(rec.Started, busy, config.BaselineFor, config.BaselineReach)
	if t.Baseline = s.ports.Measurements.Figures(rec.App, rec.Environment, rec.Stable, before...); t.Baseline == nil {
		// A machine that builds all the time has no calm: what there is counts.
		before = []domain.Period{{From: rec.Started.Add(-config.BaselineFor), To: rec.Started}}
		t.Baseline = s.ports.Measurements.Figures(rec.App, rec.Environment, rec.Stable, before...)
	}
	t.Judge = set.judge(rec.Environment)
	t.Judge.Before = s.ports.Measurements.Before(rec.App, rec.Environment, rec.Stable, before...)
	t.JudgeHash = t.Judge.Hash()
	return t, nil
}

// building lists when any app was built or tested on this machine between from and to.
func (s *Service) building(ctx context.Context, from, to time.Time) ([]domain.Period, error) {
	apps, err := s.ports.Store.Apps(ctx)
	if err != nil {
		return nil, err
	}
	busy := s.trials.during(from, to)
	for _, app := range apps {
		list, err := s.ports.Store.Deliveries(ctx, app, buildingDepth)
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			for _, row := range d.Stages[:min(2, len(d.Stages))] {
				if row.Started == nil || row.Started.After(to) || row.Ended != nil && row.Ended.Before(from) {
					continue
				}
				p := domain.Period{From: *row.Started, To: to}
				if row.Ended != nil {
					p.To = *row.Ended
				}
				busy = append(busy, p)
			}
		}
	}
	return busy, nil
}

// buildingDepth is how many of an app's deliveries are looked at for times in which it was built.
const buildingDepth = 20

// calmBefore returns the last spans before at, want in all, that lie in no busy one, as far back as reach. The newest comes
// first.
func calmBefore(at time.Time, busy []domain.Period, want, reach time.Duration) []domain.Period {
	busy = slices.Clone(busy)
	slices.SortFunc(busy, func(a, b domain.Period) int { return b.To.Compare(a.To) })
	var calm []domain.Period
	limit, end := at.Add(-reach), at
	take := func(from time.Time) {
		if from.Before(limit) {
			from = limit
		}
		if from.Before(end.Add(-want)) {
			from = end.Add(-want)
		}
		if from.Before(end) {
			calm = append(calm, domain.Period{From: from, To: end})
			want -= end.Sub(from)
		}
	}
	for _, b := range busy {
		if want <= 0 {
			return calm
		}
		if b.To.Before(end) {
			take(b.To)
		}
		if b.From.Before(end) {
			end = b.From
		}
	}
	if want > 0 {
		take(limit)
	}
	return calm
}
