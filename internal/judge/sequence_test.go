package judge

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within) {
		t.Errorf("%s is %v, not %v", what, got, want)
	}
}

func TestBoundaryOfKnownValues(t *testing.T) {
	// x = ln(x+1) − 2 ln 0.05 has the solution 8.2119: ln 9.2119 = 2.2205, 2 ln 0.05 = −5.9915.
	x := mixture(0.05)
	near(t, "the mixture", x, 8.2119, 1e-4)
	// Where n is Tuned, ln(sqrt(x+1)/α) is x/2, and the boundary is sqrt((x+1)/n).
	near(t, "the boundary at its best", Boundary(60, 60, 0.05), math.Sqrt(9.2119/60), 1e-5)
	// n = 30: nρ² = 4.10595; sqrt(2·5.10595/(30·4.10595)·ln(sqrt(5.10595)/0.05)) = sqrt(0.0829031·3.810951).
	near(t, "the boundary before it", Boundary(30, 60, 0.05), 0.562087, 1e-4)
	for n := 10.0; n < 1e4; n *= 1.3 {
		if b := Boundary(n, n, 0.05); b > Boundary(n, n*1.2, 0.05) || b > Boundary(n, n/1.2, 0.05) {
			t.Errorf("after %v points another tuning is narrower", n)
		}
	}
}

func TestIntervalOfKnownValues(t *testing.T) {
	s := NewSequence(0.05, 60, 4)
	for _, x := range []float64{1, 3, 2} {
		s.Add(x)
	}
	if _, low, high, ok := s.Interval(); ok || !math.IsInf(low, -1) || !math.IsInf(high, 1) {
		t.Error("there is an interval before there are enough points")
	}
	s.Add(6)
	// Mean 3, squares 4+0+1+9 = 14, variance 3.5. Neighbours: (−2)(0) + 0(−1) + (−1)(3) = −3: no memory.
	mean, low, high, ok := s.Interval()
	width := math.Sqrt(3.5) * Boundary(4, 60, 0.05)
	if !ok {
		t.Fatal("no interval")
	}
	near(t, "the mean", mean, 3, 1e-12)
	near(t, "its lower end", low, 3-width, 1e-12)
	near(t, "its upper end", high, 3+width, 1e-12)
}

func TestMemoryOfNeighbours(t *testing.T) {
	s := NewSequence(0.05, 60, 2)
	for _, x := range []float64{10, 11, 12, 13} {
		s.Add(x)
	}
	// Distances −1.5 −0.5 0.5 1.5: squares 5, neighbours 0.75 − 0.25 + 0.75 = 1.25, c = 0.25, r = 0.25 + 1.75/4 = 0.6875.
	near(t, "memory", s.memory(), 1.6875/0.3125, 1e-12)
}

func TestSequenceIgnoresWhatIsNoNumber(t *testing.T) {
	s, clean := NewSequence(0.05, 60, 2), NewSequence(0.05, 60, 2)
	for _, x := range []float64{1, 2, 5, 3} {
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1e200} {
			s.Add(bad)
		}
		s.Add(x)
		clean.Add(x)
	}
	if s.Ignored != 16 {
		t.Errorf("%d were ignored", s.Ignored)
	}
	s.Ignored = 0
	if *s != *clean {
		t.Errorf("%+v is not %+v", s, clean)
	}
}

func TestSequenceGoesOnFromACheckpoint(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	block := func() Block {
		return Block{Next: r.ExpFloat64(), Stable: r.ExpFloat64(), NextOf: 10 + r.Float64(), StableOf: 200 * r.Float64()}
	}
	one := NewPair(0.05, 60, 30)
	for range 40 {
		one.Compare(block())
	}
	stored, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	var other Pair
	if err := json.Unmarshal(stored, &other); err != nil {
		t.Fatal(err)
	}
	for range 40 {
		b := block()
		one.Compare(b)
		other.Compare(b)
	}
	if !reflect.DeepEqual(*one, other) || one.Read() != other.Read() {
		t.Errorf("%+v is not %+v", one, other)
	}
}

// missed is the share of runs in which the interval missed 0 at any look.
func missed(seed uint64, runs, points int, world func(*rand.Rand) func() float64) float64 {
	n := 0
	for i := range runs {
		next := world(rand.New(rand.NewPCG(seed, uint64(i))))
		s := NewSequence(0.05, 60, 30)
		for range points {
			s.Add(next())
			if _, low, high, ok := s.Interval(); ok && (low > 0 || high < 0) {
				n++
				break
			}
		}
	}
	return float64(n) / float64(runs)
}

// remembers is a world in which every second has something of the one before, scraped each 5 s, in blocks of 15 s.
func remembers(phi float64) func(*rand.Rand) func() float64 {
	return func(r *rand.Rand) func() float64 {
		x := r.NormFloat64() / math.Sqrt(1-phi*phi)
		return func() float64 {
			sum := 0.0
			for range 3 {
				for range 5 {
					x = phi*x + r.NormFloat64()
				}
				sum += x
			}
			return sum
		}
	}
}

// TestSequenceMissesSeldom looks after every point. The bound is 5 %; what 300 runs tell is that give or take 3 points.
func TestSequenceMissesSeldom(t *testing.T) {
	normal := func(r *rand.Rand) func() float64 { return r.NormFloat64 }
	skewed := func(r *rand.Rand) func() float64 {
		return func() float64 { return r.ExpFloat64() + r.ExpFloat64() + r.ExpFloat64() - 3 }
	}
	for _, w := range []struct {
		name  string
		most  float64
		world func(*rand.Rand) func() float64
	}{
		{"normal", 0.08, normal}, {"skewed", 0.08, skewed}, {"remembers 2 s", 0.08, remembers(0.5)}, {"remembers 5 s", 0.08, remembers(0.8)},
		{"remembers 20 s", 0.08, remembers(0.95)}, {"remembers 50 s", 0.15, remembers(0.98)}, {"remembers 10 min", 1, remembers(0.998)},
	} {
		share := missed(1, 300, 300, w.world)
		t.Logf("%s: %.1f %% of 300 runs of 300 points missed", w.name, share*100)
		if share > w.most {
			t.Errorf("%s: %.1f %% of the runs missed", w.name, share*100)
		}
	}
	if share := missed(2, 60, 10_000, skewed); share > 0.10 {
		t.Errorf("in 10,000 points %.1f %% missed", share*100)
	}
}

// TestSequenceIsWeakenedByALongMemory shows what the remedies are for, and where they end.
func TestSequenceIsWeakenedByALongMemory(t *testing.T) {
	if share := missed(3, 200, 600, remembers(0.998)); share < 0.10 {
		t.Errorf("a memory of ten minutes: only %.1f %% missed, the comment on Sequence says too little", share*100)
	}
	plain := 0
	for i := range 200 {
		next := remembers(0.95)(rand.New(rand.NewPCG(4, uint64(i))))
		var sum, squares float64
		for n := 1.0; n <= 600; n++ {
			x := next()
			sum, squares = sum+x, squares+x*x
			mean := sum / n
			if n >= 30 && math.Abs(mean) > math.Sqrt(squares/n-mean*mean)*Boundary(n, 60, 0.05) {
				plain++
				break
			}
		}
	}
	if plain < 30 {
		t.Errorf("without the remedy only %d of 200 missed: it is not needed", plain)
	}
}

func TestSequenceSeesADifference(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	s := NewSequence(0.05, 60, 30)
	for range 60 {
		s.Add(1 + r.NormFloat64())
	}
	if _, low, _, ok := s.Interval(); !ok || low <= 0 {
		t.Errorf("after 60 points a shift of one deviation is not seen: %v", low)
	}
}

// rare counts how many runs warn of a metric that happens in one request of a hundred, of which next serves five a block.
func rare(floor bool) (warned int) {
	for i := range 200 {
		r := rand.New(rand.NewPCG(7, uint64(i)))
		count := func(of int) (n float64) {
			for range of {
				if r.Float64() < 0.01 {
					n++
				}
			}
			return n
		}
		p := NewPair(0.05, 60, 30)
		for range 60 {
			p.Compare(Block{Next: count(5) / 5, Stable: count(95) / 95, NextOf: 5, StableOf: 95})
			if !floor {
				p.Floor = 0
			}
			if p.Read().Worse(true, 0.05) {
				warned++
				break
			}
		}
	}
	return warned
}

func TestPairDoesNotTakeSilenceForProof(t *testing.T) {
	if with, without := rare(true), rare(false); with > 10 || without < 15 {
		t.Errorf("%d of 200 warned with the floor, %d without", with, without)
	}
}

func TestPairReadsBothSides(t *testing.T) {
	p := NewPair(0.05, 60, 3)
	for _, b := range []Block{{2, 4, 10, 90}, {2.5, 4.5, 10, 90}, {3, 5, 10, 90}, {math.NaN(), 1, 10, 90}} {
		p.Compare(b)
	}
	r := p.Read()
	near(t, "next", r.Next, 2.5, 1e-12)
	near(t, "stable", r.Stable, 4.5, 1e-12)
	near(t, "units", p.Counts, 100, 1e-12)
	// Neighbours of stable differ by ½: v = 90·90/180·¼ = 11.25 twice in two; floor = 11.25 · (1/10 + 1/90) = 1.25.
	near(t, "the floor", p.Floor, 1.25, 1e-12)
	if change, ok := r.Relative(r.Diff); !ok || math.Abs(change+2/4.5) > 1e-12 {
		t.Errorf("the change is %v", change)
	}
}

func TestWorseNeedsTheWholeInterval(t *testing.T) {
	for _, c := range []struct {
		r    Reading
		up   bool
		want bool
	}{
		{Reading{Stable: 100, Low: -30, High: -6, Known: true}, true, true},
		{Reading{Stable: 100, Low: -30, High: -4, Known: true}, true, false}, // within the grain
		{Reading{Stable: 100, Low: -30, High: -6}, true, false},              // too few blocks
		{Reading{Stable: 100, Low: -30, High: -6, Known: true}, false, false},
		{Reading{Stable: 100, Low: 6, High: 30, Known: true}, false, true},
		{Reading{Stable: 100, Low: 6, High: 30, Known: true}, true, false}, // better
		{Reading{Stable: -100, Low: 6, High: 30, Known: true}, false, true},
		{Reading{Stable: 0, Low: 0, High: 0, Known: true}, false, false},
		{Reading{Stable: 0, Low: 0.1, High: 0.2, Known: true}, false, true},
	} {
		if got := c.r.Worse(c.up, 0.05); got != c.want {
			t.Errorf("%+v up %v: %v", c.r, c.up, got)
		}
	}
}
