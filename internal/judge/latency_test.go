package judge

import (
	"slices"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

func one(d time.Duration) *measure.Histogram {
	h := &measure.Histogram{}
	h.Add(d)
	return h
}

// A comparison of one with one says nothing, so few latencies wait for more, but not for ever.
func TestFewLatenciesAreComparedTogether(t *testing.T) {
	j, d := New(defaults()), newDice(50)
	j.Tick(second(0, pair(5000, d.side(100, 0, base), d.side(100, 0, base)))) // a past
	few := func(n int64) Tick {
		next, stable := requests(1, 0), requests(1, 0)
		next.Latency, stable.Latency = one(9*base), one(base)
		return second(n, pair(5000, next, stable))
	}
	before := slices.Clone(j.all.latency.harm.logs)
	past := j.all.latency.stable.total
	for n := int64(1); n < batchSize/2; n++ {
		j.Tick(few(n))
		if !slices.Equal(before, j.all.latency.harm.logs) || j.all.latency.stable.total != past || len(j.all.latency.batches) != 1 {
			t.Fatalf("after %d ticks: %d batches", n, len(j.all.latency.batches))
		}
	}
	j.Tick(few(batchSize / 2))
	if slices.Equal(before, j.all.latency.harm.logs) || j.all.latency.stable.total != past+batchSize/2 || len(j.all.latency.batches) != 0 {
		t.Fatal("a full batch was not compared")
	}
	j.Tick(few(30))
	past = j.all.latency.stable.total
	j.Tick(few(30 + batchSeconds))
	if j.all.latency.stable.total != past+1 || len(j.all.latency.batches) != 1 {
		t.Errorf("a batch of a minute ago still waits: %d", len(j.all.latency.batches))
	}
}

func TestTiesAreRankedInTheirMiddle(t *testing.T) {
	var s spread
	s.add(100, 1000)
	if cut := s.cut(nil); len(cut) != 1 || int(cut[0]) != len(levels)/2 {
		t.Errorf("all the same: %v", cut)
	}
	s = spread{}
	for b := range 1000 {
		s.add(b, 1)
	}
	cut := s.cut(nil)
	if cut[499] != uint8(level(.5)) || cut[500] != uint8(level(.5)+1) || int(cut[999]) < ranks-2 || !slices.IsSorted(cut) {
		t.Errorf("%v", cut)
	}
}

func TestHalvingKeepsQuantiles(t *testing.T) {
	var s, none spread
	for b := range 500 {
		s.add(b, int64(1+b%3))
	}
	before := [3]int{quantile(.5, &s, &none), quantile(.95, &s, &none), quantile(.99, &s, &none)}
	total := s.total
	s.halve()
	if after := [3]int{quantile(.5, &s, &none), quantile(.95, &s, &none), quantile(.99, &s, &none)}; s.total != total/2 ||
		max(after[0]-before[0], before[0]-after[0], after[1]-before[1], before[1]-after[1], after[2]-before[2], before[2]-after[2]) > 1 {
		t.Errorf("%v became %v", before, after)
	}
}

func TestTheChoiceOfPartsDoesNotDependOnTheirOrder(t *testing.T) {
	s := busy(newDice(51), 40)
	a, b := New(defaults()), New(defaults())
	a.Tick(second(1, s))
	slices.Reverse(s.Next.Parts)
	slices.Reverse(s.Stable.Parts)
	b.Tick(second(1, s))
	for i := range a.parts {
		if a.parts[i].partName != b.parts[i].partName {
			t.Fatalf("%v and %v", a.parts[i].partName, b.parts[i].partName)
		}
	}
}

func TestTooManyWeightsHaveNoBand(t *testing.T) {
	j := New(noLatency())
	for n := range int64(maxWeights + 5) {
		j.Tick(second(n, pair(int(100*(n+1)), requests(5, 1), requests(50, 1))))
		low, _ := j.band(j.all.splits)
		if known := n < maxWeights; known != (low > 0) {
			t.Fatalf("%d weights: band from %v", n+1, low)
		}
	}
	if len(j.all.splits) != maxWeights {
		t.Errorf("%d weights are kept", len(j.all.splits))
	}
}

func TestAWatchForLatencyShowsIt(t *testing.T) {
	j, d := New(defaults()), newDice(52)
	v, _ := play(j, 0, 60, func(int64) Stratum {
		return pair(5000, d.side(1000, 0, base*119/100), d.side(1000, 0, base))
	}, Promote)
	must(t, v, Watch, "latency")
	says(t, v, "not proven yet: ", "; p95 of next ", ", stable ")
}
