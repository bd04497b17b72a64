package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// TestMain lets the test binary be the proxy that the tests start, as belay is its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "proxy":
			os.Exit(Main(os.Args[2:]))
		case "raw-client":
			os.Exit(rawClient(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// rig is a real proxy with its holder, and a client of its control socket.
type rig struct {
	t      testing.TB
	dir    string
	config Config
	client *Client
	addr   string // of http
}

func startProxy(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "belay") // a short path: unix sockets have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, config: Config{
		Socket: filepath.Join(dir, "proxy.sock"), Table: filepath.Join(dir, "proxy", "table.json"),
		HTTP: []string{"127.0.0.1:0"}, Log: filepath.Join(dir, "proxy.log"),
	}}
	for _, f := range change {
		f(&r.config)
	}
	r.client = NewClient(r.config.Socket)
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			log, _ := os.ReadFile(r.config.Log)
			t.Logf("log of the proxy:\n%s", log)
		}
		_ = os.RemoveAll(dir)
	})
	if err := Spawn(t.Context(), r.config); err != nil {
		t.Fatal(err)
	}
	r.addr = r.health().HTTP[0]
	return r
}

func (r *rig) health() Health {
	r.t.Helper()
	h, err := r.client.Health(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

// stop ends the processes that the rig started.
func (r *rig) stop() {
	h, err := r.client.Health(context.Background())
	r.client.Close()
	if err != nil {
		return
	}
	if h.Holder > 0 {
		_ = syscall.Kill(h.Holder, syscall.SIGKILL)
	}
	_ = syscall.Kill(h.PID, syscall.SIGKILL)
}

func (r *rig) put(route domain.Route) domain.Route {
	r.t.Helper()
	applied, err := r.client.Put(context.Background(), route)
	if err != nil {
		r.t.Fatal(err)
	}
	return applied
}

// get sends a GET on a connection of its own.
func (r *rig) get(host, path string, header ...string) *http.Response {
	r.t.Helper()
	return r.getAt(r.addr, host, path, header...)
}

func (r *rig) getAt(addr, host, path string, header ...string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host, req.Close = host, true
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func body(t testing.TB, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// backendServer is an instance that says its name.
type backendServer struct {
	*httptest.Server
	hits atomic.Int64
}

func startBackend(t testing.TB, name string, mux ...func(*http.ServeMux)) *backendServer {
	t.Helper()
	b := &backendServer{}
	m := http.NewServeMux()
	m.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		b.hits.Add(1)
		_, _ = fmt.Fprint(w, name)
	})
	for _, f := range mux {
		f(m)
	}
	b.Server = httptest.NewServer(m)
	t.Cleanup(b.Close)
	return b
}

func (b *backendServer) addr() string { return b.Listener.Addr().String() }

// backendOn is the backend of a release on the addresses.
func backendOn(release string, addrs ...string) *domain.Backend {
	b := &domain.Backend{Release: "rel_" + release, Commit: release + "0000000000"}
	for i, a := range addrs {
		b.Instances = append(b.Instances, domain.Endpoint{Index: i, Addr: a})
	}
	return b
}

func routeTo(stable, next *domain.Backend, weight int) domain.Route {
	r := domain.Route{
		App: "shop", Environment: domain.Production, Role: "web", Hosts: []string{"shop.example"}, Paths: []string{"/"},
		TLS: "none", Split: "visitor", Epoch: 1, Weight: weight, Stable: stable, Next: next, Drain: time.Second,
	}
	if next != nil {
		r.Rollout = "rol_1"
	}
	return r
}

// deadAddr is an address on which nobody listens.
func deadAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// eventually waits until the condition holds.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func signalHolder(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
}
