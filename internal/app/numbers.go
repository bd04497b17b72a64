package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/metric"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/sample"
	"github.com/belay-cd/belay/internal/scrape"
)

// numbers gives the names of expressions their values: from the proxy's ticks, from the processes and from what the app
// itself exposes.
type numbers struct {
	book    *sample.Book
	samples *scrape.Samples
	list    func(ctx context.Context, app string, env domain.Environment) ([]domain.InstanceStatus, error)
}

// How long Verify waits for requests, and how many are enough.
const (
	verifyFor    = 10 * time.Second
	verifyEnough = 200
	verifyLeast  = 20 // below it, rates say nothing
)

// settle waits until next has served enough to be judged, where there is traffic at all.
func (n *numbers) settle(ctx context.Context, r *rollout.Rollout) {
	rec := r.Record
	if rec.Shifted == nil {
		return
	}
	busy := n.book.Sum(rec.App, rec.Environment, "", time.Now().Add(-time.Minute), time.Now()).Requests > 0
	end := time.Now().Add(verifyFor)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for busy && time.Now().Before(end) {
		if n.book.Sum(rec.App, rec.Environment, r.Next.ID, *rec.Shifted, time.Now()).Requests >= verifyEnough {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// limits are the two built-in verifications under traffic: the rate of errors, and p95 against the baseline.
func (n *numbers) limits(j delivery.CheckJob) []domain.CheckRecord {
	rec := j.Rollout.Record
	if rec.Shifted == nil {
		return nil
	}
	next := n.book.Sum(rec.App, rec.Environment, j.Rollout.Next.ID, *rec.Shifted, time.Now())
	errors := domain.CheckRecord{Name: "error rate", State: "not checked", Message: "no traffic"}
	latency := domain.CheckRecord{Name: "response time", State: "not checked", Message: "no traffic"}
	if next.Requests < verifyLeast {
		if next.Requests > 0 {
			errors.Message = fmt.Sprintf("only %d requests", next.Requests)
			latency.Message = errors.Message
		}
		return []domain.CheckRecord{errors, latency}
	}
	share := float64(next.Errors) / float64(next.Requests)
	errors.State, errors.Message = "passed", fmt.Sprintf("%.2f %% of %d requests failed (limit %g %%)", share*100, next.Requests, j.ErrorRate*100)
	if share >= j.ErrorRate {
		errors.State = "failed"
	}
	latency.Message = "no baseline"
	if j.Rollout.Stable == nil {
		return []domain.CheckRecord{errors, latency}
	}
	before := n.book.Sum(rec.App, rec.Environment, j.Rollout.Stable.ID, rec.Started.Add(-baselineSpan), rec.Started)
	if before.Requests < verifyLeast {
		return []domain.CheckRecord{errors, latency}
	}
	base, now := before.Latency.Quantile(0.95), next.Latency.Quantile(0.95)
	limit := time.Duration(float64(base)*(1+j.Latency)) + latencyGrain
	latency.State, latency.Message = "passed", fmt.Sprintf("p95 %s (limit %s)", millis(now), millis(limit))
	if now >= limit {
		latency.State = "failed"
	}
	return []domain.CheckRecord{errors, latency}
}

// latencyGrain is what p95 may differ by in any case: below it the machine itself is measured.
const latencyGrain = 5 * time.Millisecond

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// span is which release in which time a name is about.
type span struct {
	release  *domain.Release
	from, to time.Time
}

// lookup resolves names: plain is next, stable.x is stable now, baseline.x is stable before the rollout.
func (n *numbers) lookup(r *rollout.Rollout, f *config.File) func(string) (float64, bool) {
	return func(name string) (float64, bool) {
		now := time.Now()
		from := r.Record.Started
		if r.Record.Shifted != nil {
			from = *r.Record.Shifted
		}
		s := span{release: &r.Next, from: from, to: now}
		if rest, ok := strings.CutPrefix(name, "stable."); ok {
			name, s.release = rest, r.Stable
		} else if rest, ok := strings.CutPrefix(name, "baseline."); ok {
			name, s = rest, span{release: r.Stable, from: r.Record.Started.Add(-baselineSpan), to: r.Record.Started}
		}
		if s.release == nil {
			return 0, false
		}
		if f != nil {
			if m := f.Metrics[name]; m != nil && m.Query.Query != nil {
				v, err := m.Query.Query.Eval(scraped{n.samples, s})
				return v, err == nil
			}
		}
		return n.builtin(name, s)
	}
}

// builtin gives the names that need no declaration.
func (n *numbers) builtin(name string, s span) (float64, bool) {
	rel := s.release
	switch name {
	case "cpu":
		return n.total(s, scrape.CPUSeconds, scrape.Rate)
	case "memory":
		return n.total(s, scrape.MemoryBytes, last)
	case "restarts":
		return n.restarts(s)
	case "jobs_done", "jobs_failed", "jobs_lag":
		return n.jobs(name, s)
	}
	f := n.book.Sum(rel.App, rel.Environment, rel.ID, s.from, s.to).Figures()
	if f == nil {
		return 0, false
	}
	v, ok := map[string]float64{
		"error_rate": f.ErrorRate, "p50": f.P50, "p95": f.P95, "p99": f.P99, "requests_per_second": f.RPS,
	}[name]
	return v, ok
}

func (n *numbers) restarts(s span) (float64, bool) {
	list, err := n.list(context.Background(), s.release.App, s.release.Environment)
	total := 0
	for _, i := range list {
		if i.Release == s.release.ID {
			total += i.Restarts
		}
	}
	return float64(total), err == nil
}

// jobs reads the metrics that the roles name for their jobs.
func (n *numbers) jobs(name string, s span) (float64, bool) {
	for _, w := range s.release.Workloads {
		if w.Jobs == nil {
			continue
		}
		switch name {
		case "jobs_done":
			return n.total(s, w.Jobs.Done, scrape.Increase)
		case "jobs_failed":
			return n.total(s, w.Jobs.Failed, scrape.Increase)
		default:
			return n.total(s, w.Jobs.Lag, last)
		}
	}
	return 0, false
}

// total adds up a number over the series of a metric.
func (n *numbers) total(s span, metric string, of func([]scrape.Point) (float64, bool)) (float64, bool) {
	sum, found := 0.0, false
	for _, series := range n.samples.Points(metric, nil, scrape.Window{From: s.from, To: s.to}, s.release.ID) {
		if v, ok := of(series.Points); ok {
			sum, found = sum+v, true
		}
	}
	return sum, found
}

func last(p []scrape.Point) (float64, bool) {
	if len(p) == 0 {
		return 0, false
	}
	return p[len(p)-1].Value, true
}

// scraped lets a query read what one release exposed.
type scraped struct {
	samples *scrape.Samples
	span    span
}

// Range returns the series that match; window 0 is the span of the step that asks.
func (s scraped) Range(name string, matchers []metric.Matcher, window time.Duration) []metric.Series {
	w := scrape.Window{From: s.span.from, To: s.span.to}
	if window > 0 {
		w.From = w.To.Add(-window)
	}
	var wanted []scrape.Matcher
	for _, m := range matchers {
		op := "="
		if m.Negated {
			op = "!="
		}
		if k, err := scrape.NewMatcher(m.Label, op, m.Value); err == nil {
			wanted = append(wanted, k)
		}
	}
	var out []metric.Series
	for _, series := range s.samples.Points(name, wanted, w, s.span.release.ID) {
		points := make([]metric.Point, len(series.Points))
		for i, p := range series.Points {
			points[i] = metric.Point{At: p.At, Value: p.Value}
		}
		out = append(out, metric.Series{Labels: series.Labels, Points: points})
	}
	return out
}
