package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/sandbox"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "sandbox":
			os.Exit(sandbox.Main(os.Args[2:]))
		case "shim":
			os.Exit(Main(os.Args[2:]))
		}
	}
	goleak.VerifyTestMain(m)
}

func spec(script string) Spec {
	return Spec{
		Command: sandbox.Spec{Dir: "/", Argv: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}},
		Mode:    sandbox.None, Grace: Duration(200 * time.Millisecond),
		Backoff: Backoff{First: Duration(20 * time.Millisecond), Longest: Duration(40 * time.Millisecond), Reset: Duration(time.Minute)},
		Group:   fmt.Sprintf("belay-supervise-test-%d/it", os.Getpid()),
	}
}

// launch starts a shim for script in a folder of its own, and ends both with the test.
func launch(t *testing.T, s Spec) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := Start(t.Context(), self, dir, s); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := Stop(ctx, dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// await polls: the shim is another process.
func await(t *testing.T, dir, what string, ok func(State) bool) State {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		s, err := ReadState(dir)
		if err == nil && ok(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not %s but %+v, %v", what, s, err)
		}
	}
}

func TestExitIsRecorded(t *testing.T) {
	dir := launch(t, spec("echo said; echo cried >&2; exit 5"))
	s := await(t, dir, "restarted", func(s State) bool { return s.Restarts >= 2 && s.Last != nil })
	if s.Last.Code != 5 || s.Last.Unseen || s.Last.OOM {
		t.Errorf("it ended with %+v", s.Last)
	}
	var e Exit
	if err := ReadJSON(filepath.Join(dir, exitFile), &e); err != nil || e.Code != 5 || e.Proc.PID == 0 {
		t.Errorf("exit.json says %+v, %v", e, err)
	}
	log, _ := os.ReadFile(filepath.Join(dir, LogFile))
	if !strings.HasPrefix(string(log), "said\ncried\nsaid\n") {
		t.Errorf("the log is %q", log)
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{First: Duration(time.Second), Longest: Duration(time.Minute)}
	for i, want := range []float64{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		if got := b.pause(i + 1).Seconds(); got != want {
			t.Errorf("pause %d is %v s, want %v s", i+1, got, want)
		}
	}
	if got := b.pause(1_000_000); got != time.Minute {
		t.Errorf("a long row pauses %s", got)
	}
}

// Two shims on one instance would run it twice.
func TestOneShimOnly(t *testing.T) {
	dir := launch(t, spec("exec sleep 3000"))
	before := await(t, dir, "running", func(s State) bool { return s.Phase == Running })
	if err := keep(dir); !errors.Is(err, errHeld) {
		t.Errorf("a second shim: %v", err)
	}
	self, _ := os.Executable()
	if err := Launch(t.Context(), self, dir); err != nil {
		t.Error(err)
	}
	if after, err := ReadState(dir); err != nil || after.Child != before.Child || after.Shim != before.Shim {
		t.Errorf("it became %+v, %v", after, err)
	}
}

// TERM without a stop, as at a shutdown of the service manager, leaves the process alone.
func TestTermLeavesTheProcess(t *testing.T) {
	dir := launch(t, spec("exec sleep 3000"))
	s := await(t, dir, "running", func(s State) bool { return s.Phase == Running })
	if err := s.Shim.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.Shim.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !s.Child.Alive() {
		t.Error("the process is gone with its shim")
	}
}

func TestShimIsSmall(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector needs memory of its own")
	}
	dir := launch(t, spec("exec sleep 3000"))
	s := await(t, dir, "running", func(s State) bool { return s.Phase == Running })
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Shim.PID))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var anon int
		if n, _ := fmt.Sscanf(line, "RssAnon: %d kB", &anon); n == 1 && anon > 12<<10 {
			t.Errorf("a shim takes %d KiB of its own", anon)
		}
		if strings.HasPrefix(line, "Rss") || strings.HasPrefix(line, "VmRSS") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func TestRotation(t *testing.T) {
	s := spec("i=0; while :; do i=$((i+1)); echo line $i; sleep 0.001; done")
	s.Log = LogPolicy{Size: 2000, Keep: 3, Every: Duration(100 * time.Millisecond)}
	dir := launch(t, s)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(10 * time.Second); ; {
		if _, err := os.Stat(filepath.Join(dir, LogFile+".2")); err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the log was not rotated twice")
		}
	}
	if st, err := ReadState(dir); err != nil || st.Restarts != 0 {
		t.Errorf("the process did not survive it: %+v, %v", st, err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, LogFile+"*"))
	if len(files) != 3 {
		t.Errorf("%d files are kept, want 3: %q", len(files), files)
	}
}

func TestRotationWithoutRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), LogFile)
	if err := os.WriteFile(path, make([]byte, 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	// A folder in the way of the copy stands for a full disk.
	if err := os.MkdirAll(path+".1/x", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := rotate(path, LogPolicy{Size: 1000, Keep: 2}); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() != 0 {
		t.Errorf("the log has still %d bytes, %v", fi.Size(), err)
	}
}

func TestIdentityIsProof(t *testing.T) {
	p, err := Identify(os.Getpid())
	if err != nil || !p.Alive() {
		t.Fatalf("%+v, %v", p, err)
	}
	for name, forged := range map[string]Proc{
		"another start": {p.PID, p.Start + 1, p.Boot}, "another boot": {p.PID, p.Start, "x"}, "none": {},
	} {
		if forged.Alive() {
			t.Errorf("%s passes as this process", name)
		}
		// Nothing may be sent to a process that only has the number.
		if err := forged.Signal(unix.SIGKILL); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := forged.Group(unix.SIGKILL); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := forged.Wait(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a process that runs: %v", err)
	}
}

func TestStatFields(t *testing.T) {
	stat := "12 (a) b (c) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20"
	f, err := statFields([]byte(stat))
	if err != nil || f[0] != "R" || f[1] != "1" || f[19] != "4711" {
		t.Errorf("%q, %v", f, err)
	}
	for _, bad := range []string{"", "12", "12 (a", "12 (a) R 1"} {
		if _, err := statFields([]byte(bad)); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}

func TestStopOfNothing(t *testing.T) {
	if err := Stop(t.Context(), filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
	if err := Stop(t.Context(), t.TempDir()); err != nil {
		t.Error(err)
	}
}
