package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/store"
)

// disk is a slow store that may be full: then it fails as late as it would answer.
type disk struct {
	noTicks
	t     *testing.T
	takes time.Duration

	mu    sync.Mutex
	busy  bool
	full  bool
	tried int
	took  []int64 // numbers of the ticks
}

// SaveCheckpoint checks what it is given: a bounded batch, alone, and no judge who knows more than the ticks.
func (d *disk) SaveCheckpoint(_ context.Context, c store.Checkpoint) error {
	d.mu.Lock()
	if d.busy {
		d.t.Error("two writes at a time")
	}
	d.busy = true
	d.mu.Unlock()
	time.Sleep(d.takes) // fake time
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = false
	if len(c.Ticks) > batchMost {
		d.t.Errorf("%d ticks in one write", len(c.Ticks))
	}
	d.tried++
	if d.full {
		return errors.New("the disk is full")
	}
	for _, t := range c.Ticks {
		d.took = append(d.took, t.N)
	}
	for rollout, known := range c.Judges {
		j, err := judge.Resume(strict, known)
		if err != nil {
			d.t.Fatal(err)
		}
		if v := j.Verdict(); v.N > 0 && (len(d.took) == 0 || v.N != d.took[len(d.took)-1]) {
			d.t.Errorf("the judge of %s knows tick %d, the last one that is stored is of %v", rollout, v.N, d.took)
		}
	}
	return nil
}

// fill makes the disk full, or not, and returns how often it was asked.
func (d *disk) fill(full bool) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = full
	return d.tried
}

// holds fails unless exactly the ticks from first to last are stored, in order.
func (d *disk) holds(first, last int64) {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if int64(len(d.took)) != last-first+1 {
		d.t.Errorf("%d ticks are stored, %d to %d are wanted", len(d.took), first, last)
		return
	}
	for i, n := range d.took {
		if n != first+int64(i) {
			d.t.Errorf("tick %d is stored as the %dth", n, i+1)
			return
		}
	}
}

// judgedBy makes a keeper with one judge.
func judgedBy(t *testing.T, s evidenceStore) *keeper {
	t.Helper()
	k := newKeeper(s, slog.New(slog.DiscardHandler))
	if err := k.seat(t.Context(), domain.RolloutRecord{ID: "rol"}, strict); err != nil {
		t.Fatal(err)
	}
	return k
}

// second is one tick of the rollout with a judge.
func second(n int64) []measure.Tick {
	s := measure.Series{App: "shop", Environment: domain.Production, Role: "web", Rollout: "rol", Side: domain.Next, Weight: 500, Requests: 1, Drawn: 1}
	return []measure.Tick{{Boot: "life", N: n, At: time.Now(), Series: []measure.Series{s}}}
}

// hear adds ticks a second apart, and fails unless the judge knows each at once.
func hear(t *testing.T, k *keeper, first, last int64) {
	t.Helper()
	for n := first; n <= last; n++ {
		began := time.Now()
		k.add(second(n))
		if took := time.Since(began); took > 0 {
			t.Fatalf("tick %d was heard after %s", n, took)
		}
		if v, _ := k.jury.Verdict("rol"); v.N != n {
			t.Fatalf("the judge knows tick %d, not %d", v.N, n)
		}
		time.Sleep(time.Second) // fake time
	}
}

// A disk that takes longer for a write than the proxy for a tick makes nobody deaf, and loses nothing.
func TestJudgesDoNotWaitForTheDisk(t *testing.T) {
	for _, takes := range []time.Duration{10 * time.Millisecond, 2 * time.Second, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			d := &disk{t: t, takes: takes}
			k := judgedBy(t, d)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go k.run(ctx)
			hear(t, k, 1, 120)
			if usual, tried := int(120*time.Second/max(time.Second, takes+savePause)), d.fill(false); tried < usual-2 || tried > usual+2 {
				t.Errorf("%d writes of %s, %d are usual", tried, takes, usual)
			}
			k.add(second(121))
			if err := k.close(t.Context()); err != nil {
				t.Fatal(err)
			}
			d.holds(1, 121)
			k.add(second(122)) // too late
			tried := d.tried
			time.Sleep(time.Hour)
			if d.tried != tried || len(k.waiting) > 0 {
				t.Error("something is stored after the end")
			}
		})
	}
}

// A full disk is asked less and less often, for little at a time; what waited is stored in order when there is room.
func TestAFullDiskIsAskedLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{t: t, takes: time.Second, full: true}
		k := judgedBy(t, d)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go k.run(ctx)
		hear(t, k, 1, 300)
		if tried := d.fill(true); tried < 10 || tried > 15 {
			t.Errorf("asked %d times in five minutes", tried)
		}
		if err := k.close(t.Context()); err == nil {
			t.Error("all is stored on a full disk")
		}
		k.closed = false
		d.fill(false)
		hear(t, k, 301, 345)
		time.Sleep(3 * time.Second) // fake time
		d.holds(1, 345)
		tried := d.fill(true)
		hear(t, k, 346, 352)
		if tried = d.fill(true) - tried; tried < 2 || tried > 3 {
			t.Errorf("asked %d times in seven seconds of another failure", tried)
		}
		time.Sleep(time.Minute) // fake time, without a tick
		d.fill(false)
		time.Sleep(time.Minute) // fake time
		d.holds(1, 352)
	})
}

// Of what a store never takes, the newest two hours wait: while a write is under way, too.
func TestWhatWaitsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{t: t, takes: time.Second}
		k := judgedBy(t, d)
		n := int64(0)
		add := func(ticks int64) {
			for range ticks {
				n++
				k.add(second(n))
			}
		}
		add(waitingMost)
		wrote := make(chan struct{})
		go func() { // ticks 1 to 60
			defer close(wrote)
			if err := k.turn(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		add(20)
		k.mu.Lock()
		if len(k.waiting) != waitingMost || k.waiting[0].N != 21 {
			t.Errorf("%d wait from %d on", len(k.waiting), k.waiting[0].N)
		}
		k.mu.Unlock()
		<-wrote
		if k.waiting[0].N != 61 {
			t.Errorf("they wait from %d on", k.waiting[0].N)
		}
		add(100) // 61 to 120 are lost
		if err := k.close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(d.took) != batchMost+waitingMost || d.took[batchMost] != n-waitingMost+1 || d.took[len(d.took)-1] != n {
			t.Errorf("%d are stored, up to %d", len(d.took), d.took[len(d.took)-1])
		}
	})
}

// BenchmarkSeat is how long it takes until a judge is back: from his checkpoint and the ten ticks after it, or from all
// ticks of an hour.
func BenchmarkSeat(b *testing.B) {
	for _, replayed := range []int{10, 3600} {
		b.Run(fmt.Sprint(replayed), func(b *testing.B) {
			s, err := store.Open(b.Context(), filepath.Join(b.TempDir(), "belay.db"), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			m := &machine{dice: rand.New(rand.NewPCG(1, 1)), boot: "b", lost: map[string]bool{}}
			r, err := s.OpenRollout(b.Context(), domain.RolloutRecord{ID: "rol_0", App: "shop", Environment: domain.Production, State: domain.RolloutOpen})
			if err != nil {
				b.Fatal(err)
			}
			m.rollouts = []domain.RolloutRecord{r}
			k := newKeeper(s, slog.New(slog.DiscardHandler))
			for n := range 3600 {
				if n == 3600-replayed && replayed < 3600 {
					if err := k.seat(b.Context(), r, strict); err != nil {
						b.Fatal(err)
					}
					saveAll(b, k)
					k.jury.Leave(r.ID)
				}
				m.count()
				k.waiting = append(k.waiting, m.held[len(m.held)-1])
			}
			saveAll(b, k)
			for b.Loop() {
				if err := k.seat(b.Context(), r, strict); err != nil {
					b.Fatal(err)
				}
				k.jury.Leave(r.ID)
			}
		})
	}
}
