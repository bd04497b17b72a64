package sample

import (
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/measure"
)

// Span is a time by the wall clock: after From, up to To.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Sum is what one release served in a span.
type Sum struct {
	Requests, Errors, Unserved int64
	Latency                    measure.Histogram
	Ticks                      int
	// Parts are its endpoints, and the values of its segments.
	Parts []guard.Part
}

// Sum adds up a release's ticks after from and up to to; release "" adds up all of the environment.
func (b *Book) Sum(app string, env domain.Environment, release string, from, to time.Time) Sum {
	return b.SumOver(app, env, release, []Span{{from, to}})
}

// SumOver adds up a release's ticks in several spans. A tick that lies in two of them counts once.
func (b *Book) SumOver(app string, env domain.Environment, release string, spans []Span) Sum {
	b.mu.RLock()
	defer b.mu.RUnlock()
	in := func(at int64) bool {
		for _, s := range spans {
			if at > nanos(s.From) && at <= nanos(s.To) {
				return true
			}
		}
		return false
	}
	a := adder{parts: map[guard.Part]int{}}
	for _, t := range b.ticks {
		if in(t.at) {
			a.sum.Ticks++
		}
	}
	if a.sum.Ticks == 0 {
		return a.sum
	}
	if release != "" {
		if r := b.releases[place{app, env, release}]; r != nil {
			a.add(b, r, in)
		}
		return a.done()
	}
	for at, r := range b.releases {
		if at.app == app && at.env == env {
			a.add(b, r, in)
		}
	}
	return a.done()
}

// nanos is a time in nanoseconds of Unix time; a zero time is before everything.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return -1 << 63
	}
	return t.UnixNano()
}

// adder adds up cells.
type adder struct {
	sum     Sum
	latency measure.Tally
	parts   map[guard.Part]int // place in sum.Parts
}

func (a *adder) add(b *Book, r *record, in func(at int64) bool) {
	var at reader
	for c, ok := at.next(r, b.first); ok; c, ok = at.next(r, b.first) {
		if !in(b.ticks[c.position-b.first].at) {
			continue
		}
		a.sum.Requests += c.requests
		a.sum.Errors += c.errors
		a.sum.Unserved += c.unserved
		if len(c.packed) == 0 {
			continue
		}
		eachPart(measure.Unpack(c.packed, a.latency.AddPair), func(i int, n count) {
			place, known := a.parts[r.names[i]]
			if !known {
				place = len(a.sum.Parts)
				a.parts[r.names[i]] = place
				a.sum.Parts = append(a.sum.Parts, r.names[i])
			}
			a.sum.Parts[place].Requests += n.requests
			a.sum.Parts[place].Errors += n.errors
		})
	}
}

func (a *adder) done() Sum {
	a.sum.Latency = a.latency.Histogram()
	return a.sum
}

// Figures are the sum as rates; nil when nothing was served.
func (s Sum) Figures() *domain.Figures {
	if s.Requests == 0 {
		return nil
	}
	return &domain.Figures{
		ErrorRate: float64(s.Errors) / float64(s.Requests),
		P50:       s.Latency.Quantile(0.5).Seconds(),
		P95:       s.Latency.Quantile(0.95).Seconds(),
		P99:       s.Latency.Quantile(0.99).Seconds(),
		RPS:       float64(s.Requests) / float64(max(1, s.Ticks)),
	}
}

// Side is the sum as one side of a comparison; nil when nothing was served.
func (s Sum) Side(commit string) *domain.SideTraffic {
	if s.Requests == 0 {
		return nil
	}
	f := s.Figures()
	return &domain.SideTraffic{Commit: commit, Requests: s.Requests, Errors: s.Errors, Unserved: s.Unserved,
		P50: f.P50, P95: f.P95, P99: f.P99}
}
