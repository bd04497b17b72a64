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
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// resident is the resident memory of a process in MiB.
func resident(t testing.TB, pid int) float64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var kb float64
	for line := range strings.SplitSeq(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscan(rest, &kb)
		}
	}
	return kb / 1024
}

func TestSpawnTakesTheProxyThatRuns(t *testing.T) {
	p := startProxy(t)
	before := p.health()
	if err := Spawn(t.Context(), p.config); err != nil {
		t.Fatal(err)
	}
	if after := p.health(); after.PID != before.PID || after.Holder != before.Holder || after.Holder == 0 {
		t.Errorf("%+v became %+v", before, after)
	}
	s, err := os.Stat(p.config.Socket)
	if err != nil || s.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", s, err)
	}
	holder, worker := resident(t, before.Holder), resident(t, before.PID)
	t.Logf("at rest: holder %.1f MiB, worker %.1f MiB", holder, worker)
	if holder+worker > 40 && !raced {
		t.Errorf("holder %.1f and worker %.1f MiB at rest", holder, worker)
	}
}

func TestSpawnSaysWhyItCannot(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := t.TempDir()
	err = Spawn(t.Context(), Config{
		Socket: filepath.Join(dir, "s"), Table: filepath.Join(dir, "t"), Log: filepath.Join(dir, "log"), HTTP: []string{ln.Addr().String()},
	})
	if domain.CodeOf(err) != domain.Unavailable || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("%v", err)
	}
}

func TestTrafficOutlivesTheHolder(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x")
	p.put(routeTo(backendOn("aaaaaaa", b.addr()), nil, 0))
	before := p.health()
	if err := syscall.Kill(before.Holder, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var now Health
	eventually(t, 3*time.Second, "a new holder has the sockets", func() bool {
		now = p.health()
		return now.Holder != 0 && now.Holder != before.Holder && now.PID != before.PID
	})
	if got := body(t, p.get("shop.example", "/")); got != "x" || now.HTTP[0] != p.addr {
		t.Errorf("with the new holder: %q at %v", got, now.HTTP)
	}
	_ = syscall.Kill(before.PID, syscall.SIGKILL) // it would linger for its clients
	if err := syscall.Kill(now.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := body(t, p.get("shop.example", "/")); got != "x" {
		t.Errorf("after the death of its worker: %q", got)
	}
}

// bench is a proxy in this process before one instance.
func bench(b *testing.B) (*control, *httptest.Server, *httptest.Server, domain.Route) {
	b.Helper()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	b.Cleanup(up.Close)
	c := controlIn(b, filepath.Join(b.TempDir(), "table.json"))
	front := httptest.NewUnstartedServer(c.plane.users(false))
	front.Listener = &strictListener{front.Listener}
	front.Start()
	b.Cleanup(front.Close)
	addr := up.Listener.Addr().String()
	r := routeTo(backendOn("aaaaaaa", addr), backendOn("bbbbbbb", addr), 500)
	r.Split, r.Hosts = "request", []string{"127.0.0.1"}
	if _, err := c.put(r); err != nil {
		b.Fatal(err)
	}
	return c, front, up, r
}

func BenchmarkProxySmallGet(b *testing.B) {
	_, front, up, _ := bench(b)
	for name, url := range map[string]string{"proxied": front.URL, "direct": up.URL} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					res, err := client.Get(url)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
			})
		})
	}
}

func BenchmarkProxyFlip(b *testing.B) {
	c, front, _, r := bench(b)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if res, err := http.Get(front.URL); err == nil {
				_ = res.Body.Close()
			}
		}
	}()
	var took []time.Duration
	for b.Loop() {
		r.Epoch++
		r.Rollout, r.Weight, r.Latched = fmt.Sprint("rol_", r.Epoch), 5_000, false
		if _, err := c.put(r); err != nil {
			b.Fatal(err)
		}
		r.Epoch++
		r.Weight, r.Latched = 0, true
		start := time.Now()
		if _, err := c.put(r); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
}

// BenchmarkMeasure is what measuring adds to a request: the draw, its labels and what is counted under them.
func BenchmarkMeasure(b *testing.B) {
	for _, kind := range []string{"request", "fresh", "cookie", "id"} {
		b.Run(kind, func(b *testing.B) {
			c := controlIn(b, filepath.Join(b.TempDir(), "table.json"))
			r := routeTo(backendOn("aaaaaaa", "127.0.0.1:1"), backendOn("bbbbbbb", "127.0.0.1:2"), 500)
			if kind == "request" {
				r.Split = splitRequest
			}
			if kind == "id" {
				r.Sticky = &domain.Sticky{Header: "X-Customer"}
			}
			if _, err := c.put(r); err != nil {
				b.Fatal(err)
			}
			t := c.plane.table.Load().routes[r.Key()]
			req := request("X-Customer", "17")
			if _, k := t.choose(req); kind == "cookie" {
				req.Header.Set("Cookie", t.cookie+"="+k.cookie)
			}
			b.ReportAllocs()
			for b.Loop() {
				var u unit
				var side domain.Side
				side, u.ticket = t.choose(req)
				m := t.meterOf(side)
				m.begin(req, &u)
				m.record(&u, measure.Served, 3*time.Millisecond)
			}
		})
	}
}
