package judge

import "math"

// far is where a logarithm stands for nothing at all: exp(far) is 0 in every sum here, and adding any evidence to it stays finite.
const far = -1e300

// addLog returns ln(exp(a) + exp(b)) without leaving the range of a float64.
func addLog(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if b <= far || a-b > 50 { // b is below the last bit of a
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// sumLog returns ln Σ exp(list[i]).
func sumLog(list []float64) float64 {
	top := far
	for _, x := range list {
		top = math.Max(top, x) // Max keeps a NaN, so that it is seen
	}
	if top <= far || math.IsNaN(top) || math.IsInf(top, 0) {
		return top
	}
	sum := 0.0
	for _, x := range list {
		if x-top > -50 {
			sum += math.Exp(x - top)
		}
	}
	return top + math.Log(sum)
}

// grown returns exp(x), at most 1e300.
func grown(x float64) float64 { return math.Exp(math.Min(x, 300*math.Ln10)) }

// finite says that x is a number that can be reckoned with.
func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// begun is the prior share of harm that begins in a minute up to this one: half of it with the rollout; of the rest nine
// tenths spread evenly over the beginnings of the other planned minutes, and one tenth over all the minutes after them like
// 1/(k(k+1)), which never ends. It is a distribution over beginnings that is fixed before the rollout, so that the mixture of
// the bets that begin then is itself a bet (Howard & Ramdas 2022; mixing over starts: Lindon et al. 2205.14762).
func begun(minute int64, planned int) float64 {
	others := float64(max(planned, 1) - 1)
	even, rest := 0.45, 0.05
	if others == 0 {
		even, rest = 0, 0.5
	}
	share := 0.5
	if others > 0 {
		share += even * math.Min(float64(minute), others) / others
	}
	if k := float64(minute) - others; k > 0 {
		share += rest * (1 - 1/(k+1))
	}
	return share
}

// capital is what bets on harm have grown to: one for each alternative j, each of them a mixture over the minute in which harm
// begins. With the prior ρ over alternatives and π over beginnings it is the recursion
//
//	A_j ← (A_j + π_t ρ_j) e_{t,j},   E = Σ_j A_j + (1 − Σ_t π_t)
//
// in logarithms. Each e_{t,j} has expectation at most 1 given the past while next is no worse, and π and ρ are fixed in
// advance; so E has, too, and P(E ever ≥ 1/α) ≤ α (Ville's inequality).
type capital struct {
	logs   []float64 // ln A_j
	minute int64     // the last one whose beginnings are in logs; -1 before the first
}

func newCapital(alternatives int) capital {
	c := capital{logs: make([]float64, alternatives), minute: -1}
	for j := range c.logs {
		c.logs[j] = far
	}
	return c
}

// begin stakes what is due by this minute, before anything of the tick is looked at. Minutes that had nothing to say are
// staked late, which is the same, since their e is 1.
func (c *capital) begin(minute int64, planned int, prior []float64) {
	if minute <= c.minute {
		return
	}
	mass := begun(minute, planned)
	if c.minute >= 0 {
		mass -= begun(c.minute, planned)
	}
	c.minute = minute
	if mass <= 0 {
		return
	}
	log := math.Log(mass)
	for j := range c.logs {
		c.logs[j] = addLog(c.logs[j], log+prior[j])
	}
}

// total is ln E.
func (c *capital) total(planned int) float64 {
	if c.minute < 0 {
		return 0
	}
	return addLog(sumLog(c.logs), math.Log1p(-begun(c.minute, planned)))
}

// even is ln ρ of a prior that favours none of so many alternatives.
func even(alternatives int) []float64 {
	prior := make([]float64, alternatives)
	for j := range prior {
		prior[j] = -math.Log(float64(alternatives))
	}
	return prior
}
