// Package suite runs an app's pyramid of tests, cheapest level first, and counts what really ran. A level is green only
// when its command and its report agree that it is.
package suite

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/domain"
)

// Starter starts roles of the built artifact for one part of a level that needs them. Given are the variables with which
// the tests find them: BELAY_URL of the first role that listens, BELAY_URL_ROLE of each. Env are the level's own variables
// and those of its services: no secret is given to tests, so a role that needs one gets its value there. Stop is called
// exactly once when err is nil, with a context that outlives a cancelled delivery, and leaves nothing.
type Starter interface {
	Start(ctx context.Context, roles, env []string) (given []string, stop func(context.Context) error, err error)
}

// Level is one level of the pyramid.
type Level struct {
	Name   string   `json:"name"` // unit, integration, e2e
	Run    string   `json:"run,omitempty"`
	None   string   `json:"none,omitempty"`   // why there are no such tests; instead of Run
	Report string   `json:"report,omitempty"` // glob of JUnit XML files in Dir; "": go test -json on stdout, if it is there
	Start  []string `json:"start,omitempty"`  // roles that must run beside it
	// Services are what must be there for it, each fresh for the run: "postgres 17".
	Services []string `json:"services,omitempty"`
	// Shards is in how many parallel parts it runs; 0 and 1 are one.
	Shards int `json:"shards,omitempty"`
	// Inputs are files, folders and globs below Dir (or beside it: ../lib) that its result depends on; none: everything of
	// the commit.
	Inputs []string `json:"inputs,omitempty"`
	// Vouched says that Inputs were chosen for this level: its result is used again although it reaches a network.
	Vouched bool          `json:"vouched,omitempty"`
	Env     []string      `json:"env,omitempty"` // KEY=value, added to the suite's
	Timeout time.Duration `json:"timeout"`
}

// Request is what Run needs.
type Request struct {
	App      string
	Commit   string   // full SHA
	Delivery int      // 0: a run before a merge
	Top      string   // of the checkout; "": Dir
	Dir      string   // the app's folder in the checkout
	Env      []string // the whole environment, KEY=value, of every level
	Levels   []Level  // in the order to run them
	Log      io.Writer
	// Files returns the hash of the files that the levels see, narrowed to inputs where there are any; ErrUnprepared when
	// that is not known before Prepare. Nil: no result is used again.
	Files func(ctx context.Context, inputs []string) (string, error)
	// Prepare makes Dir hold what the levels need. It is called before the first level that really runs, and not at all
	// when every result is known. Nil: Dir is ready.
	Prepare func(ctx context.Context) error
	// Fixed is what else results depend on, by name: how commands are confined, the command that builds ("build").
	Fixed map[string]string
	// Roles is what levels with Start start: the artifact's digest, and how its roles are run.
	Roles string
	// Fresh makes every level run; what they come to is remembered all the same.
	Fresh bool
}

// State is how a level ended.
type State string

// The states of a level.
const (
	Passed State = "passed"
	Failed State = "failed"
	Gap    State = "gap"     // declared: there are no such tests
	NotRun State = "not_run" // an earlier level failed
)

// Result is what a level came to.
type Result struct {
	Level    string        `json:"level"`
	State    State         `json:"state"`
	Counted  bool          `json:"counted"` // a report said how many tests ran
	Passed   int           `json:"passed"`
	Failed   int           `json:"failed"`
	Skipped  int           `json:"skipped"`
	Took     time.Duration `json:"took"`
	Slowest  []Slow        `json:"slowest,omitempty"`
	Failures []Failure     `json:"failures,omitempty"` // at most 50; Failed counts them all
	Reason   string        `json:"reason,omitempty"`   // why it is not green, or the declared gap's reason
	Warnings []string      `json:"warnings,omitempty"`
	// Cases are the tests by name, as many as are kept of a run; they are remembered beside the result, not in it.
	Cases []Case `json:"-"`
	// Flaky are the tests that ended otherwise with the same inputs, in this run or in one of the newest before it.
	Flaky []Flake `json:"flaky,omitempty"`
	// Shards is how long each part took, when there was more than one.
	Shards []time.Duration `json:"shards,omitempty"`
	// Services are what it ran with, with their versions.
	Services []string `json:"services,omitempty"`
	// Trend compares its time and its count with the runs before; "" when there is nothing to compare with.
	Trend string `json:"trend,omitempty"`
	// Cached counts the tests whose results are those of earlier runs. Known is set when the level did not run at all:
	// CachedFrom is the delivery that did, "#141", or "a run before the merge". It is "earlier runs" where go's cache
	// answered for some packages.
	Cached     int    `json:"cached,omitempty"`
	CachedFrom string `json:"cached_from,omitempty"`
	Known      bool   `json:"-"`
}

// Pyramid is what a suite came to.
type Pyramid struct {
	Levels   []Result `json:"levels"`
	Warnings []string `json:"warnings,omitempty"` // about its shape
}

// Green reports whether every level passed or is a declared gap, and at least one passed.
func (p Pyramid) Green() bool {
	passed := false
	for _, r := range p.Levels {
		passed = passed || r.State == Passed
		if r.State != Passed && r.State != Gap {
			return false
		}
	}
	return passed
}

// Red returns the level that stopped the suite, or nil.
func (p Pyramid) Red() *Result {
	for i := range p.Levels {
		if p.Levels[i].State == Failed {
			return &p.Levels[i]
		}
	}
	return nil
}

// Suite runs levels.
type Suite struct {
	Runner  command.Runner
	Starter Starter // needed only by levels with Start
	// Services is needed only by levels that have some.
	Services Services
	Memory   Memory // nil: nothing is remembered
	World    *World // what the machine gives; nil: no result is used again
}

// stopWithin is how long started roles have to stop.
const stopWithin = 60 * time.Second

// Run runs the levels in order until one is red; done is called after each, when it is not nil. A red level is no error:
// an error means that the suite was cancelled, or that Dir could not be prepared.
func (s *Suite) Run(ctx context.Context, req Request, done func(Result)) (Pyramid, error) {
	var p Pyramid
	red := false
	req.Log = logOf(req)
	prepare := once(req.Prepare)
	for i, level := range req.Levels {
		r := Result{Level: level.Name, State: NotRun, Reason: "an earlier level failed"}
		switch {
		case level.None != "":
			r.State, r.Reason = Gap, level.None
		case !red:
			var err error
			if r, err = s.remembered(ctx, req, i, prepare); err != nil {
				return p, err
			}
		}
		if err := context.Cause(ctx); err != nil {
			return p, err
		}
		red = red || r.State == Failed
		p.Levels = append(p.Levels, r)
		if done != nil {
			done(r)
		}
	}
	p.Warnings = shape(p.Levels)
	return p, nil
}

func logOf(req Request) io.Writer {
	if req.Log == nil {
		return io.Discard
	}
	return &locked{w: req.Log}
}

// level runs one level and judges it.
func (s *Suite) level(ctx context.Context, req Request, level Level) (r Result) {
	began := time.Now()
	r = Result{Level: level.Name, State: Failed}
	defer func() { r.Took = time.Since(began) }()
	env := append(append(slices.Clone(req.Env), "BELAY_LEVEL="+level.Name), level.Env...)
	if level.Shards > 1 {
		return s.parts(ctx, req, level, env)
	}
	env, versions, leave, err := s.surround(ctx, level, env, 0)
	if err != nil {
		r.Reason = because(err)
		return r
	}
	defer func() { r.Warnings = append(r.Warnings, leave()...) }()
	r = s.command(ctx, req, level, env)
	r.Services = versions
	return r
}

func (s *Suite) start(ctx context.Context, level Level) ([]string, func() error, error) {
	if s.Starter == nil {
		return nil, nil, domain.Errorf(domain.Failed, "nothing here can start roles")
	}
	given, stop, err := s.Starter.Start(ctx, level.Start, level.Env)
	if err != nil {
		return nil, nil, err
	}
	return given, func() error {
		if stop == nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
		defer cancel()
		return stop(ctx)
	}, nil
}

func (s *Suite) command(ctx context.Context, req Request, level Level, env []string) Result {
	argv, err := command.Argv(level.Run, env)
	if err != nil {
		return Result{Level: level.Name, State: Failed, Reason: err.Error()}
	}
	return judged(level, s.execute(ctx, req, level, argv, env))
}

// judged makes a result of what a command and its report came to.
func judged(level Level, o outcome) Result {
	r := Result{Level: level.Name, State: Failed, Counted: o.counted}
	r.fill(o.t)
	r.judge(o.ended, o.report)
	if o.ended != nil && r.Failed == 0 && r.State == Failed {
		r.Reason += o.said
	}
	return r
}

func (r *Result) fill(t tally) {
	r.Passed, r.Failed, r.Skipped, r.Cached = t.Passed, t.Failed, t.Skipped, t.cached
	r.Slowest, r.Failures, r.Cases = t.Slowest, t.Failures, t.Cases
	if t.unkept > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s counted and not remembered by name: a run keeps %d", tests(t.unkept), maxCases))
	}
	r.Flaky = flakes(t.Cases, nil, nil)
	if t.flaky > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s passed only when tried again", tests(t.flaky)))
	}
	if r.Skipped > 0 && r.Passed+r.Failed > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s skipped", tests(r.Skipped)))
	}
}

// judge decides from the command's end and from the report, which must agree.
func (r *Result) judge(ended, report error) {
	switch {
	case ended != nil && r.Failed > 0:
		r.Reason = fmt.Sprintf("%s failed%s", tests(r.Failed), r.first())
		if _, ok := ended.(*command.ExitError); !ok { //nolint:errorlint // not wrapped by contract
			r.Reason += "; " + ended.Error()
		}
	case ended != nil && r.Counted:
		r.Reason = fmt.Sprintf("%s, though its report counts no failure", ended)
	case ended != nil:
		r.Reason = ended.Error()
	case report != nil:
		r.Reason = report.Error()
	case r.Failed > 0:
		r.Reason = fmt.Sprintf("the command exited 0, but its report counts %s as failed", tests(r.Failed))
	case r.Counted && r.Passed == 0 && r.Skipped > 0:
		r.Reason = fmt.Sprintf("0 tests ran: %s skipped", tests(r.Skipped))
	case r.Counted && r.Passed == 0:
		r.Reason = "0 tests ran"
	default:
		r.State = Passed
		if !r.Counted {
			r.Warnings = append(r.Warnings, "uncounted: no report says how many tests ran")
		}
	}
}

// first names the first failure, so that nobody needs the log to know where to look.
func (r *Result) first() string {
	if len(r.Failures) == 0 || r.Failures[0].Name == "" {
		return ""
	}
	f := r.Failures[0]
	text := ": " + f.Name
	if message, _, _ := strings.Cut(strings.TrimSpace(f.Message), "\n"); message != "" {
		text += ": " + message[:min(len(message), lastShown)]
	}
	return strings.ToValidUTF8(text, "")
}

func tests(n int) string {
	if n == 1 {
		return "1 test"
	}
	return fmt.Sprintf("%d tests", n)
}

// shape warns about a pyramid that stands on its head, and about levels that say nothing.
func shape(levels []Result) []string {
	var warnings []string
	for i, upper := range levels {
		if upper.State == Gap {
			warnings = append(warnings, fmt.Sprintf("no %s tests: %s", upper.Level, upper.Reason))
		}
		for _, lower := range levels[:i] {
			if upper.Counted && lower.Counted && upper.Passed+upper.Failed > lower.Passed+lower.Failed {
				warnings = append(warnings, fmt.Sprintf("the pyramid is upside down: %d %s tests on %d %s tests",
					upper.Passed+upper.Failed, upper.Level, lower.Passed+lower.Failed, lower.Level))
			}
		}
	}
	return warnings
}
