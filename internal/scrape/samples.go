package scrape

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Point is one sample.
type Point struct {
	At    time.Time
	Value float64
}

// Series is one series of one instance within a window. Its points rise in time.
type Series struct {
	Instance domain.InstanceID
	Name     string
	Labels   map[string]string
	Points   []Point
}

// Window is a span of time, both ends in it. A zero To means now.
type Window struct{ From, To time.Time }

// Last is the window that ends now.
func Last(d time.Duration) Window { return Window{From: time.Now().Add(-d)} }

// Matcher is a condition on one label. A label that a series lacks counts as "".
type Matcher struct {
	Label string
	op    string
	value string
	re    *regexp.Regexp
}

// NewMatcher makes a matcher; op is =, !=, =~ or !~, and a pattern must match the whole value.
func NewMatcher(label, op, value string) (Matcher, error) {
	m := Matcher{Label: label, op: op, value: value}
	switch op {
	case "=", "!=":
		return m, nil
	case "=~", "!~":
		re, err := regexp.Compile("^(?s:" + value + ")$")
		if err != nil {
			return Matcher{}, domain.Errorf(domain.Invalid, "matcher %s%s%q: %w", label, op, value, err)
		}
		m.re = re
		return m, nil
	default:
		return Matcher{}, domain.Errorf(domain.Invalid, "matcher %s: unknown operator %q", label, op).WithHint("use =, !=, =~ or !~")
	}
}

func (m Matcher) matches(labels map[string]string) bool {
	v := labels[m.Label]
	switch m.op {
	case "=":
		return v == m.value
	case "!=":
		return v != m.value
	case "=~":
		return m.re.MatchString(v)
	default:
		return !m.re.MatchString(v)
	}
}

// Limits bound what is kept in memory. A zero field takes its default.
type Limits struct {
	Keep           time.Duration // age of the oldest sample; 2 h
	InstanceSeries int           // series of one instance; 1,000
	AppSeries      int           // series of one app in all its environments and releases; 4,000
	// AppChanges is how many values of one app that differ from the one before are kept, at 24 bytes each: 1,000,000. An
	// app beyond it keeps a shorter history.
	AppChanges int
}

func (l Limits) withDefaults() Limits {
	if l.Keep <= 0 {
		l.Keep = 2 * time.Hour
	}
	if l.InstanceSeries <= 0 {
		l.InstanceSeries = 1000
	}
	if l.AppSeries <= 0 {
		l.AppSeries = 4000
	}
	if l.AppChanges <= 0 {
		l.AppChanges = 1_000_000
	}
	return l
}

// Samples keeps what was scraped, in memory. It is safe for concurrent use.
type Samples struct {
	limits    Limits
	mu        sync.RWMutex
	instances map[domain.InstanceID]*instance
	apps      map[string]*usage
}

// usage is what one app costs.
type usage struct{ series, runs int }

// NewSamples makes an empty store.
func NewSamples(limits Limits) *Samples {
	return &Samples{limits: limits.withDefaults(), instances: map[domain.InstanceID]*instance{}, apps: map[string]*usage{}}
}

// instance holds the series of one instance, by key.
type instance struct{ series map[string]*series }

// series is a run-length list: most series of an app do not change between two scrapes, and cost nothing then.
type series struct {
	name   string
	labels map[string]string
	runs   []run
}

// run is n samples of one value. They are taken as equally far apart, which scrapes are.
type run struct {
	first int64 // milliseconds of Unix time
	span  int32 // milliseconds from the first to the last
	n     int32
	value float64
}

func (r run) last() int64 { return r.first + int64(r.span) }

// add stores one scrape of one instance, whole or not at all. Belay's own samples are under no limit.
func (s *Samples) add(id domain.InstanceID, at time.Time, samples []sample, own bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	inst, app := s.instances[id], s.apps[id.App]
	if inst == nil {
		inst = &instance{series: map[string]*series{}}
	}
	if app == nil {
		app = &usage{}
	}
	keys := make([]string, len(samples))
	fresh := 0
	for i, sm := range samples {
		keys[i] = key(sm.name, sm.labels)
		if inst.series[keys[i]] == nil {
			fresh++
		}
	}
	if n := len(inst.series) + fresh; !own && n > s.limits.InstanceSeries {
		return fmt.Errorf("%d series within %s, above %d", n, s.limits.Keep, s.limits.InstanceSeries)
	}
	if n := app.series + fresh; !own && n > s.limits.AppSeries {
		return fmt.Errorf("%d series of app %s within %s, above %d", n, id.App, s.limits.Keep, s.limits.AppSeries)
	}
	s.instances[id], s.apps[id.App] = inst, app
	for i, sm := range samples {
		ser := inst.series[keys[i]]
		if ser == nil {
			ser = &series{name: sm.name, labels: sm.labels}
			inst.series[keys[i]] = ser
			app.series++
		}
		app.runs += ser.add(at.UnixMilli(), sm.value)
	}
	for keep := s.limits.Keep; app.runs > s.limits.AppChanges && keep > time.Second; keep /= 2 {
		s.forgetApp(id.App, at.Add(-keep))
	}
	return nil
}

// A run ends at a hole of 15 s in milliseconds, which must be seen, and after 128 samples, so that old ones can go.
const (
	maxGap = 15_000
	maxRun = 128
)

// add returns how many runs it added.
func (s *series) add(at int64, value float64) int {
	if n := len(s.runs); n > 0 {
		r := &s.runs[n-1]
		if at <= r.last() {
			return 0 // given twice, or the clock went back: the order is worth more than the sample
		}
		if math.Float64bits(r.value) == math.Float64bits(value) && at-r.last() <= maxGap && r.n < maxRun {
			r.span, r.n = int32(at-r.first), r.n+1
			return 0
		}
	}
	s.runs = append(s.runs, run{first: at, n: 1, value: value})
	return 1
}

// forget drops the runs that ended before oldest, and returns how many they were.
func (s *series) forget(oldest int64) int {
	n := 0
	for n < len(s.runs) && s.runs[n].last() < oldest {
		n++
	}
	s.runs = s.runs[n:] // the next growth frees the front
	return n
}

func (s *series) points(from, to int64) []Point {
	var list []Point
	for _, r := range s.runs {
		if r.last() < from || r.first > to {
			continue
		}
		for i := range int64(r.n) {
			at := r.first
			if r.n > 1 {
				at += int64(r.span) * i / int64(r.n-1)
			}
			if at >= from && at <= to {
				list = append(list, Point{time.UnixMilli(at), r.value})
			}
		}
	}
	return list
}

// Points returns the series of a metric that match, with their samples in the window. release "" means every release.
// Series without a sample in the window are left out. The order is that of instance and labels.
func (s *Samples) Points(name string, matchers []Matcher, window Window, release string) []Series {
	to := window.To
	if to.IsZero() {
		to = time.Now()
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	type found struct {
		key string
		Series
	}
	var list []found
	for id, inst := range s.instances {
		if release != "" && id.Release != release {
			continue
		}
		for k, ser := range inst.series {
			if ser.name != name || !all(matchers, ser.labels) {
				continue
			}
			if points := ser.points(window.From.UnixMilli(), to.UnixMilli()); len(points) > 0 {
				list = append(list, found{id.String() + k, Series{id, name, ser.labels, points}})
			}
		}
	}
	slices.SortFunc(list, func(a, b found) int { return strings.Compare(a.key, b.key) })
	out := make([]Series, len(list))
	for i, f := range list {
		out[i] = f.Series
	}
	return out
}

func all(matchers []Matcher, labels map[string]string) bool {
	for _, m := range matchers {
		if !m.matches(labels) {
			return false
		}
	}
	return true
}

// Names returns the metrics that were scraped of a release, sorted: what "did you mean" chooses from.
func (s *Samples) Names(release string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	seen := map[string]bool{}
	for id, inst := range s.instances {
		if id.Release != release {
			continue
		}
		for _, ser := range inst.series {
			seen[ser.name] = true
		}
	}
	list := make([]string, 0, len(seen))
	for name := range seen {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// forget drops what is older than the limit, also of instances that are gone.
func (s *Samples) forget(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for app := range s.apps {
		s.forgetApp(app, now.Add(-s.limits.Keep))
	}
}

func (s *Samples) forgetApp(name string, oldest time.Time) {
	app := s.apps[name]
	for id, inst := range s.instances {
		if id.App != name {
			continue
		}
		for k, ser := range inst.series {
			app.runs -= ser.forget(oldest.UnixMilli())
			if len(ser.runs) == 0 {
				delete(inst.series, k)
				app.series--
			}
		}
		if len(inst.series) == 0 {
			delete(s.instances, id)
		}
	}
	if app.series == 0 {
		delete(s.apps, name)
	}
}

// key names a series within its instance. Lengths keep two label sets from having the same bytes.
func key(name string, labels map[string]string) string {
	names := make([]string, 0, len(labels))
	for l := range labels {
		names = append(names, l)
	}
	slices.Sort(names)
	var b strings.Builder
	b.WriteString(name)
	for _, l := range names {
		fmt.Fprintf(&b, "\x00%s\x00%d\x00%s", l, len(labels[l]), labels[l])
	}
	return b.String()
}

// Increase is how much a counter grew over points. A value below the one before is a restart: the counter began again at
// 0. It needs two points; nothing is extrapolated to the ends of the window.
func Increase(points []Point) (float64, bool) {
	if len(points) < 2 {
		return 0, false
	}
	sum := 0.0
	for i := 1; i < len(points); i++ {
		before, now := points[i-1].Value, points[i].Value
		if now < before {
			before = 0
		}
		sum += now - before
	}
	return sum, !math.IsNaN(sum) && !math.IsInf(sum, 0)
}

// Rate is Increase per second between the first and the last point.
func Rate(points []Point) (float64, bool) {
	sum, ok := Increase(points)
	if !ok {
		return 0, false
	}
	seconds := points[len(points)-1].At.Sub(points[0].At).Seconds()
	if seconds <= 0 {
		return 0, false
	}
	return sum / seconds, true
}
