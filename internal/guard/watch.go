package guard

import (
	"context"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Samples gives the history of the rollout that is watched. It must not block on the data plane or on any instance.
type Samples interface {
	// History returns what was seen up to now, at least as far back as window.
	History(ctx context.Context, now time.Time, window time.Duration) (History, error)
	// Observed counts the distinct ticks since from.
	Observed(ctx context.Context, from time.Time) (int, error)
}

// Breach is the error of a watch that found harm.
type Breach struct {
	Verdict Verdict
	History History // what the verdict rests on, so that it can be told and checked again
	// Harm is when the first request on next failed; zero when none did.
	Harm time.Time
}

func (b *Breach) Error() string { return b.Verdict.Sentence }

// AskedBy names the guard as the one who wants the rollback.
func (b *Breach) AskedBy() string { return "guard" }

// Watcher watches one rollout, once a second.
type Watcher struct {
	Limits  Limits
	Samples Samples
	// Held is told when the verdict becomes Hold, and with a zero Verdict when it is over.
	Held func(Verdict)
}

// seenShare of its ticks must have been observed before a hold may end.
const seenShare = 0.95

// Watch judges every second from `from` on, also those that passed while nobody watched, and returns a *Breach, the cause
// of ctx, or nil when hold is over, at least 95 % of its ticks were observed, and the verdict is not Hold. A hold of 0
// never ends by itself.
func (w Watcher) Watch(ctx context.Context, from time.Time, hold time.Duration) error {
	window := max(w.Limits.ErrorFor, w.Limits.LatencyFor)
	h, err := w.Samples.History(ctx, time.Now(), max(window, time.Since(from)+window))
	if err != nil {
		return err
	}
	if b := replay(w.Limits, h, from); b != nil {
		return b
	}
	held := false
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		now := time.Now()
		if h, err = w.Samples.History(ctx, now, window); err != nil {
			return err
		}
		v := Judge(w.Limits, h)
		if v.Kind == RollBack {
			return &Breach{Verdict: v, History: h, Harm: firstHarm(h)}
		}
		if w.Held != nil && held != (v.Kind == Hold) {
			w.Held(v)
		}
		held = v.Kind == Hold
		if over, err := w.over(ctx, from, hold, now); err != nil || over && !held {
			return err
		}
		select {
		case <-second.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// over reports whether the hold has passed and was seen.
func (w Watcher) over(ctx context.Context, from time.Time, hold time.Duration, now time.Time) (bool, error) {
	if hold <= 0 || now.Before(from.Add(hold)) {
		return false, nil
	}
	seen, err := w.Samples.Observed(ctx, from)
	if err != nil {
		return false, domain.Errorf(domain.Failed, "the ticks of the hold cannot be counted: %w", err)
	}
	return float64(seen) >= seenShare*hold.Seconds(), nil
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
		past.Next, past.Stable, past.Critical = nil, nil, nil // their state of now says nothing about then
		if v := Judge(l, past); v.Kind == RollBack {
			harm := past
			harm.Seconds = h.Seconds[:n+1]
			return &Breach{Verdict: v, History: past, Harm: firstHarm(harm)}
		}
	}
	return nil
}

func firstHarm(h History) time.Time {
	for _, s := range h.Seconds {
		if s.Next.Errors > 0 && !s.At.Before(h.Since) {
			return s.At
		}
	}
	return time.Time{}
}
