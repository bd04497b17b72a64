package process_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/process"
	"github.com/belay-cd/belay/internal/supervise"
)

// turned is a vault that anybody could open: what counts is that the driver asks it.
type turned struct{}

func turn(w domain.Workload) domain.Workload {
	env := map[string]string{}
	for name, value := range w.Env {
		env[name] = value
	}
	for _, name := range w.Secrets {
		b := []byte(env[name])
		for i := range b {
			b[i] ^= 0x15
		}
		env[name] = string(b)
	}
	w.Env = env
	return w
}

func (turned) SealWorkload(_ string, _ domain.Environment, w domain.Workload) domain.Workload {
	return turn(w)
}

func (turned) OpenWorkload(_ string, _ domain.Environment, w domain.Workload) (domain.Workload, error) {
	return turn(w), nil
}

// While an instance runs its secrets are in the memory of its process and of its shim, and nowhere else; whoever dies, what is
// started again has them.
func TestSecretsAreNotOnTheDisk(t *testing.T) {
	b := newBench(t, func(c *process.Config) { c.Vault = turned{} })
	inst := b.instance("rel_1", 0, "good", 10*time.Second)
	s := b.start(inst)
	has := func(when string) {
		t.Helper()
		b.await(when, func() bool {
			return strings.Contains(b.get(b.status(inst.InstanceID), "/env"), "PASSWORD=hunter2hunter2")
		})
		err := filepath.WalkDir(filepath.Join(b.data, "instances"), func(path string, _ os.DirEntry, _ error) error {
			if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), "hunter2") {
				t.Errorf("%s: %s holds a secret", when, path)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	has("started")
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", b.state(inst.InstanceID).Shim.PID))
	if err != nil || strings.Contains(string(command), "hunter2") {
		t.Errorf("the shim's arguments: %q %v", command, err)
	}
	if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", b.state(inst.InstanceID).Shim.PID)); err == nil &&
		!strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max core file size 0 0") {
		t.Errorf("the shim may write its memory to the disk: %s", limits)
	}
	shim := b.state(inst.InstanceID).Shim
	if err := shim.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.await("another shim", func() bool {
		now := b.state(inst.InstanceID).Shim
		return now != shim && supervise.HasShim(filepath.Dir(b.Logs(inst.InstanceID)))
	})
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.await("another process", func() bool { p := b.status(inst.InstanceID); return p.PID != s.PID && p.State == domain.Healthy })
	has("started again by the second shim")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.kill(b.state(inst.InstanceID).Shim, b.state(inst.InstanceID).Child) // as a reboot does
	b.open()
	if _, err := b.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.await("healthy after a reboot", func() bool { return b.status(inst.InstanceID).State == domain.Healthy })
	has("after a reboot")
}
