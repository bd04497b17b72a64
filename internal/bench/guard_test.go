package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/sample"
)

// history is the guard's view of a book, as the server gives it.
type history struct {
	book      *sample.Book
	tape      *sample.Tape
	mark      int64
	since     time.Time
	instances []guard.Instance
	asked     atomic.Int64 // how often
}

func (h *history) History(_ context.Context, now time.Time, window time.Duration) (guard.History, error) {
	h.asked.Add(1)
	return guard.History{Now: now, Since: h.since, Last: h.book.Arrived(), Seconds: h.tape.Seconds(window, h.since),
		Next: slices.Clone(h.instances), Stable: slices.Clone(h.instances)}, nil
}

func (h *history) Totals(context.Context, time.Time) (stable, next guard.Side, err error) {
	return stable, next, nil
}

func (h *history) Observed(context.Context, time.Time) (int, error) {
	return h.book.ObservedFrom(h.mark), nil
}

var limits = guard.Limits{ErrorRate: 0.05, ErrorFor: 3 * time.Minute, Latency: 2, LatencyFor: time.Minute, LatencyLeast: 100,
	FailedProbes: 2, WarmUp: time.Minute, CrashLoop: 3, Silence: 30 * time.Second}

// What the guard costs: a second of a quiet Monitor, and a Monitor of which nothing was seen while the server was down, so
// that every second of it is judged at its end.
func BenchmarkGuard(b *testing.B) {
	for b.Loop() {
		for _, span := range []time.Duration{time.Hour, 3 * time.Hour} {
			h, bytes := filled(span)
			window := max(limits.ErrorFor, limits.LatencyFor)
			began := time.Now()
			const judged = 100
			for range judged {
				now := time.Now()
				past, _ := h.History(b.Context(), now, window)
				if v := guard.Judge(limits, past); v.Kind != guard.Calm {
					b.Fatalf("it is to be calm: %+v", v)
				}
			}
			each := time.Since(began) / judged
			began = time.Now()
			if _, err := (guard.Watcher{Limits: limits, Samples: h}).Watch(b.Context(), h.since, span-time.Second); err != nil {
				b.Fatal(err)
			}
			replay := time.Since(began)
			what := fmt.Sprintf("%d h at 100 requests a second", int(span.Hours()))
			figures.add("guard, one second of a Monitor of "+what, short(each), "")
			figures.add("guard, all seconds of it judged at its end", short(replay), "")
			figures.add("its ticks in the memory of `serve`", fmt.Sprintf("%.1f MB", bytes/1e6), "")
			b.ReportMetric(float64(replay)/1e6, fmt.Sprintf("replay-%dh-ms", int(span.Hours())))
		}
	}
}

// filled is a book of that many seconds, up to now, of two releases with fifty requests a second each, on five endpoints.
func filled(span time.Duration) (*history, float64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	book := sample.NewBook()
	now := time.Now()
	random := rand.New(rand.NewPCG(1, 2))
	n := int(span / time.Second)
	for i := range n {
		t := measure.Tick{Boot: "boot", N: int64(i + 1), At: now.Add(time.Duration(i-n+1) * time.Second)}
		for _, side := range []domain.Side{domain.Stable, domain.Next} {
			for _, endpoint := range []string{"", "GET /", "GET /items", "GET /items/{id}", "POST /items", "GET /cart"} {
				s := measure.Series{App: "bench", Environment: domain.Production, Role: "web", Rollout: "rol_1", Release: "rel_" + string(side),
					Side: side, Weight: domain.WeightAll / 2, Endpoint: endpoint, Requests: 10, Latency: &measure.Histogram{}}
				if endpoint == "" {
					s.Requests = 50
				}
				for range s.Requests {
					s.Latency.Add(time.Duration(2+random.ExpFloat64()*3) * time.Millisecond)
				}
				t.Series = append(t.Series, s)
			}
		}
		book.Add(t)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	h := &history{book: book, since: now.Add(-span), mark: book.Mark(now.Add(-span)),
		tape: book.Tape(sample.Subject{App: "bench", Environment: domain.Production, Stable: "rel_stable", Next: "rel_next"})}
	return h, float64(after.HeapAlloc) - float64(before.HeapAlloc)
}
