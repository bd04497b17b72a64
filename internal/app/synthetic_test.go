package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/proxy"
)

func TestWarmReachesEveryInstanceAndOnlyReads(t *testing.T) {
	b := newBench(t)
	j := job(file(t, `verify:
  checks:
    items: { http: /items }
    list:  { http: /list, method: HEAD }
    buy:   { http: /buy, method: POST }
    later: { http: /later, only: production }
`), domain.Staging)
	var mu sync.Mutex
	asked := map[string]bool{}
	note := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		asked[r.Method+" "+r.Host+r.URL.Path] = true
		w.WriteHeader(http.StatusInternalServerError) // it judges nothing
	}
	stable := b.start(j.Rollout.Stable, "web", 0, fine)
	var next []*instance
	for i := range 3 {
		next = append(next, b.start(&j.Rollout.Next, "web", i, note))
	}
	b.synthetic.Warm(t.Context(), j)
	total := int64(0)
	for i, inst := range next {
		total += inst.hits.Load()
		if n := inst.hits.Load(); n < warmEach/4 { // the proxy draws
			t.Errorf("instance %d was asked %d times", i, n)
		}
	}
	if total != 3*warmEach || stable.hits.Load() != 0 {
		t.Errorf("%d requests to next, want %d; %d to stable", total, 3*warmEach, stable.hits.Load())
	}
	want := []string{"GET staging.shop.example/items", "HEAD staging.shop.example/list", "GET staging.shop.example/healthz"}
	for _, w := range want {
		if !asked[w] {
			t.Errorf("%s was not asked", w)
		}
	}
	if len(asked) != len(want) {
		t.Errorf("asked: %v", asked)
	}
}

func TestWarmEndsWithItsContext(t *testing.T) {
	b := newBench(t)
	j := job(file(t, ""), domain.Production)
	b.start(&j.Rollout.Next, "web", 0, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	b.synthetic.Warm(ctx, j)
	if took := time.Since(start); took < 300*time.Millisecond || took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestLoadGoesThroughThePublicRouteAsNewVisitors(t *testing.T) {
	b := newBench(t)
	f := file(t, "verify:\n  checks:\n    items: { http: /items, headers: { X-Key: k-1 } }\n    buy: { http: /buy, method: POST }\n")
	j := job(f, domain.Production)
	var cookies, others atomic.Int64
	count := func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			return
		}
		if r.Header.Get("Cookie") != "" {
			cookies.Add(1)
		}
		if r.Method != http.MethodGet || r.Host != "shop.example" || r.URL.Path != "/items" || r.Header.Get("X-Key") != "k-1" {
			others.Add(1)
		}
	}
	stable, next := b.start(j.Rollout.Stable, "web", 0, count), b.start(&j.Rollout.Next, "web", 0, count)
	b.shift(j, domain.WeightAll/2)
	stop := b.synthetic.Load(t.Context(), j, 100)
	eventually(t, "both sides are asked", func() bool { return stable.hits.Load() > 10 && next.hits.Load() > 10 })
	got := stop()
	if again := stop(); again != got {
		t.Errorf("stopped twice: %+v, then %+v", got, again)
	}
	if got.Requests != stable.hits.Load()+next.hits.Load() || got.Failed != 0 || got.Message != "" {
		t.Errorf("%+v; stable had %d, next %d", got, stable.hits.Load(), next.hits.Load())
	}
	if cookies.Load() != 0 || others.Load() != 0 {
		t.Errorf("%d with a cookie, %d others", cookies.Load(), others.Load())
	}
	if b.checks.numbers.busy("shop", domain.Staging) {
		t.Error("a load of production makes staging busy")
	}
}

func TestLoadCountsWhatFails(t *testing.T) {
	b := newBench(t)
	j := job(file(t, ""), domain.Production)
	for i := range j.Rollout.Stable.Workloads {
		w := &j.Rollout.Stable.Workloads[i]
		w.Env, w.Secrets = map[string]string{"DB_KEY": "s3cr3t-value"}, []string{"DB_KEY"}
	}
	var n atomic.Int64
	b.start(j.Rollout.Stable, "web", 0, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			return
		}
		if n.Add(1)%2 == 0 {
			http.Error(w, "no key s3cr3t-value", http.StatusInternalServerError)
		} else {
			http.NotFound(w, r) // an answer
		}
	})
	b.shift(j, 0)
	stop := b.synthetic.Load(t.Context(), j, 50)
	eventually(t, "requests", func() bool { return n.Load() >= 20 })
	got := stop()
	if got.Requests != n.Load() || got.Failed != n.Load()/2 {
		t.Errorf("%+v of %d", got, n.Load())
	}
	if !strings.HasPrefix(got.Message, "GET shop.example/healthz: 500; body: no key") || strings.Contains(got.Message, "s3cr3t") {
		t.Errorf("message %q", got.Message)
	}
}

// An app that hangs is asked as often as one that answers, and what it swallows is bounded.
func TestLoadKeepsItsPaceWhateverTheAnswersTake(t *testing.T) {
	b := newBench(t)
	j := job(file(t, ""), domain.Production)
	hang := make(chan struct{})
	slow := b.start(j.Rollout.Stable, "web", 0, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	b.shift(j, 0)
	start := time.Now()
	stop := b.synthetic.Load(t.Context(), j, 100)
	eventually(t, "50 requests are open", func() bool { return slow.hits.Load() >= 50 })
	took := time.Since(start)
	close(hang)
	if got := stop(); took > 2*time.Second || got.Requests < 50 || got.Failed != 0 {
		t.Errorf("%+v after %s", got, took)
	}
}

func TestLoadSaysThatNobodyListens(t *testing.T) {
	b := newBench(t, func(c *proxy.Config) { c.HTTP = nil })
	j := job(file(t, ""), domain.Production)
	stop := b.synthetic.Load(t.Context(), j, 100)
	time.Sleep(50 * time.Millisecond) // a few requests at this pace
	if got := stop(); got.Requests == 0 || got.Failed != got.Requests || !strings.Contains(got.Message, "listens to no visitors") {
		t.Errorf("%+v", got)
	}
}

func TestLoadOverTLS(t *testing.T) {
	for name, plain := range map[string][]string{"redirected": {"127.0.0.1:0"}, "TLS only": nil} {
		t.Run(name, func(t *testing.T) {
			certs := t.TempDir()
			certificate(t, filepath.Join(certs, "shop.example.pem"), "shop.example")
			b := newBench(t, func(c *proxy.Config) { c.HTTP, c.HTTPS, c.Certs = plain, []string{"127.0.0.1:0"}, certs })
			j := job(file(t, "verify:\n  checks:\n    items: { http: /items }\n"), domain.Production)
			stable := b.start(j.Rollout.Stable, "web", 0, fine)
			b.shift(j, 0)
			stop := b.synthetic.Load(t.Context(), j, 50)
			eventually(t, "requests over TLS", func() bool { return stable.hits.Load() >= 5 })
			if got := stop(); got.Failed != 0 || got.Requests != stable.hits.Load() {
				t.Errorf("%+v; the app saw %d", got, stable.hits.Load())
			}
		})
	}
}

// certificate writes a certificate of a host with its key.
func certificate(t *testing.T, path, host string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]string{"0.0.0.0:80": "127.0.0.1:80", ":80": "127.0.0.1:80", "[::]:443": "[::1]:443", "10.1.2.3:80": "10.1.2.3:80"} {
		if got := loopback(addr); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestFlows(t *testing.T) {
	b := newBench(t)
	j := job(file(t, `verify:
  checks:
    fine:   { http: /fine, critical: true }
    flaps:  { http: /flaps }
    broken: { http: /broken, critical: true }
    common: { http: /common }
    fresh:  { http: /fresh }
    buy:    { run: 'test "$BELAY_RELEASE" = rel_next && test -n "$BELAY_URL" && echo sold' }
    lost:   { run: 'echo booking lost; test "$BELAY_RELEASE" = rel_stable' }
    away:   { http: /broken, only: production }
    port:   { tcp: 127.0.0.1:9 }
    low:    { metric: error_rate < 1% }
`), domain.Staging)
	var flaps atomic.Int64
	b.start(j.Rollout.Stable, "web", 0, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/common":
			http.Error(w, "the database is gone", http.StatusServiceUnavailable)
		case "/fresh":
			http.NotFound(w, r)
		}
	})
	b.start(&j.Rollout.Next, "web", 0, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/flaps":
			if flaps.Add(1) == 1 {
				http.Error(w, "not yet", http.StatusInternalServerError)
			}
		case "/broken", "/common", "/fresh":
			http.Error(w, "no rows", http.StatusInternalServerError)
		}
	})
	type seen struct{ failed, shared, critical bool }
	want := map[string]seen{
		"fine": {critical: true}, "flaps": {}, "broken": {failed: true, critical: true}, "common": {failed: true, shared: true},
		"fresh": {failed: true}, "buy": {}, "lost": {failed: true},
	}
	got := b.synthetic.Flows(t.Context(), j)
	if len(got) != len(want) {
		t.Errorf("%d flows, want %d", len(got), len(want))
	}
	for _, f := range got {
		if w, ok := want[f.Name]; !ok || w != (seen{f.Failed, f.Shared, f.Critical}) || f.Message == "" {
			t.Errorf("%+v, want %+v", f, w)
		}
	}
	if flaps.Load() != 2 {
		t.Errorf("the flow that flaps was asked %d times", flaps.Load())
	}
	if none := b.synthetic.Flows(t.Context(), job(file(t, "verify:\n  checks:\n    port: { tcp: 127.0.0.1:9 }\n"), domain.Staging)); len(none) != 0 {
		t.Errorf("without flows: %+v", none)
	}
}

// A load whose delivery is over makes nothing wait any more, also where nobody stops it.
func TestBusyEndsWithTheLoad(t *testing.T) {
	b := newBench(t)
	j := job(file(t, ""), domain.Staging)
	ctx, cancel := context.WithCancel(t.Context())
	stop := b.synthetic.Load(ctx, j, 1)
	if !b.checks.numbers.busy("shop", domain.Staging) {
		t.Error("a load that runs does not count")
	}
	cancel()
	eventually(t, "nothing is busy", func() bool { return !b.checks.numbers.busy("shop", domain.Staging) })
	stop()
}
