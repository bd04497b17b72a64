// Package guard decides whether next hurts users: the fixed triggers, pure over measurements. It reads no clock and does
// no input or output, so that a stored history leads to the same verdict again.
//
// A trigger blames next only when stable does not show the same in the same window: when both fail it is a common cause,
// and the verdict is Hold. Where stable has no traffic to compare with, a trigger acts alone and its sentence says so.
package guard

import (
	"fmt"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// Limits are the settings of the triggers, fixed when the rollout begins.
type Limits struct {
	ErrorRate    float64       `json:"error_rate"`    // fraction of requests
	ErrorFor     time.Duration `json:"error_for"`     // how long it must last
	Latency      float64       `json:"latency"`       // factor on stable's p95
	LatencyFor   time.Duration `json:"latency_for"`   // how long it must last
	LatencyLeast int64         `json:"latency_least"` // requests in that time, else no verdict
	FailedProbes int           `json:"failed_probes"` // in a row
	WarmUp       time.Duration `json:"warm_up"`       // of an instance: counts for no latency trigger
	CrashLoop    int           `json:"crash_loop"`    // restarts during the rollout
	Silence      time.Duration `json:"silence"`       // without a tick, until everything holds
}

// Side is what one release served in one second.
type Side struct {
	Requests int64              `json:"requests,omitempty"`
	Errors   int64              `json:"errors,omitempty"`
	Unserved int64              `json:"unserved,omitempty"`
	Latency  *measure.Histogram `json:"latency,omitempty"`
}

func (s *Side) add(o Side) {
	s.Requests += o.Requests
	s.Errors += o.Errors
	s.Unserved += o.Unserved
	if o.Latency != nil {
		if s.Latency == nil {
			s.Latency = &measure.Histogram{}
		}
		s.Latency.Merge(o.Latency)
	}
}

func (s Side) errorRate() float64 {
	if s.Requests == 0 {
		return 0
	}
	return float64(s.Errors) / float64(s.Requests)
}

// Second is one observed tick of a rollout.
type Second struct {
	At     time.Time `json:"at"`
	Stable Side      `json:"stable"`
	Next   Side      `json:"next"`
}

// Instance is what the probes of one instance said last.
type Instance struct {
	Name     string `json:"name"` // role/index
	Failed   int    `json:"failed"`
	Restarts int    `json:"restarts"`
	// Starting says that it was started and still has time to become healthy.
	Starting bool   `json:"starting,omitempty"`
	Message  string `json:"message,omitempty"`
}

// History is all that a verdict rests on.
type History struct {
	Now     time.Time `json:"now"`
	Since   time.Time `json:"since"`   // first traffic on next
	Started time.Time `json:"started"` // of the youngest instance, on either side
	Last    time.Time `json:"last"`    // end of the newest observed tick
	// Seconds are the observed ticks, oldest first, at least as far back as the longest window.
	Seconds []Second   `json:"seconds"`
	Stable  []Instance `json:"stable"`
	Next    []Instance `json:"next"`
	// BaselineP95 is stable's before the rollout; 0 when it is not known.
	BaselineP95 time.Duration `json:"baseline_p95,omitempty"`
	// Critical lists the critical checks that answered 5xx twice in a row on next.
	Critical []Critical `json:"critical,omitempty"`
}

// Critical is a critical check that fails on next.
type Critical struct {
	Name        string `json:"name"`
	Message     string `json:"message"`
	StableFails bool   `json:"stable_fails"`
}

// Kind is what a verdict says.
type Kind string

// The verdicts.
const (
	Calm     Kind = "watch" // nothing to see; go on
	Hold     Kind = "hold"  // a common cause, or no measurements: nothing shifts up
	RollBack Kind = "roll_back"
)

// Verdict is a decision with its numbers.
type Verdict struct {
	Kind     Kind   `json:"kind"`
	Trigger  string `json:"trigger,omitempty"` // health, errors, latency, critical, crash loop, ticks
	Sentence string `json:"sentence,omitempty"`
}

// Judge applies every trigger. The first that finds harm decides; a hold counts only when none does.
func Judge(l Limits, h History) Verdict {
	verdict := Verdict{Kind: Calm}
	for _, trigger := range []func(Limits, History) Verdict{health, crashLoop, critical, errorRate, latency, silence} {
		switch v := trigger(l, h); v.Kind {
		case RollBack:
			return v
		case Hold:
			if verdict.Kind == Calm {
				verdict = v
			}
		}
	}
	return verdict
}

// health: so many consecutive failed probes of a majority of next's instances, or of one that stays failed after its
// restart.
func health(l Limits, h History) Verdict {
	failed, stayed := 0, false
	message := ""
	for _, i := range h.Next {
		if i.Failed < l.FailedProbes {
			continue
		}
		failed++
		message = i.Name + ": " + i.Message
		stayed = stayed || i.Restarts > 0 && !i.Starting
	}
	if 2*failed <= len(h.Next) && !stayed {
		return Verdict{Kind: Calm}
	}
	sick := 0
	for _, i := range h.Stable {
		if i.Failed >= l.FailedProbes {
			sick++
		}
	}
	what := fmt.Sprintf("%d of %d instances of next failed %d health checks in a row (%s)", failed, len(h.Next),
		l.FailedProbes, message)
	if len(h.Stable) > 0 && 2*sick > len(h.Stable) {
		return Verdict{Hold, "health", what + fmt.Sprintf("; so did %d of %d of stable: a common cause", sick, len(h.Stable))}
	}
	return Verdict{RollBack, "health", what}
}

// crashLoop: an instance of next that was started again and again since the rollout began.
func crashLoop(l Limits, h History) Verdict {
	for _, i := range h.Next {
		if l.CrashLoop > 0 && i.Restarts >= l.CrashLoop {
			return Verdict{RollBack, "crash loop", fmt.Sprintf("%s of next ended %d times by itself (%s)", i.Name, i.Restarts, i.Message)}
		}
	}
	return Verdict{Kind: Calm}
}

// critical: a critical check answered 5xx twice in a row, and stable answers it.
func critical(_ Limits, h History) Verdict {
	verdict := Verdict{Kind: Calm}
	for _, c := range h.Critical {
		if !c.StableFails {
			return Verdict{RollBack, "critical", fmt.Sprintf("the critical check %s failed twice in a row: %s", c.Name, c.Message)}
		}
		verdict = Verdict{Hold, "critical", fmt.Sprintf("the critical check %s fails on both releases: a common cause", c.Name)}
	}
	return verdict
}

// slices is into how many parts a window is cut to see whether a rate lasted through it.
const slices = 5

// lasting adds up the seconds of the last window. It says how many of the slices of the window had traffic, and in how
// many of those the error rate of the side was above limit.
func lasting(h History, window time.Duration, limit float64, side func(Second) Side) (total Side, busy, above int) {
	from := h.Now.Add(-window)
	var parts [slices]Side
	for _, s := range h.Seconds {
		if !s.At.After(from) || s.At.After(h.Now) {
			continue
		}
		part := min(int(s.At.Sub(from)*slices/window), slices-1)
		parts[part].add(Side{Requests: side(s).Requests, Errors: side(s).Errors})
		total.add(side(s))
	}
	for _, p := range parts {
		if p.Requests == 0 {
			continue
		}
		busy++
		if p.errorRate() > limit {
			above++
		}
	}
	return total, busy, above
}

func stableSide(s Second) Side { return s.Stable }
func nextSide(s Second) Side   { return s.Next }

// errorRate: more than so many errors, for so long. The window is cut into five slices; the rate lasted when it was above
// the limit in every slice that had requests, and most had.
func errorRate(l Limits, h History) Verdict {
	if h.Now.Sub(h.Since) < l.ErrorFor {
		return Verdict{Kind: Calm}
	}
	next, busy, above := lasting(h, l.ErrorFor, l.ErrorRate, nextSide)
	if 2*busy <= slices || above < busy {
		return Verdict{Kind: Calm}
	}
	what := fmt.Sprintf("%d of %d requests to next failed in the last %s (limit %s)", next.Errors, next.Requests,
		domain.Span(l.ErrorFor), percent(l.ErrorRate))
	stable, _, _ := lasting(h, l.ErrorFor, l.ErrorRate, stableSide)
	switch {
	case stable.Requests == 0:
		return Verdict{RollBack, "errors", what + "; stable had no traffic to compare with"}
	case stable.errorRate() > l.ErrorRate:
		return Verdict{Hold, "errors", what + fmt.Sprintf("; so did %d of %d to stable: a common cause", stable.Errors, stable.Requests)}
	default:
		return Verdict{RollBack, "errors", what + fmt.Sprintf("; stable had %d of %d", stable.Errors, stable.Requests)}
	}
}

// latency: next's p95 above so many times stable's, for so long, with enough requests. Without traffic on stable the value
// before the rollout is compared with.
func latency(l Limits, h History) Verdict {
	warm := h.Started
	if h.Since.After(warm) {
		warm = h.Since
	}
	if h.Now.Sub(h.Started) < l.WarmUp+l.LatencyFor || h.Now.Sub(warm) < l.LatencyFor {
		return Verdict{Kind: Calm}
	}
	next, _, _ := lasting(h, l.LatencyFor, 1, nextSide)
	if next.Requests < l.LatencyLeast || next.Latency == nil {
		return Verdict{Kind: Calm}
	}
	stable, _, _ := lasting(h, l.LatencyFor, 1, stableSide)
	base, against := h.BaselineP95, "before the rollout; stable had no traffic to compare with"
	if stable.Requests >= l.LatencyLeast && stable.Latency != nil {
		base, against = stable.Latency.Quantile(0.95), "on stable"
	}
	p95 := next.Latency.Quantile(0.95)
	if base <= 0 || float64(p95) <= l.Latency*float64(base) || !latencyLasted(l, h, base) {
		return Verdict{Kind: Calm}
	}
	return Verdict{RollBack, "latency", fmt.Sprintf("p95 of next was %s over the last %s, %s %s (limit %g times)",
		millis(p95), domain.Span(l.LatencyFor), millis(base), against, l.Latency)}
}

// latencyLasted reports whether next was slow in both halves of the window.
func latencyLasted(l Limits, h History, base time.Duration) bool {
	half := h
	for _, end := range []time.Time{h.Now, h.Now.Add(-l.LatencyFor / 2)} {
		half.Now = end
		side, _, _ := lasting(half, l.LatencyFor/2, 1, nextSide)
		if side.Latency == nil || float64(side.Latency.Quantile(0.95)) <= l.Latency*float64(base) {
			return false
		}
	}
	return true
}

// silence: no ticks. No requests is no evidence and no alarm.
func silence(l Limits, h History) Verdict {
	last := h.Last
	if last.Before(h.Since) {
		last = h.Since
	}
	if gone := h.Now.Sub(last); l.Silence > 0 && gone > l.Silence {
		return Verdict{Hold, "ticks", fmt.Sprintf("the proxy has not been measured for %s", gone.Round(time.Second))}
	}
	return Verdict{Kind: Calm}
}

func percent(f float64) string { return fmt.Sprintf("%g %%", f*100) }

func millis(d time.Duration) string {
	return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
}
