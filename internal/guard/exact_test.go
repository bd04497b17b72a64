package guard

import (
	"cmp"
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9+1e-6*math.Abs(want) {
		t.Errorf("%s is %.12g, want %.12g", what, got, want)
	}
}

// Answers that are known from elsewhere: the lady tasting tea, R's fisher.test, ppois and pbinom, and urns that can be
// counted by hand.
func TestKnownAnswers(t *testing.T) {
	near(t, "the lady tasting tea, 3 of 4", Fisher(Stratum{4, 3, 4, 1}), 17.0/70)
	near(t, "all four", Fisher(Stratum{4, 4, 4, 0}), 1.0/70)
	near(t, "10 of 10 against 0 of 10", Fisher(Stratum{10, 10, 10, 0}), 1.0/184756)
	near(t, "1 of 2 against 0 of 8", Fisher(Stratum{2, 1, 8, 0}), 0.2)
	near(t, "none", Fisher(Stratum{100, 0, 100, 5}), 1)
	near(t, "12 of 17 against 5 of 12, dealt out in whole numbers", Fisher(Stratum{17, 12, 12, 5}), dealt(17, 12, 12, 5))
	near(t, "90 of 200 against 100 of 200: below its mean", Fisher(Stratum{200, 90, 200, 100}), dealt(200, 90, 200, 100))
	near(t, "far below its mean", Fisher(Stratum{100_000, 10, 100_000, 50_000}), 1)
	near(t, "a binomial far below its mean", Binomial(1, 100_000, 0.5), 1)
	near(t, "a Poisson far below its mean", Poisson(1, 10_000), 1)
	near(t, "binomial 3 of 3 at 5 %", Binomial(3, 3, 0.05), 0.000125)
	near(t, "binomial 60 or more of 100 at one half", Binomial(60, 100, 0.5), 0.02844396682)
	near(t, "poisson 3 or more where 1 is expected", Poisson(3, 1), 1-2.5/math.E)
	near(t, "poisson 25 or more where 12.15 are expected", Poisson(25, 12.15), poissonByHand(25, 12.15))
	near(t, "one of nothing", Poisson(1, 0), 0)
	if p := Fisher(Stratum{1_000_000, 60_000, 1_000_000, 50_000}); p <= 0 || p > 1e-200 {
		t.Errorf("a million against a million: %g", p)
	}
	if p := Fisher(Stratum{41, 41, 812, 0}); p <= 0 || p > 1e-60 {
		t.Errorf("41 of 41 against 0 of 812: %g", p)
	}
}

// dealt is Fisher's test in whole numbers.
func dealt(next, nextFailed, stable, stableFailed int64) float64 {
	failed, sum := nextFailed+stableFailed, new(big.Int)
	for x := nextFailed; x <= min(failed, next); x++ {
		if failed-x <= stable {
			ways := new(big.Int).Binomial(next, x)
			sum.Add(sum, ways.Mul(ways, new(big.Int).Binomial(stable, failed-x)))
		}
	}
	p, _ := new(big.Rat).SetFrac(sum, new(big.Int).Binomial(next+stable, failed)).Float64()
	return p
}

func poissonByHand(k int, l float64) float64 {
	below, term := 0.0, math.Exp(-l)
	for x := range k {
		below += term
		term *= l / float64(x+1)
	}
	return 1 - below
}

// outcomes calls each with every way in which the failed requests of the strata may have been dealt, and its chance.
func outcomes(margins, dealt []Stratum, chance float64, each func([]Stratum, float64)) {
	if len(dealt) == len(margins) {
		each(dealt, chance)
		return
	}
	s := margins[len(dealt)]
	failed, all := s.NextFailed+s.StableFailed, s.Next+s.Stable
	for x := max(0, failed-s.Stable); x <= min(failed, s.Next); x++ {
		p := math.Exp(choose(failed, x) + choose(all-failed, s.Next-x) - choose(all, s.Next))
		outcomes(margins, append(dealt, Stratum{s.Next, x, s.Stable, failed - x}), chance*p, each)
	}
}

func strata(t *rapid.T) []Stratum {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Stratum {
		s := Stratum{Next: rapid.Int64Range(0, 9).Draw(t, "next"), Stable: rapid.Int64Range(0, 9).Draw(t, "stable")}
		s.NextFailed = rapid.Int64Range(0, s.Next).Draw(t, "next failed")
		s.StableFailed = rapid.Int64Range(0, s.Stable).Draw(t, "stable failed")
		return s
	}), 1, 3).Draw(t, "strata")
}

// Counted out in full: a p-value of at most p comes up in at most the share p of all ways to deal the failed requests.
func TestExcessIsNeverTooSure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		margins := strata(t)
		type way struct{ p, chance float64 }
		var ways []way
		outcomes(margins, nil, 1, func(dealt []Stratum, chance float64) { ways = append(ways, way{Excess(dealt), chance}) })
		slices.SortFunc(ways, func(a, b way) int { return cmp.Compare(a.p, b.p) })
		sum := 0.0
		for i, w := range ways {
			sum += w.chance
			if (i+1 == len(ways) || ways[i+1].p > w.p*(1+1e-9)) && sum > w.p*(1+1e-9) {
				t.Fatalf("%v: a p-value of %g comes up with a chance of %g", margins, w.p, sum)
			}
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("%v: all ways together have a chance of %g", margins, sum)
		}
	})
	// And it can be sure.
	if p := Excess([]Stratum{{50, 10, 50, 0}, {50, 10, 50, 0}, {50, 10, 50, 1}}); p > 1e-5 {
		t.Errorf("30 errors against 1 in three strata: %g", p)
	}
	// An endpoint that fails on both, and that next gets more of, is no excess.
	if p := Excess([]Stratum{{1000, 0, 1000, 0}, {200, 100, 20, 10}}); p < 0.5 {
		t.Errorf("an uneven mix: %g", p)
	}
}

func TestDetectable(t *testing.T) {
	near(t, "212 requests without a usual rate: three over n", DetectableRate(212, 0), -math.Log(0.05)/212)
	if k := Detectable(13_504, 0.0009); k < 2.4 || k > 3 {
		t.Errorf("13,504 requests at 0.09 %% show a factor of %.2f", k)
	}
	if !math.IsInf(Detectable(100, 0), 1) || DetectableRate(0, 0) != 1 {
		t.Error("without a usual rate there is no factor, without a request nothing is seen")
	}
	rapid.Check(t, func(t *rapid.T) { // it is the smallest that holds its word
		n, p0 := rapid.Int64Range(1, 100_000).Draw(t, "n"), rapid.Float64Range(1e-5, 0.2).Draw(t, "p0")
		rate := DetectableRate(n, p0)
		if rate < p0 {
			t.Fatalf("%g is below the usual %g", rate, p0)
		}
		tooMany := int64(float64(n) * p0)
		for Poisson(tooMany, float64(n)*p0) > reportAlpha {
			tooMany++
		}
		if seen := Poisson(tooMany, float64(n)*rate); rate < 1 && math.Abs(seen-reportPower) > 1e-6 {
			t.Fatalf("%d requests at %g: a rate of %g is seen with %g", n, p0, rate, seen)
		}
	})
}
