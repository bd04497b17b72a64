package judge

import (
	"math"
	"strings"
	"testing"
	"time"
)

const base = 100 * time.Millisecond // what stable takes in the middle

// play gives the judge ticks until it decides for one of stop, and returns the verdict and how many seconds it took.
func play(j *Judge, from, to int64, tick func(n int64) Stratum, stop ...Decision) (Verdict, int64) {
	for n := from; n < to; n++ {
		j.Tick(second(n, tick(n)))
		v := j.Verdict()
		for _, d := range stop {
			if v.Decision == d {
				return v, n - from + 1
			}
		}
	}
	return j.Verdict(), to - from
}

func says(t *testing.T, v Verdict, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(v.Sentence, part) {
			t.Errorf("the sentence does not say %q: %s", part, v.Sentence)
		}
	}
	for _, wrong := range []string{"NaN", "Inf", "%!", "  "} {
		if strings.Contains(v.Sentence, wrong) {
			t.Errorf("the sentence says %q: %s", wrong, v.Sentence)
		}
	}
	t.Logf("%s: %s", v.Decision, v.Sentence)
}

func TestErrorsRollBack(t *testing.T) {
	for _, x := range []struct {
		fails  float64
		within int64
	}{{1, 1}, {.02, 60}, {.005, 600}} {
		j, d := New(defaults()), newDice(10)
		v, took := play(j, 0, 3600, func(int64) Stratum { return pair(500, d.side(25, x.fails, 0), d.side(475, .001, 0)) }, RollBack)
		must(t, v, RollBack, "errors")
		if took > x.within {
			t.Errorf("%v of next's requests fail: %d s", x.fails, took)
		}
		says(t, v, "errors: ", "requests to next failed", "If next were no worse, evidence this strong would turn up in fewer than 1 of 1,000 releases", "because of it")
		if e := v.Metrics[0]; e.Metric != "errors" || e.Low <= 1 || x.fails < 1 && (e.High < e.Ratio/3 || e.Low > e.Ratio) {
			t.Errorf("band: %+v", e)
		}
		if v.Evidence < v.Needed || v.Needed < 1111 || v.Needed > 1112 || v.History {
			t.Errorf("%+v", v)
		}
	}
}

func TestAGoodReleaseIsPromoted(t *testing.T) {
	j, d := New(defaults()), newDice(11)
	v, took := play(j, 0, 1800, func(int64) Stratum { return pair(5000, d.side(100, .001, base), d.side(100, .001, base)) }, Promote, RollBack, Hold)
	must(t, v, Promote, "")
	if took < ripe || v.Proof < v.ProofNeeded || v.ProofNeeded != 20 {
		t.Errorf("after %d s: %+v", took, v)
	}
	says(t, v, "proved: errors of next are below 1.25 times stable's or within 0.1 percentage points", "latency is within +20 %", "fewer than 1 of 20")
}

// Harm that has begun, and is not proved, stops what was proved before.
func TestAProofIsNotTrustedWhileEvidenceOfHarmGrows(t *testing.T) {
	j := New(noLatency())
	v, _ := play(j, 0, 120, func(int64) Stratum { return pair(5000, requests(500, 0), requests(500, 0)) })
	must(t, v, Promote, "errors")
	for n := int64(120); v.Decision == Promote; n++ {
		j.Tick(second(n, pair(5000, requests(500, 3), requests(500, 0))))
		v = j.Verdict()
	}
	must(t, v, Watch, "errors")
	says(t, v, "was proved no worse, but evidence of harm has grown to ", " of the 1,111 that take it back: errors: ")
	v, _ = play(j, 200, 230, func(int64) Stratum { return pair(5000, requests(500, 3), requests(500, 0)) }, RollBack)
	must(t, v, RollBack, "errors")
}

// Errors that take half a minute to be errors must not be proved away before.
func TestNothingIsProvedWhileRequestsHang(t *testing.T) {
	j, d := New(noLatency()), newDice(12)
	v, _ := play(j, 0, 29, func(int64) Stratum {
		return pair(5000, Side{Requests: 1, Drawn: d.poisson(5000)}, d.side(5000, 0, 0))
	}, Promote)
	must(t, v, Watch, "errors")
	// The same where stable's errors come at once, and next's, as many, when the time-out is over.
	slow := New(noLatency())
	slow.config.Limit = 0
	v, _ = play(slow, 0, 29, func(int64) Stratum { return pair(500, Side{Requests: 1, Drawn: d.poisson(50)}, d.side(950, .05, 0)) }, Promote)
	must(t, v, Watch, "errors")
	v, _ = play(j, 29, 90, func(int64) Stratum { return pair(5000, d.side(5000, 0, 0), d.side(5000, 0, 0)) }, Promote)
	must(t, v, Promote, "errors")
}

func TestASlowReleaseIsRolledBack(t *testing.T) {
	for _, x := range []struct {
		rate, slower float64
		weight       int
		within       int64
	}{{50, 1.5, 500, 180}, {50, 1.5, 5000, 60}, {4, 3, 1000, 900}} {
		j, d := New(defaults()), newDice(13)
		w := float64(x.weight) / whole
		v, took := play(j, 0, 3600, func(int64) Stratum {
			return pair(x.weight, d.side(w*x.rate, .001, time.Duration(x.slower*float64(base))), d.side((1-w)*x.rate, .001, base))
		}, RollBack)
		must(t, v, RollBack, "latency")
		if took > x.within {
			t.Errorf("%v: %d s", x, took)
		}
		says(t, v, "latency: p", " of next ", " ms, stable ", "1 of 1,000")
	}
}

// A tail that only a few requests have.
func TestASlowTailIsRolledBack(t *testing.T) {
	j, d := New(defaults()), newDice(14)
	v, _ := play(j, 0, 3600, func(int64) Stratum {
		next := d.side(25, 0, base)
		next.Latency.Merge(d.latencies(d.poisson(1), 3*time.Second))
		return pair(500, next, d.side(475, 0, base))
	}, RollBack)
	must(t, v, RollBack, "latency")
	says(t, v, "latency: p9", " ms, stable ")
}

func TestAMachineThatIsALittleSlowerIsNotBlamed(t *testing.T) {
	for seed := range uint64(10) {
		j, d := New(defaults()), newDice(20+seed)
		v, _ := play(j, 0, 600, func(int64) Stratum {
			return pair(500, d.side(25, 0, base*11/10), d.side(475, 0, base))
		}, RollBack)
		if v.Decision == RollBack {
			t.Fatalf("+10 %%: %s", v.Sentence)
		}
	}
	c := defaults()
	c.Margin, c.Grain = 1, 0
	j, d := New(c), newDice(20)
	v, _ := play(j, 0, 600, func(int64) Stratum {
		return pair(500, d.side(25, 0, base*11/10), d.side(475, 0, base))
	}, RollBack)
	must(t, v, RollBack, "latency") // so the margin is what kept it
}

// Three times as slow is no harm where it is a millisecond.
func TestGrainIsNoHarm(t *testing.T) {
	j, d := New(defaults()), newDice(15)
	slow := 300 * time.Microsecond
	v, _ := play(j, 0, 300, func(int64) Stratum { return pair(5000, d.side(100, 0, slow), d.side(100, 0, slow/3)) }, RollBack)
	if v.Decision == RollBack || v.Evidence >= v.Needed {
		t.Fatalf("evidence %v: %s", v.Evidence, v.Sentence)
	}
	c := defaults()
	c.Grain = 0
	v, _ = play(New(c), 0, 300, func(int64) Stratum { return pair(5000, d.side(100, 0, slow), d.side(100, 0, slow/3)) }, RollBack)
	must(t, v, RollBack, "latency")
}

func TestColdInstancesAreNotTimed(t *testing.T) {
	j, d := New(defaults()), newDice(16)
	v, _ := play(j, 0, 120, func(int64) Stratum {
		s := pair(5000, d.side(100, 0, 9*base), d.side(100, 0, base))
		s.Cold = true
		return s
	}, RollBack)
	must(t, v, Watch, "latency")
}

func TestHarmBelowTheFloorIsNoHarm(t *testing.T) {
	c := noLatency()
	c.Floor, c.Limit = .01, 0
	j, d := New(c), newDice(17)
	v, _ := play(j, 0, 600, func(int64) Stratum { return pair(5000, d.side(500, .004, 0), d.side(500, .0005, 0)) }, RollBack)
	if v.Decision == RollBack || v.Evidence < v.Needed {
		t.Fatalf("%+v", v)
	}
	if v.Decision == Watch {
		says(t, v, "by less than what counts as harm")
	}
}

func TestHarmThatBeginsLate(t *testing.T) {
	j, d := New(defaults()), newDice(18)
	good := func(int64) Stratum { return pair(500, d.side(25, .001, 0), d.side(475, .001, 0)) }
	v, _ := play(j, 0, 1800, good, RollBack)
	if v.Decision == RollBack {
		t.Fatal(v.Sentence)
	}
	v, took := play(j, 1800, 3600, func(int64) Stratum { return pair(500, d.side(25, .02, 0), d.side(475, .001, 0)) }, RollBack)
	must(t, v, RollBack, "errors")
	if took > 90 {
		t.Errorf("%d s", took)
	}
	says(t, v, "since 14:33:") // thirty minutes after 14:03
}

func TestSlownessThatBeginsLate(t *testing.T) {
	j, d := New(defaults()), newDice(39)
	good := func(int64) Stratum { return pair(1000, d.side(5, .001, base), d.side(45, .001, base)) }
	v, _ := play(j, 0, 1200, good, RollBack)
	if v.Decision == RollBack {
		t.Fatal(v.Sentence)
	}
	v, took := play(j, 1200, 1800, func(int64) Stratum { return pair(1000, d.side(5, .001, 2*base), d.side(45, .001, base)) }, RollBack)
	must(t, v, RollBack, "latency")
	if took > 60 {
		t.Errorf("%d s", took)
	}
	says(t, v, "p95 of next ")
}

// Each proxy's strata stand for themselves: two with half of the traffic are worth as much as one with all of it.
func TestSeveralProxiesAddUp(t *testing.T) {
	one, two, d := New(noLatency()), New(noLatency()), newDice(40)
	for n := range int64(200) {
		for _, boot := range []string{"a", "b"} {
			tick := second(n, pair(500, d.side(12, .01, 0), d.side(240, .005, 0)))
			tick.Boot = boot
			two.Tick(tick)
			tick.Boot, tick.N = "a", 2*n
			if boot == "b" {
				tick.N++
			}
			one.Tick(tick)
		}
	}
	if two.clock.now != 199 {
		t.Errorf("two proxies made the clock run to %d s", two.clock.now)
	}
	if a, b := one.all.splits[0], two.all.splits[0]; a != b || a.next == 0 {
		t.Errorf("%+v and %+v", a, b)
	}
	if a, b := one.Verdict(), two.Verdict(); a.Next != b.Next || math.Abs(math.Log(a.Evidence/b.Evidence)) > .2 {
		t.Errorf("%v and %v", a.Evidence, b.Evidence)
	}
}

// One fault of both is nobody's.
func TestAnOutageOfBothIsNotBlamedButHeld(t *testing.T) {
	j, d := New(defaults()), newDice(30)
	good := func(int64) Stratum { return pair(500, d.side(25, .001, 0), d.side(475, .001, 0)) }
	v, _ := play(j, 0, 600, good, RollBack, Hold)
	must(t, v, Watch, "")
	v, took := play(j, 600, 660, func(int64) Stratum { return pair(500, d.side(25, .5, 0), d.side(475, .5, 0)) }, RollBack, Hold)
	must(t, v, Hold, metricLimit)
	if took > 5 {
		t.Errorf("held after %d s", took)
	}
	says(t, v, "limit of 1.0 %", "not proved that next is why")
	v, _ = play(j, 600+took, 720, func(int64) Stratum { return pair(500, d.side(25, .5, 0), d.side(475, .5, 0)) }, RollBack)
	must(t, v, Hold, metricLimit)
	v, took = play(j, 720, 1800, good, Watch, RollBack)
	must(t, v, Watch, "")
	if took > 180 {
		t.Errorf("let go after %d s", took)
	}
}

// An app that always fails more often than the limit is delivered like any other; only more than that holds it.
func TestTheLimitGivesWayToWhatStableAlwaysHad(t *testing.T) {
	for _, c := range []struct {
		now  float64
		want Decision
	}{{.03, Watch}, {.3, Hold}} {
		config := defaults()
		config.Before = &Before{Requests: 90_000, Errors: 2700, WorstErrors: .04}
		d := newDice(33)
		v, _ := play(New(config), 0, 600, func(int64) Stratum { return pair(500, d.side(25, c.now, 0), d.side(475, c.now, 0)) }, RollBack, Hold, Promote)
		if v.Decision != c.want && (c.want != Watch || v.Decision != Promote) {
			t.Errorf("at %g: %s %s", c.now, v.Decision, v.Sentence)
		}
	}
}

func TestASplitThatIsNotAsDesignedHolds(t *testing.T) {
	j, d := New(defaults()), newDice(31)
	v, took := play(j, 0, 600, func(int64) Stratum { return pair(500, d.side(50, .001, 0), d.side(450, .001, 0)) }, Hold, RollBack)
	must(t, v, Hold, metricSplit)
	if took > 10 {
		t.Errorf("%d s", took)
	}
	says(t, v, "draws fell on next")
	for seed := range uint64(20) {
		j, d := New(noLatency()), newDice(100+seed)
		if v, _ := play(j, 0, 300, func(int64) Stratum { return pair(500, d.side(25, .001, 0), d.side(475, .001, 0)) }, Hold); v.Decision == Hold {
			t.Fatalf("held: %s", v.Sentence)
		}
	}
}

func TestNoTrafficIsNoData(t *testing.T) {
	j := New(defaults())
	must(t, j.Verdict(), NoData, "")
	v, _ := play(j, 0, 30, func(int64) Stratum { return pair(500, Side{}, requests(100, 0)) })
	if v.Decision == Promote || v.Decision == RollBack {
		t.Fatal(v.Sentence)
	}
	j = New(defaults())
	j.Tick(second(1))
	must(t, j.Verdict(), NoData, "")
	says(t, j.Verdict(), "no data", "neither passes nor blames")
}

func TestLittleTrafficSaysWhatItWouldHaveSeen(t *testing.T) {
	j, d := New(defaults()), newDice(33)
	v, _ := play(j, 0, 900, func(int64) Stratum { return pair(500, d.side(2.5, .001, 0), d.side(47.5, .001, 0)) })
	must(t, v, Watch, "")
	if v.Detectable < 3 || v.Detectable > 30 {
		t.Errorf("detectable ×%v", v.Detectable)
	}
	says(t, v, "not proven yet: ", "errors of ×", "or worse would have been seen")
	j = New(defaults())
	v, _ = play(j, 0, 900, func(int64) Stratum { return pair(500, d.side(2.5, 0, 0), d.side(47.5, 0, 0)) })
	if v.Detectable != 0 || v.DetectableRate <= 0 || v.DetectableRate > .1 {
		t.Errorf("%v, %v", v.Detectable, v.DetectableRate)
	}
	says(t, v, "an error rate of ", "or more would have been seen")
	j = New(defaults())
	v, _ = play(j, 0, 3, func(int64) Stratum { return pair(500, requests(1, 0), requests(20, 0)) })
	says(t, v, "too little traffic")
}

// What is said to be detectable is detected.
func TestDetectableHarmIsDetected(t *testing.T) {
	j, d := New(noLatency()), newDice(34)
	const seconds = 300
	v, _ := play(j, 0, seconds, func(int64) Stratum { return pair(1000, d.side(20, .005, 0), d.side(180, .005, 0)) })
	if v.Detectable == 0 {
		t.Fatal(v.Sentence)
	}
	seen := 0
	for seed := range uint64(40) {
		d := newDice(400 + seed)
		c := noLatency()
		c.Limit = 0
		if v, _ := play(New(c), 0, seconds, func(int64) Stratum {
			return pair(1000, d.side(20, v.Detectable*.005, 0), d.side(180, .005, 0))
		}, RollBack); v.Decision == RollBack {
			seen++
		}
	}
	if seen < 34 {
		t.Errorf("×%.2f was seen in %d of 40", v.Detectable, seen)
	}
}

func TestWithoutAControlHistoryIsComparedAndNothingPromised(t *testing.T) {
	c := defaults()
	c.Before = &Before{Requests: 100_000, Errors: 100, WorstErrors: .005, WorstLatency: 250 * time.Millisecond}
	alone := func(d dice, fails float64, middle time.Duration) func(int64) Stratum {
		return func(int64) Stratum { return pair(whole, d.side(100, fails, middle), Side{}) }
	}
	v, _ := play(New(c), 0, 60, alone(newDice(35), .1, base), RollBack)
	must(t, v, RollBack, "errors")
	if !v.History || v.Evidence < v.Needed {
		t.Errorf("%+v", v)
	}
	says(t, v, "errors: ", "no guarantee: compared with history", "0.50 % in its worst minute")
	if len(v.Metrics) != 2 || v.Metrics[0].Metric != "errors" || v.Metrics[0].Harm < v.Needed || v.Metrics[0].Stable.Requests != 100_000 {
		t.Errorf("%+v", v.Metrics)
	}
	v, _ = play(New(c), 0, 60, alone(newDice(36), .001, 3*base), RollBack)
	must(t, v, RollBack, "latency")
	says(t, v, "no guarantee: compared with history", "longer than 300 ms")
	v, _ = play(New(c), 0, 600, alone(newDice(37), .004, base), RollBack, Hold, Promote)
	must(t, v, Watch, "")
	if !v.History {
		t.Error("it does not say that it is history")
	}
	says(t, v, "no guarantee")

	c.Before = nil
	v, _ = play(New(c), 0, 60, alone(newDice(38), .1, base), RollBack, Hold)
	must(t, v, Hold, metricLimit)
	c.Limit = 0
	v, _ = play(New(c), 0, 60, alone(newDice(38), .1, base), RollBack, Hold)
	must(t, v, Watch, "")
	says(t, v, "nothing is watched")
}

func TestNumbersAreWrittenForPeople(t *testing.T) {
	for want, got := range map[string]string{
		"0": count(0), "999": count(999), "5,698": count(5698), "1,000,000": count(1e6), "-1,234": count(-1234), "-123": count(-123),
		"1.25": number(1.25), "20": number(20), "1,000": number(1000), "240 ms": span(.240), "1.2 s": span(1.24), "850 µs": span(.00085),
		"12 s": span(12.3), "4.2": factor(4.11), "12": factor(11.2), "1,235": factor(1234.5), "5.0 %": share(.05), "0.10 %": share(.001),
		"0.0 %": share(0), "100.0 %": share(1), "0.012 %": share(.00012), "99.5": percentile(.995), "0.1 percentage points": points(.001),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
