package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/domain"
)

// The variables of a part of a level.
const (
	envShard  = "BELAY_SHARD"       // from 1
	envShards = "BELAY_SHARDS"      // how many there are
	envTests  = "BELAY_SHARD_TESTS" // its files, with spaces between them
	envFile   = "BELAY_SHARD_FILE"  // a file with one of them per line
)

// longestList is the longest list of files that is given in a variable, in bytes: the kernel takes no more than 128 KiB.
const longestList = 100 << 10

// plan is how a level is divided.
type plan struct {
	parts []part
	notes []string
	// bare: a part without any test in it is no fault; pytest ends with 5 then.
	bare     bool
	packages bool // the units are all the packages of Go that there are
}

// part is one of the parts of a level.
type part struct {
	argv   []string // "": the level's command, with the variables of the part
	units  []string // nil: the command divides by itself
	report string   // a pattern that this part alone writes; "": none, or one for all parts
	env    []string
}

// parts runs a level in parallel parts, to the end of each, and puts together what they came to.
func (s *Suite) parts(ctx context.Context, req Request, level Level, env []string) Result {
	refused := func(err error) Result {
		return Result{Level: level.Name, State: Failed, Reason: because(err)}
	}
	root, err := os.OpenRoot(req.Dir)
	if err != nil {
		return refused(err)
	}
	defer func() { _ = root.Close() }()
	p, err := s.plan(ctx, req, level, env, root)
	if err != nil {
		return refused(err)
	}
	clean, err := p.write(root)
	defer clean()
	if err != nil {
		return refused(err)
	}
	shared := &sharedReport{pattern: level.Report, written: map[string]stamp{}}
	if level.Report == "" || p.parts[0].report != "" {
		shared.pattern = ""
	}
	if shared.before, err = look(root, shared.pattern); err != nil {
		return refused(fmt.Errorf("report %s: %w", level.Report, err))
	}
	log := req.Log
	if log == nil {
		log = io.Discard
	}
	req.Log = &locked{w: log}
	outcomes := s.all(ctx, req, level, p, func() { shared.look(root) })
	r := merge(level, p, outcomes, shared, root)
	if r.State == Passed {
		recent, err := s.recent(ctx, req, level)
		if err != nil {
			return refused(err)
		}
		if warning := missing(r.Cases, recent, p.there(req.Dir, root.FS())); warning != "" {
			r.Warnings = append(r.Warnings, warning)
		}
	}
	return r
}

// there tells whether a unit of an earlier run still is: a package or a file among those of the parts, or any file. Where
// the report named neither, it may be.
func (p *plan) there(dir string, fsys fs.FS) func(unit string) bool {
	var units []string
	for _, one := range p.parts {
		units = append(units, one.units...)
	}
	find := locate(units)
	return func(unit string) bool {
		if unit == "" || slices.Contains(units, unit) || find.file(unit) != "" {
			return true
		}
		if p.packages {
			return false // go list would name it
		}
		name := within(dir, unit)
		if fs.ValidPath(name) {
			if _, err := fs.Stat(fsys, name); err == nil {
				return true
			}
		}
		return !strings.Contains(unit, "/") && len(units) == 0 // a class: nobody knows its file
	}
}

// because is an error with its hint.
func because(err error) string {
	if hint := domain.HintOf(err); hint != "" {
		return err.Error() + ": " + hint
	}
	return err.Error()
}

// all runs the parts, no more at once than the machine has processors, and one.
func (s *Suite) all(ctx context.Context, req Request, level Level, p plan, ended func()) []partOutcome {
	deadline := time.Now().Add(level.Timeout)
	free := make(chan struct{}, runtime.NumCPU()+1)
	outcomes := make([]partOutcome, len(p.parts))
	var wait sync.WaitGroup
	for i := range p.parts {
		wait.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			mine, log := level, &prefixed{w: req.Log, prefix: fmt.Sprintf("[%d/%d] ", i+1, len(p.parts))}
			if level.Timeout > 0 {
				mine.Timeout = max(time.Until(deadline), time.Millisecond)
			}
			request := req
			request.Log = log
			outcomes[i] = s.part(ctx, request, mine, p.parts[i], i)
			log.close()
			ended()
		})
	}
	wait.Wait()
	return outcomes
}

// partOutcome is what one part came to.
type partOutcome struct {
	outcome
	took     time.Duration
	warnings []string
	versions []string
}

// part runs one part with services and roles of its own.
func (s *Suite) part(ctx context.Context, req Request, level Level, p part, i int) (o partOutcome) {
	began := time.Now()
	defer func() { o.took = time.Since(began) }()
	env, versions, leave, err := s.surround(ctx, level, p.env, i)
	o.versions = versions
	if err != nil {
		o.ended = err
		return o
	}
	defer func() { o.warnings = append(o.warnings, leave()...) }()
	argv := p.argv
	if argv == nil {
		if argv, err = command.Argv(level.Run, env); err != nil {
			o.ended = err
			return o
		}
	}
	shared := level.Report != "" && p.report == ""
	level.Report = p.report
	o.outcome = s.execute(ctx, req, level, argv, env)
	if shared {
		o.t, o.counted = tally{}, false // the report of all parts counts
	}
	return o
}

// plan divides a level. Go packages and files of pytest are divided without the command's help; any other command takes
// its part from the variables.
func (s *Suite) plan(ctx context.Context, req Request, level Level, env []string, root *os.Root) (plan, error) {
	if !strings.Contains(level.Run, envShard) {
		argv, err := command.Argv(level.Run, env)
		if err != nil {
			return plan{}, err
		}
		if c, ok := parseGo(argv); ok {
			return s.planGo(ctx, req, level, env, c)
		}
		if c, ok := parsePytest(argv, root.FS()); ok {
			return s.planPytest(ctx, req, level, env, c, root.FS())
		}
		return plan{}, domain.Errorf(domain.Invalid, "%d shards: the command does not say which part it runs", level.Shards).
			WithHint("use $BELAY_SHARD_TESTS, or $BELAY_SHARD of $BELAY_SHARDS")
	}
	named := func(name string) bool { // $BELAY_SHARD begins as the longer names do
		return strings.Contains(level.Run, name)
	}
	if !named(envTests) && !named(envFile) {
		p := plan{parts: make([]part, level.Shards)}
		p.finish(level, env)
		return p, nil
	}
	units, notes, err := s.unitsOf(ctx, req, level, env, root.FS())
	if err != nil {
		return plan{}, err
	}
	p := divide(units, level.Shards)
	p.notes = append(p.notes, notes...)
	p.bare = strings.Contains(level.Run, "pytest")
	p.finish(level, env)
	for i := range p.parts {
		if err := p.parts[i].list(named(envTests)); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (s *Suite) recent(ctx context.Context, req Request, level Level) ([]Run, error) {
	if s.Memory == nil {
		return nil, nil
	}
	return s.Memory.Recent(ctx, req.App, level.Name, timedRuns)
}

func itself(name string) string { return name }

func (s *Suite) planGo(ctx context.Context, req Request, level Level, env []string, c goCommand) (plan, error) {
	tested, bare, err := s.packagesOf(ctx, req, level, c, env)
	if err != nil || len(tested) == 0 {
		p := plan{parts: []part{{argv: c.with(c.packages)}}} // go test says best what is wrong with the packages
		if err != nil {
			p.notes = []string{"not divided: " + err.Error()}
		}
		p.finish(level, env)
		return p, nil
	}
	runs, err := s.recent(ctx, req, level)
	if err != nil {
		return plan{}, err
	}
	units := weigh(tested, runs, itself)
	p := divide(units, level.Shards)
	p.packages = true
	for i := range p.parts {
		packages := p.parts[i].units
		if i == 0 {
			packages = slices.Concat(packages, bare) // they are only compiled
		}
		p.parts[i].argv = c.with(packages)
	}
	p.finish(level, env)
	return p, nil
}

func (s *Suite) planPytest(ctx context.Context, req Request, level Level, env []string, c pytestCommand, fsys fs.FS) (plan, error) {
	files, err := c.files(fsys)
	if err != nil {
		return plan{}, err
	}
	if len(files) == 0 {
		p := plan{parts: []part{{}}}
		p.finish(level, env)
		return p, nil
	}
	runs, err := s.recent(ctx, req, level)
	if err != nil {
		return plan{}, err
	}
	p := divide(weigh(files, runs, locate(files).file), level.Shards)
	p.bare = true
	for i := range p.parts {
		report := ""
		if c.junit != "" {
			report = strings.TrimSuffix(c.junit, path.Ext(c.junit)) + "-" + strconv.Itoa(i+1) + path.Ext(c.junit)
		}
		p.parts[i].argv = c.with(p.parts[i].units, report)
		if level.Report != "" {
			p.parts[i].report = report
		}
	}
	p.finish(level, env)
	return p, nil
}

// unitsOf are the units of a command that takes them from a variable: Go packages for a command of Go, else files.
func (s *Suite) unitsOf(ctx context.Context, req Request, level Level, env []string, fsys fs.FS) ([]unit, []string, error) {
	runs, err := s.recent(ctx, req, level)
	if err != nil {
		return nil, nil, err
	}
	words := strings.FieldsFunc(level.Run, func(r rune) bool { return strings.ContainsRune(" \t\n;&|()'\"`", r) })
	if slices.Contains(words, "go") || slices.Contains(base(words), "gotestsum") {
		c, _ := parseGo([]string{"go", "test", "./..."})
		tested, bare, err := s.packagesOf(ctx, req, level, c, env)
		return weigh(slices.Concat(tested, bare), runs, itself), nil, err
	}
	patterns := patternsOf(words)
	if own := pytestSays(fsys, "python_files"); own != nil {
		patterns = append(slices.DeleteFunc(slices.Clone(patterns), func(p string) bool { return slices.Contains(pythonFiles, p) }), own...)
	}
	var known []string
	for _, run := range runs {
		for _, c := range run.Cases {
			known = append(known, within(req.Dir, c.Unit))
		}
	}
	slices.Sort(known)
	files, err := testFiles(fsys, patterns, slices.Compact(known))
	if err != nil {
		return nil, nil, domain.Errorf(domain.Failed, "the files of tests: %w", err)
	}
	mine := ofLevel(files, level.Name, req.Levels)
	var notes []string
	if n := len(files) - len(mine); n > 0 {
		notes = append(notes, fmt.Sprintf("%d files of tests are in folders of other levels", n))
	}
	if len(mine) == 0 {
		return nil, notes, domain.Errorf(domain.Invalid, "no file of tests is named as in %s", strings.Join(patterns, ", ")).
			WithHint("divide in the command, with $BELAY_SHARD of $BELAY_SHARDS")
	}
	return weigh(mine, runs, locate(mine).file), notes, nil
}

// within is a path as seen from dir.
func within(dir, name string) string {
	return path.Clean(strings.TrimPrefix(name, strings.TrimSuffix(dir, "/")+"/"))
}

// divide makes parts of units; never one without a unit, for most tools run everything when they are told nothing.
func divide(units []unit, n int) plan {
	var p plan
	if len(units) < n {
		p.notes = append(p.notes, fmt.Sprintf("%d parts instead of %d: there is no more to divide", len(units), n))
		n = len(units)
	}
	for _, units := range split(units, n) {
		names := make([]string, len(units))
		for i, u := range units {
			names[i] = u.name
		}
		slices.Sort(names)
		p.parts = append(p.parts, part{units: names})
	}
	return p
}

// finish gives each part its variables and its report.
func (p *plan) finish(level Level, env []string) {
	for i := range p.parts {
		one := &p.parts[i]
		one.env = append(slices.Clone(env), fmt.Sprintf("%s=%d", envShard, i+1), fmt.Sprintf("%s=%d", envShards, len(p.parts)))
		if one.report == "" && strings.Contains(level.Report, "$") {
			one.report = os.Expand(level.Report, func(name string) string {
				switch name {
				case envShard:
					return strconv.Itoa(i + 1)
				case envShards:
					return strconv.Itoa(len(p.parts))
				}
				return "$" + name
			})
		}
	}
}

// list puts the files of a part into its environment.
func (p *part) list(inVariable bool) error {
	text := strings.Join(p.units, " ")
	if !inVariable {
		return nil
	}
	for _, name := range p.units {
		if strings.ContainsAny(name, " \t\n*?[\\") {
			return domain.Errorf(domain.Invalid, "%q cannot stand in $%s: the shell would make something else of it", name, envTests).
				WithHint("use $%s, which has one file per line", envFile)
		}
	}
	if len(text) > longestList {
		return domain.Errorf(domain.Invalid, "$%s would be %d KiB long: more than a variable takes", envTests, len(text)>>10).
			WithHint("use $%s, which has one file per line", envFile)
	}
	p.env = append(p.env, envTests+"="+text)
	return nil
}

// write lays down the list of each part; clean takes them away again.
func (p *plan) write(root *os.Root) (clean func(), err error) {
	var names []string
	clean = func() {
		for _, name := range names {
			_ = root.Remove(name) // the next checkout would do it too
		}
	}
	for i := range p.parts {
		if p.parts[i].units == nil {
			continue
		}
		name := fmt.Sprintf(".belay-shard-%d", i+1)
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return clean, err
		}
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return clean, err
		}
		names = append(names, name)
		_, err = f.WriteString(strings.Join(p.parts[i].units, "\n") + "\n")
		if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil { // the build user reads it
			return clean, err
		}
		p.parts[i].env = append(p.parts[i].env, envFile+"="+name) // from the app's folder, as the names in it
	}
	return clean, nil
}
