package judge

import "math"

// levels are the quantiles of stable's past at which latencies are cut into ranks.
var levels = [...]float64{
	.03, .06, .1, .15, .2, .25, .3, .35, .4, .45, .5, .55, .6, .65, .7, .75, .79, .83, .86, .88, .9, .92, .94, .95,
	.965, .975, .985, .99, .995, .998, .999,
}

// ranks is how many ranks there are between the levels.
const ranks = len(levels) + 1

// tally counts latencies by rank.
type tally [ranks]int64

// menu are the scores that latencies are bet on with. A score h is a number for each rank, fixed in advance.
type menu struct {
	prior []float64 // ln ρ of each score
	steps []step
	ramps []ramp
}

// step is the score ln ψ · 1{latency above a quantile of stable's past}.
type step struct {
	above   int // the first rank above the quantile
	ln, psi float64
}

// ramp is the score λz, where z is the normal quantile of the rank, between −2.5 and 3.
type ramp struct {
	h, exp [ranks]float64
}

// newMenu makes a menu: half the stake on steps at the given quantiles, half on ramps. Harm has ψ > 1 and λ > 0, safety the
// opposite.
func newMenu(quantiles, psis, lambdas []float64) *menu {
	m := &menu{}
	for _, q := range quantiles {
		for _, psi := range psis {
			m.steps = append(m.steps, step{above: level(q) + 1, ln: math.Log(psi), psi: psi})
			m.prior = append(m.prior, math.Log(0.5/float64(len(quantiles)*len(psis))))
		}
	}
	for _, lambda := range lambdas {
		var r ramp
		for g := range r.h {
			r.h[g] = lambda * normal(g)
			r.exp[g] = math.Exp(r.h[g])
		}
		m.ramps = append(m.ramps, r)
		m.prior = append(m.prior, math.Log(0.5/float64(len(lambdas))))
	}
	return m
}

func level(q float64) int {
	for i, l := range levels {
		if l >= q {
			return i
		}
	}
	return len(levels) - 1
}

// normal is the standard normal quantile of the middle of a rank, clipped.
func normal(rank int) float64 {
	low, high := 0.0, 1.0
	if rank > 0 {
		low = levels[rank-1]
	}
	if rank < len(levels) {
		high = levels[rank]
	}
	return min(max(math.Sqrt2*math.Erfinv(low+high-1), -2.5), 3)
}

var (
	tails    = []float64{.5, .75, .9, .95, .99}
	harmMenu = newMenu(tails, []float64{1.5, 2.5, 6, 25}, []float64{.05, .1, .2, .4, .8, 1.2})
	// A part has fewer, because there are many parts.
	partMenu = newMenu([]float64{.5, .9, .99}, []float64{2, 5, 25}, []float64{.1, .2, .4, .8})
	// Safety is proved at each quantile of its own, up to the p95.
	safeTails = tails[:4]
	safeMenu  = newMenu(safeTails, []float64{.7, .4, .15}, nil)
)

// scores multiplies bets with one stratum's latencies, of which there are some on both sides. Null: a unit's latency with
// next, reduced by the margin, is at most the one it has with stable (for safety: at least). Then, given all latencies of the
// stratum, next's are a random draw of n_next of them, and for every h that was fixed before
//
//	ln e = Σ_next h(y) − n_next ln( (1/n) Σ_all exp(h(y)) )
//
// has expectation at most 1: a product over a draw without replacement is at most the one with replacement (Hoeffding 1963,
// theorem 4). Where the null is strict, replacing a latency of next by the greater one it would have had with stable only
// lets the denominator grow less, so it holds for the composite null as well. It is a test by betting on ranks, like those
// of Waudby-Smith et al. (2103.06476) and Turner, Ly & Grünwald (2106.02693), on Belay's own randomisation.
func (m *menu) scores(logs []float64, next, stable *tally) {
	var above [ranks]float64 // of both, from each rank on
	var aboveNext [ranks]float64
	var all [ranks]float64
	n, nNext := 0.0, 0.0
	for g := ranks - 1; g >= 0; g-- {
		all[g] = float64(next[g]) + float64(stable[g])
		n += all[g]
		nNext += float64(next[g])
		above[g], aboveNext[g] = n, nNext
	}
	if nNext == 0 || n <= nNext {
		return
	}
	for j := range m.steps {
		s := &m.steps[j]
		if a := above[s.above]; a > 0 {
			logs[j] += aboveNext[s.above]*s.ln - nNext*math.Log1p((s.psi-1)*(a/n))
		}
	}
	logs = logs[len(m.steps):]
	for j := range m.ramps {
		r := &m.ramps[j]
		sum, bet := 0.0, 0.0
		for g := range all {
			sum += all[g] * r.exp[g]
			bet += float64(next[g]) * r.h[g]
		}
		logs[j] += bet - nNext*math.Log(sum/n)
	}
}
