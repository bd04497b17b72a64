package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/check"
	"github.com/belay-cd/belay/internal/config"
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
	// scrapes tells how the latest scrape of each instance went; nil: nobody knows.
	scrapes func() []scrape.Status

	mu    sync.Mutex
	loads map[string]int // synthetic loads that run, by environment
}

// loading says that a synthetic load on an environment runs, until the returned function is called.
func (n *numbers) loading(app string, env domain.Environment) (over func()) {
	n.count(app, env, 1)
	return sync.OnceFunc(func() { n.count(app, env, -1) })
}

func (n *numbers) count(app string, env domain.Environment, by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.loads == nil {
		n.loads = map[string]int{}
	}
	n.loads[app+"/"+string(env)] += by
}

// busy reports whether an environment has traffic, of visitors or of Belay itself.
func (n *numbers) busy(app string, env domain.Environment) bool {
	n.mu.Lock()
	loaded := n.loads[app+"/"+string(env)] > 0
	n.mu.Unlock()
	return loaded || n.book.Sum(app, env, "", time.Now().Add(-time.Minute), time.Now()).Requests > 0
}

// span is which release in which time a name is about.
type span struct {
	release  *domain.Release
	from, to time.Time
}

// spanOfNext is next since its first traffic.
func spanOfNext(r *rollout.Rollout) span {
	s := span{release: &r.Next, from: r.Record.Started, to: time.Now()}
	if r.Record.Shifted != nil {
		s.from = *r.Record.Shifted
	}
	return s
}

// sideOf splits a name: plain is next, stable.x is stable now, baseline.x is stable before the rollout.
func sideOf(r *rollout.Rollout, name string) (plain string, s span, next bool) {
	s = spanOfNext(r)
	if rest, ok := strings.CutPrefix(name, "stable."); ok {
		s.release = r.Stable
		return rest, s, false
	}
	if rest, ok := strings.CutPrefix(name, "baseline."); ok {
		return rest, span{release: r.Stable, from: r.Record.Started.Add(-baselineSpan), to: r.Record.Started}, false
	}
	return name, s, true
}

// lookup resolves names.
func (n *numbers) lookup(r *rollout.Rollout, f *config.File) func(string) (float64, bool) {
	return func(name string) (float64, bool) {
		plain, s, _ := sideOf(r, name)
		if s.release == nil {
			return 0, false
		}
		if m := declaredMetric(f, plain); m != nil {
			v, err := m.Query.Query.Eval(scraped{n.samples, s})
			return v, err == nil
		}
		return n.builtin(plain, s)
	}
}

func declaredMetric(f *config.File, name string) *config.Metric {
	if f == nil || f.Metrics[name] == nil || f.Metrics[name].Query.Query == nil {
		return nil
	}
	return f.Metrics[name]
}

// absent says why a name has no number. What the file promises of next and its app does not expose is red.
func (n *numbers) absent(r *rollout.Rollout, f *config.File) func(string) check.Absence {
	return func(name string) check.Absence {
		plain, s, next := sideOf(r, name)
		if s.release == nil {
			return check.Absence{Why: "there is no stable release to compare with", Final: true}
		}
		var wanted []string
		switch m := declaredMetric(f, plain); {
		case m != nil:
			wanted = m.Query.Query.Metrics()
		case isRate(plain):
			requests := n.book.Sum(s.release.App, s.release.Environment, s.release.ID, s.from, s.to).Requests
			return check.Absence{Why: few(requests), Final: true}
		case plain == "db_connections":
			return check.Absence{Why: exposePools}
		case strings.HasPrefix(plain, "jobs_"):
			if wanted = jobMetrics(s.release, plain); len(wanted) == 0 {
				return check.Absence{Why: "no source: no role names it under jobs", Final: true}
			}
		}
		if why := n.unexposed(s.release, wanted...); why != "" {
			return check.Absence{Why: why, Red: next, Final: !next || !n.exposes(s.release)}
		}
		return check.Absence{Why: "no source: no samples in that time"}
	}
}

// isRate reports whether a name is made of requests.
func isRate(name string) bool {
	return slices.Contains([]string{"error_rate", "p50", "p95", "p99", "requests_per_second"}, name)
}

// few tells how many requests there were, where they are too few.
func few(requests int64) string {
	switch requests {
	case 0:
		return "no traffic"
	case 1:
		return "only 1 request"
	default:
		return fmt.Sprintf("only %d requests", requests)
	}
}

// unexposed says which of the metrics a release does not expose, and why that may be; "" when it exposes them all.
func (n *numbers) unexposed(rel *domain.Release, metrics ...string) string {
	known := n.samples.Names(rel.ID)
	var gone []string
	for _, name := range metrics {
		if name != "" && !slices.Contains(known, name) && !slices.Contains(known, name+"_bucket") {
			gone = append(gone, name)
		}
	}
	if len(gone) == 0 {
		return ""
	}
	why := "not exposed: " + strings.Join(gone, ", ")
	if !n.exposes(rel) {
		return why + " (no role names its metrics path)"
	}
	if n.scrapes == nil {
		return why
	}
	for _, s := range n.scrapes() {
		if s.Instance.Release == rel.ID && !s.OK && hasMetrics(rel, s.Instance.Role) {
			return why + " (" + s.Message + ")"
		}
	}
	return why
}

// hasMetrics reports whether a role says where its metrics are.
func hasMetrics(rel *domain.Release, role string) bool {
	return slices.ContainsFunc(rel.Workloads, func(w domain.Workload) bool { return w.Role == role && w.Metrics != "" })
}

// builtin gives the names that need no declaration.
func (n *numbers) builtin(name string, s span) (float64, bool) {
	rel := s.release
	switch name {
	case "cpu":
		return n.total(s, "", scrape.CPUSeconds, scrape.Rate)
	case "memory":
		return n.total(s, "", scrape.MemoryBytes, last)
	case "restarts":
		return n.restarts(s)
	case "db_connections":
		return n.connections(s)
	case "jobs_done", "jobs_failed", "jobs_lag":
		return n.jobs(name, s)
	}
	sum := n.book.Sum(rel.App, rel.Environment, rel.ID, s.from, s.to)
	f := sum.Figures()
	if f == nil || sum.Requests < verifyLeast {
		return 0, false
	}
	v, ok := map[string]float64{
		"error_rate": f.ErrorRate, "p50": f.P50, "p95": f.P95, "p99": f.P99, "requests_per_second": f.RPS,
	}[name]
	return v, ok
}

// connections adds up what is in use of the database connections that are exposed.
func (n *numbers) connections(s span) (float64, bool) {
	pools := n.samples.Pools(scrape.Window{From: s.from, To: s.to}, s.release.ID)
	total := 0.0
	for _, p := range pools {
		total += p.Used
	}
	return total, len(pools) > 0
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

// jobs adds up a number of the jobs of all roles that name it.
func (n *numbers) jobs(name string, s span) (float64, bool) {
	of := scrape.Increase
	if name == "jobs_lag" {
		of = last
	}
	sum, found := 0.0, false
	for _, metric := range jobMetrics(s.release, name) {
		if v, ok := n.total(s, "", metric, of); ok {
			sum, found = sum+v, true
		}
	}
	return sum, found
}

// jobMetrics lists the metrics that the roles of a release name for jobs_done, jobs_failed or jobs_lag, each once.
func jobMetrics(rel *domain.Release, name string) []string {
	var list []string
	for _, w := range rel.Workloads {
		if w.Jobs == nil {
			continue
		}
		metric := map[string]string{"jobs_done": w.Jobs.Done, "jobs_failed": w.Jobs.Failed, "jobs_lag": w.Jobs.Lag}[name]
		if metric != "" && !slices.Contains(list, metric) {
			list = append(list, metric)
		}
	}
	return list
}

// total adds up a number over the series of a metric, of one role or of all.
func (n *numbers) total(s span, role, metric string, of func([]scrape.Point) (float64, bool)) (float64, bool) {
	sum, found := 0.0, false
	for _, series := range n.samples.Points(metric, nil, scrape.Window{From: s.from, To: s.to}, s.release.ID) {
		if role != "" && series.Instance.Role != role {
			continue
		}
		if v, ok := of(series.Points); ok {
			sum, found = sum+v, true
		}
	}
	return sum, found
}

func first(p []scrape.Point) (float64, bool) {
	if len(p) == 0 {
		return 0, false
	}
	return p[0].Value, true
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
