package sample

import (
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
)

// Subject names the two releases whose seconds are asked for.
type Subject struct {
	App         string
	Environment domain.Environment
	Stable      string // rel_…; "" when there is none
	Next        string
}

// Tape is the last seconds of two releases. It reads each tick once, so that whoever asks every second pays for one.
//
// Its seconds are dated by the numbers of the ticks, backwards from the newest one: when the wall clock jumps, the seconds
// before the jump are given the dates that they would have had. A Tape is not safe for concurrent use.
type Tape struct {
	book         *Book
	subject      Subject
	begun        bool
	at           int64 // position after the newest tick on the tape
	seen         int64 // and the farthest it ever was
	stable, next reader
	seconds      []guard.Second
	last         stamp
	weight       int
	window       time.Duration // as far back as the tape goes
	drift        time.Duration
	given        bool // somebody has the list of seconds
}

// Tape makes an empty tape.
func (b *Book) Tape(s Subject) *Tape { return &Tape{book: b, subject: s} }

// Drift is how far the wall clock has jumped while the tape was read: a time that was noted before belongs that much later.
func (t *Tape) Drift() time.Duration { return t.drift }

// Seconds lists the ticks of the last window, but none before since. The list must not be changed; it stays true while
// the tape goes on.
func (t *Tape) Seconds(window time.Duration, since time.Time) []guard.Second {
	b := t.book
	b.mu.RLock()
	defer b.mu.RUnlock()
	if len(b.ticks) == 0 {
		return t.seconds
	}
	if !t.begun || window > t.window || t.at < b.first {
		from := b.ticks[len(b.ticks)-1].time().Add(-window)
		if from.Before(since) {
			from = since
		}
		*t = Tape{book: t.book, subject: t.subject, begun: true, at: b.mark(from), seen: t.seen, drift: t.drift, window: window}
	}
	stable, next := t.records()
	for ; t.at < b.end(); t.at++ {
		t.append(b.ticks[t.at-b.first], stable, next)
	}
	t.seen = max(t.seen, t.at)
	t.cut(window)
	t.given = true
	return t.seconds
}

func (t *Tape) records() (stable, next *record) {
	at := place{t.subject.App, t.subject.Environment, t.subject.Stable}
	if t.subject.Stable != "" {
		stable = t.book.releases[at]
	}
	at.release = t.subject.Next
	return stable, t.book.releases[at]
}

// append adds the tick at the tape's position.
func (t *Tape) append(s stamp, stable, next *record) {
	if t.last != (stamp{}) {
		t.redate(s)
	}
	t.last = s
	sec := guard.Second{At: s.time(), Weight: t.weight}
	if c, ok := t.stable.at(stable, t.at); ok {
		sec.Stable, sec.Weight = c.side(stable.names), c.weight
	}
	if c, ok := t.next.at(next, t.at); ok {
		sec.Next, sec.Weight = c.side(next.names), c.weight
	}
	if n := len(t.seconds); n > 0 && sec.At.Before(t.seconds[n-1].At) {
		sec.At = t.seconds[n-1].At // a little early: the order is worth more
	}
	t.weight = sec.Weight
	if n := len(t.seconds); n == cap(t.seconds) && n < few { // hundreds of tapes: none has room for twice its length
		t.seconds = append(make([]guard.Second, 0, n+room), t.seconds...)
	}
	t.seconds = append(t.seconds, sec)
}

// at returns the cell of a position.
func (r *reader) at(of *record, position int64) (cell, bool) {
	if of == nil || len(of.chunks) == 0 || of.chunks[len(of.chunks)-1].last < position {
		return cell{}, false
	}
	before := *r
	c, ok := r.next(of, position)
	if ok && c.position != position {
		*r = before // it belongs to a later tick
		return cell{}, false
	}
	return c, ok
}

// A tape of few seconds grows by room for a minute at a time.
const (
	few  = 600
	room = 60
)

// jumped is by how much two neighbouring ticks may lie wrong before it is the clock that jumped.
const jumped = 2 * time.Second

// redate moves the seconds on the tape to where they lie by the clock of the tick that comes now.
func (t *Tape) redate(s stamp) {
	expected := t.last.at + max(1, s.n-t.last.n)*int64(time.Second)
	if s.life != t.last.life {
		expected = max(s.at, t.last.at) // how long the proxy was away only the wall clock knows
	}
	jump := time.Duration(s.at - expected)
	if jump.Abs() <= jumped {
		return
	}
	if t.given {
		t.seconds, t.given = slices.Clone(t.seconds), false // whoever has the list keeps it as it is
	}
	for i := range t.seconds {
		t.seconds[i].At = t.seconds[i].At.Add(jump)
	}
	if t.at >= t.seen {
		t.drift += jump
	}
}

// cut drops what is older than the window.
func (t *Tape) cut(window time.Duration) {
	if len(t.seconds) == 0 {
		return
	}
	oldest, n := t.seconds[len(t.seconds)-1].At.Add(-window), 0
	for n < len(t.seconds) && !t.seconds[n].At.After(oldest) {
		n++
	}
	if n > 0 {
		t.seconds, t.window = t.seconds[n:], window
	}
}

// Seconds lists each tick since from by the wall clock with what both releases served in it.
func (b *Book) Seconds(s Subject, from time.Time) []guard.Second {
	newest := b.Newest()
	if !newest.After(from) {
		return nil
	}
	return b.Tape(s).Seconds(newest.Sub(from), from)
}
