package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/metric"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/sample"
	"github.com/belay-cd/belay/internal/scrape"
)

// business compares what the instances of both releases tell of themselves, and what the kernel tells of their processes.
type business struct {
	book    *sample.Book
	samples *scrape.Samples
	// scrapes tells how the latest scrape of each instance went.
	scrapes func() []scrape.Status
}

// settled is how late the proxy's ticks may come.
const settled = 3 * time.Second

// Compare evaluates every metric of the file, and what the processes use, for each release by itself.
//
// A number that grows with the traffic is reckoned for one request, one that grows with the instances for one instance: next
// with 5 % of the traffic has a nineteenth of stable's orders by design. Of roles that serve no requests it is an instance that
// does the work.
func (b *business) Compare(_ context.Context, r *rollout.Rollout, f *config.File, from, to time.Time) ([]delivery.Compared, bool) {
	if r.Stable == nil {
		return nil, true
	}
	from, to = from.Add(-settled), to.Add(-settled)
	c := both{b: b, next: &r.Next, stable: r.Stable, from: from, to: to}
	if takesRequests(c.next) {
		c.nextRequests, c.stableRequests = c.requests(c.next, from, to), c.requests(c.stable, from, to)
		if min(c.nextRequests, c.stableRequests) < config.WarnRequests {
			return nil, false
		}
	}
	var list []delivery.Compared
	if f != nil {
		for _, name := range slices.Sorted(maps.Keys(f.Metrics)) {
			if m := declaredMetric(f, name); m != nil {
				list = c.query(list, name, m)
			}
		}
	}
	return c.resources(list), true
}

// takesRequests reports whether a release has a role that gets requests.
func takesRequests(rel *domain.Release) bool {
	return slices.ContainsFunc(rel.Workloads, func(w domain.Workload) bool { return w.Kind == domain.Web || w.Kind == "" })
}

// both are two releases in one span.
type both struct {
	b                            *business
	next, stable                 *domain.Release
	from, to                     time.Time
	nextRequests, stableRequests float64
}

// requests counts what a release served after from and up to to.
func (c both) requests(rel *domain.Release, from, to time.Time) float64 {
	return float64(c.b.book.Sum(rel.App, rel.Environment, rel.ID, from, to).Requests)
}

// query compares a metric of the file. Where only one release says anything, the other one's counters are taken as 0 if it was
// asked: most libraries do not expose a counter before it counts.
func (c both) query(list []delivery.Compared, name string, m *config.Metric) []delivery.Compared {
	out := delivery.Compared{Name: name, Good: m.Good, Unit: string(m.Unit), Factor: 1}
	scale, err := m.Query.Query.Scale()
	if err != nil {
		out.Why = "not compared: " + err.Error()
		return append(list, out)
	}
	next, nextErr := c.read(c.next, m.Query.Query, scale, false)
	stable, stableErr := c.read(c.stable, m.Query.Query, scale, false)
	switch {
	case errors.Is(nextErr, metric.ErrNoData) && stableErr == nil && c.asked(c.next):
		next, nextErr = c.read(c.next, m.Query.Query, scale, true)
		next.roles = stable.roles
	case errors.Is(stableErr, metric.ErrNoData) && nextErr == nil && c.asked(c.stable):
		stable, stableErr = c.read(c.stable, m.Query.Query, scale, true)
		stable.roles = next.roles
	}
	if nextErr != nil || stableErr != nil {
		return list
	}
	if scale.Requests > 0 && mixed(next.roles, stable.roles) {
		out.Why = "not compared: roles with requests and roles without expose it"
		return append(list, out)
	}
	switch {
	case scale.Requests == 0 && scale.Instances == 0:
		out.Block = judge.Block{Next: next.value, Stable: stable.value}
	case scale.Requests > 0 && next.roles[true]:
		if min(next.requests, stable.requests, next.seconds, stable.seconds) <= 0 {
			return list
		}
		out.Block = judge.Block{Next: next.perRequest(scale), Stable: stable.perRequest(scale), NextOf: next.requests, StableOf: stable.requests}
		out.Per = "a request"
		if scale.Seconds < 0 {
			out.Per, out.Factor = "at equal traffic", next.requests/next.seconds+stable.requests/stable.seconds
		}
	default:
		out.Per = "an instance"
		out.Block = judge.Block{Next: next.perInstance(scale), Stable: stable.perInstance(scale)}
	}
	return append(list, out)
}

// mixed reports whether both roles with requests and roles without are among the two.
func mixed(a, b map[bool]bool) bool { return (a[true] || b[true]) && (a[false] || b[false]) }

// asked reports whether the metrics of a release came in during the span.
func (c both) asked(rel *domain.Release) bool {
	return c.b.scrapes != nil && slices.ContainsFunc(c.b.scrapes(), func(s scrape.Status) bool {
		return s.Instance.Release == rel.ID && s.OK && s.At.After(c.from)
	})
}

// reading is a query's number of one release, with what it grew with.
type reading struct {
	value     float64
	requests  float64 // while its counters counted
	seconds   float64 // for how long that was
	instances float64
	roles     map[bool]bool // kinds of roles that expose it: with requests, without
}

func (r reading) perRequest(s metric.Scale) float64 {
	v := r.value / r.requests
	if s.Seconds < 0 {
		v *= r.seconds
	}
	return r.each(v, s.Instances)
}

func (r reading) perInstance(s metric.Scale) float64 { return r.each(r.value, s.Instances+s.Requests) }

// each divides by the instances as often as that.
func (r reading) each(v float64, times int) float64 {
	switch {
	case times > 0:
		return v / max(1, r.instances)
	case times < 0:
		return v * max(1, r.instances)
	}
	return v
}

// read evaluates a query for one release. Gauges are read as often as they are collected, and averaged.
func (c both) read(rel *domain.Release, q *metric.Query, s metric.Scale, fill bool) (reading, error) {
	if !s.Momentary {
		t := &taken{b: c.b, rel: rel, from: c.from.Add(-config.MetricsEvery), to: c.to}
		if fill {
			t.counters = s.Counters
		}
		v, err := q.Eval(t)
		r := t.reading(v)
		from, to := t.span()
		r.requests, r.seconds = c.requests(rel, from, to), to.Sub(from).Seconds()
		return r, err
	}
	var sum reading
	n := 0.0
	for at := c.to; at.After(c.from); at = at.Add(-config.MetricsEvery) {
		t := &taken{b: c.b, rel: rel, from: at.Add(-2 * config.MetricsEvery), to: at}
		v, err := q.Eval(t)
		if errors.Is(err, metric.ErrNoData) {
			continue
		}
		if err != nil {
			return sum, err
		}
		r := t.reading(v)
		n++
		sum.value += (r.value - sum.value) / n
		sum.instances += (r.instances - sum.instances) / n
		sum.roles = r.roles
	}
	if n == 0 {
		return sum, fmt.Errorf("%s: %w", q, metric.ErrNoData)
	}
	return sum, nil
}

// taken lets a query read what one release exposed in a span, and notes what it read. The windows that the query names are
// not kept to: two spans of a comparison may not overlap.
type taken struct {
	b        *business
	rel      *domain.Release
	from, to time.Time
	counters []string // that are taken as 0 when they are not there

	instances   map[domain.InstanceID]bool
	first, last time.Duration // after from, added up over the series
	series      int
}

// Range returns the series that match.
func (t *taken) Range(name string, matchers []metric.Matcher, _ time.Duration) []metric.Series {
	out := scraped{t.b.samples, span{t.rel, t.from, t.to}}.Range(name, matchers, 0)
	if len(out) == 0 && slices.Contains(t.counters, name) {
		return []metric.Series{{Points: []metric.Point{{At: t.from}, {At: t.to}}}}
	}
	for _, s := range out {
		t.series++
		t.first += s.Points[0].At.Sub(t.from)
		t.last += s.Points[len(s.Points)-1].At.Sub(t.from)
	}
	if t.instances == nil {
		t.instances = map[domain.InstanceID]bool{}
	}
	for _, s := range t.b.samples.Points(name, nil, scrape.Window{From: t.from, To: t.to}, t.rel.ID) {
		t.instances[s.Instance] = true
	}
	return out
}

// span is the time between the first and the last samples, on average over the series: the requests of that time belong to them.
func (t *taken) span() (from, to time.Time) {
	if t.series == 0 {
		return t.from, t.to
	}
	n := time.Duration(t.series)
	return t.from.Add(t.first / n), t.from.Add(t.last / n)
}

func (t *taken) reading(v float64) reading {
	r := reading{value: v, instances: float64(len(t.instances)), roles: map[bool]bool{}}
	for id := range t.instances {
		for _, w := range t.rel.Workloads {
			if w.Role == id.Role {
				r.roles[w.Kind == domain.Web || w.Kind == ""] = true
			}
		}
	}
	return r
}

// resources compares the memory of an instance and the CPU of each role that both releases run.
//
// What an instance does without requests is not known, so the CPU that stable would have taken is the larger one of what it
// takes for as many requests and of what it takes for as many instances: at a small weight next must take very much more before
// it is warned of, at equal weights all of a difference is seen.
func (c both) resources(list []delivery.Compared) []delivery.Compared {
	several := len(c.next.Workloads) > 1
	for _, w := range c.next.Workloads {
		if w.Kind == domain.Cron || !slices.ContainsFunc(c.stable.Workloads, func(o domain.Workload) bool { return o.Role == w.Role }) {
			continue
		}
		of := ""
		if several {
			of = " of " + w.Role
		}
		nextMemory, _, nextOK := c.used(c.next, w.Role, scrape.MemoryBytes, averaged)
		stableMemory, _, stableOK := c.used(c.stable, w.Role, scrape.MemoryBytes, averaged)
		if nextOK && stableOK {
			list = append(list, delivery.Compared{Name: "memory" + of, Good: "down", Unit: "bytes", Per: "an instance", Factor: 1,
				Block: judge.Block{Next: nextMemory, Stable: stableMemory}})
		}
		nextCPU, n, nextOK := c.used(c.next, w.Role, scrape.CPUSeconds, scrape.Rate)
		stableCPU, m, stableOK := c.used(c.stable, w.Role, scrape.CPUSeconds, scrape.Rate)
		if !nextOK || !stableOK {
			continue
		}
		share := n / m
		if w.Kind == domain.Web || w.Kind == "" {
			share = shareOf(n, m, c.nextRequests, c.stableRequests)
		}
		list = append(list, delivery.Compared{Name: "cpu" + of, Good: "down", Unit: "cores", Per: "for its share of the work", Factor: 1,
			Block: judge.Block{Next: nextCPU * n, Stable: stableCPU * m * share}})
	}
	return list
}

// shareOf is what next may take of what stable takes, with n instances to m and as many requests.
func shareOf(n, m, next, stable float64) float64 { return max(n/m, next/stable) }

// used is the mean over the instances of a role, and how many they are.
func (c both) used(rel *domain.Release, role, name string, of func([]scrape.Point) (float64, bool)) (mean, n float64, ok bool) {
	for _, s := range c.b.samples.Points(name, nil, scrape.Window{From: c.from.Add(-config.MetricsEvery), To: c.to}, rel.ID) {
		if s.Instance.Role != role {
			continue
		}
		if v, known := of(s.Points); known {
			n++
			mean += (v - mean) / n
		}
	}
	return mean, n, n > 0
}

func averaged(points []scrape.Point) (float64, bool) {
	sum := 0.0
	for _, p := range points {
		sum += p.Value
	}
	return sum / float64(len(points)), len(points) > 0
}
