package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/rollout"
)

// proofWait bounds the ladder of low traffic: flows first, then somebody's word.
const proofWait = config.AskExpire + flowsWithin

// Watch guards a rollout with the limits that were fixed when its delivery began.
func (s *Service) Watch(ctx context.Context, roll *rollout.Rollout, w rollout.Watch) (rollout.Finding, error) {
	r := s.owner(roll)
	samples, stop := s.ports.Measurements.Samples(ctx, roll, r.file, termsOf(roll.Record).Judge)
	defer stop()
	defer s.watchMetrics(ctx, r, roll)()
	steps := s.newLadder(r, roll, w)
	defer steps.close(ctx)
	var held atomic.Bool // by the guard
	heard := &hearing{s: s, run: r, roll: roll.View()}
	watcher := guard.Watcher{Limits: r.settings.Guard, Samples: samples, Proved: w.Proved, Soak: r.settings.Rollout.Soak,
		Least: config.LadderRequests, Held: func(v guard.Verdict) {
			held.Store(v.Kind == guard.Hold)
			steps.shown = "" // a hold is shown instead
			s.held(ctx, roll, v, steps.deadline())
		}}
	watcher.Judged = func(v judge.Verdict) { heard.word(ctx, v) }
	if w.Proof {
		watcher.Enough = func(report guard.Report) (bool, error) { return steps.enough(ctx, report) }
	}
	from := w.From
	if roll.Record.Shifted != nil && roll.Record.Shifted.Before(from) && w.Hold == 0 {
		from = *roll.Record.Shifted
	}
	watched, give := s.giveWay(ctx, r, roll, w, samples, func() bool { return !held.Load() && !heard.loud.Load() })
	defer give()
	report, err := watcher.Watch(watched, from, w.Hold)
	early := errors.Is(err, errGivesWay) && ctx.Err() == nil
	var breach *guard.Breach
	switch {
	case errors.As(err, &breach):
		// What the verdict rests on is kept, so that it can be told and checked again. The flip does not wait for it.
		rec := roll.View() // the rollback changes the record meanwhile
		r.keeping.Go(func() { s.keepBreach(context.WithoutCancel(ctx), rec, r, breach) })
		return rollout.Finding{}, breach
	case early:
		report.From, report.To, report.Judge = from, time.Now(), heard.last
		report.Stable, report.Next, err = samples.Totals(ctx, from)
	}
	if err != nil {
		return rollout.Finding{}, err
	}
	found := steps.tell(rollout.Finding{Verdict: report.Verdict(), Sentence: report.Sentence()})
	if took := report.To.Sub(report.From); w.Proved && report.Proved() && took < w.Hold {
		found.Sentence += fmt.Sprintf("; it ended after %s of %s", domain.Span(took.Round(time.Second)), domain.Span(w.Hold))
	}
	found.Sentence += slower(report.Judge, termsOf(roll.Record).Judge)
	found.Judged = s.keepVerdict(ctx, roll.View(), r, report)
	if early {
		found.Verdict = gaveWay
		found.Sentence = fmt.Sprintf("a newer delivery took over after %s: %s", minutes(report.To.Sub(from)), found.Sentence)
	}
	return found, nil
}
