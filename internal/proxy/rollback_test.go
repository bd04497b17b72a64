package proxy

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// arrivals knows when bytes of requests came to an instance, by the kernel: its handlers may run much later.
type arrivals struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func (a *arrivals) follow(conn net.Conn, state http.ConnState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conns[conn] = struct{}{}; state == http.StateClosed {
		delete(a.conns, conn)
	}
}

// last is when the last bytes came, to a tick of the kernel's clock.
func (a *arrivals) last(t *testing.T) (last time.Time) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for conn := range a.conns {
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) { // fails where it is closed by now
			now := time.Now() // before the kernel is asked, which may take its turn: never too late, seldom too early
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
			if err == nil && info.Bytes_received > 0 {
				last = later(last, now.Add(-time.Duration(info.Last_data_recv)*time.Millisecond))
			}
		})
	}
	return last
}

// kernelTick is more than the kernel's clock of connections is off.
const kernelTick = 12 * time.Millisecond

func TestNoRequestBeginsOnNextAfterARollbackIsAcknowledged(t *testing.T) {
	p := startProxy(t)
	came := &arrivals{conns: map[net.Conn]struct{}{}}
	var hits atomic.Int64
	next := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	next.Config.ConnState = came.follow
	next.Start()
	t.Cleanup(next.Close)
	r := routeTo(backendOn("aaaaaaa", startBackend(t, "stable").addr()), backendOn("bbbbbbb", next.Listener.Addr().String()), 0)
	r.Split = "request"
	ctx, cancel := context.WithCancel(context.Background())
	var users sync.WaitGroup
	for range 6 {
		users.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			for ctx.Err() == nil {
				req, _ := http.NewRequest(http.MethodGet, "http://"+p.addr+"/", nil)
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
		before := hits.Load()
		p.put(r)
		eventually(t, 5*time.Second, "next has traffic", func() bool { return hits.Load() > before })
		time.Sleep(10 * time.Millisecond)
		r.Weight, r.Latched, r.Epoch = 0, true, r.Epoch+1
		start := time.Now()
		p.put(r)
		acknowledged := time.Now()
		time.Sleep(2 * kernelTick)
		if late := came.last(t).Sub(acknowledged); late > kernelTick {
			t.Errorf("a request began on next %s after the acknowledgement", late)
		}
		if took := acknowledged.Sub(start); took > 2*time.Second {
			t.Errorf("rollback %d took %s", i, took)
		}
	}
}

// lateUpstream holds requests back until it is told to send them.
type lateUpstream struct {
	Upstream
	held chan struct{}
	send chan struct{}
}

func (u *lateUpstream) Send(req *http.Request, a Attempt) (*http.Response, bool, error) {
	u.held <- struct{}{}
	<-u.send
	return u.Upstream.Send(req, a)
}

// A request that was drawn for next may wait long for its turn, on a busy machine: longer than a rollback waits for it.
func TestRequestThatIsLateForARollbackIsServedByStable(t *testing.T) {
	for _, proto := range []string{"text/plain", "application/grpc"} {
		stable, next := startBackend(t, "stable"), startBackend(t, "next")
		b := newBooth(t, domain.WeightAll, func(r *domain.Route) {
			r.Stable.Instances[0].Addr, r.Next.Instances[0].Addr = stable.addr(), next.addr()
		})
		late := &lateUpstream{b.ctl.plane.Upstream, make(chan struct{}, 9), make(chan struct{})}
		b.ctl.plane.Upstream = late
		answer := make(chan *httptest.ResponseRecorder)
		go func() {
			req := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/", strings.NewReader("once"))
			req.Header.Set("Content-Type", proto)
			if proto == "application/grpc" {
				req.ProtoMajor = 2
			}
			w := httptest.NewRecorder()
			b.ctl.plane.users(false).ServeHTTP(w, req)
			answer <- w
		}()
		<-late.held
		b.route.Latched = true
		b.weigh(0)
		close(late.send)
		if w := <-answer; proto == "text/plain" && w.Body.String() != "stable" { // which speaks no HTTP/2
			t.Errorf("%s: %d %q", proto, w.Code, w.Body)
		}
		if n := next.hits.Load(); n != 0 {
			t.Errorf("%s: next got %d requests", proto, n)
		}
		for _, s := range b.tick() {
			if s.Side == domain.Next && s.Unserved > 0 && proto == "text/plain" {
				t.Errorf("next is blamed: %+v", s)
			}
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
