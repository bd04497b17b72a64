package demo

import (
	"bufio"
	"fmt"
	"io"
	"sync"
	"time"
)

// sample is one request as a visitor saw it.
type sample struct {
	begin   time.Time
	took    time.Duration
	status  int    // 0: no complete answer
	release string // "-": not said
	what    string // method and path
}

// failed reports whether the visitor got no good answer. Every request of the traffic asks for something that exists.
func (s sample) failed() bool { return s.status < 200 || s.status >= 400 }

// tally is what the traffic saw so far. It may be read while it is filled.
type tally struct {
	mu      sync.Mutex
	samples []sample
}

// read fills the tally from the lines of LoadMain until they end.
func (t *tally) read(lines io.Reader) error {
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		var begin, took int64
		var s sample
		var method, path string
		if _, err := fmt.Sscan(scanner.Text(), &begin, &took, &s.status, &s.release, &method, &path); err != nil {
			return fmt.Errorf("a line of the traffic cannot be read: %q: %w", scanner.Text(), err)
		}
		s.begin, s.took, s.what = time.Unix(0, begin), time.Duration(took), method+" "+path
		t.mu.Lock()
		t.samples = append(t.samples, s)
		t.mu.Unlock()
	}
	return scanner.Err()
}

// between returns the requests that began in [from, to).
func (t *tally) between(from, to time.Time) period {
	t.mu.Lock()
	defer t.mu.Unlock()
	var p period
	for _, s := range t.samples {
		if !s.begin.Before(from) && s.begin.Before(to) {
			p = append(p, s)
		}
	}
	return p
}

// period is a part of the traffic.
type period []sample

// of returns the requests that a release answered.
func (p period) of(release string) period {
	var own period
	for _, s := range p {
		if s.release == release {
			own = append(own, s)
		}
	}
	return own
}

// failures returns the requests that failed.
func (p period) failures() period {
	var bad period
	for _, s := range p {
		if s.failed() {
			bad = append(bad, s)
		}
	}
	return bad
}

// first and last return the moments at which the first and the last of its requests began; the zero time without any.
// Requests are written down when they end, so the first to end need not be the first to begin.
func (p period) first() time.Time {
	var t time.Time
	for _, s := range p {
		if t.IsZero() || s.begin.Before(t) {
			t = s.begin
		}
	}
	return t
}

func (p period) last() time.Time {
	var t time.Time
	for _, s := range p {
		if s.begin.After(t) {
			t = s.begin
		}
	}
	return t
}
