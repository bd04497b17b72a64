package judge

import "math"

// worse are the alternatives that the bet on harm mixes over: how many times Config.Ratio as often units of next fail.
var worse = [...]float64{1.3, 1.6, 2, 3, 5, 10, 30, 100, 1e3, 1e5}

// worsePrior is how the stake is shared out between them: most on what takes longest to see and is still worth a rollback.
var worsePrior = logs([]float64{.06, .08, .14, .21, .2, .13, .08, .05, .03, .02})

// better are the alternatives of the bet on safety: the share of the tolerated failures that next has.
var better = [...]float64{0.02, 0.1, 0.25, 0.5, 0.75}

var (
	lnWorse  = logs(worse[:])
	lnBetter = logs(better[:])
)

func logs(list []float64) []float64 {
	out := make([]float64, len(list))
	for i, x := range list {
		out[i] = math.Log(x)
	}
	return out
}

// design is what follows from the weight w that draws were made with, w between 0 and 1.
type design struct {
	w float64

	// Harm. Null: each unit fails with next at most ψ0 times as likely as with stable. Then, given that a unit failed, it was
	// next's with a chance of at most wψ0/(1−w+wψ0), whatever the unit, and
	//
	//	ln e_ψ = k_next ln(ψ/ψ0) − k ln((1−w+wψ)/(1−w+wψ0)),   ψ > ψ0,   k = k_next + k_stable
	//
	// has expectation at most 1. It is the bet on a multinomial of Lindon & Malek (NeurIPS 2022, 2011.03567) and Turner, Ly &
	// Grünwald (2106.02693), as ter Schure's logrank test sees it: only failures count, at the chance with which each was
	// drawn. Since w is the designed weight, no denominator is needed, units may be as different as they like, and it does not
	// matter in which tick a slow request ends. Draws from permuted blocks are negatively associated and every factor moves the
	// same way with its draw, so that the product only gets smaller. harm[j] is the second term per failure.
	harm [len(worse)]float64

	// Safety, relative. Null: ψ ≥ ψ0 in the same sense; the same e with ψ < ψ0. ratio[j] is the second term per failure.
	ratio [len(better)]float64

	// Safety, absolute. Null: units fail with next at least f more often than with stable. With D = 1−w+wψ and x = 1/D − 1,
	//
	//	e_ψ = Π_{next} (ψ/D)^fails · Π_{stable} (1 + (fails + f) x),   ψ < 1,
	//
	// because one draw has expectation w(1 + p_next (ψ/D − 1)) + (1−w)(1 + (p_stable + f) x) = 1 + (1−w) x (p_stable + f − p_next).
	// It is stable with virtual failures at rate f, linear in them, and so exact, also when the null holds only on average over
	// the draws. floorNext is per failure of next, floorDrawn per draw of stable, floorFailed on top of it per failure.
	floorNext, floorDrawn, floorFailed [len(better)]float64

	// The split: ln e = n_next ln(q/w) + n_stable ln((1−q)/(1−w)).
	splitNext, splitStable [len(skew)]float64
}

// newDesign works out the constants of one weight.
func newDesign(w, ratio, floor float64) *design {
	d := &design{w: w}
	base := 1 - w + w*ratio
	for j, r := range worse {
		d.harm[j] = math.Log((1 - w + w*ratio*r) / base)
	}
	for j, r := range better {
		d.ratio[j] = math.Log((1 - w + w*ratio*r) / base)
		whole := 1 - w + w*r
		x := 1/whole - 1
		d.floorNext[j] = math.Log(r / whole)
		d.floorDrawn[j] = math.Log1p(floor * x)
		d.floorFailed[j] = math.Log1p((1+floor)*x) - d.floorDrawn[j]
	}
	for j, r := range skew {
		q := w * r / (1 - w + w*r)
		d.splitNext[j] = math.Log(q / w)
		d.splitStable[j] = math.Log((1 - q) / (1 - w))
	}
	return d
}

// errorsHarm multiplies the bets on harm with one stratum's failures. No failure is no evidence.
func (c *capital) errorsHarm(d *design, next, stable int64) {
	kNext, k := float64(next), float64(next)+float64(stable)
	if k == 0 {
		return
	}
	for j := range c.logs {
		c.logs[j] += kNext*lnWorse[j] - k*d.harm[j]
	}
}

// safety is the bet that next's errors are no worse.
type safety struct {
	floor, ratio [len(better)]float64 // ln of what each alternative grew to
}

func newSafety() safety {
	s := safety{}
	for j := range better {
		s.floor[j] = math.Log(0.8 / float64(len(better)))
		s.ratio[j] = math.Log(0.2 / float64(len(better)))
	}
	return s
}

// next multiplies the bets on safety with next's failures.
func (s *safety) next(d *design, failed int64) {
	if failed == 0 {
		return
	}
	k := float64(failed)
	for j := range better {
		s.floor[j] += k * d.floorNext[j]
		s.ratio[j] += k * (lnBetter[j] - d.ratio[j])
	}
}

// stable multiplies them with draws of stable and with its failures.
func (s *safety) stable(d *design, drawn, failed int64) {
	n, k := float64(drawn), float64(failed)
	for j := range better {
		s.floor[j] += n*d.floorDrawn[j] + k*d.floorFailed[j]
		s.ratio[j] -= k * d.ratio[j]
	}
}

// total is ln E of safety: harm is an excess over the ratio and over the floor, so each of the two nulls contains it, and a
// mixture of bets against either is a bet against both.
func (s *safety) total() float64 { return addLog(sumLog(s.floor[:]), sumLog(s.ratio[:])) }
