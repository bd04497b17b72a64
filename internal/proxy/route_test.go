package proxy

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

func TestRoutesByHostAndLongestPath(t *testing.T) {
	p := startProxy(t)
	web, api := startBackend(t, "web"), startBackend(t, "api")
	p.put(routeTo(backendOn("aaaaaaa", web.addr()), nil, 0))
	r := routeTo(backendOn("bbbbbbb", api.addr()), nil, 0)
	r.App, r.Paths = "api", []string{"/api"}
	p.put(r)

	for path, want := range map[string]string{"/": "web", "/apix": "web", "/api": "api", "/api/x": "api"} {
		res := p.get("Shop.example.:8080", path)
		if got := body(t, res); got != want {
			t.Errorf("%s is served by %q, want %q", path, got, want)
		}
	}
	if got := p.get("shop.example", "/").Header.Get(releaseHeader); got != "aaaaaaa" {
		t.Errorf("release header %q", got)
	}
	if got := p.get("other.example", "/").StatusCode; got != http.StatusNotFound {
		t.Errorf("unknown host answers %d", got)
	}
}

func TestPutRefuses(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x")
	ctx := context.Background()
	r := routeTo(backendOn("aaaaaaa", b.addr()), backendOn("bbbbbbb", b.addr()), 500)
	r.Epoch = 5
	p.put(r)

	older := r
	older.Epoch = 4
	if _, err := p.client.Put(ctx, older); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("older epoch: %v", err)
	}
	thief := r
	thief.App = "thief"
	_, err := p.client.Put(ctx, thief)
	if domain.CodeOf(err) != domain.Invalid || !strings.Contains(err.Error(), "shop/production/web") || !strings.Contains(err.Error(), "thief/production/web") {
		t.Errorf("conflict of hosts: %v", err)
	}
	for name, change := range map[string]func(*domain.Route){
		"weight":  func(r *domain.Route) { r.Weight = 10_001 },
		"host":    func(r *domain.Route) { r.Hosts = nil },
		"path":    func(r *domain.Route) { r.Paths = []string{"x"} },
		"split":   func(r *domain.Route) { r.Split = "both" },
		"address": func(r *domain.Route) { r.Next = backendOn("ccccccc", "nowhere") },
		"no next": func(r *domain.Route) { r.Next = nil },
	} {
		bad := r
		change(&bad)
		if _, err := p.client.Put(ctx, bad); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := p.client.Routes(ctx)
	if err != nil || len(s.Routes) != 1 || s.Routes[0].Weight != 500 {
		t.Errorf("routes after refusals: %+v, %v", s, err)
	}
	if err := p.client.Delete(ctx, "shop", domain.Production, "web"); err != nil {
		t.Error(err)
	}
	if got := p.get("shop.example", "/").StatusCode; got != http.StatusNotFound {
		t.Errorf("deleted route answers %d", got)
	}
}

func TestLatchRefusesRaisesAlsoAfterARestart(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x")
	ctx := context.Background()
	r := routeTo(backendOn("aaaaaaa", b.addr()), backendOn("bbbbbbb", b.addr()), 500)
	p.put(r)
	r.Weight, r.Latched, r.LatchedBy, r.Epoch = 0, true, "serve", 2
	p.put(r)

	refused := func(when string) {
		t.Helper()
		up := r
		up.Weight, up.Latched, up.Epoch = 500, false, 3
		if _, err := p.client.Put(ctx, up); domain.CodeOf(err) != domain.Conflict {
			t.Errorf("%s: raise: %v", when, err)
		}
		promote := routeTo(r.Next, nil, 0)
		promote.Epoch = 3
		if _, err := p.client.Put(ctx, promote); domain.CodeOf(err) != domain.Conflict {
			t.Errorf("%s: promotion of a latched next: %v", when, err)
		}
	}
	refused("at once")
	p.killWorker()
	refused("after a restart")

	r.Latched, r.Epoch = false, 4
	if got := p.put(r); !got.Latched || got.LatchedBy != "serve" {
		t.Errorf("a put without latch lifted it: %+v", got)
	}
	other := routeTo(r.Stable, backendOn("ccccccc", b.addr()), 500)
	other.Rollout, other.Epoch = "rol_2", 5
	if got := p.put(other); got.Latched || got.Weight != 500 {
		t.Errorf("the next rollout is latched: %+v", got)
	}
}

// killWorker kills the worker and waits until another one answers.
func (r *rig) killWorker() time.Duration {
	r.t.Helper()
	was := r.health()
	start := time.Now()
	if p, err := os.FindProcess(was.PID); err != nil || p.Kill() != nil {
		r.t.Fatal("worker is gone")
	}
	eventually(r.t, 3*time.Second, "another worker", func() bool {
		h, err := r.client.Health(context.Background())
		return err == nil && h.PID != was.PID
	})
	return time.Since(start)
}

func TestRestartedWorkerServesTheLastTable(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x")
	p.put(routeTo(backendOn("aaaaaaa", b.addr()), nil, 0))
	if took := p.killWorker(); took > time.Second {
		t.Errorf("worker was back after %s", took)
	} else {
		t.Logf("worker was back after %s", took)
	}
	if got := body(t, p.get("shop.example", "/")); got != "x" {
		t.Errorf("after a restart: %q", got)
	}
}

func TestChecksReachNextWhateverTheWeight(t *testing.T) {
	p := startProxy(t)
	stable, next := startBackend(t, "stable"), startBackend(t, "next")
	r := p.put(routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb", next.addr()), 0))
	if !strings.HasPrefix(r.Checks, "127.0.0.1:") {
		t.Fatalf("check listener %q", r.Checks)
	}
	if got := body(t, p.getAt(r.Checks, "shop.example", "/")); got != "next" {
		t.Errorf("check reached %q", got)
	}
	if got := body(t, p.get("shop.example", "/")); got != "stable" {
		t.Errorf("user reached %q", got)
	}
	p.killWorker()
	s, err := p.client.Routes(context.Background())
	if err != nil || s.Routes[0].Checks != r.Checks {
		t.Errorf("check listener after a restart: %+v, %v; was %s", s, err, r.Checks)
	}
	done := routeTo(r.Next, nil, 0)
	done.Epoch = 2
	if got := p.put(done); got.Checks != "" {
		t.Errorf("check listener without a next: %q", got.Checks)
	}
	eventually(t, time.Second, "the check listener is closed", func() bool {
		res, err := http.Get("http://" + r.Checks)
		if err == nil {
			_ = res.Body.Close()
		}
		return err != nil
	})
}

// What was meant for a route before it was deleted is refused, also after a restart; a new life goes on from its epochs.
func TestDeletedRouteKeepsItsEpoch(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x")
	ctx := context.Background()
	r := routeTo(backendOn("aaaaaaa", b.addr()), nil, 0)
	r.Epoch = 5
	p.put(r)
	if err := p.client.Delete(ctx, "shop", domain.Production, "web"); err != nil {
		t.Fatal(err)
	}
	refused := func(when string, epochs ...int64) {
		t.Helper()
		for _, r.Epoch = range epochs {
			if _, err := p.client.Put(ctx, r); domain.CodeOf(err) != domain.Conflict {
				t.Errorf("%s: epoch %d: %v", when, r.Epoch, err)
			}
		}
	}
	refused("after the deletion", 2, 4, 5)
	p.killWorker()
	refused("after the deletion and a restart", 4, 5)
	if s, err := p.client.Routes(ctx); err != nil || len(s.Routes) != 0 {
		t.Errorf("a deleted route is listed: %+v, %v", s, err)
	}
	r.Epoch = 1
	if got := p.put(r); got.Epoch != 6 {
		t.Errorf("the new life begins with epoch %d, want 6", got.Epoch)
	}
	refused("in the new life", 2, 5)
	p.killWorker()
	refused("in the new life after a restart", 2, 5)
	r.Epoch = 7
	if got := p.put(r); got.Epoch != 7 {
		t.Errorf("epoch %d, want 7", got.Epoch)
	}
}
