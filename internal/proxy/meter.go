package proxy

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// meter counts the requests drawn for one release while its route stood still. A change of the rollout or the weight
// starts another one, so that every count carries the weight under which it was drawn.
type meter struct {
	key      string
	series   measure.Series // without its counts
	labels   *labels
	seen     *seen
	visitors bool         // draws are kept: units are counted besides requests
	open     atomic.Int64 // requests that will still be counted
	retired  bool         // no route names it any more; guarded by the control's lock, as are the next two
	idle     int          // ticks since then without an open request
	warm     time.Time    // when the last of its instances has warmed up

	total   cell // without the placebo's part, so that a tick never has a placebo that is not in its total
	placebo cell
	mu      sync.Mutex
	cells   atomic.Pointer[map[*label]*cell] // of the other labels
}

// cell counts under one label.
type cell struct {
	all   measure.Recorder
	units measure.UnitRecorder
}

func newMeter(t *route, side domain.Side, release string) *meter {
	m := &meter{key: t.key, labels: t.labels, seen: t.seen, visitors: t.splits() && t.Split != splitRequest, series: measure.Series{
		App: t.App, Environment: t.Environment, Role: t.Role, Rollout: t.Rollout,
		Release: release, Side: side, Weight: t.Weight,
	}}
	m.cells.Store(&map[*label]*cell{})
	return m
}

// unit is what the measurements keep of a request while it is open.
type unit struct {
	ticket
	labels []*label // the total first
	firsts uint64   // bit i is set where it is the first request of its unit under label i
	room   [6]*label
}

// begin counts the draw of a request and notes what it is counted under.
func (m *meter) begin(r *http.Request, u *unit) {
	u.labels = m.labels.of(r, u.room[:0])
	if !u.drawn {
		return
	}
	if u.own {
		u.fresh = m.seen.visits.add(hashUnit(u.draw, u.labels[0]))
	}
	if u.fresh {
		m.totalOf(u).units.Draw()
		u.firsts = 1
	}
	if !m.visitors {
		return
	}
	for i, l := range u.labels[1:min(len(u.labels), 64)] {
		if m.seen.visits.add(hashUnit(u.draw, l)) || u.fresh && !u.own {
			u.firsts |= 2 << i
		}
	}
}

// record counts one request under all its labels.
func (m *meter) record(u *unit, o measure.Outcome, latency time.Duration) {
	bucket := measure.BucketOf(latency)
	for i, l := range u.labels {
		c := m.totalOf(u)
		if i > 0 {
			c = m.cell(l)
		}
		c.all.Count(o, bucket)
		if !m.visitors {
			continue
		}
		if u.firsts&(1<<i) != 0 {
			c.units.First(bucket)
		}
		if o != measure.Served && m.seen.errors.add(hashUnit(u.draw, l)) {
			c.units.Fail()
		}
	}
}

func (m *meter) totalOf(u *unit) *cell {
	if u.placebo {
		return &m.placebo
	}
	return &m.total
}

func (m *meter) cell(l *label) *cell {
	if c := (*m.cells.Load())[l]; c != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := (*m.cells.Load())[l]; c != nil {
		return c
	}
	grown := maps.Clone(*m.cells.Load())
	c := &cell{}
	grown[l] = c
	m.cells.Store(&grown)
	return c
}

// take appends what was counted since the last take, in a tick that ended now.
func (m *meter) take(now time.Time, list []measure.Series) []measure.Series {
	start := len(list)
	if s, some := m.takeTotal(); some {
		s.Cold = m.warm.After(now.Add(-tickEvery))
		list = append(list, s)
	}
	for l, c := range *m.cells.Load() {
		if s, some := m.takeCell(c, l); some {
			list = append(list, s)
		}
	}
	slices.SortFunc(list[start:], func(a, b measure.Series) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Segment, b.Segment))
	})
	return list
}

// takeCell takes what was counted under a label, and reports whether that is anything.
func (m *meter) takeCell(c *cell, l *label) (s measure.Series, some bool) {
	counts, units := c.all.Take(), c.units.Take()
	s = m.series
	s.Endpoint, s.Segment = l.endpoint, l.segment
	s.Requests, s.Errors, s.Unserved, s.Latency = counts.Requests, counts.Errors, counts.Unserved, counts.Latency
	some = counts != measure.Counts{} || units != measure.Units{}
	s.Drawn, units.Drawn = units.Drawn, 0
	if m.visitors {
		s.Units = &units
	}
	return s, some
}

// takeTotal takes the total, with the placebo's part of it.
func (m *meter) takeTotal() (measure.Series, bool) {
	s, some := m.takeCell(&m.total, &m.labels.total)
	p, fake := m.takeCell(&m.placebo, &m.labels.total)
	if !fake {
		return s, some
	}
	s.Requests, s.Errors, s.Unserved = s.Requests+p.Requests, s.Errors+p.Errors, s.Unserved+p.Unserved
	s.Drawn += p.Drawn
	s.Latency = both(s.Latency, p.Latency)
	s.Placebo = &measure.Units{Drawn: p.Drawn, Errors: p.Errors, Latency: p.Latency}
	if m.visitors {
		s.Placebo.Errors, s.Placebo.Latency = p.Units.Errors, p.Units.Latency
		s.Units.Errors += p.Units.Errors
		s.Units.Latency = both(s.Units.Latency, p.Units.Latency)
	}
	return s, true
}

// both adds two histograms up; nil counts nothing.
func both(a, b *measure.Histogram) *measure.Histogram {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	a.Merge(b)
	return a
}
