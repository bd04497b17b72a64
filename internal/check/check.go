// Package check verifies a release from outside: over http and tcp, by a synthetic flow, or by what its metrics say. A
// check that has nothing to look at is "not checked", which is neither passed nor failed.
package check

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Kind is how a check looks.
type Kind string

// The kinds of a check. None has no source: it is listed so that the gap is seen.
const (
	KindHTTP   Kind = "http"
	KindTCP    Kind = "tcp"
	KindRun    Kind = "run"
	KindMetric Kind = "metric"
	KindState  Kind = "state"
	None       Kind = "none"
)

// The time limits of a check that sets none. A metric's is what the first scrape of an instance may take.
const (
	DefaultTimeout       = 10 * time.Second
	DefaultRunTimeout    = 5 * time.Minute
	DefaultMetricTimeout = 15 * time.Second
)

// DefaultParallel is how many checks run at once.
const DefaultParallel = 8

// Check is one verification. At most one of HTTP, TCP, Run, Metric and Look is set; with none of them it is not checked.
type Check struct {
	Name     string
	Role     string // whose target it needs; for the caller, who gives the target
	Critical bool   // repeated under traffic; two 5xx in a row are a breach
	HTTP     *HTTP
	TCP      string // host:port that must accept a connection
	Run      string // command that must exit 0
	Metric   Expr
	// Until makes a metric check pass as soon as it holds once within its timeout, instead of holding now.
	Until bool
	// Look asks what is known already, such as the state of the instances.
	Look Look
	// NoSource says why nothing is looked at, where no kind is set.
	NoSource string
	// Timeout bounds the whole check. 0: the default of its kind.
	Timeout time.Duration
	// Attempts is how often an http check may connect. 0: twice, the second time after one second. Only a failed connection
	// is tried again: an answer is an answer.
	Attempts int
}

// HTTP is what is sent and what must come back. Redirects are not followed: a 302 is the answer.
type HTTP struct {
	Path    string            // with its query; on the target's base URL
	Method  string            // default GET
	Headers map[string]string // $NAME stands for a variable of the target
	Send    string            // body
	Status  int               // default 200
	Body    string            // must be part of the body's first MiB
	JSON    map[string]string // path such as items.0.id → text of its value; "*": present and not null
	Within  time.Duration     // until the answer was read; 0: the timeout
}

// Expr is a compiled condition over named numbers. Eval asks lookup for each name that it needs; it returns an error when
// one is not known or the condition cannot be computed.
type Expr interface {
	Eval(lookup func(name string) (float64, bool)) (bool, error)
	String() string
}

// Look is one look at what is known. It does not wait.
type Look func(ctx context.Context) Verdict

// Verdict is what a look says now. Again means that a later look may say something else: it is taken again until the
// check's time is over, and then it stands.
type Verdict struct {
	State   State
	Message string
	Again   bool
}

// Exec runs a flow in the app's sandbox. It returns when the command has ended or ctx has, with the end of its output; the
// error is for a command that could not be run at all. It leaves no process behind and may be called concurrently.
type Exec interface {
	Exec(ctx context.Context, cmd Command) (Outcome, error)
}

// Command is one synthetic flow.
type Command struct {
	Check string
	Run   string
	Env   map[string]string
}

// Outcome is how a command ended.
type Outcome struct {
	Code   int
	Output string // the end of stdout and stderr
}

// Target is what is checked.
type Target struct {
	// URL is the base, without a path: of the listener that reaches next only, of the app's host, or of one instance.
	URL string
	// Host is sent as Host header; "": the URL's.
	Host string
	// Env is given to flows, and to headers as $NAME.
	Env map[string]string
	// Traffic says that the release has traffic: metric checks need it.
	Traffic bool
	// Lookup resolves the names of metric checks; nil: there is no source.
	Lookup func(name string) (float64, bool)
	// Absent says why Lookup does not know a name; nil: nobody can say.
	Absent func(name string) Absence
}

// Absence is why a name has no number.
type Absence struct {
	Why   string
	Red   bool // it ought to be there: the check fails
	Final bool // waiting does not bring it
}

// State is how a check came out.
type State string

// The states of a result.
const (
	Passed     State = "passed"
	Failed     State = "failed"
	NotChecked State = "not_checked"
)

// Result is one check's outcome.
type Result struct {
	Name     string        `json:"name"`
	Role     string        `json:"role,omitempty"`
	Kind     Kind          `json:"kind"`
	State    State         `json:"state"`
	Critical bool          `json:"critical,omitempty"`
	Message  string        `json:"message,omitempty"` // what was expected and what came, with the beginning of the body
	Status   int           `json:"status,omitempty"`  // of an http answer
	Attempts int           `json:"attempts"`
	At       time.Time     `json:"at"`
	Took     time.Duration `json:"took"`
}

// Runner runs checks. Its zero value is ready; a run check needs Exec.
type Runner struct {
	Exec Exec
	// Parallel is how many checks run at once; 0: DefaultParallel.
	Parallel int
	// Mask takes secrets out of messages; nil: none are known.
	Mask func(string) string
}

// Job is one check of one target.
type Job struct {
	Check  Check
	Target Target
}

// Run runs all checks on one target, and returns their results in the order of checks.
func (r *Runner) Run(ctx context.Context, checks []Check, target Target) []Result {
	jobs := make([]Job, len(checks))
	for i, c := range checks {
		jobs[i] = Job{c, target}
	}
	return r.RunAll(ctx, jobs)
}

// RunAll runs all jobs, some at once, and returns their results in the order of jobs. When ctx ends the rest fail with its
// cause.
func (r *Runner) RunAll(ctx context.Context, jobs []Job) []Result {
	results := make([]Result, len(jobs))
	r.Each(len(jobs), func(i int) { results[i] = r.One(ctx, jobs[i].Check, jobs[i].Target) })
	return results
}

// Each calls do for 0 … n-1, as many at once as checks may run, and returns when all have ended.
func (r *Runner) Each(n int, do func(i int)) {
	parallel := r.Parallel
	if parallel <= 0 {
		parallel = DefaultParallel
	}
	free := make(chan struct{}, parallel)
	var running sync.WaitGroup
	for i := range n {
		free <- struct{}{}
		running.Go(func() {
			defer func() { <-free }()
			do(i)
		})
	}
	running.Wait()
}

// One runs one check within its timeout.
func (r *Runner) One(ctx context.Context, c Check, target Target) Result {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout(), timeoutError(c.timeout()))
	defer cancel()
	var res Result
	switch c.Kind() {
	case KindHTTP:
		res = r.http(ctx, c, target)
	case KindTCP:
		res = tcp(ctx, c)
	case KindRun:
		res = r.run(ctx, c, target)
	case KindMetric:
		res = metric(ctx, c, target)
	case KindState:
		res = look(ctx, c)
	default:
		res = notChecked(c.NoSource)
	}
	res.Name, res.Role, res.Kind, res.Critical = c.Name, c.Role, c.Kind(), c.Critical
	res.At, res.Took = start.UTC(), time.Since(start)
	if r.Mask != nil {
		res.Message = r.Mask(res.Message)
	}
	res.Message = beginning(res.Message, maxMessage)
	return res
}

// Kind says how c looks.
func (c Check) Kind() Kind {
	switch {
	case c.HTTP != nil:
		return KindHTTP
	case c.TCP != "":
		return KindTCP
	case c.Run != "":
		return KindRun
	case c.Metric != nil:
		return KindMetric
	case c.Look != nil:
		return KindState
	default:
		return None
	}
}

func (c Check) timeout() time.Duration {
	switch {
	case c.Timeout > 0:
		return c.Timeout
	case c.Run != "":
		return DefaultRunTimeout
	case c.Metric != nil:
		return DefaultMetricTimeout
	default:
		return DefaultTimeout
	}
}

// timeoutError is the cause of a check's own time limit, to tell it from a cancelled delivery.
type timeoutError time.Duration

func (e timeoutError) Error() string { return "no answer within " + time.Duration(e).String() }

// FailedOf returns the results that failed.
func FailedOf(results []Result) []Result {
	return slices.DeleteFunc(slices.Clone(results), func(r Result) bool { return r.State != Failed })
}

// Error returns nil when nothing failed, and else one error of code Failed that names each failed check and why.
func Error(results []Result) error {
	failed := FailedOf(results)
	if len(failed) == 0 {
		return nil
	}
	lines := make([]string, len(failed))
	for i, f := range failed {
		lines[i] = f.Name + ": " + f.Message
	}
	noun := "checks"
	if len(failed) == 1 {
		noun = "check"
	}
	return domain.Errorf(domain.Failed, "%d %s of %d failed: %s", len(failed), noun, len(results), strings.Join(lines, "; "))
}

func notChecked(why string) Result {
	if why == "" {
		why = "no source"
	}
	return Result{State: NotChecked, Message: "not checked: " + why}
}
