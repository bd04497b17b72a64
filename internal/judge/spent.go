package judge

import "math"

// spent counts the units that have failed and cannot fail first again. Where more of stable's have than of next's, those that
// are left to fail are next's more often than the weight says, though next is no worse: it may even have been better. Bets on
// harm then take the odds of the weight times
//
//	g = (1 − share of next's units that failed) / (1 − share of stable's that failed),   g ≥ 1
//
// which only makes them smaller, and bets on safety do the same the other way round. It is known before the tick.
type spent struct {
	failed, units [2]int64 // of next, of stable
}

// add counts one stratum, after it was bet on. The units of a part are those whose first request of it has ended.
func (s *spent) add(next, stable *Part) {
	for side, p := range [2]*Part{next, stable} {
		s.failed[side] += p.Failed
		s.units[side] += p.Latency.Count()
	}
}

// left is the share of a side's units that have not failed.
func (s *spent) left(side int) float64 {
	if s.units[side] <= 0 {
		return 1
	}
	return max(1-float64(s.failed[side])/float64(s.units[side]), 0.001)
}

// lead is by how many thousandths ln g is above 0 for a side: 0 next, 1 stable.
func (s *spent) lead(side int) int {
	if s.units[0] <= 0 || s.units[1] <= 0 || s.failed[1-side] == 0 {
		return 0
	}
	return max(int(math.Ceil(1000*math.Log(s.left(side)/s.left(1-side)))), 0)
}
