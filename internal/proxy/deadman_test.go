package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// deadManWorld is the data plane of a worker with real traffic, in this process, so that its clock can be told.
type deadManWorld struct {
	t            *testing.T
	ctl          *control
	front        *httptest.Server
	stable, next *backendServer
	sick         [2]atomic.Bool // stable, next
	r            domain.Route
}

func newDeadManWorld(t *testing.T) *deadManWorld {
	t.Helper()
	w := &deadManWorld{t: t, ctl: controlIn(t, filepath.Join(t.TempDir(), "table.json"))}
	serve := func(side int) func(*http.ServeMux) {
		return func(m *http.ServeMux) {
			m.HandleFunc("/work", func(rw http.ResponseWriter, _ *http.Request) {
				if w.sick[side].Load() {
					rw.WriteHeader(http.StatusInternalServerError)
				}
			})
		}
	}
	w.stable, w.next = startBackend(t, "stable", serve(0)), startBackend(t, "next", serve(1))
	w.front = httptest.NewServer(w.ctl.plane.users(false))
	t.Cleanup(w.front.Close)
	w.r = routeTo(backendOn("aaaaaaa", w.stable.addr()), backendOn("bbbbbbb", w.next.addr()), 5_000)
	w.r.Split = splitRequest
	w.put()
	return w
}

func (w *deadManWorld) put() {
	w.t.Helper()
	if _, err := w.ctl.put(w.r); err != nil {
		w.t.Fatal(err)
	}
}

// ask sends so many requests and says how many next answered.
func (w *deadManWorld) ask(times int) (byNext int) {
	w.t.Helper()
	for range times {
		req, _ := http.NewRequest(http.MethodGet, w.front.URL+"/work", nil)
		req.Host = "shop.example"
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			w.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if res.Header.Get(releaseHeader) == w.r.Next.Commit[:7] {
			byNext++
		}
	}
	return byNext
}

// second ends a tick as if nobody had asked for one for so long.
func (w *deadManWorld) second(unwatched time.Duration) domain.Route {
	w.t.Helper()
	now := time.Now()
	w.ctl.ledger.mu.Lock()
	w.ctl.ledger.pulled = now.Add(-unwatched)
	w.ctl.ledger.mu.Unlock()
	w.ctl.tick(now)
	return w.ctl.plane.table.Load().routes[w.r.Key()].Route
}

const away = deadManAfter + time.Second

func TestDeadManRuleOnRealTraffic(t *testing.T) {
	for name, c := range map[string]struct {
		unwatched time.Duration
		do        func(*deadManWorld)
		latched   bool
	}{
		"next answers 500": {away, func(w *deadManWorld) { w.sick[1].Store(true); w.ask(100) }, true},
		"nobody listens on next: stable serves, next is blamed": {away, func(w *deadManWorld) { w.next.Close(); w.ask(100) }, true},
		"half of next's requests at most": {away, func(w *deadManWorld) {
			w.ask(100)
			w.sick[1].Store(true)
			w.ask(60)
		}, false},
		"both fail":    {away, func(w *deadManWorld) { w.sick[0].Store(true); w.sick[1].Store(true); w.ask(100) }, false},
		"watched":      {deadManAfter - time.Second, func(w *deadManWorld) { w.sick[1].Store(true); w.ask(100) }, false},
		"few requests": {away, func(w *deadManWorld) { w.sick[1].Store(true); w.ask(15) }, false},
		"next fails, stable has no instance": {away, func(w *deadManWorld) {
			w.sick[1].Store(true)
			w.ask(100)
			w.r.Epoch++
			w.r.Stable = backendOn("aaaaaaa")
			w.put()
		}, false},
		"no rollout": {away, func(w *deadManWorld) {
			w.sick[0].Store(true)
			w.r = routeTo(w.r.Stable, nil, 0)
			w.r.Epoch = 2
			w.put()
			w.r.Next = backendOn("bbbbbbb")
			w.ask(100)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newDeadManWorld(t)
			c.do(w)
			got := w.second(c.unwatched)
			if got.Latched != c.latched || c.latched && (got.Weight != 0 || got.LatchedBy != "proxy" || got.Rollout != "rol_1" || got.Stable == nil || got.Next == nil) {
				t.Errorf("latched %t by %q at weight %d", got.Latched, got.LatchedBy, got.Weight)
			}
			if c.latched {
				if n := w.ask(30); n > 0 {
					t.Errorf("next still answers %d of 30", n)
				}
			}
		})
	}
}

// Whoever watches again sees the latch, cannot raise next, and goes on with the rollback under its name; nothing is latched
// while somebody pulls ticks, whatever happens.
func TestServeGoesOnWithTheDeadMansRollback(t *testing.T) {
	w := newDeadManWorld(t)
	w.sick[1].Store(true)
	w.ask(100)
	if _, err := w.ctl.ledger.pull(t.Context(), "", 0, 0); err != nil {
		t.Fatal(err)
	}
	w.ctl.tick(time.Now())
	if w.ctl.plane.table.Load().routes[w.r.Key()].Latched {
		t.Fatal("latched though somebody watches")
	}
	if got := w.second(away); !got.Latched {
		t.Fatal("not latched: what was counted before the watcher left is still true")
	}
	again := controlIn(t, w.ctl.file.path) // a worker that takes over
	if err := again.restore(); err != nil {
		t.Fatal(err)
	}
	for name, ctl := range map[string]*control{"this worker": w.ctl, "the next worker": again} {
		up := w.r
		up.Epoch = 2
		if _, err := ctl.put(up); domain.CodeOf(err) != domain.Conflict {
			t.Errorf("%s: raise: %v", name, err)
		}
		promote := routeTo(w.r.Next, nil, 0)
		promote.Epoch = 2
		if _, err := ctl.put(promote); domain.CodeOf(err) != domain.Conflict {
			t.Errorf("%s: promotion: %v", name, err)
		}
		back := w.r
		back.Epoch, back.Weight, back.Latched, back.LatchedBy = 3, 0, true, "serve"
		if got, err := ctl.put(back); err != nil || got.LatchedBy != "proxy" || !got.Latched {
			t.Errorf("%s: rollback goes on: %+v, %v", name, got, err)
		}
		alone := routeTo(w.r.Stable, nil, 0)
		alone.Epoch = 4
		if got, err := ctl.put(alone); err != nil || got.Latched {
			t.Errorf("%s: its end: %+v, %v", name, got, err)
		}
	}
}
