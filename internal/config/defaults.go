package config

import "time"

// Every number of the specification stands in this file, once. The reference page quotes them, and a test compares it.

// Durations around an instance.
const (
	// DefaultProbeEvery is the time between two probes of an instance.
	DefaultProbeEvery = 5 * time.Second
	// DefaultProbeTimeout is how long one probe may take.
	DefaultProbeTimeout = 2 * time.Second
	// DefaultStartWithin is how long an instance may take to become healthy.
	DefaultStartWithin = 60 * time.Second
	// DefaultDrain is how long open requests, streams and jobs of a retiring instance may go on.
	DefaultDrain = 30 * time.Second
	// MaxDrain is the longest drain that may be asked for.
	MaxDrain = 15 * time.Minute
	// KillAfter is the time between TERM and KILL.
	KillAfter = 10 * time.Second
	// WebSocketDrain is how long an upgraded connection may go on when its release retires.
	WebSocketDrain = 5 * time.Minute
	// RollbackWebSocketDrain is the same on a rollback, where clients are told to come back.
	RollbackWebSocketDrain = 5 * time.Second
	// MetricsEvery is the time between two scrapes of an instance's metrics.
	MetricsEvery = 5 * time.Second
	// WarmUp is the age below which an instance counts for no latency trigger.
	WarmUp = 60 * time.Second
	// JobTimeout is how long a scheduled job may run.
	JobTimeout = time.Hour
)

// Bounds of a role.
const (
	// DefaultInstances is the number of instances of a role.
	DefaultInstances = 2
	// MinProductionInstances is the least that survives the restart of one.
	MinProductionInstances = 2
	// MaxInstances is the most instances a role may have.
	MaxInstances = 100
	// MaxPort is the highest port.
	MaxPort = 65535
	// MaxNameLength is the longest name of an app or a role.
	MaxNameLength = 40
)

// Build and test.
const (
	// DefaultBuildTimeout is how long a build may take.
	DefaultBuildTimeout = 15 * time.Minute
	// DefaultUnitTimeout is how long the unit tests may take.
	DefaultUnitTimeout = 5 * time.Minute
	// DefaultIntegrationTimeout is how long the integration tests may take.
	DefaultIntegrationTimeout = 15 * time.Minute
	// DefaultE2ETimeout is how long the end-to-end tests may take.
	DefaultE2ETimeout = 30 * time.Minute
	// DefaultShards is the number of parts a level is split into.
	DefaultShards = 1
	// MaxShards is the most parts a level may be split into.
	MaxShards = 64
	// SecretCommandTimeout is how long a command that prints a secret may take.
	SecretCommandTimeout = 10 * time.Second
	// SecretAge is how old a secret may be before it is a finding.
	SecretAge = 180 * 24 * time.Hour
)

// Migrations.
const (
	// DefaultDatabase names the secret with the database's URL.
	DefaultDatabase = "DATABASE_URL"
	// DefaultLockTimeout is how long one try of a migration waits for a lock.
	DefaultLockTimeout = time.Second
	// MaxLockTimeout is the longest wait for a lock that may be asked for.
	MaxLockTimeout = 5 * time.Second
	// DefaultMigrationTimeout is how long the whole migration may take.
	DefaultMigrationTimeout = 15 * time.Minute
)

// Verify and checks.
const (
	// DefaultVerifyErrorRate is the share of next's requests that may fail right after a shift.
	DefaultVerifyErrorRate = 0.01
	// DefaultVerifyLatency is how far next's p95 may be above the baseline.
	DefaultVerifyLatency = 0.20
	// DefaultCheckTimeout is how long a check may take.
	DefaultCheckTimeout = 10 * time.Second
	// DefaultRunCheckTimeout is how long a check that is a command may take.
	DefaultRunCheckTimeout = 5 * time.Minute
	// DefaultCheckStatus is the status an http check expects.
	DefaultCheckStatus = 200
	// CriticalEvery is the time between two probes of a critical check.
	CriticalEvery = 10 * time.Second
	// CriticalFailures is how many answers with 5xx in a row of a critical check roll back.
	CriticalFailures = 2
)

// Gates.
const (
	// DefaultApprovalExpire is how long a delivery waits for its approvals.
	DefaultApprovalExpire = 24 * time.Hour
	// MaxApprovalExpire is the longest wait that may be asked for.
	MaxApprovalExpire = 7 * 24 * time.Hour
)

// Rollout.
const (
	// DefaultStrategy replaces stable by next when the file says nothing.
	DefaultStrategy = Canary
	// DefaultMinSoak is the least time before "proved" may end a step.
	DefaultMinSoak = 2 * time.Minute
	// DefaultStagingHold is how long each hold lasts in staging.
	DefaultStagingHold = 30 * time.Second
	// StepSlack is what a step's deadline adds to its hold.
	StepSlack = 10 * time.Minute
	// CanaryHoldback and BlueGreenHoldback are what stays on stable during Monitor unless the file says otherwise.
	CanaryHoldback    = 0.05
	BlueGreenHoldback = 0.0
	// MaxHoldback is the most that may stay on stable.
	MaxHoldback = 0.50
	// RollbackDeadline is how long a rollback may take before somebody is paged.
	RollbackDeadline = 60 * time.Second
	// RollbackPageEvery is the time between two pages while a rollback does not finish.
	RollbackPageEvery = 5 * time.Minute
)

// DefaultSteps are the shifts of a canary before the last one.
var DefaultSteps = [...]Step{
	{Weight: 0.05, For: 15 * time.Minute},
	{Weight: 0.50, For: 15 * time.Minute},
}

// Guard.
const (
	// DefaultGuardErrorRate and DefaultGuardErrorFor: errors above this share for this long roll back.
	DefaultGuardErrorRate = 0.05
	DefaultGuardErrorFor  = 3 * time.Minute
	// DefaultGuardLatency is the factor over the baseline's p95 that rolls back.
	DefaultGuardLatency = 2.0
	// GuardLatencyFor is how long that factor must hold.
	GuardLatencyFor = 60 * time.Second
	// GuardLatencyRequests is the least number of requests for that trigger.
	GuardLatencyRequests = 100
	// DefaultFailedProbes is how many failed probes in a row roll back.
	DefaultFailedProbes = 2
	// DefaultFalseRollbacks is the chance that a release that is no worse is rolled back.
	DefaultFalseRollbacks = 0.001
	// MaxFalseRollbacks is the highest chance that may be asked for.
	MaxFalseRollbacks = 0.05
	// DefaultMargin is the slowdown above which next does harm.
	DefaultMargin = 0.20
	// DefaultErrorFloor is the difference of error rates below which nothing is harm.
	DefaultErrorFloor = 0.001
	// JudgeBeta is the chance that a release that is worse is called proved.
	JudgeBeta = 0.05
	// JudgeRatio is how many times as frequent errors may be without being harm.
	JudgeRatio = 1.25
	// JudgeGrain is a difference of latency below which nothing is harm: it is the machine's.
	JudgeGrain = 2 * time.Millisecond
	// SlowerRequests is from how many requests on a p95 beyond half of the margin is told.
	SlowerRequests = 1000
	// BlameLooks is into how many looks the chance of a false rollback is divided for the fixed triggers: a hundred in an hour
	// count as different ones, and together they have a twentieth of it.
	BlameLooks = 2000
	// MaxEndpoints is the most endpoints that are judged each on its own.
	MaxEndpoints = 50
	// MaxSegmentValues is the most values of one user segment.
	MaxSegmentValues = 20
)

// Warnings of the app's own metrics and of what its processes use. They change nothing.
const (
	// WarnAlpha is the chance that a metric that is no worse is warned of in one rollout.
	WarnAlpha = 0.05
	// WarnGrain is the difference, as a share of stable's value, below which nothing is warned of.
	WarnGrain = 0.05
	// WarnBlock is how long one point of the comparison takes, at least; after WarnLongest without enough requests it begins again.
	WarnBlock   = 3 * MetricsEvery
	WarnLongest = 10 * time.Minute
	// WarnRequests is the least number of requests of each release in a point.
	WarnRequests = 20
	// WarnLeast is how many points there must be before anything is said; WarnTuned is for how many the interval is narrowest.
	WarnLeast = 30
	WarnTuned = 60
)

// Monitor.
const (
	// DefaultMonitor is the length of Monitor, and how long stable stays warm.
	DefaultMonitor = time.Hour
	// MinMonitor is the shortest Monitor outside the demo.
	MinMonitor = 5 * time.Minute
)

// What is kept.
const (
	// KeepReleases is how many releases of an app are kept, besides every rollback target.
	KeepReleases = 5
	// KeepFor is how long releases are kept at least.
	KeepFor = 30 * 24 * time.Hour
	// LogSize is the size in bytes at which an instance's log is rotated.
	LogSize = 100 * 1000 * 1000
	// LogFiles is how many rotated logs of an instance are kept.
	LogFiles = 3
	// KeepTicks is how long measurements are kept. Those that decided something are kept for ever.
	KeepTicks = 14 * 24 * time.Hour
)

// The proxy.
const (
	// ProxyHeaderTimeout is how long a client may take to send its request's header.
	ProxyHeaderTimeout = 10 * time.Second
	// ProxyHeaderBytes is the largest header of a request.
	ProxyHeaderBytes = 64 << 10
	// DeadManAfter is how long serve may be gone before the proxy itself watches next.
	DeadManAfter = 30 * time.Second
	// DeadManRequests is the least number of requests for that rule.
	DeadManRequests = 20
	// DeadManErrorRate is the share of failures above which it latches a rollback.
	DeadManErrorRate = 0.50
	// TicksInProxy is how long the proxy keeps measurements that nobody has pulled.
	TicksInProxy = 2 * time.Hour
)

// Evidence.
const (
	// EvidenceFor is how long a verification in staging holds.
	EvidenceFor = 24 * time.Hour
	// BakeObserved is the share of a bake's ticks that must have been observed.
	BakeObserved = 0.95
	// AskExpire is how long an undecided step waits for a person.
	AskExpire = 4 * time.Hour
	// LadderRequests of next in a step are enough to go on when there was no harm; with fewer LadderFlows of each of the app's
	// own flows are sent to it, one every LadderEvery.
	LadderRequests = 100
	LadderFlows    = 30
	LadderEvery    = time.Second
	// BaselineFor is how much of the time before a rollout is compared with. Times in which something was built are left out,
	// and for them it looks back BaselineReach at most.
	BaselineFor   = 15 * time.Minute
	BaselineReach = 2 * time.Hour
	// RehearsalLoad is how many synthetic requests a second staging gets while its rollback is rehearsed.
	RehearsalLoad = 50
	// UrgentBake is the longest hold of a step of an urgent delivery.
	UrgentBake = 2 * time.Minute
	// NoTicksHold is the silence of measurements after which nothing shifts up.
	NoTicksHold = 30 * time.Second
)

// The file itself.
const (
	// FileName is the name of the file.
	FileName = "belay.yaml"
	// MaxFileBytes is the largest file that is read.
	MaxFileBytes = 64 << 10
	// MaxLine is the longest line that is read, in characters.
	MaxLine = 4096
	// MaxDepth is the deepest nesting of brackets or of indentation that is read.
	MaxDepth = 64
	// Width is the width in columns for which findings are laid out.
	Width = 100
)

// Parity of the databases' rows.
const (
	// ParityRows is from how many rows of production on staging's are compared: below, nothing depends on their number.
	ParityRows = 1000
	// ParityShare is the part of production's rows that staging holds at least: one in so many.
	ParityShare = 10
)
