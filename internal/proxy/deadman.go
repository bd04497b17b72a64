package proxy

import (
	"maps"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// The dead-man rule: with nobody watching an open rollout for so long, the proxy itself takes back a next that fails
// most of its requests while stable does not.
const (
	deadManAfter    = 30 * time.Second
	deadManRequests = 20
	deadManTicks    = 60
)

// window is what both sides of a route counted in one tick.
type window struct{ next, nextErrors, stable, stableErrors int64 }

// deadMan keeps the last minute of each open rollout and applies the rule. The caller holds the lock.
func (c *control) deadMan(now time.Time, series []measure.Series) {
	ticks := map[string]window{}
	for _, s := range series {
		if s.Endpoint != "" || s.Segment != "" || s.Rollout == "" {
			continue
		}
		key := domain.Route{App: s.App, Environment: s.Environment, Role: s.Role}.Key() + " " + s.Rollout
		w := ticks[key]
		if s.Side == domain.Next {
			w.next, w.nextErrors = w.next+s.Requests, w.nextErrors+s.Errors
		} else {
			w.stable, w.stableErrors = w.stable+s.Requests, w.stableErrors+s.Errors
		}
		ticks[key] = w
	}
	watch := map[string][]window{}
	var failing []*route
	for key, t := range c.plane.table.Load().routes {
		if t.Rollout == "" || t.Latched || t.stable == nil || !t.takes(domain.Next) {
			continue
		}
		id := key + " " + t.Rollout
		last := append(slices.Clone(c.watch[id]), ticks[id])
		watch[id] = last[max(0, len(last)-deadManTicks):]
		if c.ledger.unwatched(now) >= deadManAfter && harmful(watch[id]) && t.stable.alive() {
			failing = append(failing, t)
		}
	}
	c.watch = watch
	for _, t := range failing {
		c.latch(t)
	}
}

// harmful reports whether next fails most of its requests and stable does not.
func harmful(ticks []window) bool {
	var sum window
	for _, w := range ticks {
		sum.next, sum.nextErrors = sum.next+w.next, sum.nextErrors+w.nextErrors
		sum.stable, sum.stableErrors = sum.stable+w.stable, sum.stableErrors+w.stableErrors
	}
	return sum.next >= deadManRequests && sum.nextErrors*2 > sum.next && sum.stableErrors*2 <= sum.stable
}

// latch takes next back on the proxy's own decision.
func (c *control) latch(t *route) {
	r := t.Route
	r.Weight, r.Latched, r.LatchedBy = 0, true, "proxy"
	routes := maps.Clone(c.plane.table.Load().routes)
	routes[t.key] = c.build(r, t, nil)
	c.log.Error("rolled back: nobody watched and next failed most of its requests", "route", t.key, "rollout", t.Rollout)
	_ = c.apply(routes, true) // the flip stands; tick writes the table until it is written
}
