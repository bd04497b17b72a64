package sandbox_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/belay-cd/belay/internal/sandbox"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "sandbox" {
		os.Exit(sandbox.Main(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "share" {
		os.Exit(share())
	}
	goleak.VerifyTestMain(m)
}

const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// run executes a shell script confined in box and returns what it printed and its exit code.
func run(t *testing.T, box *sandbox.Sandbox, spec sandbox.Spec, script string) (string, int) {
	t.Helper()
	spec.Argv = []string{"sh", "-c", script}
	if spec.Dir == "" {
		spec.Dir = "/"
	}
	spec.Env = append(spec.Env, "PATH="+path)
	if spec.UID == 0 {
		spec.UID, spec.GID = 65534, 65534
	}
	cmd, err := box.Command(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// box returns a sandbox that works here.
func box(t *testing.T) *sandbox.Sandbox {
	t.Helper()
	b := &sandbox.Sandbox{}
	if mode, reason := b.Probe(); mode == sandbox.None {
		t.Skip("nothing keeps code apart on this machine: " + reason)
	}
	return b
}

func TestProbe(t *testing.T) {
	want := sandbox.Namespace
	if os.Geteuid() == 0 {
		want = sandbox.User
	}
	b := box(t)
	if mode, reason := b.Probe(); mode != want || reason != "" {
		t.Errorf("probe says %s (%s), want %s", mode, reason, want)
	}
	broken := &sandbox.Sandbox{Self: "/bin/false"}
	if mode, reason := broken.Probe(); mode != sandbox.None || reason == "" {
		t.Errorf("a binary that cannot confine: probe says %s (%s)", mode, reason)
	}
}

func TestRootIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root could make that mistake")
	}
	if _, err := box(t).Command(t.Context(), sandbox.Spec{Argv: []string{"id"}}); err == nil {
		t.Error("code of a repository may run as root")
	}
}

func TestRights(t *testing.T) {
	b := box(t)
	for _, own := range []bool{false, true} {
		out, code := run(t, b, sandbox.Spec{OwnPIDs: own}, "id -u; grep -E '^(CapPrm|CapEff|CapAmb|NoNewPrivs)' /proc/self/status; ls -A /proc/self/fd | wc -w; exit 3")
		if code != 3 {
			t.Errorf("exit code %d, want 3", code)
		}
		for _, want := range []string{"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is missing in %s", want, out)
			}
		}
		if os.Geteuid() == 0 && strings.HasPrefix(out, "0\n") {
			t.Error("it runs as root")
		}
		if !strings.HasSuffix(out, "\n4\n") { // 0, 1, 2 and the one that lists them
			t.Errorf("descriptors were inherited: %s", out)
		}
	}
}

func TestOwnPIDsLeaveNothing(t *testing.T) {
	out, code := run(t, box(t), sandbox.Spec{OwnPIDs: true}, "setsid sleep 3007 >/dev/null 2>&1 & ls /proc | grep -c '^[0-9]'; kill -9 1; exit 4")
	if code != 4 {
		t.Errorf("exit code %d, want 4: %s", code, out)
	}
	cmdlines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, c := range cmdlines {
		if data, _ := os.ReadFile(c); string(data) == "sleep\x003007\x00" {
			t.Errorf("%s is left", c)
		}
	}
}

func TestSignalsReachTheCommand(t *testing.T) {
	b := box(t)
	spec := sandbox.Spec{
		Dir: "/", Argv: []string{"sh", "-c", "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.05; done"},
		Env: []string{"PATH=" + path}, UID: 65534, GID: 65534, OwnPIDs: true,
	}
	cmd, err := b.Command(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	lines.Scan()
	if lines.Text() != "got it" {
		t.Errorf("it said %q", lines.Text())
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 9 {
		t.Errorf("it ended with %v", err)
	}
}

func TestCommandNotFound(t *testing.T) {
	cmd, err := box(t).Command(t.Context(), sandbox.Spec{Dir: "/", Argv: []string{"no-such-program"}, UID: 65534, GID: 65534})
	if err != nil {
		t.Fatal(err)
	}
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 125 || !strings.Contains(string(out), "no-such-program") {
		t.Errorf("%d: %s", cmd.ProcessState.ExitCode(), out)
	}
}

func TestToolchains(t *testing.T) {
	home := t.TempDir()
	for _, dir := range []string{".pyenv/shims", ".cargo/bin", ".rustup", "go/bin", ".local/bin", "bin", ".nvm/versions/node/v22/bin", ".ssh"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var path []string
	for _, dir := range []string{".pyenv/shims", ".pyenv/plugins/x/bin", ".cargo/bin", "go/bin", ".local/bin", "bin", ".nvm/versions/node/v22/bin", "."} {
		path = append(path, filepath.Join(home, dir))
	}
	var got []string
	for _, dir := range sandbox.Toolchains(home, strings.Join(append(path, "/usr/bin"), ":")) {
		rel, _ := filepath.Rel(home, dir)
		got = append(got, rel)
	}
	want := []string{".cargo/bin", ".local/bin", ".nvm/versions/node/v22", ".pyenv", ".rustup", "bin", "go/bin"}
	if !slices.Equal(got, want) {
		t.Errorf("shown of the home: %q, want %q", got, want)
	}
}

// The toolchains of this machine work in a workshop, also those below a home that nobody else may enter.
func TestWorkshopBuilds(t *testing.T) {
	data, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	acc, err := sandbox.Accounts{File: filepath.Join(data, "users.json"), Numeric: true}.Of(t.Context(), "shop", sandbox.Build)
	if err != nil {
		t.Fatal(err)
	}
	w := sandbox.Workshop{Data: data, Home: os.Getenv("HOME"), Path: os.Getenv("PATH"), App: "shop", Account: acc}
	if err := w.Clear(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.mod": "module shop\n", "main.go": "package main\n\nfunc main() {}\n", "x.go": "//go:build ignore\n\npackage x\n\nfunc X() int { return 1 }\n",
		"package.json":      `{"name":"shop","version":"1.0.0"}`,
		"package-lock.json": `{"name":"shop","version":"1.0.0","lockfileVersion":3,"packages":{"":{"name":"shop","version":"1.0.0"}}}`,
	} {
		if err := os.WriteFile(filepath.Join(w.Src(), name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Give(); err != nil {
		t.Fatal(err)
	}
	b := box(t)
	for tool, line := range map[string]string{
		"go":      "go list -deps . | grep -qx shop && go tool compile -p x -o x.o x.go && echo go works",
		"npm":     "npm ci --offline && echo npm works",
		"node":    `node -e 'console.log(process.getuid() != 0 ? "node works" : "")'`,
		"python3": "python3 -c 'import sys, tempfile; tempfile.TemporaryFile(); print(\"python3 works\")'",
	} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("%s is not installed here", tool)
			continue
		}
		cmd, err := b.Command(t.Context(), w.Spec("", []string{"sh", "-eu", "-c", line}, nil))
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), tool+" works") {
			t.Errorf("%s: %v: %s", tool, err, out)
		}
	}
}

func TestAccounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root hands out users")
	}
	a := sandbox.Accounts{File: filepath.Join(t.TempDir(), "users.json"), Numeric: true}
	seen := map[int]string{}
	for range 2 {
		for _, app := range []string{"shop", "blog", "An App With A Very Long Name That Is No Name Of A User"} {
			for _, purpose := range []string{"build", "staging", "production"} {
				acc, err := a.Of(t.Context(), app, purpose)
				if err != nil {
					t.Fatal(err)
				}
				if acc.UID == 0 || len(acc.Name) > 32 || strings.ContainsAny(acc.Name, " A") {
					t.Errorf("%s %s got %+v", app, purpose, acc)
				}
				if owner, ok := seen[acc.UID]; ok && owner != app+purpose {
					t.Errorf("%s and %s share the user %d", owner, app+purpose, acc.UID)
				}
				seen[acc.UID] = app + purpose
			}
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d users, want 9", len(seen))
	}
}

func TestSystemUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make users")
	}
	if _, err := exec.LookPath("useradd"); err != nil {
		t.Skip("there is no useradd here")
	}
	app := fmt.Sprintf("t%d", os.Getpid())
	file := filepath.Join(t.TempDir(), "users.json")
	var wg sync.WaitGroup
	got := make([]sandbox.Account, 3)
	for i := range got {
		wg.Go(func() {
			acc, err := sandbox.Accounts{File: file}.Of(t.Context(), app, "build")
			if err != nil {
				t.Error(err)
			}
			got[i] = acc
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		if out, err := exec.Command("userdel", got[0].Name).CombinedOutput(); err != nil {
			t.Errorf("userdel: %v: %s", err, out)
		}
	})
	if got[0] != got[1] || got[1] != got[2] || got[0].Name != "belay-"+app+"-build" {
		t.Errorf("three callers at once got %+v", got)
	}
	if u, err := user.LookupId(strconv.Itoa(got[0].UID)); err != nil || u.Username != got[0].Name {
		t.Errorf("the system knows %+v, %v", u, err)
	}
}
