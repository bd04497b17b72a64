package process_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/process"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/supervise"
)

// job is one run of a scheduled role. It says so in a volume, which lasts, before it does what script says.
func (b *bench) job(tick int, script string) domain.Instance {
	inst := b.instance("rel_1", tick, "", 0)
	inst.Role = "nightly"
	inst.Workload = domain.Workload{
		Role: "nightly", Kind: domain.Cron, Run: `echo "$BELAY_INSTANCE" >> ran/log; ` + script, Schedule: "* * * * * UTC",
		Env: inst.Workload.Env, Secrets: inst.Workload.Secrets, Volumes: map[string]string{"ran": "ran"},
	}
	return inst
}

// runs returns how often the process of a job was started.
func (b *bench) runs(inst domain.Instance) (n int) {
	b.t.Helper()
	log, err := os.ReadFile(filepath.Join(b.data, "volumes", "shop", "production", "ran", "log"))
	if err != nil && !os.IsNotExist(err) {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(log)) {
		if strings.TrimSpace(line) == inst.Role+"-"+strconv.Itoa(inst.Index) {
			n++
		}
	}
	return n
}

func (b *bench) startJob(inst domain.Instance) {
	b.t.Helper()
	if err := b.StartJob(b.t.Context(), inst); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) awaitJob(inst domain.Instance) domain.JobRun {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	end, err := b.AwaitJob(ctx, inst.InstanceID)
	if err != nil {
		b.t.Fatal(err)
	}
	return end
}

// began waits until the job's process has said that it runs.
func (b *bench) began(inst domain.Instance) {
	b.t.Helper()
	b.await("the job runs", func() bool { return b.runs(inst) == 1 })
}

func (b *bench) kill(procs ...supervise.Proc) {
	b.t.Helper()
	for _, p := range procs {
		if err := p.Signal(syscall.SIGKILL); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, p := range procs {
		if err := p.Wait(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
	}
}

func TestJobRunsOnce(t *testing.T) {
	b := newBench(t, nil)
	good, bad := b.job(1000, "echo fine"), b.job(2000, "echo no disk for $PASSWORD; exit 3")
	for _, inst := range []domain.Instance{good, bad} {
		b.startJob(inst)
	}
	end := b.awaitJob(good)
	if end.State != domain.JobDone || end.Code != 0 || end.Message != "" || end.Started == nil || end.Ended == nil || end.Ended.Before(*end.Started) {
		t.Errorf("a good end: %+v", end)
	}
	end = b.awaitJob(bad)
	if end.State != domain.JobFailed || end.Code != 3 || !strings.Contains(end.Message, "exit code 3") || !strings.Contains(end.Message, "no disk for [redacted]") {
		t.Errorf("a bad end: %+v", end)
	}
	// Neither another start nor another daemon runs it again.
	for range 2 {
		b.startJob(good)
		b.startJob(bad)
		if again := b.awaitJob(bad); again.Code != 3 || !again.Ended.Equal(*end.Ended) {
			t.Errorf("asked again: %+v", again)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b.open()
		if found, err := b.Adopt(t.Context()); err != nil || len(found) != 0 {
			t.Errorf("adopted as instances: %+v, %v", found, err)
		}
	}
	if b.runs(good) != 1 || b.runs(bad) != 1 {
		t.Errorf("they ran %d and %d times", b.runs(good), b.runs(bad))
	}
	if list, err := b.List(t.Context(), "shop", domain.Production); err != nil || len(list) != 0 {
		t.Errorf("listed as instances: %+v, %v", list, err)
	}
	for _, name := range []string{"instance.json", "shim.json", "job.json"} {
		data, _ := os.ReadFile(filepath.Join(filepath.Dir(b.Logs(bad.InstanceID)), name))
		if strings.Contains(string(data), "hunter2") {
			t.Errorf("%s still holds a secret: %s", name, data)
		}
	}
}

func TestJobThatNeverWas(t *testing.T) {
	b := newBench(t, nil)
	inst := b.job(1000, "true")
	if _, err := b.AwaitJob(t.Context(), inst.InstanceID); domain.CodeOf(err) != domain.NotFound || b.KnowsJob(inst.InstanceID) {
		t.Errorf("an unknown job: %v", err)
	}
	if err := b.StopJob(t.Context(), inst.InstanceID); err != nil {
		t.Errorf("stopping it: %v", err)
	}
	inst.Role = "../x"
	if err := b.StartJob(t.Context(), inst); domain.CodeOf(err) != domain.Failed && domain.CodeOf(err) != domain.Invalid {
		t.Errorf("a name that leads away: %v", err)
	}
	broken := b.job(2000, "'")
	if err := b.StartJob(t.Context(), broken); err == nil || !b.KnowsJob(broken.InstanceID) {
		t.Errorf("a command that cannot be read: %v", err)
	}
}

func TestJobGoesOnWithoutDaemonAndShim(t *testing.T) {
	b := newBench(t, nil)
	quick, orphan := b.job(1000, "while ! test -e ran/go; do sleep 0.05; done; exit 7"), b.job(2000, "while ! test -e ran/go; do sleep 0.05; done")
	for _, inst := range []domain.Instance{quick, orphan} {
		b.startJob(inst)
		b.began(inst)
		if !b.KnowsJob(inst.InstanceID) {
			t.Error("a job that runs is not known")
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.kill(b.state(orphan.InstanceID).Shim)
	b.open()
	b.startJob(orphan) // as after a crash between the start and its record
	ends := make(chan domain.JobRun)
	go func() {
		end, err := b.AwaitJob(context.Background(), orphan.InstanceID)
		if err != nil {
			t.Error(err)
		}
		ends <- end
	}()
	b.await("another shim", func() bool { return b.state(orphan.InstanceID).Shim.Alive() })
	if err := os.WriteFile(filepath.Join(b.data, "volumes", "shop", "production", "ran", "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if end := b.awaitJob(quick); end.Code != 7 {
		t.Errorf("the one with its shim: %+v", end)
	}
	// The new shim is not its parent: it sees that it ended, and no exit code.
	if end := <-ends; end.State != domain.JobFailed || end.Code != -1 || !strings.Contains(end.Message, "nobody watched") {
		t.Errorf("the one without: %+v", end)
	}
	if b.runs(quick) != 1 || b.runs(orphan) != 1 {
		t.Errorf("they ran %d and %d times", b.runs(quick), b.runs(orphan))
	}
}

// All processes of the machine end at one instant. The state then names another boot.
func TestJobAfterAReboot(t *testing.T) {
	b := newBench(t, nil)
	down, rebooted, launched := b.job(1000, "sleep 3000"), b.job(2000, "sleep 3000"), b.job(3000, "sleep 3000")
	for _, inst := range []domain.Instance{down, rebooted, launched} {
		b.startJob(inst)
		b.began(inst)
		s := b.state(inst.InstanceID)
		b.kill(s.Shim, s.Child)
		switch inst.Index {
		case 3000:
			s.Phase, s.Child = supervise.Launching, supervise.Proc{}
			fallthrough
		case 2000:
			s.Shim.Boot, s.Child.Boot = "another", "another"
			if err := supervise.WriteJSON(filepath.Join(filepath.Dir(b.Logs(inst.InstanceID)), "state.json"), s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.open()
	if _, err := b.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, inst := range []domain.Instance{down, rebooted, launched} {
		b.startJob(inst)
		end := b.awaitJob(inst)
		want := "ended by a restart of the machine"
		if inst.Index == 1000 {
			want = "nobody watched"
		}
		if end.State != domain.JobFailed || end.Code != -1 || !strings.Contains(end.Message, want) {
			t.Errorf("%d: %+v, want %s", inst.Index, end, want)
		}
		if n := b.runs(inst); n != 1 {
			t.Errorf("%d ran %d times", inst.Index, n)
		}
	}
}

// A shim that dies while it starts the process cannot say whether there was one: it is not begun again.
func TestJobIsNotLaunchedTwice(t *testing.T) {
	b := newBench(t, nil)
	inst := b.job(1000, "sleep 3000")
	b.startJob(inst)
	b.began(inst)
	s := b.state(inst.InstanceID)
	b.kill(s.Shim, s.Child)
	dir := filepath.Dir(b.Logs(inst.InstanceID))
	s.Phase, s.Child = supervise.Launching, supervise.Proc{}
	if err := supervise.WriteJSON(filepath.Join(dir, "state.json"), s); err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	if err := supervise.Launch(t.Context(), self, dir); err != nil {
		t.Fatal(err)
	}
	if end := b.awaitJob(inst); end.State != domain.JobFailed || b.runs(inst) != 1 {
		t.Errorf("it ran %d times: %+v", b.runs(inst), end)
	}
}

func TestJobIsStopped(t *testing.T) {
	b := newBench(t, nil)
	polite, stubborn := b.job(1000, "trap 'exit 9' TERM; sleep 3000 & wait"), b.job(2000, "trap '' TERM; setsid sleep 3000 & sleep 3000; sleep 3000")
	for _, inst := range []domain.Instance{polite, stubborn} {
		b.startJob(inst)
		b.began(inst)
	}
	began := time.Now()
	for _, inst := range []domain.Instance{polite, stubborn} {
		if err := b.StopJob(t.Context(), inst.InstanceID); err != nil {
			t.Fatal(err)
		}
		if end := b.awaitJob(inst); end.State != domain.JobFailed || end.Message == "" {
			t.Errorf("%d: %+v", inst.Index, end)
		}
	}
	if end := b.awaitJob(polite); end.Code != 9 {
		t.Errorf("the one that ended by itself: %+v", end)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if left := b.processes(); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestJobsAreRetained(t *testing.T) {
	b := newBench(t, nil)
	web := b.instance("rel_1", 5000, "good", 10*time.Second)
	web.Role, web.Workload.Role = "nightly", "nightly" // the role was another kind once
	b.start(web)
	var jobs []domain.Instance
	for tick := range 4 {
		inst := b.job(1000+tick, "true")
		if inst.Release = "rel_2"; tick == 3 {
			inst.Release = "rel_1"
		}
		if tick == 0 {
			inst.Workload.Run += "; sleep 3000"
		}
		b.startJob(inst)
		if tick > 0 {
			b.awaitJob(inst)
		}
		jobs = append(jobs, inst)
	}
	if err := b.RetainJobs(t.Context(), "shop", domain.Production, "nightly", 2); err != nil {
		t.Fatal(err)
	}
	found, err := b.JobsOf("shop", domain.Production, "nightly")
	if err != nil || len(found) != 3 || found[0] != jobs[3].InstanceID || found[1] != jobs[2].InstanceID || found[2] != jobs[0].InstanceID {
		t.Errorf("kept %v, %v", found, err)
	}
	if err := b.Remove(t.Context(), jobs[0].InstanceID); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a job that runs was removed: %v", err)
	}
	if s := b.status(web.InstanceID); s.State != domain.Healthy {
		t.Errorf("the instance of that name: %+v", s)
	}
}

// The daemon is killed at any moment of a start. Whatever the next one finds, the job runs once.
func TestJobOfAKilledDaemon(t *testing.T) {
	b := newBench(t, nil)
	self, _ := os.Executable()
	for i := range 10 {
		inst := b.job(1000+i, "sleep 0.05")
		daemon := exec.Command(self, "start-job", b.data, strconv.Itoa(inst.Index))
		if err := daemon.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 12 * time.Millisecond) // the moment is what is tried
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		b.startJob(inst)
		if end := b.awaitJob(inst); end.State != domain.JobDone || b.runs(inst) != 1 {
			t.Errorf("killed after %d ms: it ran %d times: %+v", i*12, b.runs(inst), end)
		}
	}
}

// startJob is a daemon that starts one job.
func startJob(data, tick string) int {
	d, err := process.New(process.Config{
		Data: data, Artifacts: artifacts{filepath.Join(data, "releases", "aa")}, Accounts: sandbox.Accounts{Numeric: true},
	})
	if err != nil {
		return 1
	}
	index, _ := strconv.Atoi(tick)
	b := bench{data: data}
	if err := d.StartJob(context.Background(), b.job(index, "sleep 0.05")); err != nil {
		return 1
	}
	return 0
}
