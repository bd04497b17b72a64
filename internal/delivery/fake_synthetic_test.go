package delivery

import (
	"context"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// synthetic is the load that Belay makes itself, in a world.
type synthetic struct{ w *world }

func (synthetic) Warm(context.Context, CheckJob) {}

func (s synthetic) Load(_ context.Context, _ CheckJob, perSecond int) func() Load {
	began := time.Now()
	return func() Load { return Load{Requests: int64(time.Since(began).Seconds() * float64(perSecond))} }
}

func (s synthetic) Flows(_ context.Context, j CheckJob) []Flow {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.flowed++
	return append([]Flow(nil), s.w.flows...)
}

// jobs are the scheduled roles of a world.
type jobs struct{ w *world }

func (jobs) Status(context.Context, string, domain.Environment) ([]domain.JobStatus, error) {
	return nil, nil
}

func (j jobs) End(_ context.Context, _ string, _ domain.Environment, release string) error {
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	j.w.ended = append(j.w.ended, release)
	return nil
}

// takeover admits any running app of a world.
type takeover struct{ w *world }

func (takeover) Address(url string) (string, error) { return url, nil }
func (takeover) Register(domain.Release)            {}
