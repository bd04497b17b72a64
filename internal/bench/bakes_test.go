package bench

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/sample"
)

// How large the bakes are that are watched at once.
const (
	bakes      = 500
	bakeRate   = 20 // requests a second of each busy app, half of them next's
	bakeFor    = 20 * time.Second
	bakeChange = 30 // different seconds of traffic
	pages      = 5  // of them come as JSON
)

var busyBakes = flag.Int("busy", 100, "apps of 500 in a bake that have traffic")

// Five hundred apps bake at once: a guard for each, over three hours of ticks that come as JSON every second. What is
// measured is all of it: to read the ticks, to keep them, and to judge five hundred times a second.
func BenchmarkFiveHundredBakes(b *testing.B) {
	for b.Loop() {
		for _, busy := range []int{0, *busyBakes / 2, *busyBakes} {
			watchBakes(b, busy)
		}
	}
}

func watchBakes(b *testing.B, busy int) {
	defer debug.SetGCPercent(debug.SetGCPercent(50)) // as the server does
	debug.FreeOSMemory()
	heap, before := heapOf(), rssOf()
	feed := newFeed(busy)
	book := sample.NewBook()
	began := time.Now()
	const past = 3 * 3600
	for i := range past {
		book.Add(feed.tick(int64(i+1), began.Add(time.Duration(i-past)*time.Second)))
	}
	feed.seconds = nil // from now on it comes as JSON
	kept := heapOf() - heap

	ctx, cancel := context.WithCancelCause(b.Context())
	over := errors.New("measured")
	var wg sync.WaitGroup
	var all []*history
	for i := range bakes {
		since := began.Add(-15 * time.Minute)
		h := &history{book: book, since: since, mark: book.Mark(since), instances: make([]guard.Instance, 2),
			tape: book.Tape(sample.Subject{App: appName(i), Environment: domain.Production, Stable: stableOf(i), Next: nextOf(i)})}
		all = append(all, h)
		wg.Go(func() {
			time.Sleep(time.Duration(i) * time.Second / bakes) // they did not begin at once
			_, err := (guard.Watcher{Limits: limits, Samples: h}).Watch(ctx, time.Now().Add(-5*time.Minute), 3*time.Hour)
			if !errors.Is(err, over) {
				b.Errorf("app %d: %v", i, err)
			}
		})
	}
	step := func(n int64) {
		var t measure.Tick
		if err := json.Unmarshal(feed.page(n), &t); err != nil {
			b.Fatal(err)
		}
		t.N, t.At = n, time.Now()
		book.Add(t)
	}
	for _, h := range all { // until what passed is judged
		for h.asked.Load() < 3 && !b.Failed() {
			time.Sleep(10 * time.Millisecond)
		}
	}
	debug.FreeOSMemory()
	cpu, from := cpuOf(), time.Now()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for n := int64(past + 1); time.Since(from) < bakeFor; n++ {
		<-second.C
		step(n)
	}
	used, took := cpuOf()-cpu, time.Since(from)
	rss := rssOf() - before
	watching := heapOf() - heap
	cancel(over)
	wg.Wait()
	share := 100 * used.Seconds() / took.Seconds()
	what := fmt.Sprintf("500 bakes at once, %d apps with %d requests a second", busy, bakeRate)
	figures.add(what+": CPU", fmt.Sprintf("%.1f %% of a core", share), "≤ 10 %")
	figures.add("… memory: three hours of ticks, with the guards, by which the process grew",
		fmt.Sprintf("%.0f MB, %.0f MB, %.0f MB", kept/1e6, watching/1e6, rss/1e6), "≤ 200 MB")
	b.ReportMetric(share, fmt.Sprintf("%d-busy-cpu-%%", busy))
	b.ReportMetric(watching/1e6, fmt.Sprintf("%d-busy-heap-MB", busy))
	b.ReportMetric(rss/1e6, fmt.Sprintf("%d-busy-rss-MB", busy))
}

func appName(i int) string  { return fmt.Sprintf("app-%03d", i) }
func stableOf(i int) string { return fmt.Sprintf("rel_%03d_stable", i) }
func nextOf(i int) string   { return fmt.Sprintf("rel_%03d_next", i) }

// feed is a minute of traffic, again and again.
type feed struct {
	seconds []measure.Tick
	pages   [][]byte
}

func newFeed(busy int) *feed {
	f := &feed{}
	random := rand.New(rand.NewPCG(3, 4))
	for second := range bakeChange {
		t := measure.Tick{Boot: "boot", N: 1, At: time.Now()}
		for i := range busy {
			for _, side := range []domain.Side{domain.Stable, domain.Next} {
				t.Series = append(t.Series, secondOf(random, i, side, second == 0)...)
			}
		}
		f.seconds = append(f.seconds, t)
		if len(f.pages) == pages {
			continue
		}
		page, err := json.Marshal(t)
		if err != nil {
			panic(err)
		}
		f.pages = append(f.pages, page)
	}
	return f
}

// secondOf is one second of one release: the total, five endpoints and a segment of two values. One request of it may fail.
func secondOf(random *rand.Rand, app int, side domain.Side, fails bool) []measure.Series {
	release := stableOf(app)
	if side == domain.Next {
		release = nextOf(app)
	}
	base := measure.Series{App: appName(app), Environment: domain.Production, Role: "web", Rollout: "rol_" + appName(app),
		Release: release, Side: side, Weight: domain.WeightAll / 2}
	parts := map[string]*measure.Series{}
	list := []*measure.Series{}
	at := func(endpoint, segment string) *measure.Series {
		s := parts[endpoint+"\x00"+segment]
		if s == nil {
			copied := base
			s = &copied
			s.Endpoint, s.Segment, s.Latency = endpoint, segment, &measure.Histogram{}
			parts[endpoint+"\x00"+segment] = s
			list = append(list, s)
		}
		return s
	}
	for i := range bakeRate / 2 {
		took := time.Duration((2 + random.ExpFloat64()*8) * float64(time.Millisecond))
		for _, s := range []*measure.Series{at("", ""), at(fmt.Sprintf("GET /v1/%d", random.IntN(5)), ""), at("", fmt.Sprintf("plan=%d", random.IntN(2)))} {
			s.Requests++
			s.Latency.Add(took)
			if fails && i == 0 {
				s.Errors++
			}
		}
	}
	out := make([]measure.Series, len(list))
	for i, s := range list {
		out[i] = *s
	}
	return out
}

func (f *feed) tick(n int64, at time.Time) measure.Tick {
	t := f.seconds[n%bakeChange]
	t.N, t.At = n, at
	return t
}

func (f *feed) page(n int64) []byte { return f.pages[n%pages] }

func heapOf() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools give theirs back at the second
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func cpuOf() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func rssOf() float64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	var size, resident float64
	if _, err := fmt.Sscan(string(raw), &size, &resident); err != nil {
		panic(err)
	}
	return resident * float64(os.Getpagesize())
}
