package delivery

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/rollout"
)

// court is a judge who says what a test wants, of production only. Without a script nobody judges.
type court struct {
	mu     sync.Mutex
	says   func(r *rollout.Rollout, after time.Duration) judge.Verdict
	held   map[string][]judge.Config // by rollout
	replay func(stop judge.Verdict) (judge.Verdict, error)
}

func (c *court) asked(r *rollout.Rollout, held judge.Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		c.held = map[string][]judge.Config{}
	}
	c.held[r.Record.ID] = append(c.held[r.Record.ID], held)
}

// word is what the judge says of a rollout at an instant.
func (c *court) word(r *rollout.Rollout, held judge.Config, now time.Time) *judge.Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	shifted := r.View().Record.Shifted
	if c.says == nil || held.Alpha <= 0 || r.Record.Environment != domain.Production || shifted == nil {
		return nil
	}
	v := c.says(r, now.Sub(*shifted))
	v.Needed, v.ProofNeeded, v.Boot, v.N = 1/(0.9*held.Alpha), 1/held.Beta, "boot", int64(now.Sub(*shifted)/time.Second)
	return &v
}

func (c *court) again(_ domain.RolloutRecord, held judge.Config, stop judge.Verdict) (judge.Verdict, int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if held.Alpha <= 0 {
		return judge.Verdict{}, 0, errors.New("nothing was fixed")
	}
	if c.replay == nil {
		return stop, int(stop.N), nil
	}
	v, err := c.replay(stop)
	return v, int(stop.N), err
}

// script lets a judge sit in production from now on.
func (w *world) script(says func(r *rollout.Rollout, after time.Duration) judge.Verdict) {
	w.court.mu.Lock()
	defer w.court.mu.Unlock()
	w.court.says = says
}

// always is a judge who says one thing.
func always(v judge.Verdict) func(*rollout.Rollout, time.Duration) judge.Verdict {
	return func(*rollout.Rollout, time.Duration) judge.Verdict { return v }
}

// events lists what was told of a delivery.
func (w *world) events(number int, kind string) (list []domain.Event) {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	for _, e := range w.disk.events {
		if e.Delivery == number && e.Type == kind {
			list = append(list, e)
		}
	}
	return list
}

// bakes are the bakes of a delivery's production.
func bakes(d domain.Delivery) (list []domain.StepRecord) {
	for _, row := range d.Stages {
		for _, s := range row.Steps {
			if environmentOf(row.Name) == domain.Production && s.Verb == string(rollout.Bake) {
				list = append(list, s)
			}
		}
	}
	return list
}

const harmSays = "7 of 302 requests to next failed; stable had 5 of 5,698. If next were no worse, evidence this strong would turn up in fewer than 1 of 1,000 releases. About 7 requests failed because of it"

// harm is a judge who has enough after twelve seconds.
func harm(_ *rollout.Rollout, after time.Duration) judge.Verdict {
	if after < 12*time.Second {
		return judge.Verdict{Method: judge.Method, Decision: judge.Watch, Evidence: 1 + after.Seconds()}
	}
	return judge.Verdict{Method: judge.Method, Decision: judge.RollBack, Metric: "errors", Sentence: harmSays, Evidence: 1904,
		Metrics: []judge.Evidence{{Metric: "errors", Harm: 3808, Weight: 0.5, Ratio: 26.4, Next: judge.Total{Requests: 302, Errors: 7}}}}
}

func TestTheJudgeTakesNextBack(t *testing.T) {
	for name, file := range map[string]string{"canary": fileWith(canary, "for: 10m"), "blue-green": fileWith("strategy: blue-green", "for: 10m"),
		"blue-green with a holdback": fileWith("strategy: blue-green", "for: 10m, holdback: 5%")} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.file = file
				w.done("a")
				w.script(harm)
				w.bad[sha("b")] = 0.04 // the fixed triggers see nothing in it
				b := w.await(w.ship("b").Number)
				w.want(name, b, domain.RolledBackState, only("a", true))
				if h, _ := (storeOf{w.disk, w.life}).Hold(t.Context(), "shop"); h == nil || h.Owner != "judge" || !strings.Contains(h.Reason, "7 of 302") {
					t.Errorf("the hold: %+v", h)
				}
				said := b.Outcome.Sentence
				if !strings.HasPrefix(said, "rolled back after 12s: 7 of 302 requests to next failed; stable had 5 of 5,698. If next") ||
					strings.Count(said, " failed") != 2 || !strings.HasSuffix(said, " failed because of it") || strings.Contains(said, "..") {
					t.Errorf("the outcome: %s", said)
				}
				breach := w.events(b.Number, "rollout.breach")
				if len(breach) != 1 || breach[0].By != "judge" || breach[0].Data["evidence"] != 1904.0 || breach[0].Data["trigger"] != "judge" {
					t.Errorf("the breach: %+v", breach)
				}
				if back := w.events(b.Number, "rollout.rolled_back"); len(back) != 1 || back[0].By != "judge" {
					t.Errorf("rolled back: %+v", back)
				}
				if s := bakes(b)[0]; s.Evidence != 1904 || s.Needed < 1111 || s.Needed > 1112 || s.State != domain.FailedState {
					t.Errorf("the step: %+v", s)
				}
			})
		})
	}
}

// What a judge decided, and what it said last where nothing was taken back, can be reached again from the stored ticks.
func TestExplainAsksTheJudgeAgain(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		w.script(harm)
		b := w.await(w.ship("b").Number)
		explain := func(number int) domain.Explanation {
			t.Helper()
			e, err := w.life.s.Explain(t.Context(), "shop", number)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		e := explain(b.Number)
		if !e.Replayed || !e.Same || e.Ticks < 12 || e.Judged == nil || e.Judged.Evidence != 1904 || len(e.Metrics) != 1 || e.Config == "" ||
			e.Detail != fmt.Sprintf("replayed from %d stored ticks: the same verdict", e.Ticks) {
			t.Errorf("%+v", e)
		}
		w.court.replay = func(stop judge.Verdict) (judge.Verdict, error) {
			stop.Metrics = slices.Clone(stop.Metrics)
			stop.Metrics[0].Harm *= 1.0000001
			return stop, nil
		}
		if e = explain(b.Number); !e.Replayed || e.Same || !strings.Contains(e.Detail, "another verdict") {
			t.Errorf("another one: %+v", e)
		}
		w.court.replay = func(judge.Verdict) (judge.Verdict, error) { return judge.Verdict{}, errors.New("the ticks are gone") }
		if e = explain(b.Number); !e.Same || !strings.Contains(e.Detail, "the ticks are gone") {
			t.Errorf("without ticks: %+v", e)
		}
		w.court.replay = nil
		w.script(always(judge.Verdict{Method: judge.Method, Decision: judge.Promote, Evidence: 1.4, Proof: 31}))
		c := w.done("c")
		if s := bakes(c)[0]; s.Verdict != "no_harm" || s.Evidence != 1.4 || s.Proof != 31 || !strings.HasPrefix(s.Message, "proved no worse in 6,") {
			t.Errorf("the step: %+v", s)
		}
		if e = explain(c.Number); !e.Replayed || !e.Same || e.Judged.Decision != "promote" || e.Ticks < 59 {
			t.Errorf("the good one: %+v", e)
		}
	})
}

const proving = "strategy: canary, steps: [5% until proved within 10m, 50% for 60s], min_soak: 2m"

// A step that may be proved ends when it is, not before the soak, and only when it was seen.
func TestUntilProved(t *testing.T) {
	from := func(began time.Duration, v judge.Verdict) func(*rollout.Rollout, time.Duration) judge.Verdict {
		return func(_ *rollout.Rollout, after time.Duration) judge.Verdict {
			if after < began {
				return judge.Verdict{Method: judge.Method, Decision: judge.Watch, Evidence: 1}
			}
			return v
		}
	}
	proof := judge.Verdict{Method: judge.Method, Decision: judge.Promote, Evidence: 0.7, Proof: 25}
	for name, c := range map[string]struct {
		says  func(*rollout.Rollout, time.Duration) judge.Verdict
		blind time.Duration // nothing is measured from the tenth second on, so long
		took  time.Duration
	}{
		"at once":        {says: from(0, proof), took: 2 * time.Minute},
		"after the soak": {says: from(5*time.Minute, proof), took: 5 * time.Minute},
		"never":          {says: from(0, judge.Verdict{Method: judge.Method, Decision: judge.Watch, Evidence: 1}), took: 10 * time.Minute},
		"held for a while": {says: func(_ *rollout.Rollout, after time.Duration) judge.Verdict {
			if after < 4*time.Minute {
				return judge.Verdict{Method: judge.Method, Decision: judge.Hold, Metric: "placebo", Sentence: "the placebo is not quiet"}
			}
			return proof
		}, took: 4 * time.Minute},
		"what was not seen": {says: from(0, proof), blind: 20 * time.Second, took: 400 * time.Second}, // 20 s are 5 % of it
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.file = fileWith(proving, "for: 60s")
				w.done("a")
				w.script(c.says)
				b := w.ship("b")
				w.until("b bakes", func() bool {
					list := bakes(w.stored(b.Number))
					return len(list) > 0 && list[0].State == domain.Running
				})
				if c.blind > 0 {
					w.mu.Lock()
					w.lost = domain.Period{From: time.Now().Add(10 * time.Second), To: time.Now().Add(10*time.Second + c.blind)}
					w.mu.Unlock()
				}
				d := w.await(b.Number)
				w.want(name, d, domain.DoneState, only("b", false))
				step := bakes(d)[0]
				if took := step.Ended.Sub(*step.Started); took < c.took-time.Second || took > c.took+3*time.Second {
					t.Errorf("it took %s, not %s: %s", took, c.took, step.Message)
				}
				if early := strings.Contains(step.Message, "it ended after "); early != (c.took < 10*time.Minute) {
					t.Errorf("%s", step.Message)
				}
				if next := bakes(d)[1]; next.Ended.Sub(*next.Started) < 59*time.Second {
					t.Errorf("the step that is only held took %s", next.Ended.Sub(*next.Started))
				}
			})
		})
	}
}

// What cannot be trusted holds: nothing goes up, the reason is shown, and it goes on when it is over.
func TestTheJudgeHolds(t *testing.T) {
	for _, metric := range []string{"placebo", "split"} {
		t.Run(metric, func(t *testing.T) {
			canaries(t, func(t *testing.T, w *world) {
				w.done("a")
				w.script(func(_ *rollout.Rollout, after time.Duration) judge.Verdict {
					if after > 30*time.Second && after < 90*time.Second {
						return judge.Verdict{Method: judge.Method, Decision: judge.Hold, Metric: metric, Sentence: metric + " is off"}
					}
					return judge.Verdict{Decision: judge.Watch, Evidence: 1, DetectableRate: 0.01}
				})
				b := w.ship("b")
				w.until("held", func() bool {
					d := w.stored(b.Number)
					return d.Wait != nil && strings.Contains(d.Wait.Reason, metric+" is off")
				})
				time.Sleep(45 * time.Second) // the step would be over
				if s := w.production(); s.Weight != 500 {
					t.Errorf("while it holds: %+v", s)
				}
				d := w.await(b.Number)
				w.want(metric, d, domain.DoneState, only("b", false))
				if held := w.events(b.Number, "rollout.held"); len(held) != 1 || held[0].By != "judge" || len(w.events(b.Number, "rollout.resumed")) != 1 {
					t.Errorf("%+v", held)
				}
			})
		})
	}
}

// No data is a verdict of its own: it passes no step that ends upwards.
func TestNoDataPassesNothing(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		w.idle = true
		w.script(always(judge.Verdict{Decision: judge.NoData, Evidence: 1}))
		b := w.ship("b")
		w.until("somebody is asked", func() bool {
			d := w.stored(b.Number)
			return d.Wait != nil && strings.Contains(d.Wait.Reason, "no requests")
		})
		time.Sleep(20 * time.Minute)
		if s := w.production(); s.Weight != 500 {
			t.Errorf("nobody came, and it went on: %+v", s)
		}
		if _, err := w.life.s.Cancel(t.Context(), "shop", b.Number, "ana", "nobody came"); err != nil {
			t.Fatal(err)
		}
		w.want("cancelled", w.await(b.Number), domain.RolledBackState, only("a", true))
	})
}

// Evidence that is close to what takes next back lets it not go up; nor is it a rollback yet.
func TestSuspicionDoesNotGoUp(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		w.script(func(_ *rollout.Rollout, after time.Duration) judge.Verdict {
			if after < 10*time.Minute {
				return judge.Verdict{Decision: judge.Watch, Evidence: 400, DetectableRate: 0.01}
			}
			return judge.Verdict{Decision: judge.Watch, Evidence: 2, DetectableRate: 0.01}
		})
		b := w.ship("b")
		w.until("somebody is asked", func() bool {
			d := w.stored(b.Number)
			return d.Wait != nil && strings.Contains(d.Wait.Reason, "evidence of harm 400, with 1,111 it goes back")
		})
		d := w.await(b.Number)
		w.want("once it is gone", d, domain.DoneState, only("b", false))
		if first := bakes(d)[0]; first.Ended.Sub(*first.Started) < 9*time.Minute {
			t.Errorf("it went up after %s", first.Ended.Sub(*first.Started))
		}
	})
}

// What a rollout is held to is fixed when it begins: neither a restart nor another file changes it. A first release is held to
// nothing: there is nobody to compare it with.
func TestTheTermsAreFixed(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.file = strings.Replace(fileWith(canary, "for: 10m"), "guard: { ", "guard: { false_rollbacks: 1%, margin: 10%, ", 1)
		w.done("a")
		first := w.lastRollout(domain.Production)
		w.script(always(judge.Verdict{Decision: judge.Promote}))
		b := w.ship("b")
		w.until("b bakes", func() bool {
			list := bakes(w.stored(b.Number))
			return len(list) > 0 && list[0].State == domain.Running
		})
		rec := w.lastRollout(domain.Production)
		fixed := termsOf(rec)
		w.file = strings.Replace(w.file, "false_rollbacks: 1%, margin: 10%", "false_rollbacks: 0.1%, margin: 50%", 1)
		w.restart()
		c := w.ship("c")
		if d := w.await(b.Number); d.State != domain.SupersededState {
			t.Errorf("b is %s: %v", d.State, d.Outcome)
		}
		if d := w.await(c.Number); d.State != domain.DoneState {
			t.Errorf("c is %s: %v", d.State, d.Outcome)
		}
		w.court.mu.Lock()
		defer w.court.mu.Unlock()
		want := judge.Config{Alpha: 0.01, Beta: 0.05, Ratio: 1.25, Floor: 0.001, Margin: 1.1, Grain: 2 * time.Millisecond, Limit: 0.01, Minutes: 12,
			Before: &judge.Before{Requests: perSecond}}
		if got := fixed.Judge; !sameConfig(got, want) || fixed.JudgeHash != want.Hash() || fixed.JudgeHash == "" {
			t.Errorf("fixed is %+v %q", got, fixed.JudgeHash)
		}
		for _, held := range w.court.held[rec.ID] {
			if !sameConfig(held, want) {
				t.Errorf("held to %+v", held)
			}
		}
		if len(w.court.held[rec.ID]) < 3 {
			t.Errorf("watched %d times", len(w.court.held[rec.ID]))
		}
		for _, held := range w.court.held[first.ID] {
			if held.Alpha != 0 {
				t.Errorf("a first release is judged: %+v", held)
			}
		}
		for id, list := range w.court.held {
			if held := list[0]; held.Alpha > 0 && held.Margin == 0 && held.Minutes != 1 {
				t.Errorf("%s, in staging, is held to %+v", id, held)
			}
		}
	})
}

func sameConfig(a, b judge.Config) bool {
	before := a.Before != nil && b.Before != nil && *a.Before == *b.Before || a.Before == b.Before
	a.Before, b.Before = nil, nil
	return before && a == b
}

// A step shows what the judge says about every second, and each new word is told once.
func TestWhatTheJudgeSaysIsShown(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		w.script(func(_ *rollout.Rollout, after time.Duration) judge.Verdict {
			n := int(after / time.Second)
			v := judge.Verdict{Decision: judge.Watch, Evidence: 1 + float64(n%60), DetectableRate: 0.01, Sentence: "nothing yet"}
			if n == 0 {
				v.Decision = judge.NoData
			}
			if n%2 == 0 && n > 30 {
				v.Decision, v.Sentence = judge.Promote, "proved"
			}
			return v
		})
		b := w.ship("b")
		w.until("b bakes", func() bool {
			list := bakes(w.stored(b.Number))
			return len(list) > 0 && list[0].State == domain.Running
		})
		time.Sleep(500 * time.Millisecond) // between two seconds
		seen := map[float64]bool{}
		for range 40 {
			time.Sleep(time.Second)
			d, err := w.life.s.Delivery(t.Context(), "shop", b.Number)
			if err != nil || d.Traffic.Judged == nil || d.Traffic.Judged.Evidence != bakes(d)[0].Evidence {
				t.Fatalf("%+v %+v %v", bakes(d)[0], d.Traffic, err)
			}
			seen[bakes(d)[0].Evidence] = true
		}
		if len(seen) < 38 {
			t.Errorf("in 40 s it showed %d numbers", len(seen))
		}
		var told []string
		for _, e := range w.events(b.Number, "rollout.verdict") {
			if word, ok := e.Data["decision"].(string); ok {
				told = append(told, word+" in "+string(e.Stage))
			}
		}
		if !slices.Equal(told, []string{"promote in deploy production", "watch in deploy production"}) {
			t.Errorf("told %q", told)
		}
		w.await(b.Number)
	})
}

// Little traffic shows little, and the plan says so beforehand: 50 requests a second at 5 % cannot show a doubling of 0.1 %.
func TestThePlanSaysWhatAStepCanShow(t *testing.T) {
	own, err := parse(planned, []byte(strings.Replace(fileWith("strategy: canary, steps: [5% for 15m]", "for: 1h"), "guard: { error_rate: 5% for 10s }\n", "", 1)), true)
	if err != nil {
		t.Fatal(err)
	}
	set, file := newSettings(own, nil, domain.Floors{})
	web := rolesOf(file)
	plan := rollout.New(rollout.Fleet{Environment: domain.Production, Stable: web, Next: web}, set.plan(domain.Production))
	for _, c := range []struct {
		now  *domain.Figures
		says string
	}{
		{nil, "at 0.0 requests/s 5 % for 15m sees about no requests: the app's own flows (1) are sent to next, 30 times each"},
		{&domain.Figures{RPS: 0.2}, "at 0.2 requests/s 5 % for 15m sees about 9 requests, which show an error rate of 86 % or worse: the app's own flows"},
		{&domain.Figures{RPS: 50, ErrorRate: 0.001}, "at 50.0 requests/s 5 % for 15m sees about 2250 requests, which show errors of ×"},
		{&domain.Figures{RPS: 5000, ErrorRate: 0.001}, "sees about 225000 requests, which show errors of ×2"},
	} {
		if got := lowTraffic(file, set, plan, c.now); !strings.Contains(got, c.says) {
			t.Errorf("%s", got)
		}
	}
	proving, err := parse(planned, []byte(fileWith(proving, "for: 1h")), true)
	if err != nil {
		t.Fatal(err)
	}
	early, _ := newSettings(proving, nil, domain.Floors{})
	steps := planSteps(rollout.New(rollout.Fleet{Environment: domain.Production, Stable: web, Next: web}, early.plan(domain.Production)), domain.DeployProduction)
	if !slices.ContainsFunc(steps, func(s PlanStep) bool { return s.What == "next 5 %" && s.Detail == "until proved within 10m" }) {
		t.Errorf("the plan's steps: %+v", steps)
	}
	var factor float64
	text := lowTraffic(file, set, plan, &domain.Figures{RPS: 50, ErrorRate: 0.001})
	if _, err := fmt.Sscanf(text[strings.Index(text, "×")+len("×"):], "%g", &factor); err != nil || factor < 3 || factor > 15 {
		t.Errorf("×%g: %v: %s", factor, err, text)
	}
}

// What the file leaves unsaid is enough for a judge: a release as good as stable is proved in minutes where there is traffic,
// and one that fails twenty times as often is taken back in seconds.
func TestTheDefaultsSuffice(t *testing.T) {
	own, err := parse(planned, []byte(strings.Replace(fileWith("strategy: canary", "for: 1h"), "guard: { error_rate: 5% for 10s }\n", "", 1)), false)
	if err != nil {
		t.Fatal(err)
	}
	set, _ := newSettings(own, nil, domain.Floors{})
	random := rand.New(rand.NewPCG(1, 2))
	side := func(n int, share float64) judge.Side {
		s := judge.Side{Requests: int64(n), Drawn: int64(n), Latency: &measure.Histogram{}}
		for range n {
			s.Latency.Add(time.Duration(20e6 * math.Exp(random.NormFloat64()/2)))
			if random.Float64() < share {
				s.Errors, s.Failed = s.Errors+1, s.Failed+1
			}
		}
		return s
	}
	for _, c := range []struct {
		rate, percent int
		stable, next  float64 // share that fails
		want          judge.Decision
		within        int // seconds
	}{
		{500, 5, 0, 0, judge.Promote, 300},
		{500, 5, 0.001, 0.001, judge.Promote, 2400},
		{500, 20, 0, 0, judge.Promote, 120},
		{500, 20, 0.001, 0.001, judge.Promote, 900},
		{500, 50, 0, 0, judge.Promote, 90},
		{500, 50, 0.001, 0.001, judge.Promote, 600},
		{50, 20, 0, 0, judge.Promote, 900},
		{50, 50, 0, 0, judge.Promote, 400},
		{500, 5, 0.001, 0.02, judge.RollBack, 60},
		{50, 20, 0.001, 0.02, judge.RollBack, 300},
	} {
		j, took := judge.New(set.judge(domain.Production)), 0
		for n := 1; n <= c.within && took == 0; n++ {
			next := 0
			for range c.rate {
				if random.IntN(100) < c.percent {
					next++
				}
			}
			j.Tick(judge.Tick{Boot: "a", N: int64(n), Strata: []judge.Stratum{{Weight: 100 * c.percent, Next: side(next, c.next), Stable: side(c.rate-next, c.stable)}}})
			if j.Verdict().Decision == c.want {
				took = n
			}
		}
		t.Logf("%d requests/s, %d %%, errors %s beside %s: %s after %d s", c.rate, c.percent, rate(c.next), rate(c.stable), c.want, took)
		if took == 0 {
			t.Errorf("not within %d s: %s", c.within, j.Verdict().Sentence)
		}
	}
}

// What is slower by more than half of the margin is no harm, and is told.
func TestHalfOfTheMarginIsTold(t *testing.T) {
	c := judge.Config{Margin: 1.2, Grain: 2 * time.Millisecond}
	of := func(requests int64, next, stable float64) *judge.Verdict {
		return &judge.Verdict{Next: judge.Total{Requests: requests}, Metrics: []judge.Evidence{{Metric: "errors"},
			{Metric: "latency", Ratio: next / stable, NextP95: next, StableP95: stable}}}
	}
	if got := slower(of(4000, 0.095, 0.083), c); got != "; its p95 is 95 ms beside 83 ms, more than half of the margin" {
		t.Errorf("%q", got)
	}
	for _, v := range []*judge.Verdict{nil, of(4000, 0.09, 0.083), of(400, 0.095, 0.083), of(4000, 0.0035, 0.002)} {
		if got := slower(v, c); got != "" {
			t.Errorf("%+v: %q", v, got)
		}
	}
	if got := slower(of(4000, 0.095, 0.083), judge.Config{}); got != "" {
		t.Errorf("where latency is left out: %q", got)
	}
}
