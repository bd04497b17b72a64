// Package app puts the processes together: the only place where ports meet adapters.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/process"
	"github.com/belay-cd/belay/internal/evidence"
	"github.com/belay-cd/belay/internal/policy"
	"github.com/belay-cd/belay/internal/proxy"
	"github.com/belay-cd/belay/internal/registry"
	"github.com/belay-cd/belay/internal/sample"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/scrape"
	"github.com/belay-cd/belay/internal/secrets"
	"github.com/belay-cd/belay/internal/store"
	"github.com/belay-cd/belay/internal/supervise"
	"github.com/belay-cd/belay/internal/web"
)

// Options are the flags of the server.
type Options struct {
	Data    string // folder of everything that must survive
	HTTP    string // address of the plain traffic listener, "" for none
	HTTPS   string // address of the TLS traffic listener, "" for none
	Listen  string // address of the API over TCP, "" for none
	Certs   string // folder of certificate files, "" for none
	Trust   string // networks whose forwarding headers the proxy believes, separated by commas
	Demo    bool   // times below the usual bounds are accepted
	Group   string // group that may use the socket, "" for none
	Policy  string // file of the server's policy; "" is policy.yaml in the data folder, if it is there
	Version string
	Out     io.Writer // lines for people
	Err     io.Writer // log
}

// Server is the control plane of one machine.
type Server struct {
	o         Options
	log       *slog.Logger
	maskedLog *maskedLog // what log writes to
	began     time.Time
	cleanup   []step // in reverse order at Stop

	sealer   *secrets.Sealer
	store    *store.Store
	registry *registry.Store
	proxy    *proxy.Client
	router   *router
	runner   *runner
	book     *sample.Book
	scraper  *scrape.Scraper
	samples  *scrape.Samples
	service  *delivery.Service
	box      *sandbox.Sandbox
	policy   *policy.Policy
	web      *web.Server
	url      string

	work context.Context // of the background work of this process
}

type step struct {
	name string
	stop func(context.Context) error
}

// gcPercent trades a little work for memory, which belongs to the apps: what the ticks of many apps take is collected early.
const gcPercent = 50

// stopWithin bounds the whole of Stop.
const stopWithin = 20 * time.Second

// Serve runs the server until ctx ends. The proxy and the instances go on without it.
func Serve(ctx context.Context, o Options) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	s := &Server{o: o, began: time.Now()}
	s.maskedLog = &maskedLog{w: o.Err}
	s.log = slog.New(slog.NewTextHandler(s.maskedLog, nil))
	if err := supervise.Quiet(); err != nil {
		s.log.Warn("a crash may write the memory of this process to the disk", "error", err)
	}
	err := s.start(ctx)
	if err == nil {
		<-ctx.Done()
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	return errors.Join(err, s.stop(stop))
}

func (s *Server) later(name string, stop func(context.Context) error) {
	s.cleanup = append(s.cleanup, step{name, stop})
}

func (s *Server) stop(ctx context.Context) error {
	var errs []error
	for _, c := range slices.Backward(s.cleanup) {
		if err := c.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Server) path(parts ...string) string {
	return filepath.Join(append([]string{s.o.Data}, parts...)...)
}

// start brings everything up, in the order in which it depends on each other. What serves users comes first: instances
// and routes are as they were before any delivery goes on.
func (s *Server) start(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.work = work
	s.later("background work", func(context.Context) error { cancel(); return nil })
	for _, phase := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"data folder", s.openFolder},
		{"policy", s.openPolicy},
		{"store", s.openStore},
		{"instances", s.openDriver},
		{"proxy", s.openProxy},
		{"deliveries", s.openDeliveries},
		{"API", s.openAPI},
	} {
		if err := phase.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", phase.name, err)
		}
	}
	return s.greet(ctx)
}

// openFolder takes the data folder for this process alone.
func (s *Server) openFolder(context.Context) error {
	if err := os.MkdirAll(s.o.Data, 0o711); err != nil {
		return err
	}
	for dir, mode := range map[string]os.FileMode{
		"": 0o711, "keys": 0o700, "run": 0o711, "repo": 0o700, "registry": 0o700, "proxy": 0o700, "logs": 0o700,
		"work": 0o711, "releases": 0o711, "instances": 0o711, "volumes": 0o711,
	} {
		if err := os.MkdirAll(s.path(dir), mode); err != nil {
			return err
		}
		if err := os.Chmod(s.path(dir), mode); err != nil {
			return err
		}
	}
	lock, err := os.OpenFile(s.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return domain.Errorf(domain.Invalid, "%s is in use by another server", s.o.Data).
			WithHint("belay status asks the one that runs; a second one needs --data of its own")
	}
	s.later("lock", func(context.Context) error { return lock.Close() })
	if err := registry.Ballast(s.path("ballast"), ballast); err != nil {
		s.log.Warn("no ballast: a full disk may delay records", "error", err)
	}
	return nil
}

// ballast is given back when the disk is full, so that a rollback can be recorded.
const ballast = 16 << 20

func (s *Server) openStore(ctx context.Context) error {
	var err error
	if s.sealer, err = secrets.OpenSealer(s.path("keys", "seal.key")); err != nil {
		return err
	}
	if s.store, err = store.Open(ctx, s.path("belay.db"), sealed{s.sealer}); err != nil {
		return err
	}
	s.later("store", func(context.Context) error { return s.store.Close() })
	if err := registry.SweepUnpacked(s.path("releases")); err != nil {
		return err
	}
	s.registry, err = registry.Open(s.path("registry"), registry.Options{MinFree: minFree})
	return err
}

// openDriver adopts what runs, and starts again what a slot owns and is gone.
func (s *Server) openDriver(ctx context.Context) error {
	s.box = &sandbox.Sandbox{}
	accounts := sandbox.Accounts{File: s.path("keys", "users.json")}
	driver, err := process.New(process.Config{
		Data: s.o.Data, Artifacts: unpacker{s.registry, s.path("releases")}, Sandbox: s.box, Accounts: accounts,
		Grace: config.KillAfter, Logger: s.log, Vault: s.sealer,
	})
	if err != nil {
		return err
	}
	s.runner = &runner{Driver: driver, data: s.o.Data, box: s.box, accounts: accounts,
		listeners: slices.Concat(addresses(s.o.HTTP), addresses(s.o.HTTPS), addresses(s.o.Listen))}
	s.later("instances", func(context.Context) error { return driver.Close() })
	if err := s.sweep(ctx); err != nil {
		s.log.Error("stop what nobody wants to run any more", "error", err)
	}
	if _, err = driver.Adopt(ctx); err != nil {
		s.log.Error("start again what runs here", "error", err)
	}
	if err := s.runner.external.load(ctx, s.store); err != nil {
		return err
	}
	go s.runner.external.watch(s.work)
	return nil
}

// sweep stops what a crash left of rollouts that are over, before it would be started again.
func (s *Server) sweep(ctx context.Context) error {
	wanted, err := s.wanted(ctx)
	if err != nil {
		return err
	}
	swept, err := s.runner.Sweep(ctx, wanted)
	for _, id := range swept {
		s.log.Warn("stopped: no slot and no rollout owns it", "instance", id.String())
	}
	return err
}

// openProxy makes sure that the data plane runs, and that its routes know where the instances are.
func (s *Server) openProxy(ctx context.Context) error {
	if s.o.Certs == "" {
		s.o.HTTPS = "" // without certificates there is nothing to answer with
	}
	c := s.proxyConfig()
	if err := proxy.Spawn(ctx, c); err != nil {
		return err
	}
	s.proxy = proxy.NewClient(c.Socket)
	s.later("proxy client", func(context.Context) error { s.proxy.Close(); return nil })
	s.router = &router{proxy: s.proxy, list: s.runner.List, warmUp: config.WarmUp}
	if s.o.Demo {
		s.router.warmUp = 0 // a demonstration has no minute to wait
	}
	if err := s.router.load(ctx); err != nil {
		return err
	}
	if err := s.restoreRoutes(ctx); err != nil {
		return err
	}
	go routesFollow(s.work, s.runner.Changes(s.work), s.router, s.log)
	s.book = sample.NewBook()
	s.samples = scrape.NewSamples(scrape.Limits{})
	s.scraper = scrape.New(s.samples, config.MetricsEvery)
	go s.scraper.Run(s.work)
	go s.follow(s.work)
	return nil
}

func (s *Server) proxyConfig() proxy.Config {
	return proxy.Config{
		Socket: s.path("run", "proxy.sock"), Table: s.path("proxy", "table.json"), HTTP: addresses(s.o.HTTP), HTTPS: addresses(s.o.HTTPS),
		Certs: s.o.Certs, Log: s.path("proxy", "log"), Trusted: addresses(s.o.Trust),
	}
}

func addresses(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}

// loggedReleases is of how many releases the secrets are masked in what instances logged.
const loggedReleases = 20

// openDeliveries starts the control plane's own work.
func (s *Server) openDeliveries(ctx context.Context) error {
	key, err := evidence.OpenKey(s.path("keys"))
	if err != nil {
		return err
	}
	resolve, err := s.openSecrets(ctx)
	if err != nil {
		return err
	}
	judges := newKeeper(s.store, s.log)
	s.later("evidence", judges.close)
	pull := &collector{proxy: s.proxy, book: s.book, keep: judges, mask: resolve.masks.text}
	pull.catchUp(ctx)
	go pull.run(s.work)
	s.runner.releases = func(ctx context.Context, app string, env domain.Environment) ([]domain.Release, error) {
		return s.store.Releases(ctx, app, env, loggedReleases)
	}
	m := &measurements{book: s.book, judges: judges, list: s.runner.List, router: s.router, scrape: s.samples}
	build := &builder{runner: s.runner, store: s.registry, secrets: resolve, runs: s.store, servers: s.openServers(),
		gate: &evidence.Gate{Key: key, Artifacts: attachments{s.registry}}}
	if s.o.Listen != "" {
		s.url = "http://" + s.o.Listen
	}
	verify := &checks{router: s.router, runner: s.runner, exec: s.runner.Driver.Exec,
		numbers: &numbers{book: s.book, samples: s.samples, list: s.runner.List, scrapes: s.scraper.Status}}
	jobs := s.openJobs()
	verify.jobs = jobs.Status
	tell := s.openNotify(resolve)
	s.service = delivery.New(delivery.Ports{
		Store: storePort{s.store, judges}, Source: repositories{s.o.Data}, Builder: build, Tester: build, Secrets: resolve,
		Checks:       verify,
		Synthetic:    &synthetic{checks: verify, health: s.proxy.Health},
		Measurements: m, Comparisons: &business{book: s.book, samples: s.samples, scrapes: s.scraper.Status},
		Runner: s.runner, Traffic: s.router, Logs: stageLogs{s.path("logs")}, Health: s.health,
		Jobs: jobs, Takeover: s.runner, Policy: s.policy, People: people{}, Databases: databases{}, Safe: resolve, Mask: resolve.masks.text, Notifications: tell,
	}, delivery.Options{Log: s.log, Demo: s.o.Demo, URL: s.url})
	s.later("deliveries", s.service.Stop)
	if err := s.service.Start(ctx); err != nil {
		return err
	}
	s.runNotify(tell)
	go s.retain(s.work)
	go s.watchPolicy(s.work)
	return nil
}

// openAPI lets people in.
func (s *Server) openAPI(context.Context) error {
	tokens := web.NewTokens(s.path("keys", "tokens"))
	o := web.Options{Version: s.o.Version, Tokens: tokens, Registry: s.registry.Handler(), Log: s.log}
	var err error
	if o.SocketGroup, err = groupID(s.o.Group); err != nil {
		return err
	}
	if mode, _ := s.box.Probe(); mode == sandbox.None {
		o.NoApprovals = "repository code runs with the server's identity here, so nobody can be told from it on this socket"
	}
	s.web = web.New(s.service, o)
	s.later("API", s.web.Shutdown)
	if err := s.web.ServeUnix(s.path("run", "belay.sock")); err != nil {
		return err
	}
	if s.o.Listen == "" {
		return nil
	}
	_, err = s.web.ServeTCP(s.o.Listen)
	return err
}

// greet says what runs, in a few lines.
func (s *Server) greet(ctx context.Context) error {
	h, err := s.health(ctx)
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(s.o.Out, format+"\n", args...) }
	say("belay %s  data %s (sqlite %s, %s free)  pid %d", s.o.Version, h.Data, registry.Size(uint64(h.StoreBytes)),
		registry.Size(uint64(h.FreeBytes)), h.PID)
	say("  traffic    %s   proxy pid %d", strings.Join(h.Traffic, ", "), h.ProxyPID)
	say("  api        %ssocket %s", prefix(s.url, " · "), s.path("run", "belay.sock"))
	say("  sandbox    %s", h.Sandbox)
	if h.Policy != "" {
		say("  policy     %s", h.Policy)
	}
	apps, err := s.store.Apps(ctx)
	if err != nil {
		return err
	}
	active, err := s.store.ActiveDeliveries(ctx)
	if err != nil {
		return err
	}
	say("  found      %d apps, %d deliveries in progress", len(apps), len(active))
	for _, d := range active {
		say("             %s #%d %s goes on", d.App, d.Number, domain.ShortCommit(d.Commit))
	}
	say("ready in %d ms", time.Since(s.began).Milliseconds())
	return nil
}

func prefix(text, after string) string {
	if text == "" {
		return ""
	}
	return text + after
}

// health is what the server knows of itself.
func (s *Server) health(ctx context.Context) (delivery.Health, error) {
	h := delivery.Health{Version: s.o.Version, PID: os.Getpid(), Data: s.o.Data, Started: s.began.UTC().Format(time.RFC3339),
		Policy: s.policy.Text()}
	if p, err := s.proxy.Health(ctx); err == nil {
		h.ProxyPID, h.ProxyUp = p.PID, true
		for _, a := range p.HTTP {
			h.Traffic = append(h.Traffic, "http "+a)
		}
		for _, a := range p.HTTPS {
			h.Traffic = append(h.Traffic, "https "+a)
		}
	}
	free, _, err := registry.Free(s.o.Data)
	if err != nil {
		return h, err
	}
	h.FreeBytes = int64(free)
	if h.StoreBytes, err = s.store.Size(); err != nil {
		return h, err
	}
	mode, why := s.box.Probe()
	h.Sandbox = map[sandbox.Mode]string{
		sandbox.User:      "a system user per app and purpose, and mount namespaces",
		sandbox.Namespace: "user, mount and process namespaces",
		sandbox.None:      "none works here: repository code runs with the server's identity: " + why,
	}[mode]
	return h, nil
}
