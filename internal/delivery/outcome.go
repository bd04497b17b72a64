package delivery

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/rollout"
)

func configHash(f *config.File, env domain.Environment) string {
	return config.HashOf(workloads(f, env))
}

func (r *run) rolloutIn(env domain.Environment) *rollout.Rollout {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rollouts[env]
}

// traffic is what both releases of production's rollout served; nil before it began.
func (r *run) traffic() *domain.Traffic {
	roll := r.rolloutIn(domain.Production)
	if roll == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.d.Traffic
	}
	t := r.s.ports.Measurements.Traffic(roll.View())
	t.Metrics = r.metricsOf(roll)
	t.Judged = r.heard()
	return &t
}

// served says how the shift went, from the user's side.
func (r *run) served(env domain.Environment) string {
	roll := r.rolloutIn(env)
	if roll == nil {
		return ""
	}
	requests, unserved := r.s.ports.Measurements.Served(r.d.App, env, roll.Record.Started)
	if requests == 0 {
		return "no requests meanwhile"
	}
	return fmt.Sprintf("%s of %s requests failed", domain.Thousands(unserved), domain.Thousands(requests))
}

// weights lists what next got, in order: 5 %, 50 %, 95 %.
func (r *run) weights(env domain.Environment) string {
	var list []string
	for _, s := range r.rolloutIn(env).Plan {
		if s.Verb == rollout.Shift && s.Stage == domain.DeployProduction {
			list = append(list, rollout.Percent(s.Weight))
		}
	}
	return strings.Join(list, ", ")
}

func (r *run) checkSummary(stage domain.Stage) string {
	passed, total, open := 0, 0, 0
	d := r.snapshot()
	for _, row := range d.Stages {
		if row.Name != stage {
			continue
		}
		for _, c := range row.Checks {
			switch c.State {
			case "passed":
				passed++
				total++
			case "failed":
				total++
			default:
				open++
			}
		}
	}
	summary := fmt.Sprintf("%d of %s", passed, plural(total, "check"))
	if open > 0 {
		summary += fmt.Sprintf(" · %d not checked: no source", open)
	}
	return summary
}

// monitored compares next with what was before it.
func (r *run) monitored() string {
	roll := r.rolloutIn(domain.Production)
	if roll == nil || roll.Record.Shifted == nil {
		return ""
	}
	now := r.s.ports.Measurements.Figures(r.d.App, domain.Production, roll.Next.ID, domain.Period{From: *roll.Record.Shifted, To: time.Now()})
	if now == nil {
		return "no requests to compare"
	}
	text := fmt.Sprintf("errors %s · p95 %.0f ms", rate(now.ErrorRate), now.P95*1000)
	if before := baselineOf(roll.Record); before != nil {
		text = fmt.Sprintf("errors %s (%s before) · p95 %.0f ms (%.0f before)", rate(now.ErrorRate), rate(before.ErrorRate), now.P95*1000, before.P95*1000)
	}
	return text
}

// beforeThat returns the figures of before a release: the baseline of the rollout that brought it.
func (s *Service) beforeThat(ctx context.Context, rel domain.Release) (*domain.Figures, error) {
	if rel.Delivery == 0 {
		return nil, nil
	}
	past, err := s.ports.Store.RolloutsOf(ctx, rel.App, rel.Delivery)
	if err != nil {
		return nil, err
	}
	for _, rec := range past {
		if rec.Next == rel.ID && rec.Environment == rel.Environment {
			return baselineOf(rec), nil
		}
	}
	return nil, nil
}

// outcome is computed from what was observed.
func (r *run) outcome(ctx context.Context, state domain.DeliveryState, cause error) (domain.Outcome, error) {
	roll := r.rolloutIn(domain.Production)
	o := domain.Outcome{}
	if roll == nil {
		o.Sentence = r.endSentence(state, cause) + ". Production was not touched"
		return o, nil
	}
	t := r.s.ports.Measurements.Traffic(roll)
	var unserved int64
	o.Requests, unserved = r.s.ports.Measurements.Served(r.d.App, domain.Production, roll.Record.Started)
	o.FailedBecause = r.s.because(roll, t, unserved)
	switch state {
	case domain.DoneState:
		o.Sentence = fmt.Sprintf("done: %s serves production. %s of %s requests failed because of this delivery",
			r.d.short(), domain.Thousands(o.FailedBecause), domain.Thousands(o.Requests))
		if o.Requests == 0 {
			o.Sentence = fmt.Sprintf("done: %s serves production. No request came meanwhile", r.d.short())
		}
		return o, nil
	case domain.RolledBackState:
		err := r.rolledBack(ctx, roll, t, cause, &o)
		return o, err
	default:
		o.Sentence = r.endSentence(state, cause)
		if roll.Record.Shifted == nil {
			o.Sentence += ". No request reached it"
		}
		return o, nil
	}
}

// serves says why a delivery whose stages are all done is not done: its release is not what is stable.
func (r *run) serves(ctx context.Context) (why, err error) {
	slot, err := r.s.ports.Store.Slot(ctx, r.d.App, domain.Production)
	if err != nil {
		return nil, err
	}
	roll := r.rolloutIn(domain.Production)
	if roll == nil || slot.Stable != roll.Next.ID {
		return domain.Errorf(domain.Failed, "%s is not stable in production: %s is", r.d.short(), slot.Stable), nil
	}
	traffic, err := r.s.ports.Traffic.State(ctx, r.d.App, domain.Production)
	if err != nil {
		return nil, err
	}
	if traffic.Stable != "" && (traffic.Stable != roll.Next.ID || traffic.Rollout != "") {
		return domain.Errorf(domain.Failed, "%s does not get all traffic of production: the data plane serves %s", r.d.short(), traffic.Stable), nil
	}
	return nil, nil
}

func (r *run) endSentence(state domain.DeliveryState, cause error) string {
	stage := ""
	for _, row := range r.snapshot().Stages {
		if row.State != domain.DoneState && row.State != domain.PendingStage {
			stage = string(row.Name)
		}
	}
	text := strings.ReplaceAll(string(state), "_", " ")
	if stage != "" {
		text += " in " + stage
	}
	if state == domain.SupersededState {
		return text + " " + cause.Error()
	}
	return text + ": " + cause.Error()
}

// chance is how likely so many errors of next may be at stable's rate before they are counted as its own.
const chance = 0.01

// because counts the requests that failed because of a rollout: errors of next beyond the rate that stable has, if they are
// more than chance explains, and requests of stable that the proxy had to fail meanwhile.
func (s *Service) because(roll *rollout.Rollout, t domain.Traffic, unserved int64) int64 {
	if t.Next == nil {
		return unserved
	}
	base := 0.0
	switch before := baselineOf(roll.Record); {
	case t.Stable != nil && t.Stable.Requests >= t.Next.Requests:
		base = float64(t.Stable.Errors) / float64(t.Stable.Requests)
	case before != nil:
		base = before.ErrorRate
	}
	excess := 0.0
	if guard.Binomial(t.Next.Errors, t.Next.Requests, base) <= chance {
		excess = math.Round(float64(t.Next.Errors) - base*float64(t.Next.Requests))
	}
	return max(0, int64(excess)) + max(0, unserved-t.Next.Unserved)
}

func (r *run) rolledBack(ctx context.Context, roll *rollout.Rollout, t domain.Traffic, cause error, o *domain.Outcome) error {
	var moved time.Duration
	if _, err := r.recall(ctx, "moved "+string(domain.Production), &moved); err != nil {
		return err
	}
	seconds := moved.Seconds()
	o.RollbackSeconds = &seconds
	var d decision
	if found, err := r.recall(ctx, "decision", &d); err != nil {
		return err
	} else if found && !d.Harm.IsZero() {
		harm := max(0, d.At.Sub(d.Harm).Seconds()) + seconds
		o.HarmToRollback = &harm
	}
	after := "before any traffic"
	if roll.Record.Shifted != nil && roll.Record.Ended != nil {
		after = "after " + r.since(roll).Round(time.Second).String()
	}
	why := strings.TrimPrefix(cause.Error(), rolledBackPrefix)
	counted := d.Verdict.Trigger == guard.ByJudge && why == d.Verdict.Sentence // it says the counts
	if counted {
		why, _, _ = strings.Cut(why, ". About ") // how many failed up to his word; more did
	}
	o.Sentence = fmt.Sprintf("rolled back %s: %s.", after, strings.TrimSuffix(why, "."))
	if t.Next == nil {
		return nil
	}
	if !counted {
		o.Sentence += fmt.Sprintf(" %s of %s requests to %s failed", domain.Thousands(t.Next.Errors), domain.Thousands(t.Next.Requests), roll.Next.Short())
		if t.Stable != nil && t.Stable.Requests > 0 {
			o.Sentence += fmt.Sprintf("; %s had %s of %s", roll.Stable.Short(), domain.Thousands(t.Stable.Errors), domain.Thousands(t.Stable.Requests))
		}
		o.Sentence += "."
	}
	if o.FailedBecause == 0 {
		o.Sentence += " No request failed because of it"
		return nil
	}
	o.Sentence += fmt.Sprintf(" About %s failed because of it", plural(int(o.FailedBecause), "request"))
	return nil
}

// since is how long next had traffic.
func (r *run) since(roll *rollout.Rollout) time.Duration {
	var d decision
	if found, err := r.recall(context.Background(), "decision", &d); err == nil && found {
		return d.At.Sub(*roll.Record.Shifted)
	}
	return roll.Record.Ended.Sub(*roll.Record.Shifted)
}

// rate prints a fraction as people write it: 0.09 %.
func rate(f float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", f*100), "0"), ".") + " %"
}
