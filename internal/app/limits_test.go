package app

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/sample"
)

// summed is what one release served: so many requests, of them so many failed and so many slow ones.
func summed(requests, errors int64, usual time.Duration, slow int64, slowTook time.Duration) sample.Sum {
	s := sample.Sum{Requests: requests, Errors: errors}
	s.Latency.AddN(usual, requests-slow)
	s.Latency.AddN(slowTook, slow)
	return s
}

func TestErrorLimit(t *testing.T) {
	const ms = time.Millisecond
	with := func(requests, errors int64) sample.Sum { return summed(requests, errors, ms, 0, 0) }
	for name, c := range map[string]struct {
		next, beside sample.Sum
		baseline     *domain.Figures
		state        string
		part         string
		open         bool
	}{
		"no traffic":             {next: with(0, 0), state: "not checked", part: "no traffic", open: true},
		"little traffic":         {next: with(12, 12), state: "not checked", part: "only 12 requests", open: true},
		"good":                   {next: with(200, 1), state: "passed", part: "0.50 % of 200 requests failed (limit 1 %)"},
		"30 %":                   {next: with(200, 60), state: "failed", part: "30.00 % of 200"},
		"2 %":                    {next: with(200, 4), state: "failed", part: "2.00 % of 200"},
		"one of a few":           {next: with(30, 1), state: "not checked", part: "too few to tell from chance", open: true},
		"two of a few":           {next: with(20, 2), state: "failed"},
		"stable is as bad":       {next: with(300, 15), beside: with(300, 14), state: "not checked", part: "no more than without next; stable: 4.67 % of 300 at the same time"},
		"stable is not as bad":   {next: with(300, 60), beside: with(300, 14), state: "failed", part: "stable: 4.67 % of 300"},
		"it was as bad before":   {next: with(300, 15), baseline: &domain.Figures{ErrorRate: 0.05}, state: "not checked", part: "stable: 5.00 % before"},
		"what is now counts":     {next: with(300, 15), beside: with(300, 0), baseline: &domain.Figures{ErrorRate: 0.05}, state: "failed"},
		"nobody is beside it":    {next: with(300, 15), beside: with(5, 5), state: "failed"},
		"everything, everywhere": {next: with(300, 300), beside: with(300, 300), state: "not checked"},
	} {
		rec, open := errorLimit(c.next, c.beside, c.baseline, 0.01)
		if rec.State != c.state || open != c.open || !strings.Contains(rec.Message, c.part) {
			t.Errorf("%s: %s, open %t, %q; want %s, %t, %q", name, rec.State, open, rec.Message, c.state, c.open, c.part)
		}
	}
}

func TestLatencyLimit(t *testing.T) {
	const ms = time.Millisecond
	base := &domain.Figures{P95: 0.1}
	for name, c := range map[string]struct {
		next, beside sample.Sum
		baseline     *domain.Figures
		state        string
		part         string
		open         bool
	}{
		"little traffic":        {next: summed(99, 0, ms, 0, 0), baseline: base, state: "not checked", part: "only 99 requests", open: true},
		"no baseline":           {next: summed(200, 0, 100*ms, 0, 0), state: "not checked", part: "no baseline; p95 is"},
		"as before":             {next: summed(200, 0, 100*ms, 0, 0), baseline: base, state: "passed", part: "(limit 145.0 ms, baseline 100.0 ms)"},
		"slow":                  {next: summed(200, 0, 200*ms, 0, 0), baseline: base, state: "failed", part: "of 200 requests (limit 145.0 ms"},
		"a tenth is slow":       {next: summed(1000, 0, 10*ms, 100, 500*ms), baseline: base, state: "failed"},
		"a handful is slow":     {next: summed(100, 0, 10*ms, 6, 500*ms), baseline: base, state: "not checked", part: "too few to tell from chance", open: true},
		"stable is slow, too":   {next: summed(200, 0, 200*ms, 0, 0), beside: summed(200, 0, 190*ms, 0, 0), baseline: base, state: "not checked", part: "and stable has 1"},
		"stable is faster":      {next: summed(200, 0, 400*ms, 0, 0), beside: summed(200, 0, 190*ms, 0, 0), baseline: base, state: "failed"},
		"the machine's grain":   {next: summed(200, 0, 5*ms, 0, 0), baseline: &domain.Figures{P95: 0.001}, state: "passed"},
		"a baseline of nothing": {next: summed(200, 0, 5*ms, 0, 0), baseline: &domain.Figures{}, state: "not checked", part: "no baseline"},
	} {
		rec, open := latencyLimit(c.next, c.beside, c.baseline, 0.2)
		if rec.State != c.state || open != c.open || !strings.Contains(rec.Message, c.part) {
			t.Errorf("%s: %s, open %t, %q; want %s, %t, %q", name, rec.State, open, rec.Message, c.state, c.open, c.part)
		}
	}
}

// A release that has one failure in a thousand, as stable has, is called red once in a thousand times at most.
func TestAGoodReleaseIsNotRedByChance(t *testing.T) {
	for _, n := range []int64{20, 50, 100, 200, 500, 1000, 5000} {
		red := 0.0
		for k := int64(0); k <= n; k++ {
			rec, _ := errorLimit(sample.Sum{Requests: n, Errors: k}, sample.Sum{}, nil, 0.01)
			if rec.State == "failed" {
				red = guard.Binomial(k, n, normalErrors)
				break
			}
		}
		if red == 0 || red > chance {
			t.Errorf("of %d requests: red with probability %g", n, red)
		}
	}
}

func TestAtLeast(t *testing.T) {
	for _, c := range []struct {
		k, n int64
		p    float64
		want float64
	}{
		{0, 10, 0.1, 1}, {1, 10, 0.1, 1 - math.Pow(0.9, 10)}, {10, 10, 0.5, math.Pow(0.5, 10)}, {1, 1, 0.25, 0.25},
		{5, 10, 0.5, 0.623046875}, {500, 1000, 0.5, 0.5126125}, {3, 10, 1, 1}, {60, 200, 0.001, 0},
	} {
		if got := guard.Binomial(c.k, c.n, c.p); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("at least %d of %d at %g: %g, want %g", c.k, c.n, c.p, got, c.want)
		}
	}
}
