package sample

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/measure"
)

var limits = guard.Limits{ErrorRate: 0.05, ErrorFor: 3 * time.Minute, Latency: 2, LatencyFor: time.Minute, LatencyLeast: 100,
	FailedProbes: 2, WarmUp: time.Minute, CrashLoop: 3, Silence: 30 * time.Second}

// flow is what one endpoint gets in a second on one side.
type flow struct {
	endpoint, segment string
	requests, errors  int64
	took              time.Duration
}

// universe is a proxy, its clock and its traffic, in fake time.
type universe struct {
	book   *Book
	weight int
	// jump is how far the wall clock is off in second i; lost says which ticks nobody ever saw.
	jump func(i int) time.Duration
	lost func(i int) bool
	// serve says what a side serves in second i.
	serve func(i int, side domain.Side) []flow
}

// run ticks once a second until ctx ends.
func (u *universe) run(ctx context.Context) {
	began := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		i := int(time.Since(began)/time.Second) - 1
		if u.lost != nil && u.lost(i) {
			continue
		}
		t := measure.Tick{Boot: "one", N: int64(i + 1), At: time.Now()}
		if u.jump != nil {
			t.At = t.At.Add(u.jump(i))
		}
		for _, side := range []domain.Side{domain.Stable, domain.Next} {
			t.Series = append(t.Series, u.series(side, u.serve(i, side))...)
		}
		u.book.Add(t)
	}
}

func (u *universe) series(side domain.Side, flows []flow) []measure.Series {
	total := measure.Series{App: "shop", Environment: domain.Production, Release: string(side), Side: side, Weight: u.weight, Latency: &measure.Histogram{}}
	list := []measure.Series{total}
	for _, f := range flows {
		part := total
		part.Endpoint, part.Segment, part.Requests, part.Errors, part.Latency = f.endpoint, f.segment, f.requests, f.errors, nil
		if f.segment == "" {
			list[0].Requests += f.requests
			list[0].Errors += f.errors
			list[0].Latency.AddN(f.took, f.requests)
		}
		if f.endpoint != "" || f.segment != "" {
			list = append(list, part)
		}
	}
	return list
}

// view is what a guard is given, as the server gives it: its wall clock is the universe's.
type view struct {
	u     *universe
	tape  *Tape
	since time.Time
	born  time.Time // of the universe
	marks map[time.Time]int64
}

func (v *view) History(_ context.Context, now time.Time, window time.Duration) (guard.History, error) {
	h := guard.History{Since: v.since.Add(v.tape.Drift()), Seconds: v.tape.Seconds(window, v.since.Add(v.tape.Drift()))}
	h.Since = v.since.Add(v.tape.Drift())
	h.Now, h.Last = now, v.u.book.Arrived()
	if v.u.jump != nil { // the guard reads the same clock as the proxy
		off := v.u.jump(int(now.Sub(v.born)/time.Second) - 1)
		h.Now, h.Last = now.Add(off), h.Last.Add(off)
	}
	return h, nil
}

func (v *view) Observed(_ context.Context, from time.Time) (int, error) {
	if _, known := v.marks[from]; !known {
		v.marks[from] = v.u.book.Mark(from)
	}
	return v.u.book.ObservedFrom(v.marks[from]), nil
}

func (v *view) Totals(_ context.Context, from time.Time) (stable, next guard.Side, err error) {
	side := func(release string) guard.Side {
		s := v.u.book.Sum("shop", domain.Production, release, from, time.Now().Add(24*time.Hour))
		return guard.Side{Requests: s.Requests, Errors: s.Errors}
	}
	return side("stable"), side("next"), nil
}

// seen is how a watch over a universe ended.
type seen struct {
	took   time.Duration
	report guard.Report
	err    error
	held   []string // triggers, "" when a hold was over
}

// breach is what the watch found; nil when it found nothing.
func (s seen) breach(t *testing.T) *guard.Breach {
	t.Helper()
	var b *guard.Breach
	if s.err != nil && !errors.As(s.err, &b) {
		t.Fatal(s.err)
	}
	return b
}

func watch(t *testing.T, u universe, hold time.Duration, check func(t *testing.T, s seen)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		u.book = NewBook()
		if u.weight == 0 {
			u.weight = domain.WeightAll / 2
		}
		ctx, stop := context.WithCancel(t.Context())
		born := time.Now()
		go u.run(ctx)
		time.Sleep(500 * time.Millisecond) // the guard looks between two ticks
		began := time.Now()
		v := &view{u: &u, since: began, born: born, marks: map[time.Time]int64{},
			tape: u.book.Tape(Subject{App: "shop", Environment: domain.Production, Stable: "stable", Next: "next"})}
		limited, cancel := context.WithTimeoutCause(ctx, 4*time.Hour, errors.New("it never ended"))
		defer cancel()
		var s seen
		s.report, s.err = guard.Watcher{Limits: limits, Samples: v, Held: func(v guard.Verdict) { s.held = append(s.held, v.Trigger) }}.Watch(limited, began, hold)
		s.took = time.Since(began)
		stop()
		synctest.Wait()
		check(t, s)
	})
}

// steady gives both sides the same requests each second, and no errors.
func steady(requests int64) func(int, domain.Side) []flow {
	return func(int, domain.Side) []flow { return []flow{{"GET /", "", requests, 0, 20 * time.Millisecond}} }
}

func between(i, from, to int) bool { return i >= from && i < to }

func TestWorldDatabaseRestart(t *testing.T) {
	u := universe{serve: func(i int, side domain.Side) []flow {
		f := flow{"GET /", "", 20, 0, 20 * time.Millisecond}
		if between(i, 100, 400) { // next is a little worse: its pools are colder
			f.errors = 16
			if side == domain.Next {
				f.errors = 20
			}
		}
		return []flow{f}
	}}
	watch(t, u, 15*time.Minute, func(t *testing.T, s seen) {
		if b := s.breach(t); b != nil || s.took != 15*time.Minute {
			t.Errorf("after %s: %v", s.took, b)
		}
		if strings.Join(s.held, ",") != "errors," {
			t.Errorf("held by %q: once by errors, and then no more", s.held)
		}
	})
}

func TestWorldSlowDependency(t *testing.T) {
	u := universe{serve: func(i int, _ domain.Side) []flow {
		f := flow{"GET /", "", 20, 0, 20 * time.Millisecond}
		if between(i, 100, 500) {
			f.took = 900 * time.Millisecond
		}
		return []flow{f}
	}}
	watch(t, u, 15*time.Minute, func(t *testing.T, s seen) {
		if b := s.breach(t); b != nil || s.took != 15*time.Minute {
			t.Errorf("after %s: %v", s.took, b)
		}
	})
	slow := universe{serve: func(i int, side domain.Side) []flow { // and it is blamed when it is next alone
		f := flow{"GET /", "", 20, 0, 20 * time.Millisecond}
		if side == domain.Next && i > 100 {
			f.took = 50 * time.Millisecond
		}
		return []flow{f}
	}}
	watch(t, slow, 15*time.Minute, func(t *testing.T, s seen) {
		if b := s.breach(t); b == nil || b.Verdict.Trigger != "latency" || s.took > 165*time.Second || s.took < 145*time.Second {
			t.Errorf("after %s: %v", s.took, s.err)
		}
	})
}

// A wall clock that jumps, in the middle of a bake: it ends when its time was seen, no sooner and hardly later, and harm is
// found as soon as always.
func TestWorldClockJumps(t *testing.T) {
	for name, by := range map[string]time.Duration{"forward": time.Hour, "back": -time.Hour, "back a little": -20 * time.Second} {
		t.Run(name, func(t *testing.T) {
			jump := func(i int) time.Duration {
				if i >= 300 {
					return by
				}
				return 0
			}
			watch(t, universe{jump: jump, serve: steady(20)}, 15*time.Minute, func(t *testing.T, s seen) {
				if b := s.breach(t); b != nil || s.took != 15*time.Minute || len(s.held) > 0 {
					t.Errorf("after %s: %v, held by %q", s.took, b, s.held)
				}
			})
			harm := universe{jump: jump, serve: func(i int, side domain.Side) []flow {
				f := flow{"GET /", "", 20, 0, 20 * time.Millisecond}
				if side == domain.Next && i >= 200 {
					f.errors = 20
				}
				return []flow{f}
			}}
			watch(t, harm, 15*time.Minute, func(t *testing.T, s seen) {
				if b := s.breach(t); b == nil || b.Verdict.Trigger != "errors" || s.took > 390*time.Second {
					t.Errorf("harm from 200 s on was found after %s: %v", s.took, s.err)
				}
			})
		})
	}
}

// No process ran for ten minutes: they were not seen, and the bake is longer by them.
func TestWorldSuspendedMachine(t *testing.T) {
	u := universe{serve: steady(20), lost: func(i int) bool { return between(i, 120, 720) }}
	watch(t, u, 15*time.Minute, func(t *testing.T, s seen) {
		if b := s.breach(t); b != nil || s.took < 24*time.Minute || s.took > 25*time.Minute {
			t.Errorf("600 of 900 ticks are missing, and it took %s: %v", s.took, b)
		}
		if strings.Join(s.held, ",") != "ticks," {
			t.Errorf("held by %q", s.held)
		}
	})
}

func TestWorldMissingTicks(t *testing.T) {
	for every, least := range map[int][2]time.Duration{20: {15 * time.Minute, 15 * time.Minute}, 5: {17 * time.Minute, 18 * time.Minute}} {
		u := universe{serve: steady(20), lost: func(i int) bool { return i%every == 3 }}
		watch(t, u, 15*time.Minute, func(t *testing.T, s seen) {
			if b := s.breach(t); b != nil || s.took < least[0] || s.took > least[1] {
				t.Errorf("one of %d ticks is missing, and it took %s: %v", every, s.took, b)
			}
		})
	}
}

func TestWorldTrafficVanishes(t *testing.T) {
	u := universe{serve: func(i int, _ domain.Side) []flow {
		if i > 10 {
			return nil
		}
		return steady(2)(i, "")
	}}
	watch(t, u, 15*time.Minute, func(t *testing.T, s seen) {
		if b := s.breach(t); b != nil || len(s.held) > 0 {
			t.Errorf("no requests are no alarm: %v, held by %q", b, s.held)
		}
		if s.report.Verdict() != guard.NotProven || s.report.Sentence() != "not proven: 22 requests; would have seen an error rate of 14 % or worse" {
			t.Errorf("%s: %s", s.report.Verdict(), s.report.Sentence())
		}
	})
	u.serve = func(int, domain.Side) []flow { return nil }
	watch(t, u, 15*time.Minute, func(t *testing.T, s seen) {
		if s.err != nil || s.report.Verdict() != guard.NoData {
			t.Errorf("%s: %s, %v", s.report.Verdict(), s.report.Sentence(), s.err)
		}
	})
}

// An endpoint fails on both releases, and next gets much more of it: nobody is to blame.
func TestWorldUnevenMix(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	u := universe{serve: func(_ int, side domain.Side) []flow {
		export := int64(1)
		if side == domain.Next {
			export = 10
		}
		var failed int64
		for range export {
			failed += int64(random.IntN(2))
		}
		return []flow{{"GET /", "", 40, 0, 20 * time.Millisecond}, {"GET /export", "", export, failed, 20 * time.Millisecond}}
	}}
	watch(t, u, 10*time.Minute, func(t *testing.T, s seen) {
		if s.err != nil || len(s.held) > 0 {
			t.Errorf("after %s: %v, held by %q", s.took, s.err, s.held)
		}
	})
}

// One endpoint with 3 % of the traffic, and one segment of the visitors: each is found, and named.
func TestWorldOnePartFails(t *testing.T) {
	u := universe{weight: domain.WeightAll / 10, serve: func(i int, side domain.Side) []flow {
		n, search := int64(45), int64(0)
		if side == domain.Next {
			n = 5
		}
		if i%6 == 0 || side == domain.Stable {
			search = 1
		}
		f := flow{"GET /v1/search", "", search, 0, 20 * time.Millisecond}
		if side == domain.Next {
			f.errors = f.requests
		}
		return []flow{{"GET /", "", n, 0, 20 * time.Millisecond}, f}
	}}
	watch(t, u, 15*time.Minute, func(t *testing.T, s seen) {
		b := s.breach(t)
		if b == nil || s.took > 182*time.Second {
			t.Fatalf("after %s: %v", s.took, s.err)
		}
		if want := "errors of GET /v1/search: 30 of 30 requests to next failed in the last 3m (limit 5 %); stable had 0 of 180"; b.Verdict.Sentence != want {
			t.Errorf("it says %q, want %q", b.Verdict.Sentence, want)
		}
	})
	u.serve = func(_ int, side domain.Side) []flow {
		failed := int64(0)
		if side == domain.Next {
			failed = 1
		}
		return []flow{{"GET /", "", 40, failed, 20 * time.Millisecond}, {"", "plan=pro", 1, failed, 0}, {"", "plan=free", 39, 0, 0}}
	}
	watch(t, u, 15*time.Minute, func(t *testing.T, s seen) {
		b := s.breach(t)
		if b == nil || !strings.HasPrefix(b.Verdict.Sentence, "errors of visitors with plan=pro: 180 of 180 requests") {
			t.Errorf("after %s: %v", s.took, s.err)
		}
	})
	u.serve = func(int, domain.Side) []flow { // broken for ever, on both: no release is held or blamed for it
		return []flow{{"GET /", "", 40, 0, 20 * time.Millisecond}, {"GET /legacy", "", 1, 1, time.Millisecond}}
	}
	watch(t, u, 15*time.Minute, func(t *testing.T, s seen) {
		if s.err != nil || len(s.held) > 0 {
			t.Errorf("%v, held by %q", s.err, s.held)
		}
	})
}
