package lab

import (
	"math"
	"math/rand/v2"
)

// dice are seeded random numbers and the distributions made of them.
type dice struct{ *rand.Rand }

func newDice(seed, stream uint64) dice { return dice{rand.New(rand.NewPCG(seed, stream))} }

// many is the size from which a count is drawn from the normal distribution: no difference can be seen there.
const many = 20_000

// normal is a normal count that lies in low … high.
func (d dice) normal(mean, variance float64, low, high int64) int64 {
	return min(max(int64(math.Round(mean+d.NormFloat64()*math.Sqrt(variance))), low), high)
}

// poisson is how many events come where so many are expected.
func (d dice) poisson(mean float64) int64 {
	switch {
	case mean <= 0:
		return 0
	case mean > 50:
		return d.normal(mean, mean, 0, math.MaxInt64)
	}
	n, left := int64(0), math.Exp(-mean)
	for product := d.Float64(); product > left; product *= d.Float64() {
		n++
	}
	return n
}

// binomial is how many of n fail when each does with chance p. Rare failures are skipped to, so that seconds without one
// cost a single number.
func (d dice) binomial(n int64, p float64) int64 {
	switch {
	case n <= 0 || p <= 0:
		return 0
	case p >= 1:
		return n
	case p > 0.5:
		return n - d.binomial(n, 1-p)
	case n > many && float64(n)*p > 100:
		return d.normal(float64(n)*p, float64(n)*p*(1-p), 0, n)
	case p > 0.1:
		k := int64(0)
		for range n {
			if d.Float64() < p {
				k++
			}
		}
		return k
	}
	// How many do not fail before one that does is geometric: an exponential number, rounded down.
	k, scale := int64(0), -1/math.Log1p(-p)
	for left := float64(n); ; k++ {
		if left -= 1 + math.Floor(d.ExpFloat64()*scale); left < 0 {
			return k
		}
	}
}

// among is how many of the marked ones are among those taken, when they are taken blindly out of all.
func (d dice) among(all, marked, taken int64) int64 {
	if marked > taken {
		marked, taken = taken, marked
	}
	switch {
	case marked <= 0:
		return 0
	case taken >= all:
		return marked
	case marked > all/2:
		return marked + taken - all + d.among(all, all-marked, all-taken)
	case marked > many:
		share := float64(taken) / float64(all)
		return d.normal(float64(marked)*share, float64(marked)*share*(1-share)*float64(all-marked)/float64(all),
			max(0, marked+taken-all), marked)
	}
	got := int64(0)
	for i := range marked {
		if d.Float64()*float64(all-i) < float64(taken-got) {
			got++
		}
	}
	return got
}

// heavy is a number from 1 to most whose tail falls like x^-exponent.
func (d dice) heavy(exponent, most float64) float64 {
	return min(most, math.Exp(d.ExpFloat64()/exponent))
}

// Deal is how requests are dealt to the releases.
type Deal int

// The ways.
const (
	// Blocks deals as the proxy does: of every 1,024 draws next gets exactly its share, in an order that nobody knows.
	Blocks Deal = iota
	// Independent tosses a coin for each.
	Independent
	// Counter gives next every 20th (at 5 %): whoever has that rhythm meets one release for ever.
	Counter
)

const block = 1024

// full is a weight of 100 %.
const full = 10_000

// dealer deals draws out.
type dealer struct {
	dice
	deal         Deal
	weight       int
	left, marked int64 // of the block: all draws, and next's
	counted      int64
}

// take deals n draws and returns how many are next's.
func (d *dealer) take(n int64, weight int) int64 {
	switch d.deal {
	case Independent:
		return d.binomial(n, float64(weight)/full)
	case Counter:
		before := d.counted * int64(weight) / full
		d.counted += n
		return d.counted*int64(weight)/full - before
	}
	if weight != d.weight {
		d.weight, d.left = weight, 0
	}
	next := int64(0)
	for n > 0 {
		if d.left == 0 {
			share := block * float64(weight) / full
			d.left, d.marked = block, int64(share)
			if d.Float64() < share-math.Floor(share) {
				d.marked++
			}
		}
		now := min(n, d.left)
		got := d.among(d.left, d.marked, now)
		next, n, d.left, d.marked = next+got, n-now, d.left-now, d.marked-got
	}
	return next
}
