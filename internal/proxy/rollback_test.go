package proxy

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

func TestNoRequestBeginsOnNextAfterARollbackIsAcknowledged(t *testing.T) {
	p := startProxy(t)
	var last atomic.Int64
	seen := func(m *http.ServeMux) {
		m.HandleFunc("/seen", func(http.ResponseWriter, *http.Request) { last.Store(time.Now().UnixNano()) })
	}
	stable, next := startBackend(t, "stable", func(m *http.ServeMux) { m.HandleFunc("/seen", func(http.ResponseWriter, *http.Request) {}) }), startBackend(t, "next", seen)
	r := routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb", next.addr()), 0)
	r.Split = "request"
	ctx, cancel := context.WithCancel(context.Background())
	var users sync.WaitGroup
	for range 6 {
		users.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			for ctx.Err() == nil {
				req, _ := http.NewRequest(http.MethodGet, "http://"+p.addr+"/seen", nil)
				req.Host = "shop.example"
				if res, err := client.Do(req); err == nil {
					_ = res.Body.Close()
				}
			}
		})
	}
	defer users.Wait()
	defer cancel()
	for i := range 40 {
		r.Rollout, r.Weight, r.Latched = "rol_"+string(rune('a'+i)), 7_000, false
		r.Epoch++
		before := last.Load()
		p.put(r)
		eventually(t, 5*time.Second, "next has traffic", func() bool { return last.Load() > before })
		time.Sleep(10 * time.Millisecond)
		r.Weight, r.Latched, r.Epoch = 0, true, r.Epoch+1
		start := time.Now()
		p.put(r)
		acknowledged := time.Now()
		time.Sleep(15 * time.Millisecond)
		if late := last.Load() - acknowledged.UnixNano(); late > int64(5*time.Millisecond) { // its handler may run later than its bytes came
			t.Errorf("a request began on next %s after the acknowledgement", time.Duration(late))
		}
		if took := acknowledged.Sub(start); took > 2*time.Second {
			t.Errorf("rollback %d took %s", i, took)
		}
	}
}

// controlIn is a control in this process, without sockets.
func controlIn(t testing.TB, table string) *control {
	t.Helper()
	p := &plane{Upstream: newNetUpstream(), quiet: log.New(io.Discard, "", 0)}
	return newControl(t.Context(), p, table, newLedger("boot"), slog.New(slog.DiscardHandler))
}

func TestTableThatCannotBeWrittenStopsOnlyRaises(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "proxy")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := controlIn(t, filepath.Join(dir, "table.json"))
	r := routeTo(backendOn("aaaaaaa", "127.0.0.1:1"), backendOn("bbbbbbb", "127.0.0.1:2"), 5_000)
	if _, err := c.put(r); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	weight := func() int { return c.plane.table.Load().routes[r.Key()].Weight }
	up := r
	up.Weight, up.Epoch = 6_000, 2
	if _, err := c.put(up); domain.CodeOf(err) != domain.Unavailable || weight() != 5_000 {
		t.Errorf("raise: %v, weight %d", err, weight())
	}
	down := r
	down.Weight, down.Latched, down.Epoch = 0, true, 3
	if _, err := c.put(down); err != nil || weight() != 0 || c.unsaved == nil {
		t.Errorf("rollback: %v, weight %d, unsaved %v", err, weight(), c.unsaved)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.tick(time.Now())
	again := controlIn(t, filepath.Join(dir, "table.json"))
	if err := again.restore(); err != nil {
		t.Fatal(err)
	}
	if got := again.plane.table.Load().routes[r.Key()]; got == nil || !got.Latched || got.Weight != 0 {
		t.Errorf("after the disk came back and a restart: %+v", got)
	}
}

func TestRollbackIsWrittenOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=700k"); err != nil {
		t.Skipf("a small file system needs root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	c := controlIn(t, filepath.Join(dir, "table.json"))
	r := routeTo(backendOn("aaaaaaa", "127.0.0.1:1"), backendOn("bbbbbbb", "127.0.0.1:2"), 5_000)
	if _, err := c.put(r); err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(dir, "full")
	if err := os.WriteFile(full, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	r.Weight, r.Latched, r.Epoch = 0, true, 2
	if _, err := c.put(r); err != nil || c.unsaved != nil {
		t.Fatalf("%v, unsaved %v", err, c.unsaved)
	}
	again := controlIn(t, filepath.Join(dir, "table.json"))
	if err := again.restore(); err != nil || !again.plane.table.Load().routes[r.Key()].Latched {
		t.Errorf("the latch is lost: %v", err)
	}
}

func TestTableIsReplacedWhole(t *testing.T) {
	dir := t.TempDir()
	f := tableFile{filepath.Join(dir, "table.json")}
	if list, err := f.load(); err != nil || list != nil {
		t.Errorf("no table: %v, %v", list, err)
	}
	if err := f.save([]record{{Route: routeTo(backendOn("aaaaaaa"), nil, 0)}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.path, []byte("["), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.load(); err == nil {
		t.Error("half a table is taken")
	}
	left, err := filepath.Glob(f.path + ".*")
	if err != nil || len(left) != 1 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
	if s, err := os.Stat(f.path); errors.Is(err, fs.ErrNotExist) || s.Mode().Perm() != 0o600 {
		t.Errorf("table %v, %v", s, err)
	}
}

func TestDeadManRule(t *testing.T) {
	for name, c := range map[string]struct {
		away                                   time.Duration
		next, nextErrors, stable, stableErrors int64
		latched                                bool
	}{
		"next fails, nobody watches": {31 * time.Second, 40, 30, 100, 1, true},
		"watched":                    {10 * time.Second, 40, 30, 100, 1, false},
		"too few requests":           {31 * time.Second, 19, 19, 100, 1, false},
		"half of them":               {31 * time.Second, 40, 20, 100, 1, false},
		"stable fails too":           {31 * time.Second, 40, 40, 100, 60, false},
		"no traffic on stable":       {31 * time.Second, 40, 40, 0, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			ctl := controlIn(t, filepath.Join(t.TempDir(), "table.json"))
			r := routeTo(backendOn("aaaaaaa", "127.0.0.1:1"), backendOn("bbbbbbb", "127.0.0.1:2"), 5_000)
			if _, err := ctl.put(r); err != nil {
				t.Fatal(err)
			}
			series := func(side domain.Side, requests, errors int64) measure.Series {
				return measure.Series{App: r.App, Environment: r.Environment, Role: r.Role, Rollout: r.Rollout, Side: side, Requests: requests, Errors: errors}
			}
			ctl.mu.Lock()
			ctl.deadMan(time.Now().Add(c.away), []measure.Series{
				series(domain.Next, c.next, c.nextErrors), series(domain.Stable, c.stable, c.stableErrors),
			})
			ctl.mu.Unlock()
			got := ctl.plane.table.Load().routes[r.Key()]
			if got.Latched != c.latched || c.latched && (got.Weight != 0 || got.LatchedBy != "proxy") {
				t.Errorf("latched %t by %q at weight %d", got.Latched, got.LatchedBy, got.Weight)
			}
		})
	}
}
