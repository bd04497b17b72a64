// Package guard decides whether next hurts users: the judge's word and the fixed triggers, pure over measurements. It reads
// no clock and does no input or output, so that a stored history leads to the same verdict again.
//
// A fixed trigger blames next only when stable does not show the same in the same window: when both fail it is a common cause,
// and the verdict is Hold. Where stable has no traffic to compare with, a trigger acts alone and its sentence says so.
package guard

import (
	"fmt"
	"time"

	"github.com/belay-cd/belay/internal/judge"
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
	// Blame is the chance, for each look, that a fixed trigger blames a release that is no worse than stable beside it; 0 is
	// 1 in 100,000.
	Blame float64 `json:"blame,omitempty"`
}

// Side is what one release served in one second.
type Side struct {
	Requests int64              `json:"requests,omitempty"`
	Errors   int64              `json:"errors,omitempty"` // 5xx, resets and upstream timeouts
	Unserved int64              `json:"unserved,omitempty"`
	Latency  *measure.Histogram `json:"latency,omitempty"`
	// Parts are the requests by endpoint, and once more by each segment's values. Endpoints add up to all requests; what is
	// missing was not told apart.
	Parts []Part `json:"parts,omitempty"`
	// Jobs is what consumers got done; nil when they were not asked in this second, or did not answer.
	Jobs *Jobs `json:"jobs,omitempty"`
}

// Part is one endpoint, METHOD /pattern, or one value of a segment, name=value.
type Part struct {
	Name     string `json:"name"`
	Segment  bool   `json:"segment,omitempty"`
	Requests int64  `json:"requests,omitempty"`
	Errors   int64  `json:"errors,omitempty"`
}

// Jobs is what a release's consumers told since they were asked before.
type Jobs struct {
	Done   int64 `json:"done,omitempty"` // well
	Failed int64 `json:"failed,omitempty"`
	// Lag is how old the oldest job in the queue is, in seconds. The queue is shared: it blames nobody.
	Lag float64 `json:"lag,omitempty"`
}

// Second is one observed tick of a rollout.
type Second struct {
	At     time.Time `json:"at"`
	Weight int       `json:"weight,omitempty"` // of next, in hundredths of a percent
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
	// Started is when it was started last. Traffic says that its role takes requests, Jobs that it consumes jobs which are
	// counted.
	Started time.Time `json:"started,omitzero"`
	Traffic bool      `json:"traffic,omitempty"`
	Jobs    bool      `json:"jobs,omitempty"`
}

// History is all that a verdict rests on.
type History struct {
	Now     time.Time `json:"now"`
	Since   time.Time `json:"since"`   // first traffic on next
	Started time.Time `json:"started"` // of the youngest instance, on either side; for whoever does not tell it of each
	Last    time.Time `json:"last"`    // when the newest tick came
	// Seconds are the observed ticks, oldest first, at least as far back as the longest window.
	Seconds []Second `json:"seconds"`
	// Stable and Next are their instances, without those of scheduled roles.
	Stable []Instance `json:"stable"`
	Next   []Instance `json:"next"`
	// BaselineP95 is stable's before the rollout; 0 when it is not known.
	BaselineP95 time.Duration `json:"baseline_p95,omitempty"`
	// BaselineLag is the highest lag before the rollout in seconds, BaselineParts what stable served of each part.
	BaselineLag   float64 `json:"baseline_lag,omitempty"`
	BaselineParts []Part  `json:"baseline_parts,omitempty"`
	// Critical lists the critical checks that answered 5xx twice in a row on next.
	Critical []Critical `json:"critical,omitempty"`
	// Evidence is what the judge says; nil where nobody judges.
	Evidence *judge.Verdict `json:"evidence,omitempty"`
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
	Trigger  string `json:"trigger,omitempty"` // health, crash loop, critical, judge, errors, jobs, latency, ticks
	Sentence string `json:"sentence,omitempty"`
}

// Judge applies every trigger. The first that finds harm decides; a hold counts only when none does.
func Judge(l Limits, h History) Verdict {
	verdict := Verdict{Kind: Calm}
	for _, trigger := range []func(Limits, History) Verdict{
		health, crashLoop, critical, evidence, errorRate, partRate, jobRate, jobStall, jobLag, latency, silence,
	} {
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

// ByJudge is the trigger of the judge, and the name under which it acts.
const ByJudge = "judge"

// evidence: the judge has enough of it that next is worse, or cannot trust what it sees.
func evidence(_ Limits, h History) Verdict {
	if h.Evidence == nil {
		return Verdict{Kind: Calm}
	}
	switch h.Evidence.Decision { //nolint:exhaustive // the others are calm
	case judge.RollBack:
		return Verdict{RollBack, ByJudge, h.Evidence.Sentence}
	case judge.Hold:
		return Verdict{Hold, ByJudge, h.Evidence.Sentence}
	}
	return Verdict{Kind: Calm}
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
