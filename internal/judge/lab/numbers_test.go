package lab

import (
	"fmt"
	"math"
	"slices"
)

// median is the median of a list with its 95 % interval by order statistics: it needs no assumption about the distribution.
type median struct{ low, mid, high float64 }

func medianOf(list []float64) median {
	sorted := slices.Sorted(slices.Values(list))
	n := float64(len(sorted))
	at := func(rank float64) float64 { return sorted[min(max(int(rank), 0), len(sorted)-1)] }
	wide := 1.959964 * math.Sqrt(n) / 2
	return median{at(math.Floor(n/2 - wide)), at(math.Floor((n - 1) / 2)), at(math.Ceil(n/2 + wide))}
}

func (m median) String() string {
	say := func(x float64) string {
		if math.IsInf(x, 1) {
			return "never"
		}
		return fmt.Sprintf("%.0f", x)
	}
	if m.low == m.high {
		return say(m.mid)
	}
	return fmt.Sprintf("%s (%s–%s)", say(m.mid), say(m.low), say(m.high))
}

// upperTail is the chance of at least k of n when each has chance p.
func upperTail(k, n int, p float64) float64 {
	if k <= 0 {
		return 1
	}
	if p <= 0 {
		return 0
	}
	sum := 0.0
	for x := k; x <= n; x++ {
		a, _ := math.Lgamma(float64(n) + 1)
		b, _ := math.Lgamma(float64(x) + 1)
		c, _ := math.Lgamma(float64(n-x) + 1)
		term := math.Exp(a - b - c + float64(x)*math.Log(p) + float64(n-x)*math.Log1p(-p))
		if sum += term; term < sum*1e-12 && float64(x) > float64(n)*p {
			break
		}
	}
	return min(1, sum)
}

// atMost is the upper end of the 95 % interval of a share of which k of n were seen (Clopper-Pearson).
func atMost(k, n int) float64 {
	if k >= n {
		return 1
	}
	low, high := float64(k)/float64(n), 1.0
	for range 60 {
		if mid := (low + high) / 2; 1-upperTail(k+1, n, mid) > 0.025 {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// surelyAbove says that k of n is more than a share of bound can explain, with less than one chance in a million.
func surelyAbove(k, n int, bound float64) bool { return upperTail(k, n, bound) < 1e-6 }

// share is k of n in per cent, with the upper end of its 95 % interval.
func share(k, n int) string {
	say := func(p float64) string {
		if p >= 0.01 {
			return fmt.Sprintf("%.1f", 100*p)
		}
		return fmt.Sprintf("%.2g", 100*p)
	}
	return fmt.Sprintf("%s (≤ %s)", say(float64(k)/float64(n)), say(atMost(k, n)))
}
