package process_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/process"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/supervise"
)

func (b *bench) state(id domain.InstanceID) supervise.State {
	b.t.Helper()
	s, err := supervise.ReadState(filepath.Dir(b.Logs(id)))
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// kamal 1055: upgrading the tool itself took the app down.
func TestScar_kamal_1055(t *testing.T) {
	b := newBench(t, nil)
	inst := b.instance("rel_1", 0, "good", 10*time.Second)
	before := b.start(inst)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if got := b.get(before, "/healthz"); got != "" {
		t.Errorf("without the daemon: %s", got)
	}
	b.open()
	found, err := b.Adopt(t.Context())
	if err != nil || len(found) != 1 {
		t.Fatalf("adopted %+v, %v", found, err)
	}
	after := b.start(inst)
	if after.PID != before.PID || after.Addr != before.Addr || after.Restarts != 0 {
		t.Errorf("adoption changed %+v to %+v", before, after)
	}
}

func TestShimDies(t *testing.T) {
	b := newBench(t, nil)
	inst := b.instance("rel_1", 0, "good", 10*time.Second)
	before := b.start(inst)
	old := b.state(inst.InstanceID).Shim
	if err := old.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.await("another shim", func() bool {
		s := b.state(inst.InstanceID)
		return s.Shim != old && s.Shim.Alive()
	})
	if now := b.state(inst.InstanceID); now.Child.PID != before.PID || now.Restarts != 0 {
		t.Errorf("the process was not adopted: %+v", now)
	}
	if got := b.get(before, "/healthz"); got != "" {
		t.Errorf("after the shim's death: %s", got)
	}
	// The new shim is not the process's parent, and heals it all the same.
	b.crash(t, inst.InstanceID)
	b.await("healed", func() bool { s := b.status(inst.InstanceID); return s.State == domain.Healthy && s.Restarts == 1 })
}

// The daemon and the shim are gone when the process is told to stop, and nobody is its parent.
func TestStopWithoutShim(t *testing.T) {
	b := newBench(t, nil)
	inst := b.instance("rel_1", 0, "stubborn", 10*time.Second)
	b.start(inst)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	s := b.state(inst.InstanceID)
	if err := s.Shim.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := s.Shim.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.open()
	if err := b.Stop(t.Context(), inst.InstanceID); err != nil {
		t.Fatal(err)
	}
	if s.Child.Alive() {
		t.Error("the process still runs")
	}
	if found, err := b.Adopt(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("adopted %+v, %v", found, err)
	}
}

// nomad 10882: after a loss the supervisor started a version that nobody had promoted. Here: all processes are killed at
// one instant; what was stopped stays away, what should run is back.
func TestScar_nomad_10882(t *testing.T) {
	b := newBench(t, nil)
	keep, gone := b.instance("rel_1", 0, "good", 10*time.Second), b.instance("rel_2", 0, "good", 10*time.Second)
	second := b.instance("rel_1", 1, "good", 10*time.Second)
	for _, inst := range []domain.Instance{keep, second, gone} {
		b.start(inst)
	}
	if err := b.Stop(t.Context(), gone.InstanceID); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, inst := range []domain.Instance{keep, second} {
		s := b.state(inst.InstanceID)
		for _, p := range []supervise.Proc{s.Shim, s.Child} {
			if err := p.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range []supervise.Proc{s.Shim, s.Child} {
			if err := p.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.open()
	began := time.Now()
	found, err := b.Adopt(t.Context())
	if err != nil || len(found) != 2 {
		t.Fatalf("adopted %+v, %v", found, err)
	}
	for _, inst := range []domain.Instance{keep, second} {
		b.await("serves again", func() bool { return b.status(inst.InstanceID).State == domain.Healthy })
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	if s := b.status(gone.InstanceID); s.State != "" {
		t.Errorf("a stopped release came back: %+v", s)
	}
}

func TestPortTakenWhileDown(t *testing.T) {
	b := newBench(t, func(c *process.Config) {
		c.Backoff.First = supervise.Duration(300 * time.Millisecond)
	})
	inst := b.instance("rel_1", 0, "good", 10*time.Second)
	before := b.start(inst)
	changes := b.Changes(t.Context())
	b.crash(t, inst.InstanceID)
	for s := range changes {
		if s.State == domain.Crashed {
			break
		}
	}
	l, err := net.Listen("tcp", before.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b.await("on another port", func() bool {
		s := b.status(inst.InstanceID)
		return s.State == domain.Healthy && s.Addr != before.Addr
	})
}

func TestNothingIsLeftBehind(t *testing.T) {
	b := newBench(t, nil)
	inst := b.instance("rel_1", 0, "good", 10*time.Second)
	s := b.start(inst)
	if got := b.get(s, "/fork"); got != "<nil>" {
		t.Fatal(got)
	}
	forked := func() (n int) {
		for _, p := range b.processes() {
			if strings.Contains(p, "sleep 300") {
				n++
			}
		}
		return n
	}
	b.await("two that left their parents", func() bool { return forked() == 2 })
	if err := b.Stop(t.Context(), inst.InstanceID); err != nil {
		t.Fatal(err)
	}
	if left := b.processes(); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestFailureSaysWhy(t *testing.T) {
	b := newBench(t, nil)
	_, err := b.Start(t.Context(), b.instance("rel_1", 0, "crash", 10*time.Second))
	if err == nil || !strings.Contains(err.Error(), "exit code 3") || !strings.Contains(err.Error(), "cannot find the database") {
		t.Errorf("a crash says %v", err)
	}
	_, err2 := b.Start(t.Context(), b.instance("rel_2", 0, "never", 500*time.Millisecond))
	if err2 == nil || !strings.Contains(err2.Error(), "503") || !strings.Contains(err2.Error(), "the cache is cold") {
		t.Errorf("a failing probe says %v", err2)
	}
	for _, e := range []error{err, err2} {
		if e != nil && strings.Contains(e.Error(), "hunter2") {
			t.Errorf("a secret is shown: %v", e)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	b := newBench(t, nil)
	inst := b.instance("rel_1", 0, "good", 10*time.Second)
	inst.Workload.Memory = 128 << 20
	s := b.start(inst)
	changes := b.Changes(t.Context())
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /eat HTTP/1.0\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	for c := range changes {
		if c.State == domain.Crashed {
			if !strings.Contains(c.Message, "128 MiB") {
				t.Errorf("it says %q", c.Message)
			}
			break
		}
	}
	b.await("healed", func() bool { return b.status(inst.InstanceID).State == domain.Healthy })
}

func TestProbeKinds(t *testing.T) {
	b := newBench(t, nil)
	kinds := map[string]struct {
		mode  string
		probe domain.Probe
		fails string // a part of what it says when the app is one that only sleeps
	}{
		"tcp":       {"good", domain.Probe{TCP: true}, "connect to port"},
		"exec":      {"good", domain.Probe{Exec: "test $PASSWORD = hunter2hunter2"}, ""},
		"bad exec":  {"", domain.Probe{Exec: "sh -c 'echo $PASSWORD is wrong; exit 4'"}, "exit code 4: [redacted] is wrong"},
		"heartbeat": {"beat", domain.Probe{Heartbeat: time.Second}, "not touched yet"},
		"log":       {"beat", domain.Probe{Log: "^worker is re.dy$"}, "no line matches"},
		"none":      {"sleep", domain.Probe{}, ""},
	}
	index := 0
	for name, kind := range kinds {
		index++
		inst := b.instance("rel_1", index, kind.mode, 10*time.Second)
		inst.Workload.Kind = domain.Worker
		kind.probe.Every, kind.probe.Timeout, kind.probe.StartWithin = 50*time.Millisecond, 10*time.Second, 20*time.Second
		inst.Workload.Probe = kind.probe
		if kind.mode != "" {
			s := b.start(inst)
			if (s.Addr != "") != kind.probe.TCP {
				t.Errorf("%s: the address is %q", name, s.Addr)
			}
		}
		if kind.fails == "" {
			continue
		}
		inst.Index += 100
		inst.Workload.Run = "./app app sleep"
		inst.Workload.Probe.StartWithin = 400 * time.Millisecond
		if _, err := b.Start(t.Context(), inst); err == nil || !strings.Contains(err.Error(), kind.fails) {
			t.Errorf("%s: an app that only sleeps gives %v, want %s", name, err, kind.fails)
		}
	}
}

// kamal-proxy 71: health flapped on single failures, and nobody saw what the check had answered.
func TestScar_kamal_proxy_71(t *testing.T) {
	b := newBench(t, nil)
	inst := b.instance("rel_1", 0, "good", 10*time.Second)
	inst.Workload.Probe = domain.Probe{
		Exec: "if test -e /tmp/broken; then cat /tmp/broken; exit 1; fi", Every: 50 * time.Millisecond,
		Timeout: 10 * time.Second, StartWithin: 20 * time.Second,
	}
	probes := b.Probes(t.Context())
	b.start(inst)
	broken := filepath.Join(filepath.Dir(b.Logs(inst.InstanceID)), "tmp", "broken")
	if err := os.WriteFile(broken, []byte("queue is full"), 0o644); err != nil {
		t.Fatal(err)
	}
	for r := range probes {
		if !r.OK {
			if !strings.Contains(r.Message, "queue is full") {
				t.Errorf("it says %q", r.Message)
			}
			break
		}
	}
	b.await("unhealthy", func() bool { s := b.status(inst.InstanceID); return s.State == domain.Unhealthy && s.Failed >= 2 })
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	b.await("healthy again", func() bool { s := b.status(inst.InstanceID); return s.State == domain.Healthy && s.Failed == 0 })
	if s := b.status(inst.InstanceID); s.Restarts != 0 {
		t.Errorf("a failing probe restarted it: %+v", s)
	}
}

func TestExec(t *testing.T) {
	b := newBench(t, nil)
	inst := b.instance("rel_1", 0, "good", 10*time.Second)
	var out, errs bytes.Buffer
	code, err := b.Exec(t.Context(), inst, `cat; pwd; echo "$BELAY_ENV $EXTRA"; echo oops >&2; exit 7`,
		process.Stdio{In: strings.NewReader("in\n"), Out: &out, Err: &errs}, map[string]string{"EXTRA": "more"})
	if err != nil || code != 7 {
		t.Fatalf("exit %d, %v", code, err)
	}
	want := "in\n" + inst.Fixed + "\nproduction more\n"
	if out.String() != want || errs.String() != "oops\n" {
		t.Errorf("out %q, err %q", out.String(), errs.String())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := b.Exec(ctx, inst, "trap '' TERM; setsid sleep 3000 & sleep 3000", process.Stdio{Out: &out}, nil); err == nil {
		t.Error("a command outlived its context")
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	b.await("nothing left", func() bool { return len(b.processes()) == 0 })
}

// A daemon that is killed during a one-off leaves it; the next one ends it.
func TestOneOffsOfADeadDaemon(t *testing.T) {
	b := newBench(t, nil)
	inst := b.instance("rel_1", 0, "good", 0)
	self, _ := os.Executable()
	daemon := exec.Command(self, "one-off", b.data, filepath.Join(b.data, "releases", "aa"))
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	orphans := func() (n int) {
		for _, p := range b.processes() {
			if strings.Contains(p, "sleep 3005") {
				n++
			}
		}
		return n
	}
	b.await("the one-off runs", func() bool { return orphans() > 0 })
	_ = daemon.Process.Kill()
	_ = daemon.Wait()
	if orphans() == 0 {
		t.Fatal("nothing was left, so nothing is shown")
	}
	if _, err := b.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.await("it is gone", func() bool { return orphans() == 0 })
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(b.Logs(inst.InstanceID)), "exec-*"))
	if len(left) != 0 {
		t.Errorf("its folders are left: %q", left)
	}
}

// oneOff is a daemon that runs a one-off and waits for it.
func oneOff(data, release string) int {
	d, err := process.New(process.Config{Data: data, Artifacts: artifacts{release}, Accounts: sandbox.Accounts{Numeric: true}})
	if err != nil {
		return 1
	}
	b := bench{data: data}
	_, err = d.Exec(context.Background(), b.instance("rel_1", 0, "good", 0), "sleep 3005", process.Stdio{}, nil)
	fmt.Println(err)
	return 0
}

func TestStaticRole(t *testing.T) {
	b := newBench(t, nil)
	dist := filepath.Join(b.data, "releases", "aa", "dist")
	if err := os.MkdirAll(dist, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dist, "index.html"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	inst := b.instance("rel_1", 0, "", 10*time.Second)
	inst.Workload.Run, inst.Workload.Static, inst.Workload.Probe.HTTP = "", "dist", ""
	if got := b.get(b.start(inst), "/"); got != "hello" {
		t.Errorf("it serves %q", got)
	}
}
