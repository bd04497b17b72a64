package delivery

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/rollout"
)

// ladder decides whether a hold that ends upwards may end although there was little traffic. Enough requests without harm
// are enough. With fewer, the app's own flows are sent to next until there were enough of them. Where the file declares
// none, somebody is asked, and when nobody answers in time the rollout goes back.
type ladder struct {
	s    *Service
	run  *run
	roll *rollout.Rollout
	hold rollout.Watch

	mu     sync.Mutex
	rounds int   // of flows
	sent   int   // of them, those that were answered well
	none   bool  // the file declares no flows
	failed error // a flow is red on next and not on stable
	begun  bool
	since  time.Time // of the flows
	shown  string
	// approved is who said that it may go on.
	approved string
	asked    time.Time
	why      string // it was asked
	work     sync.WaitGroup
	stop     context.CancelFunc
}

// flowsWithin is how long the flows may take; then somebody is asked.
const flowsWithin = 10 * time.Minute

// What guard.undecided may say beside the ladder.
const (
	undecidedPromote config.Undecided = "promote"
	undecidedAsk     config.Undecided = "ask"
	undecidedWait    config.Undecided = "wait"
)

// breached is harm that the end of a step shows.
type breached string

func (f breached) Error() string { return string(f) }

// AskedBy names the guard as the one who wants the rollback.
func (breached) AskedBy() string { return "guard" }

func (s *Service) newLadder(r *run, roll *rollout.Rollout, hold rollout.Watch) *ladder {
	return &ladder{s: s, run: r, roll: roll, hold: hold, stop: func() {}}
}

// close ends the flows, and what was shown.
func (l *ladder) close(ctx context.Context) {
	l.stop()
	l.work.Wait()
	l.run.ask(false)
	if l.shown != "" && l.s.life.Err() == nil {
		l.run.goOn(ctx)
	}
}

// enough is asked once a second when the hold is over and nothing is wrong.
func (l *ladder) enough(ctx context.Context, report guard.Report) (bool, error) {
	if why, err := l.firstStep(ctx); err != nil {
		return l.later(ctx, err)
	} else if why != "" {
		yes, err := l.ask(ctx, why)
		if yes && err == nil {
			err = l.run.remember(ctx, beyondKey, true)
		}
		return yes && err == nil, err
	}
	busy := report.Next.Requests >= config.LadderRequests
	if report.Worse() {
		if !report.Judged() && report.ErrorRate() > l.run.settings.Guard.ErrorRate {
			return false, breached(fmt.Sprintf("%s, over the limit of %s through the whole step", strings.TrimPrefix(report.Sentence(), "not proven: "),
				rate(l.run.settings.Guard.ErrorRate)))
		}
		return l.ask(ctx, strings.TrimPrefix(report.Sentence(), "not proven: "))
	}
	if report.Proved() && busy {
		return true, nil
	}
	switch l.run.settings.Undecided {
	case undecidedPromote:
		return true, nil
	case undecidedAsk:
		return l.ask(ctx, fmt.Sprintf("%s had %s and nothing is proven", l.at(), requests(report.Next.Requests)))
	case undecidedWait:
		if !busy && l.shown == "" {
			l.show(ctx, fmt.Sprintf("%s had %s: it waits for %d", l.at(), requests(report.Next.Requests), config.LadderRequests), "the visitors", l.deadline())
		}
		return busy, nil
	}
	if busy {
		return true, nil
	}
	l.flow(ctx)
	l.mu.Lock()
	sent, none, failed, rounds := l.sent, l.none, l.failed, l.rounds
	l.mu.Unlock()
	switch {
	case failed != nil:
		return false, failed
	case none:
		return l.ask(ctx, fmt.Sprintf("%s had %s, and the file declares no flows to send", l.at(), requests(report.Next.Requests)))
	case sent >= config.LadderFlows:
		return true, nil
	case time.Since(l.since) > flowsWithin:
		return l.ask(ctx, fmt.Sprintf("%s had %s, and its own flows were answered well only %d of %d times", l.at(),
			requests(report.Next.Requests), sent, config.LadderFlows))
	}
	if l.shown == "" && rounds > 0 { // once it is known that there are any, and not for each more of them
		l.show(ctx, fmt.Sprintf("%s had %s: the app's own flows are sent to next, %d times each", l.at(), requests(report.Next.Requests),
			config.LadderFlows), "belay", l.since.Add(flowsWithin))
	}
	return false, nil
}

func (l *ladder) at() string {
	t, err := l.s.ports.Traffic.State(l.s.life, l.roll.Record.App, l.roll.Record.Environment)
	if err != nil {
		return "the step"
	}
	return rollout.Percent(t.Weight)
}

func requests(n int64) string {
	if n == 0 {
		return "no requests"
	}
	return plural(int(n), "request")
}

// deadline is when the step fails: its hold, and what the engine adds.
func (l *ladder) deadline() time.Time {
	at := l.hold.From.Add(l.hold.Hold + config.StepSlack)
	if l.hold.Proof {
		at = at.Add(proofWait)
	}
	return at
}

// show tells what is waited for, each time that it changes.
func (l *ladder) show(ctx context.Context, reason, owner string, deadline time.Time) {
	if l.shown == reason {
		return
	}
	l.shown = reason
	l.run.wait(ctx, reason, owner, deadline)
}

// ask waits for somebody's word. What cannot be read or stored at the moment is asked again in the next second.
func (l *ladder) ask(ctx context.Context, why string) (bool, error) {
	if l.asked.IsZero() {
		asked, err := l.run.instant(ctx, fmt.Sprintf("asked %d", l.hold.From.UnixNano()))
		if err != nil {
			return l.later(ctx, err)
		}
		l.asked, l.why = asked, why
		l.run.ask(true)
	}
	l.show(ctx, l.why+fmt.Sprintf(": may it go on? belay approve %d, or belay reject %d", l.run.d.Number, l.run.d.Number),
		l.run.d.ShippedBy, l.asked.Add(config.AskExpire))
	facts, err := l.s.ports.Store.Facts(ctx, l.run.d.App, l.run.d.Number)
	if err != nil {
		return l.later(ctx, err)
	}
	for _, f := range facts {
		if f.Kind == approveFact && (f.Gate == gateEvidence || f.Gate == "") && !f.At.Before(l.asked) {
			l.run.ask(false)
			l.approved = f.By
			return true, nil
		}
	}
	if time.Since(l.asked) > config.AskExpire {
		l.run.ask(false)
		return false, domain.Errorf(domain.Expired, "%s, and nobody said within %s that it may go on", l.why, domain.Span(config.AskExpire))
	}
	return false, nil
}

// tell adds to a finding how the hold ended upwards.
func (l *ladder) tell(f rollout.Finding) rollout.Finding {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.approved != "":
		f.Sentence += "; " + l.approved + " said that it may go on"
	case l.sent >= config.LadderFlows:
		if f.Verdict == guard.NoData {
			f.Sentence = "no visitors came"
		}
		f.Sentence += fmt.Sprintf("; each of the app's own flows was answered well %d times", l.sent)
	}
	return f
}

// later logs what went wrong with the question, and nothing else.
func (l *ladder) later(ctx context.Context, err error) (bool, error) {
	if ctx.Err() == nil {
		l.s.options.Log.Error("ask whether a step may go on", "delivery", l.run.d.Number, "error", err)
	}
	return false, nil
}

// flow sends the flows once a second, beside the guard.
func (l *ladder) flow(ctx context.Context) {
	if l.begun {
		return
	}
	l.begun, l.since = true, time.Now()
	ctx, l.stop = context.WithCancel(ctx)
	job := CheckJob{File: criticalOnly(l.run.file), Rollout: l.roll, Traffic: true}
	l.work.Go(func() {
		second := time.NewTicker(config.LadderEvery)
		defer second.Stop()
		for l.round(ctx, job) {
			select {
			case <-second.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

// round sends each flow once. One that is red on stable too says nothing about next, and does not count.
func (l *ladder) round(ctx context.Context, job CheckJob) (more bool) {
	flows := l.s.ports.Synthetic.Flows(ctx, job)
	if ctx.Err() != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rounds++
	if len(flows) == 0 {
		l.none = true
		return false
	}
	for _, f := range flows {
		switch {
		case f.Failed && f.Shared:
			return true
		case f.Failed:
			l.failed = breached(fmt.Sprintf("the flow %s failed twice on next: %s", f.Name, f.Message))
			return false
		}
	}
	l.sent++
	return l.sent < config.LadderFlows
}

// criticalOnly leaves of a file's checks the critical ones, where there are any: they are what evidence is counted on.
func criticalOnly(f *config.File) *config.File {
	critical := map[string]*config.CheckSpec{}
	for name, c := range f.Verify.Checks {
		if c.Critical {
			critical[name] = c
		}
	}
	if len(critical) == 0 {
		return f
	}
	only := *f
	only.Verify.Checks = maps.Clone(critical)
	return &only
}
