package proxy

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// A worker that hands its sockets over still has clients: open requests, streams, kept connections. Until they are gone it
// listens on a socket of its own beside the control socket, and the worker after it tells it every change of the table and
// every drain.

// followWithin is how long a change waits for the workers that leave.
const followWithin = 500 * time.Millisecond

// leavingSocket is where a worker that leaves listens.
func leavingSocket(socket string, pid int) string { return socket + "." + strconv.Itoa(pid) }

// close ends the changes of the table that are not told by the worker after this one.
func (c *control) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for id, l := range c.listeners {
		l.close()
		delete(c.listeners, id)
	}
}

// listenLeaving lets the worker after this one tell what happens. The function ends that.
func (w *worker) listenLeaving() (end func(), err error) {
	path := leavingSocket(w.control.socket, os.Getpid())
	file, err := listenControl(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	ln, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/follow", w.control.serveFollow)
	mux.HandleFunc("POST /v1/drain", serveDrain(w.control.drain))
	mux.HandleFunc("GET /v1/inflight", func(rw http.ResponseWriter, _ *http.Request) {
		writeJSON(rw, http.StatusOK, w.control.inFlight())
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headWithin}
	go func() { _ = server.Serve(ln) }() // ends with the function
	return func() {
		_ = os.Remove(path)
		_ = server.Close()
	}, nil
}

func (c *control) serveFollow(w http.ResponseWriter, r *http.Request) {
	var list []record
	if err := readJSON(w, r, &list); err != nil {
		writeProblem(w, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	current := c.plane.table.Load().routes
	routes := map[string]*route{}
	for _, r := range list {
		if !r.Gone {
			routes[r.Key()] = c.build(r.Route, current[r.Key()], r.Salt)
		}
	}
	c.swap(routes)
	w.WriteHeader(http.StatusNoContent)
}

// leaving calls f for each worker that leaves, side by side, and returns when all are done. A socket that nobody listens on
// any more is removed.
func (c *control) leaving(ctx context.Context, f func(context.Context, *Client) error) {
	if c.socket == "" {
		return
	}
	paths, _ := filepath.Glob(c.socket + ".[0-9]*") // the pattern is sound
	var all sync.WaitGroup
	for _, path := range paths {
		all.Go(func() {
			client := NewClient(path)
			defer client.Close()
			err := f(ctx, client)
			if err == nil {
				return
			}
			conn, gone := net.DialTimeout("unix", path, followWithin)
			if gone != nil {
				_ = os.Remove(path) // its worker has ended
				return
			}
			_ = conn.Close()
			c.log.Error("a worker that leaves", "socket", path, "error", err)
		})
	}
	all.Wait()
}

// tellLeaving makes the table that of the workers that leave, too.
func (c *control) tellLeaving(routes map[string]*route) {
	ctx, cancel := context.WithTimeout(c.life, followWithin)
	defer cancel()
	list := c.records(routes)
	c.leaving(ctx, func(ctx context.Context, l *Client) error {
		return l.call(ctx, http.MethodPut, "/v1/follow", list, nil)
	})
}

// drainAll drains here and on the workers that leave, at the same time.
func (c *control) drainAll(ctx context.Context, d DrainRequest) (DrainResult, error) {
	var mu sync.Mutex
	var sum DrainResult
	add := func(r DrainResult) {
		mu.Lock()
		defer mu.Unlock()
		sum.Open += r.Open
		sum.Ended += r.Ended
		sum.LastRequest = later(sum.LastRequest, r.LastRequest)
		sum.LastConnection = later(sum.LastConnection, r.LastConnection)
	}
	if _, err := c.toDrain(&DrainRequest{App: d.App, Environment: d.Environment, Release: d.Release, Addr: d.Addr}); err != nil {
		return DrainResult{}, err
	}
	var others sync.WaitGroup
	others.Go(func() {
		c.leaving(ctx, func(ctx context.Context, l *Client) error {
			r, err := l.Drain(ctx, d)
			add(r)
			return err
		})
	})
	r, err := c.drain(ctx, d)
	add(r)
	others.Wait()
	return sum, err
}

// inFlightAll lists what is open here and on the workers that leave.
func (c *control) inFlightAll(ctx context.Context) []InFlight {
	list := c.inFlight()
	var mu sync.Mutex
	ctx, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	c.leaving(ctx, func(ctx context.Context, l *Client) error {
		theirs, err := l.InFlight(ctx)
		mu.Lock()
		defer mu.Unlock()
		for _, f := range theirs {
			list = f.into(list)
		}
		return err
	})
	return list
}

// into adds what is open on a release to the list, which keeps its order.
func (f InFlight) into(list []InFlight) []InFlight {
	i, found := slices.BinarySearchFunc(list, f, inOrder)
	if !found {
		return slices.Insert(list, i, f)
	}
	sum := &list[i]
	sum.Requests += f.Requests
	sum.Streams += f.Streams
	sum.Saved += f.Saved
	sum.LastRequest = later(sum.LastRequest, f.LastRequest)
	sum.LastConnection = later(sum.LastConnection, f.LastConnection)
	for _, i := range f.Instances {
		n, found := slices.BinarySearchFunc(sum.Instances, i, func(a, b InstanceInFlight) int { return cmp.Compare(a.Addr, b.Addr) })
		switch {
		case found:
			sum.Instances[n].Open += i.Open
		case i.Open > 0:
			sum.Instances = slices.Insert(sum.Instances, n, i)
		}
	}
	return list
}

func inOrder(a, b InFlight) int {
	return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Release, b.Release))
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// closedError says that another worker changes the table now.
func (c *control) closedError() error {
	if !c.closed {
		return nil
	}
	return domain.Errorf(domain.Unavailable, "this worker leaves").WithHint("ask again")
}
