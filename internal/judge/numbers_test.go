package judge

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

func TestLogarithmsAddUp(t *testing.T) {
	for _, x := range []struct{ a, b, want float64 }{
		{0, 0, math.Ln2}, {far, 0, 0}, {0, far, 0}, {far, far, far}, {1000, 1000, 1000 + math.Ln2}, {-1e9, -1e9, -1e9 + math.Ln2},
		{700, -700, 700}, {math.Log(3), math.Log(4), math.Log(7)},
	} {
		if got := addLog(x.a, x.b); math.Abs(got-x.want) > 1e-9 {
			t.Errorf("addLog(%v, %v) = %v, want %v", x.a, x.b, got, x.want)
		}
		if got := sumLog([]float64{x.a, x.b}); math.Abs(got-x.want) > 1e-9 {
			t.Errorf("sumLog(%v, %v) = %v, want %v", x.a, x.b, got, x.want)
		}
	}
	if got := sumLog([]float64{0, math.NaN(), 1}); !math.IsNaN(got) {
		t.Errorf("a NaN is lost: %v", got)
	}
	if grown(1e18) > 1.0000001e300 || grown(-1e18) != 0 {
		t.Error("not clamped")
	}
}

func TestBeginningsAreADistribution(t *testing.T) {
	for _, planned := range []int{-1, 0, 1, 2, 15, 60, 10_000} {
		before := 0.0
		for minute := range int64(20_000) {
			share := begun(minute, planned)
			if share < before || share > 1 || minute == 0 && share != 0.5 {
				t.Fatalf("planned %d, minute %d: %v after %v", planned, minute, share, before)
			}
			before = share
		}
		if before < 0.99 && planned < 10_000 {
			t.Errorf("planned %d: only %v of harm ever begins", planned, before)
		}
		if begun(math.MaxInt64/60, planned) > 1 {
			t.Error("more than all")
		}
	}
}

// After ten million requests without anything being wrong, evidence that only fell must still rise at once.
func TestAFailureAfterTenMillionCleanRequestsIsSeenInOneTick(t *testing.T) {
	j, d := New(noLatency()), newDice(1)
	n := int64(0)
	for total := int64(0); total < 10_000_000; n++ {
		next, stable := d.side(150, 0, 0), d.side(2850, 0, 0)
		next.Errors, stable.Errors = d.poisson(.15), d.poisson(2.85)
		next.Failed, stable.Failed = next.Errors, stable.Errors
		total += next.Requests + stable.Requests
		j.Tick(second(n, pair(500, next, stable)))
	}
	must(t, j.Verdict(), Promote, "")
	j.Tick(second(n, pair(500, requests(150, 150), requests(2850, 3))))
	v := j.Verdict()
	must(t, v, RollBack, "errors")
	if !strings.Contains(v.Sentence, " since ") {
		t.Errorf("it does not say since when: %s", v.Sentence)
	}
}

func TestTheSameInOneHugeTick(t *testing.T) {
	j := New(noLatency())
	j.Tick(second(1, pair(500, requests(500_000, 0), requests(9_500_000, 0))))
	j.Tick(second(2, pair(500, requests(25, 25), requests(475, 0))))
	must(t, j.Verdict(), RollBack, "errors")
}

func TestAwkwardCounts(t *testing.T) {
	slow := &measure.Histogram{}
	slow.AddN(time.Hour, 1e15)
	quick := &measure.Histogram{}
	quick.AddN(time.Microsecond, 1e15)
	sides := []Side{
		{}, requests(0, 1), requests(1, 0), requests(1, 1), requests(1e15, 0), requests(1e15, 1e15), {Failed: 1e15},
		{Drawn: 1e15, Latency: slow}, {Requests: 1, Drawn: 1, Latency: quick}, {Latency: slow}, {Errors: 5},
	}
	for _, weight := range []int{0, 1, 500, 5000, 9999, 10000} {
		for _, next := range sides {
			for _, stable := range sides {
				j := New(defaults())
				for n := range int64(3) {
					s := pair(weight, next, stable)
					s.Placebo = stable
					j.Tick(second(n, s))
					v := j.Verdict()
					_ = text(t, v) // NaN and Inf have no JSON
					if v.Metric == metricNumbers || v.Sentence == "" || v.Evidence > 1.001e300 {
						t.Fatalf("weight %d, next %+v, stable %+v: %+v", weight, next, stable, v)
					}
					if weight == 0 && v.Decision != NoData {
						t.Fatalf("weight 0: %+v", v)
					}
				}
			}
		}
	}
}

func TestWhatIsNoCountHolds(t *testing.T) {
	for what, s := range map[string]Stratum{
		"next":    pair(500, requests(-1, 0), requests(5, 0)),
		"stable":  pair(500, requests(1, 0), requests(5, -3)),
		"weight":  pair(10_001, requests(1, 0), requests(5, 0)),
		"weight-": pair(-1, requests(1, 0), requests(5, 0)),
		"huge":    pair(500, requests(math.MaxInt64, 0), requests(5, 0)),
		"part":    pair(500, Side{Parts: []Part{{Name: "GET /", Errors: -4}}}, requests(5, 0)),
		"placebo": {Weight: 500, Placebo: requests(-1, 0)},
	} {
		j := New(defaults())
		j.Tick(second(1, s, pair(500, requests(10, 10), requests(200, 0))))
		v := j.Verdict()
		must(t, v, Hold, metricNumbers)
		if !strings.Contains(v.Sentence, "cannot be trusted") {
			t.Errorf("%s: %s", what, v.Sentence)
		}
		_ = text(t, v)
	}
}

func TestEvidenceThatIsNoNumberHolds(t *testing.T) {
	for _, x := range []float64{math.NaN(), math.Inf(1)} {
		for _, spoil := range []func(j *Judge){
			func(j *Judge) { j.all.harm.logs[3] = x },
			func(j *Judge) { j.all.latency.harm.logs[3] = x },
			func(j *Judge) { j.swift[0] = x },
			func(j *Judge) { j.safety.ratio[0] = x },
			func(j *Judge) { j.placebo.worse.logs[0] = x },
			func(j *Judge) { j.split.logs[0] = x },
			func(j *Judge) { j.past.errors.logs[0] = x },
		} {
			j, d := New(defaults()), newDice(2)
			for n := range int64(5) {
				j.Tick(second(n, pair(500, d.side(25, 0, 50*time.Millisecond), d.side(475, 0, 50*time.Millisecond)),
					pair(whole, requests(1, 0), Side{})))
			}
			spoil(j)
			v := j.Verdict()
			must(t, v, Hold, metricNumbers)
			_ = text(t, v)
		}
	}
}

func TestAConfigurationThatIsNoneHolds(t *testing.T) {
	for _, change := range []func(c *Config){
		func(c *Config) { c.Alpha = 0 }, func(c *Config) { c.Alpha = math.NaN() }, func(c *Config) { c.Beta = 1 },
		func(c *Config) { c.Ratio = .5 }, func(c *Config) { c.Ratio = math.Inf(1) }, func(c *Config) { c.Floor = -1 },
		func(c *Config) { c.Margin = .9 }, func(c *Config) { c.Grain = -1 }, func(c *Config) { c.Limit = math.NaN() },
		func(c *Config) { c.Before = &Before{WorstErrors: math.NaN()} },
	} {
		c := defaults()
		change(&c)
		j := New(c)
		j.Tick(second(1, pair(500, requests(50, 50), requests(500, 0))))
		v := j.Verdict()
		must(t, v, Hold, metricNumbers)
		_ = text(t, v)
		if c.Hash() == "" {
			t.Error("no hash")
		}
	}
}

func TestOneSidedTrafficNeitherFiresNorPasses(t *testing.T) {
	for what, sides := range map[string]func(d dice) (next, stable Side){
		"only next": func(d dice) (Side, Side) {
			return d.side(50, .5, 500*time.Millisecond), Side{}
		},
		"only stable": func(d dice) (Side, Side) { return Side{}, d.side(500, 0, 50*time.Millisecond) },
		"nobody":      func(dice) (Side, Side) { return Side{}, Side{} },
		"only visitors of next that were drawn before": func(dice) (Side, Side) {
			return Side{Requests: 50, Errors: 50, Failed: 50}, Side{}
		},
		"draws of stable that never came": func(dice) (Side, Side) {
			return Side{Requests: 50, Errors: 50, Drawn: 50, Failed: 50}, Side{Drawn: 50}
		},
	} {
		for _, weight := range []int{1, 500, 5000, 9999} {
			c := defaults()
			c.Limit = 0
			j, d := New(c), newDice(3)
			for n := range int64(300) {
				next, stable := sides(d)
				j.Tick(second(n, pair(weight, next, stable)))
				if v := j.Verdict(); v.Decision == RollBack || v.Decision == Promote {
					t.Fatalf("%s at %d: %s: %s", what, weight, v.Decision, v.Sentence)
				}
			}
		}
	}
}

func TestTicksCountOnce(t *testing.T) {
	bad := pair(500, requests(3, 1), requests(60, 0))
	once, twice := New(defaults()), New(defaults())
	for n := range int64(3) {
		if !once.Tick(second(n+5, bad)) {
			t.Fatal("a fresh tick was refused")
		}
		twice.Tick(second(n+5, bad))
		for _, late := range []int64{n + 5, n + 4, 0, -1} {
			if twice.Tick(second(late, bad)) {
				t.Fatalf("tick %d came again after %d", late, n+5)
			}
		}
	}
	if a, b := text(t, once.Verdict()), text(t, twice.Verdict()); a != b {
		t.Errorf("ticks that came again changed\n%s\nto\n%s", a, b)
	}
	other := second(5, bad)
	other.Boot = "b"
	if !twice.Tick(other) {
		t.Error("the first tick of another proxy was refused")
	}
}

// A proxy that starts again goes on in the minute where it was.
func TestTheClockGoesOnInTheNextLife(t *testing.T) {
	var c clock
	for n := range int64(120) {
		c.tick("a", n+1000)
	}
	if c.minute() != 1 {
		t.Fatalf("minute %d after two minutes", c.minute())
	}
	c.tick("b", 1)
	c.tick("b", 70)
	if c.minute() != 3 {
		t.Errorf("minute %d after 70 more seconds", c.minute())
	}
	c.tick("a", 1130) // another proxy, behind
	if c.minute() != 3 {
		t.Errorf("minute %d", c.minute())
	}
	for i := range maxLives + 10 {
		c.tick(strings.Repeat("x", i+1), 1)
	}
	if len(c.lives) != maxLives {
		t.Errorf("%d lives are remembered", len(c.lives))
	}
}

func TestTheOrderOfStrataAndPartsDoesNotMatter(t *testing.T) {
	a, b, d := New(defaults()), New(defaults()), newDice(5)
	for n := range int64(200) {
		var strata []Stratum
		for i, role := range []string{"api", "web", "web"} {
			s := pair(500+500*i, d.side(20, .05, 30*time.Millisecond), d.side(200, .01, 30*time.Millisecond))
			s.Role = role
			for _, side := range []*Side{&s.Next, &s.Stable} {
				for _, name := range []string{"GET /b", "GET /a", "GET /c"} {
					side.Parts = append(side.Parts, Part{Name: name, Requests: 5, Errors: d.poisson(.1), Failed: d.poisson(.1), Latency: d.latencies(5, 20*time.Millisecond)},
						Part{Name: name, Segment: true, Requests: 3})
				}
			}
			strata = append(strata, s)
		}
		a.Tick(second(n, strata...))
		slices.Reverse(strata)
		for _, s := range strata {
			slices.Reverse(s.Next.Parts)
			slices.Reverse(s.Stable.Parts)
		}
		b.Tick(second(n, strata...))
	}
	if x, y := text(t, a.Verdict()), text(t, b.Verdict()); x != y {
		t.Errorf("\n%s\nis not\n%s", x, y)
	}
}

func TestHashNamesAConfiguration(t *testing.T) {
	c, other := defaults(), defaults()
	if c.Hash() != other.Hash() || len(c.Hash()) != 32 {
		t.Fatal(c.Hash(), other.Hash())
	}
	c.Before, other.Before = &Before{Requests: 5}, &Before{Requests: 5}
	if c.Hash() != other.Hash() {
		t.Error("the hash depends on where the past lies in memory")
	}
	other.Before.Requests = 6
	if c.Hash() == other.Hash() {
		t.Error("the past is not in the hash")
	}
	checkpoint, err := New(c).Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(other, checkpoint); !errors.Is(err, ErrOtherConfig) {
		t.Errorf("another configuration's checkpoint: %v", err)
	}
}
