package sample

import (
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
)

// enoughOfMinute is how many requests a minute needs to be one of the worst: of fewer, one failed request is a rate and a
// slow one the p95.
const enoughOfMinute = 100

// Before is what a release served in several spans, with its worst minutes; nil when it served nothing. When no minute has
// enough requests, all of them together are the worst.
func (b *Book) Before(app string, env domain.Environment, release string, spans []Span) *judge.Before {
	b.mu.RLock()
	defer b.mu.RUnlock()
	r := b.releases[place{app, env, release}]
	if r == nil {
		return nil
	}
	before := &judge.Before{}
	var all, minute measure.Tally
	var requests, errors int64
	enough := false
	end := func() {
		if requests >= enoughOfMinute {
			enough = true
			before.WorstErrors = max(before.WorstErrors, float64(errors)/float64(requests))
			h := minute.Histogram()
			before.WorstLatency = max(before.WorstLatency, h.Quantile(0.95))
		}
		requests, errors, minute = 0, 0, measure.Tally{}
	}
	var at reader
	last := int64(-1)
	for c, ok := at.next(r, b.first); ok; c, ok = at.next(r, b.first) {
		when := b.ticks[c.position-b.first].at
		if !slices.ContainsFunc(spans, func(s Span) bool { return when > nanos(s.From) && when <= nanos(s.To) }) {
			continue
		}
		if now := when / int64(time.Minute); now != last {
			end()
			last = now
		}
		requests, errors = requests+c.requests, errors+c.errors
		before.Requests, before.Errors = before.Requests+c.requests, before.Errors+c.errors
		if len(c.packed) > 0 {
			measure.Unpack(c.packed, func(p measure.Pair) { minute.AddPair(p); all.AddPair(p) })
		}
	}
	end()
	if before.Requests == 0 {
		return nil
	}
	if !enough {
		h := all.Histogram()
		before.WorstErrors, before.WorstLatency = float64(before.Errors)/float64(before.Requests), h.Quantile(0.95)
	}
	return before
}
