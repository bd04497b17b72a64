package judge

import "math"

// Pair compares one metric of next with the same of stable, block by block.
//
// The mean of both is of what one unit did: a request, where the metric grows with traffic, or an instance. A block in which
// next served 20 requests and nothing happened says little, though ten such blocks are all equal: what is rare is not seen in
// them. So the differences are believed to vary at least as they would if next were as stable is, whose many requests show how
// much one varies:
//
//	floor = v · mean(1/a + 1/b),   v = mean( b b'/(b+b') · (R' − R)² )
//
// for a and b units of next and stable in a block, R what one unit of stable did, and b', R' the same of the block after it:
// neighbours, so that a slow change of stable is not taken for chance.
type Pair struct {
	Sequence `json:"sequence"`
	Stable   float64 `json:"stable"` // mean of what one unit of stable did
	// Counts is how many units a block had, on both sides together: its mean. 0 where the metric is compared as it is.
	Counts float64 `json:"counts,omitempty"`

	Inverse  float64 `json:"inverse,omitempty"` // sum of 1/a + 1/b
	Varied   float64 `json:"varied,omitempty"`  // sum for v
	Before   float64 `json:"before,omitempty"`  // what one unit of stable did in the block before
	BeforeOf float64 `json:"last_of,omitempty"` // how many there were
}

// Block is what both did in one block.
type Block struct {
	Next, Stable     float64 // what one unit did
	NextOf, StableOf float64 // how many units there were; 0 on both sides when that means nothing
}

// NewPair begins without blocks.
func NewPair(alpha, tuned float64, least int64) *Pair {
	return &Pair{Sequence: *NewSequence(alpha, tuned, least)}
}

// Compare adds a block. One that holds what is no number is ignored.
func (p *Pair) Compare(b Block) {
	n := p.N
	diff := b.Next - b.Stable
	if p.Add(diff); p.N == n {
		return
	}
	k := float64(p.N)
	p.Stable += (b.Stable - p.Stable) / k
	if b.NextOf <= 0 || b.StableOf <= 0 {
		return
	}
	p.Counts += (b.NextOf + b.StableOf - p.Counts) / k
	p.Inverse += 1/b.NextOf + 1/b.StableOf
	if p.BeforeOf > 0 {
		step := b.Stable - p.Before
		p.Varied += b.StableOf * p.BeforeOf / (b.StableOf + p.BeforeOf) * step * step
		p.Floor = p.Varied / (k - 1) * p.Inverse / k
	}
	p.Before, p.BeforeOf = b.Stable, b.StableOf
}

// Reading is how next compares with stable.
type Reading struct {
	Blocks       int64
	Next, Stable float64 // what one unit did, on average
	// Diff is their difference, Low and High the interval that holds it.
	Diff, Low, High float64
	// Known says that there were enough blocks for an interval.
	Known bool
}

// Read says how next compares with stable now.
func (p *Pair) Read() Reading {
	r := Reading{Blocks: p.N, Stable: p.Stable, Next: p.Stable + p.Mean}
	r.Diff, r.Low, r.High, r.Known = p.Interval()
	return r
}

// Relative gives a difference as a fraction of stable's value; false when stable's is 0.
func (r Reading) Relative(diff float64) (float64, bool) {
	if r.Stable == 0 {
		return 0, false
	}
	return diff / math.Abs(r.Stable), true
}

// Worse reports whether the whole interval lies on the bad side of grain, a fraction of stable's value. up says that more
// is better.
func (r Reading) Worse(up bool, grain float64) bool {
	least := grain * math.Abs(r.Stable)
	switch {
	case !r.Known:
		return false
	case up:
		return r.High < -least
	default:
		return r.Low > least
	}
}
