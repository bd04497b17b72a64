package rollout

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/journal"
)

// machine is the model of everything outside the engine: what survives a crash of the process. Instances are processes of
// their own that go on starting, crash and come back whatever becomes of who started them; the data plane keeps its table
// and its latch; the store keeps its records. It judges each effect at the instant of it, and keeps the first wrong one.
type machine struct {
	course course
	fleet  Fleet // with what is a singleton in either release marked as one in both
	single map[string]bool
	plan   Plan
	stable *domain.Release
	next   *domain.Release

	mu      sync.Mutex
	began   time.Time
	procs   map[domain.InstanceID]*proc
	left    map[domain.InstanceID]bool // out of the traffic
	records map[string][]byte
	rollout domain.RolloutRecord
	table   Split // of the data plane; names no rollout where there is no route to carry it
	asked   Split // the last split that was done, with or without a route
	back    bool  // a rollback has begun
	wish    chan struct{}
	bakes   map[int]time.Time // since when
	baked   map[int]bool
	watched time.Time // end of the last bake
	lowered time.Time // first split that went back
	pages   int
	told    *RolledBack
	notes   []string // what was done, in order
	lives   int
	wrong   error
}

type proc struct {
	inst     domain.Instance
	state    domain.InstanceState
	since    time.Time
	restarts int
}

const (
	startTakes = time.Second
	stopTakes  = 200 * time.Millisecond
	startsIn   = 10 * time.Second // then Start gives up
	comesBack  = 2 * time.Second  // a crashed instance
	tick       = 50 * time.Millisecond
)

var errGone = errors.New("the process is dead")

func newMachine(c course) *machine {
	f := Fleet{Environment: domain.Production, Stable: roles(mixes[c.mix][0]), Next: roles(mixes[c.mix][1])}
	if c.first {
		f.Stable = nil
	}
	m := &machine{course: c, single: map[string]bool{}, began: time.Now(), procs: map[domain.InstanceID]*proc{}, left: map[domain.InstanceID]bool{},
		records: map[string][]byte{}, wish: make(chan struct{}), bakes: map[int]time.Time{}, baked: map[int]bool{}}
	m.rollout = domain.RolloutRecord{ID: "rol_1", App: "shop", Environment: domain.Production, State: domain.RolloutOpen}
	m.next = releaseOf("v2", f.Next)
	if !c.first {
		m.stable = releaseOf("v1", f.Stable)
		m.table = Split{Stable: m.stable}
		m.asked = m.table
	}
	m.plan = New(f, Settings{Strategy: c.strategy, Steps: []Weight{{Weight: 500, Hold: modelStep}, {Weight: 5000, Hold: modelStep}},
		Holdback: map[bool]int{true: 500}[c.holdback], Soak: modelStep, Hold: modelHold})
	if c.back {
		m.plan = Return(f)
	}
	m.fleet = f.alone()
	for _, list := range [][]Role{m.fleet.Stable, m.fleet.Next} {
		for _, r := range list {
			m.single[r.Name] = m.single[r.Name] || r.Kind == domain.Singleton
		}
	}
	for _, r := range f.Stable {
		for i := range r.Instances {
			inst := InstanceOf(m.stable, r.Name, i)
			m.procs[inst.InstanceID] = &proc{inst: inst, state: domain.Healthy}
		}
	}
	return m
}

func releaseOf(id string, roles []Role) *domain.Release {
	rel := &domain.Release{ID: id, App: "shop", Environment: domain.Production}
	for _, r := range roles {
		rel.Workloads = append(rel.Workloads, domain.Workload{Role: r.Name, Kind: r.Kind, Instances: r.Instances, Drain: 2 * time.Second})
	}
	return rel
}

// fail keeps the first thing that was wrong. The caller holds the lock.
func (m *machine) fail(format string, args ...any) {
	if m.wrong == nil {
		m.wrong = fmt.Errorf("after %s: "+format, append([]any{time.Since(m.began)}, args...)...)
	}
}

func (m *machine) note(format string, args ...any) {
	m.notes = append(m.notes, fmt.Sprintf(format, args...))
}

// in reports whether now is within a span of the course.
func (m *machine) in(s span) bool {
	now := time.Since(m.began)
	return now >= s.from() && now < s.to()
}

// boot lets an instance become healthy, unless it may not. The caller holds the lock.
func (m *machine) boot(p *proc) {
	p.state, p.since = domain.Starting, time.Now()
	m.judgeSingletons()
	since := p.since
	time.AfterFunc(startTakes, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if p.state != domain.Starting || !p.since.Equal(since) || m.procs[p.inst.InstanceID] != p {
			return
		}
		switch f := m.course.starts; {
		case f.release != p.inst.Release || !m.in(f.span):
			p.state = domain.Healthy
		case f.hangs:
			time.AfterFunc(f.to()-time.Since(m.began)+startTakes, func() { m.kill(p.inst.InstanceID) })
		default:
			m.crash(p)
		}
	})
}

// crash ends a process; it comes back by itself as long as it is wanted. The caller holds the lock.
func (m *machine) crash(p *proc) {
	if p.state == domain.Stopping {
		return
	}
	p.state, p.since = domain.Crashed, time.Now()
	since := p.since
	time.AfterFunc(comesBack, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if p.state == domain.Crashed && p.since.Equal(since) && m.procs[p.inst.InstanceID] == p {
			p.restarts++
			m.boot(p)
		}
	})
}

func (m *machine) kill(id domain.InstanceID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.procs[id]; p != nil {
		m.crash(p)
	}
}

func (m *machine) reboot() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.procs {
		m.crash(p)
	}
}

// deadMan is what the data plane does by itself while nobody answers it.
func (m *machine) deadMan() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rollout.State == domain.RolloutOpen && m.table.Rollout != "" && m.stable != nil && m.table.Weight > 0 && m.short(m.stable) == 0 {
		m.table.Weight, m.table.Latched, m.back = 0, true, true
	}
}

// short is the share that the healthy instances of a release cannot carry. The caller holds the lock.
func (m *machine) short(rel *domain.Release) int {
	healthy := map[Slot]bool{}
	for id, p := range m.procs {
		if id.Release == rel.ID && p.state == domain.Healthy && !m.left[id] {
			healthy[Slot{id.Role, id.Index}] = true
		}
	}
	worst := 0
	for _, w := range rel.Workloads {
		up := 0
		for i := range w.Instances {
			if healthy[Slot{w.Role, i}] {
				up++
			}
		}
		if w.Kind == domain.Web {
			worst = max(worst, domain.WeightAll*(w.Instances-up)/w.Instances)
		}
	}
	return worst
}

// count is how many instances of a role exist, in whatever state: a crashed one comes back. The caller holds the lock.
func (m *machine) count(release, role string) int {
	n := 0
	for id := range m.procs {
		if id.Release == release && id.Role == role {
			n++
		}
	}
	return n
}

// judgeSingletons: what is a singleton in either release never exists in both, and is one where it is a singleton.
func (m *machine) judgeSingletons() {
	for role := range m.single {
		v1, v2 := m.count("v1", role), m.count("v2", role)
		if m.single[role] && v1 > 0 && v2 > 0 {
			m.fail("%s runs in both releases", role)
		}
	}
}

// judgeDrain: nobody is taken out of the traffic whom it needs. The caller holds the lock.
func (m *machine) judgeDrain(id domain.InstanceID) {
	p, rel := m.procs[id], map[string]*domain.Release{"v1": m.stable, "v2": m.next}[id.Release]
	if p == nil || p.inst.Workload.Kind != domain.Web {
		return
	}
	was, share := m.short(rel), shares(m.table)[rel.ID]
	m.left[id] = true
	if can := domain.WeightAll - m.short(rel); can != domain.WeightAll-was && can+1 < share && (!m.back || id.Release == "v1") {
		m.fail("%s/%s/%d leaves, and %s of %s can be carried", rel.ID, id.Role, id.Index, Percent(can), Percent(share))
	}
}

// forget: where no route carries a latch and the store has no record, a crash loses that a rollback had begun.
func (m *machine) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.records[m.rollout.ID+"rollback"]
	if m.table.Rollout == "" && !known && m.rollout.State == domain.RolloutOpen && !hasWeb(m.fleet) {
		m.back = false
	}
}

func hasWeb(f Fleet) bool {
	for _, r := range append(f.Stable, f.Next...) {
		if r.Kind == domain.Web {
			return true
		}
	}
	return false
}

// judgeSplit: traffic grows only where the healthy instances for it are; next is raised in the order of the plan, and lowered
// only under the latch; after that it never rises again.
func (m *machine) judgeSplit(s Split) {
	before, after := shares(m.table), shares(s)
	for _, rel := range []*domain.Release{m.stable, m.next} {
		if rel == nil || after[rel.ID] <= before[rel.ID] {
			continue
		}
		if can := domain.WeightAll - m.short(rel); m.stable != nil && can+1 < after[rel.ID] { // in a first delivery nobody else can
			m.fail("%s gets %s, and %s of it can be carried", rel.ID, Percent(after[rel.ID]), Percent(can))
		}
	}
	switch {
	case s.Rollout == "":
		if s.Stable.ID == m.next.ID && m.rollout.Reason == "" {
			m.judgeDone()
		}
	case m.back && !s.Latched:
		m.fail("next gets %s after a rollback began", Percent(s.Weight))
	case s.Latched && s.Weight > m.weight():
		m.fail("next is raised to %s by a rollback", Percent(s.Weight))
	case !s.Latched && s.Weight < m.weight():
		m.fail("next is lowered to %s without a latch", Percent(s.Weight))
	case !s.Latched && s.Weight == 0:
		m.fail("a rollback without a latch")
	case !s.Latched:
		for i, step := range m.plan {
			if step.Verb == Shift && step.Weight == s.Weight {
				m.judgeBakes(i)
			}
		}
	}
}

func shares(s Split) map[string]int {
	switch {
	case s.Stable == nil && s.Next == nil:
		return nil
	case s.Rollout == "":
		return map[string]int{s.Stable.ID: domain.WeightAll}
	case s.Stable == nil:
		return map[string]int{s.Next.ID: s.Weight}
	default:
		return map[string]int{s.Stable.ID: domain.WeightAll - s.Weight, s.Next.ID: s.Weight}
	}
}

// judgeDone: next becomes stable when it has all traffic, every bake before that was seen, and nobody went back.
func (m *machine) judgeDone() {
	m.judgeBakes(m.plan.Settled() + 1)
	if w := m.weight(); m.stable != nil && (w != domain.WeightAll || m.back) {
		m.fail("next is stable with %s of the traffic (rolled back: %t)", Percent(w), m.back)
	}
}

// weight is what next gets, as far as the data plane was told, with or without a route. The caller holds the lock.
func (m *machine) weight() int {
	if m.asked.Rollout == "" && m.asked.Stable != nil && m.asked.Stable.ID == m.next.ID {
		return domain.WeightAll
	}
	return m.asked.Weight
}

// judgeBakes: every bake before a step was seen to its end.
func (m *machine) judgeBakes(before int) {
	for i, s := range m.plan[:before] {
		if s.Verb == Bake && !m.baked[i] {
			m.fail("step %d %q comes before the end of the bake %d", before, m.plan[min(before, len(m.plan)-1)], i)
		}
	}
}

// judgeBake: a bake lasts as long as it says, from when it first began, and nearly every second of it was seen.
func (m *machine) judgeBake(i int) {
	s, from := m.plan[i], m.bakes[i]
	if passed := time.Since(from); passed < s.Hold {
		m.fail("the bake %d of %s ended after %s", i, s.Hold, passed)
	}
	if seen := len(m.seconds(from, time.Now())); float64(seen) < 0.95*s.Hold.Seconds() {
		m.fail("the bake %d of %s ended with %d seconds seen", i, s.Hold, seen)
	}
}

// judgeConsumers: while next bakes at a weight, the instances of every role are as many as the weight says, on both sides.
func (m *machine) judgeConsumers(weight int) {
	for _, side := range []struct {
		release string
		roles   []Role
	}{{"v1", m.fleet.Stable}, {"v2", m.fleet.Next}} {
		for _, r := range side.roles {
			if got, want := m.count(side.release, r.Name), m.wanted(side.release == "v2", r, weight); got != want {
				m.fail("next bakes at %s with %d of %s/%s, want %d", Percent(weight), got, side.release, r.Name, want)
			}
		}
	}
}

// wanted is how many instances of a role a side has while next bakes at a weight.
func (m *machine) wanted(next bool, r Role, weight int) int {
	n, part, last := float64(r.Instances), float64(weight)/domain.WeightAll, 0
	rounds := 0
	for _, s := range m.plan[:m.plan.lastBake()] {
		if s.Verb == Shift {
			last = s.Weight
			rounds++
		}
	}
	rolling := m.course.strategy == StrategyRolling && m.stable != nil
	round := math.Round(part * float64(rounds))
	var v1, v2 float64
	switch {
	case r.Kind == domain.Singleton:
		v2 = map[bool]float64{true: n}[weight == last]
		v1 = n - v2
	case rolling:
		v2, v1 = math.Ceil(n*round/float64(rounds)), n-math.Floor(n*round/float64(rounds))
	case r.Kind == domain.Web:
		v1, v2 = n, n
	case weight == domain.WeightAll:
		v1, v2 = 0, n
	default:
		v2 = max(1, min(math.Round(part*n), n-1))
		v1 = n - min(math.Round(part*n), n-1)
	}
	if next {
		return int(v2)
	}
	return int(v1)
}

func (p Plan) lastBake() int {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i].Verb == Bake {
			return i
		}
	}
	return 0
}

// seconds are the ticks that were observed: in each second of harm every second request to next fails.
func (m *machine) seconds(from, to time.Time) (list []guard.Second) {
	for i := max(0, int(from.Sub(m.began)/time.Second)); ; i++ {
		at := m.began.Add(time.Duration(i) * time.Second)
		if at.After(to) {
			return list
		}
		if !at.After(from) || at.Sub(m.began) >= m.course.blind.from() && at.Sub(m.began) < m.course.blind.to() {
			continue
		}
		tick := guard.Second{At: at, Next: guard.Side{Requests: 50}, Stable: guard.Side{Requests: 50}}
		if m.course.harm > 0 && i > m.course.harm {
			tick.Next.Errors = 25
		}
		if at.Sub(m.began) >= m.course.common.from() && at.Sub(m.began) < m.course.common.to() {
			tick.Next.Errors, tick.Stable.Errors = 25, 25
		}
		list = append(list, tick)
	}
}

// samples are what the real guard judges by.
type samples struct {
	*machine
	shifted time.Time
}

func (s samples) History(_ context.Context, now time.Time, window time.Duration) (guard.History, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := guard.History{Now: now, Since: s.shifted, Started: s.began, Last: s.shifted}
	from := now.Add(-window)
	if from.Before(h.Since) {
		from = h.Since
	}
	h.Seconds = s.seconds(from, now)
	if n := len(h.Seconds); n > 0 {
		h.Last = h.Seconds[n-1].At
	}
	for id, p := range s.procs {
		i := guard.Instance{Name: fmt.Sprintf("%s/%d", id.Role, id.Index), Restarts: p.restarts, Starting: p.state == domain.Starting}
		if p.state == domain.Crashed {
			i.Failed, i.Message = 2, "refused"
		}
		if id.Release == "v2" {
			h.Next = append(h.Next, i)
		} else {
			h.Stable = append(h.Stable, i)
		}
	}
	return h, nil
}

func (s samples) Observed(_ context.Context, from time.Time) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seconds(from, time.Now())), nil
}

func (s samples) Totals(context.Context, time.Time) (stable, next guard.Side, err error) {
	return stable, next, nil
}

var modelLimits = guard.Limits{ErrorRate: 0.05, ErrorFor: 10 * time.Second, Latency: 2, LatencyFor: 10 * time.Second, LatencyLeast: 100,
	FailedProbes: 2, CrashLoop: 3, Silence: 30 * time.Second}

// errSuspended is what a life of the process ends with that did not come to the end of the rollout.
var errSuspended = journal.ErrSuspended
