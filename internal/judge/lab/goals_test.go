package lab

import (
	"testing"
	"time"
)

// goal is what the judge must do with releases of one kind, at the defaults.
type goal struct {
	world   World
	effect  Effect
	times   float64 // how many times as often next fails
	failed  float64 // at most so many requests of next fail until it is taken back; 0 is any number
	seconds float64 // at most so many seconds pass; 0 is any number
}

// overOracle is how many times as many requests may fail as with a test that knows the effect beforehand.
const overOracle = 1.6

var errorGoals = []goal{
	{effect: Effect{Name: "errors ×2", Errors: 2}, times: 2},
	{effect: Effect{Name: "errors ×5", Errors: 5}, times: 5, failed: 18},
	{effect: Effect{Name: "errors ×20", Errors: 20}, times: 20, failed: 9},
	{effect: Effect{Name: "all fail", Fail: 1}, times: 1000, failed: 30},
	{effect: Effect{Name: "errors ×5 from the 30th minute", Errors: 5, After: 30 * time.Minute}, times: 5, seconds: 220},
}

var latencyGoals = []goal{
	{world: calmAnd(usualLatency), effect: Effect{Name: "+50 %", Latency: 1.5}, seconds: 60},
	{world: calmAnd(usualLatency), effect: Effect{Name: "×2", Latency: 2}},
	{world: calmAnd(usualLatency), effect: Effect{Name: "5 % take ten times as long", Tail: 0.05}},
	{world: calmAnd(wideLatency), effect: Effect{Name: "+50 %, p95 80 ms", Latency: 1.5}},
	{world: calmAnd(cached), effect: Effect{Name: "+50 %, a cache that hits and misses", Latency: 1.5}},
}

// calmAnd is little traffic: 50 requests a second.
func calmAnd(p *Palette) World { return World{Rate: 50, Errors: 0.001, Weight: 500, Latency: p} }

// check holds medians against the goal: Belay at its defaults comes first in the list, the bare method and the oracle last.
func (g goal) check(t *testing.T, got []finish) {
	t.Helper()
	failed, seconds := medianOf(got[0].failed), medianOf(got[0].seconds)
	if g.failed > 0 && failed.mid > g.failed {
		t.Errorf("%s: %s failed requests until it is taken back, the goal is %g", g.effect.Name, failed, g.failed)
	}
	if g.seconds > 0 && seconds.mid > g.seconds {
		t.Errorf("%s: taken back after %s s, the goal is %g", g.effect.Name, seconds, g.seconds)
	}
	if g.times > 0 && g.effect.After == 0 {
		method, best := medianOf(got[len(got)-2].failed), medianOf(got[len(got)-1].failed)
		if method.mid > overOracle*best.mid {
			t.Errorf("%s: %s failed requests with one metric, %s with an oracle: more than %g times as many", g.effect.Name, method, best, overOracle)
		}
	}
}
