package guard

import "math"

// Stratum is one comparison under equal conditions: within it, which of the requests were next's was left to chance.
type Stratum struct {
	Next, NextFailed     int64
	Stable, StableFailed int64
}

// Fisher is the chance that next has at least as many of the failed requests as it has, when failed requests are dealt to
// both releases blindly: Fisher's exact test, one-sided, the upper tail of the hypergeometric distribution.
func Fisher(s Stratum) float64 {
	failed, all := s.NextFailed+s.StableFailed, s.Next+s.Stable
	low, high := max(0, failed-s.Stable), min(failed, s.Next)
	if s.NextFailed <= low {
		return 1
	}
	return tail(s.NextFailed, low, high, float64(failed)*float64(s.Next)/float64(all), func(x int64) float64 {
		return choose(failed, x) + choose(all-failed, s.Next-x) - choose(all, s.Next)
	}, func(x int64) float64 {
		return float64(failed-x) * float64(s.Next-x) / (float64(x+1) * float64(all-failed-s.Next+x+1))
	})
}

// tail is the chance of k or more of a count that lies in low … high with one peak, near its mean. chance is the logarithm
// of the chance of x, and ratio how much likelier x+1 is. What is summed up is the smaller side, from its largest term on.
func tail(k, low, high int64, mean float64, chance, ratio func(x int64) float64) float64 {
	sum := 0.0
	if float64(k) > mean {
		for x, term := k, math.Exp(chance(k)); x <= high && term > sum*1e-17; x++ {
			sum += term
			term *= ratio(x)
		}
		return min(1, sum)
	}
	for x, term := k-1, math.Exp(chance(k-1)); x >= low && term > sum*1e-17; x-- {
		sum += term
		term /= ratio(x - 1)
	}
	return max(0, 1-sum)
}

// choose is the logarithm of the number of ways to choose k of n.
func choose(n, k int64) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

// Excess is the p-value of next failing more than stable when within every stratum the failed requests are dealt to both
// blindly: it is at most p in at most the share p of all releases that are no worse. For one stratum it is Fisher's exact
// test. For several it is twice the smaller of two that are never too sure either: Chernoff's bound over their sum, and
// Bonferroni's over the worst of them. A mix of endpoints, or a weight, that differs between strata is no excess.
func Excess(strata []Stratum) float64 {
	var told []Stratum // those that can tell the releases apart
	for _, s := range strata {
		if s.Next > 0 && s.Stable > 0 && s.NextFailed+s.StableFailed > 0 {
			told = append(told, s)
		}
	}
	switch len(told) {
	case 0:
		return 1
	case 1:
		return Fisher(told[0])
	}
	worst := 1.0
	for _, s := range told {
		worst = min(worst, Fisher(s))
	}
	return min(1, 2*min(float64(len(told))*worst, math.Exp(chernoff(told))))
}

// The tilts that the Chernoff bound is looked for at. Any tilt gives a bound.
const (
	leastTilt = 0.01
	mostTilt  = 40
	tiltStep  = 1.1
)

// chernoff is the logarithm of the least exp(-t·x) · Π E exp(t·X) over t, where x is next's failed requests. What a
// hypergeometric count expects is at most what the binomial ones do that draw with replacement (Hoeffding 1963, theorem 4).
func chernoff(strata []Stratum) float64 {
	var failed int64
	for _, s := range strata {
		failed += s.NextFailed
	}
	best := 0.0
	for t := leastTilt; t < mostTilt; t *= tiltStep {
		grown, bound := math.Expm1(t), -t*float64(failed)
		for _, s := range strata {
			all, k := float64(s.Next+s.Stable), float64(s.NextFailed+s.StableFailed)
			bound += min(float64(s.Next)*math.Log1p(k/all*grown), k*math.Log1p(float64(s.Next)/all*grown))
		}
		best = min(best, bound)
	}
	return best
}

// attainable is what Excess would say if every failed request had been next's: the most that this control can tell.
func attainable(strata []Stratum) float64 {
	worst := make([]Stratum, len(strata))
	for i, s := range strata {
		failed := s.NextFailed + s.StableFailed
		s.NextFailed = min(failed, s.Next)
		s.StableFailed = failed - s.NextFailed
		worst[i] = s
	}
	return Excess(worst)
}

// Binomial is the chance of at least k failures of n when each fails with chance p.
func Binomial(k, n int64, p float64) float64 {
	switch {
	case k <= 0:
		return 1
	case k > n || p <= 0:
		return 0
	case p >= 1:
		return 1
	}
	return tail(k, 0, n, float64(n)*p, func(x int64) float64 {
		return choose(n, x) + float64(x)*math.Log(p) + float64(n-x)*math.Log1p(-p)
	}, func(x int64) float64 { return float64(n-x) / float64(x+1) * p / (1 - p) })
}

// Poisson is the chance of at least k events where so many are expected.
func Poisson(k int64, expected float64) float64 {
	if k <= 0 {
		return 1
	}
	if expected <= 0 {
		return 0
	}
	return tail(k, 0, math.MaxInt64, expected, func(x int64) float64 {
		factorial, _ := math.Lgamma(float64(x + 1))
		return float64(x)*math.Log(expected) - expected - factorial
	}, func(x int64) float64 { return expected / float64(x+1) })
}

// How a report says what would have been seen: a test of a fixed number of requests, at this chance of a false alarm, and
// with this chance to see it.
const (
	reportAlpha = 0.001
	reportPower = 0.95
)

// DetectableRate is the smallest error rate that n requests would have shown with 95 %, when p0 is usual: the smallest at
// which a Poisson count reaches, with 95 %, the number of errors that p0 reaches in at most 1 of 1,000 releases. It is the
// test of a fixed sample, not the guard's own rule, which looks every second and waits for minutes. At p0 = 0 one error is
// enough, and the answer is about 3/n. Without a request it is 1.
func DetectableRate(n int64, p0 float64) float64 {
	if n <= 0 {
		return 1
	}
	usual := float64(n) * p0
	// The number of errors that is too many: the least k with Poisson(k, usual) ≤ alpha.
	low, high := int64(0), int64(usual+20+10*math.Sqrt(usual))
	for low+1 < high {
		if middle := (low + high) / 2; Poisson(middle, usual) <= reportAlpha {
			high = middle
		} else {
			low = middle
		}
	}
	few, many := 0.0, 10+3*float64(high)
	for range 60 {
		if middle := (few + many) / 2; Poisson(high, middle) >= reportPower {
			many = middle
		} else {
			few = middle
		}
	}
	return min(1, many/float64(n))
}

// Detectable is DetectableRate as a factor on p0: the smallest K for which errors K times as frequent would have been
// seen in n requests. It is infinite when p0 is 0, and at most 1/p0.
func Detectable(n int64, p0 float64) float64 {
	if p0 <= 0 {
		return math.Inf(1)
	}
	return DetectableRate(n, p0) / p0
}
