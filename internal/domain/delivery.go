package domain

import "time"

// Stage names one of the seven mandatory stages.
type Stage string

// The seven stages, in their order.
const (
	Build            Stage = "build"
	Test             Stage = "test"
	DeployStaging    Stage = "deploy staging"
	VerifyStaging    Stage = "verify staging"
	DeployProduction Stage = "deploy production"
	VerifyProduction Stage = "verify production"
	Monitor          Stage = "monitor"
)

// DeliveryState says where a delivery is.
type DeliveryState string

// The states of a delivery. Those from Done on are final.
const (
	Queued          DeliveryState = "queued"
	Running         DeliveryState = "running"
	WaitingState    DeliveryState = "waiting"
	DoneState       DeliveryState = "done"
	FailedState     DeliveryState = "failed"
	RolledBackState DeliveryState = "rolled_back"
	RejectedState   DeliveryState = "rejected" // ended by a person before production
	ExpiredState    DeliveryState = "expired"
	SupersededState DeliveryState = "superseded"
	PendingStage    DeliveryState = "pending" // of a stage only: not begun
)

// Final reports whether nothing more happens to a delivery in this state.
func (s DeliveryState) Final() bool {
	switch s {
	case DoneState, FailedState, RolledBackState, RejectedState, ExpiredState, SupersededState:
		return true
	default:
		return false
	}
}

// Delivery is one commit's way through the seven stages.
type Delivery struct {
	ID      string `json:"id"`     // dly_…
	Number  int    `json:"number"` // runs from 1 within its app
	App     string `json:"app"`
	Commit  string `json:"commit"` // full SHA
	Subject string `json:"subject"`
	Author  string `json:"author"`
	// People are everybody who made the commit or shipped it, by each name and address that is known of them.
	People    []string      `json:"people,omitempty"`
	ShippedBy string        `json:"shipped_by"`
	Folder    string        `json:"folder,omitempty"` // of belay.yaml within the repository; "" is its root
	State     DeliveryState `json:"state"`
	Created   time.Time     `json:"created"`
	Ended     *time.Time    `json:"ended,omitempty"`
	Digest    string        `json:"digest,omitempty"`
	Wait      *Wait         `json:"wait,omitempty"`
	Stages    []StageRecord `json:"stages"` // always all seven, in order
	Gates     []Gate        `json:"gates,omitempty"`
	Checklist []CheckItem   `json:"checklist,omitempty"`
	Loosened  []string      `json:"loosened"`
	// NotInForce lists what the file says and this server does not do yet.
	NotInForce []string `json:"not_in_force,omitempty"`
	Outcome    *Outcome `json:"outcome,omitempty"`
	URL        string   `json:"url,omitempty"`
	// Urgent is why this delivery goes before all others; "" for an ordinary one.
	Urgent string `json:"urgent,omitempty"`
	// From is the address of the running app that this first delivery takes over as stable.
	From string `json:"from,omitempty"`
	// Rehearsal is the rollback as it was rehearsed in staging; nil before it.
	Rehearsal *Rehearsal `json:"rehearsal,omitempty"`
	// Traffic is what stable and next served in the open or last rollout of production.
	Traffic *Traffic `json:"traffic,omitempty"`
}

// Wait says what a delivery waits for. There is no wait without an owner and a deadline.
type Wait struct {
	Reason   string    `json:"reason"`
	Owner    string    `json:"owner"`
	Since    time.Time `json:"since"`
	Deadline time.Time `json:"deadline"`
}

// StageRecord is what happened in one stage.
type StageRecord struct {
	Name    Stage         `json:"name"`
	State   DeliveryState `json:"state"` // pending, running, waiting, done, failed or rolled_back
	Started *time.Time    `json:"started,omitempty"`
	Ended   *time.Time    `json:"ended,omitempty"`
	Summary string        `json:"summary,omitempty"`
	Steps   []StepRecord  `json:"steps,omitempty"`
	Levels  []LevelRecord `json:"levels,omitempty"` // stage test only
	Checks  []CheckRecord `json:"checks,omitempty"`
	Notes   []string      `json:"notes,omitempty"` // declared gaps, things not checked, warnings
}

// StepRecord is one step of a plan and how far it is.
type StepRecord struct {
	Verb     string        `json:"verb"` // start, check, migrate, shift, bake, retire
	Release  Side          `json:"release,omitempty"`
	Instance string        `json:"instance,omitempty"` // role/index
	Weight   *float64      `json:"weight,omitempty"`   // fraction that next gets
	Hold     float64       `json:"hold,omitempty"`     // seconds
	Until    *time.Time    `json:"until,omitempty"`
	Proved   bool          `json:"proved,omitempty"` // it may end earlier, when next is proved no worse
	State    DeliveryState `json:"state"`
	Verdict  string        `json:"verdict,omitempty"`
	Message  string        `json:"message,omitempty"`
	Started  *time.Time    `json:"started,omitempty"`
	Ended    *time.Time    `json:"ended,omitempty"`
	// Evidence of harm and Proof that there is none, of a bake in which somebody judges: as of now, or as it ended. Each counts
	// from its needed number on.
	Evidence    float64 `json:"evidence,omitempty"`
	Needed      float64 `json:"needed,omitempty"`
	Proof       float64 `json:"proof,omitempty"`
	ProofNeeded float64 `json:"proof_needed,omitempty"`
}

// Judge shows what the judge says of a bake.
func (s *StepRecord) Judge(j Judged) {
	s.Evidence, s.Needed, s.Proof, s.ProofNeeded = j.Evidence, j.Needed, j.Proof, j.ProofNeeded
}

// LevelRecord is one level of the test pyramid.
type LevelRecord struct {
	Level    string  `json:"level"` // unit, integration, e2e
	State    string  `json:"state"` // done, failed, none, uncounted
	Reason   string  `json:"reason,omitempty"`
	Passed   int     `json:"passed"`
	Failed   int     `json:"failed"`
	Skipped  int     `json:"skipped"`
	Counted  bool    `json:"counted"`
	Took     float64 `json:"took"` // seconds
	Slowest  string  `json:"slowest,omitempty"`
	SlowTook float64 `json:"slow_took,omitempty"`
	// Slow are its slowest tests, at most five, the slowest first.
	Slow []SlowTest `json:"slow,omitempty"`
	// Cached counts the tests whose results are those of an earlier run, CachedFrom is its delivery: "#141", or "a run
	// before the merge". A level with State done of which all tests are cached did not run.
	Cached     int    `json:"cached,omitempty"`
	CachedFrom string `json:"cached_from,omitempty"`
	// Flaky names tests that ended otherwise before, with the same inputs.
	Flaky []string `json:"flaky,omitempty"`
	// Services are what it ran with, with their versions: "postgres 15.18".
	Services []string `json:"services,omitempty"`
	// Shards is how long each of its parts took, in seconds.
	Shards []float64 `json:"shards,omitempty"`
	// Trend says how it compares with the runs before: time and count.
	Trend    string   `json:"trend,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// CheckRecord is one verification.
type CheckRecord struct {
	Name    string  `json:"name"`
	State   string  `json:"state"` // passed, failed, not checked
	Message string  `json:"message,omitempty"`
	Took    float64 `json:"took"` // seconds
}

// Rehearsal is one rollback and one way forward again in staging, under synthetic load. Times are in seconds.
type Rehearsal struct {
	At time.Time `json:"at"`
	// Moved is the time from the decision to the data plane's acknowledgement; Whole until next was gone.
	Moved float64 `json:"moved"`
	Whole float64 `json:"whole"`
	// Start is how long the instances took to be healthy again: what a rollback to a release that is not warm would take.
	Start    float64 `json:"start"`
	Requests int64   `json:"requests"`       // of the synthetic load meanwhile
	Failed   int64   `json:"failed"`         // of them
	None     string  `json:"none,omitempty"` // why there was no rehearsal
}

// Gate is a condition before Deploy production.
type Gate struct {
	Name   string `json:"name"`
	State  string `json:"state"` // passed, waiting, refused
	Detail string `json:"detail,omitempty"`
	// Owner can change what it waits for, until Expires; both only while it waits.
	Owner   string     `json:"owner,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
	// Need is how many people must agree, Given who did; of the approvals only.
	Need  int        `json:"need,omitempty"`
	Given []Approval `json:"given,omitempty"`
}

// Approval is one person's yes to one artifact.
type Approval struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Digest string    `json:"digest"`
	Reason string    `json:"reason,omitempty"`
}

// CheckItem is one line of the computed pre-production checklist.
type CheckItem struct {
	Item   string `json:"item"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// Outcome is how a delivery ended, computed from what was observed.
type Outcome struct {
	Sentence string `json:"sentence"`
	// Hint says what to do next, where there is something to do.
	Hint     string `json:"hint,omitempty"`
	Requests int64  `json:"requests"`
	// FailedBecause counts the requests that failed because of the delivery.
	FailedBecause   int64    `json:"failed_because_of_delivery"`
	RollbackSeconds *float64 `json:"rollback_seconds"`
	// HarmToRollback is the time from the first failed request on next to the acknowledged rollback.
	HarmToRollback *float64 `json:"harm_to_rollback_seconds,omitempty"`
}

// Traffic compares the two releases of a rollout.
type Traffic struct {
	Stable *SideTraffic `json:"stable,omitempty"`
	Next   *SideTraffic `json:"next,omitempty"`
	// Judged is the judge's word as of the last second; nil when nobody compares them.
	Judged *Judged `json:"judged,omitempty"`
	// Metrics are the app's own metrics and what its processes use, side by side.
	Metrics []Comparison `json:"metrics,omitempty"`
}

// Comparison is one metric of both releases while both serve. It warns at most.
type Comparison struct {
	Metric string `json:"metric"`
	Good   string `json:"good,omitempty"` // up or down; absent: drawn only
	Unit   string `json:"unit,omitempty"`
	// Per says what both numbers are for: a request, an instance, at equal traffic; absent: as they are.
	Per    string  `json:"per,omitempty"`
	Next   float64 `json:"next"`
	Stable float64 `json:"stable"`
	// Change is their difference as a fraction of stable's, Low and High the interval that holds it; absent when not known.
	Change  *float64 `json:"change,omitempty"`
	Low     *float64 `json:"low,omitempty"`
	High    *float64 `json:"high,omitempty"`
	Blocks  int64    `json:"blocks"`            // points that were compared
	Note    string   `json:"note,omitempty"`    // why it cannot be compared
	Warning string   `json:"warning,omitempty"` // what was told of it
}

// Judged is what the judge says of a rollout, with its numbers.
type Judged struct {
	Decision string `json:"decision"` // watch, roll_back, promote, hold, no_data
	Metric   string `json:"metric,omitempty"`
	Sentence string `json:"sentence,omitempty"`
	// Evidence is of harm, Proof that there is none; each counts from its needed number on.
	Evidence    float64 `json:"evidence"`
	Needed      float64 `json:"needed"`
	Proof       float64 `json:"proof"`
	ProofNeeded float64 `json:"proof_needed"`
	// History says that next was compared with what was before: that carries no guarantee.
	History bool `json:"history,omitempty"`
}

// SideTraffic is what one release served. Latencies are in seconds.
type SideTraffic struct {
	Commit   string  `json:"commit"`
	Requests int64   `json:"requests"`
	Errors   int64   `json:"errors"`
	Unserved int64   `json:"unserved"` // of the errors: those that the proxy had to give itself
	P50      float64 `json:"p50"`
	P95      float64 `json:"p95"`
	P99      float64 `json:"p99"`
}

// Event is one fact, numbered in the order in which it was stored.
type Event struct {
	Seq         int64          `json:"seq"`
	At          time.Time      `json:"at"`
	Type        string         `json:"type"` // rollout.shifted, stage.done, …
	App         string         `json:"app"`
	Delivery    int            `json:"delivery,omitempty"`
	Stage       Stage          `json:"stage,omitempty"`
	Environment Environment    `json:"environment,omitempty"`
	By          string         `json:"by,omitempty"`
	Data        map[string]any `json:"data,omitempty"`
}

// AppStatus is what runs where, since when and how it compares with before.
type AppStatus struct {
	App          string              `json:"app"`
	Held         bool                `json:"held"`
	Hold         *Hold               `json:"hold,omitempty"`
	Freeze       *Freeze             `json:"freeze"`
	Environments []EnvironmentStatus `json:"environments"`
	InFlight     []InFlight          `json:"in_flight"`
	Waits        []Wait              `json:"waits"`
}

// Hold is why no release of an app enters production after a rollback, and what lifts it.
type Hold struct {
	Reason   string    `json:"reason"`
	Owner    string    `json:"owner"`
	Since    time.Time `json:"since"`
	Delivery int       `json:"delivery"` // the one that was rolled back
	Bad      Release   `json:"bad"`      // the release that may not come again, without its workloads
	WayOut   string    `json:"way_out"`
}

// Freeze stops what starts Deploy production and every upward shift; never a rollback.
type Freeze struct {
	Reason string     `json:"reason"`
	By     string     `json:"by"`
	Since  time.Time  `json:"since"`
	Until  *time.Time `json:"until,omitempty"`
	App    string     `json:"app,omitempty"` // "" is the whole server
}

// InFlight is a delivery that is not final.
type InFlight struct {
	Delivery int           `json:"delivery"`
	Commit   string        `json:"commit"`
	Stage    Stage         `json:"stage"`
	State    DeliveryState `json:"state"`
	Since    time.Time     `json:"since"`
	// Judged is the judge's word on production as of the last second; nil when nobody compares.
	Judged *Judged `json:"judged,omitempty"`
}

// EnvironmentStatus is one environment of an app. Absent figures are not known, never 0.
type EnvironmentStatus struct {
	Name      Environment      `json:"name"`
	Release   *Release         `json:"release"`
	Delivery  int              `json:"delivery,omitempty"`
	Since     *time.Time       `json:"since,omitempty"`
	Instances Instances        `json:"instances"`
	Detail    []InstanceStatus `json:"detail,omitempty"`
	Now       *Figures         `json:"now,omitempty"`
	Before    *Figures         `json:"before,omitempty"`
	Rollback  RollbackStatus   `json:"rollback"`
	Routes    []string         `json:"routes,omitempty"` // host/path served
	Jobs      []JobStatus      `json:"jobs,omitempty"`   // cron roles
}

// Instances counts the instances of an environment.
type Instances struct {
	Healthy int `json:"healthy"`
	Wanted  int `json:"wanted"`
}

// Figures are rates as fractions and latencies in seconds.
type Figures struct {
	ErrorRate float64 `json:"error_rate"`
	P50       float64 `json:"p50"`
	P95       float64 `json:"p95"`
	P99       float64 `json:"p99"`
	RPS       float64 `json:"rps"`
}

// RollbackStatus says whether one can go back, where to, and how fast.
type RollbackStatus struct {
	Possible bool   `json:"possible"`
	To       string `json:"to,omitempty"` // rel_…
	Commit   string `json:"commit,omitempty"`
	Warm     bool   `json:"warm"`
	Reason   string `json:"reason,omitempty"`
	// Seconds is how long the traffic will take to move, as it was last measured; nil when it never was.
	Seconds *float64 `json:"seconds,omitempty"`
}

// JobStatus is one cron role of an environment.
type JobStatus struct {
	Role string    `json:"role"`
	Next time.Time `json:"next"` // its next tick
	Last *JobRun   `json:"last,omitempty"`
}

// JobRun is what became of one tick of a cron role. It is stored before anything starts, once.
type JobRun struct {
	App         string      `json:"app"`
	Environment Environment `json:"environment"`
	Role        string      `json:"role"`
	Tick        time.Time   `json:"tick"`
	Release     string      `json:"release,omitempty"` // rel_…
	State       JobState    `json:"state"`
	Started     *time.Time  `json:"started,omitempty"`
	Ended       *time.Time  `json:"ended,omitempty"`
	Code        int         `json:"code"` // exit code
	Message     string      `json:"message,omitempty"`
}

// JobState says what became of a tick.
type JobState string

// The states of a tick. All but JobClaimed and JobRunning are final.
const (
	JobClaimed JobState = "claimed" // stored, not started yet
	JobQueued  JobState = "queued"  // waits for the run before it
	JobRunning JobState = "running"
	JobDone    JobState = "done"
	JobFailed  JobState = "failed"
	JobSkipped JobState = "skipped" // the run before it was not over
	JobMissed  JobState = "missed"  // nobody was there to start it
)

// RollbackResult is what a rollback did, observed.
type RollbackResult struct {
	App         string      `json:"app"`
	Environment Environment `json:"environment"`
	From        string      `json:"from"` // commit
	To          string      `json:"to"`   // commit
	Warm        bool        `json:"warm"`
	// Moved is the time from the accepted command to the proxy's acknowledgement, in seconds.
	Moved float64 `json:"moved"`
	// LastRequest is the time from the accepted command to the last new request on the release that left, in seconds.
	LastRequest float64 `json:"last_request"`
	Failed      int64   `json:"failed"`
	Open        int     `json:"open"` // requests that were open on the release that left
	Sentence    string  `json:"sentence"`
}

// Explanation is why a delivery ended as it did, with the numbers of each decision.
type Explanation struct {
	Delivery int      `json:"delivery"`
	App      string   `json:"app"`
	Sentence string   `json:"sentence"`
	Lines    []string `json:"lines"`
	// Replayed says whether the stored ticks lead to the same verdict again.
	Replayed bool   `json:"replayed"`
	Same     bool   `json:"same"`
	Detail   string `json:"detail,omitempty"`
	// Judged is the judge's word when it was decided, or at the end of the last bake of production; nil where nobody judged.
	Judged  *Judged        `json:"judged,omitempty"`
	Metrics []JudgedMetric `json:"metrics,omitempty"` // with any evidence, the guiltiest first
	// Ticks is how many stored ticks the judge heard again. Config names what the release was held to: the same settings have
	// the same name.
	Ticks  int    `json:"ticks,omitempty"`
	Config string `json:"config,omitempty"`
}

// JudgedMetric is one metric's part of what the judge says.
type JudgedMetric struct {
	Metric string `json:"metric"` // errors, latency, errors of GET /checkout, latency of plan=pro
	// Harm is its own evidence, Weight its share of the whole.
	Harm   float64 `json:"harm"`
	Weight float64 `json:"weight"`
	// Ratio is next's rate, or p95, divided by stable's, between Low and High with 95 %; absent when not known.
	Ratio  float64    `json:"ratio,omitempty"`
	Low    float64    `json:"low,omitempty"`
	High   float64    `json:"high,omitempty"`
	Next   JudgedSide `json:"next"`
	Stable JudgedSide `json:"stable"`
}

// JudgedSide is what one release shows of a metric. P95 is in seconds, of a latency only.
type JudgedSide struct {
	Requests int64   `json:"requests"`
	Errors   int64   `json:"errors"`
	P95      float64 `json:"p95,omitempty"`
}
