package judge

import "math"

// band returns the 95 % confidence sequence of next's error rate divided by stable's, 0 and 0 when it is not known. For each
// ratio R the bet on any other one, mixed over a fixed prior ψ ~ ρ,
//
//	E(R) = Σ_ψ ρ(ψ) L(ψ) / L(R),   L(ψ) = Π_w ψ^{k_next} / (1−w+wψ)^k
//
// has expectation 1 while R is the ratio throughout, so that {R: E(R) < 20} holds it at all times at once with 95 %
// (Lindon et al. 2205.14762, section 4; Howard & Ramdas 2022). ln L is concave in ln ψ, so the set is an interval.
func (j *Judge) band(splits []byWeight) (low, high float64) {
	next, all := 0.0, 0.0
	for _, s := range splits {
		if s.weight == 0 {
			return 0, 0
		}
		next += float64(s.next)
		all += float64(s.next + s.stable)
	}
	if all == 0 {
		return 0, 0
	}
	likelihood := func(lnPsi float64) float64 {
		sum, psi := next*lnPsi, math.Exp(lnPsi)
		for _, s := range splits {
			w := float64(s.weight) / whole
			sum -= float64(s.next+s.stable) * math.Log(1-w+w*psi)
		}
		return sum
	}
	var terms [2*bandSteps + 1]float64
	top, most := 0.0, math.Inf(-1)
	for i := range terms {
		x := float64(i-bandSteps) * bandStep
		l := likelihood(x)
		if l > most {
			top, most = x, l
		}
		terms[i] = l - math.Log(1+x*x) - bandNorm
	}
	bar := sumLog(terms[:]) - math.Log(20)
	if likelihood(top) <= bar {
		return 0, 0 // the grid is too coarse for so many failures; no band rather than a wrong one
	}
	edge := func(out float64) float64 { // between top, inside, and out, outside
		in := top
		if likelihood(out) > bar {
			return out
		}
		for range 30 {
			if middle := (in + out) / 2; likelihood(middle) > bar {
				in = middle
			} else {
				out = middle
			}
		}
		return out
	}
	const widest = bandSteps * bandStep
	low, high = math.Exp(edge(-widest)), math.Exp(edge(widest))
	if high >= math.Exp(widest)*0.99 {
		high = 0
	}
	return low, high
}

// The prior of the confidence sequence: steps of ln ψ, heavy-tailed around 1.
const (
	bandSteps = 40
	bandStep  = 0.2
)

// bandNorm is ln of the sum of the prior's terms.
var bandNorm = func() float64 {
	sum := 0.0
	for i := -bandSteps; i <= bandSteps; i++ {
		x := float64(i) * bandStep
		sum += 1 / (1 + x*x)
	}
	return math.Log(sum)
}()
