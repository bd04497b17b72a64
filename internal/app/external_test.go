package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
)

// outside is an app that ran before Belay.
func outside(t *testing.T) (rel domain.Release, status *atomic.Int32, asked *atomic.Int32, server *httptest.Server) {
	t.Helper()
	status, asked = &atomic.Int32{}, &atomic.Int32{}
	status.Store(http.StatusOK)
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" || r.Host != "shop.example" {
			t.Errorf("asked for %s of %s", r.URL.Path, r.Host)
		}
		asked.Add(1)
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(server.Close)
	rel = shop("rel_0", domain.Workload{Role: "web", Kind: domain.Web, Instances: 1, Hosts: []string{"shop.example"},
		Probe: domain.Probe{HTTP: "/healthz", StartWithin: 500 * time.Millisecond}})
	rel.External, rel.Created = server.Listener.Addr().String(), time.Now().Add(-time.Hour).UTC()
	return rel, status, asked, server
}

func (r *runner) only(t *testing.T) domain.InstanceStatus {
	t.Helper()
	list, err := r.List(t.Context(), "shop", domain.Production)
	if err != nil || len(list) != 1 {
		t.Fatalf("listed: %+v, %v", list, err)
	}
	return list[0]
}

// A running app is started by asking it, listed like any instance, and stopped without being touched.
func TestTakenOver(t *testing.T) {
	r := quietRunner(t)
	rel, status, _, server := outside(t)
	inst := rollout.InstanceOf(&rel, "web", 0)
	r.Register(rel)
	first := r.only(t)
	if first.Addr != rel.External || first.State == domain.Stopped || !first.Started.Equal(rel.Created) {
		t.Errorf("known as %+v", first)
	}
	status.Store(http.StatusNotFound) // it was not made for Belay: an answer is enough
	got, err := r.Start(t.Context(), inst)
	if err != nil || got.State != domain.Healthy || got.Addr != rel.External || !got.Started.Equal(rel.Created) {
		t.Fatalf("started: %+v, %v", got, err)
	}
	r.Register(rel)
	if s := r.only(t); s != got {
		t.Errorf("listed as %+v, want %+v", s, got)
	}
	if other, err := r.List(t.Context(), "shop", domain.Staging); err != nil || len(other) != 0 {
		t.Errorf("in staging: %+v, %v", other, err)
	}
	if err := r.Stop(t.Context(), inst.InstanceID); err != nil {
		t.Fatal(err)
	}
	if list, err := r.List(t.Context(), "shop", domain.Production); err != nil || len(list) != 0 {
		t.Errorf("after the stop: %+v, %v", list, err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/healthz", nil)
	req.Host = "shop.example"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("its process was touched: %v", err)
	}
	_ = resp.Body.Close()
	again, err := r.Start(t.Context(), inst) // a rollback
	if err != nil || !again.Started.After(rel.Created) {
		t.Errorf("another life of it: %+v, %v", again, err)
	}
	if err := r.Prepare(t.Context(), inst.Digest); err != nil {
		t.Errorf("prepare: %v", err)
	}
	if _, err := r.Exec(t.Context(), inst, []string{"true"}, nil, nil, nil); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("exec: %v", err)
	}
	if err := r.Rescore(t.Context(), rel, 0); err != nil {
		t.Errorf("rescore: %v", err)
	}
}

// An app that does not answer is refused with the reason, in time, or at once when nobody waits any more.
func TestTakenOverMustAnswer(t *testing.T) {
	r := quietRunner(t)
	rel, status, _, _ := outside(t)
	r.Register(rel)
	inst := rollout.InstanceOf(&rel, "web", 0)
	status.Store(http.StatusBadGateway)
	got, err := r.Start(t.Context(), inst)
	if domain.CodeOf(err) != domain.Failed || !strings.Contains(err.Error(), "GET /healthz: 502") || got.State != domain.Unhealthy {
		t.Errorf("a failing one: %+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Start(ctx, inst); err == nil {
		t.Error("nobody waits, and it is started")
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
	gone := rel
	gone.ID, gone.External = "rel_9", closedPort(t)
	gone.Workloads = []domain.Workload{{Role: "web", Kind: domain.Web, Probe: domain.Probe{StartWithin: 200 * time.Millisecond}}}
	r.Register(gone)
	_, err = r.Start(t.Context(), rollout.InstanceOf(&gone, "web", 0))
	if err == nil || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), gone.External) {
		t.Errorf("nobody listens: %v", err)
	}
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// One failed answer is noise, two are not, and a good one heals.
func TestTakenOverIsWatched(t *testing.T) {
	r := quietRunner(t)
	rel, status, _, _ := outside(t)
	r.Register(rel)
	for i, c := range []struct {
		status int
		want   domain.InstanceState
	}{
		{200, domain.Healthy}, {503, domain.Healthy}, {503, domain.Unhealthy}, {503, domain.Unhealthy}, {200, domain.Healthy},
	} {
		status.Store(int32(c.status))
		r.external.look(t.Context())
		if s := r.only(t); s.State != c.want {
			t.Errorf("after answer %d it is %+v, want %s", i, s, c.want)
		}
	}
}

// It is asked every two seconds, and no longer once it is retired.
func TestTakenOverIsAskedSteadily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e externals
		rel := shop("rel_0", webRole(1, 0, nil))
		rel.External = "127.0.0.1:1"
		e.register(rel, true)
		asked := 0
		e.known["rel_0"].probe = func(context.Context) error { asked++; return nil }
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go e.watch(ctx)
		time.Sleep(20*time.Second + time.Millisecond)
		synctest.Wait()
		if asked != 10 {
			t.Errorf("asked %d times in 20 s, want 10", asked)
		}
		e.mu.Lock()
		e.known["rel_0"].listed = false
		e.mu.Unlock()
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if asked != 10 {
			t.Errorf("asked %d times after it was retired", asked-10)
		}
		cancel()
		synctest.Wait()
	})
}

// memory is a store of two environments.
type memory struct {
	slots    []domain.Slot
	open     []domain.RolloutRecord
	releases map[string]domain.Release
}

func (m memory) Slots(context.Context) ([]domain.Slot, error)                 { return m.slots, nil }
func (m memory) OpenRollouts(context.Context) ([]domain.RolloutRecord, error) { return m.open, nil }
func (m memory) Release(_ context.Context, id string) (domain.Release, error) {
	rel, ok := m.releases[id]
	if !ok {
		return rel, domain.Errorf(domain.NotFound, "no release %s", id)
	}
	return rel, nil
}

// After a restart of the server a running app is where it was, and has been asked before anybody looks.
func TestTakenOverSurvivesARestart(t *testing.T) {
	rel, _, asked, _ := outside(t)
	own := shop("rel_1", webRole(2, 0, nil))
	for name, c := range map[string]struct {
		slot domain.Slot
		open []domain.RolloutRecord
		runs bool
	}{
		"stable":              {domain.Slot{Stable: "rel_0"}, nil, true},
		"stable of a rollout": {domain.Slot{Stable: "rel_1"}, []domain.RolloutRecord{{Stable: "rel_0", Next: "rel_1"}}, true},
		"only a way back":     {domain.Slot{Stable: "rel_1", Previous: "rel_0"}, nil, false},
	} {
		r := quietRunner(t)
		store := memory{[]domain.Slot{{}, c.slot}, c.open, map[string]domain.Release{"rel_0": rel, "rel_1": own}}
		before := asked.Load()
		if err := r.external.load(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		list, err := r.List(t.Context(), "shop", domain.Production)
		if err != nil || (len(list) == 1) != c.runs {
			t.Fatalf("%s: %+v, %v", name, list, err)
		}
		if c.runs && (list[0].State != domain.Healthy || !list[0].Started.Equal(rel.Created) || asked.Load() != before+1) {
			t.Errorf("%s: %+v", name, list[0])
		}
		if s, err := r.Start(t.Context(), rollout.InstanceOf(&rel, "web", 0)); err != nil || s.State != domain.Healthy {
			t.Errorf("%s: a rollback to it: %+v, %v", name, s, err)
		}
		if _, err := r.Start(t.Context(), domain.Instance{InstanceID: domain.InstanceID{App: "shop", Environment: domain.Production, Release: "rel_7", Role: "web"}}); err == nil {
			t.Errorf("%s: a release that nobody knows is started", name)
		}
	}
}

func TestAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	r := &runner{listeners: []string{":8080", "127.0.0.1:8443", "localhost:9000", "10.1.2.3:7000", "broken"}}
	for raw, want := range map[string]string{
		"http://127.0.0.1:" + port:       "127.0.0.1:" + port,
		"http://localhost:" + port + "/": "127.0.0.1:" + port,
		"http://10.0.0.7":                "10.0.0.7:80",
		"http://[fd00::7]:3000":          "[fd00::7]:3000",
		"http://[::ffff:127.0.0.1]:3000": "127.0.0.1:3000",
		"http://10.9.9.9:8080":           "10.9.9.9:8080", // another machine's
		"http://127.0.0.2:8443":          "127.0.0.2:8443",
	} {
		if got, err := r.Address(raw); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", raw, got, err, want)
		}
	}
	for raw, want := range map[string]string{
		"":                          "no http URL",
		"localhost:3000":            "no http URL",
		"127.0.0.1:3000":            "it is no URL",
		"ftp://127.0.0.1":           "no http URL",
		"https://127.0.0.1":         "plain http",
		"http://u:p@127.0.0.1":      "a user and a password",
		"http://127.0.0.1/shop":     "names a page",
		"http://127.0.0.1?x=1":      "names a page",
		"http://127.0.0.1:0":        "port",
		"http://127.0.0.1:70000":    "port",
		"http://:3000":              "no http URL",
		"http://8.8.8.8":            "neither of this machine nor of a private network",
		"http://0.0.0.0:3000":       "neither of this machine nor of a private network",
		"http://[2001:db8::1]:3000": "neither of this machine nor of a private network",
		"http://127.0.0.1:8080":     "belay itself listens on :8080",
		"http://[::1]:8080":         "belay itself listens on :8080",
		"http://localhost:8443":     "belay itself listens on 127.0.0.1:8443",
		"http://127.0.0.1:9000":     "belay itself listens on localhost:9000",
		"http://10.1.2.3:7000":      "belay itself listens on 10.1.2.3:7000",
		"http://no.such.invalid":    "no address is known",
	} {
		got, err := r.Address(raw)
		if domain.CodeOf(err) != domain.Invalid || !strings.Contains(fmt.Sprint(err), want) || domain.CodeOf(err).Exit() != 2 {
			t.Errorf("%s: %s, %v; want %s", raw, got, err, want)
		}
	}
}
