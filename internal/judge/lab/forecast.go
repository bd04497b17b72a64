package lab

import (
	"math"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
)

// DefaultRuns is how many rollouts of each effect a forecast plays. Those that see nothing for long are fewer.
const DefaultRuns = 200

// Traffic is what comes to an app.
type Traffic struct {
	Rate   float64 `json:"rate"`   // requests a second
	Errors float64 `json:"errors"` // the share of them that fails without any release's fault
	// Latency is how long they take; without it P50 and P95 are used, and without those latency is left out.
	Latency *measure.Histogram `json:"latency,omitempty"`
	P50     time.Duration      `json:"p50,omitempty"`
	P95     time.Duration      `json:"p95,omitempty"`
	// PerVisitor is how many requests one visitor makes, where visitors are drawn; up to 1 each request is.
	PerVisitor float64 `json:"per_visitor,omitempty"`
	// Seconds is recorded traffic. It is resampled by the minute, and all the above but PerVisitor is taken from it.
	Seconds []Second `json:"-"`
}

// Second is one second of recorded traffic.
type Second struct {
	Requests, Errors int64
	Latency          *measure.Histogram
}

// Step is one weight of a plan, in hundredths of a percent, and how long it is held. A holdback is the last step.
type Step struct {
	Weight int           `json:"weight"`
	Hold   time.Duration `json:"hold"`
}

// Answer is what becomes of releases with one effect.
type Answer struct {
	Effect Effect `json:"effect"`
	Runs   int    `json:"runs"`
	// Found is the share of them that is rolled back within the plan: for a good release the false alarms. Steps is the same
	// by the end of each step.
	Found float64   `json:"found"`
	Steps []float64 `json:"steps"`
	// Seconds is how long it takes, Failed how many requests fail on next until then.
	Seconds Spread `json:"seconds"`
	Failed  Spread `json:"failed"`
	// Proved is after how many seconds the release is proved no worse.
	Proved Spread `json:"proved"`
	// Metric is what is blamed most often.
	Metric string `json:"metric,omitempty"`
}

// Spread is the median over all runs and what nine of ten stay below. 0: not known, too few of them got there.
type Spread struct {
	Median float64 `json:"median,omitempty"`
	P90    float64 `json:"p90,omitempty"`
}

// Usual are the effects to ask about when nobody names one. The first is the good release.
func Usual() []Effect {
	return []Effect{
		{Name: "a good release"},
		{Name: "errors ×2", Errors: 2},
		{Name: "errors ×5", Errors: 5},
		{Name: "errors ×20", Errors: 20},
		{Name: "all fail", Fail: 1},
		{Name: "latency +50 %", Latency: 1.5},
		{Name: "1 % ten times slower", Tail: 0.01},
	}
}

// Forecast plays rollouts of releases with each of the effects and says what becomes of them, one answer for each effect.
func Forecast(c judge.Config, t Traffic, plan []Step, effects []Effect, runs int, seed uint64) []Answer {
	answers := make([]Answer, 0, len(effects))
	for i, e := range effects {
		answers = append(answers, forecast(c, t, plan, e, max(1, runs), seed+uint64(i)<<32))
	}
	return answers
}

// patience is how many ticks the runs of one effect may take together, once there were a few of them.
const (
	patience = 15_000
	fewest   = 20
)

func forecast(c judge.Config, t Traffic, plan []Step, e Effect, runs int, seed uint64) Answer {
	a := Answer{Effect: e, Steps: make([]float64, len(plan))}
	w := t.world(plan, e)
	var seconds, failed, proved []float64
	blamed := map[string]int{}
	for ticks := 0; a.Runs < runs && (a.Runs < fewest || ticks < patience); a.Runs++ {
		o := play(c, w, plan, e, seed+uint64(a.Runs))
		ticks += o.ticks
		seconds, failed, proved = append(seconds, o.found), append(failed, o.failed), append(proved, o.proved)
		if !math.IsInf(o.found, 1) {
			blamed[o.metric]++
		}
		end := 0.0
		for i, s := range plan {
			if end += s.Hold.Seconds(); o.found <= end {
				a.Steps[i]++
			}
		}
	}
	for i := range a.Steps {
		a.Steps[i] /= float64(a.Runs)
	}
	if len(plan) > 0 {
		a.Found = a.Steps[len(plan)-1]
	}
	a.Seconds, a.Failed, a.Proved = spread(seconds), spread(failed), spread(proved)
	for metric, n := range blamed {
		if n > blamed[a.Metric] || n == blamed[a.Metric] && metric < a.Metric {
			a.Metric = metric
		}
	}
	return a
}

// spread reads the quantiles of a list in which +Inf means that it never came to that.
func spread(list []float64) Spread {
	slices.Sort(list)
	at := func(q float64) float64 {
		v := list[min(len(list)-1, int(math.Ceil(q*float64(len(list))))-1)]
		if math.IsInf(v, 1) {
			return 0
		}
		return v
	}
	return Spread{at(0.5), at(0.9)}
}

// outcome is what became of one rollout. What never came is +Inf.
type outcome struct {
	found, failed, proved float64
	metric                string
	ticks                 int
}

// play plays one rollout to its end, or until it is rolled back.
func play(c judge.Config, w World, plan []Step, e Effect, stream uint64) outcome {
	o := outcome{found: math.Inf(1), failed: math.Inf(1), proved: math.Inf(1)}
	marks := marksOf(plan, e)
	end := marks[len(marks)-1]
	j, r := judge.New(c), w.Begin(e, stream, 1)
	r.pace = func(second int) int { return paceAt(marks, second) }
	for r.second < end {
		j.Tick(r.Next())
		o.ticks++
		said, metric := j.Decision()
		if said == judge.Promote && math.IsInf(o.proved, 1) {
			o.proved = float64(r.second)
		}
		if said == judge.RollBack {
			o.found, o.failed, o.metric = float64(r.second), float64(r.Served().Errors), metric
			return o
		}
	}
	return o
}

// marksOf are the seconds at which something changes: steps end, the effect begins. The last is the end.
func marksOf(plan []Step, e Effect) []int {
	total, marks := time.Duration(0), []int{int(e.After.Seconds())}
	for _, s := range plan {
		total += s.Hold
		marks = append(marks, int(total.Seconds()))
	}
	slices.Sort(marks)
	return slices.DeleteFunc(marks, func(m int) bool { return m > int(total.Seconds()) })
}

// A forecast is played the more coarsely the later it is: right to 2 %, and to a second in the first minutes.
const (
	coarse   = 50
	coarsest = 60
)

// paceAt is how many seconds the tick after a second takes. It ends with a mark at the latest.
func paceAt(marks []int, second int) int {
	since, next := 0, second+1
	for _, m := range marks {
		if m <= second {
			since = m
		} else {
			next = m
			break
		}
	}
	return min(max(1, (second-since)/coarse), coarsest, next-second)
}

// world is the traffic under a plan. Latency is left out where it cannot matter: it is what takes the time.
func (t Traffic) world(plan []Step, e Effect) World {
	w := World{Rate: t.Rate, Errors: t.Errors}
	if e.good() || e.slow() {
		w.Latency = t.palette()
	}
	if t.PerVisitor > 1 {
		w.Visitors = visitors(t.PerVisitor)
	}
	w.Weather = func(d dice) func(int) Weather {
		recorded := t.resample(d)
		return func(second int) Weather {
			now := Weather{1, t.Errors, 1, weightAt(plan, second)}
			if recorded != nil {
				now.Load, now.Errors = recorded()
			}
			return now
		}
	}
	if len(t.Seconds) > 0 {
		w.Rate = 1
	}
	return w
}

// weightAt is the weight of a second, counted from 0.
func weightAt(plan []Step, second int) int {
	at := time.Duration(second) * time.Second
	for _, s := range plan {
		if at < s.Hold {
			return s.Weight
		}
		at -= s.Hold
	}
	return 0
}

func (t Traffic) palette() *Palette {
	if len(t.Seconds) > 0 {
		all := &measure.Histogram{}
		for _, s := range t.Seconds {
			all.Merge(s.Latency)
		}
		return Recorded(all)
	}
	if t.Latency.Count() > 0 {
		return Recorded(t.Latency)
	}
	if t.P50 > 0 && t.P95 > t.P50 {
		return LogNormal(t.P50, t.P95)
	}
	return nil
}

// resample picks minutes of what was recorded blindly; nil when nothing was.
func (t Traffic) resample(d dice) func() (load, errors float64) {
	const minute = 60
	if len(t.Seconds) == 0 {
		return nil
	}
	at, left := 0, 0
	return func() (float64, float64) {
		if left == 0 {
			at, left = d.IntN(len(t.Seconds)), minute
		}
		s := t.Seconds[at%len(t.Seconds)]
		at, left = at+1, left-1
		if s.Requests == 0 {
			return 0, 0
		}
		return float64(s.Requests), float64(s.Errors) / float64(s.Requests)
	}
}

// weights are those that WeightFor tries, in hundredths of a percent.
var weights = []int{100, 200, 300, 500, 700, 1000, 1500, 2000, 2500, 3000, 4000, 5000}

// WeightFor is the least weight, in hundredths of a percent, at which nine of ten rollouts find the effect within that
// time; 0 when it takes more than half of the traffic.
func WeightFor(c judge.Config, t Traffic, e Effect, within time.Duration, runs int, seed uint64) int {
	at, _ := slices.BinarySearchFunc(weights, true, func(weight int, _ bool) int {
		plan := []Step{{weight, within}}
		if forecast(c, t, plan, e, runs, seed).Found >= 0.9 {
			return 1
		}
		return -1
	})
	if at == len(weights) {
		return 0
	}
	return weights[at]
}
