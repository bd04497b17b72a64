package measure

import (
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Tick is what the proxy counted in one second. Ticks are numbered by the proxy's monotonic clock, kept for two hours and
// pulled by number, so that each is counted exactly once however often the puller restarts.
type Tick struct {
	Boot   string    `json:"boot"` // names one life of the proxy; numbers start again at 1 in the next
	N      int64     `json:"n"`
	At     time.Time `json:"at"` // end of the tick by the wall clock: for display only
	Series []Series  `json:"series,omitempty"`
}

// Series is one count of a tick. A request is counted under the release that it was drawn for, even where the other side
// answered it. Endpoint "" and Segment "" is the total of its release.
type Series struct {
	App         string             `json:"app"`
	Environment domain.Environment `json:"environment"`
	Role        string             `json:"role"`
	Rollout     string             `json:"rollout,omitempty"`
	Release     string             `json:"release"`
	Side        domain.Side        `json:"side"`
	Weight      int                `json:"weight"`             // of next, while the tick ran
	Endpoint    string             `json:"endpoint,omitempty"` // METHOD /pattern
	Segment     string             `json:"segment,omitempty"`  // name=value
	Requests    int64              `json:"requests"`
	// Errors counts answers 5xx, resets and upstream timeouts. Unserved are those of them that the proxy had to give
	// itself because no instance could: 502, 503, 504 and broken answers.
	Errors   int64 `json:"errors,omitempty"`
	Unserved int64 `json:"unserved,omitempty"`
	// Latency is the time to the first byte of the answer.
	Latency *Histogram `json:"latency,omitempty"`

	// Drawn counts the draws that fell on this release, in the tick in which they were made; on totals only.
	Drawn int64 `json:"drawn,omitempty"`
	// Units counts each draw once, under this label: a visitor who keeps the cookie has one first error and one first request,
	// however many requests follow. nil where every request is a draw of its own: Errors and Latency are the units then.
	Units *Units `json:"units,omitempty"`
	// Placebo is the part of stable's units that a fake canary of PlaceboShare of its draws has; on stable's totals only.
	Placebo *Units `json:"placebo,omitempty"`
	// Cold says that an instance of the release was in its warm-up; on totals only.
	Cold bool `json:"cold,omitempty"`
}

// Units are counts in which every draw counts once.
type Units struct {
	Drawn   int64      `json:"drawn,omitempty"`   // of a placebo; a release's own are Series.Drawn
	Errors  int64      `json:"errors,omitempty"`  // units whose first error came in this tick
	Latency *Histogram `json:"latency,omitempty"` // of the first request of each unit
}

// PlaceboShare is the share of stable's draws that are the placebo's.
const PlaceboShare = 0.05
