package judge

import "math"

// Sequence is an asymptotic confidence sequence for a mean: an interval that may be looked at after every point, for as long
// as one likes, and that misses the mean at any of these looks with a probability of about Alpha in all. It is what business
// and resource metrics are compared by: of them nothing is known but their values, so no exact bound as for requests exists.
//
// With n points, their mean m, their variance s² (divided by n) and a constant ρ, the interval is
//
//	m ± s · sqrt( 2(nρ²+1)/(n²ρ²) · ln( sqrt(nρ²+1)/α ) )
//
// which is Robbins' normal mixture with the estimated variance in the place of the known one. It is narrowest at n = Tuned when
// nρ² = x solves x = ln(x+1) − 2 ln α.
//
// Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic confidence
// sequences", Annals of Statistics 2024 (arXiv 2103.06476), theorem 2.2 and, for means that change, 2.5: then it is for the
// running mean of what each point was expected to be.
//
// It is valid for independent points, or differences of a martingale, with more than two moments, in the limit: the more points
// have come before the first look, the closer the bound is kept. Before Least points there is no interval.
//
// Points that depend on the ones before weaken it: the variance of their mean is larger than s²/n. Two remedies make that
// small, and none makes it nothing. Whoever adds a point adds the mean of a block of several scrapes. And s² is taken times
// (1+r)/(1−r), as for an autoregressive process whose correlation of neighbours is r, with r = c + (1+3c)/n for the measured c
// (its bias in few points, Kendall 1954), not below 0 and not above 0.9. A memory much longer than some blocks is not bounded.
type Sequence struct {
	Alpha float64 `json:"alpha"`
	Tuned float64 `json:"tuned"` // points after which the interval is narrowest for its width
	Least int64   `json:"least"`
	// Floor is the least variance that is believed: a few points may be equal by chance.
	Floor float64 `json:"floor,omitempty"`

	N       int64   `json:"n"`
	Mean    float64 `json:"mean"`
	Squares float64 `json:"squares"` // sum of the squared distances from the mean
	First   float64 `json:"first"`
	Last    float64 `json:"last"`
	Product float64 `json:"product"` // sum of the products of neighbours, each less First
	Ignored int64   `json:"ignored,omitempty"`
}

// NewSequence begins without points.
func NewSequence(alpha, tuned float64, least int64) *Sequence {
	return &Sequence{Alpha: alpha, Tuned: tuned, Least: least}
}

// tooLarge is a value whose square would not be finite for long.
const tooLarge = 1e140

// Add adds a point: next's value less stable's. What is not a number, or beyond all measure, is ignored and counted.
func (s *Sequence) Add(diff float64) {
	if !(math.Abs(diff) < tooLarge) {
		s.Ignored++
		return
	}
	if s.N++; s.N == 1 {
		s.First = diff
	} else {
		s.Product += (s.Last - s.First) * (diff - s.First)
	}
	s.Last = diff
	before := diff - s.Mean
	s.Mean += before / float64(s.N)
	s.Squares += before * (diff - s.Mean)
}

// Interval returns the mean and the interval that holds it; ok is false before Least points.
func (s *Sequence) Interval() (mean, low, high float64, ok bool) {
	if s.N < max(2, s.Least) {
		return s.Mean, math.Inf(-1), math.Inf(1), false
	}
	variance := max(s.Squares/float64(s.N)*s.memory(), s.Floor)
	width := math.Sqrt(variance) * Boundary(float64(s.N), s.Tuned, s.Alpha)
	return s.Mean, s.Mean - width, s.Mean + width, true
}

// memory is by how much the dependence of neighbours widens the variance of the mean.
func (s *Sequence) memory() float64 {
	if s.Squares == 0 {
		return 1
	}
	// The sum of (x−m)(x'−m) over neighbours, from the same with First in the place of the mean.
	n, mean, last := float64(s.N), s.Mean-s.First, s.Last-s.First
	c := (s.Product - mean*(2*n*mean-last) + (n-1)*mean*mean) / s.Squares
	r := min(0.9, max(0, c+(1+3*c)/n))
	return (1 + r) / (1 - r)
}

// Boundary is half the width of the interval after n points of variance 1.
func Boundary(n, tuned, alpha float64) float64 {
	x := n * mixture(alpha) / tuned // nρ²
	return math.Sqrt(2 * (x + 1) / (n * x) * math.Log(math.Sqrt(x+1)/alpha))
}

// mixture solves x = ln(x+1) − 2 ln α. Each round brings it nearer by a factor of x+1, which is at least 2 for α up to ½.
func mixture(alpha float64) float64 {
	x := 1 - 2*math.Log(alpha)
	for range 60 {
		before := x
		if x = math.Log1p(x) - 2*math.Log(alpha); math.Abs(x-before) < 1e-12*x {
			break
		}
	}
	return x
}
