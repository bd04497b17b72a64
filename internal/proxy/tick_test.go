package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

func TestTicksAreCountedExactlyOnce(t *testing.T) {
	t.Parallel()
	p := startProxy(t)
	b := startBackend(t, "x", func(m *http.ServeMux) {
		m.HandleFunc("/orders/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	})
	r := routeTo(backendOn("aaaaaaa", b.addr()), backendOn("bbbbbbb", b.addr()), 0)
	r.Endpoints = []string{"GET /orders/*"}
	r.Segments = map[string]domain.Segment{"plan": {Header: "X-Plan"}}
	r = p.put(r)
	const n = 30
	for range n {
		p.get("shop.example", "/", "X-Plan", "free")
		p.get("shop.example", "/orders/7", "X-Plan", "paid")
		p.getAt(r.Checks, "shop.example", "/orders/7")
	}
	boot, after := "", int64(0)
	type sum struct{ requests, errors, latency int64 }
	sums := map[string]sum{}
	deadline := time.Now().Add(5 * time.Second)
	for sums[""].requests < 2*n && time.Now().Before(deadline) {
		page, err := p.client.Ticks(context.Background(), boot, after, 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		again, err := p.client.Ticks(context.Background(), boot, after, 0)
		if err != nil || len(again.Ticks) < len(page.Ticks) {
			t.Fatalf("asked again: %d ticks, %v", len(again.Ticks), err)
		}
		for _, tick := range page.Ticks {
			if tick.N <= after || tick.Boot != page.Boot || tick.At.IsZero() {
				t.Fatalf("tick %d of %s after %d", tick.N, tick.Boot, after)
			}
			after = tick.N
			for _, s := range tick.Series {
				if s.Release != "rel_aaaaaaa" || s.Rollout != "rol_1" || s.Side != domain.Stable {
					t.Errorf("series %+v", s)
				}
				v := sums[s.Endpoint+s.Segment]
				sums[s.Endpoint+s.Segment] = sum{v.requests + s.Requests, v.errors + s.Errors, v.latency + s.Latency.Count()}
			}
		}
		boot = page.Boot
	}
	for what, want := range map[string]sum{
		"": {2 * n, n, 2 * n}, "GET /orders/*": {n, n, n}, "other": {n, 0, n}, "plan=free": {n, 0, n}, "plan=paid": {n, n, n},
	} {
		if sums[what] != want {
			t.Errorf("%q counted %v, want %v", what, sums[what], want)
		}
	}
	p.killWorker()
	page, err := p.client.Ticks(context.Background(), boot, after, 3*time.Second)
	if err != nil || page.Boot == boot || len(page.Ticks) == 0 || page.Ticks[0].N != 1 {
		t.Errorf("after a restart: %+v, %v", page, err)
	}
}

func TestEndpointsAreBounded(t *testing.T) {
	l := newLabels(nil, map[string]domain.Segment{"c": {Cookie: "c"}})
	seen := map[label]bool{}
	for i := range 60 {
		r, _ := http.NewRequest(http.MethodGet, "/p"+strings.Repeat("x", i)+"/y", nil)
		r.AddCookie(&http.Cookie{Name: "c", Value: strings.Repeat("v", i+1)})
		for _, l := range l.of(r, nil) {
			seen[*l] = true
		}
	}
	if len(seen) != 1+2*(most+1) || !seen[newLabel("GET /p", "")] || !seen[newLabel(other, "")] || !seen[newLabel("", "c=other")] {
		t.Errorf("%d labels: %v", len(seen), seen)
	}
}

// Endpoints that are named are all counted on their own.
func TestFiftyNamedEndpointsAreCounted(t *testing.T) {
	var names []string
	for i := range 50 {
		names = append(names, fmt.Sprintf("GET /v1/%d/*", i))
	}
	l := newLabels(names, nil)
	seen := map[label]bool{}
	for i := range 60 {
		r, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("/v1/%d/x", i), nil)
		seen[*l.of(r, nil)[1]] = true
	}
	if len(seen) != 51 || !seen[newLabel("GET /v1/49/*", "")] || !seen[newLabel(other, "")] {
		t.Errorf("%d labels: %v", len(seen), seen)
	}
}

func TestLedgerKeepsTwoHours(t *testing.T) {
	l := newLedger("boot")
	now := l.started
	for i := range ticksKept + 5 {
		if err := l.close(now.Add(time.Duration(i+1)*time.Second), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.close(now.Add(9000*time.Second), nil); err != nil { // the process stood still
		t.Fatal(err)
	}
	page, err := l.pull(t.Context(), "boot", ticksKept, 0)
	if err != nil || page.First != 7 || page.Last != 9000 || len(page.Ticks) != 6 {
		t.Errorf("first %d, last %d, %d ticks, %v", page.First, page.Last, len(page.Ticks), err)
	}
}

// certificate writes a self-signed certificate for the host.
func certificate(t *testing.T, dir, host string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	if err := os.WriteFile(filepath.Join(dir, host+".pem"), out, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTLSFromAFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate(t, dir, "shop.example", 1)
	p := startProxy(t, func(c *Config) { c.HTTPS, c.Certs = []string{"127.0.0.1:0"}, dir })
	b := startBackend(t, "x")
	r := routeTo(backendOn("aaaaaaa", b.addr()), nil, 0)
	r.TLS, r.Hosts = "auto", []string{"shop.example", "plain.example"}
	p.put(r)
	secure := p.health().HTTPS[0]
	serial := func(protocol string) int64 {
		conn, err := tls.Dial("tcp", secure, &tls.Config{InsecureSkipVerify: true, ServerName: "shop.example"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: protocol == "HTTP/2.0", TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "shop.example"}}}
		req, _ := http.NewRequest(http.MethodGet, "https://"+secure+"/", nil)
		req.Host = "shop.example"
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.Proto != protocol || body(t, res) != "x" {
			t.Errorf("%s, want %s", res.Proto, protocol)
		}
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if serial("HTTP/2.0") != 1 || serial("HTTP/1.1") != 1 {
		t.Error("another certificate")
	}
	if res := p.get("shop.example", "/a?b=c"); res.StatusCode != http.StatusMovedPermanently || !strings.HasSuffix(res.Header.Get("Location"), "/a?b=c") || !strings.HasPrefix(res.Header.Get("Location"), "https://shop.example:") {
		t.Errorf("http: %d to %s", res.StatusCode, res.Header.Get("Location"))
	}
	if res := p.get("plain.example", "/"); res.StatusCode != http.StatusOK {
		t.Errorf("a host without a certificate: %d", res.StatusCode)
	}
	certificate(t, dir, "shop.example", 2)
	eventually(t, 6*time.Second, "the new certificate is served", func() bool { return serial("HTTP/1.1") == 2 })
}
