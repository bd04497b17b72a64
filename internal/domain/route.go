package domain

import "time"

// WeightAll is the weight of all traffic. Weights count in hundredths of a percent: 500 is 5 %.
const WeightAll = 10_000

// Route is what the proxy does with the traffic of one web role of one app in one environment. It is absolute: putting
// the same route twice is the same as putting it once.
type Route struct {
	App         string      `json:"app"`
	Environment Environment `json:"environment"`
	Role        string      `json:"role"`
	Hosts       []string    `json:"hosts"`
	Paths       []string    `json:"paths"`         // prefixes; the longest match wins, also across apps
	TLS         string      `json:"tls,omitempty"` // auto or none
	Split       string      `json:"split"`         // visitor or request
	Sticky      *Sticky     `json:"sticky,omitempty"`

	// Rollout names the open rollout, "" when there is none. Epoch grows with every change; the proxy refuses an older one.
	Rollout string `json:"rollout,omitempty"`
	Epoch   int64  `json:"epoch"`
	// Weight of next, 0 … WeightAll; the rest is stable's.
	Weight int `json:"weight"`
	// Latched is set by a rollback, in the same swap that lowers Weight. The proxy then refuses every raise of this
	// rollout's next.
	Latched bool `json:"latched,omitempty"`
	// LatchedBy says who latched the rollout: serve, or proxy for the dead-man rule.
	LatchedBy string `json:"latched_by,omitempty"`

	Stable *Backend `json:"stable,omitempty"`
	Next   *Backend `json:"next,omitempty"`

	// Endpoints and Segments say what is measured on its own: "METHOD /path" patterns with * for one path segment, and
	// named cookies or headers.
	Endpoints []string           `json:"endpoints,omitempty"`
	Segments  map[string]Segment `json:"segments,omitempty"`
	// Drain is how long open requests on a backend that left the route may go on.
	Drain time.Duration `json:"drain"`

	// Checks is the address of the loopback listener that reaches next only, whatever the weight. The proxy opens it
	// while a route has a next, and fills this in.
	Checks string `json:"checks,omitempty"`
}

// Key names the route: app/environment/role.
func (r Route) Key() string { return r.App + "/" + string(r.Environment) + "/" + r.Role }

// Backend is one release's instances of the role.
type Backend struct {
	Release   string     `json:"release"` // rel_…
	Commit    string     `json:"commit"`
	Instances []Endpoint `json:"instances"`
	// Probe is the path that the proxy itself asks, so that a dead instance gets no traffic even while serve is away.
	Probe string `json:"probe,omitempty"`
}

// Endpoint is one instance as the proxy sees it.
type Endpoint struct {
	Index int    `json:"index"`
	Addr  string `json:"addr"` // host:port
	// Warm is when it has warmed up; zero is at once. Its latencies are marked as cold until then.
	Warm time.Time `json:"warm,omitzero"`
}

// Sticky names the app's own id of a visitor.
type Sticky struct {
	Cookie string `json:"cookie,omitempty"`
	Header string `json:"header,omitempty"`
}

// Segment names where a user segment is read from.
type Segment struct {
	Cookie string `json:"cookie,omitempty"`
	Header string `json:"header,omitempty"`
}

// Side is stable or next.
type Side string

// The two releases of a rollout.
const (
	Stable Side = "stable"
	Next   Side = "next"
)
