package torture

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// One folder has one server; a second one is refused and harms nothing.
func TestASecondServerIsRefused(t *testing.T) {
	w := newWorld(t, "1s", "")
	t.Logf("ready in %s, %d MB resident", w.ready.Round(time.Millisecond), resident(w.serve.Process.Pid)>>20)
	second := exec.Command(binaries.belay, "serve", "--demo", "--data", w.data, "--http", freeAddress(t), "--https", "", "--listen", freeAddress(t))
	out, err := runChild(second)
	if code := second.ProcessState.ExitCode(); err == nil || code != domain.Invalid.Exit() || !strings.Contains(out, "in use by another server") {
		t.Errorf("it ended with %d, %v: %s", second.ProcessState.ExitCode(), err, out)
	}
	if _, err := w.api1.Health(t.Context()); err != nil {
		t.Errorf("the first one: %v", err)
	}
}

// resident is the memory of a process in bytes.
func resident(pid int) int64 {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	defer file.Close()
	for scan := bufio.NewScanner(file); scan.Scan(); {
		var kb int64
		if _, err := fmt.Sscanf(scan.Text(), "VmRSS: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	return 0
}

// kamal#1055, argo-rollouts#4818: upgrading the tool itself caused downtime. Here it is no event for the apps: the proxy
// and the instances are the same processes before and after, asked to stop or killed, and the next delivery works.
func TestScar_kamal_1055_AnUpgradeIsNoEventForTheApps(t *testing.T) {
	w := newWorld(t, "1s", "")
	w.deliver("first", "", domain.DoneState)
	tr := w.startTraffic(rate)
	before := w.pids()
	for n, end := range []func(){w.killServe, w.stopServe} {
		end()
		time.Sleep(300 * time.Millisecond)
		w.start(binaries.newer)
		health, err := w.api1.Health(t.Context())
		if err != nil || health.Version != "1.1.0" {
			t.Errorf("version %s serves, %v", health.Version, err)
		}
		t.Logf("ready again in %s, %d MB resident", w.ready.Round(time.Millisecond), resident(w.serve.Process.Pid)>>20)
		if now := w.pids(); now != before {
			t.Errorf("before the end number %d there were %s, now %s", n, before, now)
		}
	}
	w.deliver("second", "", domain.DoneState)
	noFailures(t, tr.stop(), rate, nil)
}

// stopServe asks the daemon to end.
func (w *world) stopServe() {
	w.t.Helper()
	if err := w.serve.Process.Signal(os.Interrupt); err != nil {
		w.t.Fatal(err)
	}
	select {
	case <-w.gone:
	case <-time.After(25 * time.Second):
		w.t.Fatal("serve does not end")
	}
	if code := w.serve.ProcessState.ExitCode(); code != 0 {
		w.t.Errorf("serve ended with %d: %s", code, w.tail("serve.log"))
	}
}

// pids names the processes that a restart of the daemon must not touch.
func (w *world) pids() string {
	h, err := w.proxy.Health(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	text := fmt.Sprintf("proxy %d held by %d", h.PID, h.Holder)
	for _, i := range instances(w.data) {
		text += fmt.Sprintf(", %s/%s %d kept by %d", i.env, i.name, i.state.Child.PID, i.state.Shim.PID)
	}
	return text
}
