package delivery

import (
	"context"
	"math"
	"time"

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
	bake bool // else there is no step to show it at
	last *judge.Verdict

	shown   *domain.Judged
	shownAt time.Time
	told    map[judge.Decision]bool
}

// How often what the judge says is shown: at once when the word changes, once a second when a number moved by a tenth, and
// otherwise after a while.
const (
	shownStep  = 0.1
	shownEvery = 10 * time.Second
)

// word hears what the judge says in one second. What takes next back or holds it is told by the guard.
func (h *hearing) word(ctx context.Context, v judge.Verdict) {
	h.last = &v
	if !h.bake {
		return
	}
	now := judged(v)
	fresh := h.shown == nil || h.shown.Decision != now.Decision
	if !fresh && !moved(h.shown.Evidence, now.Evidence) && !moved(h.shown.Proof, now.Proof) &&
		(time.Since(h.shownAt) < shownEvery || *h.shown == *now) {
		return
	}
	h.shown, h.shownAt = now, time.Now()
	var stage domain.Stage
	h.run.update(ctx, func(d *domain.Delivery) { stage = showJudged(d, h.roll.Record.Environment, now) })
	if h.told == nil {
		h.told = map[judge.Decision]bool{}
	}
	// Of the others it is news that next is proved, and that it is so no longer.
	news := v.Decision == judge.Promote || v.Decision == judge.Watch && h.told[judge.Promote]
	if !news || h.told[v.Decision] || !fresh {
		return
	}
	h.told[v.Decision] = true
	h.s.emit(ctx, domain.Event{Type: "rollout.verdict", App: h.roll.Record.App, Delivery: h.roll.Record.Delivery, By: guard.ByJudge,
		Stage: stage, Environment: h.roll.Record.Environment, Data: evidenceData(v)})
}

// evidenceData is what an event carries of a verdict.
func evidenceData(v judge.Verdict) map[string]any {
	return map[string]any{"decision": string(v.Decision), "sentence": v.Sentence, "metric": v.Metric, "evidence": v.Evidence, "needed": v.Needed,
		"proof": v.Proof, "proof_needed": v.ProofNeeded}
}

// moved reports whether a number changed by more than a tenth, and says anything.
func moved(from, to float64) bool {
	return math.Abs(to-from) > shownStep*max(from, to, 1)
}

// showJudged puts it beside the bake that runs in an environment, or was interrupted, and returns that one's stage.
func showJudged(d *domain.Delivery, env domain.Environment, j *domain.Judged) (stage domain.Stage) {
	for i := range d.Stages {
		row := &d.Stages[i]
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
