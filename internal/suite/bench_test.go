package suite_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/suite"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "sandbox" {
		os.Exit(sandbox.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// boxed runs commands confined, and sees where they connect to, as the daemon does.
type boxed struct {
	box   *sandbox.Sandbox
	top   string // what the commands may write
	blind bool   // as a kernel that does not tell
	open  bool   // commands run as they are: Go's cache of whoever tests has the standard library
	quiet bool   // what they connect to is taken as known, none: the watcher reads all connections of the machine at each start

	mu  sync.Mutex
	ran []string
}

func (b *boxed) Run(ctx context.Context, c command.Cmd) error {
	if c.Purpose != "versions" {
		b.mu.Lock()
		b.ran = append(b.ran, strings.Join(c.Argv, " "))
		b.mu.Unlock()
	}
	if b.open {
		if c.Reach != nil {
			c.Reach.Known = true
		}
		return command.Local{}.Run(ctx, c)
	}
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, &command.TimeoutError{After: c.Timeout})
		defer cancel()
	}
	spec := sandbox.Spec{
		Dir: c.Dir, Argv: c.Argv, Env: c.Env, UID: 65534, GID: 65534, OwnPIDs: true,
		Bind: []sandbox.Bind{{From: b.top, To: b.top}},
	}
	var cmd *exec.Cmd
	var err error
	wait := func() (known bool, outside []string) { return true, nil }
	if b.quiet || c.Reach == nil {
		cmd, err = b.box.Command(ctx, spec)
	} else {
		var watcher *sandbox.Watcher
		if cmd, watcher, err = b.box.Watched(ctx, spec); err == nil {
			watcher.Own(c.Reach.Own)
			wait = watcher.Wait
		}
	}
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = c.Stdout, c.Stderr, command.Grace
	err = cmd.Run()
	known, outside := wait()
	for _, f := range cmd.ExtraFiles {
		_ = f.Close()
	}
	if c.Reach != nil {
		c.Reach.Known, c.Reach.Outside = known && !b.blind, outside
	}
	var exit *exec.ExitError
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.As(err, &exit) {
		return &command.ExitError{Code: exit.ExitCode()}
	}
	return err
}

// keeper is a suite.Memory in memory.
type keeper struct{ runs []suite.Run }

func (m *keeper) Green(_ context.Context, app, level, inputs string) (*suite.Run, error) {
	for _, r := range slices.Backward(m.runs) {
		if r.App == app && r.Level == level && r.Inputs == inputs && r.Result.State == suite.Passed && r.Once == "" {
			return &r, nil
		}
	}
	return nil, nil
}

func (m *keeper) Same(_ context.Context, app, level, inputs string) (same []suite.Run, err error) {
	for _, r := range slices.Backward(m.runs) {
		if r.App == app && r.Level == level && r.Inputs == inputs {
			same = append(same, r)
		}
	}
	return same, nil
}

func (m *keeper) Recent(_ context.Context, app, level string, limit int) (recent []suite.Run, err error) {
	for _, r := range slices.Backward(m.runs) {
		if r.App == app && r.Level == level && len(recent) < limit {
			recent = append(recent, r)
		}
	}
	return recent, nil
}

func (m *keeper) Save(_ context.Context, r suite.Run) error {
	m.runs = append(m.runs, r)
	return nil
}

// machine is a small machine of its own: a checkout, programs, a home, and the files of /etc that count.
type machine struct {
	t                         *testing.T
	top2                      string // top of the checkout, when dir is below it
	top, dir, bin, bin2, root string
	home, commit              string
	path                      []string
	env                       []string
	levels                    []suite.Level
	fixed                     map[string]string
	roles                     string
	versions                  []string // of its services
	given                     []string // variables of services and roles
	files                     func(context.Context, []string) (string, error)
	prepare                   func(context.Context) error
	runner                    *boxed
	memory                    *keeper
	memo                      suite.Memo
	answers                   suite.Answers
	log                       bytes.Buffer
	delivery                  int
}

// script runs check.sh. It names php, so that no other toolchain is asked for its version: that takes long.
const script = "sh check.sh # php"

// confinement is one for all machines: what this machine can do is tried out once.
var confinement sandbox.Sandbox

func newMachine(t *testing.T) *machine {
	t.Helper()
	box := &confinement
	if mode, reason := box.Probe(); mode == sandbox.None {
		t.Skip("nothing keeps code apart on this machine: " + reason)
	}
	top, err := os.MkdirTemp("", "suite") //nolint:usetesting // it must be reachable for another user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	m := &machine{t: t, top: top, dir: filepath.Join(top, "src"), bin: filepath.Join(top, "one/bin"), bin2: filepath.Join(top, "two/bin"),
		root: filepath.Join(top, "root"), home: filepath.Join(top, "home"), memory: &keeper{}, runner: &boxed{box: box, top: top}, delivery: 140}
	for _, dir := range []string{m.dir, m.bin, m.bin2, m.root, m.home} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	m.path = []string{m.bin, m.bin2, "/usr/bin", "/bin"}
	m.levels = []suite.Level{{Name: "unit", Run: script, Timeout: 30 * time.Second}}
	return m
}

// write makes a file below the machine's folder; one that ends in .sh, or lies in a bin folder, is a program.
func (m *machine) write(name, text string) {
	m.t.Helper()
	full := filepath.Join(m.top, name)
	write(m.t, full, text)
	if strings.HasSuffix(name, ".sh") || strings.Contains(name, "bin/") {
		m.must(os.Chmod(full, 0o755))
	}
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) Versions(context.Context, suite.Level) ([]string, error) { return m.versions, nil }

func (m *machine) Provide(context.Context, suite.Level, int) (env, versions []string, release func(context.Context) error, err error) {
	return m.given, m.versions, func(context.Context) error { return nil }, nil
}

func (m *machine) Start(context.Context, []string, []string) ([]string, func(context.Context) error, error) {
	return m.given, func(context.Context) error { return nil }, nil
}

// run is one delivery.
func (m *machine) run() suite.Pyramid {
	m.t.Helper()
	m.delivery++
	m.log.Reset()
	m.runner.ran = nil
	if os.Geteuid() == 0 && !m.runner.open {
		m.must(filepath.WalkDir(m.top, func(name string, _ os.DirEntry, err error) error {
			info, statErr := os.Lstat(name)
			if err = errors.Join(err, statErr); err != nil || info.Sys().(*syscall.Stat_t).Uid == 65534 {
				return err
			}
			return os.Lchown(name, 65534, 65534)
		}))
		m.must(os.Chmod(m.top, 0o755)) //nolint:gosec // for the other user
	}
	s := suite.Suite{Runner: m.runner, Memory: m.memory, Services: m, Starter: m,
		World: &suite.World{Runner: m.runner, Root: m.root, Home: m.home, Memo: &m.memo, Answers: &m.answers}}
	files := m.files
	if files == nil {
		files = func(ctx context.Context, inputs []string) (string, error) {
			return m.memo.Folder(ctx, cmp.Or(m.top2, m.dir), suite.Matcher("", inputs))
		}
	}
	env := append([]string{"PATH=" + strings.Join(m.path, ":"), "HOME=" + m.home}, m.env...)
	p, err := s.Run(m.t.Context(), suite.Request{App: "shop", Commit: strings.Repeat(cmp.Or(m.commit, "a"), 40), Delivery: m.delivery, Top: m.top2, Dir: m.dir, Env: env,
		Levels: m.levels, Log: &m.log, Files: files, Prepare: m.prepare, Fixed: m.fixed, Roles: m.roles}, nil)
	if err != nil {
		m.t.Fatalf("%v\n%s", err, m.log.String())
	}
	return p
}
