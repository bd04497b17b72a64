package supervise

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// eat is a shell script whose child, in a session of its own, holds so many MiB.
func eat(mib int) string {
	return fmt.Sprintf("setsid sh -c 'head -c %d /dev/zero | tail -c %d | sleep 3021' & sleep 3022", mib<<20, mib<<20)
}

// Without control groups the shim itself ends an instance that uses too much memory, what it started counted in.
func TestMemoryWithoutControlGroups(t *testing.T) {
	s := spec(eat(200))
	s.Group, s.Limits.Memory = "", 96<<20
	dir := launch(t, s)
	ended := await(t, dir, "ended for its memory", func(s State) bool { return s.Restarts >= 1 && s.Last != nil })
	if !ended.Last.OOM || ended.Last.Signal != "SIGKILL" {
		t.Errorf("it ended with %+v", ended.Last)
	}

	s = spec(eat(16))
	s.Group, s.Limits.Memory = "", 96<<20
	small := launch(t, s)
	await(t, small, "running", func(s State) bool { return s.Phase == Running })
	await(t, dir, "ended again", func(s State) bool { return s.Restarts > ended.Restarts })
	if st, err := ReadState(small); err != nil || st.Restarts > 0 {
		t.Errorf("a small one became %+v, %v", st, err)
	}
}

// An app that goes into the background leaves no process behind, and its end says so.
func TestForksAway(t *testing.T) {
	for _, group := range []string{"", fmt.Sprintf("belay-supervise-test-%d/away", os.Getpid())} {
		s := spec("setsid sh -c 'sleep 3023 & sleep 3023' & sleep 0.05")
		s.Group = group
		dir := launch(t, s)
		ended := await(t, dir, "started again", func(s State) bool { return s.Restarts >= 2 && s.Last != nil })
		if ended.Last.Code != 0 || ended.Last.Left == 0 {
			t.Errorf("group %q: it ended with %+v", group, ended.Last)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := Stop(ctx, dir); err != nil {
			t.Fatal(err)
		}
		names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, name := range names {
			if line, _ := os.ReadFile(name); strings.Contains(string(line), "3023") {
				t.Errorf("group %q: left behind: %s %q", group, name, line)
			}
		}
	}
}

// What changed of what to run counts from the next start on.
func TestRescore(t *testing.T) {
	s := spec("exec sleep 3024")
	s.Command.OOMScoreAdj = 300
	dir := launch(t, s)
	before := await(t, dir, "running", func(s State) bool { return s.Phase == Running })
	awaitScore(t, before.Child.PID, "300")
	pids, err := Rescore(dir, 100)
	if err != nil || len(pids) != 1 || pids[0] != before.Child.PID {
		t.Fatalf("its processes are %v, %v", pids, err)
	}
	if err := before.Child.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	after := await(t, dir, "started again", func(s State) bool { return s.Restarts == 1 && s.Phase == Running })
	awaitScore(t, after.Child.PID, "100")
	if _, err := Rescore(t.TempDir(), 0); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}

// awaitScore polls: the process sets its score itself before it runs the command.
func awaitScore(t *testing.T, pid int, want string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(5 * time.Second)
	for {
		score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		if strings.TrimSpace(string(score)) == want {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("oom_score_adj of %d is %q, %v; want %s", pid, score, err, want)
		}
	}
}

// A group that weighs less than others gets less of the processor from the kernel.
func TestGroupShare(t *testing.T) {
	g, _ := NewGroup(fmt.Sprintf("belay-supervise-test-%d/light", os.Getpid()), Limits{Share: 11})
	defer g.Remove()
	found := false
	for _, dir := range g.Dirs() {
		for file, want := range map[string]string{"cpu.weight": "11", "cpu.shares": "112"} {
			if got, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
				found = true
				if strings.TrimSpace(string(got)) != want {
					t.Errorf("%s/%s is %s, want %s", dir, file, got, want)
				}
			}
		}
	}
	if !found {
		t.Skip("no control groups for the processor here: the nice value alone decides")
	}
}

// No name is no group, and never the daemon's own.
func TestNoGroup(t *testing.T) {
	g, notes := NewGroup("", Limits{Memory: 1 << 20, CPU: 1})
	if len(g.Dirs()) > 0 || g.LimitsMemory() || len(notes) != 1 {
		t.Errorf("%+v, %q", g, notes)
	}
}
