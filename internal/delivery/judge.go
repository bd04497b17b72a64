package delivery

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/rollout"
)

// judged says in words of everybody what the judge says.
func judged(v judge.Verdict) *domain.Judged {
	return &domain.Judged{Decision: string(v.Decision), Metric: v.Metric, Sentence: v.Sentence, Evidence: v.Evidence, Needed: v.Needed,
		Proof: v.Proof, ProofNeeded: v.ProofNeeded, History: v.History}
}

// hearing shows what the judge says while a rollout is watched.
type hearing struct {
	s    *Service
	run  *run
	roll *rollout.Rollout
	last *judge.Verdict
	loud atomic.Bool // it suspects next
	told map[judge.Decision]bool
}

// word hears what the judge says in one second. What takes next back or holds it is told by the guard; of the rest it is news
// that next is proved, and that it is so no longer, once each.
func (h *hearing) word(ctx context.Context, v judge.Verdict) {
	h.last = &v
	h.loud.Store(guard.Suspects(v))
	stage := h.run.hear(h.roll.Record.Environment, judged(v))
	news := v.Decision == judge.Promote || v.Decision == judge.Watch && h.told[judge.Promote]
	if !news || h.told[v.Decision] || stage == "" {
		return
	}
	if h.told == nil {
		h.told = map[judge.Decision]bool{}
	}
	h.told[v.Decision] = true
	h.s.emit(ctx, domain.Event{Type: "rollout.verdict", App: h.roll.Record.App, Delivery: h.roll.Record.Delivery, By: guard.ByJudge,
		Stage: stage, Environment: h.roll.Record.Environment, Data: evidenceData(v)})
}

// hear puts what the judge says beside the bake that runs in an environment, or was interrupted, and returns that one's stage.
// It is of this second only, and is not stored before something else is.
func (r *run) hear(env domain.Environment, j *domain.Judged) (stage domain.Stage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if env == domain.Production {
		r.judged = j
	}
	for i := range r.d.Stages {
		row := &r.d.Stages[i]
		if environmentOf(row.Name) != env {
			continue
		}
		for k := range row.Steps {
			if s := &row.Steps[k]; s.Verb == string(rollout.Bake) && (s.State == domain.Running || s.State == domain.FailedState) {
				s.Judge(*j)
				stage = row.Name
			}
		}
	}
	return stage
}

// heard is what the judge said last of production; nil before it said anything.
func (r *run) heard() *domain.Judged {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.judged
}

// slower tells a p95 that is beyond half of the margin: no harm yet, but worth a look.
func slower(v *judge.Verdict, c judge.Config) string {
	if v == nil || c.Margin <= 1 || v.Next.Requests < config.SlowerRequests {
		return ""
	}
	for _, m := range v.Metrics {
		if m.Metric == "latency" && m.Ratio >= 1+(c.Margin-1)/2 && m.NextP95-m.StableP95 > c.Grain.Seconds() {
			return fmt.Sprintf("; its p95 is %s beside %s, more than half of the margin", moment(m.NextP95), moment(m.StableP95))
		}
	}
	return ""
}

// evidenceData is what an event carries of a verdict.
func evidenceData(v judge.Verdict) map[string]any {
	return map[string]any{"decision": string(v.Decision), "sentence": v.Sentence, "metric": v.Metric, "evidence": v.Evidence, "needed": v.Needed,
		"proof": v.Proof, "proof_needed": v.ProofNeeded}
}

// environmentOf is where a stage's steps happen.
func environmentOf(s domain.Stage) domain.Environment {
	switch s {
	case domain.DeployStaging, domain.VerifyStaging:
		return domain.Staging
	default:
		return domain.Production
	}
}

// verdictKey is where the last verdict of the judge about production is stored.
const verdictKey = "verdict"

// kept is a verdict of the judge that can be reached again.
type kept struct {
	Rollout string        `json:"rollout"`
	Verdict judge.Verdict `json:"verdict"`
}

// keepVerdict stores what the judge said when a bake ended well, so that it can be reached again.
func (s *Service) keepVerdict(ctx context.Context, roll *rollout.Rollout, r *run, report guard.Report) *domain.Judged {
	if report.Judge == nil {
		return nil
	}
	if roll.Record.Environment == domain.Production {
		if err := r.remember(ctx, verdictKey, kept{Rollout: roll.Record.ID, Verdict: *report.Judge}); err != nil {
			s.options.Log.Error("keep the verdict", "rollout", roll.Record.ID, "error", err)
		}
	}
	return judged(*report.Judge)
}
