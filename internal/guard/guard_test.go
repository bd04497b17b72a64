package guard

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

var limits = Limits{ErrorRate: 0.05, ErrorFor: 3 * time.Minute, Latency: 2, LatencyFor: time.Minute, LatencyLeast: 100,
	FailedProbes: 2, WarmUp: time.Minute, CrashLoop: 3, Silence: 30 * time.Second}

var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// traffic makes n seconds in which each side gets the requests, errors and latency that f says for second i.
func traffic(n int, f func(i int) (stable, next Side)) History {
	h := History{Since: t0, Started: t0.Add(-time.Hour), Now: t0.Add(time.Duration(n) * time.Second)}
	for i := range n {
		stable, next := f(i)
		h.Seconds = append(h.Seconds, Second{At: t0.Add(time.Duration(i+1) * time.Second), Stable: stable, Next: next})
	}
	h.Last = h.Now
	return h
}

func side(requests, errors int64, latency time.Duration) Side {
	l := &measure.Histogram{}
	l.AddN(latency, requests)
	return Side{Requests: requests, Errors: errors, Latency: l}
}

const ms = time.Millisecond

func TestTriggers(t *testing.T) {
	healthy := []Instance{{Name: "web/0"}, {Name: "web/1"}}
	sick := []Instance{{Name: "web/0", Failed: 2, Message: "503"}, {Name: "web/1", Failed: 2, Message: "503"}}
	calm := func(int) (Side, Side) { return side(50, 0, 20*ms), side(50, 0, 20*ms) }
	with := func(h History, f func(*History)) History { f(&h); return h }
	for name, c := range map[string]struct {
		h       History
		kind    Kind
		trigger string
	}{
		"calm":                     {traffic(200, calm), Calm, ""},
		"no traffic":               {traffic(200, func(int) (Side, Side) { return Side{}, Side{} }), Calm, ""},
		"errors for three minutes": {traffic(200, func(int) (Side, Side) { return side(50, 0, 20*ms), side(50, 5, 20*ms) }), RollBack, "errors"},
		"errors without a control": {traffic(200, func(int) (Side, Side) { return Side{}, side(50, 5, 20*ms) }), RollBack, "errors"},
		"errors for two minutes":   {traffic(119, func(int) (Side, Side) { return side(50, 0, 20*ms), side(50, 50, 20*ms) }), Calm, ""},
		"a burst of errors": {traffic(300, func(i int) (Side, Side) {
			if i > 250 && i < 280 {
				return side(50, 0, 20*ms), side(50, 50, 20*ms)
			}
			return side(50, 0, 20*ms), side(50, 0, 20*ms)
		}), Calm, ""},
		"errors on both":  {traffic(200, func(int) (Side, Side) { return side(50, 10, 20*ms), side(50, 10, 20*ms) }), Hold, "errors"},
		"below the limit": {traffic(200, func(int) (Side, Side) { return side(50, 0, 20*ms), side(50, 2, 20*ms) }), Calm, ""},
		"slow":            {traffic(200, func(int) (Side, Side) { return side(50, 0, 20*ms), side(50, 0, 60*ms) }), RollBack, "latency"},
		"slow on both":    {traffic(200, func(int) (Side, Side) { return side(50, 0, 60*ms), side(50, 0, 60*ms) }), Calm, ""},
		"slow for half a minute": {traffic(200, func(i int) (Side, Side) {
			if i > 170 {
				return side(50, 0, 20*ms), side(50, 0, 60*ms)
			}
			return side(50, 0, 20*ms), side(50, 0, 20*ms)
		}), Calm, ""},
		"slow with few requests": {traffic(200, func(int) (Side, Side) { return side(1, 0, 20*ms), side(1, 0, 60*ms) }), Calm, ""},
		"slow while warming up": {with(traffic(100, func(int) (Side, Side) { return side(50, 0, 20*ms), side(50, 0, 60*ms) }),
			func(h *History) { h.Started = t0 }), Calm, ""},
		"slow against history": {with(traffic(200, func(int) (Side, Side) { return Side{}, side(50, 0, 60*ms) }),
			func(h *History) { h.BaselineP95 = 20 * ms }), RollBack, "latency"},
		"slow without any baseline": {traffic(200, func(int) (Side, Side) { return Side{}, side(50, 0, 60*ms) }), Calm, ""},
		"probes of next fail":       {with(traffic(9, calm), func(h *History) { h.Next, h.Stable = sick, healthy }), RollBack, "health"},
		"probes of both fail":       {with(traffic(9, calm), func(h *History) { h.Next, h.Stable = sick, sick }), Hold, "health"},
		"probes of one of two fail": {with(traffic(9, calm), func(h *History) { h.Next, h.Stable = []Instance{sick[0], healthy[1]}, healthy }), Calm, ""},
		"one stays failed after its restart": {with(traffic(9, calm), func(h *History) {
			h.Next, h.Stable = []Instance{{Name: "web/0", Failed: 2, Restarts: 1}, healthy[1]}, healthy
		}), RollBack, "health"},
		"one is started again and has time": {with(traffic(9, calm), func(h *History) {
			h.Next, h.Stable = []Instance{{Name: "web/0", Failed: 4, Restarts: 1, Starting: true}, healthy[1]}, healthy
		}), Calm, ""},
		"all are started again": {with(traffic(9, calm), func(h *History) {
			h.Next, h.Stable = []Instance{{Name: "web/0", Failed: 2, Restarts: 1, Starting: true}, {Name: "web/1", Failed: 2, Restarts: 1, Starting: true}}, healthy
		}), RollBack, "health"},
		"one failed probe": {with(traffic(9, calm), func(h *History) {
			h.Next = []Instance{{Name: "web/0", Failed: 1}, {Name: "web/1", Failed: 1}}
		}), Calm, ""},
		"crash loop":        {with(traffic(9, calm), func(h *History) { h.Next = []Instance{{Name: "web/0", Restarts: 3}} }), RollBack, "crash loop"},
		"critical":          {with(traffic(9, calm), func(h *History) { h.Critical = []Critical{{Name: "items"}} }), RollBack, "critical"},
		"critical on both":  {with(traffic(9, calm), func(h *History) { h.Critical = []Critical{{Name: "items", StableFails: true}} }), Hold, "critical"},
		"no ticks":          {with(traffic(9, calm), func(h *History) { h.Now = h.Now.Add(31 * time.Second) }), Hold, "ticks"},
		"harm during holds": {with(traffic(9, calm), func(h *History) { h.Now = h.Now.Add(31 * time.Second); h.Next = sick }), RollBack, "health"},
	} {
		t.Run(name, func(t *testing.T) {
			if v := Judge(limits, c.h); v.Kind != c.kind || v.Trigger != c.trigger {
				t.Errorf("got %+v, want %s by %q", v, c.kind, c.trigger)
			}
		})
	}
}

// tape plays seconds as time passes; lost says which were never measured.
type tape struct {
	start time.Time
	next  func(i int) Side
	lost  func(i int) bool
}

func (p tape) seconds(from, now time.Time) []Second {
	var list []Second
	for i := 0; ; i++ {
		at := p.start.Add(time.Duration(i+1) * time.Second)
		if at.After(now) {
			return list
		}
		if at.After(from) && (p.lost == nil || !p.lost(i)) {
			list = append(list, Second{At: at, Next: p.next(i), Stable: side(50, 0, 20*ms)})
		}
	}
}

func (p tape) History(_ context.Context, now time.Time, window time.Duration) (History, error) {
	h := History{Now: now, Since: p.start, Started: p.start.Add(-time.Hour), Seconds: p.seconds(now.Add(-window), now)}
	if n := len(h.Seconds); n > 0 {
		h.Last = h.Seconds[n-1].At
	}
	return h, nil
}

func (p tape) Totals(context.Context, time.Time) (stable, next Side, err error) {
	return stable, next, nil
}

func (p tape) Observed(_ context.Context, from time.Time) (int, error) {
	return len(p.seconds(from, time.Now())), nil
}

func TestWatch(t *testing.T) {
	good := func(int) Side { return side(50, 0, 20*ms) }
	t.Run("ends with its hold", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			from := time.Now()
			if _, err := (Watcher{Limits: limits, Samples: tape{start: from, next: good}}).Watch(t.Context(), from, 15*time.Minute); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(from); took != 15*time.Minute {
				t.Errorf("took %s", took)
			}
		})
	})
	t.Run("does not end unseen", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			from := time.Now()
			blind := tape{start: from, next: good, lost: func(i int) bool { return i >= 120 && i < 420 }}
			if _, err := (Watcher{Limits: limits, Samples: blind}).Watch(t.Context(), from, 15*time.Minute); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(from); took < 19*time.Minute || took > 20*time.Minute {
				t.Errorf("300 of 900 ticks were lost, and the hold of 15 min took %s", took)
			}
		})
	})
	t.Run("a breach that came and went while nobody watched", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			from := time.Now()
			p := tape{start: from, next: func(i int) Side {
				if i < 200 {
					return side(50, 40, 20*ms)
				}
				return side(50, 0, 20*ms)
			}}
			time.Sleep(10 * time.Minute)
			_, err := (Watcher{Limits: limits, Samples: p}).Watch(t.Context(), from, 15*time.Minute)
			var b *Breach
			if !errors.As(err, &b) || b.Verdict.Trigger != "errors" || !b.Harm.Equal(from.Add(time.Second)) {
				t.Errorf("err = %v", err)
			}
		})
	})
	t.Run("a breach in the last second of the hold", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			from := time.Now()
			p := tape{start: from, next: func(i int) Side { return side(50, 40, 20*ms) }}
			_, err := (Watcher{Limits: limits, Samples: p}).Watch(t.Context(), from, 3*time.Minute)
			var b *Breach
			if !errors.As(err, &b) {
				t.Errorf("err = %v", err)
			}
		})
	})
	t.Run("interrupted is not over", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("why")
			time.AfterFunc(time.Minute, func() { cancel(why) })
			if _, err := (Watcher{Limits: limits, Samples: tape{start: time.Now(), next: good}}).Watch(ctx, time.Now(), time.Hour); !errors.Is(err, why) {
				t.Errorf("err = %v", err)
			}
		})
	})
}

// A canary that got no traffic was failed, or passed: no requests are no evidence and no alarm.
func TestScar_flagger_883(t *testing.T) {
	h := traffic(600, func(int) (Side, Side) { return Side{}, Side{} })
	if v := Judge(limits, h); v.Kind != Calm {
		t.Errorf("no requests: %+v", v)
	}
	h.Now = h.Now.Add(time.Minute)
	if v := Judge(limits, h); v.Kind != Hold {
		t.Errorf("no measurements: %+v", v)
	}
}
