package judge

import (
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

// world makes strata with five endpoints and two plans, where next's requests fail or are slow as told.
func world(d dice, bad func(endpoint, plan string) (fails float64, middle time.Duration)) Stratum {
	s := Stratum{Weight: 1000}
	for i, side := range []*Side{&s.Next, &s.Stable} {
		side.Latency = &measure.Histogram{}
		parts := map[string]*Part{}
		for _, endpoint := range []string{"GET /", "GET /item/:id", "GET /search", "POST /cart", "POST /checkout"} {
			for _, plan := range []string{"plan=free", "plan=pro"} {
				fails, middle := .001, base
				if i == 0 {
					fails, middle = bad(endpoint, plan)
				}
				one := d.side([]float64{2, 18}[i], fails, middle)
				side.Requests += one.Requests
				side.Errors += one.Errors
				side.Drawn += one.Drawn
				side.Failed += one.Failed
				side.Latency.Merge(one.Latency)
				for _, name := range []string{endpoint, plan} {
					p := parts[name]
					if p == nil {
						p = &Part{Name: name, Segment: name == plan, Latency: &measure.Histogram{}}
						parts[name] = p
					}
					p.Requests += one.Requests
					p.Errors += one.Errors
					p.Failed += one.Failed
					p.Latency.Merge(one.Latency)
				}
			}
		}
		for _, p := range parts {
			side.Parts = append(side.Parts, *p)
		}
	}
	return s
}

func TestTheGuiltyPartIsNamed(t *testing.T) {
	for metric, bad := range map[string]func(endpoint, plan string) (float64, time.Duration){
		"errors of POST /checkout": func(e, _ string) (float64, time.Duration) {
			return map[bool]float64{true: .3, false: .001}[e == "POST /checkout"], base
		},
		"errors of plan=pro": func(_, p string) (float64, time.Duration) {
			return map[bool]float64{true: .2, false: .001}[p == "plan=pro"], base
		},
		"latency of GET /search": func(e, _ string) (float64, time.Duration) {
			return .001, map[bool]time.Duration{true: 8 * base, false: base}[e == "GET /search"]
		},
		"errors":  func(_, _ string) (float64, time.Duration) { return .2, base },
		"latency": func(_, _ string) (float64, time.Duration) { return .001, 2 * base },
	} {
		j, d := New(defaults()), newDice(19)
		v, took := play(j, 0, 600, func(int64) Stratum { return world(d, bad) }, RollBack)
		must(t, v, RollBack, metric)
		says(t, v, metric+": ")
		t.Logf("%s after %d s", metric, took)
	}
}

func TestTheFirstTwentyOfEachKindAreWatched(t *testing.T) {
	j := New(defaults())
	if whole := j.find().whole; whole > 1e-12 || whole < -1e-12 {
		t.Errorf("the stake is exp(%v), and should be 1", whole)
	}
	fill(j, 30)
	if j.places(false) != maxParts || j.places(true) != maxParts || len(j.byName) != 2*maxParts {
		t.Fatalf("%d endpoints, %d values, %d names", j.places(false), j.places(true), len(j.byName))
	}
	if len(j.Verdict().Metrics) == 0 {
		t.Error("no metrics")
	}
	stakes := 0.0
	for _, r := range j.rows() {
		stakes += r.stake
	}
	if stakes > 1+1e-12 || stakes < 1-1e-9 {
		t.Errorf("the stakes add up to %v", stakes)
	}
}
