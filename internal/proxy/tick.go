package proxy

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

// The bounds of what is kept of the past.
const (
	tickEvery   = time.Second
	ticksKept   = 7200 // two hours
	bytesKept   = 42 << 20
	ticksPerAsk = 600
)

// ledger counts the ticks. It is written by one goroutine and read by whoever pulls.
type ledger struct {
	boot    string
	started time.Time

	mu     sync.Mutex
	ring   []sealedTick
	size   int
	last   int64
	pulled time.Time     // when ticks were last asked for
	more   chan struct{} // closed at the next tick
	squash *flate.Writer
}

// sealedTick is a tick as it is kept: deflated JSON.
type sealedTick struct {
	n    int64
	data []byte
}

func newLedger(boot string) *ledger {
	now := time.Now()
	return &ledger{boot: boot, started: now, pulled: now, more: make(chan struct{})}
}

// close ends a tick with what take counted. Ticks are numbered by the monotonic clock: a process that stood still leaves a gap, never a
// second that nobody watched.
func (l *ledger) close(now time.Time, series []measure.Series) error {
	n := max(int64(now.Sub(l.started)/tickEvery), l.last+1)
	data, err := l.seal(measure.Tick{Boot: l.boot, N: n, At: now.UTC().Round(0), Series: series})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ring = append(l.ring, sealedTick{n, data})
	l.size += len(data)
	for len(l.ring) > ticksKept || l.size > bytesKept {
		l.size -= len(l.ring[0].data)
		l.ring[0].data = nil
		l.ring = l.ring[1:]
	}
	l.last = n
	close(l.more)
	l.more = make(chan struct{})
	return nil
}

// rawPage is a TickPage whose ticks are not decoded again.
type rawPage struct {
	Boot  string            `json:"boot"`
	First int64             `json:"first"`
	Last  int64             `json:"last"`
	Ticks []json.RawMessage `json:"ticks"`
}

// pull answers the ticks after a number, and waits at most so long for the first of them.
func (l *ledger) pull(ctx context.Context, boot string, after int64, wait time.Duration) (rawPage, error) {
	if boot != l.boot {
		after = 0
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		l.mu.Lock()
		l.pulled = time.Now()
		last, more := l.last, l.more
		l.mu.Unlock()
		if last > after || wait <= 0 {
			return l.page(after)
		}
		select {
		case <-more:
		case <-deadline.C:
			wait = 0
		case <-ctx.Done():
			return rawPage{}, ctx.Err()
		}
	}
}

func (l *ledger) page(after int64) (rawPage, error) {
	l.mu.Lock()
	page := rawPage{Boot: l.boot, Last: l.last, Ticks: []json.RawMessage{}}
	var sealed []sealedTick
	for _, t := range l.ring {
		if t.n > after && len(sealed) < ticksPerAsk {
			sealed = append(sealed, t)
		}
	}
	if len(l.ring) > 0 {
		page.First = l.ring[0].n
	}
	l.mu.Unlock()
	for _, t := range sealed {
		raw, err := io.ReadAll(flate.NewReader(bytes.NewReader(t.data)))
		if err != nil {
			return rawPage{}, err
		}
		page.Ticks = append(page.Ticks, raw)
	}
	return page, nil
}

// unwatched says for how long nobody has asked for ticks.
func (l *ledger) unwatched(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Sub(l.pulled)
}

func (l *ledger) seal(t measure.Tick) ([]byte, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if l.squash == nil {
		if l.squash, err = flate.NewWriter(&b, flate.BestSpeed); err != nil {
			return nil, err
		}
	}
	l.squash.Reset(&b)
	if _, err := l.squash.Write(raw); err != nil {
		return nil, err
	}
	if err := l.squash.Close(); err != nil {
		return nil, err
	}
	return bytes.Clone(b.Bytes()), nil
}
