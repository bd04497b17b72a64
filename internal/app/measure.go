package app

import (
	"context"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/sample"
	"github.com/belay-cd/belay/internal/scrape"
)

// measurements answers what the deliveries ask, from the ticks in memory and the driver's probes.
type measurements struct {
	book   *sample.Book
	judges *keeper
	list   func(ctx context.Context, app string, env domain.Environment) ([]domain.InstanceStatus, error)
	router *router
	scrape *scrape.Samples // what the apps' own metrics say; nil: nothing
}

// baselineSpan is how far back the p95 before a rollout is taken from.
const baselineSpan = 15 * time.Minute

// await waits until the ticks up to at are in, a few seconds at most.
func (m *measurements) await(at time.Time) {
	for end := at.Add(lastTicks); m.book.Newest().Before(at) && time.Now().Before(end); {
		time.Sleep(awaitEvery)
	}
}

// How long, and how often, the last ticks of a rollout are looked for.
const (
	lastTicks  = 3 * time.Second
	awaitEvery = 50 * time.Millisecond
)

// Traffic sums up both releases of a rollout since it began.
func (m *measurements) Traffic(r *rollout.Rollout) domain.Traffic {
	rec := r.Record
	to := time.Now()
	if rec.Ended != nil {
		to = rec.Ended.Add(time.Second)
		m.await(*rec.Ended)
	}
	t := domain.Traffic{Next: m.book.Sum(rec.App, rec.Environment, r.Next.ID, rec.Started, to).Side(r.Next.Commit)}
	if r.Stable != nil {
		t.Stable = m.book.Sum(rec.App, rec.Environment, r.Stable.ID, rec.Started, to).Side(r.Stable.Commit)
	}
	return t
}

// Served sums up an environment.
func (m *measurements) Served(app string, env domain.Environment, from time.Time) (requests, unserved int64) {
	s := m.book.Sum(app, env, "", from, time.Now().Add(time.Minute))
	return s.Requests, s.Unserved
}

// Figures are the rates of a release.
func (m *measurements) Figures(app string, env domain.Environment, release string, over ...domain.Period) *domain.Figures {
	return m.book.SumOver(app, env, release, spansOf(over)).Figures()
}

// Before is what a release served, and its worst minutes.
func (m *measurements) Before(app string, env domain.Environment, release string, over ...domain.Period) *judge.Before {
	return m.book.Before(app, env, release, spansOf(over))
}

func spansOf(over []domain.Period) []sample.Span {
	spans := make([]sample.Span, len(over))
	for i, p := range over {
		spans[i] = sample.Span(p)
	}
	return spans
}

// Replay judges the stored ticks of a rollout again.
func (m *measurements) Replay(ctx context.Context, rec domain.RolloutRecord, c judge.Config, stop judge.Verdict) (judge.Verdict, int, error) {
	return m.judges.replay(ctx, rec, c, stop)
}
