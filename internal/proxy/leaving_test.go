package proxy

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/belay-cd/belay/internal/domain"
)

// A worker that handed its sockets over, or lost its holder, still has clients: changes of the table and drains reach them.
func TestWorkerThatLeavesFollowsTheNextOne(t *testing.T) {
	for name, leave := range map[string]func(Health) error{
		"hot upgrade":   func(h Health) error { return syscall.Kill(h.Holder, syscall.SIGUSR2) },
		"killed holder": func(h Health) error { return syscall.Kill(h.Holder, syscall.SIGKILL) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t)
			before := p.health()
			stable, next := startBackend(t, "stable", streaming), startBackend(t, "next", streaming)
			t.Cleanup(func() { _ = syscall.Kill(before.PID, syscall.SIGKILL) }) // it would linger for its clients
			r := routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb", next.addr()), domain.WeightAll)
			p.put(r)
			ends := make(chan socketEnd, 1)
			p.connect(ends)
			events := p.answers("/events")
			kept, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer kept.Close()
			_ = kept.SetDeadline(time.Now().Add(20 * time.Second))
			in := bufio.NewReader(kept)
			if by, _, err := ask(kept, in, "GET /"+rawHead+"\r\n"); err != nil || by != "next" {
				t.Fatalf("answered by %q, %v", by, err)
			}
			if err := leave(before); err != nil {
				t.Fatal(err)
			}
			eventually(t, 10*time.Second, "another worker", func() bool {
				h, err := p.client.Health(context.Background())
				return err == nil && h.PID != before.PID
			})
			p.awaitOpen(r.Next.Release, 2) // of the worker that leaves

			r.Weight, r.Latched, r.Epoch = 0, true, 2
			p.put(r)
			if by, _, err := ask(kept, in, "GET /"+rawHead+"\r\n"); err != nil || by != "stable" {
				t.Errorf("after the rollback a kept connection is answered by %q, %v", by, err)
			}
			if by := body(t, p.get("shop.example", "/")); by != "stable" {
				t.Errorf("after the rollback a new connection is answered by %q", by)
			}
			start := time.Now()
			got, err := p.client.Drain(context.Background(), DrainRequest{
				App: "shop", Environment: domain.Production, Release: r.Next.Release, Addr: next.addr(), Within: time.Second,
			})
			if err != nil || got.Open != 0 || got.Ended != 2 || time.Since(start) > 2*time.Second {
				t.Errorf("drain: %+v, %v after %s", got, err, time.Since(start))
			}
			if e := ended(t, ends); e.code != websocket.StatusServiceRestart {
				t.Errorf("socket closed with %d", e.code)
			}
			if s := <-events; s == "" || s[len(s)-2:] != "\n\n" {
				t.Errorf("stream ends as %q", s[max(0, len(s)-40):])
			}
		})
	}
}

// The socket of a worker that was killed while it left does not hold anybody up.
func TestSocketOfAWorkerThatIsGoneIsRemoved(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x")
	stale := leavingSocket(p.config.Socket, 999999)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
	start := time.Now()
	p.put(routeTo(backendOn("aaaaaaa", b.addr()), nil, 0))
	if took := time.Since(start); took > time.Second {
		t.Errorf("a change took %s", took)
	}
	if left, err := filepath.Glob(stale); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
