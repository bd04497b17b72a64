package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/proxy"
)

const (
	appName        = "torture"
	productionHost = "torture.localhost"
)

// belayFile has short times, and limits that a busy machine does not break: what is tried here is not the guard.
const belayFile = `app: torture
build: { run: %s, files: [app, mode, aim], lint: [test -s mode] }
test:
  unit:        { run: ./app check }
  integration: { none: the app has one part only }
  e2e:         { none: the torture tests are its visitors }
%sroles:
  web:
    run: ./app
    hosts: { staging: [staging.torture.localhost], production: [torture.localhost] }
    probe: { http: /healthz, every: 1s, timeout: 900ms }
    drain: 1s
verify:
  error_rate: 20%%
  latency: +2000%%
rollout: { strategy: blue-green, staging_hold: 0s }
guard: { error_rate: 30%% for 5s, latency: 50x, failed_probes: %d }
monitor: { for: %s }
`

// world is one server with its data folder, the repository of one app, and what is needed to ask them.
type world struct {
	t                    *testing.T
	dir, data, repo      string
	http, api            string
	serve                *exec.Cmd
	gone                 chan struct{} // closed when serve has ended
	api1                 *client.Client
	proxy                *proxy.Client
	build, file, monitor string
	probes               int // failed probes that are harm
	ready                time.Duration
}

// newWorld makes a repository and starts a server on a folder of its own. Data may name a folder, "" is a new one.
func newWorld(t *testing.T, monitor, data string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), monitor: monitor, build: "test -s app", probes: 2}
	for dir := w.dir; len(dir) > len(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { // builds and instances are users of their own
			t.Fatal(err)
		}
	}
	w.data, w.repo = data, filepath.Join(w.dir, "repo")
	if data == "" {
		w.data = filepath.Join(w.dir, "data")
	}
	w.http, w.api = freeAddress(t), freeAddress(t)
	socket := filepath.Join(w.data, "run", "belay.sock")
	var err error
	if w.api1, err = client.New("unix://"+socket, ""); err != nil {
		t.Fatal(err)
	}
	w.proxy = proxy.NewClient(filepath.Join(w.data, "run", "proxy.sock"))
	t.Cleanup(w.end)
	if err := os.MkdirAll(w.repo, 0o755); err != nil {
		t.Fatal(err)
	}
	app, err := os.ReadFile(binaries.app)
	if err != nil {
		t.Fatal(err)
	}
	w.write("app", string(app), 0o755)
	w.write("aim", "data=\n", 0o644)
	w.git("init", "--quiet", "--initial-branch=main")
	w.start(binaries.belay)
	return w
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (w *world) write(name, text string, mode os.FileMode) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.repo, name), []byte(text), mode); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) git(args ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", w.repo, "-c", "user.name=Ana", "-c", "user.email=ana@shop.example"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := runChild(cmd)
	if err != nil {
		w.t.Fatalf("git %s: %v: %s", args[0], err, out)
	}
	return strings.TrimSpace(out)
}

// commit makes a commit whose app has this name and behaves like this.
func (w *world) commit(name, mode string) string {
	w.t.Helper()
	w.write("belay.yaml", fmt.Sprintf(belayFile, w.build, w.file, w.probes, w.monitor), 0o644)
	w.write("mode", "name="+name+" "+mode+"\n", 0o644)
	w.git("add", "--all")
	w.git("commit", "--quiet", "--message", name)
	return w.git("rev-parse", "HEAD")
}

// start runs the server and returns when it answers.
func (w *world) start(binary string) {
	w.t.Helper()
	log, err := os.OpenFile(filepath.Join(w.dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	began := time.Now()
	w.serve = exec.Command(binary, "serve", "--demo", "--data", w.data, "--http", w.http, "--https", "", "--listen", w.api)
	w.serve.Stdout, w.serve.Stderr = log, log
	w.serve.Env = append(os.Environ(), "BELAY_TORTURE="+w.data)
	w.serve.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := startChild(w.serve); err != nil {
		w.t.Fatal(err)
	}
	gone, cmd := make(chan struct{}), w.serve
	w.gone = gone
	go func() {
		_ = waitChild(cmd) // how it ended stands in its log
		close(gone)
	}()
	eventually(w.t, 20*time.Second, "serve is ready", func() error {
		select {
		case <-gone:
			w.t.Fatalf("serve ended: %s\n%s", cmd.ProcessState, w.tail("serve.log"))
		default:
		}
		_, err := w.api1.Health(w.t.Context())
		return err
	})
	w.ready = time.Since(began)
}

func (w *world) tail(name string) string {
	data, _ := os.ReadFile(filepath.Join(w.dir, name))
	return string(data[max(0, len(data)-4000):])
}

// killServe ends the daemon without a word.
func (w *world) killServe() {
	w.t.Helper()
	if err := w.serve.Process.Kill(); err != nil {
		w.t.Fatal(err)
	}
	<-w.gone
}

// belay runs a command in the repository and returns its exit code and output.
func (w *world) belay(args ...string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binaries.belay, append([]string{"-C", w.repo}, args...)...)
	cmd.Env = append(os.Environ(), "BELAY_SERVER=unix://"+filepath.Join(w.data, "run", "belay.sock"), "NO_COLOR=1")
	out, err := runChild(cmd)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, out
	case errors.As(err, &exit):
		return exit.ExitCode(), out
	default:
		return -1, out + err.Error()
	}
}

// ship hands the newest commit over and returns the number of its delivery.
func (w *world) ship() int {
	w.t.Helper()
	if code, out := w.belay("ship", "--detach"); code != domain.Waiting.Exit() {
		w.t.Fatalf("ship ended with %d: %s\n%s", code, out, w.tail("serve.log"))
	}
	d, err := w.api1.Delivery(w.t.Context(), appName, client.Newest)
	if err != nil {
		w.t.Fatal(err)
	}
	return d.Number
}

// await waits for the end of a delivery.
func (w *world) await(number int, within time.Duration) domain.Delivery {
	w.t.Helper()
	var d domain.Delivery
	eventually(w.t, within, fmt.Sprintf("delivery #%d ends", number), func() error {
		var err error
		if d, err = w.api1.Delivery(w.t.Context(), appName, number); err != nil {
			return err
		}
		if !d.State.Final() {
			return errors.New(describe(d))
		}
		return nil
	})
	return d
}

// describe says where a delivery is.
func describe(d domain.Delivery) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "#%d is %s", d.Number, d.State)
	if d.Outcome != nil {
		fmt.Fprintf(&b, ": %s", d.Outcome.Sentence)
	}
	for _, s := range d.Stages {
		if s.State == domain.PendingStage {
			continue
		}
		fmt.Fprintf(&b, "\n  %s %s %s", s.Name, s.State, s.Summary)
		if s.Started != nil && s.Ended != nil {
			fmt.Fprintf(&b, " (%s)", s.Ended.Sub(*s.Started).Round(time.Millisecond))
		}
		for _, step := range s.Steps {
			if step.State != domain.DoneState {
				fmt.Fprintf(&b, "\n    %s %s %s %s %s", step.Verb, step.Release, step.Instance, step.State, step.Message)
			}
		}
	}
	return b.String()
}

// deliver ships a commit and asserts how its delivery ends.
func (w *world) deliver(name, mode string, want domain.DeliveryState) domain.Delivery {
	w.t.Helper()
	w.commit(name, mode)
	d := w.await(w.ship(), 90*time.Second)
	if d.State != want {
		w.t.Fatalf("%s is wanted: %s\n%s", want, describe(d), w.tail("serve.log"))
	}
	return d
}

// route returns production's route as the data plane has it.
func (w *world) route() (domain.Route, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := w.proxy.Routes(ctx)
	if err != nil {
		return domain.Route{}, err
	}
	for _, r := range s.Routes {
		if r.App == appName && r.Environment == domain.Production {
			return r, nil
		}
	}
	return domain.Route{}, errors.New("production has no route")
}

// awaitStep waits until the route is as wanted, and returns it.
func (w *world) awaitRoute(what string, f func(domain.Route) bool) domain.Route {
	w.t.Helper()
	var r domain.Route
	eventually(w.t, 60*time.Second, what, func() error {
		var err error
		if r, err = w.route(); err == nil && !f(r) {
			err = fmt.Errorf("the route is at weight %d, latched %t, rollout %q", r.Weight, r.Latched, r.Rollout)
		}
		return err
	})
	return r
}

func onNext(r domain.Route) bool   { return r.Rollout != "" && r.Weight == domain.WeightAll }
func onStable(r domain.Route) bool { return r.Stable != nil && r.Weight == 0 }

// end stops everything below the data folder, in the order in which nobody starts another one again, and asserts that
// nothing is left.
func (w *world) end() {
	if w.t.Failed() {
		w.t.Logf("the end of the server's log:\n%s", w.tail("serve.log"))
	}
	w.proxy.Close()
	w.api1.Close()
	if w.serve != nil {
		_ = w.serve.Process.Kill()
		<-w.gone
	}
	for round := range 50 {
		left := descendants()
		if len(left) == 0 {
			break
		}
		if round == 49 {
			w.t.Errorf("left behind: %v", left)
		}
		endAll(left)
		time.Sleep(20 * time.Millisecond)
	}
	for range 20 { // mounts of ended processes may still be going away
		if os.RemoveAll(w.data) == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
