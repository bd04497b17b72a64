package proxy

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// checkListener is the loopback listener of one rollout that reaches its next only.
type checkListener struct {
	addr   string
	server *http.Server
}

func (t *route) checkID() [3]string {
	if t.next == nil {
		return [3]string{}
	}
	return [3]string{t.key, t.Rollout, t.next.id}
}

// listen opens the check listener of a route with a next, and answers its address. A restarted proxy takes the address of
// before where it is free.
func (c *control) listen(t *route) string {
	if t.next == nil {
		return ""
	}
	if c.closed {
		return t.Checks // the worker after this one listens
	}
	id := t.checkID()
	if l := c.listeners[id]; l != nil {
		return l.addr
	}
	ln, err := listenAgain(t.Checks)
	if err != nil {
		ln, err = listenAgain("127.0.0.1:0")
	}
	if err != nil {
		c.log.Error("no check listener", "route", t.key, "error", err)
		return ""
	}
	l := &checkListener{addr: ln.Addr().String(), server: newServer(c.plane.checks(t.key, t.next.id), c.plane.quiet)}
	c.listeners[id] = l
	go func() { _ = l.server.Serve(&strictListener{ln}) }() // ends with close
	return l.addr
}

// listenAgain listens on a loopback address that another process of this user, the worker before this one, may still have open.
func listenAgain(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, net.InvalidAddrError("not loopback")
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		err := raw.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		if err != nil {
			return err
		}
		return set
	}}
	return lc.Listen(context.Background(), "tcp", addr)
}

func (l *checkListener) close() {
	go func() {
		_ = l.server.Shutdown(context.Background()) // ends when the last check has its answer
	}()
}

// The bounds of a client's connection.
const (
	headWithin = 10 * time.Second
	headBytes  = 64 << 10
	keptFor    = 75 * time.Second // an idle connection
)
