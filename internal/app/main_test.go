package app

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/process"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/proxy"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/sample"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/scrape"
	"github.com/belay-cd/belay/internal/store"
	"github.com/belay-cd/belay/internal/supervise"
)

// TestMain lets the test binary be what the tests start, as belay is its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "proxy":
			os.Exit(proxy.Main(os.Args[2:]))
		case "sandbox":
			os.Exit(sandbox.Main(os.Args[2:]))
		case "shim":
			os.Exit(supervise.Main(os.Args[2:]))
		case "static":
			os.Exit(process.StaticMain(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// bench is a real proxy in front of instances that the test plays, with all that verifies and measures them.
type bench struct {
	t         *testing.T
	client    *proxy.Client
	router    *router
	checks    *checks
	synthetic *synthetic
	book      *sample.Book
	judges    *keeper
	scraper   *scrape.Scraper

	mu   sync.Mutex
	list []domain.InstanceStatus
}

func newBench(t *testing.T, change ...func(*proxy.Config)) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("", "belay") //nolint:usetesting // a short path: unix sockets have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	c := proxy.Config{Socket: filepath.Join(dir, "proxy.sock"), Table: filepath.Join(dir, "proxy", "table.json"),
		HTTP: []string{"127.0.0.1:0"}, Log: filepath.Join(dir, "proxy.log")}
	for _, f := range change {
		f(&c)
	}
	b := &bench{t: t, client: proxy.NewClient(c.Socket), book: sample.NewBook(), judges: newKeeper(noTicks{}, slog.New(slog.DiscardHandler))}
	t.Cleanup(func() { b.end(dir) })
	if err := proxy.Spawn(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b.router = &router{proxy: b.client, list: b.instances}
	if err := b.router.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	samples := scrape.NewSamples(scrape.Limits{})
	b.scraper = scrape.New(samples, 50*time.Millisecond)
	b.checks = &checks{
		router: b.router, runner: &runner{}, exec: shell,
		numbers: &numbers{book: b.book, samples: samples, list: b.instances, scrapes: b.scraper.Status},
	}
	b.synthetic = &synthetic{checks: b.checks, health: b.client.Health}
	work, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	pull := &collector{proxy: b.client, book: b.book, keep: b.judges}
	done.Go(func() { pull.run(work) })
	done.Go(func() { b.scraper.Run(work) })
	t.Cleanup(func() { stop(); done.Wait() })
	return b
}

func (b *bench) end(dir string) {
	if h, err := b.client.Health(context.Background()); err == nil {
		if h.Holder > 0 {
			_ = syscall.Kill(h.Holder, syscall.SIGKILL)
		}
		_ = syscall.Kill(h.PID, syscall.SIGKILL)
	}
	b.client.Close()
	if b.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(dir, "proxy.log"))
		b.t.Logf("log of the proxy:\n%s", log)
	}
	_ = os.RemoveAll(dir)
}

type noTicks struct{}

func (noTicks) SaveCheckpoint(context.Context, store.Checkpoint) error { return nil }
func (noTicks) LastTick(context.Context, string) (int64, error)        { return 0, nil }
func (noTicks) JudgeOf(context.Context, string) ([]byte, int64, error) { return nil, 0, nil }
func (noTicks) EachTick(context.Context, store.TickFilter, func(measure.Tick) error) error {
	return nil
}

// shell runs a command as a process, with its variables.
func shell(ctx context.Context, _ domain.Instance, command string, stdio process.Stdio, env map[string]string) (int, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.WaitDelay = time.Second
	cmd.Stdout, cmd.Stderr = stdio.Out, stdio.Err
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	err := cmd.Run()
	if cmd.ProcessState != nil {
		return cmd.ProcessState.ExitCode(), nil
	}
	return -1, err
}

func (b *bench) instances(context.Context, string, domain.Environment) ([]domain.InstanceStatus, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]domain.InstanceStatus(nil), b.list...), nil
}

// instance is one that the test plays.
type instance struct {
	*httptest.Server
	hits atomic.Int64
}

// start plays an instance of a role of a release.
func (b *bench) start(rel *domain.Release, role string, index int, handle http.HandlerFunc) *instance {
	b.t.Helper()
	i := &instance{}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visited := strings.HasSuffix(r.Host, "shop.example")
		switch {
		case visited:
			i.hits.Add(1)
			handle(w, r)
		case r.URL.Path == "/metrics":
			handle(w, r)
		default: // the proxy's own probe
		}
	}))
	b.t.Cleanup(i.Close)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, domain.InstanceStatus{
		InstanceID: domain.InstanceID{App: rel.App, Environment: rel.Environment, Release: rel.ID, Role: role, Index: index},
		State:      domain.Healthy, Addr: i.Listener.Addr().String(), Started: time.Now(),
	})
	var sources []scrape.Source
	for _, s := range b.list {
		sources = append(sources, scrape.Source{Instance: s.InstanceID, URL: "http://" + s.Addr + "/metrics"})
	}
	b.scraper.Set(sources)
	return i
}

// shift gives next a weight.
func (b *bench) shift(j delivery.CheckJob, weight int) {
	b.t.Helper()
	if weight > 0 && j.Rollout.Record.Shifted == nil {
		now := time.Now()
		j.Rollout.Record.Shifted = &now
	}
	r := j.Rollout
	err := b.router.Split(b.t.Context(), rollout.Split{App: r.Record.App, Environment: r.Record.Environment, Rollout: r.Record.ID,
		Stable: r.Stable, Next: &r.Next, Weight: weight})
	if err != nil {
		b.t.Fatal(err)
	}
}

// fine answers everything.
func fine(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }

// head is the beginning of every file.
const head = `app: shop
build: { run: make, files: [app] }
test:
  unit:        { run: make unit }
  integration: { none: one part only }
  e2e:         { none: these tests are its visitors }
`

// file has one web role; more may be given.
func file(t *testing.T, rest string) *config.File {
	t.Helper()
	if !strings.Contains(rest, "roles:") {
		rest = "roles:\n  web:\n    run: ./app\n    hosts: { staging: [staging.shop.example], production: [shop.example] }\n" +
			"    probe: { http: /healthz }\n    metrics: /metrics\n" + rest
	}
	f, findings := config.Parse("belay.yaml", []byte(head+rest), config.Options{Demo: true})
	if config.Failed(findings, false) {
		for _, f := range findings {
			t.Logf("%s: %s", f.Message, f.Excerpt)
		}
		t.Fatal("not a file")
	}
	return f
}

// job is a rollout of two releases of a file.
func job(f *config.File, env domain.Environment) delivery.CheckJob {
	release := func(id string) domain.Release {
		return domain.Release{ID: "rel_" + id, App: "shop", Environment: env, Commit: id + "000000000", Workloads: config.Workloads(f, env)}
	}
	stable := release("stable")
	return delivery.CheckJob{File: f, ErrorRate: 0.01, Latency: 0.2, Rollout: &rollout.Rollout{
		Record: domain.RolloutRecord{ID: "rol_1", App: "shop", Environment: env, Started: time.Now()}, Stable: &stable, Next: release("next"),
	}}
}

func record(t *testing.T, list []domain.CheckRecord, name string) domain.CheckRecord {
	t.Helper()
	var names []string
	for _, r := range list {
		if r.Name == name {
			return r
		}
		names = append(names, r.Name)
	}
	t.Fatalf("no record %q among %q", name, names)
	return domain.CheckRecord{}
}

// expect looks for a record in a state, with the parts in its message.
func expect(t *testing.T, list []domain.CheckRecord, name, state string, parts ...string) {
	t.Helper()
	r := record(t, list, name)
	if r.State != state {
		t.Errorf("%s is %s, want %s: %s", name, r.State, state, r.Message)
	}
	for _, p := range parts {
		if !strings.Contains(r.Message, p) {
			t.Errorf("%s: message %q lacks %q", name, r.Message, p)
		}
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within 5s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// scrapeAll is all that was scraped.
func scrapeAll() scrape.Window { return scrape.Last(time.Hour) }

// scrapeSince is what was scraped since next has traffic.
func scrapeSince(j delivery.CheckJob) scrape.Window {
	return scrape.Window{From: *j.Rollout.Record.Shifted, To: time.Now()}
}
