package sample

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

var t0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func tick(boot string, n int64, series ...measure.Series) measure.Tick {
	return measure.Tick{Boot: boot, N: n, At: t0.Add(time.Duration(n) * time.Second), Series: series}
}

func of(release string, requests, errors int64) measure.Series {
	l := &measure.Histogram{}
	l.AddN(20*time.Millisecond, requests)
	return measure.Series{App: "shop", Environment: domain.Production, Role: "web", Release: release, Requests: requests, Errors: errors, Unserved: errors / 2, Latency: l}
}

// Whatever is pulled twice, overlapping or late is counted once.
func TestEachTickCountsOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, next := NewBook(), map[string]int64{}
		added := 0
		for range rapid.IntRange(1, 30).Draw(t, "pulls") {
			boot := rapid.SampledFrom([]string{"one", "two"}).Draw(t, "boot")
			from := rapid.Int64Range(0, next[boot]).Draw(t, "from") // a puller that restarted asks again
			to := next[boot] + rapid.Int64Range(0, 5).Draw(t, "more")
			var page []measure.Tick
			for n := from + 1; n <= to; n++ {
				page = append(page, tick(boot, n, of("r", 1, 0)))
			}
			fresh := b.Add(page...)
			added += len(fresh)
			if want := to - next[boot]; int64(len(fresh)) != want {
				t.Fatalf("%d of %s..%d are new, want %d", len(fresh), boot, to, want)
			}
			next[boot] = to
			if b.Last(boot) != to {
				t.Fatalf("last %d, want %d", b.Last(boot), to)
			}
		}
		if sum := b.Sum("shop", domain.Production, "r", time.Time{}, t0.Add(24*time.Hour)); sum.Requests != int64(added) {
			t.Fatalf("%d requests counted, %d ticks", sum.Requests, added)
		}
	})
}

func TestTheBookIsBounded(t *testing.T) {
	b := NewBook()
	for n := int64(1); n <= kept+slack; n++ {
		release := "r"
		if n <= 300 {
			release = "gone"
		}
		b.Add(tick("one", n, of(release, 1, 0)))
	}
	if len(b.ticks) != kept {
		t.Errorf("%d ticks are kept", len(b.ticks))
	}
	if first := b.ticks[0].n; first != slack+1 {
		t.Errorf("the oldest is %d: the newest must stay", first)
	}
	if len(b.releases) != 1 {
		t.Errorf("%d releases are kept, one of them served three hours ago", len(b.releases))
	}
	if sum := b.Sum("shop", domain.Production, "r", time.Time{}, t0.Add(24*time.Hour)); sum.Requests != kept || sum.Ticks != kept {
		t.Errorf("%+v", sum)
	}
	if got := b.Add(tick("one", 3)); got != nil {
		t.Errorf("a tick that fell out came back: %v", got)
	}
}

func TestSpans(t *testing.T) {
	b := NewBook()
	for n := int64(1); n <= 10; n++ {
		detail := of("next", 5, 5)
		detail.Endpoint = "GET /"
		segment := of("next", 5, 5)
		segment.Segment = "plan=pro"
		other := of("next", 7, 7)
		other.App = "blog"
		staging := of("next", 9, 9)
		staging.Environment = domain.Staging
		b.Add(tick("one", n, of("stable", 10, 1), of("next", 5, 2), detail, segment, other, staging))
	}
	at := func(n int) time.Time { return t0.Add(time.Duration(n) * time.Second) }
	sum := b.Sum("shop", domain.Production, "next", at(2), at(6)) // after 2, up to 6
	if sum.Requests != 20 || sum.Errors != 8 || sum.Unserved != 4 || sum.Ticks != 4 || sum.Latency.Count() != 20 {
		t.Errorf("%+v", sum)
	}
	if all := b.Sum("shop", domain.Production, "", at(0), at(10)); all.Requests != 150 {
		t.Errorf("the environment: %+v", all)
	}
	if n := b.Observed(at(7)); n != 3 {
		t.Errorf("%d observed after 7", n)
	}
	seconds := b.Seconds(Subject{App: "shop", Environment: domain.Production, Stable: "stable", Next: "next"}, at(8))
	if len(seconds) != 2 || seconds[0].Stable.Requests != 10 || seconds[0].Next.Errors != 2 || !seconds[1].At.Equal(at(10)) {
		t.Errorf("%+v", seconds)
	}
	if !b.Newest().Equal(at(10)) || !NewBook().Newest().IsZero() {
		t.Errorf("newest %s", b.Newest())
	}
	if f := sum.Figures(); f == nil || f.ErrorRate != 0.4 || f.RPS != 5 || f.P95 < 0.019 || f.P95 > 0.021 {
		t.Errorf("%+v", f)
	}
	if (Sum{}).Figures() != nil || (Sum{}).Side("a") != nil {
		t.Error("no requests have figures")
	}
}

// Two web roles of one release add up, and what was added is not changed by it.
func TestRolesAddUp(t *testing.T) {
	b := NewBook()
	api := of("next", 5, 0)
	api.Role = "api"
	b.Add(tick("one", 1, of("next", 10, 1), api))
	s := Subject{App: "shop", Environment: domain.Production, Next: "next"}
	for range 2 {
		sec := b.Seconds(s, t0)[0]
		if sec.Next.Requests != 15 || sec.Next.Latency.Count() != 15 {
			t.Errorf("%+v with %d latencies", sec.Next, sec.Next.Latency.Count())
		}
	}
	// Without a stable release nothing is stable's, whatever has no name.
	b.Add(tick("one", 2, of("", 3, 3)))
	if sec := b.Seconds(s, t0.Add(time.Second))[0]; sec.Stable.Requests != 0 {
		t.Errorf("%+v", sec)
	}
}

// A clock that goes back does not hide the ticks that came after.
func TestClockGoesBack(t *testing.T) {
	b := NewBook()
	b.Add(tick("one", 1), tick("one", 2), measure.Tick{Boot: "one", N: 3, At: t0.Add(-time.Hour)}, tick("one", 4))
	if n := b.Observed(t0.Add(time.Second)); n != 2 {
		t.Errorf("%d ticks after the first second, 2 and 4 are", n)
	}
}

func TestConcurrent(t *testing.T) {
	b := NewBook()
	var wg sync.WaitGroup
	for _, boot := range []string{"one", "two"} {
		wg.Go(func() {
			for n := int64(1); n <= 500; n++ {
				b.Add(tick(boot, n, of("r", 1, 0)))
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for range 200 {
				b.Sum("shop", domain.Production, "r", t0, t0.Add(time.Hour))
				b.Seconds(Subject{App: "shop", Environment: domain.Production, Next: "r"}, t0)
				b.Newest()
				b.Observed(t0)
			}
		})
	}
	wg.Wait()
	if sum := b.Sum("shop", domain.Production, "r", t0, t0.Add(time.Hour)); sum.Requests != 1000 {
		t.Errorf("%d requests", sum.Requests)
	}
}
