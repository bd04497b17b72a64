package proxy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/belay-cd/belay/internal/domain"
)

// fewer is a number of rounds, a twentieth of it under the race detector.
func fewer(n int) int {
	if raced {
		return n / 20
	}
	return n
}

// A million visitors under three labels each: nobody counts twice, hardly anybody is dropped, and the memory is bounded.
func TestAMillionVisitorsFitIntoTheBound(t *testing.T) {
	const labels = 3
	visitors := fewer(1_000_000)
	names := make([]label, labels)
	for i := range names {
		names[i] = newLabel(fmt.Sprintf("GET /%d", i), "")
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := newSeen()
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in every run
	var dropped, drawn [2]int             // by side, at 5 %
	draws := make([]uint32, 0, 1_000)
	for range visitors {
		u := random.Uint32()
		if len(draws) < cap(draws) {
			draws = append(draws, u)
		}
		side := 0
		if drawnNext(u, 500) {
			side = 1
		}
		for i := range names {
			drawn[side]++
			h := hashUnit(u, &names[i])
			if !s.visits.add(h) {
				dropped[side]++
			}
			s.errors.add(h)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 11<<20 {
		t.Errorf("%d KiB for a million visitors", grown>>10)
	} else {
		t.Logf("%d KiB", grown>>10)
	}
	share := float64(dropped[0]+dropped[1]) / float64(visitors*labels)
	t.Logf("%.2f %% of the units under a label are taken for known", share*100)
	if share > 0.02 {
		t.Errorf("%.2f %% of the units are dropped", share*100)
	}
	a, b := float64(dropped[0])/float64(drawn[0]), float64(dropped[1])/float64(drawn[1])
	if math.Abs(a-b) > 5*math.Sqrt(share/float64(drawn[1])) {
		t.Errorf("%.3f %% of stable's and %.3f %% of next's are dropped", a*100, b*100)
	}
	for _, u := range draws {
		for i := range names {
			if h := hashUnit(u, &names[i]); s.visits.add(h) || s.errors.add(h) {
				t.Fatal("a unit counts twice")
			}
		}
	}
	runtime.KeepAlive(s)
}

// Far beyond its size a filter forgets nobody: it takes ever more for known, on both sides alike.
func TestAFullFilterDropsBothSidesAlike(t *testing.T) {
	f := newFilter(1)                     // 512 words
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // the same in every run
	var dropped, drawn [2]float64
	l := newLabel("", "")
	for range 20_000 {
		u, side := random.Uint32(), 0
		if drawnNext(u, 5_000) {
			side = 1
		}
		drawn[side]++
		if !f.add(hashUnit(u, &l)) {
			dropped[side]++
		}
		if f.add(hashUnit(u, &l)) {
			t.Fatal("a unit counts twice")
		}
	}
	a, b := dropped[0]/drawn[0], dropped[1]/drawn[1]
	t.Logf("dropped: %.1f %% and %.1f %%", a*100, b*100)
	if a < 0.2 || math.Abs(a-b) > 4*math.Sqrt(a*(1-a)*2/drawn[0]) {
		t.Errorf("%.1f %% of stable's and %.1f %% of next's are dropped", a*100, b*100)
	}
}

// Of many that come with the same unit at once, one is told that it is new, and none is forgotten.
func TestOneOfManyGoroutinesIsFirst(t *testing.T) {
	const crowd = 4
	units := uint32(fewer(200_000))
	l := newLabel("", "")
	f := newFilter(1)
	f.layers[0].Store(newLayer(1 << 14)) // crowded, so that they meet in the same words
	news := make([]atomic.Int32, units)
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			for u := range units {
				if f.add(hashUnit(u*2_654_435_761, &l)) {
					news[u].Add(1)
				}
			}
		})
	}
	all.Wait()
	for u := range units {
		if n := news[u].Load(); n > 1 {
			t.Fatalf("unit %d was new %d times", u, n)
		}
		if f.add(hashUnit(u*2_654_435_761, &l)) {
			t.Fatalf("unit %d was forgotten", u)
		}
	}
}

func TestPlaceboIsTheTopOfStable(t *testing.T) {
	for weight := 1; weight < domain.WeightAll; weight += 7 {
		edge := uint64(math.Ceil((1 - 0.05*(1-float64(weight)/domain.WeightAll)) * (1 << 32)))
		for _, c := range []struct {
			u    uint64
			want bool
		}{{0, false}, {edge - 2, false}, {edge + 1, true}, {1<<32 - 1, true}} {
			u := uint32(c.u)
			if c.u < 1<<32 && drawnPlacebo(u, weight) != c.want {
				t.Fatalf("draw %d at weight %d: placebo %t", u, weight, !c.want)
			}
			if drawnPlacebo(u, weight) && drawnNext(u, weight) && weight < 9_999 {
				t.Fatalf("draw %d at weight %d is next's and a placebo", u, weight)
			}
		}
	}
}
