package sample

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/measure"
)

// anySeries is one release's count of a second: its total and its endpoints, or nothing.
func anySeries(t *rapid.T, release string, weight int) (guard.Side, []measure.Series) {
	if rapid.IntRange(0, 3).Draw(t, "idle") == 0 {
		return guard.Side{}, nil
	}
	total := measure.Series{App: "shop", Environment: domain.Production, Release: release, Weight: weight}
	var side guard.Side
	var list []measure.Series
	for i := range rapid.IntRange(1, 4).Draw(t, "endpoints") {
		p := total
		p.Endpoint = fmt.Sprintf("GET /%d", i)
		p.Requests = rapid.Int64Range(1, 300).Draw(t, "requests")
		p.Errors = rapid.Int64Range(0, p.Requests).Draw(t, "errors")
		total.Requests, total.Errors = total.Requests+p.Requests, total.Errors+p.Errors
		side.Parts = append(side.Parts, guard.Part{Name: p.Endpoint, Requests: p.Requests, Errors: p.Errors})
		list = append(list, p)
	}
	total.Unserved = rapid.Int64Range(0, total.Errors).Draw(t, "unserved")
	if rapid.Bool().Draw(t, "answered") {
		total.Latency = &measure.Histogram{}
		for range rapid.IntRange(1, 9).Draw(t, "latencies") {
			total.Latency.AddN(time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "took")), rapid.Int64Range(1, 3).Draw(t, "times"))
		}
	}
	side.Requests, side.Errors, side.Unserved, side.Latency = total.Requests, total.Errors, total.Unserved, total.Latency
	return side, append(list, total)
}

// Whatever was added is read again: second by second, whether the tape was read all the time or only at the end, and
// added up over any spans.
func TestWhatIsKeptIsWhatCame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBook()
		s := Subject{App: "shop", Environment: domain.Production, Stable: "stable", Next: "next"}
		tape := b.Tape(s)
		var want []guard.Second
		weight, n := 0, rapid.IntRange(1, 200).Draw(t, "ticks")
		for i := 1; i <= n; i++ {
			if rapid.IntRange(0, 9).Draw(t, "shift") == 0 {
				weight = rapid.IntRange(0, domain.WeightAll).Draw(t, "weight")
			}
			tk := tick("one", int64(i))
			sec := guard.Second{At: tk.At}
			var a, c []measure.Series
			sec.Stable, a = anySeries(t, "stable", weight)
			sec.Next, c = anySeries(t, "next", weight)
			switch {
			case len(a)+len(c) > 0:
				sec.Weight = weight
			case len(want) > 0:
				sec.Weight = want[len(want)-1].Weight
			}
			tk.Series = append(a, c...)
			b.Add(tk)
			want = append(want, sec)
			if rapid.Bool().Draw(t, "read") {
				if got := tape.Seconds(time.Minute, time.Time{}); !reflect.DeepEqual(got, want[max(0, len(want)-60):]) {
					t.Fatalf("after %d ticks the tape has\n%v, not\n%v", i, got, want[max(0, len(want)-60):])
				}
			}
		}
		if got := b.Seconds(s, t0); !reflect.DeepEqual(got, want) {
			t.Fatalf("%v, not %v", got, want)
		}
		from, to := rapid.IntRange(0, n).Draw(t, "from"), rapid.IntRange(0, n).Draw(t, "to")
		spans := []Span{{t0.Add(time.Duration(from) * time.Second), t0.Add(time.Duration(to) * time.Second)},
			{t0.Add(-time.Hour), t0.Add(3 * time.Second)}}
		var sum guard.Side
		ticks, latency := 0, &measure.Histogram{}
		for i, sec := range want {
			if i+1 <= 3 || i+1 > from && i+1 <= to {
				ticks++
				sum.Requests, sum.Errors, sum.Unserved = sum.Requests+sec.Next.Requests, sum.Errors+sec.Next.Errors, sum.Unserved+sec.Next.Unserved
				latency.Merge(sec.Next.Latency)
			}
		}
		got := b.SumOver("shop", domain.Production, "next", spans)
		var parts int64
		for _, p := range got.Parts {
			parts += p.Requests
		}
		if got.Requests != sum.Requests || got.Errors != sum.Errors || got.Unserved != sum.Unserved || got.Ticks != ticks ||
			parts != sum.Requests || got.Latency.Count() != latency.Count() || got.Latency.Quantile(0.9) != latency.Quantile(0.9) {
			t.Fatalf("%+v, not %+v in %d ticks", got, sum, ticks)
		}
	})
}

// However many names an app makes up, they are bounded; what is beyond them is in the total.
func TestPartsAreBounded(t *testing.T) {
	b := NewBook()
	var list []measure.Series
	for i := range 100 {
		for _, s := range []measure.Series{{Endpoint: fmt.Sprintf("GET /%d", i)}, {Segment: fmt.Sprintf("plan=%d", i)}, {Segment: fmt.Sprintf("s%d=1", i)}} {
			s.App, s.Environment, s.Release, s.Requests = "shop", domain.Production, "next", 1
			list = append(list, s)
		}
	}
	total := of("next", 100, 0)
	for n := int64(1); n <= 3; n++ {
		b.Add(tick("one", n, append([]measure.Series{total}, list...)...))
	}
	sum := b.Sum("shop", domain.Production, "next", time.Time{}, t0.Add(time.Hour))
	endpoints, values, segments := 0, 0, 0
	for _, p := range sum.Parts {
		switch {
		case !p.Segment:
			endpoints++
		case segmentOf(p.Name) == "plan=":
			values++
		default:
			segments++
		}
		if p.Requests != 3 {
			t.Errorf("%+v", p)
		}
	}
	if endpoints != mostEndpoints || values != mostValues || segments+1 != mostSegments || sum.Requests != 300 {
		t.Errorf("%d endpoints, %d values, %d other segments of %d requests", endpoints, values, segments, sum.Requests)
	}
}

// A tape that was not read for hours goes on with what is left.
func TestATapeThatFellBehind(t *testing.T) {
	b := NewBook()
	tape := b.Tape(Subject{App: "shop", Environment: domain.Production, Next: "next"})
	for n := int64(1); n <= 2*kept; n++ {
		b.Add(tick("one", n, of("next", n%7, 0)))
		if n == 5 && len(tape.Seconds(time.Minute, t0)) != 5 {
			t.Fatal("the tape does not begin")
		}
	}
	got := tape.Seconds(time.Minute, t0)
	if len(got) != 60 {
		t.Fatalf("%d seconds", len(got))
	}
	for i, sec := range got {
		if n := int64(2*kept - 59 + i); sec.Next.Requests != n%7 || !sec.At.Equal(tick("one", n).At) {
			t.Fatalf("second %d: %+v", n, sec)
		}
	}
}
