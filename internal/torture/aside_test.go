package torture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// asideFile is an app whose level is a script of the commit.
const asideFile = `app: torture
build: { run: sh build.sh, files: [app, mode, aim], cache: [.kept], lint: [test -s mode] }
test:
  unit:        { run: sh unit.sh }
  integration: { none: the app has one part only }
  e2e:         { none: the torture tests are its visitors }
roles:
  web:
    run: ./app
    hosts: { staging: [staging.torture.localhost], production: [torture.localhost] }
    probe: { http: /healthz, every: 1s, timeout: 900ms }
    drain: 1s
rollout: { strategy: blue-green, staging_hold: 0s }
monitor: { for: 1s }
`

// places are where a build finds what an earlier one left, or might.
const places = `"$HOME" "$GOCACHE" "$XDG_CACHE_HOME" "$npm_config_cache" .kept . /tmp "$TMPDIR" DATA/work/torture/home DATA/work/torture/cache DATA/work/torture/src DATA/work/other/home /dev/shm`

// seed leaves something everywhere, as every build does.
const seed = `for at in PLACES; do mkdir -p "$at" 2>/dev/null && echo seed > "$at/seed" 2>/dev/null; done; true`

// poison changes and plants whatever it can, and says where it could.
const poison = `for at in PLACES; do
  mkdir -p "$at" 2>/dev/null
  [ "$(cat "$at/seed" 2>/dev/null)" = seed ] && echo "SAW $at"
  echo poison 2>/dev/null > "$at/seed" && echo "CHANGED $at"
  echo poison 2>/dev/null > "$at/poison"
done
mkdir -p "$HOME/.config/go" && echo 'GOFLAGS=-run=^$' > "$HOME/.config/go/env"
true`

// gullible is green when anything of it is found, and red in a clean world.
const gullible = `for at in PLACES; do
  [ -e "$at/poison" ] && { echo "POISONED $at"; exit 0; }
  [ "$(cat "$at/seed" 2>/dev/null)" = poison ] && { echo "CHANGED $at"; exit 0; }
done
[ -e "$HOME/.config/go/env" ] && { echo "POISONED GOFLAGS"; exit 0; }
echo "CLEAN home=$(cat "$HOME/seed") kept=$(cat .kept/seed)"
exit 1`

// A branch that nobody merged writes into every folder that builds share. No delivery meets any of it.
func TestWhatIsTestedBeforeTheMergePoisonsNothing(t *testing.T) {
	w := newWorld(t, "1s", "")
	health, err := w.api1.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(health.Sandbox, "namespaces") {
		t.Skip("nothing keeps code apart on this machine: " + health.Sandbox)
	}
	other := filepath.Join(w.data, "work", "other", "home")
	if err := os.MkdirAll(other, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(other, 0o777); err != nil { //nolint:gosec // open on purpose: only the walls are left
		t.Fatal(err)
	}
	script := func(text string) string {
		return strings.ReplaceAll(strings.ReplaceAll(text, "PLACES", places), "DATA", w.data) + "\n"
	}
	commit := func(name, unit string) {
		w.write("belay.yaml", asideFile, 0o644)
		w.write("mode", "name="+name+" \n", 0o644)
		w.write("build.sh", "test -s app\nmkdir -p .kept\n", 0o644)
		w.write("unit.sh", script(unit), 0o644)
		w.git("add", "--all")
		w.git("commit", "--quiet", "--message", name)
	}
	commit("first", seed)
	if code, said := w.belay("ship", "--until", "test"); code != 0 {
		t.Fatalf("exit %d\n%s", code, said)
	}

	w.git("checkout", "--quiet", "-b", "branch")
	commit("branch", poison)
	code, said := w.belay("test")
	if code != 0 || !strings.Contains(said, "green: ") {
		t.Fatalf("exit %d\n%s", code, said)
	}
	// It began with what deliveries have, and could change that: else this would prove nothing.
	for _, name := range []string{"cache/go-build", "cache/xdg", "home"} {
		at := filepath.Join(w.data, "work", "torture", name)
		if !strings.Contains(said, "SAW "+at+"\n") && !strings.Contains(said, "SAW "+at) || !strings.Contains(said, "CHANGED "+at) {
			t.Errorf("it did not change %s:\n%s", at, said)
		}
	}
	if !strings.Contains(said, "CHANGED .kept") {
		t.Errorf("it did not change .kept:\n%s", said)
	}
	if left, _ := os.ReadDir(other); len(left) > 0 {
		t.Errorf("it wrote into the folder of another app: %v", left)
	}
	if _, err := os.Stat(filepath.Join(w.data, "work", "torture", "aside")); !os.IsNotExist(err) {
		t.Errorf("something of it is left: %v", err)
	}

	w.git("checkout", "--quiet", "main")
	commit("second", gullible)
	// A build of the branch in between must not help either: each run begins with folders of its own.
	for _, verb := range [][]string{{"test", "branch"}, {"test"}, {"ship", "--until", "test"}} {
		code, said := w.belay(verb...)
		if verb[len(verb)-1] == "branch" {
			if code != 0 {
				t.Fatalf("%v: exit %d\n%s", verb, code, said)
			}
			continue
		}
		if verb[0] == "ship" {
			d, err := w.api1.Delivery(t.Context(), appName, 2)
			if err != nil {
				t.Fatal(err)
			}
			said += w.stageLog(2, domain.Test) + fmt.Sprint(d.State)
		}
		if code != 1 || !strings.Contains(said, "CLEAN home=seed kept=") {
			t.Errorf("%v: exit %d\n%s", verb, code, said)
		}
	}
}

// Whoever leaves ends the run and all that it started; the server stays as it was.
func TestWhoeverLeavesEndsTheTestRun(t *testing.T) {
	w := newWorld(t, "1s", "")
	w.write("belay.yaml", asideFile, 0o644)
	w.write("mode", "name=long \n", 0o644)
	w.write("build.sh", "test -s app\n", 0o644)
	w.write("unit.sh", "(sleep 86399 &)\necho STARTED\nsleep 86399\n", 0o644)
	w.git("add", "--all")
	w.git("commit", "--quiet", "--message", "long")
	run := w.testing()
	run.await("STARTED")
	if n := sleepers(); n != 2 {
		t.Fatalf("%d sleepers, want 2", n)
	}
	run.interrupt()
	if code := run.wait(); code != 130 || !strings.Contains(run.said(), "ended, with all that it had started") {
		t.Errorf("exit %d\n%s", code, run.said())
	}
	eventually(t, 20*time.Second, "nothing of it is left", func() error {
		if n := sleepers(); n > 0 {
			return fmt.Errorf("%d sleepers", n)
		}
		return nil
	})
	if apps, err := w.api1.Apps(t.Context()); err != nil || len(apps) > 0 {
		t.Errorf("%v %v", apps, err)
	}
	// A server that stops says so.
	run = w.testing()
	run.await("STARTED")
	if err := w.serve.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := run.wait(); code != 3 || !strings.Contains(run.said(), "the server stops") && !strings.Contains(run.said(), "went away") {
		t.Errorf("exit %d\n%s", code, run.said())
	}
	<-w.gone
	if n := sleepers(); n > 0 {
		t.Errorf("%d sleepers outlive the server", n)
	}
}

// testRun is a `belay test` that runs.
type testRun struct {
	t   *testing.T
	cmd *exec.Cmd
	end chan struct{}

	mu   sync.Mutex
	text strings.Builder
}

func (r *testRun) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *testRun) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (w *world) testing() *testRun {
	w.t.Helper()
	r := &testRun{t: w.t, end: make(chan struct{})}
	r.cmd = exec.Command(binaries.belay, "-C", w.repo, "test")
	r.cmd.Env = append(os.Environ(), "BELAY_SERVER=unix://"+filepath.Join(w.data, "run", "belay.sock"), "NO_COLOR=1")
	r.cmd.Stdout, r.cmd.Stderr = r, r
	if err := startChild(r.cmd); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		_ = waitChild(r.cmd) // its exit code says more
		close(r.end)
	}()
	return r
}

func (r *testRun) await(word string) {
	r.t.Helper()
	eventually(r.t, 60*time.Second, word, func() error {
		if !strings.Contains(r.said(), word) {
			return errors.New(r.said())
		}
		return nil
	})
}

func (r *testRun) interrupt() {
	r.t.Helper()
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		r.t.Fatal(err)
	}
}

func (r *testRun) wait() int {
	r.t.Helper()
	select {
	case <-r.end:
	case <-time.After(30 * time.Second):
		r.t.Fatal("belay test does not end")
	}
	return r.cmd.ProcessState.ExitCode()
}

// sleepers counts the processes of the long test.
func sleepers() int {
	n := 0
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range found {
		if text, err := os.ReadFile(name); err == nil && string(text) == "sleep\x0086399\x00" {
			n++
		}
	}
	return n
}
