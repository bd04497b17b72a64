package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

// totals adds up what the proxy has counted for each release, without endpoints and segments.
func (r *rig) totals() map[string]measure.Series {
	r.t.Helper()
	page, err := r.client.Ticks(context.Background(), "", 0, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	sum := map[string]measure.Series{}
	for _, tick := range page.Ticks {
		for _, s := range tick.Series {
			if s.Endpoint == "" && s.Segment == "" {
				t := sum[s.Release]
				t.Requests, t.Errors, t.Unserved = t.Requests+s.Requests, t.Errors+s.Errors, t.Unserved+s.Unserved
				sum[s.Release] = t
			}
		}
	}
	return sum
}

func TestNextThatCannotServeIsServedByStable(t *testing.T) {
	t.Parallel()
	p := startProxy(t)
	stable := startBackend(t, "stable", mixed)
	r := routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb", deadAddr(t)), 5_000)
	r.Split = "request"
	p.put(r)
	const n = 40
	for range n {
		if got := body(t, p.get("shop.example", "/")); got != "stable" {
			t.Fatalf("answer %q", got)
		}
	}
	res, err := http.Post("http://"+p.addr+"/length", "text/plain", strings.NewReader("abc"))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	eventually(t, 3*time.Second, "the failures are counted as next's", func() bool {
		got := p.totals()
		next, st := got["rel_bbbbbbb"], got["rel_aaaaaaa"]
		return next.Requests+st.Requests == n && next.Unserved == next.Requests && next.Errors == next.Requests && next.Requests > n/4 && st.Errors == 0
	})
}

func TestPostWithABodyIsRetriedWhereNothingWasWritten(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x", mixed)
	p.put(routeTo(backendOn("aaaaaaa", deadAddr(t), b.addr()), nil, 0))
	for range 20 {
		req, _ := http.NewRequest(http.MethodPost, "http://"+p.addr+"/length", strings.NewReader("abc"))
		req.Host = "shop.example"
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := body(t, res); got != "3" {
			t.Fatalf("%d %q", res.StatusCode, got)
		}
		_ = res.Body.Close()
	}
}

// breaker is an instance that reads each request and then breaks the connection, so many times.
func breaker(t *testing.T, times int64) (addr string, seen *atomic.Int64) {
	t.Helper()
	seen = &atomic.Int64{}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				if seen.Add(1) > times {
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}()
		}
	}()
	return ln.Addr().String(), seen
}

func TestBrokenRequestsAreRepeatedOnlyWhenSafe(t *testing.T) {
	p := startProxy(t)
	for _, c := range []struct {
		method string
		breaks int64
		status int
		seen   int64
	}{
		{http.MethodGet, 1, 200, 2}, {http.MethodGet, 9, 502, 2}, {http.MethodPost, 1, 502, 1}, {http.MethodPatch, 1, 502, 1},
	} {
		addr, seen := breaker(t, c.breaks)
		r := routeTo(backendOn("aaaaaaa", addr), nil, 0)
		p.put(r)
		var b io.Reader
		if c.method != http.MethodGet {
			b = strings.NewReader("once")
		}
		req, _ := http.NewRequest(c.method, "http://"+p.addr+"/", b)
		req.Host = "shop.example"
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != c.status || seen.Load() != c.seen {
			t.Errorf("%s with %d breaks: status %d, sent %d times, want %d, %d", c.method, c.breaks, res.StatusCode, seen.Load(), c.status, c.seen)
		}
	}
}

func TestTruncatedAnswerReachesTheClientAsTruncated(t *testing.T) {
	t.Parallel()
	p := startProxy(t)
	b := startBackend(t, "x", func(m *http.ServeMux) {
		m.HandleFunc("/chunks", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		m.HandleFunc("/length", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
	})
	p.put(routeTo(backendOn("aaaaaaa", b.addr()), nil, 0))
	for _, path := range []string{"/chunks", "/length"} {
		req, _ := http.NewRequest(http.MethodGet, "http://"+p.addr+path, nil)
		req.Host = "shop.example"
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			continue // it broke before its first byte was passed on
		}
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%s: a broken answer looks whole", path)
		}
		_ = res.Body.Close()
	}
	eventually(t, 3*time.Second, "they count as unserved", func() bool { return p.totals()["rel_aaaaaaa"].Unserved == 2 })
}

func TestRequestReachesTheInstanceAsItCame(t *testing.T) {
	p := startProxy(t)
	seen := make(chan *http.Request, 1)
	b := startBackend(t, "x", func(m *http.ServeMux) {})
	b.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "y")
		w.Header().Set("X-Sum", "42")
		seen <- r
	})
	p.put(routeTo(backendOn("aaaaaaa", b.addr()), nil, 0))
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST /a%2fb/%7E//c;d=1?a=1;b=%zz&c HTTP/1.1\r\nHost: shop.example\r\n"+
		"Connection: X-Real-IP, X-Gone\r\nX-Gone: 1\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Request-Id: mine\r\n"+
		"TE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-In\r\n\r\n2\r\nhi\r\n0\r\nX-In: 7\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body(t, res)
	r := <-seen
	if want := "/a%2fb/%7E//c;d=1?a=1;b=%zz&c"; r.RequestURI != want {
		t.Errorf("path %s, want %s", r.RequestURI, want)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Real-Ip": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "shop.example",
		"X-Gone": "", "X_forwarded_for": "", "User-Agent": "", "Te": "trailers",
		"Forwarded": `for=127.0.0.1;host="shop.example";proto=http`,
	} {
		if got := strings.Join(r.Header[name], "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if id := r.Header.Get("X-Request-Id"); id == "mine" || len(id) != 24 {
		t.Errorf("request id %q", id)
	}
	if r.Host != "shop.example" || r.Trailer.Get("X-In") != "7" || res.Trailer.Get("X-Sum") != "42" {
		t.Errorf("host %q, trailers %v and %v", r.Host, r.Trailer, res.Trailer)
	}
}

func TestTrustedPeerIsBelieved(t *testing.T) {
	p := startProxy(t, func(c *Config) { c.Trusted, c.Silent = []string{"127.0.0.0/8"}, true })
	seen := make(chan http.Header, 1)
	b := startBackend(t, "x", func(m *http.ServeMux) {
		m.HandleFunc("/see", func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })
	})
	p.put(routeTo(backendOn("aaaaaaa", b.addr()), nil, 0))
	res := p.get("shop.example", "/see", "X-Forwarded-For", "9.9.9.9", "X-Forwarded-Proto", "https", "X-Request-Id", "mine")
	h := <-seen
	if h.Get("X-Forwarded-For") != "9.9.9.9, 127.0.0.1" || h.Get("X-Forwarded-Proto") != "https" || h.Get("X-Request-Id") != "mine" {
		t.Errorf("headers %v", h)
	}
	if res.Header.Get(releaseHeader) != "" {
		t.Error("the release is told though it is switched off")
	}
}

func TestExpectContinue(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x", mixed, func(m *http.ServeMux) {
		m.HandleFunc("/refuse", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) })
	})
	p.put(routeTo(backendOn("aaaaaaa", b.addr()), nil, 0))
	for path, want := range map[string]string{"/length": "HTTP/1.1 100 Continue", "/refuse": "HTTP/1.1 413 Request Entity Too Large"} {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		start := time.Now()
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: shop.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", path)
		r := bufio.NewReader(conn)
		line, err := r.ReadString('\n')
		if path == "/refuse" && time.Since(start) >= askAfter {
			t.Logf("the refusal took %s: by then the client may be asked", time.Since(start))
			continue
		}
		if err != nil || strings.TrimSpace(line) != want {
			t.Errorf("%s: %q, %v", path, line, err)
			continue
		}
		if path == "/refuse" {
			continue
		}
		_, _ = r.ReadString('\n')
		_, _ = io.WriteString(conn, "abc")
		if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusOK || body(t, res) != "3" {
			t.Errorf("after 100: %v, %v", res, err)
		}
	}
}

func TestDeadInstanceGetsNoTrafficAndIsTriedWhenAllAreDead(t *testing.T) {
	t.Parallel()
	p := startProxy(t)
	var sick atomic.Bool
	sick.Store(true)
	health := func(m *http.ServeMux) {
		m.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
			if sick.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
	}
	a := startBackend(t, "a", health)
	b := startBackend(t, "b", func(m *http.ServeMux) { m.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {}) })
	r := routeTo(backendOn("aaaaaaa", a.addr(), b.addr()), nil, 0)
	r.Stable.Probe = "/health"
	p.put(r)
	dead := func(n int) func() bool {
		return func() bool {
			list, err := p.client.InFlight(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range list[0].Instances {
				if i.Dead {
					n--
				}
			}
			return n == 0
		}
	}
	eventually(t, 8*time.Second, "a is found dead", func() bool { return dead(1)() })
	for range 10 {
		if got := body(t, p.get("shop.example", "/")); got != "b" {
			t.Errorf("served by %s", got)
		}
	}
	r.Stable.Instances, r.Epoch = r.Stable.Instances[:1], 2
	p.put(r)
	if got := body(t, p.get("shop.example", "/")); got != "a" {
		t.Errorf("with all instances dead: %q", got)
	}
}
