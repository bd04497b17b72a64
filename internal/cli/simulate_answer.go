package cli

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/judge/lab"
)

// simulationJSON is what --json prints of a forecast: durations in seconds, shares as fractions, absent is not known.
type simulationJSON struct {
	App      string       `json:"app,omitempty"`
	Settings string       `json:"settings"`
	Held     judge.Config `json:"held"`
	Traffic  trafficJSON  `json:"traffic"`
	Plan     []stepJSON   `json:"plan"`
	Note     string       `json:"note,omitempty"`
	// Answers begin with the release that is no worse.
	Answers []answerJSON `json:"answers"`
	Wish    wishJSON     `json:"wish"`
	Runs    int          `json:"runs"`
	Seed    uint64       `json:"seed"`
	Took    float64      `json:"took"`
}

type trafficJSON struct {
	Rate       float64 `json:"rate"`
	Errors     float64 `json:"errors"`
	P50        float64 `json:"p50,omitempty"`
	P95        float64 `json:"p95,omitempty"`
	PerVisitor float64 `json:"per_visitor"`
	Source     string  `json:"source"`
}

type stepJSON struct {
	Weight   float64 `json:"weight"`
	Hold     float64 `json:"hold"`
	Requests int64   `json:"requests"` // of next
	// Detectable is the smallest factor on the error rate that the step alone shows with 95 %, as its verdict would say.
	Detectable     float64 `json:"detectable,omitempty"`
	DetectableRate float64 `json:"detectable_rate,omitempty"`
}

type answerJSON struct {
	Release string    `json:"release"`
	Runs    int       `json:"runs"`
	Found   float64   `json:"found"`
	Steps   []float64 `json:"steps"` // found by the end of each
	// Seconds until it is taken back, and requests that fail on next until then; of a release that is no worse, Proved.
	Seconds lab.Spread `json:"seconds"`
	Failed  lab.Spread `json:"failed"`
	Proved  lab.Spread `json:"proved"`
	Metric  string     `json:"metric,omitempty"`
	// Tolerated says why it is no harm at all; nothing was simulated then.
	Tolerated string `json:"tolerated,omitempty"`
}

type wishJSON struct {
	See    string  `json:"see"`
	Within float64 `json:"within"`
	Weight float64 `json:"weight"` // of the first step
	Found  float64 `json:"found"`  // at that weight within that time
	// NeededWeight is the least at which nine of ten are found within that time; absent when half of the traffic is not enough.
	NeededWeight float64 `json:"needed_weight,omitempty"`
	// NeededTime is how long it takes at that weight to find nine of ten; absent when a day is not enough.
	NeededTime float64 `json:"needed_time,omitempty"`
	// Floor is the guard.error_floor that the four above were reckoned with, where the file's hides it.
	Floor    float64 `json:"floor,omitempty"`
	Sentence string  `json:"sentence"`
}

// answer runs the forecast. ctrl-c ends it at once.
func (q simulation) answer(ctx context.Context, now func() time.Time) (simulationJSON, error) {
	done := make(chan simulationJSON, 1)
	go func() { done <- q.forecast(now) }()
	select {
	case out := <-done:
		return out, nil
	case <-ctx.Done():
		return simulationJSON{}, context.Cause(ctx)
	}
}

func (q simulation) forecast(now func() time.Time) simulationJSON {
	began, base := now(), q.base()
	effects := []lab.Effect{none.effect(base)}
	for _, h := range q.harms {
		if q.tolerated(h) == "" {
			effects = append(effects, h.effect(base))
		}
	}
	out := simulationJSON{App: q.app, Settings: orElse(q.held.name, "the defaults"), Held: q.held.judge, Note: q.note, Runs: q.runs, Seed: q.seed,
		Traffic: trafficJSON{Rate: q.rate(), Errors: base, P50: q.traffic.P50.Seconds(), P95: q.traffic.P95.Seconds(),
			PerVisitor: max(1, q.traffic.PerVisitor), Source: q.source}}
	for _, s := range q.plan {
		out.Plan = append(out.Plan, q.step(s))
	}
	played := lab.Forecast(q.held.judge, q.traffic, q.plan, effects, q.runs, q.seed)
	out.Answers = append(out.Answers, answerOf(played[0]))
	for played = played[1:]; len(out.Answers) <= len(q.harms); {
		h := q.harms[len(out.Answers)-1]
		if why := q.tolerated(h); why != "" {
			out.Answers = append(out.Answers, answerJSON{Release: h.String(), Tolerated: why})
			continue
		}
		out.Answers, played = append(out.Answers, answerOf(played[0])), played[1:]
	}
	out.Wish = q.wished()
	out.Took = now().Sub(began).Seconds()
	return out
}

func answerOf(a lab.Answer) answerJSON {
	return answerJSON{Release: a.Effect.Name, Runs: a.Runs, Found: a.Found, Steps: a.Steps, Seconds: a.Seconds, Failed: a.Failed,
		Proved: a.Proved, Metric: a.Metric}
}

// step says what one step can show of errors: its expected counts, judged as they would be.
func (q simulation) step(s lab.Step) stepJSON {
	share := float64(s.Weight) / weightAll
	out := stepJSON{Weight: share, Hold: s.Hold.Seconds()}
	v, next := detectable(q.held.judge, q.rate(), q.base(), s)
	out.Requests, out.Detectable, out.DetectableRate = next, v.Detectable, v.DetectableRate
	return out
}

// detectable is the judge's verdict at the end of a step that went as expected, with how many requests next had.
func detectable(c judge.Config, rate, errors float64, s lab.Step) (judge.Verdict, int64) {
	all, share := rate*s.Hold.Seconds(), float64(s.Weight)/weightAll
	side := func(n float64) judge.Side {
		served, failed := int64(math.Round(n)), int64(math.Round(n*errors))
		return judge.Side{Requests: served, Errors: failed, Drawn: served, Failed: failed}
	}
	next := side(all * share)
	j := judge.New(c)
	j.Tick(judge.Tick{Boot: "expected", N: 1, Strata: []judge.Stratum{{Weight: s.Weight, Next: next, Stable: side(all * (1 - share))}}})
	return j.Verdict(), next.Requests
}

// enough is the share of the rollouts in which harm must be found.
const enough = 0.9

// longest is how long a step may be that somebody is advised to take.
const longest = 24 * time.Hour

// wished says whether what somebody would like to see can be seen, and what it would take.
func (q simulation) wished() wishJSON {
	first := q.plan[0]
	out := wishJSON{See: q.wish.harm.String(), Within: q.wish.within.Seconds(), Weight: float64(first.Weight) / weightAll}
	if q.tolerated(q.wish.harm) == "" {
		lower := q
		if excess := q.excess(q.wish.harm); excess > 0 && excess <= q.held.judge.Floor*onFloor {
			out.Floor = excess / 2
			lower.held.judge.Floor = out.Floor
		}
		lower.search(&out)
	}
	out.Sentence = q.wishSentence(out)
	return out
}

// onFloor is up to how many times the floor an excess is taken for lying on it: chance decides on which side.
const onFloor = 1.1

// search finds out what it takes to see the wish.
func (q simulation) search(out *wishJSON) {
	first, within := q.plan[0], q.wish.within
	here := q.compressed(within)
	out.Found = here.found(first.Weight).Found
	if out.Found >= enough {
		return
	}
	out.NeededWeight = float64(lab.WeightFor(here.held.judge, here.traffic, here.effect, here.hold, q.runs, q.seed)) / weightAll
	for hold := 2 * within; out.NeededTime == 0 && hold <= max(longest, 4*within); hold *= 2 {
		long := q.compressed(hold)
		out.NeededTime = long.found(first.Weight).Seconds.P90 * long.factor
	}
}

// compressed is a question about one step whose time is shortened: of a long one each tick stands for several seconds. What
// is evidence is how many failed where, and hardly when.
type compressed struct {
	simulation
	effect lab.Effect
	hold   time.Duration
	factor float64 // seconds in a tick
}

// fullTicks is how many ticks are played at most: more of them would leave time for fewer rollouts.
const fullTicks = 300

func (q simulation) compressed(hold time.Duration) compressed {
	c := compressed{simulation: q, effect: q.wish.harm.effect(q.base()), factor: max(1, math.Ceil(hold.Seconds()/fullTicks))}
	c.hold = time.Duration(float64(hold) / c.factor).Round(time.Second)
	c.traffic.Rate *= c.factor
	c.traffic.Seconds = slices.Clone(q.traffic.Seconds)
	for i := range c.traffic.Seconds {
		c.traffic.Seconds[i].Requests *= int64(c.factor)
		c.traffic.Seconds[i].Errors *= int64(c.factor)
	}
	c.held.judge.Minutes = max(1, int(math.Ceil(c.hold.Minutes())))
	return c
}

// found plays it at a weight.
func (c compressed) found(weight int) lab.Answer {
	plan := []lab.Step{{Weight: weight, Hold: c.hold}}
	return lab.Forecast(c.held.judge, c.traffic, plan, []lab.Effect{c.effect}, c.runs, c.seed)[0]
}
