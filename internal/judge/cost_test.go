package judge

import (
	"runtime"
	"testing"
	"time"
)

// A tick of 500 requests with errors and latency and no parts: two metrics.
func BenchmarkTick(b *testing.B) { benchmarkTick(b, 0) }

// The same with 20 endpoints and 20 values: 82 metrics.
func BenchmarkTickOfManyParts(b *testing.B) { benchmarkTick(b, maxParts) }

func benchmarkTick(b *testing.B, parts int) {
	d := newDice(1)
	var variants [16]Tick
	for i := range variants {
		variants[i] = second(0, busy(d, parts))
	}
	j := New(defaults())
	n := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		tick := variants[n%16]
		tick.N = n
		j.Tick(tick)
	}
	metrics := float64(2 * (1 + min(len(j.parts), 2*maxParts)))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/metrics, "ns/metric")
}

func BenchmarkVerdict(b *testing.B) {
	j := New(defaults())
	fill(j, 600)
	for b.Loop() {
		j.Verdict()
	}
}

// A thousand rollouts at once, a tick and a verdict of each.
func BenchmarkAThousandRollouts(b *testing.B) {
	d := newDice(2)
	tick := second(0, busy(d, 3))
	judges := make([]*Judge, 1000)
	for i := range judges {
		judges[i] = New(defaults())
	}
	n := int64(0)
	for b.Loop() {
		n++
		tick.N = n
		for _, j := range judges {
			j.Tick(tick)
			j.Verdict()
		}
	}
}

func BenchmarkCheckpoint(b *testing.B) {
	j := New(defaults())
	fill(j, 600)
	for b.Loop() {
		if _, err := j.Checkpoint(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAJudgeIsSmall(t *testing.T) {
	const judges = 8
	kept := make([]*Judge, judges)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range kept {
		kept[i] = New(defaults())
		fill(kept[i], 300)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int64(after.HeapAlloc-before.HeapAlloc) / judges
	t.Logf("%d bytes with 40 parts", each)
	if each > 400_000 {
		t.Errorf("%d bytes", each)
	}
	runtime.KeepAlive(kept)
}

// Far above what it takes, and far below what would be felt: it catches a tick that grew by its past.
func TestATickIsCheap(t *testing.T) {
	j := New(defaults())
	begin := time.Now()
	fill(j, 500)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("500 ticks took %v", took)
	}
}
