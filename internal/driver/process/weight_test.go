package process_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/process"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/supervise"
)

// seen is what the kernel says of a process: nice value, scheduling policy, oom_score_adj.
func seen(t *testing.T, pid int) string {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return fmt.Sprintf("nice %s policy %s oom %s", f[16], f[38], bytes.TrimSpace(score))
}

// Production is heavier than staging, and staging than what runs once.
func TestStagingIsLighter(t *testing.T) {
	b := newBench(t, nil)
	production, staging := b.instance("rel_1", 0, "good", 10*time.Second), b.instance("rel_1", 0, "good", 10*time.Second)
	staging.Environment, staging.OOMScoreAdj = domain.Staging, 500
	test := staging
	test.Environment, test.OOMScoreAdj = "test", 800
	for _, c := range []struct {
		inst domain.Instance
		want string
	}{
		{production, "nice 0 policy 0 oom 0"}, {staging, "nice 5 policy 0 oom 500"}, {test, "nice 10 policy 3 oom 800"},
	} {
		if got := seen(t, b.start(c.inst).PID); got != c.want {
			t.Errorf("%s runs with %s, want %s", c.inst.Environment, got, c.want)
		}
	}
	for _, c := range []struct {
		inst  domain.Instance
		light bool
		nice  string
	}{{production, false, "0"}, {production, true, "10"}, {staging, false, "5"}} {
		var out bytes.Buffer
		const look = "cat /proc/self/stat /proc/self/oom_score_adj"
		code, err := b.Exec(t.Context(), c.inst, look, process.Stdio{Out: &out}, nil)
		if c.light {
			out.Reset()
			code, err = b.Errand(t.Context(), c.inst, look, process.Stdio{Out: &out})
		}
		f := strings.Fields(out.String())
		if err != nil || code != 0 || len(f) < 42 || f[18] != c.nice || f[len(f)-1] != "800" {
			t.Errorf("a one-off in %s: %d, %v, %s", c.inst.Environment, code, err, out.String())
		}
	}
}

// Once next is stable it is no longer first to go, with all that it started, and after a restart too; others stay.
func TestStableIsNotFirstToGo(t *testing.T) {
	b := newBench(t, nil)
	next, other := b.instance("rel_2", 0, "good", 10*time.Second), b.instance("rel_3", 0, "good", 10*time.Second)
	next.OOMScoreAdj, other.OOMScoreAdj = 300, 300
	status, beside := b.start(next), b.start(other)
	if got := b.get(status, "/fork"); got != "<nil>" {
		t.Fatal(got)
	}
	if got := seen(t, status.PID); got != "nice 0 policy 0 oom 300" {
		t.Fatalf("next runs with %s", got)
	}
	rel := domain.Release{ID: "rel_2", App: "shop", Environment: domain.Production}
	if err := b.Rescore(t.Context(), rel, 0); err != nil {
		t.Fatal(err)
	}
	var forked int
	for _, p := range b.processes() {
		var pid int
		if _, err := fmt.Sscan(p, &pid); err != nil || !strings.Contains(p, "sleep 300") {
			continue
		}
		forked++
		if got := seen(t, pid); got != "nice 0 policy 0 oom 0" {
			t.Errorf("%s: %s", p, got)
		}
	}
	if forked != 2 {
		t.Errorf("%d processes left their parent, want 2", forked)
	}
	if got := seen(t, status.PID); got != "nice 0 policy 0 oom 0" {
		t.Errorf("stable runs with %s", got)
	}
	if got := seen(t, beside.PID); got != "nice 0 policy 0 oom 300" {
		t.Errorf("another release runs with %s", got)
	}
	b.crash(t, next.InstanceID)
	b.await("started again", func() bool {
		s := b.status(next.InstanceID)
		return s.Restarts == 1 && s.State == domain.Healthy
	})
	if got := seen(t, b.status(next.InstanceID).PID); got != "nice 0 policy 0 oom 0" {
		t.Errorf("started again it runs with %s", got)
	}
	if recorded, err := b.Recorded(); err != nil || len(recorded) != 2 || recorded[0].OOMScoreAdj != 0 {
		t.Errorf("the record says %+v, %v", recorded, err)
	}
}

// Builds have a control group where there are any, and it bounds them.
func TestWorkshopGroup(t *testing.T) {
	b := newBench(t, nil)
	dirs := b.Workshop()
	t.Cleanup(func() {
		for _, dir := range dirs {
			_ = os.Remove(dir)
		}
	})
	if len(dirs) == 0 {
		t.Skip("this machine lets nobody make control groups")
	}
	for _, dir := range dirs {
		for _, file := range []string{"memory.max", "memory.limit_in_bytes"} {
			if text, err := os.ReadFile(dir + "/" + file); err == nil {
				var limit int64
				if _, err := fmt.Sscan(string(text), &limit); err != nil || limit <= 0 || limit > 1<<50 {
					t.Errorf("%s/%s is %s", dir, file, text)
				}
			}
		}
	}
}

// An app that goes into the background is told so.
func TestBackgroundIsRefused(t *testing.T) {
	b := newBench(t, func(c *process.Config) { c.Backoff.First = supervise.Duration(10 * time.Millisecond) })
	if mode, _ := (&sandbox.Sandbox{}).Probe(); mode == sandbox.Namespace {
		t.Skip("here the kernel takes with a process what it left behind, before anybody can count it")
	}
	inst := b.instance("rel_1", 0, "good", 10*time.Second)
	inst.Workload.Run = "sh -c 'sleep 30 &'" // it never answers: whether it ended is all that can be seen
	_, err := b.Start(t.Context(), inst)
	if err == nil || !strings.Contains(err.Error(), "it went into the background") {
		t.Errorf("it says %v", err)
	}
}
