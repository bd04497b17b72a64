package delivery

import (
	"context"
	"fmt"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/judge"
)

// Explain tells why a delivery ended as it did, and judges the stored measurements again.
func (s *Service) Explain(ctx context.Context, app string, number int) (domain.Explanation, error) {
	d, err := s.ports.Store.Delivery(ctx, app, number)
	if err != nil {
		return domain.Explanation{}, err
	}
	e := domain.Explanation{Delivery: d.Number, App: app, Same: true}
	if d.Outcome != nil {
		e.Sentence = d.Outcome.Sentence
	} else {
		e.Sentence = fmt.Sprintf("#%d is %s", d.Number, d.State)
	}
	if e.Lines, err = s.decisions(ctx, d); err != nil {
		return e, err
	}
	past := s.newRun(d)
	var stored decision
	decided, err := past.recall(ctx, "decision", &stored)
	if err != nil {
		return e, err
	}
	if decided {
		explainDecision(&e, stored)
	}
	last := kept{Rollout: stored.Rollout}
	if stored.History.Evidence != nil {
		last.Verdict = *stored.History.Evidence
	} else if found, err := past.recall(ctx, verdictKey, &last); err != nil || !found {
		if e.Detail == "" {
			e.Detail = "no trigger acted: there is nothing to judge again"
		}
		return e, err
	}
	return e, s.explainVerdict(ctx, &e, last, decided && stored.Verdict.Trigger != guard.ByJudge)
}

// explainDecision applies the triggers to the stored history once more.
func explainDecision(e *domain.Explanation, stored decision) {
	again := guard.Judge(stored.Limits, stored.History)
	e.Replayed, e.Same = true, again == stored.Verdict
	e.Detail = replayed(len(stored.History.Seconds), e.Same, again.Sentence)
}

// explainVerdict lets a judge hear the stored ticks once more. Beside says that a trigger decided, and not the judge.
func (s *Service) explainVerdict(ctx context.Context, e *domain.Explanation, last kept, beside bool) error {
	e.Judged, e.Metrics = judged(last.Verdict), metricsOf(last.Verdict)
	if last.Verdict.Boot == "" {
		e.Detail = strings.TrimPrefix(e.Detail+"; the judge saw nothing that could be judged again", "; ")
		return nil
	}
	if last.Verdict.Method != judge.Method {
		e.Detail = strings.TrimPrefix(e.Detail+"; the judge's word is not replayed: an earlier version of Belay judged by another method", "; ")
		return nil
	}
	rec, err := s.ports.Store.Rollout(ctx, last.Rollout)
	if err != nil {
		return err
	}
	fixed := termsOf(rec)
	e.Config = fixed.JudgeHash
	again, ticks, err := s.ports.Measurements.Replay(ctx, rec, fixed.Judge, last.Verdict)
	if err != nil {
		e.Detail = strings.TrimPrefix(e.Detail+"; the judge's word is not replayed: "+err.Error(), "; ")
		return ctx.Err()
	}
	same := again.Same(last.Verdict)
	said := replayed(ticks, same, again.Sentence)
	switch {
	case beside:
		e.Detail += "; the judge " + said
	case e.Same || !same: // the guard only repeats his word
		e.Detail = said
	}
	e.Replayed, e.Same, e.Ticks = true, e.Same && same, ticks
	return nil
}

// replayed says what stored ticks came to.
func replayed(ticks int, same bool, sentence string) string {
	if same {
		return fmt.Sprintf("replayed from %s: the same verdict", plural(ticks, "stored tick"))
	}
	return fmt.Sprintf("replayed from %s: another verdict: %s", plural(ticks, "stored tick"), sentence)
}

// metricsOf lists what a verdict says of each metric.
func metricsOf(v judge.Verdict) []domain.JudgedMetric {
	list := make([]domain.JudgedMetric, 0, len(v.Metrics))
	for _, m := range v.Metrics {
		list = append(list, domain.JudgedMetric{Metric: m.Metric, Harm: m.Harm, Weight: m.Weight, Ratio: m.Ratio, Low: m.Low, High: m.High,
			Next:   domain.JudgedSide{Requests: m.Next.Requests, Errors: m.Next.Errors, P95: m.NextP95},
			Stable: domain.JudgedSide{Requests: m.Stable.Requests, Errors: m.Stable.Errors, P95: m.StableP95}})
	}
	return list
}

// decisions lists what was decided, in the order in which it happened.
func (s *Service) decisions(ctx context.Context, d domain.Delivery) ([]string, error) {
	events, err := s.ports.Store.Events(ctx, 0, EventFilter{App: d.App, Delivery: d.Number}, explainDepth)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, e := range events {
		if line := decisionLine(e); line != "" {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// decisionLine tells one event, "" when it decided nothing.
func decisionLine(e domain.Event) string {
	switch e.Type {
	case "check.started", "rollout.shifting", "rollout.retiring", "rollout.interrupted", "stage.started":
		return ""
	}
	if strings.HasPrefix(e.Type, "instance.") {
		return ""
	}
	what := string(e.Stage)
	if gate, ok := e.Data["gate"].(string); ok {
		what = "gate " + gate
	}
	for _, key := range []string{"sentence", "summary", "detail", "step", "message", "reason"} {
		if text, ok := e.Data[key].(string); ok && text != "" {
			if key == "step" {
				text = strings.Join(strings.Fields(text), " ")
			}
			what = strings.TrimPrefix(what+": "+text, ": ")
			break
		}
	}
	_, word, _ := strings.Cut(e.Type, ".")
	return fmt.Sprintf("%s  %-12s %s", e.At.Format("15:04:05"), strings.ReplaceAll(word, "_", " "), what)
}

const explainDepth = 10_000
