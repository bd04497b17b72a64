package judge

// skew are the odds, as a share of the designed ones, at which draws may fall on next instead.
var skew = [...]float64{0.25, 0.5, 0.8, 0.9, 1.1, 1.25, 2, 4}

var evenSkew = even(len(skew))

// split multiplies the bets that draws do not fall as designed. Null: each draw is next's with chance w. Exact for independent
// draws; draws from permuted blocks are negatively associated, which makes it smaller.
func (c *capital) split(d *design, next, stable int64) {
	if next == 0 && stable == 0 {
		return
	}
	for j := range c.logs {
		c.logs[j] += float64(next)*d.splitNext[j] + float64(stable)*d.splitStable[j]
	}
}
