package delivery

import (
	"context"
	"io"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/rollout"
)

// Store keeps what must survive. Every save is durable when it returns.
type Store interface {
	EnsureApp(ctx context.Context, app, repository string) error
	Apps(ctx context.Context) ([]string, error)
	// CreateDelivery gives the delivery its number and id; a key that was seen answers with the first one's delivery.
	CreateDelivery(ctx context.Context, d domain.Delivery, key string) (stored domain.Delivery, created bool, err error)
	SaveDelivery(ctx context.Context, d domain.Delivery) error
	Delivery(ctx context.Context, app string, number int) (domain.Delivery, error)
	Deliveries(ctx context.Context, app string, limit int) ([]domain.Delivery, error)
	ActiveDeliveries(ctx context.Context) ([]domain.Delivery, error)

	SaveRelease(ctx context.Context, r domain.Release) error
	Release(ctx context.Context, id string) (domain.Release, error)
	Releases(ctx context.Context, app string, env domain.Environment, limit int) ([]domain.Release, error)
	Slot(ctx context.Context, app string, env domain.Environment) (domain.Slot, error)
	// OpenRollout refuses a second open rollout of an environment.
	OpenRollout(ctx context.Context, r domain.RolloutRecord) (domain.RolloutRecord, error)
	SaveRollout(ctx context.Context, r domain.RolloutRecord) error
	FinishRollout(ctx context.Context, r domain.RolloutRecord, s domain.Slot) error
	SaveSlot(ctx context.Context, s domain.Slot) error
	Rollout(ctx context.Context, id string) (domain.RolloutRecord, error)
	OpenRollouts(ctx context.Context) ([]domain.RolloutRecord, error)
	RolloutsOf(ctx context.Context, app string, delivery int) ([]domain.RolloutRecord, error)

	Lookup(ctx context.Context, run, name string) (record []byte, found bool, err error)
	Save(ctx context.Context, run, name string, record []byte) error

	AppendEvents(ctx context.Context, events ...domain.Event) (int64, error)
	Events(ctx context.Context, after int64, f EventFilter, limit int) ([]domain.Event, error)
	LastEvent(ctx context.Context) (int64, error)
	// Subscribe returns a channel that gets a value after events were stored. A slow reader blocks nobody.
	Subscribe() (wake <-chan struct{}, cancel func())

	PutFact(ctx context.Context, f domain.Fact) error
	Facts(ctx context.Context, app string, delivery int) ([]domain.Fact, error)
	// Hold returns nil when the app is not held.
	Hold(ctx context.Context, app string) (*domain.Hold, error)
	SetHold(ctx context.Context, app string, h domain.Hold) error
	ClearHold(ctx context.Context, app string) error
	Freezes(ctx context.Context) ([]domain.Freeze, error)
	SetFreeze(ctx context.Context, f domain.Freeze) error
	LiftFreeze(ctx context.Context, app string) error
}

// Commit is what git proves about a commit.
type Commit struct {
	SHA        string
	Subject    string
	Author     string
	Committer  string
	Repository string // identity of the repository: its root commit
	// AuthorEmail and CommitterEmail are what the commit says; nobody proves them.
	AuthorEmail, CommitterEmail string
}

// Source is the server's copy of the repositories.
type Source interface {
	// Accept takes a bundle in (nil: the server has the commit) and proves the SHA.
	Accept(ctx context.Context, app, sha string, bundle io.Reader) (Commit, error)
	Have(ctx context.Context, app string) ([]string, error)
	File(ctx context.Context, app, sha, path string) ([]byte, error)
	// Reachable reports whether one of the branches of a remote leads to the commit. The remote is asked: what a person who
	// ships says of branches proves nothing.
	Reachable(ctx context.Context, app, sha, remote string, branches []string) (bool, error)
	// Between says what one commit brings beside another ("" is nothing), and what is new in a folder; it names at most so many.
	Between(ctx context.Context, app, from, to, folder string, most int) (Range, error)
}

// Artifact is what a build made.
type Artifact struct {
	Digest string   `json:"digest"`
	Fixed  string   `json:"fixed"` // folder under which it was built
	Size   int64    `json:"size"`
	Linted int      `json:"linted"`
	Reused int      `json:"reused,omitempty"` // delivery whose artifact this is
	Notes  []string `json:"notes,omitempty"`
}

// Job is what the first two stages work on.
type Job struct {
	Delivery domain.Delivery
	File     *config.File
	Log      io.Writer // masked by whoever gives it
	// Level is told how far the tests are.
	Level func(domain.LevelRecord)
	// Failure is told each test that failed; nil: nobody asks.
	Failure func(Failure)
	// Fresh says that no result of an earlier run may be taken.
	Fresh bool
}

// Builder makes the artifact of a commit once, and reuses it.
type Builder interface {
	Build(ctx context.Context, j Job) (Artifact, error)
	// Admit refuses a digest that is missing, altered or not signed by this server's build.
	Admit(ctx context.Context, app, commit, digest string) error
	// Attest signs what a stage found, over the delivery's digest.
	Attest(ctx context.Context, d domain.Delivery, found StageEvidence) error
	// Evidence returns the signed envelopes about a delivery in the order of their stages, and the key that verifies them (PEM).
	Evidence(ctx context.Context, d domain.Delivery) (publicKey string, envelopes []string, err error)
}

// Tester runs the three levels.
type Tester interface {
	Test(ctx context.Context, j Job, a Artifact) (levels []domain.LevelRecord, notes []string, err error)
}

// Secrets resolves what the file names for one environment: values, and the version of each.
type Secrets interface {
	Resolve(ctx context.Context, app string, f *config.File, env domain.Environment) (map[string]domain.Secret, map[string]int, error)
}

// CheckJob says what is verified.
type CheckJob struct {
	File    *config.File
	Rollout *rollout.Rollout
	Traffic bool // under traffic, else at 0 % through the rollout's own listener
	// Limits of the built-in verifications under traffic.
	ErrorRate, Latency float64
	// Baseline is what stable served before the rollout; nil: whoever checks looks it up.
	Baseline *domain.Figures
	// WarmUp is the age of next's instances from which its response times are judged.
	WarmUp time.Duration
}

// Checks runs verifications. A red one is in the records; the error is for what could not be run.
type Checks interface {
	Run(ctx context.Context, j CheckJob) ([]domain.CheckRecord, error)
}

// Synthetic is load that Belay itself makes, out of the file's own checks of the kinds http and run.
type Synthetic interface {
	// Warm sends requests to next at 0 %, so that what is filled by the first requests is full before visitors come. Their
	// answers judge nothing.
	Warm(ctx context.Context, j CheckJob)
	// Load sends requests through the environment's public routes, as visitors do, so many a second, until stop is called.
	// Stop returns what came back.
	Load(ctx context.Context, j CheckJob, perSecond int) (stop func() Load)
	// Flows runs each flow once against next, whatever its weight. A red one was asked twice. An empty list says that the
	// file declares none.
	Flows(ctx context.Context, j CheckJob) []Flow
}

// Load is what synthetic requests met.
type Load struct {
	Requests, Failed int64
	// Message tells the first failure.
	Message string
}

// Flow is one run of one flow.
type Flow struct {
	Name     string
	Critical bool
	Failed   bool
	Shared   bool // it failed on stable, too
	Message  string
}

// Jobs are the scheduled roles.
type Jobs interface {
	// Status lists them, each with its next tick and its last run.
	Status(ctx context.Context, app string, env domain.Environment) ([]domain.JobStatus, error)
	// End ends what still runs of a release that was taken back.
	End(ctx context.Context, app string, env domain.Environment, release string) error
}

// Measurements is what the proxy counted.
type Measurements interface {
	// Samples returns the history of a rollout for its guard, with its critical checks running until stop is called. What the
	// judge says of c is in it; a Config without Alpha asks no judge.
	Samples(ctx context.Context, r *rollout.Rollout, f *config.File, c judge.Config) (s guard.Samples, stop func())
	// Traffic sums up both releases of a rollout since it began. When the rollout has ended, its last ticks are waited for, a
	// few seconds at most.
	Traffic(r *rollout.Rollout) domain.Traffic
	// Served sums up an environment's requests, and of them those that the proxy itself had to fail, since from.
	Served(app string, env domain.Environment, from time.Time) (requests, unserved int64)
	// Figures are the rates of a release over disjoint spans; nil when there were no requests.
	Figures(app string, env domain.Environment, release string, over ...domain.Period) *domain.Figures
	// Before is what a release served over disjoint spans, minute by minute; nil when there were no requests.
	Before(app string, env domain.Environment, release string, over ...domain.Period) *judge.Before
	// Replay judges the stored ticks of a rollout again, up to the last one that is in stop, and returns the verdict and how
	// many there were. Ticks that are not kept any more are an error that says so.
	Replay(ctx context.Context, rec domain.RolloutRecord, c judge.Config, stop judge.Verdict) (judge.Verdict, int, error)
	// Ticks calls see for each stored tick of a rollout, in order, until it returns an error.
	Ticks(ctx context.Context, rec domain.RolloutRecord, see func(judge.Tick) error) error
}

// Runner gives the delivery what it needs of the running instances.
type Runner interface {
	rollout.Driver
	// Prepare makes the artifact local, so that starting it needs nothing from outside.
	Prepare(ctx context.Context, digest string) error
	// Capacity reckons what the start of a release takes, and refuses what the machine has no room for, with the sum. Surge
	// is how many instances of a role run beside stable's at once; 0 is all of them.
	Capacity(ctx context.Context, r domain.Release, surge int) (sum string, err error)
	Exec(ctx context.Context, inst domain.Instance, argv []string, stdin io.Reader, stdout, stderr io.Writer) (int, error)
	// Logs copies what the instances of a role logged.
	Logs(ctx context.Context, q LogQuery, w io.Writer) error
}

// StageLogs keeps what each stage printed.
type StageLogs interface {
	Open(app string, delivery int, stage domain.Stage) (io.WriteCloser, error)
	Copy(ctx context.Context, q LogQuery, w io.Writer, over func() bool) error
}

// Traffic is the data plane's side.
type Traffic interface {
	rollout.Router
	// LastRequest says when the newest request began on a release, and how many are open.
	LastRequest(ctx context.Context, app string, env domain.Environment, release string) (at time.Time, open int, err error)
}
