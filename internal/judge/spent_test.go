package judge

import (
	"testing"
	"time"
)

// crowd are visitors who come back all the time: who has failed cannot fail first again.
type crowd struct {
	dice dice
	next []bool
	had  []bool
}

func newCrowd(seed uint64, visitors, weight int) (c crowd, drawn [2]int64) {
	c = crowd{dice: newDice(seed), next: make([]bool, visitors), had: make([]bool, visitors)}
	for i := range c.next {
		if c.next[i] = c.dice.Float64() < float64(weight)/whole; c.next[i] {
			drawn[0]++
		} else {
			drawn[1]++
		}
	}
	return c, drawn
}

// second is what they do in one, where each request fails with the chance of its side.
func (c *crowd) second(rate, failsNext, failsStable float64) (next, stable Side) {
	for range c.dice.poisson(rate) {
		v := c.dice.IntN(len(c.next))
		side, fails := &stable, failsStable
		if c.next[v] {
			side, fails = &next, failsNext
		}
		side.Requests++
		if c.dice.Float64() >= fails {
			continue
		}
		side.Errors++
		if !c.had[v] {
			c.had[v] = true
			side.Failed++
		}
	}
	return next, stable
}

// Stable alone has trouble for minutes, so most of its visitors have failed and few of next's. In an outage that both share
// nearly all first failures are next's then, which is no worse.
func TestWhoHasFailedCannotFailFirstAgain(t *testing.T) {
	crossed := 0
	for seed := range uint64(20) {
		c, drawn := newCrowd(seed, 2000, 1000)
		config := defaults()
		config.Margin, config.Limit = 0, 0
		j := New(config)
		for n := int64(1); n <= 1200; n++ {
			next, stable := 0.0, 0.0
			switch {
			case n >= 120 && n < 420:
				stable = .3
			case n >= 900 && n < 1020:
				next, stable = .3, .3
			}
			a, b := c.second(50, next, stable)
			if n == 1 {
				a.Drawn, b.Drawn = drawn[0], drawn[1]
			}
			j.Tick(second(n, pair(1000, a, b)))
			if v := j.Verdict(); v.Evidence >= v.Needed {
				crossed++
				break
			}
		}
	}
	if crossed > 0 {
		t.Errorf("blamed in %d of 20 rollouts", crossed)
	}
}

// A second in which everything fails takes nothing back where there is only history to compare with; half a minute does.
func TestOneBadSecondIsNoHistory(t *testing.T) {
	for _, seconds := range []int64{1, 10, 40} {
		config := defaults()
		config.Before = &Before{Requests: 100_000, Errors: 10, WorstErrors: .0005, WorstLatency: 20 * time.Millisecond}
		j, back := New(config), false
		for n := int64(1); n <= 300 && !back; n++ {
			failed := int64(0)
			if n > 100 && n <= 100+seconds {
				failed = 50
			}
			j.Tick(second(n, pair(whole, requests(50, failed), Side{})))
			back = j.Verdict().Decision == RollBack
		}
		if back != (seconds == 40) {
			t.Errorf("%d bad seconds: back %v", seconds, back)
		}
	}
}

// A few visitors who make the placebo look bad hold a release, and do not protect one that fails all its requests.
func TestADoubtDoesNotHideWhatIsBeyondIt(t *testing.T) {
	j, d := New(defaults()), newDice(34)
	odd := func(failed int64) func(int64) Stratum {
		return func(n int64) Stratum {
			s := pair(500, d.side(25, .001, 0), d.side(475, .001, 0))
			s.Placebo = Side{Requests: 24, Drawn: 24}
			if n < 16 {
				s.Placebo.Failed, s.Placebo.Errors = failed, failed
				s.Stable.Failed += failed
				s.Stable.Errors += failed
			}
			return s
		}
	}
	v, _ := play(j, 0, 60, odd(1), RollBack, Hold)
	must(t, v, Hold, metricPlacebo)
	v, took := play(j, 60, 120, func(n int64) Stratum {
		s := odd(0)(n)
		s.Next.Failed, s.Next.Errors = s.Next.Requests, s.Next.Requests
		return s
	}, RollBack)
	must(t, v, RollBack, "errors")
	if took > 5 {
		t.Errorf("after %d s", took)
	}
}
