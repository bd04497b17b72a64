package judge

import (
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

// withPlacebo draws the placebo as the proxy does, with units that fail together.
func withPlacebo(d dice, together int64, fails float64) Stratum {
	s := pair(500, Side{}, Side{})
	for range d.poisson(500 / float64(together)) {
		side, slice := &s.Stable, d.Float64() < measure.PlaceboShare
		if d.Float64() < .05 {
			side, slice = &s.Next, false
		}
		n := requests(together, 0)
		if d.Float64() < fails {
			n.Errors, n.Failed = together, together
		}
		for _, to := range []*Side{side, &s.Placebo} {
			if to == &s.Placebo && !slice {
				continue
			}
			to.Requests += n.Requests
			to.Errors += n.Errors
			to.Drawn += n.Drawn
			to.Failed += n.Failed
		}
	}
	return s
}

func TestThePlaceboFiresWhereVisitorsAreCountedByRequest(t *testing.T) {
	fired := 0
	for seed := range uint64(10) {
		j, d := New(noLatency()), newDice(200+seed)
		j.config.Limit = 0
		v, _ := play(j, 0, 900, func(int64) Stratum { return withPlacebo(d, 20, .02) }, Hold)
		if v.Decision == Hold {
			fired++
			if v.Metric != metricPlacebo && v.Metric != metricSplit {
				t.Errorf("held: %s", v.Sentence)
			}
		}
	}
	if fired < 9 {
		t.Errorf("held %d of 10", fired)
	}
	for seed := range uint64(10) {
		j, d := New(noLatency()), newDice(300+seed)
		j.config.Limit = 0
		if v, _ := play(j, 0, 300, func(int64) Stratum { return withPlacebo(d, 1, .02) }, Hold, RollBack); v.Decision == Hold || v.Decision == RollBack {
			t.Fatalf("requests of their own: %s", v.Sentence)
		}
	}
}

// A plain counter sends every twentieth request to a release. Where traffic has a rhythm, it is always the same kind.
func TestThePlaceboFiresForAPlainCounter(t *testing.T) {
	j, n := New(noLatency()), int64(0)
	j.config.Limit = 0
	v, took := play(j, 0, 600, func(int64) Stratum {
		s := pair(500, Side{}, Side{})
		for range 500 {
			n++
			one := requests(1, 0)
			if n%20 == 7 && n%3 == 0 { // what every twentieth request asks for fails on every release, at times
				one = requests(1, 1)
			}
			side := &s.Stable
			if n%20 == 0 {
				side = &s.Next
			}
			for _, to := range []*Side{side, &s.Placebo} {
				if to == &s.Placebo && n%20 != 7 {
					continue
				}
				to.Requests++
				to.Drawn++
				to.Errors += one.Errors
				to.Failed += one.Failed
			}
		}
		return s
	}, Hold)
	must(t, v, Hold, metricPlacebo)
	if took > 10 {
		t.Errorf("%d s", took)
	}
	says(t, v, "two shares of the same stable release differ")
}

// A slice of stable that is slower by itself.
func TestThePlaceboSeesLatency(t *testing.T) {
	for _, faster := range []bool{false, true} {
		j, d := New(defaults()), newDice(32)
		v, _ := play(j, 0, 600, func(int64) Stratum {
			s := pair(500, d.side(25, 0, base), d.side(450, 0, base))
			s.Placebo = d.side(25, 0, map[bool]time.Duration{false: 2 * base, true: base / 2}[faster])
			s.Stable.Drawn += s.Placebo.Drawn
			s.Stable.Requests += s.Placebo.Requests
			s.Stable.Latency.Merge(s.Placebo.Latency)
			return s
		}, Hold)
		must(t, v, Hold, metricPlacebo)
	}
}
