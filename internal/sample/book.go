// Package sample keeps the proxy's ticks in memory and answers what guards, outcomes and people ask of them. It does no
// input or output: whoever pulls the ticks adds them.
package sample

import (
	"slices"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// kept is how many ticks stay in memory: three hours of seconds.
const kept = 3 * 60 * 60

// slack is how many ticks more there may be, so that dropping the oldest is rare.
const slack = 600

// Book holds what each release served, tick by tick in the order in which they came. A release that serves nothing costs
// nothing. It is safe for concurrent use.
type Book struct {
	mu    sync.RWMutex
	ticks []stamp
	first int64            // position of ticks[0]; positions only grow
	last  map[string]int64 // newest number of each life of the proxy
	lives []string         // of the proxy, as they came
	// arrived is when the newest tick came, by this process's own clock.
	arrived  time.Time
	releases map[place]*record
	touched  []*record // by the tick that is being added
}

// place is whose record it is.
type place struct {
	app     string
	env     domain.Environment
	release string
}

// stamp is one tick without what it counted.
type stamp struct {
	at   int64 // end of the tick, nanoseconds of Unix time, by the wall clock
	n    int64
	life int // index into lives
}

func (s stamp) time() time.Time { return time.Unix(0, s.at).UTC() }

// NewBook makes an empty book.
func NewBook() *Book { return &Book{last: map[string]int64{}, releases: map[place]*record{}} }

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
		b.append(t)
	}
	if len(added) > 0 {
		b.arrived = time.Now()
	}
	b.trim()
	return added
}

func (b *Book) append(t measure.Tick) {
	life := slices.Index(b.lives, t.Boot)
	if life < 0 {
		b.lives = append(b.lives, t.Boot)
		life = len(b.lives) - 1
	}
	b.ticks = append(b.ticks, stamp{t.At.UnixNano(), t.N, life})
	var r *record
	var of place
	for i := range t.Series {
		s := &t.Series[i]
		if at := (place{s.App, s.Environment, s.Release}); r == nil || at != of { // a release's series follow each other
			if r, of = b.releases[at], at; r == nil {
				r = &record{}
				b.releases[at] = r
			}
		}
		if !r.open {
			r.open = true
			b.touched = append(b.touched, r)
		}
		r.count(s)
	}
	for _, r := range b.touched {
		r.close(b.end() - 1)
	}
	b.touched = b.touched[:0]
}

// end is the position after the newest tick.
func (b *Book) end() int64 { return b.first + int64(len(b.ticks)) }

// trim drops the oldest ticks, a few minutes of them at once.
func (b *Book) trim() {
	if len(b.ticks) < kept+slack {
		return
	}
	over := len(b.ticks) - kept
	b.ticks = slices.Clone(b.ticks[over:])
	b.first += int64(over)
	for at, r := range b.releases {
		if r.forget(b.first); len(r.chunks) == 0 {
			delete(b.releases, at)
		}
	}
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
	return b.ticks[len(b.ticks)-1].time()
}

// Arrived returns when the newest tick came, with the reading of the monotonic clock: how long that is ago does not depend
// on what the wall clock does meanwhile. Zero when none came.
func (b *Book) Arrived() time.Time {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.arrived
}

// Mark returns the position from which the ticks after a time are counted, for ObservedFrom. Asked soon, it holds whatever
// the wall clock does later. Asked late, only ticks that came after the clock was last before that time are counted: a
// clock that went back makes them fewer, never more.
func (b *Book) Mark(from time.Time) int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.mark(from)
}

func (b *Book) mark(from time.Time) int64 {
	i, after := len(b.ticks), nanos(from)
	for i > 0 && b.ticks[i-1].at > after {
		i--
	}
	return b.first + int64(i)
}

// ObservedFrom counts the ticks since a mark.
func (b *Book) ObservedFrom(mark int64) int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return int(min(b.end()-mark, int64(len(b.ticks))))
}

// Observed counts the ticks since from by the wall clock, which may have gone back in between: all are looked at.
func (b *Book) Observed(from time.Time) int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	n, after := 0, nanos(from)
	for _, t := range b.ticks {
		if t.at > after {
			n++
		}
	}
	return n
}
