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
}
