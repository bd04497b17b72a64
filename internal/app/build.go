package app

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/belay-cd/belay/internal/build"
	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/evidence"
	"github.com/belay-cd/belay/internal/registry"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/secrets"
	"github.com/belay-cd/belay/internal/service"
	"github.com/belay-cd/belay/internal/source"
	"github.com/belay-cd/belay/internal/store"
	"github.com/belay-cd/belay/internal/suite"
)

// builder runs stages 1 and 2 in a checkout at one fixed folder per app, confined to the app's build user.
type builder struct {
	runner  *runner
	store   *registry.Store
	gate    *evidence.Gate
	secrets *resolver
	runs    *store.Store // of tests
	servers *service.Manager

	memo    suite.Memo    // hashes of files
	answers suite.Answers // versions of programs
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
	mark  string // what stands in it when that was this job's
}

func (b *builder) place(ctx context.Context, d domain.Delivery) (place, error) {
	account, err := b.runner.accounts.Of(ctx, d.App, sandbox.Build)
	if err != nil {
		return place{}, err
	}
	p := place{Workshop: sandbox.Workshop{Data: b.runner.data, Home: os.Getenv("HOME"), Path: os.Getenv("PATH"), App: d.App, Account: account, Cgroups: b.runner.Workshop()}}
	p.mark = d.Commit
	if delivery.IsTest(d) { // another one of the same commit begins with folders of its own
		mode, _ := b.runner.box.Probe()
		p.Aside, p.Unbound, p.mark = true, mode == sandbox.None, d.ID
	}
	p.dir = filepath.Join(p.Checkout(), filepath.FromSlash(d.Folder))
	p.built = filepath.Join(filepath.Dir(p.Checkout()), "built")
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
	shown []sandbox.Bind // on top of what the place shows
	env   []string       // on top of the command's
}

// Run runs one command to its end.
func (c confined) Run(ctx context.Context, cmd command.Cmd) error {
	if cmd.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cmd.Timeout, &command.TimeoutError{After: cmd.Timeout})
		defer cancel()
	}
	spec := c.place.Spec("", cmd.Argv, nil)
	spec.Dir, spec.Env, spec.Bind = c.place.Seen(cmd.Dir), append(slices.Clone(cmd.Env), c.env...), append(spec.Bind, c.shown...)
	if cmd.Reach != nil {
		return c.watched(ctx, spec, cmd)
	}
	ex, err := c.box.Command(ctx, spec)
	if err != nil {
		return err
	}
	return wait(ctx, ex, cmd.Stdout, cmd.Stderr)
}

// watched runs a command and fills in where it connected to.
func (c confined) watched(ctx context.Context, spec sandbox.Spec, cmd command.Cmd) error {
	ex, watcher, err := c.box.Watched(ctx, spec)
	if err != nil {
		return err
	}
	watcher.Own(cmd.Reach.Own)
	err = wait(ctx, ex, cmd.Stdout, cmd.Stderr)
	cmd.Reach.Known, cmd.Reach.Outside = watcher.Wait()
	return err
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
	made.Linter = b.linter(d, j.File, p)
	req := request(j, p, commit, tracked, log)
	if err := b.confide(ctx, j, &req); err != nil {
		return delivery.Artifact{}, err
	}
	if req.Toolchain, err = b.toolchain(ctx, j, p); err != nil {
		return delivery.Artifact{}, err
	}
	res, err := made.Build(ctx, req)
	a := delivery.Artifact{Digest: res.Digest, Fixed: res.Fixed, Size: res.Size, Notes: res.Warnings}
	for _, c := range res.Commands {
		if c.Purpose == "lint" {
			a.Notes = append(a.Notes, c.Note())
		}
		if c.Purpose == "lint" && c.Failed == "" {
			a.Linted++
		}
	}
	for i := range a.Notes {
		a.Notes[i] = b.secrets.masks.text(d.App, a.Notes[i])
	}
	if err != nil {
		return delivery.Artifact{Notes: a.Notes}, errors.Join(err, b.leave(p))
	}
	if res.Reused {
		a.Reused, a.Linted = res.Artifact.Delivery, len(j.File.Build.Lint)
		if a.Reused == 0 {
			a.Notes = append(a.Notes, "built by a run before the merge, of the same inputs")
		}
		return a, nil
	}
	return a, os.WriteFile(p.built, []byte(p.mark), 0o600)
}

// leave removes what a test before a merge needs no more. What is built for a delivery stays for the next one.
func (b *builder) leave(p place) error {
	if !p.Aside {
		return nil
	}
	return p.Dispose()
}

func (b *builder) builder(p place, app string) *build.Builder {
	records := build.Folder(filepath.Join(b.runner.data, "work", app, "records"))
	return &build.Builder{Runner: confined{box: b.runner.box, place: p}, Store: b.store, Records: records}
}

func request(j delivery.Job, p place, commit source.Commit, tracked []string, log io.Writer) build.Request {
	d, spec := j.Delivery, j.File.Build
	return build.Request{
		App: d.App, Commit: d.Commit, Tree: commit.Tree, Time: commit.Time, Dir: p.Seen(p.dir), Root: p.dir, Tracked: tracked,
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
	o := source.Options{Keep: kept(d, f), UID: p.Account.UID, GID: p.Account.GID}
	if p.Aside {
		o.Keep = nil
		if err := p.Borrow(ctx, b.room); err != nil {
			return commit, nil, err
		}
	}
	if err = source.Checkout(ctx, repo, d.Commit, p.Checkout(), o); err != nil {
		return commit, nil, err
	}
	if p.Aside {
		if err := p.BorrowKept(ctx, kept(d, f), b.room); err != nil {
			return commit, nil, err
		}
	}
	tracked, err := source.Files(ctx, repo, d.Commit, d.Folder)
	return commit, tracked, err
}

// room refuses a copy that the disk has no room for.
func (b *builder) room(bytes int64) error { return b.store.Guard(uint64(max(0, bytes))) }

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
