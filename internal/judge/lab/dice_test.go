package lab

import (
	"math"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

// near compares the mean and the variance of many numbers with what they should be.
func near(t *testing.T, what string, draw func() int64, mean, variance float64) {
	t.Helper()
	const n = 40_000
	sum, squares := 0.0, 0.0
	for range n {
		x := float64(draw())
		sum, squares = sum+x, squares+x*x
	}
	m := sum / n
	v := squares/n - m*m
	if math.Abs(m-mean) > 5*math.Sqrt(variance/n) || variance > 0 && math.Abs(v/variance-1) > 0.1 {
		t.Errorf("%s: mean %g and variance %g, want %g and %g", what, m, v, mean, variance)
	}
}

func TestDiceAreFair(t *testing.T) {
	d := newDice(1, 2)
	for _, mean := range []float64{0.3, 7, 400} {
		near(t, "poisson", func() int64 { return d.poisson(mean) }, mean, mean)
	}
	for _, c := range []struct {
		n int64
		p float64
	}{{500, 0.001}, {25, 0.05}, {40, 0.3}, {300, 0.9}, {100_000, 0.2}} {
		near(t, "binomial", func() int64 { return d.binomial(c.n, c.p) }, float64(c.n)*c.p, float64(c.n)*c.p*(1-c.p))
	}
	for _, c := range []struct{ all, marked, taken int64 }{{1024, 51, 500}, {100, 90, 95}, {20, 10, 3}, {10, 0, 5}, {200_000, 60_000, 50_000}} {
		mean := float64(c.taken) * float64(c.marked) / float64(c.all)
		left := 1 - float64(c.marked)/float64(c.all)
		near(t, "among", func() int64 { return d.among(c.all, c.marked, c.taken) }, mean,
			mean*left*float64(c.all-c.taken)/float64(c.all-1))
	}
}

func TestDealersKeepTheWeight(t *testing.T) {
	for _, deal := range []Deal{Blocks, Independent, Counter} {
		d := &dealer{dice: newDice(3, 4), deal: deal}
		next, all := int64(0), int64(0)
		for all < 1_000_000 {
			n := d.poisson(40)
			next, all = next+d.take(n, 500), all+n
		}
		off, most := math.Abs(float64(next)-0.05*float64(all)), 60.0
		if deal == Independent {
			most = 1000
		}
		if off > most {
			t.Errorf("deal %d: %d of %d are next's", deal, next, all)
		}
	}
}

// soon is when as many visitors come as go.
const soon = visits * longest

func TestVisitorsMakeAsManyRequestsAsTheySay(t *testing.T) {
	if v := visitors(4); math.Abs(v.mean()-4) > 0.01 {
		t.Errorf("%g requests a visitor", v.mean())
	}
	w := World{Rate: 200, Errors: 0.01, Weight: 2000, Visitors: &crowd}
	r := w.Begin(Effect{}, 1, 1)
	var requests, errors, drawn, failed int64
	for n := range 2000 {
		s := r.Next().Strata[0]
		if n < soon {
			continue
		}
		requests, errors = requests+s.Next.Requests+s.Stable.Requests, errors+s.Next.Errors+s.Stable.Errors
		drawn, failed = drawn+s.Next.Drawn+s.Stable.Drawn, failed+s.Next.Failed+s.Stable.Failed
	}
	if rate := float64(requests) / (2000 - soon); math.Abs(rate/200-1) > 0.05 {
		t.Errorf("%g requests a second", rate)
	}
	if failed >= errors || failed == 0 || failed > drawn || drawn*2 > requests {
		t.Errorf("%d requests, %d failed; %d visitors, %d failed", requests, errors, drawn, failed)
	}
}

func TestPalettes(t *testing.T) {
	b := &painter{dice: newDice(1, 1)}
	within := func(what string, got, want time.Duration) {
		if math.Abs(float64(got)/float64(want)-1) > 0.03 {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	h := b.paint(usualLatency, 200_000, 1, 0)
	within("p50", h.Quantile(0.5), 20*time.Millisecond)
	within("p95", h.Quantile(0.95), 46*time.Millisecond)
	again := b.paint(Recorded(h), 200_000, 2, 0)
	within("p95 of the recorded, twice as slow", again.Quantile(0.95), 92*time.Millisecond)
	tail := b.paint(usualLatency, 200_000, 1, 0.05)
	if n := tail.CountAbove(200 * time.Millisecond); n < 2000 {
		t.Errorf("%d of 200,000 are in the slow tail", n)
	}
	if Recorded(&measure.Histogram{}) != nil {
		t.Error("nothing recorded is a distribution")
	}
}

// The same seed makes the same rollout.
func TestSeedsDecide(t *testing.T) {
	play := func(seed uint64) (failed int64) {
		for i, w := range append(errorWorlds(), latencyWorlds()...) {
			r := w.Begin(Effect{}, seed, uint64(i))
			for range 100 {
				s := r.Next().Strata[0]
				failed = failed*31 + s.Next.Failed + 7*s.Stable.Failed + 11*s.Next.Latency.Count() + 13*int64(s.Stable.Latency.Quantile(0.9))
			}
		}
		return failed
	}
	one, again, other := play(1), play(1), play(2)
	if one != again || one == other {
		t.Error("a seed does not decide")
	}
}
