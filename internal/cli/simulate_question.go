package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge/lab"
)

// weightAll is the whole traffic in the unit of weights, hundredths of a percent.
const weightAll = domain.WeightAll

// given is what the flags of simulate say.
type given struct {
	traffic   lab.Traffic
	source    string
	hasErrors bool // --errors was given: 0% is an answer
	harms     []harm
	within    time.Duration // 0: not said
	weight    int           // hundredths of a percent; 0: the file's steps
	runs      int
	seed      uint64
}

// parse reads the flags.
func (o simulateOptions) parse() (given, error) {
	g := given{runs: o.runs, seed: o.seed, hasErrors: o.errors != ""}
	var err error
	set := func(text string, read func() error) {
		if err == nil && text != "" {
			err = read()
		}
	}
	set(o.rate, func() (err error) { g.traffic.Rate, err = perSecond("--rate", o.rate); return err })
	set(o.errors, func() (err error) { g.traffic.Errors, err = fraction("--errors", o.errors, 0, 0.99); return err })
	set(o.p50, func() (err error) { g.traffic.P50, err = stretch("--p50", o.p50, maxLatency); return err })
	set(o.p95, func() (err error) { g.traffic.P95, err = stretch("--p95", o.p95, maxLatency); return err })
	set(o.within, func() (err error) { g.within, err = stretch("--within", o.within, maxWithin); return err })
	set(o.see, func() error { h, err := seen(o.see); g.harms = []harm{h}; return err })
	set(o.weight, func() error {
		w, err := fraction("--weight", o.weight, 0.0001, 0.99)
		g.weight = int(math.Round(w * weightAll))
		return err
	})
	switch {
	case err != nil:
		return g, err
	case !(o.perVisitor >= 1 && o.perVisitor <= 1e6): // not so for NaN either
		return g, usage("--per-visitor %g: it is 1 to 1,000,000", o.perVisitor)
	case o.runs < 1 || o.runs > maxRuns:
		return g, usage("--runs %d: it is 1 to %s", o.runs, count(maxRuns))
	case (o.p50 == "") != (o.p95 == ""):
		return g, usage("latency takes both --p50 and --p95")
	case o.p50 != "" && g.traffic.P50 >= g.traffic.P95:
		return g, usage("--p50 %s is not below --p95 %s", o.p50, o.p95)
	}
	g.traffic.PerVisitor = o.perVisitor
	return g, nil
}

// trafficOf is what the flags say of the traffic, and where they say nothing what the app serves now.
func (s *session) trafficOf(ctx context.Context, g given) (lab.Traffic, string, error) {
	t := g.traffic
	if t.Rate > 0 && g.hasErrors {
		return t, "as the flags have it", nil
	}
	const flags = "give it yourself: --rate 50/s --errors 0.1% --p50 20ms --p95 80ms"
	named := s.server != "" || s.stdio.Env("BELAY_SERVER") != ""
	app, c, err := s.connectApp()
	if err != nil {
		if errors.Is(err, errMissing) {
			return t, "", usage("the traffic is not known, and no app is named whose it could be").WithHint("%s", flags)
		}
		return t, "", err
	}
	defer c.Close()
	status, err := c.Status(ctx, app)
	switch {
	case domain.CodeOf(err) == domain.Unavailable && !named:
		return t, "", usage("the traffic is not known: no server answers at %s", c.Address()).WithHint("%s", flags)
	case domain.CodeOf(err) == domain.NotFound:
		return t, "", usage("the traffic is not known: %w", err).WithHint("%s", flags)
	case err != nil:
		return t, "", err
	}
	now := productionNow(status)
	if now == nil || now.RPS <= 0 && t.Rate == 0 {
		return t, "", usage("%s serves nothing in production now: its traffic is not known", app).WithHint("%s", flags)
	}
	if t.Rate == 0 {
		t.Rate = now.RPS
	}
	if !g.hasErrors {
		t.Errors = now.ErrorRate
	}
	if t.P95 == 0 && now.P50 > 0 && now.P95 > now.P50 {
		t.P50, t.P95 = seconds(now.P50), seconds(now.P95)
	}
	return t, "as " + app + " serves it now", nil
}

// productionNow is what production serves; nil when nobody knows.
func productionNow(s domain.AppStatus) *domain.Figures {
	for _, e := range s.Environments {
		if e.Name == domain.Production {
			return e.Now
		}
	}
	return nil
}

// question joins what is asked with what the file says.
func (g given) question(h held) (simulation, error) {
	q := simulation{app: h.app, held: h, traffic: g.traffic, source: g.source, harms: g.harms, runs: g.runs, seed: g.seed}
	q.plan, q.note = planOf(h.file)
	q.planFrom = orElse(h.name, "the defaults") + " has"
	if h.name == "" {
		q.planFrom = "the defaults have"
	}
	if g.weight > 0 {
		hold := g.within
		if hold == 0 {
			hold = q.plan[0].Hold
		}
		q.plan, q.note, q.planFrom = []lab.Step{{Weight: g.weight, Hold: hold}}, "", "--weight has"
	}
	q.held.judge.Minutes = minutesOf(q.plan)
	if q.base() == 0 && len(q.harms) == 0 {
		q.harms = cleanAsked
	} else if len(q.harms) == 0 {
		q.harms = asked
	}
	known := q.harms[:0:0]
	for _, x := range q.harms {
		switch {
		case x.latency > 0 && !q.timed():
			if len(g.harms) > 0 {
				return q, usage("--see %q: the latency is not known", x).WithHint("add --p50 20ms --p95 80ms")
			}
			continue
		case x.errors > 0 && q.base() == 0:
			return q, usage("--see %q: no error was seen, and a multiple of nothing is nothing", x).WithHint(`--see "errors 1%%"`)
		case x.rate > 0 && x.rate <= q.base():
			return q, usage("--see %q: the traffic has %s of errors already", x, percent(q.base()))
		case x.errors*q.base() > 1:
			if len(g.harms) > 0 {
				return q, usage("--see %q: of %s that would be more than all", x, percent(q.base()))
			}
			continue
		}
		known = append(known, x)
	}
	q.harms = known
	q.wish = wish{harm: q.harms[0], within: g.within}
	if g.within == 0 {
		q.wish.within = q.plan[0].Hold
	}
	return q, nil
}

// base is the share of requests that fails anyway.
func (q simulation) base() float64 {
	if len(q.traffic.Seconds) == 0 {
		return q.traffic.Errors
	}
	var requests, failed int64
	for _, s := range q.traffic.Seconds {
		requests, failed = requests+s.Requests, failed+s.Errors
	}
	return float64(failed) / float64(max(1, requests))
}

// rate is how many requests come in a second.
func (q simulation) rate() float64 {
	if len(q.traffic.Seconds) == 0 {
		return q.traffic.Rate
	}
	var requests int64
	for _, s := range q.traffic.Seconds {
		requests += s.Requests
	}
	return float64(requests) / float64(len(q.traffic.Seconds))
}

// timed reports whether the latencies are known.
func (q simulation) timed() bool {
	for _, s := range q.traffic.Seconds {
		if s.Latency.Count() > 0 {
			return true
		}
	}
	return len(q.traffic.Seconds) == 0 && q.traffic.P95 > 0
}

// effect is h as a release has it, at an error rate of base.
func (h harm) effect(base float64) lab.Effect {
	e := lab.Effect{Name: h.String(), Errors: h.errors, Latency: h.latency}
	if h.rate > 0 { // the rest must come from those that would not fail anyway
		e.Fail = min(1, (h.rate-base)/(1-base))
	}
	return e
}

// planOf is the rollout of a file, nil for the defaults, and what has to be said of it.
func planOf(f *config.File) ([]lab.Step, string) {
	strategy, steps, holdback := config.Canary, config.DefaultSteps[:], config.CanaryHoldback
	monitor, soak := config.DefaultMonitor, config.DefaultMinSoak
	if f != nil {
		strategy, steps, holdback = f.Rollout.Strategy, f.Rollout.Steps, float64(f.Monitor.Holdback)
		monitor, soak = f.Monitor.For.D(), f.Rollout.MinSoak.D()
	}
	var plan []lab.Step
	switch strategy {
	case config.Rolling:
		n := largest(f)
		for i := 1; i < n; i++ {
			plan = append(plan, lab.Step{Weight: weightAll * i / n, Hold: soak})
		}
		return plan, "rolling keeps nothing on stable: monitor compares with history, which carries no guarantee and is not simulated"
	case config.Canary:
		for _, s := range steps {
			plan = append(plan, lab.Step{Weight: weight(float64(s.Weight)), Hold: s.For})
		}
	}
	if holdback > 0 {
		return append(plan, lab.Step{Weight: weightAll - weight(holdback), Hold: monitor}), ""
	}
	if len(plan) > 0 {
		return plan, "without monitor.holdback, monitor compares with history, which carries no guarantee and is not simulated"
	}
	return []lab.Step{{Weight: weightAll - weight(config.CanaryHoldback), Hold: monitor}},
		fmt.Sprintf("blue-green without monitor.holdback compares with history, which carries no guarantee; this is with holdback: %s", percent(config.CanaryHoldback))
}

// weight is a fraction in hundredths of a percent.
func weight(f float64) int { return int(math.Round(f * weightAll)) }

// largest is how many instances the biggest role with hosts has in production.
func largest(f *config.File) int {
	n := config.DefaultInstances
	for _, r := range f.Roles {
		if r != nil && len(r.Hosts.Production) > 0 {
			n = max(n, int(r.Instances.Production))
		}
	}
	return n
}

func minutesOf(plan []lab.Step) int {
	var sum time.Duration
	for _, s := range plan {
		sum += s.Hold
	}
	return int(math.Ceil(sum.Minutes()))
}

// heldTo is what a file holds its releases to.
func heldTo(f *config.File, name string) held {
	h := held{file: f, name: name, app: string(f.App), visitor: f.Rollout.Split == config.Visitor, judge: f.Judge()}
	plan, _ := planOf(f)
	h.judge.Minutes = minutesOf(plan)
	return h
}

// defaultHeld is what releases are held to where no file says anything.
func defaultHeld() held {
	var none *config.File
	h := held{visitor: true, judge: none.Judge()}
	plan, _ := planOf(nil)
	h.judge.Minutes = minutesOf(plan)
	return h
}
