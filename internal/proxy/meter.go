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
	key     string
	series  measure.Series // without its counts
	labels  *labels
	open    atomic.Int64 // requests that will still be counted
	retired bool         // no route names it any more; guarded by the control's lock, as is idle
	idle    int          // ticks since then without an open request

	mu    sync.Mutex
	cells atomic.Pointer[map[*label]*measure.Recorder]
}

func newMeter(r *domain.Route, side domain.Side, release string, l *labels) *meter {
	m := &meter{key: r.Key(), labels: l, series: measure.Series{
		App: r.App, Environment: r.Environment, Role: r.Role, Rollout: r.Rollout,
		Release: release, Side: side, Weight: r.Weight,
	}}
	m.cells.Store(&map[*label]*measure.Recorder{})
	return m
}

// record counts one request under all its labels.
func (m *meter) record(r *http.Request, o measure.Outcome, latency time.Duration) {
	m.labels.each(r, func(l *label) { m.cell(l).Record(o, latency) })
}

func (m *meter) cell(l *label) *measure.Recorder {
	if c := (*m.cells.Load())[l]; c != nil {
		return c
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := (*m.cells.Load())[l]; c != nil {
		return c
	}
	grown := maps.Clone(*m.cells.Load())
	c := &measure.Recorder{}
	grown[l] = c
	m.cells.Store(&grown)
	return c
}

// take appends what was counted since the last take.
func (m *meter) take(list []measure.Series) []measure.Series {
	start := len(list)
	for l, c := range *m.cells.Load() {
		counts := c.Take()
		if counts.Requests == 0 && counts.Latency == nil {
			continue
		}
		s := m.series
		s.Endpoint, s.Segment = l.endpoint, l.segment
		s.Requests, s.Errors, s.Unserved, s.Latency = counts.Requests, counts.Errors, counts.Unserved, counts.Latency
		list = append(list, s)
	}
	slices.SortFunc(list[start:], func(a, b measure.Series) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Segment, b.Segment))
	})
	return list
}
