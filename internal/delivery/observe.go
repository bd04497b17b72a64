package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/journal"
	"github.com/belay-cd/belay/internal/rollout"
)

// owner returns the run that a rollout belongs to.
func (s *Service) owner(roll *rollout.Rollout) *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.returns[roll.Record.ID]; r != nil {
		return r
	}
	for _, r := range s.runs {
		if r.d.App == roll.Record.App && r.d.Number == roll.Record.Delivery {
			return r
		}
	}
	return nil
}

// Step shows how far a step is.
func (s *Service) Step(ctx context.Context, roll *rollout.Rollout, index int, p rollout.Progress) {
	step := roll.Plan[index]
	if r := s.owner(roll); r != nil {
		r.update(ctx, func(d *domain.Delivery) { showStep(d, roll.Plan, index, p) })
	}
	s.emit(ctx, domain.Event{
		Type: stepEvent(step, p), At: p.At, App: roll.Record.App, Delivery: roll.Record.Delivery, Stage: step.Stage,
		Environment: roll.Record.Environment, Data: stepData(step, p),
	})
}

// showStep changes the record of the plan's index-th step within its stage's row.
func showStep(d *domain.Delivery, plan rollout.Plan, index int, p rollout.Progress) {
	within := 0
	for _, s := range plan[:index] {
		if s.Stage == plan[index].Stage {
			within++
		}
	}
	for i := range d.Stages {
		row := &d.Stages[i]
		if row.Name != plan[index].Stage || within >= len(row.Steps) {
			continue
		}
		rec := &row.Steps[within]
		rec.State, rec.Message, rec.Verdict = p.State, p.Message, p.Verdict
		if p.Judged != nil {
			rec.Judge(*p.Judged)
		}
		at := p.At
		if p.State == domain.Running {
			rec.Started = &at
			if !p.Until.IsZero() {
				until := p.Until
				rec.Until = &until
			}
		} else {
			rec.Ended = &at
		}
	}
}

func stepEvent(s rollout.Step, p rollout.Progress) string {
	begun := p.State == domain.Running
	failed := p.State == domain.FailedState
	if failed && p.By != "" {
		return "rollout.interrupted" // why is told by the breach, or by the person
	}
	switch s.Verb {
	case rollout.Shift:
		if begun {
			return "rollout.shifting"
		}
		return "rollout.shifted"
	case rollout.Bake:
		if begun {
			return "rollout.baking"
		}
		return "rollout.verdict"
	case rollout.Check:
		switch {
		case begun:
			return "check.started"
		case failed:
			return "check.failed"
		}
		return "check.passed"
	case rollout.Start:
		switch {
		case begun:
			return "instance.started"
		case failed:
			return "instance.unhealthy"
		}
		return "instance.healthy"
	default:
		if begun {
			return "rollout.retiring"
		}
		return "rollout.retired"
	}
}

func stepData(s rollout.Step, p rollout.Progress) map[string]any {
	data := map[string]any{"step": s.String(), "state": p.State}
	if s.Verb == rollout.Shift || s.Verb == rollout.Bake {
		data["weight"] = float64(s.Weight) / domain.WeightAll
	}
	if !p.Until.IsZero() {
		data["until"] = p.Until
	}
	if p.Message != "" {
		data["message"] = p.Message
	}
	if p.Judged != nil {
		data["evidence"], data["needed"] = p.Judged.Evidence, p.Judged.Needed
	}
	if p.Verdict != "" {
		data["verdict"], data["sentence"] = p.Verdict, rollout.Percent(s.Weight)+" for "+domain.Span(s.Hold)+": "+p.Message
	}
	return data
}

// held shows a hold, until when it may last, and that it is over.
func (s *Service) held(ctx context.Context, roll *rollout.Rollout, v guard.Verdict, deadline time.Time) {
	kind, by, r := "rollout.held", "guard", s.owner(roll)
	if v.Trigger == guard.ByJudge {
		by = v.Trigger
	}
	if v.Kind != guard.Hold {
		kind, v.Sentence = "rollout.resumed", "the hold is over"
		r.goOn(ctx)
	} else {
		r.wait(ctx, "nothing goes on, a rollback aside: "+v.Sentence, "belay", deadline)
	}
	s.emit(ctx, domain.Event{Type: kind, App: roll.Record.App, Delivery: roll.Record.Delivery, By: by,
		Environment: roll.Record.Environment, Data: map[string]any{"sentence": v.Sentence, "trigger": v.Trigger}})
}

// decision is a stored verdict.
type decision struct {
	Rollout string        `json:"rollout,omitempty"`
	Limits  guard.Limits  `json:"limits"`
	History guard.History `json:"history"`
	Verdict guard.Verdict `json:"verdict"`
	At      time.Time     `json:"at"`
	Harm    time.Time     `json:"harm,omitzero"`
}

func (s *Service) keepBreach(ctx context.Context, roll *rollout.Rollout, r *run, b *guard.Breach) {
	d := decision{Rollout: roll.Record.ID, Limits: r.settings.Guard, History: b.History, Verdict: b.Verdict, At: *now(), Harm: b.Harm}
	if err := r.remember(ctx, "decision", d); err != nil {
		s.options.Log.Error("keep the decision", "rollout", roll.Record.ID, "error", err)
	}
	if e := b.History.Evidence; e != nil {
		r.hear(roll.Record.Environment, judged(*e))
	}
	s.emit(ctx, domain.Event{Type: "rollout.breach", App: roll.Record.App, Delivery: roll.Record.Delivery,
		Environment: roll.Record.Environment, By: b.AskedBy(), Data: breachData(b)})
}

// breachData is what the event of a breach carries.
func breachData(b *guard.Breach) map[string]any {
	data := map[string]any{"sentence": b.Verdict.Sentence, "trigger": b.Verdict.Trigger}
	if e := b.History.Evidence; e != nil {
		data["evidence"], data["needed"] = e.Evidence, e.Needed
	}
	return data
}

// Check runs the verifications of a step; one red one fails it.
func (s *Service) Check(ctx context.Context, roll *rollout.Rollout, traffic bool) error {
	r := s.owner(roll)
	job := CheckJob{File: r.file, Rollout: roll, Traffic: traffic, ErrorRate: r.settings.VerifyErrorRate, Latency: r.settings.VerifyLatency,
		Baseline: baselineOf(roll.Record), WarmUp: config.WarmUp}
	if s.options.Demo {
		job.WarmUp = 0
	}
	records, err := s.ports.Checks.Run(ctx, job)
	r.update(ctx, func(d *domain.Delivery) {
		for i := range d.Stages {
			if d.Stages[i].Name == checkStage(roll.Record.Environment, traffic) {
				d.Stages[i].Checks = records
			}
		}
	})
	if err != nil {
		return err
	}
	for _, c := range records {
		if c.State == "failed" {
			return domain.Errorf(domain.Failed, "check %s: %s", c.Name, c.Message)
		}
	}
	if !traffic && r.file != nil {
		s.ports.Synthetic.Warm(ctx, job)
	}
	return nil
}

func checkStage(env domain.Environment, traffic bool) domain.Stage {
	switch {
	case env == domain.Staging && traffic:
		return domain.VerifyStaging
	case env == domain.Staging:
		return domain.DeployStaging
	case traffic:
		return domain.VerifyProduction
	default:
		return domain.DeployProduction
	}
}

// Lowered lets whoever asked for a rollback know that the traffic has moved.
func (s *Service) Lowered(_ context.Context, roll *rollout.Rollout, _ time.Duration) {
	r := s.owner(roll)
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	lowered := r.lowered[roll.Record.Environment]
	select {
	case <-lowered:
	default:
		close(lowered)
	}
}

// RolledBack tells the end of a rollback.
func (s *Service) RolledBack(ctx context.Context, roll *rollout.Rollout, b *rollout.RolledBack) {
	kind, stage := "rollout.rolled_back", domain.Stage("")
	if roll.Record.By == rehearser {
		kind, stage = "rollout.rehearsed", domain.VerifyStaging
	}
	sentence := b.Error()
	if b.Shifted && !b.Left {
		sentence += "; shift next 0 %, acknowledged by the proxy after " + moment(b.Moved.Seconds())
	}
	if roll.Record.By == rehearser {
		sentence = fmt.Sprintf("rollback rehearsed: back on %s in %s", roll.Stable.Short(), moment(b.Moved.Seconds()))
	}
	data := map[string]any{"sentence": sentence, "took": b.Moved.Seconds(), "left": b.Left, "weight": 0}
	if b.Left {
		delete(data, "weight")
	} else if roll.Stable != nil {
		data["to"] = roll.Stable.Commit
	}
	var breach *guard.Breach
	if errors.As(b.Cause, &breach) && breach.History.Evidence != nil {
		data["evidence"], data["needed"] = breach.History.Evidence.Evidence, breach.History.Evidence.Needed
	}
	s.emit(ctx, domain.Event{Type: kind, App: roll.Record.App, Delivery: roll.Record.Delivery,
		Stage: stage, Environment: roll.Record.Environment, By: roll.Record.By, Data: data})
	if roll.Record.By != rehearser { // its jobs go on
		if err := s.ports.Jobs.End(context.WithoutCancel(ctx), roll.Record.App, roll.Record.Environment, roll.Next.ID); err != nil {
			s.options.Log.Error("end the jobs of a release that was taken back", "release", roll.Next.ID, "error", err)
		}
	}
	r := s.owner(roll)
	if r == nil {
		return
	}
	name := "moved " + string(roll.Record.Environment)
	var moved time.Duration
	if known, err := r.recall(ctx, name, &moved); err == nil && known {
		return
	}
	if err := r.remember(ctx, name, b.Moved); err != nil && !errors.Is(err, journal.ErrSuspended) {
		s.options.Log.Error("keep the rollback's time", "rollout", roll.Record.ID, "error", err)
	}
}

// Page tells that a person is needed.
func (s *Service) Page(ctx context.Context, roll *rollout.Rollout, sentence string) {
	s.options.Log.Error("a person is needed", "app", roll.Record.App, "environment", roll.Record.Environment, "why", sentence)
	s.emit(ctx, domain.Event{Type: "rollout.page", App: roll.Record.App, Delivery: roll.Record.Delivery,
		Environment: roll.Record.Environment, Data: map[string]any{"sentence": sentence}})
}
