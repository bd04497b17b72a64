package guard

import (
	"context"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
)

// Samples gives the history of the rollout that is watched. It must not block on the data plane or on any instance.
type Samples interface {
	// History returns what was seen up to now, at least as far back as window.
	History(ctx context.Context, now time.Time, window time.Duration) (History, error)
	// Observed counts the distinct ticks since from. Asked again, it counts on from the same tick, whatever the wall clock
	// did meanwhile.
	Observed(ctx context.Context, from time.Time) (int, error)
	// Totals adds up what both releases served since from.
	Totals(ctx context.Context, from time.Time) (stable, next Side, err error)
}

// Breach is the error of a watch that found harm.
type Breach struct {
	Verdict Verdict
	History History // what the verdict rests on, so that it can be told and checked again
	// Harm is when the first request on next failed; zero when none did.
	Harm time.Time
}

func (b *Breach) Error() string { return b.Verdict.Sentence }

// AskedBy names who wants the rollback: the judge, or the guard by one of its fixed triggers.
func (b *Breach) AskedBy() string {
	if b.Verdict.Trigger == ByJudge {
		return ByJudge
	}
	return "guard"
}

// Watcher watches one rollout, once a second.
type Watcher struct {
	Limits  Limits
	Samples Samples
	// Proved lets a hold end before its time, but not before Soak, once next is proved no worse, had Least requests in this
	// hold, 95 % of the ticks so far were observed, nothing is held and Enough agrees.
	Proved bool
	Soak   time.Duration
	Least  int64
	// Judged is told once a second what the judge says, where one judges.
	Judged func(judge.Verdict)
	// Held is told when the verdict becomes Hold, and with a zero Verdict when it is over.
	Held func(Verdict)
	// Enough is asked once a second when the hold is over, was seen and is calm: false goes on watching, an error ends the
	// watch with it. Without it the hold ends.
	Enough func(Report) (bool, error)
}

// seenShare of its ticks must have been observed before a hold may end.
const seenShare = 0.95

// Watch judges every second from `from` on, also those that passed while nobody watched, and returns a *Breach, the cause
// of ctx, or what it saw when hold is over, at least 95 % of its ticks were observed, the verdict is not Hold and Enough
// agrees. A hold of 0 never ends by itself.
func (w Watcher) Watch(ctx context.Context, from time.Time, hold time.Duration) (Report, error) {
	window := max(w.Limits.ErrorFor, w.Limits.LatencyFor)
	h, err := w.Samples.History(ctx, time.Now(), max(window, time.Since(from)+window))
	if err != nil {
		return Report{}, err
	}
	if b := replay(w.Limits, h, from); b != nil {
		return Report{}, b
	}
	if _, err := w.Samples.Observed(ctx, from); err != nil { // from here on it counts
		return Report{}, domain.Errorf(domain.Failed, "the ticks of the hold cannot be counted: %w", err)
	}
	began := time.Now()
	due := began.Add(hold - began.Sub(from)) // by the monotonic clock from now on
	soaked := due.Add(w.Soak - hold)
	held := false
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		now := time.Now()
		if h, err = w.Samples.History(ctx, now, window); err != nil {
			return Report{}, err
		}
		v := Judge(w.Limits, h)
		if v.Kind == RollBack {
			return Report{}, &Breach{Verdict: v, History: h, Harm: firstHarm(h)}
		}
		if w.Judged != nil && h.Evidence != nil {
			w.Judged(*h.Evidence)
		}
		if w.Held != nil && held != (v.Kind == Hold) {
			w.Held(v)
		}
		held = v.Kind == Hold
		passed := hold + now.Sub(due)
		if hold > 0 && !held && (passed >= hold || w.Proved && !now.Before(soaked) && proved(h)) {
			if report, over, err := w.over(ctx, h, from, min(passed, hold), hold); err != nil || over {
				return report, err
			}
		}
		select {
		case <-second.C:
		case <-ctx.Done():
			return Report{}, context.Cause(ctx)
		}
	}
}

// proved reports whether the judge calls next proved no worse.
func proved(h History) bool { return h.Evidence != nil && h.Evidence.Decision == judge.Promote }

// over reports whether the hold, of which so much has passed, was seen and is enough.
func (w Watcher) over(ctx context.Context, h History, from time.Time, passed, hold time.Duration) (Report, bool, error) {
	seen, err := w.Samples.Observed(ctx, from)
	if err != nil {
		return Report{}, false, domain.Errorf(domain.Failed, "the ticks of the hold cannot be counted: %w", err)
	}
	if float64(seen) < seenShare*passed.Seconds() {
		return Report{}, false, nil
	}
	report := Report{From: from, To: time.Now(), Judge: h.Evidence}
	if report.Stable, report.Next, err = w.Samples.Totals(ctx, from); err != nil {
		return report, false, err
	}
	if early := passed < hold; early && report.Next.Requests < w.Least {
		return report, false, nil
	}
	if w.Enough == nil {
		return report, true, nil
	}
	enough, err := w.Enough(report)
	return report, enough && err == nil, err
}

// replay judges the seconds that passed while nobody watched: harm that came and went again is harm.
func replay(l Limits, h History, from time.Time) *Breach {
	window, first := max(l.ErrorFor, l.LatencyFor), 0
	for n, s := range h.Seconds {
		for !h.Seconds[first].At.After(s.At.Add(-window)) && first < n {
			first++ // a verdict looks at its window only
		}
		if s.At.Before(from) {
			continue
		}
		past := h
		past.Now, past.Last, past.Seconds = s.At, s.At, h.Seconds[first:n+1]
		past.Next, past.Stable, past.Critical = starts(h.Next), starts(h.Stable), nil // their state of now says nothing about then
		past.Evidence = nil                                                           // the judge sees every tick itself, and its word is of now
		if v := Judge(l, past); v.Kind == RollBack {
			harm := past
			harm.Seconds = h.Seconds[:n+1]
			return &Breach{Verdict: v, History: past, Harm: firstHarm(harm)}
		}
	}
	return nil
}

// starts are the instances without what their probes say.
func starts(list []Instance) []Instance {
	past := make([]Instance, 0, len(list))
	for _, i := range list {
		past = append(past, Instance{Name: i.Name, Started: i.Started, Traffic: i.Traffic, Jobs: i.Jobs})
	}
	return past
}

func firstHarm(h History) time.Time {
	for _, s := range h.Seconds {
		if s.Next.Errors > 0 && !s.At.Before(h.Since) {
			return s.At
		}
	}
	return time.Time{}
}
