package proxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestSkewGuardFindsTheFilesOfTheOtherRelease(t *testing.T) {
	p := startProxy(t)
	files := func(has string) func(*http.ServeMux) {
		return func(m *http.ServeMux) {
			m.HandleFunc("/assets/", func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.URL.Path, has) {
					w.WriteHeader(http.StatusNotFound)
				}
			})
		}
	}
	stable, next := startBackend(t, "s", files("aaa")), startBackend(t, "n", files("bbb"))
	r := routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb", next.addr()), 5_000)
	r.Split = "request"
	p.put(r)
	status := func(path string) int { return p.get("shop.example", path).StatusCode }
	for range 20 {
		if got := status("/assets/app.aaa.js"); got != http.StatusOK {
			t.Fatalf("file of stable: %d", got)
		}
		if got := status("/assets/app.bbb.js"); got != http.StatusOK {
			t.Fatalf("file of next: %d", got)
		}
	}
	if got := status("/assets/app.ccc.js"); got != http.StatusNotFound {
		t.Errorf("file of nobody: %d", got)
	}
	r.Weight, r.Latched, r.Epoch = 0, true, 2
	p.put(r)
	if got := status("/assets/app.bbb.js"); got != http.StatusNotFound {
		t.Errorf("next was asked after the rollback: %d", got)
	}
	list, err := p.client.InFlight(context.Background())
	if err != nil || list[0].Saved+list[1].Saved < 10 {
		t.Errorf("saved requests are not counted: %+v, %v", list, err)
	}
}

// skewed is a rig whose stable answers 404 to every file, and whose next does as told. All users are stable's by their id.
func skewed(t *testing.T, next func(http.ResponseWriter, *http.Request)) (p *rig, asked *atomic.Int64) {
	t.Helper()
	p, asked = startProxy(t), &atomic.Int64{}
	stable := startBackend(t, "s", func(m *http.ServeMux) {
		m.HandleFunc("/files/", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "not here")
		})
	})
	other := startBackend(t, "n", func(m *http.ServeMux) {
		m.HandleFunc("/files/", func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			next(w, r)
		})
	})
	p.put(routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb", other.addr()), 1))
	return p, asked
}

func (r *rig) do(method, path string, payload io.Reader, header ...string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, "http://"+r.addr+path, payload)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = "shop.example"
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode, body(r.t, res)
}

func TestSkewGuardAsksOnlyForFilesThatCanBeAskedForTwice(t *testing.T) {
	t.Parallel()
	p, asked := skewed(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "found") })
	for _, c := range []struct {
		method, path string
		payload      io.Reader
		header       []string
		found        bool
	}{
		{http.MethodGet, "/files/app.js", nil, nil, true},
		{http.MethodHead, "/files/app.css", nil, nil, true},
		{http.MethodGet, "/files/data.json?x=1", nil, nil, true},
		{http.MethodGet, "/files/7", nil, nil, false},
		{http.MethodGet, "/files/john.doe", nil, nil, false},
		{http.MethodGet, "/files/app.js/7", nil, nil, false},
		{http.MethodPost, "/files/app.js", strings.NewReader("x"), nil, false},
		{http.MethodPost, "/files/app.js", nil, nil, false},
		{http.MethodDelete, "/files/app.js", nil, nil, false},
		{http.MethodOptions, "/files/app.js", nil, nil, false},
		{http.MethodGet, "/files/app.js", strings.NewReader("x"), nil, false},
	} {
		before := asked.Load()
		status, _ := p.do(c.method, c.path, c.payload, c.header...)
		want, asks := http.StatusNotFound, int64(0)
		if c.found {
			want, asks = http.StatusOK, 1
		}
		if status != want || asked.Load()-before != asks {
			t.Errorf("%s %s: %d, next was asked %d times, want %d and %d", c.method, c.path, status, asked.Load()-before, want, asks)
		}
	}
	list, err := p.client.InFlight(context.Background())
	if err != nil || list[0].Saved != 3 || list[1].Saved != 0 || list[0].Requests+list[1].Requests != 0 {
		t.Errorf("counted as %+v, %v", list, err)
	}
	eventually(t, 3*time.Second, "all count as stable's, none as failed", func() bool {
		got := p.totals()
		return got["rel_aaaaaaa"].Requests == 11 && got["rel_aaaaaaa"].Errors == 0 && got["rel_bbbbbbb"].Requests == 0
	})
}

// Whatever the other release does instead of serving the file, the client gets the first 404.
func TestSkewGuardNeverMakesA404Worse(t *testing.T) {
	for name, next := range map[string]func(http.ResponseWriter, *http.Request){
		"404":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"500":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"redirect":   func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) },
		"start page": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<!DOCTYPE html><html>") },
		"reset":      func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"hangs":      func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, asked := skewed(t, next)
			start := time.Now()
			status, text := p.do(http.MethodGet, "/files/app.js", nil)
			if status != http.StatusNotFound || text != "not here" || asked.Load() == 0 {
				t.Errorf("%d %q, asked %d times", status, text, asked.Load())
			}
			if took := time.Since(start); took > skewWithin+3*time.Second {
				t.Errorf("answered after %s", took)
			}
			list, err := p.client.InFlight(context.Background())
			if err != nil || list[0].Saved+list[1].Saved+list[0].Requests+list[1].Requests != 0 {
				t.Errorf("counted as %+v, %v", list, err)
			}
		})
	}
}

func TestSkewGuardWithoutAnotherRelease(t *testing.T) {
	p := startProxy(t)
	stable := startBackend(t, "s", func(m *http.ServeMux) { m.Handle("/files/", http.NotFoundHandler()) })
	dead := deadAddr(t)
	r := routeTo(backendOn("aaaaaaa", stable.addr()), nil, 0)
	p.put(r)
	ask := func(what string) {
		t.Helper()
		if status, _ := p.do(http.MethodGet, "/files/app.js", nil); status != http.StatusNotFound {
			t.Errorf("%s: %d", what, status)
		}
	}
	ask("no next")
	r = routeTo(r.Stable, backendOn("bbbbbbb", dead), 1)
	r.Epoch = 2
	p.put(r)
	ask("nobody listens on next")
	r.Next, r.Epoch = backendOn("bbbbbbb"), 3
	p.put(r)
	ask("next has no instance")
}
