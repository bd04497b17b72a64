package app

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/check"
	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/sample"
)

// Samples gives the guard its history, the judge's word in it, and runs the critical checks of the file beside it.
func (m *measurements) Samples(ctx context.Context, r *rollout.Rollout, f *config.File, c judge.Config) (guard.Samples, func()) {
	ctx, cancel := context.WithCancel(ctx)
	s := m.watched(r.View(), r)
	s.judged = c
	var wg sync.WaitGroup
	wg.Go(func() { s.watchCritical(ctx, criticalChecks(f)) })
	return s, func() { cancel(); wg.Wait() }
}

// watched prepares the history of a rollout.
func (m *measurements) watched(now, r *rollout.Rollout) *samples {
	rec := now.Record
	s := &samples{
		m: m, r: r, critical: map[string]guard.Critical{}, marks: map[int64]int64{}, begun: map[domain.InstanceID]beginning{},
		subject: sample.Subject{App: rec.App, Environment: rec.Environment, Next: r.Next.ID},
		next:    consumers{scrape: m.scrape, release: &r.Next},
	}
	if r.Stable != nil {
		s.subject.Stable = r.Stable.ID
		s.stable = consumers{scrape: m.scrape, release: r.Stable}
		from := rec.Started.Add(-baselineSpan)
		before := m.book.Sum(rec.App, rec.Environment, r.Stable.ID, from, rec.Started)
		s.baseline, s.parts, s.lag = before.Latency.Quantile(0.95), before.Parts, s.stable.longest(from, rec.Started)
		if stored := storedBaseline(rec); stored > 0 {
			s.baseline = stored
		}
	}
	s.tape = m.book.Tape(s.subject)
	return s
}

// storedBaseline is the p95 before the rollout as it was fixed when the rollout began; 0 when none was.
func storedBaseline(rec domain.RolloutRecord) time.Duration {
	var fixed struct {
		Baseline *domain.Figures `json:"baseline"`
	}
	if err := json.Unmarshal(rec.Config, &fixed); err != nil || fixed.Baseline == nil {
		return 0
	}
	return time.Duration(fixed.Baseline.P95 * float64(time.Second))
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

// samples is the history of one rollout, while one guard watches it. Times that were noted before the wall clock jumped are
// given to the guard as if the clock had always been what it is now.
type samples struct {
	m       *measurements
	r       *rollout.Rollout
	subject sample.Subject
	judged  judge.Config // without Alpha: by nobody
	// What was before the rollout.
	baseline time.Duration
	parts    []guard.Part
	lag      float64

	look         sync.Mutex // one at a time
	tape         *sample.Tape
	since        noted
	marks        map[int64]int64 // where the ticks after a time are counted from
	begun        map[domain.InstanceID]beginning
	deaf         bool // the evidence could not be read
	stable, next consumers

	mu       sync.Mutex
	critical map[string]guard.Critical
}

// noted is a time, and how far the clock had jumped when it was noted.
type noted struct {
	at    time.Time
	drift time.Duration
}

// now is the time by the clock of now.
func (n noted) now(drift time.Duration) time.Time { return n.at.Add(drift - n.drift) }

// beginning is how an instance was when it was seen first.
type beginning struct {
	started  noted
	restarts int
}

// History collects what was seen up to now.
func (s *samples) History(ctx context.Context, now time.Time, window time.Duration) (guard.History, error) {
	s.look.Lock()
	defer s.look.Unlock()
	drift := s.tape.Drift()
	if shifted := s.r.View().Record.Shifted; shifted != nil && s.since.at.IsZero() {
		s.since = noted{*shifted, drift}
	}
	h := guard.History{Now: now, Last: s.m.book.Arrived(), BaselineP95: s.baseline, BaselineParts: s.parts, BaselineLag: s.lag}
	h.Seconds = s.tape.Seconds(window, s.since.now(drift))
	drift = s.tape.Drift()
	if !s.since.at.IsZero() {
		h.Since = s.since.now(drift)
	}
	s.addJobs(h.Seconds, now)
	h.Evidence = s.evidence(ctx)
	list, err := s.m.list(ctx, s.subject.App, s.subject.Environment)
	if err != nil {
		return h, err
	}
	for _, i := range list {
		switch i.Release {
		case s.subject.Next:
			h.Next = s.instance(h.Next, i, &s.r.Next, now, drift)
		case s.subject.Stable:
			h.Stable = s.instance(h.Stable, i, s.r.Stable, now, drift)
		}
	}
	for _, list := range [][]guard.Instance{h.Stable, h.Next} {
		for _, i := range list {
			if i.Traffic && i.Started.After(h.Started) {
				h.Started = i.Started
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.critical {
		h.Critical = append(h.Critical, c)
	}
	return h, nil
}

// evidence is what the judge says; nil when nobody was asked. Evidence that cannot be read holds the rollout: to go on
// without it would be to begin again with a new chance of blaming the innocent.
func (s *samples) evidence(ctx context.Context) *judge.Verdict {
	if s.judged.Alpha <= 0 {
		return nil
	}
	rec := s.r.View().Record
	if err := s.m.judges.seat(ctx, rec, s.judged); err != nil {
		if !s.deaf {
			s.m.judges.log.Error("read the evidence of a rollout", "rollout", rec.ID, "error", err)
		}
		s.deaf = true
		return &judge.Verdict{Decision: judge.Hold, Metric: "numbers", Sentence: "the evidence up to now cannot be read: " + err.Error()}
	}
	s.deaf = false
	v, ok := s.m.judges.jury.Verdict(rec.ID)
	if !ok { // the rollout is over
		return nil
	}
	return &v
}

// addJobs adds what the consumers told since they were looked at before to the newest second.
func (s *samples) addJobs(seconds []guard.Second, now time.Time) {
	if len(seconds) == 0 {
		return
	}
	newest := &seconds[len(seconds)-1]
	if newest.Stable.Jobs == nil {
		newest.Stable.Jobs = s.stable.look(now)
	}
	if newest.Next.Jobs == nil {
		newest.Next.Jobs = s.next.look(now)
	}
}

// instance adds what the guard sees of one: nothing of a scheduled role's. While it starts it is asked far more often than
// its probe says: that counts as often as the probe would have asked. Of stable only what happens while the guard watches
// counts as a restart.
func (s *samples) instance(list []guard.Instance, i domain.InstanceStatus, rel *domain.Release, now time.Time, drift time.Duration) []guard.Instance {
	var role domain.Workload
	for _, w := range rel.Workloads {
		if w.Role == i.Role {
			role = w
		}
	}
	if role.Kind == domain.Cron {
		return list
	}
	seen, known := s.begun[i.InstanceID]
	if !known || !seen.started.at.Equal(i.Started) {
		if !known {
			seen.restarts = i.Restarts
		}
		seen.started = noted{i.Started, drift}
		s.begun[i.InstanceID] = seen
	}
	inst := guard.Instance{Name: fmt.Sprintf("%s/%d", i.Role, i.Index), Failed: i.Failed, Restarts: i.Restarts,
		Starting: i.State == domain.Starting, Message: i.Message,
		Traffic: role.Kind == domain.Web || role.Kind == "", Jobs: role.Jobs != nil}
	if !i.Started.IsZero() {
		inst.Started = seen.started.now(drift)
	}
	if i.Release == s.subject.Stable {
		inst.Restarts = max(0, i.Restarts-seen.restarts)
	}
	switch i.State {
	case domain.Crashed:
		inst.Failed = max(inst.Failed, 1)
	case domain.Starting:
		every := config.DefaultProbeEvery
		if role.Probe.Every > 0 {
			every = role.Probe.Every
		}
		inst.Failed = min(inst.Failed, int(now.Sub(inst.Started)/every))
	}
	return append(list, inst)
}

// Observed counts the ticks since from, always from the same one.
func (s *samples) Observed(_ context.Context, from time.Time) (int, error) {
	s.look.Lock()
	defer s.look.Unlock()
	mark, known := s.marks[from.UnixNano()]
	if !known {
		mark = s.m.book.Mark(from)
		s.marks[from.UnixNano()] = mark
	}
	return s.m.book.ObservedFrom(mark), nil
}

// Totals adds up what both releases served since from, and the jobs that were done while this guard watched.
func (s *samples) Totals(_ context.Context, from time.Time) (stable, next guard.Side, err error) {
	s.look.Lock()
	defer s.look.Unlock()
	side := func(release string, jobs *guard.Jobs) guard.Side {
		if release == "" {
			return guard.Side{}
		}
		sum := s.m.book.Sum(s.subject.App, s.subject.Environment, release, from, time.Now())
		return guard.Side{Requests: sum.Requests, Errors: sum.Errors, Unserved: sum.Unserved, Latency: &sum.Latency,
			Parts: sum.Parts, Jobs: jobs}
	}
	return side(s.subject.Stable, s.stable.total()), side(s.subject.Next, s.next.total()), nil
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
