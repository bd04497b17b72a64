package lab

import (
	"math"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
)

// plan is an ordinary one: three steps and an hour with a holdback.
var plan = []Step{{500, 10 * time.Minute}, {2500, 10 * time.Minute}, {5000, 10 * time.Minute}, {9500, time.Hour}}

func TestForecastOfAnOrdinaryApp(t *testing.T) {
	unraced(t)
	began := time.Now()
	answers := Forecast(defaults(), Traffic{Rate: 500, Errors: 0.001, P50: 20 * time.Millisecond, P95: 46 * time.Millisecond}, plan, Usual(), DefaultRuns, 1)
	t.Logf("took %s", time.Since(began))
	good, times5, all := answers[0], answers[2], answers[4]
	if good.Found > 0 || good.Proved.Median == 0 {
		t.Errorf("a good release: %+v", good)
	}
	if times5.Failed.Median > 18 || times5.Found < 1 || times5.Metric != "errors" || times5.Steps[0] < 0.99 {
		t.Errorf("errors ×5: %+v", times5)
	}
	if all.Seconds.P90 > 2 || all.Failed.Median > 30 {
		t.Errorf("all fail: %+v", all)
	}
	if slow := answers[5]; slow.Metric != "latency" || slow.Seconds.Median > 30 {
		t.Errorf("latency: %+v", slow)
	}
}

// Playing coarsely changes the answers by a few percent at most.
func TestCoarseTicksSayTheSame(t *testing.T) {
	unraced(t)
	traffic, e, step := Traffic{Rate: 200, Errors: 0.001}, Effect{Errors: 5}, []Step{{500, time.Hour}}
	fine := finish{}
	for n := range 300 {
		j := judged{judge.New(defaults())}
		r := traffic.world(step, e).Begin(e, 9, uint64(n))
		for second := 1; ; second++ {
			if j.takesBack(r.Next()) {
				fine.seconds = append(fine.seconds, float64(second))
				break
			}
		}
	}
	want, got := medianOf(fine.seconds), Forecast(defaults(), traffic, step, []Effect{e}, 300, 10)[0]
	if math.Abs(got.Seconds.Median/want.mid-1) > 0.15 {
		t.Errorf("%g s, second by second %s", got.Seconds.Median, want)
	}
}

func TestRecordedTrafficIsResampled(t *testing.T) {
	latency := &measure.Histogram{}
	latency.AddN(20*time.Millisecond, 30)
	latency.AddN(40*time.Millisecond, 10)
	var seconds []Second
	for i := range 600 {
		seconds = append(seconds, Second{Requests: int64(100 + i%50), Errors: int64(i % 2), Latency: latency})
	}
	traffic := Traffic{Seconds: seconds}
	r := traffic.world(plan, Effect{}).Begin(Effect{}, 1, 1)
	var requests, errors int64
	for range 600 {
		s := r.Next().Strata[0]
		requests, errors = requests+s.Next.Requests+s.Stable.Requests, errors+s.Next.Errors+s.Stable.Errors
		if p50 := s.Stable.Latency.Quantile(0.5); p50 < 19*time.Millisecond || p50 > 41*time.Millisecond {
			t.Fatalf("p50 %s", p50)
		}
	}
	if rate, errorRate := float64(requests)/600, float64(errors)/float64(requests); math.Abs(rate-124.5) > 6 || math.Abs(errorRate-0.004) > 0.0015 {
		t.Errorf("%g requests a second, error rate %g", rate, errorRate)
	}
	if a := Forecast(defaults(), traffic, plan, []Effect{{Fail: 0.5}}, 20, 1)[0]; a.Found < 1 || a.Seconds.P90 > 10 {
		t.Errorf("half of it fails: %+v", a)
	}
}

func TestWeightFor(t *testing.T) {
	traffic := Traffic{Rate: 100, Errors: 0.001}
	short := WeightFor(defaults(), traffic, Effect{Errors: 5}, 2*time.Minute, 60, 1)
	long := WeightFor(defaults(), traffic, Effect{Errors: 5}, 20*time.Minute, 60, 1)
	if long == 0 || short != 0 && short <= long || long > 1000 {
		t.Errorf("in two minutes it takes %d, in twenty %d", short, long)
	}
	if w := WeightFor(defaults(), Traffic{Rate: 1, Errors: 0.001}, Effect{Errors: 2}, time.Minute, 20, 1); w != 0 {
		t.Errorf("a doubling of nothing is seen at %d", w)
	}
}

// What hits one endpoint, one segment or only late visitors is found as well.
func TestForecastOfParts(t *testing.T) {
	traffic := Traffic{Rate: 200, Errors: 0.0005, PerVisitor: 3}
	for _, e := range []Effect{{Fail: 0.3, Share: 0.05}, {Fail: 0.3, Share: 0.05, Segment: true}} {
		traffic.PerVisitor = 1
		a := Forecast(defaults(), traffic, plan[:1], []Effect{e}, 20, 1)[0]
		if a.Found < 1 || a.Metric == "" || a.Failed.Median > 12 {
			t.Errorf("%+v: %+v", e, a)
		}
	}
	traffic.PerVisitor = 5
	e := Effect{Fail: 0.2, After: 5 * time.Minute}
	if a := Forecast(defaults(), traffic, plan[:1], []Effect{e}, 20, 1)[0]; a.Found < 1 || a.Seconds.Median < 300 || a.Seconds.Median > 330 {
		t.Errorf("late: %+v", a)
	}
}
