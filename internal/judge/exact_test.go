package judge

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// unit is one draw with its chance to fail on either side.
type unit struct{ next, stable float64 }

// draws are all ways in which n units can be drawn, with their probabilities: independently, or as a permuted block of which a
// fixed share is next's.
func allDraws(n int, w float64, block bool) map[uint]float64 {
	list := map[uint]float64{}
	m := int(math.Round(w * float64(n)))
	sum := 0.0
	for z := range uint(1) << n {
		next := bits.OnesCount(z)
		if block && next != m {
			continue
		}
		p := 1.0
		if !block {
			p = math.Pow(w, float64(next)) * math.Pow(1-w, float64(n-next))
		}
		list[z] = p
		sum += p
	}
	for z := range list {
		list[z] /= sum
	}
	return list
}

// expectation is the mean of exp(log e), for each alternative, over all draws and all outcomes.
func expectation(units []unit, draws map[uint]float64, alternatives int, bet func(kNext, kStable, nNext, nStable int64, logs []float64)) []float64 {
	mean := make([]float64, alternatives)
	logs := make([]float64, alternatives)
	for z, pz := range draws {
		for f := range uint(1) << len(units) {
			p := pz
			var k, n [2]int64
			for i, u := range units {
				chance, side := u.stable, 1
				if z>>i&1 == 1 {
					chance, side = u.next, 0
				}
				n[side]++
				if f>>i&1 == 1 {
					p *= chance
					k[side]++
				} else {
					p *= 1 - chance
				}
			}
			if p == 0 {
				continue
			}
			clear(logs)
			bet(k[0], k[1], n[0], n[1], logs)
			for j := range mean {
				mean[j] += p * math.Exp(logs[j])
			}
		}
	}
	return mean
}

func greatest(list []float64) float64 {
	most := math.Inf(-1)
	for _, x := range list {
		most = math.Max(most, x)
	}
	return most
}

const exact = 1 + 1e-12

// boundary makes units as different as they can be, each on the boundary between harm and none.
func boundary(r *rand.Rand, n int, next func(stable float64) float64) []unit {
	units := make([]unit, n)
	for i := range units {
		for {
			stable := [...]float64{0, 0.001, 0.3, 0.8, 1, r.Float64()}[r.IntN(6)]
			if u := (unit{next(stable), stable}); u.next <= 1 {
				units[i] = u
				break
			}
		}
	}
	return units
}

// trials runs check over designs, ways to draw and tables of units.
func trials(t *testing.T, check func(r *rand.Rand, n int, w float64, draws map[uint]float64)) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for _, block := range []bool{false, true} {
		for n := 1; n <= 6; n++ {
			for m := 1; m < n; m++ {
				w := float64(m) / float64(n)
				for range 4 {
					check(r, n, w, allDraws(n, w, block))
				}
			}
			if !block {
				check(r, n, 0.05, allDraws(n, 0.05, false))
			}
		}
	}
}

func TestErrorsOfANextThatIsNoWorseAreAFairBet(t *testing.T) {
	for _, ratio := range []float64{1, 1.25, 3} {
		top := 0.0
		trials(t, func(r *rand.Rand, n int, w float64, draws map[uint]float64) {
			d := newDesign(w, ratio, 0)
			units := boundary(r, n, func(stable float64) float64 { return ratio * stable })
			e := greatest(expectation(units, draws, len(worse), func(kNext, kStable, _, _ int64, logs []float64) {
				(&capital{logs: logs}).errorsHarm(d, kNext, kStable)
			}))
			top = math.Max(top, e)
			if e > exact {
				t.Fatalf("ratio %v, w %v, units %v: E[e] = %.15f", ratio, w, units, e)
			}
		})
		if top < 1-1e-9 {
			t.Errorf("ratio %v: E[e] is at most %v: the boundary was not reached", ratio, top)
		}
	}
}

func TestErrorsOfANextThatIsWorseAreAFairBetOnSafety(t *testing.T) {
	const floor = 0.1
	bets := func(d *design) func(kNext, kStable, nNext, nStable int64, logs []float64) {
		return func(kNext, kStable, _, nStable int64, logs []float64) {
			var s safety
			s.next(d, kNext)
			s.stable(d, nStable, kStable)
			copy(logs, s.floor[:])
			copy(logs[len(better):], s.ratio[:])
		}
	}
	for _, ratio := range []float64{1, 1.25, 3} {
		top := [2]float64{}
		trials(t, func(r *rand.Rand, n int, w float64, draws map[uint]float64) {
			d := newDesign(w, ratio, floor)
			units := boundary(r, n, func(stable float64) float64 { return stable + floor })
			e := greatest(expectation(units, draws, 2*len(better), bets(d))[:len(better)])
			top[0] = math.Max(top[0], e)
			if e > exact {
				t.Fatalf("floor, w %v, units %v: E[e] = %.15f", w, units, e)
			}
			units = boundary(r, n, func(stable float64) float64 { return ratio * stable })
			e = greatest(expectation(units, draws, 2*len(better), bets(d))[len(better):])
			top[1] = math.Max(top[1], e)
			if e > exact {
				t.Fatalf("ratio %v, w %v, units %v: E[e] = %.15f", ratio, w, units, e)
			}
		})
		if top[0] < 1-1e-9 || top[1] < 1-1e-9 {
			t.Errorf("ratio %v: E[e] is at most %v: the boundary was not reached", ratio, top)
		}
	}
}

// The whole of a mixture over two ticks, with stakes that begin in between.
func TestTheMixtureOverBeginningsIsAFairBet(t *testing.T) {
	const ratio, w = 1.25, 0.5
	d := newDesign(w, ratio, 0)
	draws := allDraws(3, w, false)
	first, second := []unit{{0.5, 0.4}, {0.25, 0.2}, {0, 0}}, []unit{{1, 0.8}, {0.125, 0.1}, {0.5, 0.4}}
	for _, planned := range []int{0, 1, 2, 60} {
		e := expectation(first, draws, 1, func(kNext, kStable, _, _ int64, logs []float64) {
			c := newCapital(len(worse))
			c.begin(0, planned, worsePrior)
			c.errorsHarm(d, kNext, kStable)
			inner := expectation(second, draws, 1, func(kNext, kStable, _, _ int64, logs []float64) {
				c2 := capital{logs: append([]float64(nil), c.logs...), minute: c.minute}
				c2.begin(1, planned, worsePrior)
				c2.errorsHarm(d, kNext, kStable)
				logs[0] = c2.total(planned)
			})
			logs[0] = math.Log(inner[0])
		})
		if mean := e[0]; mean > exact || mean < 1-1e-9 {
			t.Errorf("planned %d: E = %.15f, want 1", planned, mean)
		}
	}
}

// latencies is a table of ranks: what each unit has with next and with stable.
func latencies(r *rand.Rand, n int, strict bool) (next, stable []int) {
	next, stable = make([]int, n), make([]int, n)
	kinds := 1 + r.IntN(ranks)
	for i := range n {
		stable[i] = r.IntN(kinds) * (ranks - 1) / max(kinds-1, 1)
		next[i] = stable[i]
		if strict && r.IntN(2) == 0 {
			next[i] = r.IntN(stable[i] + 1)
		}
	}
	return next, stable
}

func scoreMeans(m *menu, next, stable []int, size int) []float64 {
	mean := make([]float64, len(m.prior))
	logs := make([]float64, len(m.prior))
	subsets := 0
	for z := range uint(1) << len(next) {
		if bits.OnesCount(z) != size {
			continue
		}
		var a, b tally
		for i := range next {
			if z>>i&1 == 1 {
				a[next[i]]++
			} else {
				b[stable[i]]++
			}
		}
		clear(logs)
		m.scores(logs, &a, &b)
		subsets++
		for j := range mean {
			mean[j] += math.Exp(logs[j])
		}
	}
	for j := range mean {
		mean[j] /= float64(subsets)
	}
	return mean
}

func TestLatenciesOfANextThatIsNoSlowerAreAFairBet(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 150 {
		n := 2 + r.IntN(8)
		strict := r.IntN(2) == 0
		next, stable := latencies(r, n, strict)
		for size := 1; size < n; size++ {
			for _, m := range []*menu{harmMenu, partMenu} {
				if e := greatest(scoreMeans(m, next, stable, size)); e > exact {
					t.Fatalf("harm: next %v, stable %v, %d of next: E[e] = %.15f", next, stable, size, e)
				}
			}
			// For safety the null is the opposite: no unit is faster with next.
			if e := greatest(scoreMeans(safeMenu, stable, next, size)); e > exact {
				t.Fatalf("safety: next %v, stable %v, %d of next: E[e] = %.15f", stable, next, size, e)
			}
		}
	}
}

// What would be wrong must be seen to be wrong, or the tests above prove nothing.

func TestABetOnRequestsOfHeavyVisitorsIsUnfair(t *testing.T) {
	d := newDesign(0.05, 1.25, 0.001)
	// One visitor whose ten requests fail on either side, counted ten times.
	harm := 0.0
	for z, p := range allDraws(1, 0.05, false) {
		c := capital{logs: make([]float64, len(worse))}
		c.errorsHarm(d, 10*int64(z), 10*int64(1-z))
		harm += p * math.Exp(greatest(c.logs))
	}
	if harm < 2 {
		t.Errorf("ten failures of one visitor: E[e] = %v, and should be far above 1", harm)
	}
	// A visitor with a thousand requests, who fails on next with 0.001 more: the credit is for one draw, not for a thousand.
	safe := expectation([]unit{{0.001, 0}}, allDraws(1, 0.5, false), len(better), func(kNext, kStable, _, nStable int64, logs []float64) {
		var s safety
		d := newDesign(0.5, 1.25, 0.001)
		s.next(d, kNext)
		s.stable(d, 1000*nStable, kStable)
		copy(logs, s.floor[:])
	})
	if greatest(safe) < 1.1 {
		t.Errorf("a thousand requests of one visitor: E[e] = %v, and should be far above 1", greatest(safe))
	}
}

func TestVirtualFailuresOfAPoissonKindAreUnfair(t *testing.T) {
	const w, f = 0.5, 0.1
	d := newDesign(w, 1, f)
	bad := expectation([]unit{{0.9, 0.8}, {0.9, 0.8}}, allDraws(2, w, false), len(better), func(kNext, kStable, _, nStable int64, logs []float64) {
		for j, r := range better {
			whole := 1 - w + w*r
			logs[j] = float64(kNext)*math.Log(r) - float64(kNext+kStable)*math.Log(whole) + f*float64(nStable)*(1/whole-1)
		}
	})
	if greatest(bad) < 1.01 {
		t.Errorf("E[e] = %v, and should be above 1: is the linear form not needed?", greatest(bad))
	}
	if d.floorDrawn[0] >= f*(1/(1-w+w*better[0])-1) {
		t.Error("the credit for a draw is not below the one of the Poisson kind")
	}
}

func TestLatencyWithoutAMarginBlamesASlowerMachine(t *testing.T) {
	// Each unit takes one rank longer on next: within the margin, had it been taken off.
	next, stable := []int{9, 12, 16, 20, 24, 29}, []int{8, 11, 15, 19, 23, 28}
	if e := greatest(scoreMeans(harmMenu, next, stable, 3)); e < 1.0005 {
		t.Errorf("E[e] = %v, and should be above 1", e)
	}
	if e := greatest(scoreMeans(harmMenu, stable, stable, 3)); e > exact {
		t.Errorf("with the margin taken off: E[e] = %.15f", e)
	}
}

func TestWeightsOtherThanTheDesignAreUnfair(t *testing.T) {
	// Half of the draws are next's, and the judge is told 40 %.
	d := newDesign(0.4, 1.25, 0.001)
	units := []unit{{1, 0.8}, {1, 0.8}, {0.5, 0.4}}
	e := greatest(expectation(units, allDraws(3, 0.5, false), len(worse), func(kNext, kStable, _, _ int64, logs []float64) {
		(&capital{logs: logs}).errorsHarm(d, kNext, kStable)
	}))
	if e < 1.05 {
		t.Errorf("E[e] = %v, and should be above 1", e)
	}
}

// The split check is what notices that.
func TestDrawsAsDesignedAreAFairBet(t *testing.T) {
	top := 0.0
	trials(t, func(_ *rand.Rand, n int, w float64, draws map[uint]float64) {
		d := newDesign(w, 1.25, 0)
		units := make([]unit, n)
		e := greatest(expectation(units, draws, len(skew), func(_, _, nNext, nStable int64, logs []float64) {
			(&capital{logs: logs}).split(d, nNext, nStable)
		}))
		top = math.Max(top, e)
		if e > exact {
			t.Fatalf("w %v, %d draws: E[e] = %.15f", w, n, e)
		}
	})
	if top < 1-1e-9 {
		t.Errorf("E[e] is at most %v", top)
	}
}

func TestBandHoldsTheRatio(t *testing.T) {
	// The mixture over ratios, divided by the likelihood of the true one, is a fair bet: over all draws the band misses the
	// truth with at most 5 %.
	const w, n = 0.3, 14
	for _, truth := range []float64{0.5, 1, 4} {
		miss := 0.0
		for k := range n + 1 { // failed units of which k are next's
			p := w * truth / (1 - w + w*truth)
			chance := math.Exp(lchoose(n, k) + float64(k)*math.Log(p) + float64(n-k)*math.Log(1-p))
			low, high := new(Judge).band([]byWeight{{weight: 3000, next: int64(k), stable: int64(n - k)}})
			if truth < low || high > 0 && truth > high {
				miss += chance
			}
		}
		if miss > 0.05 {
			t.Errorf("ratio %v: missed with %v", truth, miss)
		}
	}
	low, high := new(Judge).band([]byWeight{{weight: 500, next: 300, stable: 1000}})
	if low > 5.7 || high < 5.7 || low < 4 || high > 8 {
		t.Errorf("300 of 1,300 failures at 5 %%: ratio 5.7, band %v to %v", low, high)
	}
}

func lchoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

// The tolerated ratio is of chances. A bet that was exact for odds would be on another null.
func TestTheRatioIsOfChancesNotOfOdds(t *testing.T) {
	const ratio = 3
	d := newDesign(0.5, ratio, 0)
	odds := func(p float64) float64 { return ratio * p / (1 - p + ratio*p) }
	e := greatest(expectation([]unit{{odds(0.8), 0.8}, {odds(0.5), 0.5}}, allDraws(2, 0.5, false), len(better), func(kNext, kStable, _, _ int64, logs []float64) {
		var s safety
		s.next(d, kNext)
		s.stable(d, 0, kStable)
		copy(logs, s.ratio[:])
	}))
	if e < 1.05 {
		t.Errorf("E[e] = %v, and should be above 1", e)
	}
}
