package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/proxy"
	"github.com/belay-cd/belay/internal/rollout"
)

// released is a release of the shop with the given roles; a web role listens to its own host.
func released(id string, roles map[string]domain.RoleKind) *domain.Release {
	rel := &domain.Release{ID: "rel_" + id, App: "shop", Environment: domain.Production, Commit: id + "000000000"}
	for _, role := range []string{"web", "admin", "jobs"} {
		kind, has := roles[role]
		if !has {
			continue
		}
		w := domain.Workload{Role: role, Kind: kind, Instances: 2, Drain: time.Second}
		if kind == domain.Web {
			w.Hosts, w.Paths, w.Split, w.Probe.HTTP = []string{hostOf(role)}, []string{"/"}, "request", "/healthz"
		}
		rel.Workloads = append(rel.Workloads, w)
	}
	return rel
}

func hostOf(role string) string { return role + ".shop.example" }

// crew starts two instances of every web role of a release; each answers with the release's id.
func (b *bench) crew(rel *domain.Release) []*instance {
	b.t.Helper()
	var list []*instance
	for _, w := range rel.Workloads {
		for i := 0; w.Kind == domain.Web && i < w.Instances; i++ {
			list = append(list, b.start(rel, w.Role, i, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, rel.ID) }))
		}
	}
	return list
}

// ask sends requests as new visitors and counts the answers: a release's id, or a status that is not 200.
func (b *bench) ask(host string, n int) map[string]int {
	b.t.Helper()
	health, err := b.client.Health(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	got := map[string]int{}
	for range n {
		got[askOnce(b.t.Context(), health.HTTP[0], host, "/")]++
	}
	return got
}

func askOnce(ctx context.Context, addr, host, path string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return err.Error()
	}
	req.Host = host
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return err.Error()
	case res.StatusCode != http.StatusOK:
		return fmt.Sprint(res.StatusCode)
	}
	return string(text)
}

func (b *bench) split(s rollout.Split) {
	b.t.Helper()
	s.App, s.Environment = "shop", domain.Production
	if err := b.router.Split(b.t.Context(), s); err != nil {
		b.t.Fatalf("split %s: %v", rollout.Percent(s.Weight), err)
	}
}

func (b *bench) state() rollout.Traffic {
	b.t.Helper()
	t, err := b.router.State(b.t.Context(), "shop", domain.Production)
	if err != nil {
		b.t.Fatal(err)
	}
	return t
}

// route is what the proxy knows of a role.
func (b *bench) route(role string) *domain.Route {
	b.t.Helper()
	status, err := b.client.Routes(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, r := range status.Routes {
		if r.Role == role && r.Environment == domain.Production {
			return &r
		}
	}
	return nil
}

// failedOnNext sums what was counted as next's failures.
func (b *bench) failedOnNext() (n int64) {
	b.t.Helper()
	page, err := b.client.Ticks(b.t.Context(), "", 0, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, tick := range page.Ticks {
		for _, s := range tick.Series {
			if s.Side == domain.Next && s.Endpoint == "" && s.Segment == "" {
				n += s.Errors + s.Unserved
			}
		}
	}
	return n
}

const askEach = 60

// Every split of a canary is accepted whatever the roles of the two releases are, and each role's traffic goes to who has
// the role.
func TestSplitsOfChangingRoles(t *testing.T) {
	web, worker := domain.Web, domain.Worker
	for _, c := range []struct {
		name         string
		stable, next map[string]domain.RoleKind
		// who serves the second role while next has traffic, after its end, and after a rollback; "" is nobody
		while, settled, back string
	}{
		{"same", map[string]domain.RoleKind{"web": web}, map[string]domain.RoleKind{"web": web}, "", "", ""},
		{"adds a web role", map[string]domain.RoleKind{"web": web}, map[string]domain.RoleKind{"web": web, "admin": web}, "next", "next", ""},
		{"removes a web role", map[string]domain.RoleKind{"web": web, "admin": web}, map[string]domain.RoleKind{"web": web}, "stable", "", "stable"},
		{"web becomes worker", map[string]domain.RoleKind{"web": web, "admin": web}, map[string]domain.RoleKind{"web": web, "admin": worker}, "stable", "", "stable"},
		{"worker becomes web", map[string]domain.RoleKind{"web": web, "admin": worker}, map[string]domain.RoleKind{"web": web, "admin": web}, "next", "next", ""},
		{"both move", map[string]domain.RoleKind{"web": web, "admin": web}, map[string]domain.RoleKind{"web": web, "admin": web}, "both", "next", "stable"},
	} {
		for _, back := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s back=%t", c.name, back), func(t *testing.T) {
				b := newBench(t)
				stable, next := released("stable", c.stable), released("next", c.next)
				b.crew(stable)
				b.split(rollout.Split{Stable: stable})
				b.crew(next)
				names := map[string]string{"stable": stable.ID, "next": next.ID}
				only := func(role, who, when string) {
					t.Helper()
					got := b.ask(hostOf(role), askEach)
					if who == "" {
						if got["404"]+got["503"] != askEach {
							t.Errorf("%s: %s of %s is answered: %v", c.name, when, role, got)
						}
					} else if got[names[who]] != askEach {
						t.Errorf("%s: %s of %s: %v, want %s", c.name, when, role, got, who)
					}
				}
				for _, weight := range []int{0, 500, 5000, 9500, domain.WeightAll} {
					b.split(rollout.Split{Rollout: "rol_1", Stable: stable, Next: next, Weight: weight})
					at := rollout.Percent(weight)
					if s := b.state(); s != (rollout.Traffic{Rollout: "rol_1", Weight: weight, Stable: stable.ID}) {
						t.Errorf("%s: state %+v", at, s)
					}
					got := b.ask(hostOf("web"), askEach)
					if got[stable.ID]+got[next.ID] != askEach || weight == 0 && got[next.ID] > 0 || weight == domain.WeightAll && got[stable.ID] > 0 ||
						weight == 5000 && (got[next.ID] < 15 || got[next.ID] > 45) {
						t.Errorf("%s: %v", at, got)
					}
					switch {
					case c.while == "":
					case c.while == "both":
						if got := b.ask(hostOf("admin"), askEach); got[stable.ID]+got[next.ID] != askEach {
							t.Errorf("%s of admin: %v", at, got)
						}
					case weight == 0 && c.while == "next":
						if got := b.ask(hostOf("admin"), askEach); got[next.ID] > 0 {
							t.Errorf("%s of admin: %v", at, got)
						}
					default:
						only("admin", c.while, at)
					}
				}
				if back {
					b.split(rollout.Split{Rollout: "rol_1", Stable: stable, Next: next, Latched: true})
					if s := b.state(); s != (rollout.Traffic{Rollout: "rol_1", Latched: true, Stable: stable.ID}) {
						t.Errorf("latched: state %+v", s)
					}
					only("web", "stable", "latched")
					err := b.router.Split(t.Context(), rollout.Split{App: "shop", Environment: domain.Production, Rollout: "rol_1", Stable: stable, Next: next, Weight: 500})
					if domain.CodeOf(err) != domain.Conflict {
						t.Errorf("a latched rollout is raised: %v", err)
					}
					b.split(rollout.Split{Stable: stable})
					only("web", "stable", "after")
					if c.while != "" {
						only("admin", c.back, "after the rollback")
					}
				} else {
					b.split(rollout.Split{Stable: next})
					if s := b.state(); s != (rollout.Traffic{Stable: next.ID}) {
						t.Errorf("settled: state %+v", s)
					}
					only("web", "next", "settled")
					if c.while != "" {
						only("admin", c.settled, "settled")
					}
				}
				if n := b.failedOnNext(); n != 0 {
					t.Errorf("%d counted as next's failures", n)
				}
			})
		}
	}
}

// Next may drop a host: while stable has visitors they find it.
func TestNoHostIsLostWhileARolloutIsOpen(t *testing.T) {
	b := newBench(t)
	stable, next := released("stable", map[string]domain.RoleKind{"web": domain.Web}), released("next", map[string]domain.RoleKind{"web": domain.Web})
	stable.Workloads[0].Hosts = []string{"web.shop.example", "old.shop.example"}
	next.Workloads[0].Hosts = []string{"web.shop.example", "fresh.shop.example"}
	b.crew(stable)
	b.crew(next)
	b.split(rollout.Split{Stable: stable})
	for _, s := range []rollout.Split{{}, {Weight: 500}, {Latched: true}} {
		s.Rollout, s.Stable, s.Next = "rol_1", stable, next
		b.split(s)
		if got := b.ask("old.shop.example", 10); got[stable.ID]+got[next.ID] != 10 {
			t.Errorf("%s latched=%t: the host that next drops: %v", rollout.Percent(s.Weight), s.Latched, got)
		}
	}
	b.split(rollout.Split{Stable: stable})
	b.split(rollout.Split{Rollout: "rol_2", Stable: stable, Next: next, Weight: 9500})
	b.split(rollout.Split{Stable: next})
	if got := b.ask("old.shop.example", 1); got["404"] != 1 {
		t.Errorf("settled: the host that was dropped: %v", got)
	}
	if got := b.ask("fresh.shop.example", 1); got[next.ID] != 1 {
		t.Errorf("settled: the new host: %v", got)
	}
}

// One instance leaves under load: no request is lost, and those that it has end on it.
func TestDrainUnderLoad(t *testing.T) {
	b := newBench(t)
	stable := released("stable", map[string]domain.RoleKind{"web": domain.Web})
	slow := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(50 * time.Millisecond) // so that some are open at any time
		_, _ = io.WriteString(w, stable.ID)
	}
	first, second := b.start(stable, "web", 0, slow), b.start(stable, "web", 1, slow)
	b.split(rollout.Split{Stable: stable})
	health, err := b.client.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var asked, bad atomic.Int64
	stop := make(chan struct{})
	var visitors sync.WaitGroup
	for range 8 {
		visitors.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				asked.Add(1)
				if got := askOnce(t.Context(), health.HTTP[0], hostOf("web"), "/"); got != stable.ID {
					bad.Add(1)
				}
			}
		})
	}
	eventually(t, "both are asked", func() bool { return first.hits.Load() > 5 && second.hits.Load() > 5 })
	id := domain.InstanceID{App: "shop", Environment: domain.Production, Release: stable.ID, Role: "web", Index: 0}
	if err := b.router.Drain(t.Context(), id, 5*time.Second); err != nil {
		t.Error(err)
	}
	left := first.hits.Load()
	first.Close() // as the driver stops it
	more := second.hits.Load() + 20
	eventually(t, "the other serves on", func() bool { return second.hits.Load() > more })
	close(stop)
	visitors.Wait()
	if first.hits.Load() != left || bad.Load() != 0 {
		t.Errorf("%d of %d requests failed; %d after its drain", bad.Load(), asked.Load(), first.hits.Load()-left)
	}
	if err := b.router.Drain(t.Context(), id, time.Second); err != nil {
		t.Errorf("drained twice: %v", err)
	}
	unknown := id
	unknown.Index = 7
	if err := b.router.Drain(t.Context(), unknown, time.Second); err != nil {
		t.Errorf("one that is not known: %v", err)
	}
}

// Whoever was about to leave gets traffic again when its release stays, or comes back as next; a refresh alone brings
// nobody back.
func TestInterruptedDrain(t *testing.T) {
	for name, s := range map[string]func(stable, next *domain.Release) rollout.Split{
		"rolled back": func(stable, next *domain.Release) rollout.Split {
			return rollout.Split{Rollout: "rol_1", Stable: stable, Next: next, Latched: true}
		},
		"alone": func(stable, _ *domain.Release) rollout.Split { return rollout.Split{Stable: stable} },
		"next of a way back": func(stable, next *domain.Release) rollout.Split {
			return rollout.Split{Rollout: "rol_2", Stable: next, Next: stable}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			stable, next := released("stable", map[string]domain.RoleKind{"web": domain.Web}), released("next", map[string]domain.RoleKind{"web": domain.Web})
			b.crew(stable)
			b.crew(next)
			b.split(rollout.Split{Stable: stable})
			b.split(rollout.Split{Rollout: "rol_1", Stable: stable, Next: next, Weight: 5000})
			if name == "next of a way back" {
				b.split(rollout.Split{Stable: next})
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			id := domain.InstanceID{App: "shop", Environment: domain.Production, Release: stable.ID, Role: "web", Index: 0}
			_ = b.router.Drain(ctx, id, time.Minute) // interrupted at once: it has left the table or not
			_ = b.router.Drain(t.Context(), id, 10*time.Millisecond)
			if err := b.router.refresh(t.Context(), "shop", domain.Production); err != nil {
				t.Fatal(err)
			}
			if name != "next of a way back" {
				if got := b.route("web").Stable.Instances; len(got) != 1 || got[0].Index != 1 {
					t.Errorf("drained, and in the table: %+v", got)
				}
			}
			b.split(s(stable, next))
			r := b.route("web")
			side := r.Stable
			if side.Release != stable.ID {
				side = r.Next
			}
			if len(side.Instances) != 2 {
				t.Errorf("it does not come back: %+v", side.Instances)
			}
		})
	}
}

// What was read of the instances before a split does not undo it afterwards.
func TestARefreshIsNeverOlderThanASplit(t *testing.T) {
	b := newBench(t)
	stable, next := released("stable", map[string]domain.RoleKind{"web": domain.Web}), released("next", map[string]domain.RoleKind{"web": domain.Web})
	b.crew(stable)
	b.split(rollout.Split{Stable: stable})
	b.split(rollout.Split{Rollout: "rol_1", Stable: stable, Next: next})
	read, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.router.list = func(ctx context.Context, app string, env domain.Environment) ([]domain.InstanceStatus, error) {
		list, err := b.instances(ctx, app, env)
		once.Do(func() { close(read); <-goOn })
		return list, err
	}
	b.mu.Lock()
	b.list[0].Addr = "127.0.0.1:9" // so that the refresh has something to put
	b.mu.Unlock()
	old := make(chan error, 1)
	go func() { old <- b.router.refresh(t.Context(), "shop", domain.Production) }()
	<-read
	b.mu.Lock()
	b.list[0].Addr = b.list[1].Addr
	b.mu.Unlock()
	b.crew(next)
	split := make(chan error, 1)
	go func() {
		split <- b.router.Split(t.Context(), rollout.Split{App: "shop", Environment: domain.Production, Rollout: "rol_1", Stable: stable, Next: next, Weight: 500})
	}()
	select {
	case err := <-split: // it did not wait for the refresh
		split <- err
	case <-time.After(300 * time.Millisecond): // it waits for it
	}
	close(goOn)
	if err := <-old; err != nil {
		t.Error(err)
	}
	if err := <-split; err != nil {
		t.Error(err)
	}
	if r := b.route("web"); r.Weight != 500 || len(r.Next.Instances) != 2 || slices.ContainsFunc(r.Stable.Instances, func(e domain.Endpoint) bool { return e.Addr == "127.0.0.1:9" }) {
		t.Errorf("next has %s with %+v, stable %+v", rollout.Percent(r.Weight), r.Next.Instances, r.Stable.Instances)
	}
}

// A router that begins anew goes on with the epochs, and with what the proxy did meanwhile.
func TestRouterBeginsAnew(t *testing.T) {
	b := newBench(t)
	roles := map[string]domain.RoleKind{"web": domain.Web, "admin": domain.Web}
	stable, next := released("stable", roles), released("next", roles)
	b.crew(stable)
	b.crew(next)
	b.split(rollout.Split{Stable: stable})
	b.split(rollout.Split{Rollout: "rol_1", Stable: stable, Next: next, Weight: 5000})
	epoch := b.route("web").Epoch
	b.router = &router{proxy: b.client, list: b.instances}
	if err := b.router.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !b.router.knows("shop", domain.Production) || b.router.knows("shop", domain.Staging) {
		t.Error("it knows other environments than the proxy")
	}
	if s := b.state(); s != (rollout.Traffic{Rollout: "rol_1", Weight: 5000, Stable: stable.ID}) {
		t.Errorf("state %+v", s)
	}
	// The proxy's own rule took one role back while nobody looked.
	r := *b.route("admin")
	r.Weight, r.Latched, r.LatchedBy, r.Epoch = 0, true, "proxy", r.Epoch+1
	if _, err := b.client.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if s := b.state(); s != (rollout.Traffic{Rollout: "rol_1", Weight: 5000, Latched: true, Stable: stable.ID}) {
		t.Errorf("one role is latched: state %+v", s)
	}
	raise := rollout.Split{App: "shop", Environment: domain.Production, Rollout: "rol_1", Stable: stable, Next: next, Weight: 9500}
	if err := b.router.Split(t.Context(), raise); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a rollout that the proxy latched is raised: %v", err)
	}
	b.split(rollout.Split{Rollout: "rol_1", Stable: stable, Next: next, Latched: true})
	if s := b.state(); s != (rollout.Traffic{Rollout: "rol_1", Latched: true, Stable: stable.ID}) {
		t.Errorf("state %+v", s)
	}
	if got := b.route("admin"); got.LatchedBy != "proxy" {
		t.Errorf("latched by %q", got.LatchedBy)
	}
	if got := b.route("web").Epoch; got <= epoch {
		t.Errorf("epoch %d after %d", got, epoch)
	}
	b.split(rollout.Split{Stable: stable})
	if s := b.state(); s != (rollout.Traffic{Stable: stable.ID}) {
		t.Errorf("state %+v", s)
	}
}

// A split that reached one role only is told as what most of the traffic does, and the next one mends it.
func TestStateOfAHalfSplit(t *testing.T) {
	b := newBench(t)
	roles := map[string]domain.RoleKind{"web": domain.Web, "admin": domain.Web}
	stable, next := released("stable", roles), released("next", roles)
	b.crew(stable)
	b.crew(next)
	b.split(rollout.Split{Rollout: "rol_1", Stable: stable, Next: next, Weight: 500})
	r := *b.route("admin")
	r.Weight, r.Epoch = 9500, r.Epoch+1
	if _, err := b.client.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if s := b.state(); s.Weight != 9500 || s.Rollout != "rol_1" {
		t.Errorf("state %+v", s)
	}
	b.split(rollout.Split{Rollout: "rol_1", Stable: stable, Next: next, Weight: 500}) // an older epoch is taken over
	if s := b.state(); s.Weight != 500 {
		t.Errorf("state %+v", s)
	}
	// settled on one role, and not on the other
	r = *b.route("web")
	r.Rollout, r.Stable, r.Next, r.Weight, r.Epoch = "", r.Next, nil, 0, r.Epoch+1
	if _, err := b.client.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if s := b.state(); s.Rollout != "rol_1" {
		t.Errorf("half settled: state %+v", s)
	}
	b.split(rollout.Split{Rollout: "rol_1", Stable: stable, Next: next, Latched: true})
	for _, role := range []string{"web", "admin"} {
		if got := b.ask(hostOf(role), 10); got[stable.ID] != 10 {
			t.Errorf("rolled back, %s: %v", role, got)
		}
	}
}

// A proxy that was killed serves the table that it kept, and the router goes on with it.
func TestRouterOverANewProxy(t *testing.T) {
	var kept proxy.Config
	b := newBench(t, func(c *proxy.Config) { kept = *c })
	kept.HTTP = []string{"127.0.0.1:0"}
	stable := released("stable", map[string]domain.RoleKind{"web": domain.Web})
	b.crew(stable)
	b.split(rollout.Split{Stable: stable})
	health, err := b.client.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{health.Holder, health.PID} {
		if p, err := os.FindProcess(pid); err == nil && pid > 0 {
			_ = p.Kill()
		}
	}
	eventually(t, "it is gone", func() bool { _, err := b.client.Health(t.Context()); return err != nil })
	if _, err := os.Stat(filepath.Join(filepath.Dir(kept.Table), "table.json")); err != nil {
		t.Fatal(err)
	}
	if err := proxy.Spawn(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	if err := b.router.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.split(rollout.Split{Stable: stable})
	if got := b.ask(hostOf("web"), 5); got[stable.ID] != 5 {
		t.Errorf("%v", got)
	}
}
