// Package domain holds the nouns of continuous delivery as Belay uses them, and the error codes that every surface shares.
// It imports the standard library only and does no input or output.
package domain

import (
	"fmt"
	"slices"
	"time"
)

// Environment is where a release runs. There are two.
type Environment string

// The two environments.
const (
	Staging    Environment = "staging"
	Production Environment = "production"
)

// Environments lists both, in the order in which a delivery reaches them.
var Environments = [...]Environment{Staging, Production}

// Valid reports whether e is one of the two environments.
func (e Environment) Valid() bool { return slices.Contains(Environments[:], e) }

// RoleKind says how the instances of a role take part in a rollout.
type RoleKind string

// The kinds of a role.
const (
	Web       RoleKind = "web"       // takes weighted traffic
	Worker    RoleKind = "worker"    // a share of the consumers
	Singleton RoleKind = "singleton" // one instance across releases
	Cron      RoleKind = "cron"      // started once per tick
)

// Release is one artifact with one configuration, one set of secret versions and one schema level in one environment.
// It is rolled back as one.
type Release struct {
	ID          string         `json:"id"` // rel_…
	App         string         `json:"app"`
	Environment Environment    `json:"environment"`
	Delivery    int            `json:"delivery"` // number of the delivery that made it
	Commit      string         `json:"commit"`   // full SHA
	Digest      string         `json:"digest"`   // sha256:… of the image manifest
	Config      string         `json:"config"`   // sha256:… over the workloads without secret values
	Secrets     map[string]int `json:"secrets,omitempty"`
	Schema      int            `json:"schema"`
	Created     time.Time      `json:"created"`
	// Workloads is all that a driver needs to run the release without asking anybody: one per role, by name.
	// Variables that are secret are sealed wherever they are stored.
	Workloads []Workload `json:"workloads"`
	// Fixed is the folder under which the artifact was built and under which its instances see it.
	Fixed string `json:"fixed,omitempty"`
	// External is where an app listens that ran before Belay and was taken over as stable, host:port. Belay sends it traffic,
	// and neither starts nor stops it.
	External string `json:"external,omitempty"`
}

// Short returns the first seven characters of the commit, as people write it.
func (r Release) Short() string { return ShortCommit(r.Commit) }

// Same reports whether two releases are the same artifact, configuration and secret versions.
func (r Release) Same(o Release) bool {
	if r.Digest != o.Digest || r.Config != o.Config || len(r.Secrets) != len(o.Secrets) {
		return false
	}
	for name, version := range r.Secrets {
		if o.Secrets[name] != version {
			return false
		}
	}
	return true
}

// ShortCommit returns the first seven characters of a SHA.
func ShortCommit(sha string) string {
	if len(sha) > 7 {
		return sha[:7]
	}
	return sha
}

// Workload is one role of a release, resolved for one environment.
type Workload struct {
	Role      string            `json:"role"`
	Kind      RoleKind          `json:"kind"`
	Run       string            `json:"run,omitempty"`    // command; empty: the image's own
	Static    string            `json:"static,omitempty"` // folder in the artifact that Belay itself serves
	Port      int               `json:"port,omitempty"`   // fixed port of an image; 0: Belay picks one, in $PORT
	Instances int               `json:"instances"`
	Env       map[string]string `json:"env,omitempty"`     // every variable but those of Belay, secrets among them
	Secrets   []string          `json:"secrets,omitempty"` // names in Env whose values are secret
	Probe     Probe             `json:"probe"`
	Metrics   string            `json:"metrics,omitempty"` // path in Prometheus format
	Jobs      *Jobs             `json:"jobs,omitempty"`
	CPU       float64           `json:"cpu,omitempty"`    // cores; 0: no limit
	Memory    int64             `json:"memory,omitempty"` // bytes; 0: no limit
	Drain     time.Duration     `json:"drain"`            // longest wait for open requests, streams and jobs
	Volumes   map[string]string `json:"volumes,omitempty"`
	Hosts     []string          `json:"hosts,omitempty"`
	Paths     []string          `json:"paths,omitempty"`
	TLS       string            `json:"tls,omitempty"` // auto or none
	// Schedule is when a cron role is started: five cron fields and a zone. Overlap says what happens when it still runs at
	// its next tick, skip or queue; Timeout ends it.
	Schedule string        `json:"schedule,omitempty"`
	Overlap  string        `json:"overlap,omitempty"`
	Timeout  time.Duration `json:"timeout,omitempty"`
	// Split, Sticky, Endpoints and Segments say how the data plane draws and measures this role's traffic: see Route.
	Split     string             `json:"split,omitempty"`
	Sticky    *Sticky            `json:"sticky,omitempty"`
	Endpoints []string           `json:"endpoints,omitempty"`
	Segments  map[string]Segment `json:"segments,omitempty"`
}

// Jobs names the metrics that say how a worker gets on.
type Jobs struct {
	Done   string `json:"done,omitempty"`
	Failed string `json:"failed,omitempty"`
	Lag    string `json:"lag,omitempty"` // seconds
}

// Probe is how Belay learns that an instance is healthy. Exactly one kind is set.
type Probe struct {
	HTTP        string        `json:"http,omitempty"`      // path; 2xx and 3xx are healthy
	TCP         bool          `json:"tcp,omitempty"`       // the port accepts a connection
	Exec        string        `json:"exec,omitempty"`      // command; exit 0 is healthy
	Heartbeat   time.Duration `json:"heartbeat,omitempty"` // $BELAY_HEARTBEAT was touched at least this recently
	Log         string        `json:"log,omitempty"`       // regular expression; a line of the log matches: ready
	Every       time.Duration `json:"every"`
	Timeout     time.Duration `json:"timeout"`
	StartWithin time.Duration `json:"start_within"`
}

// InstanceID names one instance: the n-th of a role of a release.
type InstanceID struct {
	App         string      `json:"app"`
	Environment Environment `json:"environment"`
	Release     string      `json:"release"` // rel_…
	Role        string      `json:"role"`
	Index       int         `json:"index"` // from 0
}

func (i InstanceID) String() string {
	return fmt.Sprintf("%s/%s/%s/%s/%d", i.App, i.Environment, i.Release, i.Role, i.Index)
}

// Instance is what a driver needs to start one instance, and all that it needs.
type Instance struct {
	InstanceID
	Commit   string   `json:"commit"`
	Digest   string   `json:"digest"`
	Fixed    string   `json:"fixed,omitempty"`
	Workload Workload `json:"workload"`
	// OOMScoreAdj is how early the kernel takes this instance when memory runs out.
	OOMScoreAdj int `json:"oom_score_adj"`
}

// InstanceState is what a driver observed of an instance.
type InstanceState string

// The states of an instance.
const (
	Starting  InstanceState = "starting"
	Healthy   InstanceState = "healthy"
	Unhealthy InstanceState = "unhealthy" // runs, but its probe fails
	Crashed   InstanceState = "crashed"   // ended by itself; waits for its restart
	Stopping  InstanceState = "stopping"
	Stopped   InstanceState = "stopped"
)

// InstanceStatus is one observed instance.
type InstanceStatus struct {
	InstanceID
	State    InstanceState `json:"state"`
	Addr     string        `json:"addr,omitempty"` // host:port where it listens; "" for a role without a port
	PID      int           `json:"pid,omitempty"`
	Started  time.Time     `json:"started,omitzero"`
	Restarts int           `json:"restarts"`
	Failed   int           `json:"failed"` // consecutive failed probes
	Message  string        `json:"message,omitempty"`
}

// ProbeResult is one answer of one probe.
type ProbeResult struct {
	Instance InstanceID    `json:"instance"`
	At       time.Time     `json:"at"`
	OK       bool          `json:"ok"`
	Took     time.Duration `json:"took"`
	Restarts int           `json:"restarts"`          // how often the instance had been started again by then
	Message  string        `json:"message,omitempty"` // why it failed, with the beginning of the body
}

// Secret is a value that prints as [redacted] everywhere. Reveal is the only way to its text.
type Secret struct{ value string }

// NewSecret wraps a secret value.
func NewSecret(v string) Secret { return Secret{value: v} }

// Reveal returns the value itself, for the process that needs it.
func (s Secret) Reveal() string { return s.value }

func (Secret) String() string { return "[redacted]" }

// GoString keeps %#v from printing the value.
func (Secret) GoString() string { return "[redacted]" }

// MarshalText keeps every encoder from printing the value.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }
