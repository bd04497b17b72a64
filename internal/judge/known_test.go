package judge

import (
	"math"
	"testing"
)

func closeTo(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if !(math.Abs(got-want) <= within) {
		t.Errorf("%s = %.9g, want %.9g", what, got, want)
	}
}

// Ten failures, all of them next's, at even weight. The bet at ψ multiplies the stake by (2q)^10 with q = ψ/(1+ψ); with a flat
// prior over q that is the Dirichlet-multinomial Bayes factor of Lindon & Malek: 1024/11.
func TestBetsOnFailuresAreTheDirichletMultinomial(t *testing.T) {
	const steps = 20_000
	flat := 0.0
	for i := range steps {
		q := (float64(i) + 0.5) / steps
		flat += math.Exp(10*math.Log(q/(1-q))-10*math.Log(1-.5+.5*q/(1-q))) / steps
	}
	closeTo(t, "flat mixture of bets", flat, 1024.0/11, 1e-4)
	d := newDesign(0.5, 1, 0)
	c := capital{logs: make([]float64, len(worse))}
	c.errorsHarm(d, 10, 0)
	for j, psi := range worse {
		closeTo(t, "bet of the product", c.logs[j], 10*math.Log(psi)-10*math.Log(.5+.5*psi), 1e-12)
		if q := psi / (1 + psi); math.Abs(c.logs[j]-10*math.Log(2*q)) > 1e-12 {
			t.Errorf("ψ = %v: ln e = %v, want 10 ln(2q) = %v", psi, c.logs[j], 10*math.Log(2*q))
		}
	}
	// The band mixes the same likelihood over another prior.
	low, _ := new(Judge).band([]byWeight{{weight: 5000, next: 10}})
	if low < 1.2 || low > 2 {
		t.Errorf("the band begins at %v", low)
	}
}

// Howard, Ramdas, McAuliffe & Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences" (2021), give mixtures
// of bets exp(λs − ψ(λ)v) on a sum s with variance v so far, and the values of three of them are known. The judge mixes over
// a few alternatives and needs no closed form; here its own sum over alternatives is given a fine grid of theirs.

// grid is the ln of a mixture over a grid from low to high, of a bet and a prior that are functions of the grid's value.
func grid(low, high float64, prior, bet func(x float64) float64) float64 {
	const steps = 400_000
	stakes, grown := make([]float64, steps), make([]float64, steps)
	for i := range steps {
		x := low + (high-low)*(float64(i)+0.5)/steps
		stakes[i] = prior(x)
		grown[i] = stakes[i] + bet(x)
	}
	return sumLog(grown) - sumLog(stakes)
}

// best is the precision of the prior that is best at variance v for α = 0.05, one-sided.
func best(v float64) float64 {
	l := 2 * math.Log(1/0.1)
	return v / (l + math.Log(1+l))
}

func TestMixturesOfKnownValues(t *testing.T) {
	const s, v = 10.0, 100.0
	rho := best(100)
	closeTo(t, "normal_log_mixture(10, 100, 100)", grid(0, 3,
		func(l float64) float64 { return -rho * l * l / 2 },
		func(l float64) float64 { return l*s - l*l*v/2 }), -.06502391, 1e-6)

	const c = 2.0
	a := rho / (c * c)
	closeTo(t, "gamma_poisson_log_mixture(10, 100, 100, 2)", grid(1, 12,
		func(u float64) float64 { return (a-1)*math.Log(u) - a*u },
		func(u float64) float64 { return s/c*math.Log(u) - v/(c*c)*(u-1-math.Log(u)) }), -.06991219, 1e-6)

	const g, h = .2, .8
	r := math.Max(rho-g*h, 1e-3*g*h)
	closeTo(t, "beta_binomial_log_mixture(10, 100, 100, .2, .8)", grid(0, h/(g+h),
		func(u float64) float64 { return (r/(g*(g+h))-1)*math.Log(u) + (r/(h*(g+h))-1)*math.Log(1-u) },
		func(u float64) float64 {
			l := math.Log((1-u)*h/(u*g)) / (g + h)
			return l*s - v/(g*h)*math.Log((g*math.Exp(h*l)+h*math.Exp(-g*l))/(g+h))
		}), -.07134019, 1e-6)
}

// lilBound is the radius, in ranks, within which all quantiles of t values lie at all times from m on (Howard & Ramdas 2022,
// theorem 2). The judge bets on ranks instead of bounding them, so it needs no such radius; the value shows what the bets
// are worth: with 1,000 latencies the band is 8 % of the ranks wide on either side.
func lilBound(t, alpha, m, a float64) float64 {
	chance := func(c float64) float64 {
		least := math.Inf(1)
		for i := 1; i < 20_000; i++ {
			eta := 1 + (2*a*a-1)*float64(i)/20_000
			root := a - math.Sqrt(2*(eta-1)/c)
			if gamma := 2 / eta * root * root; root > 0 && gamma > 1 {
				least = min(least, 4*math.Exp(-gamma*c)*(1+1/((gamma-1)*math.Log(eta))))
			}
		}
		return least
	}
	low, high := 1.0, 100.0
	for range 40 {
		if middle := (low + high) / 2; chance(middle) > alpha {
			low = middle
		} else {
			high = middle
		}
	}
	return a * math.Sqrt((math.Log(1+math.Log(t/m))+high)/t)
}

func TestEmpiricalProcessBoundOfKnownValue(t *testing.T) {
	bound := lilBound(1000, .05, 100, .85)
	closeTo(t, "empirical_process_lil_bound(1000, .05, 100, .85)", bound, .08204769, 1e-5)
	// A shift of the ranks by that much is seen by the judge's bets with the same number of latencies on each side.
	var next, stable tally
	for g := range next {
		low, high := 0.0, 1.0
		if g > 0 {
			low = levels[g-1]
		}
		if g < len(levels) {
			high = levels[g]
		}
		stable[g] = int64(math.Round(1000 * (high - low)))
		next[g] = int64(math.Round(1000 * (math.Max(high-2*bound, 0) - math.Max(low-2*bound, 0))))
	}
	next[ranks-1] += int64(2000 * bound)
	bets := append([]float64(nil), harmMenu.prior...)
	harmMenu.scores(bets, &next, &stable)
	if sumLog(bets) < math.Log(20) {
		t.Errorf("ln E = %v", sumLog(bets))
	}
}
