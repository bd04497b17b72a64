package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
)

// world is one server on a folder of its own, on loopback only.
type world struct {
	b         *testing.B
	dir, data string
	http      string
	api       *client.Client
	serve     *exec.Cmd
	ready     time.Duration // from the start of the process to its word that it is ready
}

func newWorld(b *testing.B) *world {
	b.Helper()
	belay, _ := binaries(b)
	w := &world{b: b, http: freeAddress(b)}
	var err error
	if w.dir, err = os.MkdirTemp(built.dir, "world-"); err != nil {
		b.Fatal(err)
	}
	if err := os.Chmod(w.dir, 0o755); err != nil { // builds and instances are users of their own
		b.Fatal(err)
	}
	w.data = filepath.Join(w.dir, "data")
	if w.api, err = client.New("unix://"+filepath.Join(w.data, "run", "belay.sock"), ""); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.end)
	w.start(belay)
	return w
}

// start runs serve and returns when it says that it is ready.
func (w *world) start(belay string) {
	w.b.Helper()
	log, err := os.OpenFile(filepath.Join(w.dir, "serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		w.b.Fatal(err)
	}
	defer log.Close()
	w.serve = exec.Command(belay, "serve", "--demo", "--data", w.data, "--http", w.http, "--https", "", "--listen", freeAddress(w.b))
	w.serve.Stderr = log
	w.serve.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := w.serve.StdoutPipe()
	if err != nil {
		w.b.Fatal(err)
	}
	began := time.Now()
	if err := w.serve.Start(); err != nil {
		w.b.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "ready") {
			w.ready = time.Since(began)
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return
		}
	}
	text, _ := os.ReadFile(log.Name())
	w.b.Fatalf("serve ended before it was ready:\n%s", text)
}

// stop ends serve in order; what outlives it goes on.
func (w *world) stop() {
	w.b.Helper()
	if err := w.serve.Process.Signal(syscall.SIGTERM); err != nil {
		w.b.Fatal(err)
	}
	_ = w.serve.Wait()
}

func (w *world) end() {
	if w.b.Failed() {
		text, _ := os.ReadFile(filepath.Join(w.dir, "serve.log"))
		w.b.Logf("the log of serve:\n%s", text[max(0, len(text)-4000):])
	}
	w.api.Close()
	endDescendants()
	for range 20 { // mounts of ended processes may still be going away
		if os.RemoveAll(w.dir) == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// appFile is an app whose commands do nothing, without bakes.
const appFile = `app: %s
build: { run: test -s app, files: [app, release], lint: [test -s release] }
test:
  unit:        { run: test -s release }
  integration: { run: test -s release }
  e2e:         { run: test -s release }
roles:
  web:
    run: ./app
    hosts: { staging: [staging.%[1]s.localhost], production: [%[1]s.localhost] }
    probe: { http: /healthz }
    instances: %d
rollout: { strategy: blue-green, staging_hold: 0s }
monitor: { for: %s }
`

// project is the repository of one app.
type project struct {
	w         *world
	name, dir string
	commits   int
}

func (w *world) newProject(name string, instances int, monitor string) *project {
	w.b.Helper()
	p := &project{w: w, name: name, dir: filepath.Join(w.dir, "repo-"+name)}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		w.b.Fatal(err)
	}
	_, app := binaries(w.b)
	program, err := os.ReadFile(app)
	if err != nil {
		w.b.Fatal(err)
	}
	p.write("app", string(program), 0o755)
	p.describe(instances, monitor)
	p.git("init", "--quiet", "--initial-branch=main")
	return p
}

// describe writes the file of the app.
func (p *project) describe(instances int, monitor string) {
	p.w.b.Helper()
	p.write("belay.yaml", fmt.Sprintf(appFile, p.name, instances, monitor), 0o644)
}

func (p *project) write(name, text string, mode os.FileMode) {
	p.w.b.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), mode); err != nil {
		p.w.b.Fatal(err)
	}
}

func (p *project) git(args ...string) {
	p.w.b.Helper()
	cmd := exec.Command("git", append([]string{"-C", p.dir, "-c", "user.name=Ana", "-c", "user.email=ana@shop.example"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		p.w.b.Fatalf("git %s: %v: %s", args, err, out)
	}
}

// commit makes a commit that differs from the one before.
func (p *project) commit() {
	p.w.b.Helper()
	p.commits++
	p.write("release", fmt.Sprintln(p.commits), 0o644)
	p.git("add", "--all")
	p.git("commit", "--quiet", "--message", fmt.Sprintf("release %d", p.commits))
}

// belay runs a command line in the repository and returns how long it took.
func (p *project) belay(want int, args ...string) (time.Duration, string) {
	p.w.b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, built.belay, append([]string{"-C", p.dir}, args...)...)
	cmd.Env = append(os.Environ(), "BELAY_SERVER=unix://"+filepath.Join(p.w.data, "run", "belay.sock"), "NO_COLOR=1")
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || cmd.ProcessState.ExitCode() != want {
		p.w.b.Fatalf("belay %s: %v, exit code %d is wanted:\n%s", args, err, want, out)
	}
	return took, string(out)
}

// newest returns the newest delivery.
func (p *project) newest() domain.Delivery {
	p.w.b.Helper()
	d, err := p.w.api.Delivery(context.Background(), p.name, client.Newest)
	if err != nil {
		p.w.b.Fatal(err)
	}
	return d
}

// await returns the newest delivery when it is as wanted.
func (p *project) await(what string, ok func(domain.Delivery) bool) domain.Delivery {
	p.w.b.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		d := p.newest()
		if ok(d) {
			return d
		}
		if time.Now().After(end) || d.State.Final() {
			p.w.b.Fatalf("%s: #%d is %s: %+v", what, d.Number, d.State, d.Outcome)
		}
	}
}
