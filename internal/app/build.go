package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/belay-cd/belay/internal/build"
	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/evidence"
	"github.com/belay-cd/belay/internal/registry"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/secrets"
	"github.com/belay-cd/belay/internal/source"
	"github.com/belay-cd/belay/internal/suite"
)

// builder runs stages 1 and 2 in a checkout at one fixed folder per app, confined to the app's build user.
type builder struct {
	runner  *runner
	store   *registry.Store
	gate    *evidence.Gate
	secrets *resolver
}

// passed lists the variables of the daemon that builds may see: how to reach what they download.
var passed = []string{
	"PATH", "LANG", "TZ", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE",
	"SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOFLAGS", "GOTOOLCHAIN", "JAVA_HOME",
	"NPM_CONFIG_REGISTRY", "npm_config_registry", "PIP_INDEX_URL",
}

// place is where one app is built.
type place struct {
	sandbox.Workshop
	dir   string // the app's folder in the checkout
	built string // file that names the commit whose build left its files in the checkout
}

func (b *builder) place(ctx context.Context, d domain.Delivery) (place, error) {
	account, err := b.runner.accounts.Of(ctx, d.App, sandbox.Build)
	if err != nil {
		return place{}, err
	}
	p := place{Workshop: sandbox.Workshop{Data: b.runner.data, Home: os.Getenv("HOME"), Path: os.Getenv("PATH"), App: d.App, Account: account, Cgroups: b.runner.Workshop()}}
	p.dir = filepath.Join(p.Src(), filepath.FromSlash(d.Folder))
	p.built = filepath.Join(filepath.Dir(p.Src()), "built")
	return p, p.Make()
}

// env is the environment of builds and tests. No secret is in it, and nothing that changes from one build of a commit to
// the next.
func (p place) env(d domain.Delivery) []string {
	extra := map[string]string{
		"CI": "true", "BELAY_APP": d.App, "BELAY_COMMIT": d.Commit,
		"GIT_CEILING_DIRECTORIES": p.Data, // the checkout is no repository, nor in one
	}
	for _, name := range passed {
		if v, ok := os.LookupEnv(name); ok {
			extra[name] = v
		}
	}
	return p.Spec("", nil, extra).Env
}

// confined runs an app's commands as its build user.
type confined struct {
	box   *sandbox.Sandbox
	place place
}

// Run runs one command to its end.
func (c confined) Run(ctx context.Context, cmd command.Cmd) error {
	if cmd.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cmd.Timeout, &command.TimeoutError{After: cmd.Timeout})
		defer cancel()
	}
	spec := c.place.Spec("", cmd.Argv, nil)
	spec.Dir, spec.Env = cmd.Dir, cmd.Env
	ex, err := c.box.Command(ctx, spec)
	if err != nil {
		return err
	}
	return wait(ctx, ex, cmd.Stdout, cmd.Stderr)
}

// wait runs a confined command to its end. When ctx ends everything that it started is gone.
func wait(ctx context.Context, cmd *exec.Cmd, stdout, stderr io.Writer) error {
	defer func() {
		for _, f := range cmd.ExtraFiles {
			_ = f.Close()
		}
	}()
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = stdout, stderr, command.Grace
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &exit):
		status, _ := exit.Sys().(syscall.WaitStatus)
		failed := &command.ExitError{Code: exit.ExitCode()}
		if status.Signaled() {
			failed.Signal = status.Signal()
		}
		return failed
	case errors.Is(err, exec.ErrWaitDelay):
		return nil // it ended; something that it left behind kept the output open
	default:
		return err
	}
}

// Build makes the artifact of a commit, or finds that it was made before.
func (b *builder) Build(ctx context.Context, j delivery.Job) (delivery.Artifact, error) {
	d := j.Delivery
	p, err := b.place(ctx, d)
	if err != nil {
		return delivery.Artifact{}, err
	}
	commit, tracked, err := b.checkout(ctx, d, j.File, p)
	if err != nil {
		return delivery.Artifact{}, err
	}
	log := secrets.NewMasker(b.secrets.known(d.App)...).Writer(j.Log)
	defer func() { _ = log.Close() }()
	made := b.builder(p, d.App)
	res, err := made.Build(ctx, request(j, p, commit, tracked, log))
	if err != nil {
		return delivery.Artifact{}, err
	}
	a := delivery.Artifact{Digest: res.Digest, Fixed: res.Fixed, Size: res.Size, Notes: res.Warnings}
	if res.Reused {
		a.Reused, a.Linted = res.Artifact.Delivery, len(j.File.Build.Lint)
		return a, nil
	}
	for _, c := range res.Commands {
		if c.Purpose == "lint" && c.Failed == "" {
			a.Linted++
		}
	}
	return a, os.WriteFile(p.built, []byte(d.Commit), 0o600)
}

func (b *builder) builder(p place, app string) *build.Builder {
	records := build.Folder(filepath.Join(b.runner.data, "work", app, "records"))
	return &build.Builder{Runner: confined{b.runner.box, p}, Store: b.store, Records: records}
}

func request(j delivery.Job, p place, commit source.Commit, tracked []string, log io.Writer) build.Request {
	d, spec := j.Delivery, j.File.Build
	return build.Request{
		App: d.App, Commit: d.Commit, Tree: commit.Tree, Time: commit.Time, Dir: p.dir, Tracked: tracked,
		Lint: commandTexts(spec.Lint), Run: spec.Run.Text, Files: pathTexts(spec.Files), Cache: pathTexts(spec.Cache),
		Roles: roleCommands(j.File), Env: p.env(d), Timeout: spec.Timeout.D(), Delivery: d.Number, Log: log,
	}
}

// checkout lays the commit out afresh.
func (b *builder) checkout(ctx context.Context, d domain.Delivery, f *config.File, p place) (source.Commit, []string, error) {
	repo := repoDir(b.runner.data, d.App)
	commit, err := source.Lookup(ctx, repo, d.Commit)
	if err != nil {
		return commit, nil, err
	}
	if err := os.Remove(p.built); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return commit, nil, err
	}
	var keep []string
	for _, c := range f.Build.Cache {
		keep = append(keep, filepath.ToSlash(filepath.Join(d.Folder, string(c))))
	}
	err = source.Checkout(ctx, repo, d.Commit, p.Src(), source.Options{Keep: keep, UID: p.Account.UID, GID: p.Account.GID})
	if err != nil {
		return commit, nil, err
	}
	tracked, err := source.Files(ctx, repo, d.Commit, d.Folder)
	return commit, tracked, err
}

// Test runs the three levels in the checkout that was built.
func (b *builder) Test(ctx context.Context, j delivery.Job, a delivery.Artifact) ([]domain.LevelRecord, []string, error) {
	d := j.Delivery
	p, err := b.place(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	log := secrets.NewMasker(b.secrets.known(d.App)...).Writer(j.Log)
	defer func() { _ = log.Close() }()
	if err := b.prepare(ctx, j, p, log); err != nil {
		return nil, nil, err
	}
	s := &suite.Suite{Runner: confined{b.runner.box, p}, Starter: &starter{b.runner, j, a}}
	var levels []domain.LevelRecord
	pyramid, err := s.Run(ctx, suite.Request{Dir: p.dir, Env: p.env(d), Levels: levelsOf(j.File), Log: log}, func(r suite.Result) {
		levels = append(levels, levelRecord(r))
		j.Level(levelRecord(r))
	})
	if err != nil {
		return levels, pyramid.Warnings, err
	}
	return levels, pyramid.Warnings, redLevel(pyramid)
}

// prepare makes sure that the checkout holds what the build of this commit left in it. A reused artifact, or another
// delivery in between, means that it does not.
func (b *builder) prepare(ctx context.Context, j delivery.Job, p place, log io.Writer) error {
	if text, err := os.ReadFile(p.built); err == nil && string(text) == j.Delivery.Commit {
		return nil
	}
	commit, tracked, err := b.checkout(ctx, j.Delivery, j.File, p)
	if err != nil || j.File.Build.Run.Zero() {
		return err
	}
	_, _ = fmt.Fprintln(log, "the artifact is reused; build.run prepares the tests only")
	if _, err := b.builder(p, j.Delivery.App).Prepare(ctx, request(j, p, commit, tracked, log)); err != nil {
		return err
	}
	return os.WriteFile(p.built, []byte(j.Delivery.Commit), 0o600)
}

func redLevel(p suite.Pyramid) error {
	red := p.Red()
	if red == nil {
		return nil
	}
	text := red.Reason
	for i, f := range red.Failures {
		if i == 3 {
			text += fmt.Sprintf("; and %d more", red.Failed-i)
			break
		}
		text += "; " + f.Name
		if f.Message != "" {
			text += ": " + firstLine(f.Message)
		}
	}
	return domain.Errorf(domain.Failed, "%s: %s", red.Level, text).WithHint("belay logs --stage test shows all of it")
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

func levelRecord(r suite.Result) domain.LevelRecord {
	l := domain.LevelRecord{Level: r.Level, State: "failed", Reason: r.Reason, Passed: r.Passed, Failed: r.Failed,
		Skipped: r.Skipped, Counted: r.Counted, Took: r.Took.Seconds()}
	switch r.State {
	case suite.Passed:
		l.State = "done"
	case suite.Gap:
		l.State = "none"
	case suite.NotRun:
		l.State = "pending"
	}
	if len(r.Slowest) > 0 {
		l.Slowest, l.SlowTook = r.Slowest[0].Name, r.Slowest[0].Took.Seconds()
	}
	return l
}

func levelsOf(f *config.File) []suite.Level {
	var levels []suite.Level
	for _, l := range f.Test.Level() {
		level := suite.Level{Name: l.Name, Run: l.Level.Run.Text, None: string(l.Level.None), Report: string(l.Level.Report),
			Timeout: time.Duration(l.Level.Timeout)}
		for _, r := range l.Level.Start {
			level.Start = append(level.Start, string(r))
		}
		for k, v := range l.Level.Env {
			level.Env = append(level.Env, k+"="+string(v))
		}
		levels = append(levels, level)
	}
	return levels
}

// starter runs roles of the built artifact for the tests of a level.
type starter struct {
	runner   *runner
	job      delivery.Job
	artifact delivery.Artifact
}

// tested is the environment of instances that only tests talk to.
const tested domain.Environment = "test"

// Start starts one instance of each role and waits until it is healthy.
// Env are variables of the level: they stand above the file's own.
func (s *starter) Start(ctx context.Context, roles, env []string) (string, func(context.Context) error, error) {
	rel := domain.Release{ID: "rel_test", App: s.job.Delivery.App, Environment: tested, Commit: s.job.Delivery.Commit,
		Digest: s.artifact.Digest, Fixed: s.artifact.Fixed, Workloads: config.Workloads(s.job.File, domain.Staging)}
	var started []domain.InstanceID
	stop := func(ctx context.Context) error {
		var errs []error
		for _, id := range started {
			errs = append(errs, s.runner.Stop(ctx, id), s.runner.Remove(ctx, id))
		}
		return errors.Join(errs...)
	}
	if err := s.runner.Prepare(ctx, rel.Digest); err != nil {
		return "", stop, err
	}
	url := ""
	for _, role := range roles {
		inst := rollout.InstanceOf(&rel, role, 0)
		inst.OOMScoreAdj = oomBuild
		inst.Workload.Env = withLevel(inst.Workload.Env, env)
		started = append(started, inst.InstanceID)
		status, err := s.runner.Start(ctx, inst)
		if err != nil {
			err = fmt.Errorf("%w%s", err, withoutSecrets(inst.Workload))
			return "", stop, errors.Join(err, stop(context.WithoutCancel(ctx)))
		}
		if url == "" && status.Addr != "" {
			url = "http://" + status.Addr
		}
	}
	return url, stop, nil
}

// withLevel returns a role's variables with those of a test level above them.
func withLevel(env map[string]string, level []string) map[string]string {
	all := maps.Clone(env)
	if all == nil {
		all = map[string]string{}
	}
	for _, pair := range level {
		name, value, _ := strings.Cut(pair, "=")
		all[name] = value
	}
	return all
}

// withoutSecrets names the secrets that a role did not get, which is a likely reason why it does not start in a test.
func withoutSecrets(w domain.Workload) string {
	var missing []string
	for _, name := range w.Secrets {
		if w.Env[name] == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return fmt.Sprintf("; tests get no secrets: give %s a literal value in the env of this level", strings.Join(missing, ", "))
}

func commandTexts(list []config.Command) []string {
	var out []string
	for _, c := range list {
		out = append(out, c.Text)
	}
	return out
}

func pathTexts(list []config.Path) []string {
	var out []string
	for _, p := range list {
		out = append(out, string(p))
	}
	return out
}

func roleCommands(f *config.File) []string {
	var out []string
	for _, name := range f.RoleNames() {
		if text := f.Roles[name].Run.Text; text != "" {
			out = append(out, text)
		}
	}
	return out
}

func repoDir(data, app string) string { return filepath.Join(data, "repo", app+".git") }
