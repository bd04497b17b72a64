// Package sample keeps the proxy's ticks in memory and answers what guards, outcomes and people ask of them. It does no
// input or output: whoever pulls the ticks adds them.
package sample

import (
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/measure"
)

// kept is how many ticks stay in memory: three hours of seconds.
const kept = 3 * 60 * 60

// Book holds the totals of ticks in the order of their numbers. It is safe for concurrent use.
type Book struct {
	mu    sync.RWMutex
	ticks []measure.Tick
	last  map[string]int64 // newest number of each life of the proxy
}

// NewBook makes an empty book.
func NewBook() *Book { return &Book{last: map[string]int64{}} }

// Add appends ticks; one that is known already is dropped by its number. It returns those that were new, whole.
func (b *Book) Add(ticks ...measure.Tick) []measure.Tick {
	b.mu.Lock()
	defer b.mu.Unlock()
	var added []measure.Tick
	for _, t := range ticks {
		if t.N <= b.last[t.Boot] {
			continue
		}
		b.last[t.Boot] = t.N
		added = append(added, t)
		t.Series = totals(t.Series)
		b.ticks = append(b.ticks, t)
	}
	if over := len(b.ticks) - kept; over > 0 {
		b.ticks = append([]measure.Tick(nil), b.ticks[over:]...)
	}
	return added
}

// Last returns the newest number of a life of the proxy.
func (b *Book) Last(boot string) int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.last[boot]
}

// Newest returns the end of the newest tick; zero when there is none.
func (b *Book) Newest() time.Time {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if len(b.ticks) == 0 {
		return time.Time{}
	}
	return b.ticks[len(b.ticks)-1].At
}

// since returns the ticks after from by the wall clock, which may have gone back in between: all are looked at. What they
// point to is shared and must not be changed.
func (b *Book) since(from time.Time) []measure.Tick {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var list []measure.Tick
	for _, t := range b.ticks {
		if t.At.After(from) {
			list = append(list, t)
		}
	}
	return list
}

// Observed counts the ticks since from.
func (b *Book) Observed(from time.Time) int { return len(b.since(from)) }

// Subject names the two releases whose seconds are asked for.
type Subject struct {
	App         string
	Environment domain.Environment
	Stable      string // rel_…; "" when there is none
	Next        string
}

// total reports whether a series of the book is one release's of the environment.
func total(s measure.Series, app string, env domain.Environment) bool {
	return s.App == app && s.Environment == env
}

// totals leaves the endpoints and segments out: nobody asks the book for them, and three hours of them are most of the
// memory.
func totals(series []measure.Series) []measure.Series {
	var kept []measure.Series
	for _, s := range series {
		if s.Endpoint == "" && s.Segment == "" {
			kept = append(kept, s)
		}
	}
	return kept
}

// Seconds lists each tick since from with what both releases served in it.
func (b *Book) Seconds(s Subject, from time.Time) []guard.Second {
	ticks := b.since(from)
	seconds := make([]guard.Second, 0, len(ticks))
	for _, t := range ticks {
		sec := guard.Second{At: t.At}
		for _, series := range t.Series {
			if !total(series, s.App, s.Environment) {
				continue
			}
			switch series.Release {
			case s.Next:
				addTo(&sec.Next, series)
			case "":
			case s.Stable:
				addTo(&sec.Stable, series)
			}
		}
		seconds = append(seconds, sec)
	}
	return seconds
}

func addTo(side *guard.Side, s measure.Series) {
	side.Requests += s.Requests
	side.Errors += s.Errors
	side.Unserved += s.Unserved
	if s.Latency == nil {
		return
	}
	if side.Latency == nil {
		side.Latency = s.Latency
		return
	}
	merged := side.Latency.Clone() // the tick's own is shared
	merged.Merge(s.Latency)
	side.Latency = merged
}

// Sum is what one release served in a span.
type Sum struct {
	Requests, Errors, Unserved int64
	Latency                    measure.Histogram
	Ticks                      int
}

// Sum adds up a release's ticks after from and up to to; release "" adds up all of the environment.
func (b *Book) Sum(app string, env domain.Environment, release string, from, to time.Time) Sum {
	var sum Sum
	for _, t := range b.since(from) {
		if t.At.After(to) {
			continue
		}
		sum.Ticks++
		for _, s := range t.Series {
			if !total(s, app, env) || release != "" && s.Release != release {
				continue
			}
			sum.Requests += s.Requests
			sum.Errors += s.Errors
			sum.Unserved += s.Unserved
			if s.Latency != nil {
				sum.Latency.Merge(s.Latency)
			}
		}
	}
	return sum
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
