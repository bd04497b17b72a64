package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/check"
	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/sample"
)

// measurements answers what the deliveries ask, from the ticks in memory and the driver's probes.
type measurements struct {
	book   *sample.Book
	list   func(ctx context.Context, app string, env domain.Environment) ([]domain.InstanceStatus, error)
	router *router
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
func (m *measurements) Figures(app string, env domain.Environment, release string, from, to time.Time) *domain.Figures {
	return m.book.Sum(app, env, release, from, to).Figures()
}

// Samples gives the guard its history, and runs the critical checks of the file beside it.
func (m *measurements) Samples(ctx context.Context, r *rollout.Rollout, f *config.File) (guard.Samples, func()) {
	ctx, cancel := context.WithCancel(ctx)
	s := &samples{m: m, r: r, critical: map[string]guard.Critical{}, subject: sample.Subject{App: r.Record.App, Environment: r.Record.Environment, Next: r.Next.ID}}
	if r.Stable != nil {
		s.subject.Stable = r.Stable.ID
		before := m.book.Sum(r.Record.App, r.Record.Environment, r.Stable.ID, r.Record.Started.Add(-baselineSpan), r.Record.Started)
		if before.Requests > 0 {
			s.baseline = before.Latency.Quantile(0.95)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.watchCritical(ctx, criticalChecks(f)) })
	return s, func() { cancel(); wg.Wait() }
}

// criticalChecks lists the critical checks of a file.
func criticalChecks(f *config.File) []check.Check {
	var list []check.Check
	if f == nil {
		return nil
	}
	for name, c := range f.Verify.Checks {
		if c.Critical {
			list = append(list, checkOf(name, c))
		}
	}
	return list
}

// samples is the history of one rollout.
type samples struct {
	m        *measurements
	r        *rollout.Rollout
	subject  sample.Subject
	baseline time.Duration

	mu       sync.Mutex
	critical map[string]guard.Critical
}

// History collects what was seen up to now.
func (s *samples) History(ctx context.Context, now time.Time, window time.Duration) (guard.History, error) {
	h := guard.History{Now: now, Last: s.m.book.Newest(), BaselineP95: s.baseline}
	if s.r.Record.Shifted != nil {
		h.Since = *s.r.Record.Shifted
	}
	from := now.Add(-window)
	if from.Before(h.Since) {
		from = h.Since
	}
	h.Seconds = s.m.book.Seconds(s.subject, from)
	list, err := s.m.list(ctx, s.subject.App, s.subject.Environment)
	if err != nil {
		return h, err
	}
	for _, i := range list {
		inst := s.instance(i, now)
		switch i.Release {
		case s.subject.Next:
			h.Next = append(h.Next, inst)
		case s.subject.Stable:
			h.Stable = append(h.Stable, inst)
		default:
			continue
		}
		if i.Started.After(h.Started) {
			h.Started = i.Started
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.critical {
		h.Critical = append(h.Critical, c)
	}
	return h, nil
}

// instance is what the guard sees of one. While it starts it is asked far more often than its probe says: that counts as
// often as the probe would have asked.
func (s *samples) instance(i domain.InstanceStatus, now time.Time) guard.Instance {
	inst := guard.Instance{Name: fmt.Sprintf("%s/%d", i.Role, i.Index), Failed: i.Failed, Restarts: i.Restarts,
		Starting: i.State == domain.Starting, Message: i.Message}
	switch i.State {
	case domain.Crashed:
		inst.Failed = max(inst.Failed, 1)
	case domain.Starting:
		every := config.DefaultProbeEvery
		for _, w := range s.r.Next.Workloads {
			if w.Role == i.Role && w.Probe.Every > 0 {
				every = w.Probe.Every
			}
		}
		inst.Failed = min(inst.Failed, int(now.Sub(i.Started)/every))
	}
	return inst
}

// Observed counts the ticks since from.
func (s *samples) Observed(_ context.Context, from time.Time) (int, error) {
	return s.m.book.Observed(from), nil
}

// Totals adds up what both releases served since from.
func (s *samples) Totals(_ context.Context, from time.Time) (stable, next guard.Side, err error) {
	side := func(release string) guard.Side {
		if release == "" {
			return guard.Side{}
		}
		sum := s.m.book.Sum(s.subject.App, s.subject.Environment, release, from, time.Now())
		return guard.Side{Requests: sum.Requests, Errors: sum.Errors, Unserved: sum.Unserved, Latency: &sum.Latency}
	}
	return side(s.subject.Stable), side(s.subject.Next), nil
}

// watchCritical asks the critical paths of next every ten seconds. A 5xx is confirmed at once, and stable is asked the
// same, so that a common cause is not blamed on next.
func (s *samples) watchCritical(ctx context.Context, list []check.Check) {
	runner := &check.Runner{}
	prober := check.Prober{Do: runner.One, Every: config.CriticalEvery}
	next := func() check.Target { t, _ := s.target(ctx, &s.r.Next); return t }
	stable := func() (check.Target, bool) { return s.target(ctx, s.r.Stable) }
	prober.Watch(ctx, list, next, stable, func(o check.Observation) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.critical, o.Name)
		if o.Breach || o.Shared {
			s.critical[o.Name] = guard.Critical{Name: o.Name, Message: o.Sentence, StableFails: o.Shared}
		}
	})
}

// target is one instance of a release, asked without a way around the proxy's retries.
func (s *samples) target(ctx context.Context, rel *domain.Release) (check.Target, bool) {
	if rel == nil {
		return check.Target{}, false
	}
	list, err := s.m.list(ctx, s.subject.App, s.subject.Environment)
	if err != nil {
		return check.Target{}, false
	}
	for _, i := range list {
		if i.Release == rel.ID && i.Addr != "" {
			return check.Target{URL: "http://" + i.Addr, Traffic: true}, true
		}
	}
	return check.Target{}, false
}
