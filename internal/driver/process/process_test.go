package process_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/drivertest"
	"github.com/belay-cd/belay/internal/driver/process"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/supervise"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "sandbox":
			os.Exit(sandbox.Main(os.Args[2:]))
		case "shim":
			os.Exit(supervise.Main(os.Args[2:]))
		case "static":
			os.Exit(process.StaticMain(os.Args[2:]))
		case "one-off":
			os.Exit(oneOff(os.Args[2], os.Args[3]))
		case "start-job":
			os.Exit(startJob(os.Args[2], os.Args[3]))
		case "attack":
			os.Exit(attackMain(os.Args[2:]))
		case "app":
			os.Exit(app(os.Args[2:]))
		}
	}
	goleak.VerifyTestMain(m)
}

// app is what the instances of these tests run.
func app(args []string) int {
	mode := args[0]
	switch mode {
	case "crash":
		fmt.Println("cannot find the database", os.Getenv("PASSWORD"))
		return 3
	case "sleep":
		time.Sleep(time.Hour)
	case "beat":
		fmt.Println("worker is ready")
		for range 10000 {
			_ = os.WriteFile(os.Getenv("BELAY_HEARTBEAT"), []byte("x"), 0o600)
			time.Sleep(50 * time.Millisecond)
		}
	}
	if mode == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
	}
	mux := http.NewServeMux()
	var broken atomic.Bool
	mux.HandleFunc("/break", func(http.ResponseWriter, *http.Request) { broken.Store(true) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			http.Error(w, "a lock is held for ever", http.StatusServiceUnavailable)
			return
		}
		if mode == "never" {
			http.Error(w, "the cache is cold "+os.Getenv("PASSWORD"), http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Join(os.Environ(), "\n")) })
	mux.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		err := os.WriteFile(r.URL.Query().Get("path"), []byte("x"), 0o600)
		fmt.Fprint(w, err)
	})
	mux.HandleFunc("/fork", func(w http.ResponseWriter, _ *http.Request) {
		// A process that leaves its parent, its group and its session.
		p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "setsid sleep 3000 & setsid sleep 3001 &"},
			&os.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}})
		if err == nil {
			_, err = p.Wait()
		}
		fmt.Fprint(w, err)
	})
	mux.HandleFunc("/eat", func(http.ResponseWriter, *http.Request) {
		var eaten [][]byte
		for range 1024 {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			eaten = append(eaten, b)
		}
		_ = eaten
	})
	fmt.Println("listening on " + os.Getenv("PORT"))
	fmt.Println(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), mux))
	return 1
}

// artifacts unpacks every digest to one folder that holds this test's binary.
type artifacts struct{ dir string }

func (a artifacts) Unpack(ctx context.Context, _ string) (string, error) { return a.dir, ctx.Err() }

// bench is a data folder with a driver on it, and the means to look at what really runs.
type bench struct {
	t    *testing.T
	cfg  process.Config
	data string
	*process.Driver
}

func newBench(t *testing.T, change func(*process.Config)) *bench {
	t.Helper()
	data := dataFolder(t)
	release := filepath.Join(data, "releases", "aa")
	if err := os.MkdirAll(release, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyBinary(t, self, filepath.Join(release, "app"))
	b := &bench{t: t, data: data}
	b.cfg = process.Config{
		Data: data, Artifacts: artifacts{release}, Grace: 300 * time.Millisecond,
		Accounts: sandbox.Accounts{Numeric: true},
		Backoff: supervise.Backoff{
			First: supervise.Duration(50 * time.Millisecond), Longest: supervise.Duration(time.Second),
			Reset: supervise.Duration(time.Minute),
		},
	}
	if change != nil {
		change(&b.cfg)
	}
	b.open()
	t.Cleanup(b.cleanUp)
	return b
}

// dataFolder is not below /tmp: there the private /tmp of an instance would cover it, whatever else fails to.
func dataFolder(t *testing.T) string {
	t.Helper()
	parent := "/var/lib"
	if os.Geteuid() != 0 {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		parent = home
	}
	data, err := os.MkdirTemp(parent, "belay-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(data); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(data, 0o711); err != nil {
		t.Fatal(err)
	}
	return data
}

func copyBinary(t *testing.T, from, to string) {
	t.Helper()
	if os.Link(from, to) == nil {
		if err := os.Chmod(to, 0o755); err != nil {
			t.Fatal(err)
		}
		return
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) open() {
	b.t.Helper()
	d, err := process.New(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Driver = d
}

// cleanUp stops everything and proves that nothing is left.
func (b *bench) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	dirs, _ := filepath.Glob(filepath.Join(b.data, "instances", "*", "*", "*", "*"))
	for _, dir := range dirs {
		if err := supervise.Stop(ctx, dir); err != nil {
			b.t.Errorf("clean up: %v", err)
		}
	}
	if err := b.Close(); err != nil {
		b.t.Error(err)
	}
	left := b.processes()
	for end := time.Now().Add(5 * time.Second); len(left) > 0 && time.Now().Before(end); left = b.processes() {
		time.Sleep(20 * time.Millisecond) // a shim whose work is over is about to end
	}
	for _, p := range left {
		b.t.Errorf("left behind: %s", p)
	}
}

// processes returns the processes whose release or shim belongs to this bench.
func (b *bench) processes() []string {
	var found []string
	links, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, l := range links {
		cmd, _ := os.ReadFile(l)
		env, _ := os.ReadFile(filepath.Join(filepath.Dir(l), "environ"))
		line := strings.ReplaceAll(string(cmd), "\x00", " ")
		if strings.Contains(line, b.data) || strings.Contains(string(env), "BELAY_BENCH="+b.data) {
			found = append(found, filepath.Base(filepath.Dir(l))+" "+line)
		}
	}
	return found
}

func (b *bench) instance(release string, index int, mode string, within time.Duration) domain.Instance {
	return domain.Instance{
		InstanceID: domain.InstanceID{App: "shop", Environment: domain.Production, Release: release, Role: "web", Index: index},
		Commit:     "0123456789abcdef0123456789abcdef01234567", Digest: "sha256:aa",
		Fixed: filepath.Join(b.data, "work", "shop", "src"),
		Workload: domain.Workload{
			Role: "web", Kind: domain.Web, Run: "./app app " + mode, Instances: 2,
			Env:     map[string]string{"BELAY_BENCH": b.data, "PASSWORD": "hunter2hunter2"},
			Secrets: []string{"PASSWORD"},
			Probe: domain.Probe{
				HTTP: "/healthz", Every: 100 * time.Millisecond, Timeout: time.Second, StartWithin: within,
			},
		},
	}
}

// crash ends an instance's process with a signal that it cannot handle.
func (b *bench) crash(t *testing.T, id domain.InstanceID) {
	t.Helper()
	state, err := supervise.ReadState(filepath.Dir(b.Logs(id)))
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Child.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) start(inst domain.Instance) domain.InstanceStatus {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	s, err := b.Start(ctx, inst)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) get(s domain.InstanceStatus, path string) string {
	b.t.Helper()
	resp, err := http.Get("http://" + s.Addr + path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	http.DefaultClient.CloseIdleConnections()
	return string(body)
}

// await polls until ok: what is looked at happens in other processes.
func (b *bench) await(what string, ok func() bool) {
	b.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(15 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("not in 15 s: %s", what)
		}
	}
}

func (b *bench) status(id domain.InstanceID) domain.InstanceStatus {
	b.t.Helper()
	all, err := b.List(b.t.Context(), id.App, id.Environment)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, s := range all {
		if s.InstanceID == id {
			return s
		}
	}
	return domain.InstanceStatus{}
}

func TestConformance(t *testing.T) {
	modes := map[drivertest.Behaviour]string{
		drivertest.Good: "good", drivertest.NeverReady: "never", drivertest.Crashes: "crash", drivertest.Stubborn: "stubborn",
	}
	drivertest.Run(t, func(t *testing.T) drivertest.Subject {
		t.Parallel()
		b := newBench(t, nil)
		return drivertest.Subject{
			Driver: b,
			Instance: func(release string, index int, m drivertest.Behaviour, within time.Duration) domain.Instance {
				return b.instance(release, index, modes[m], within)
			},
			Crash: b.crash,
		}
	})
}

func TestEnvironment(t *testing.T) {
	b := newBench(t, nil)
	inst := b.instance("rel_1", 0, "good", 10*time.Second)
	inst.Workload.Volumes = map[string]string{"uploads": "media/in"}
	s := b.start(inst)
	env := "\n" + b.get(s, "/env") + "\n"
	port := s.Addr[strings.LastIndex(s.Addr, ":")+1:]
	for _, want := range []string{
		"PORT=" + port, "BELAY_ENV=production", "BELAY_APP=shop", "BELAY_RELEASE=rel_1", "BELAY_INSTANCE=web-0",
		"BELAY_COMMIT=" + inst.Commit, "TMPDIR=/tmp", "PASSWORD=hunter2hunter2",
	} {
		if !strings.Contains(env, "\n"+want+"\n") {
			t.Errorf("%s is missing in %s", want, env)
		}
	}
	// Where the data folder lies below /tmp, the instance may make one of that name in its own /tmp. It is not the same.
	b.get(s, "/write?path="+b.data+"/mine")
	if _, err := os.Stat(filepath.Join(b.data, "mine")); err == nil {
		t.Error("the instance wrote into the data folder")
	}
	for path, writable := range map[string]bool{
		"x": false, inst.Fixed + "/x": false, "media/in/x": true, "/tmp/x": true, "/var/tmp/x": true,
		"/run/belay/instance/x": true, "/etc/x": false, "/run/x": false,
	} {
		if got := b.get(s, "/write?path="+path); (got == "<nil>") != writable {
			t.Errorf("write to %s: %s", path, got)
		}
	}
	if _, err := os.Stat(filepath.Join(b.data, "volumes/shop/production/uploads/x")); err != nil {
		t.Errorf("the volume: %v", err)
	}
	if fi, err := os.Stat(filepath.Join(filepath.Dir(b.Logs(inst.InstanceID)), "shim.json")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("what to run holds secrets, but %v %v", fi.Mode(), err)
	}
	if err := b.Stop(t.Context(), inst.InstanceID); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(b.data, "instances"), func(path string, _ os.DirEntry, _ error) error {
		if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), "hunter2") {
			t.Errorf("after the stop %s still holds a secret", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
