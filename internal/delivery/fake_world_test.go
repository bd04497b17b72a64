package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/fake"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/journal"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/rollout"
)

// errDead is what a dead process would have got for an answer.
var errDead = errors.New("the process is dead")

// belayYAML is a small app with short times.
const belayYAML = `app: shop
build: { run: make, files: [bin/shop] }
test:
  unit:        { run: make unit }
  integration: { none: nothing to integrate }
  e2e:         { run: make e2e, start: [web] }
roles:
  web:
    run: bin/shop
    hosts: { staging: [staging.shop.localhost], production: [shop.localhost] }
    probe: { http: /healthz }
    instances: 2
    drain: 3s
verify:
  checks:
    page: { http: /, critical: true }
rollout: { strategy: blue-green, staging_hold: 5s }
guard: { error_rate: 5% for 10s }
monitor: { for: 60s }
`

// world is everything outside of the deliveries. It survives every life of the process: the disk, the instances, the data
// plane and the users.
type world struct {
	t      *testing.T
	disk   *memory
	driver *fake.Driver

	mu       sync.Mutex
	routes   map[string]*route
	bad      map[string]float64 // share of a commit's requests in production that fail
	base     float64            // share of any commit's requests that fail
	badFor   time.Time          // until then only; zero: always
	red      map[string]string  // by commit: build, test, start, staging or production check
	slow     map[string]time.Duration
	panics   string            // stage whose port panics
	yaml     map[string]string // by commit
	silent   atomic.Bool       // the data plane is not measured
	splitErr func(rollout.Split) error
	attest   func(domain.Stage) error
	attested []string
	idle     bool   // nobody comes
	file     string // of every commit that has none of its own
	flows    []Flow // what each round of the app's own flows says
	flowed   int    // rounds
	ended    []string
	commit   Commit       // who made the next commits
	tested   *config.File // by which file the last tests ran
	// unreachable says that no branch leads to any commit.
	unreachable bool

	court court
	lost  domain.Period // seconds of production that were never measured
	// safe is the store of secrets; nil: there is none.
	safe *safeDisk
	// metrics compares what the releases tell of themselves; nil: nothing does.
	metrics Comparisons
	life    *life
}

// route is what the data plane does with an environment, and did.
type route struct {
	split   rollout.Split
	changes []change
	drained map[string]bool
}

// change is what the data plane does from an instant on.
type change struct {
	at           time.Time
	weight       int
	stable, next *domain.Release
}

// life is one process.
type life struct {
	w       *world
	s       *Service
	ops     atomic.Int64
	crashAt int64
	fate    sync.Mutex
	killAt  string // dies after the first effect of this name
	killed  atomic.Bool
	hard    bool
	dead    atomic.Bool
	crashed chan struct{}
	last    string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, disk: newMemory(), driver: fake.New(), routes: map[string]*route{}, bad: map[string]float64{},
		red: map[string]string{}, slow: map[string]time.Duration{}, yaml: map[string]string{}}
	w.driver.Script = func(i domain.Instance) fake.Script {
		w.mu.Lock()
		defer w.mu.Unlock()
		return fake.Script{Ready: time.Second, Never: w.red[i.Commit] == "start" && i.Environment == domain.Production,
			Message: "connection refused"}
	}
	return w
}

// begin starts a process over what the last one left.
func (w *world) begin() *life {
	l := &life{w: w, crashed: make(chan struct{})}
	p := ports{w, l}
	l.s = New(Ports{
		Store: storeOf{w.disk, l}, Source: p, Builder: p, Tester: p, Secrets: p, Checks: p, Measurements: p, Runner: runnerOf{w.driver, p},
		Traffic: p, Logs: p, Synthetic: synthetic{w}, Jobs: jobs{w}, Takeover: takeover{w}, Safe: w.safeOf(l), Comparisons: w.metrics, Health: func(context.Context) (Health, error) { return Health{}, nil },
	}, Options{Log: slog.New(slog.NewTextHandler(logOf{w.t}, nil)), Demo: true})
	w.life = l
	if err := l.s.Start(w.t.Context()); err != nil {
		w.t.Errorf("start: %v", err)
	}
	return l
}

type logOf struct{ t *testing.T }

func (l logOf) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// op counts an effect or a write, and kills the process after the one that was chosen.
func (l *life) op(what string) {
	n := l.ops.Add(1)
	l.fate.Lock()
	killAt, hard := l.killAt, l.hard
	chosen := l.crashAt != 0 && n == l.crashAt || killAt != "" && strings.Contains(what, killAt) && l.killed.CompareAndSwap(false, true)
	l.fate.Unlock()
	if !chosen {
		return
	}
	l.last = what
	if hard {
		l.dead.Store(true)
	}
	l.s.end(journal.ErrSuspended)
	close(l.crashed)
}

// end stops the process and waits until nothing of it is left.
func (l *life) end() {
	l.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.w.t.Context()), time.Minute)
	defer cancel()
	if err := l.s.Stop(ctx); err != nil {
		l.w.t.Errorf("stop: %v", err)
	}
}

// arm makes the process die after n more effects.
func (l *life) arm(n int, hard bool) {
	l.fate.Lock()
	defer l.fate.Unlock()
	l.hard = hard
	if n > 0 {
		l.crashAt = l.ops.Load() + int64(n)
	}
}

// die lets the process die after the first effect of this name.
func (l *life) die(at string, hard bool) {
	l.fate.Lock()
	defer l.fate.Unlock()
	l.killAt, l.hard = at, hard
}

func sha(name string) string { return strings.Repeat(name, 40)[:40] }

// ship hands over a commit that is named by one letter.
func (w *world) ship(name string) domain.Delivery {
	w.t.Helper()
	d, err := w.life.s.Ship(w.t.Context(), Submission{App: "shop", Commit: sha(name), By: "ana"})
	if err != nil {
		w.t.Fatalf("ship %s: %v", name, err)
	}
	return d
}

// stored is the delivery on the disk.
func (w *world) stored(number int) domain.Delivery {
	w.t.Helper()
	d, err := storeOf{w.disk, w.life}.Delivery(context.WithoutCancel(w.t.Context()), "shop", number)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// await follows a delivery to its end; a process that dies is started again a few seconds later.
func (w *world) await(number int) domain.Delivery {
	w.t.Helper()
	for range 3000 {
		select {
		case <-w.life.crashed:
			w.life.end()
			time.Sleep(3 * time.Second)
			w.begin()
		case <-time.After(time.Second):
		}
		if w.final(number) && w.life.s.find("shop", number) == nil {
			return w.stored(number)
		}
	}
	w.t.Fatalf("#%d does not end: %s", number, w.describe())
	return domain.Delivery{}
}

// final reports whether a delivery has an end.
func (w *world) final(number int) bool {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	for i := range w.disk.deliveries {
		if w.disk.deliveries[i].Number == number {
			return w.disk.deliveries[i].State.Final()
		}
	}
	return false
}

// until waits until something holds.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for range 40000 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatalf("never: %s: %s", what, w.describe())
}

// inStage waits until a delivery has begun a stage.
func (w *world) inStage(number int, stage domain.Stage) {
	w.t.Helper()
	w.until(fmt.Sprintf("#%d in %s", number, stage), func() bool {
		for _, row := range w.stored(number).Stages {
			if row.Name == stage {
				return row.State != domain.PendingStage
			}
		}
		return false
	})
	time.Sleep(time.Millisecond) // what happens at this instant has happened
}

func (w *world) describe() string {
	var b strings.Builder
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	for _, d := range w.disk.deliveries {
		fmt.Fprintf(&b, "\n  #%d %s", d.Number, d.State)
		for _, s := range d.Stages {
			fmt.Fprintf(&b, " %s=%s(%s)", s.Name, s.State, s.Summary)
		}
		if d.Wait != nil {
			fmt.Fprintf(&b, " wait=%s", d.Wait.Reason)
		}
	}
	for _, r := range w.disk.rollouts {
		fmt.Fprintf(&b, "\n  rollout %s #%d %s %s->%s %s", r.Environment, r.Delivery, r.State, r.Stable, r.Next, r.Reason)
	}
	fmt.Fprintf(&b, "\n  slots %v", w.disk.slots)
	return b.String()
}

// serving is the state of production as users see it.
type serving struct {
	Commit  string // that has all traffic; "" when it is split
	Weight  int
	Open    int // rollouts
	Running string
	Slot    string
	Held    bool
}

// production says what production does in the end. An instance is named by commit and index.
func (w *world) production() serving {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	st := storeOf{w.disk, w.life}
	list, _ := w.driver.List(ctx, "shop", domain.Production) // before the lock: the driver calls back under its own
	w.mu.Lock()
	defer w.mu.Unlock()
	var s serving
	if r := w.routes[slotKey("shop", domain.Production)]; r != nil {
		s.Weight = r.split.Weight
		switch {
		case r.split.Next == nil && r.split.Stable != nil:
			s.Commit = r.split.Stable.Commit[:1]
		case r.split.Weight == domain.WeightAll:
			s.Commit = "next " + r.split.Next.Commit[:1]
		case r.split.Weight == 0 && r.split.Stable != nil:
			s.Commit = "stable " + r.split.Stable.Commit[:1]
		}
	}
	open, _ := st.OpenRollouts(ctx)
	s.Open = len(open)
	var running []string
	for _, i := range list {
		rel, _ := st.Release(ctx, i.Release)
		running = append(running, fmt.Sprintf("%s%d", rel.Commit[:1], i.Index))
	}
	s.Running = strings.Join(running, " ")
	slot, _ := st.Slot(ctx, "shop", domain.Production)
	if rel, err := st.Release(ctx, slot.Stable); err == nil {
		s.Slot = rel.Commit[:1]
	}
	h, _ := st.Hold(ctx, "shop")
	s.Held = h != nil
	return s
}

// only is production with one release, whole, and nothing open.
func only(commit string, held bool) serving {
	return serving{Commit: commit, Running: commit + "0 " + commit + "1", Slot: commit, Held: held}
}

// ports are the rest of the world as one process sees it.
type ports struct {
	w *world
	l *life
}

func (p ports) alive(ctx context.Context) error {
	if p.l.dead.Load() {
		return errDead
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (p ports) Accept(_ context.Context, _, commit string, _ io.Reader) (Commit, error) {
	c := p.w.commit
	c.SHA, c.Subject, c.Author, c.Repository = commit, "change "+commit[:1], cmp.Or(c.Author, "ana"), "root"
	return c, nil
}

func (p ports) Reachable(context.Context, string, string, string, []string) (bool, error) {
	return !p.w.unreachable, nil
}

func (p ports) Between(_ context.Context, _, from, to, _ string, _ int) (Range, error) {
	return Range{Ahead: 2, Subjects: []string{"change " + to[:1]}, Added: []string{"0001_" + from[:min(1, len(from))] + ".sql"}}, nil
}

func (p ports) Have(context.Context, string) ([]string, error) { return nil, nil }

func (p ports) File(_ context.Context, _, commit, _ string) ([]byte, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if text := cmp.Or(p.w.yaml[commit], p.w.file); text != "" {
		return []byte(text), nil
	}
	return []byte(belayYAML), nil
}

func (p ports) redIs(commit, where string) bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.w.red[commit] == where
}

func (p ports) work(ctx context.Context, commit, where string) error {
	if err := p.alive(ctx); err != nil {
		return err
	}
	if p.w.panics == where {
		panic("a defect in " + where)
	}
	p.w.mu.Lock()
	takes := 2*time.Second + p.w.slow[commit] + p.w.slow[where]
	p.w.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if p.redIs(commit, where) {
		return domain.Errorf(domain.Failed, "%s is red", where)
	}
	p.l.op(where)
	return p.alive(ctx)
}

func (p ports) Build(ctx context.Context, j Job) (Artifact, error) {
	return Artifact{Digest: "sha256:" + j.Delivery.Commit, Fixed: "/srv/shop"}, p.work(ctx, j.Delivery.Commit, "build")
}

func (p ports) Admit(ctx context.Context, _, _, _ string) error { return p.alive(ctx) }

func (p ports) Attest(ctx context.Context, d domain.Delivery, found StageEvidence) error {
	if p.w.attest != nil {
		if err := p.w.attest(found.Name); err != nil {
			return err
		}
	}
	if err := p.alive(ctx); err != nil {
		return err
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.attested = append(p.w.attested, fmt.Sprintf("#%d %s %s: %s", d.Number, found.Name, found.State, found.Summary))
	return nil
}

func (p ports) Evidence(context.Context, domain.Delivery) (string, []string, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return "key", slices.Clone(p.w.attested), nil
}

func (p ports) Test(ctx context.Context, j Job, _ Artifact) ([]domain.LevelRecord, []string, error) {
	p.w.mu.Lock()
	p.w.tested = j.File
	p.w.mu.Unlock()
	err := p.work(ctx, j.Delivery.Commit, "test")
	j.Level(domain.LevelRecord{Level: "unit", State: "done", Passed: 3, Counted: true})
	return []domain.LevelRecord{{Level: "unit", State: "done", Passed: 3, Counted: true}}, nil, err
}

func (p ports) Resolve(_ context.Context, _ string, f *config.File, env domain.Environment) (map[string]domain.Secret, map[string]int, error) {
	if p.w.safe != nil {
		return p.w.safe.resolve(f, env)
	}
	return map[string]domain.Secret{}, map[string]int{}, nil
}

// Run opens next's listener as the real one does: by a split at 0 %.
func (p ports) Run(ctx context.Context, j CheckJob) ([]domain.CheckRecord, error) {
	r := j.Rollout
	t, err := p.State(ctx, r.Next.App, r.Next.Environment)
	if err == nil && t.Rollout != r.Record.ID {
		err = p.Split(ctx, rollout.Split{App: r.Next.App, Environment: r.Next.Environment, Rollout: r.Record.ID, Stable: r.Stable, Next: &r.Next})
	}
	where := fmt.Sprintf("%s check", r.Next.Environment)
	if j.Traffic {
		where += " under traffic"
	}
	if err == nil {
		err = p.work(ctx, "", where)
	}
	state := "passed"
	if p.redIs(r.Next.Commit, where) {
		state = "failed"
	}
	return []domain.CheckRecord{{Name: "page", State: state, Message: "answered 500"}}, err
}

func (p ports) Open(string, int, domain.Stage) (io.WriteCloser, error) {
	return nopCloser{io.Discard}, nil
}

func (p ports) Copy(context.Context, LogQuery, io.Writer, func() bool) error { return nil }

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// runnerOf is the driver as one process reaches it.
type runnerOf struct {
	*fake.Driver
	p ports
}

func (r runnerOf) Start(ctx context.Context, inst domain.Instance) (domain.InstanceStatus, error) {
	if err := r.p.alive(ctx); err != nil {
		return domain.InstanceStatus{}, err
	}
	st, err := r.Driver.Start(ctx, inst)
	if err == nil {
		r.p.l.op("start " + inst.String())
	}
	return st, errors.Join(err, r.p.alive(ctx))
}

// Stop ends an instance; none may have traffic, or requests that were not drained.
func (r runnerOf) Stop(ctx context.Context, id domain.InstanceID) error {
	if err := r.p.alive(ctx); err != nil {
		return err
	}
	list, _ := r.Driver.List(ctx, id.App, id.Environment)
	others := 0
	for _, i := range list {
		if i.Release == id.Release && i.Role == id.Role && i.Index != id.Index && i.State == domain.Healthy {
			others++
		}
	}
	r.p.w.mu.Lock()
	if route := r.p.w.routes[slotKey(id.App, id.Environment)]; route != nil && id.Role == "web" {
		left := route.drained[id.String()] // out of the traffic, where the others carry all of it
		if share := route.gets(id.Release); share > others*domain.WeightAll/2 || share > 0 && !left {
			r.p.w.t.Errorf("%s is stopped while it has %s of the traffic, and %d others", id, rollout.Percent(share), others)
		}
		if !route.drained[id.Release] && !left {
			r.p.w.t.Errorf("%s is stopped and was not drained", id)
		}
	}
	r.p.w.mu.Unlock()
	err := r.Driver.Stop(ctx, id)
	if err == nil {
		r.p.l.op("stop " + id.String())
	}
	return err
}

func (r runnerOf) List(ctx context.Context, app string, env domain.Environment) ([]domain.InstanceStatus, error) {
	if err := r.p.alive(ctx); err != nil {
		return nil, err
	}
	return r.Driver.List(ctx, app, env)
}

func (r runnerOf) Capacity(context.Context, domain.Release, int) (string, error) { return "", nil }

func (r runnerOf) Exec(context.Context, domain.Instance, []string, io.Reader, io.Writer, io.Writer) (int, error) {
	return 0, nil
}

func (r runnerOf) Logs(context.Context, LogQuery, io.Writer) error { return nil }

// gets is the share of a release.
func (r *route) gets(release string) int {
	share := 0
	if r.split.Next != nil && r.split.Next.ID == release {
		share += r.split.Weight
	}
	if r.split.Stable != nil && r.split.Stable.ID == release {
		share += domain.WeightAll - r.split.Weight
	}
	return share
}

// Split moves traffic. It never goes where no instances are, and never up again after a rollback.
func (p ports) Split(ctx context.Context, s rollout.Split) error {
	if err := p.alive(ctx); err != nil {
		return err
	}
	list, _ := p.w.driver.List(ctx, s.App, s.Environment)
	p.w.mu.Lock()
	if p.w.splitErr != nil {
		if err := p.w.splitErr(s); err != nil {
			p.w.mu.Unlock()
			return err
		}
	}
	key := slotKey(s.App, s.Environment)
	r := p.w.routes[key]
	if r == nil {
		r = &route{drained: map[string]bool{}}
		p.w.routes[key] = r
	}
	if r.split.Latched && r.split.Rollout == s.Rollout && s.Weight > r.split.Weight {
		p.w.t.Errorf("a latched rollout is raised to %s", rollout.Percent(s.Weight))
		p.w.mu.Unlock()
		return domain.Errorf(domain.Refused, "latched")
	}
	r.split = s
	for _, rel := range []*domain.Release{s.Stable, s.Next} {
		if rel == nil || rel.External != "" || r.gets(rel.ID) == 0 {
			continue
		}
		delete(r.drained, rel.ID)
		up := 0
		for _, i := range list {
			if i.Release == rel.ID && i.State == domain.Healthy {
				up++
			}
		}
		if up*domain.WeightAll/2 < r.gets(rel.ID) {
			p.w.t.Errorf("%s of %s gets %s of the traffic with %d of 2 instances", rel.Short(), s.Environment, rollout.Percent(r.gets(rel.ID)), up)
		}
	}
	r.changes = append(r.changes, change{at: time.Now(), weight: s.Weight, stable: s.Stable, next: s.Next})
	p.w.mu.Unlock()
	p.l.op(fmt.Sprintf("split %s %d latched=%t", s.Environment, s.Weight, s.Latched))
	return p.alive(ctx)
}

func (p ports) State(ctx context.Context, app string, env domain.Environment) (rollout.Traffic, error) {
	if err := p.alive(ctx); err != nil {
		return rollout.Traffic{}, err
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	r := p.w.routes[slotKey(app, env)]
	if r == nil {
		return rollout.Traffic{}, nil
	}
	t := rollout.Traffic{Rollout: r.split.Rollout, Weight: r.split.Weight, Latched: r.split.Latched}
	if r.split.Stable != nil {
		t.Stable = r.split.Stable.ID
	}
	return t, nil
}

func (p ports) Drain(ctx context.Context, id domain.InstanceID, within time.Duration) error {
	if err := p.alive(ctx); err != nil {
		return err
	}
	select {
	case <-time.After(min(within, time.Second)):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.w.mu.Lock()
	if r := p.w.routes[slotKey(id.App, id.Environment)]; r != nil {
		r.drained[id.Release], r.drained[id.String()] = true, true
	}
	p.w.mu.Unlock()
	p.l.op("drain " + string(id.Environment))
	return p.alive(ctx)
}

func (p ports) LastRequest(context.Context, string, domain.Environment, string) (time.Time, int, error) {
	return time.Time{}, 0, nil
}

// perSecond is how many requests users make in production.
const perSecond = 100

// second is what each release served in the second that ended at an instant.
func (w *world) second(app string, env domain.Environment, at time.Time) (stable, next string, s guard.Second) {
	s.At = at
	r := w.routes[slotKey(app, env)]
	if r == nil || env == domain.Staging {
		return "", "", s
	}
	var c *change
	for i := range r.changes {
		if r.changes[i].at.Before(at) {
			c = &r.changes[i]
		}
	}
	if c == nil {
		return "", "", s
	}
	served := func(rel *domain.Release, weight int) (string, guard.Side) {
		if rel == nil {
			return "", guard.Side{}
		}
		n := int64(perSecond * weight / domain.WeightAll)
		if w.idle {
			n = 0
		}
		share := w.base
		if w.badFor.IsZero() || at.Before(w.badFor) {
			share += w.bad[rel.Commit]
		}
		return rel.ID, guard.Side{Requests: n, Errors: int64(float64(n) * share)}
	}
	stable, s.Stable = served(c.stable, domain.WeightAll-c.weight)
	next, s.Next = served(c.next, c.weight)
	return stable, next, s
}

// each calls f for every observed second of a span.
func (w *world) each(app string, env domain.Environment, from, to time.Time, f func(stable, next string, s guard.Second)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for at := from.Truncate(time.Second).Add(time.Second); !at.After(to); at = at.Add(time.Second) {
		lost := w.silent.Load() || at.After(w.lost.From) && !at.After(w.lost.To)
		if stable, next, s := w.second(app, env, at); !lost || env == domain.Staging {
			f(stable, next, s)
		}
	}
}

func (w *world) sum(app string, env domain.Environment, release string, from, to time.Time) (n guard.Side) {
	if now := time.Now(); to.After(now) {
		to = now
	}
	w.mu.Lock()
	idle := w.idle
	w.mu.Unlock()
	if idle {
		return n
	}
	w.each(app, env, from, to, func(stable, next string, s guard.Second) {
		if release == "" || stable == release {
			n.Requests, n.Errors = n.Requests+s.Stable.Requests, n.Errors+s.Stable.Errors
		}
		if release == "" || next == release {
			n.Requests, n.Errors = n.Requests+s.Next.Requests, n.Errors+s.Next.Errors
		}
	})
	return n
}

type samplesOf struct {
	p ports
	r *rollout.Rollout
	c judge.Config
}

func (s samplesOf) History(ctx context.Context, now time.Time, window time.Duration) (guard.History, error) {
	if err := s.p.alive(ctx); err != nil {
		return guard.History{}, err
	}
	h := guard.History{Now: now, Last: now, Started: s.r.Record.Started}
	if s.r.Record.Shifted != nil {
		h.Since = *s.r.Record.Shifted
	}
	if s.p.w.silent.Load() {
		h.Last = h.Since
	}
	from := now.Add(-window)
	if from.Before(h.Since) {
		from = h.Since
	}
	s.p.w.each(s.r.Next.App, s.r.Next.Environment, from, now, func(stable, next string, sec guard.Second) {
		if next == "" && stable == s.r.Next.ID {
			sec.Next, sec.Stable = sec.Stable, guard.Side{}
		}
		h.Seconds = append(h.Seconds, sec)
	})
	h.Evidence = s.p.w.court.word(s.r, s.c, now)
	list, err := s.p.w.driver.List(ctx, s.r.Next.App, s.r.Next.Environment)
	for _, i := range list {
		inst := guard.Instance{Name: fmt.Sprintf("%s/%d", i.Role, i.Index), Failed: i.Failed, Restarts: i.Restarts, Message: i.Message}
		if i.Release == s.r.Next.ID {
			h.Next = append(h.Next, inst)
		} else {
			h.Stable = append(h.Stable, inst)
		}
	}
	return h, err
}

func (s samplesOf) Totals(_ context.Context, from time.Time) (stable, next guard.Side, err error) {
	next = s.p.w.sum(s.r.Next.App, s.r.Next.Environment, s.r.Next.ID, from, time.Now())
	if s.r.Stable != nil {
		stable = s.p.w.sum(s.r.Next.App, s.r.Next.Environment, s.r.Stable.ID, from, time.Now())
	}
	return stable, next, nil
}

func (s samplesOf) Observed(_ context.Context, from time.Time) (n int, err error) {
	s.p.w.each(s.r.Next.App, s.r.Next.Environment, from, time.Now(), func(string, string, guard.Second) { n++ })
	return n, nil
}

func (p ports) Samples(_ context.Context, r *rollout.Rollout, _ *config.File, c judge.Config) (guard.Samples, func()) {
	if p.w.panics == "guard" {
		panic("a defect in the guard")
	}
	p.w.court.asked(r, c)
	return samplesOf{p, r, c}, func() {}
}

// Traffic is p's routing and, under other arguments, what a rollout served: the port of measurements is its own type.
func (p ports) traffic(r *rollout.Rollout) domain.Traffic {
	side := func(rel *domain.Release) *domain.SideTraffic {
		if rel == nil {
			return nil
		}
		to := time.Now()
		if r.Record.Ended != nil {
			to = r.Record.Ended.Add(time.Second)
		}
		n := p.w.sum(rel.App, rel.Environment, rel.ID, r.Record.Started, to)
		if n.Requests == 0 {
			return nil
		}
		return &domain.SideTraffic{Commit: rel.Commit, Requests: n.Requests, Errors: n.Errors}
	}
	return domain.Traffic{Stable: side(r.Stable), Next: side(&r.Next)}
}

func (p ports) Traffic(r *rollout.Rollout) domain.Traffic { return p.traffic(r) }

func (p ports) Served(app string, env domain.Environment, from time.Time) (requests, unserved int64) {
	return p.w.sum(app, env, "", from, time.Now()).Requests, 0
}

func (p ports) Before(app string, env domain.Environment, release string, over ...domain.Period) *judge.Before {
	f := p.Figures(app, env, release, over...)
	if f == nil {
		return nil
	}
	return &judge.Before{Requests: perSecond, WorstErrors: f.ErrorRate}
}

func (p ports) Replay(_ context.Context, rec domain.RolloutRecord, c judge.Config, stop judge.Verdict) (judge.Verdict, int, error) {
	return p.w.court.again(rec, c, stop)
}

func (p ports) Figures(app string, env domain.Environment, release string, over ...domain.Period) *domain.Figures {
	var n guard.Side
	for _, span := range over {
		part := p.w.sum(app, env, release, span.From, span.To)
		n.Requests, n.Errors = n.Requests+part.Requests, n.Errors+part.Errors
	}
	if n.Requests == 0 {
		return nil
	}
	return &domain.Figures{ErrorRate: float64(n.Errors) / float64(n.Requests), RPS: perSecond}
}
