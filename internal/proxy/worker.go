package proxy

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// How long a worker that leaves lets its clients finish.
const (
	lingerIdle    = 15 * time.Second // an idle connection may still bring one request, whose answer closes it
	lingerStreams = 5 * time.Minute
	stopStreams   = 5 * time.Second
)

// worker serves on the sockets that it inherits.
type worker struct {
	plane   *plane
	control *control
	log     *slog.Logger
	started time.Time
	holder  atomic.Int64
	leaving atomic.Bool
	servers []*http.Server
	api     *http.Server
	lists   map[string][]net.Listener
	status  io.Writer
}

// work runs a worker until it is told to end.
func work(o options) error {
	logger, _, err := o.logger()
	if err != nil {
		return err
	}
	files, err := inherited()
	if err != nil {
		return err
	}
	start, status := fileOf(files, nameGo), fileOf(files, nameStatus)
	if start == nil || status == nil {
		return errors.New("a worker is started by its holder")
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR2)
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w, err := newWorker(ctx, o, logger, files)
	if err != nil {
		return err
	}
	w.status = status
	w.say(sayWarm)
	if _, err := io.ReadFull(start, make([]byte, 1)); err != nil {
		return nil // the holder changed its mind
	}
	if err := w.control.restore(); err != nil {
		logger.Error("the last table cannot be read: no route until it is put again", "error", err)
	}
	w.serve()
	w.say(sayServing)
	go w.tick(ctx)
	go w.control.remember(ctx)
	orphaned := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, start) // ends with the holder
		w.holder.Store(0)
		time.Sleep(orphanPause)
		close(orphaned)
	}()
	select {
	case s := <-signals:
		return w.leave(s, nil)
	case <-orphaned:
		return w.bequeath(o)
	}
}

func newWorker(ctx context.Context, o options, logger *slog.Logger, files []socket) (*worker, error) {
	trusted, err := o.networks()
	if err != nil {
		return nil, err
	}
	p := &plane{
		Upstream: newNetUpstream(), Trusted: trusted, Silent: o.silent,
		quiet: log.New(io.Discard, "", 0), // what clients do wrong is theirs; what instances do wrong is counted
	}
	w := &worker{plane: p, log: logger, started: time.Now(), lists: map[string][]net.Listener{}}
	w.holder.Store(int64(os.Getppid()))
	for _, name := range []string{nameControl, nameHTTP, nameHTTPS} {
		if w.lists[name], err = listenersOf(files, name); err != nil {
			return nil, err
		}
	}
	if o.certs != "" && len(w.lists[nameHTTPS]) > 0 {
		p.Certs = &certs{dir: o.certs}
		if _, port, err := net.SplitHostPort(w.lists[nameHTTPS][0].Addr().String()); err == nil && port != "443" {
			p.Certs.suffix = ":" + port
		}
		if err := p.Certs.reload(); err != nil {
			logger.Error("certificates", "error", err)
		}
	}
	w.control = newControl(ctx, p, o.table, newLedger(newID(8)), logger)
	w.control.socket = o.socket
	return w, nil
}

func (w *worker) say(word byte) {
	_, _ = w.status.Write([]byte{word}) // a holder that is gone hears nothing
}

// serve takes connections on every socket.
func (w *worker) serve() {
	w.api = &http.Server{Handler: w.control.handler(w.health), ReadHeaderTimeout: headWithin}
	for _, ln := range w.lists[nameControl] {
		go func() { _ = w.api.Serve(ln) }() // ends when the worker leaves
	}
	plain := newServer(w.polite(w.plane.users(false)), w.plane.quiet)
	w.servers = append(w.servers, plain)
	for _, ln := range w.lists[nameHTTP] {
		go func() { _ = plain.Serve(&strictListener{ln}) }()
	}
	if w.plane.Certs == nil {
		return
	}
	secure := newServer(w.polite(w.plane.users(true)), w.plane.quiet)
	w.servers = append(w.servers, secure)
	for _, ln := range w.lists[nameHTTPS] {
		go w.serveTLS(secure, ln)
	}
}

// polite lets clients of a leaving worker know that the next request needs a new connection.
func (w *worker) polite(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.leaving.Load() && r.ProtoMajor == 1 {
			rw.Header().Set("Connection", "close")
		}
		next.ServeHTTP(rw, r)
	})
}

func (w *worker) tick(ctx context.Context) {
	every := time.NewTicker(tickEvery)
	defer every.Stop()
	look := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-every.C:
			w.control.tick(now)
			if w.plane.Certs != nil && now.Sub(look) >= certsEvery {
				look = now
				if err := w.plane.Certs.reload(); err != nil {
					w.log.Error("certificates", "error", err)
				}
			}
		}
	}
}

// orphanPause lets whoever ends holder and worker together have his way.
const orphanPause = 100 * time.Millisecond

// bequeath hands the sockets of a worker whose holder died to a new one, which starts a worker of its own: without a holder
// the next death of a worker would close the doors.
func (w *worker) bequeath(o options) error {
	w.log.Error("the holder is gone: a new one takes the sockets")
	cmd, err := w.heir(o)
	if err != nil {
		return err
	}
	return w.leave(syscall.SIGUSR2, func() {
		if err := cmd.Start(); err != nil {
			w.log.Error("no new holder", "error", err)
		}
		for _, f := range cmd.ExtraFiles {
			_ = f.Close()
		}
	})
}

// heir is a holder that inherits copies of the sockets.
func (w *worker) heir(o options) (*exec.Cmd, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	_, out, err := o.logger()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(strings.TrimSuffix(binary, " (deleted)"), append([]string{"proxy"}, o.args()...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stdout, cmd.Stderr = out, out
	var names []string
	for name, list := range w.lists {
		for _, ln := range list {
			file, err := ln.(interface{ File() (*os.File, error) }).File() //nolint:forcetypeassert // TCP and unix both have it
			if err != nil {
				return nil, err
			}
			names, cmd.ExtraFiles = append(names, name), append(cmd.ExtraFiles, file)
		}
	}
	cmd.Env = append(os.Environ(), "LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	return cmd, nil
}

// leave ends the worker. Then is called when it changes nothing by itself any more, before it waits for its clients. On a
// hand-over (USR2) connections that are open may still bring their last request, and the worker follows the one after it; on a
// stop they end with their present one.
func (w *worker) leave(s os.Signal, then func()) error {
	handOver := s == syscall.SIGUSR2
	w.leaving.Store(true)
	for _, list := range w.lists {
		for _, ln := range list {
			_ = ln.Close() // the holder keeps the socket itself
		}
	}
	w.control.close() // a change that is being made comes to its end; after it nobody changes the table here
	_ = w.api.Close() // whoever waits for an answer asks the next worker
	if handOver {
		end, err := w.listenLeaving()
		if err != nil {
			w.log.Error("leaving without following", "error", err)
		} else {
			defer end()
		}
	}
	w.say(sayReleased)
	if then != nil {
		then()
	}
	streams := stopStreams
	if handOver {
		time.Sleep(lingerIdle)
		streams = lingerStreams
	}
	w.control.mu.Lock()
	rels := slices.Collect(maps.Values(w.control.releases))
	w.control.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), streams+keptFor)
	defer cancel()
	over := make(chan struct{})
	go func() {
		defer close(over)
		for _, s := range w.servers {
			_ = s.Shutdown(ctx) // past its time the connections end with the process
		}
	}()
	start, end := time.Now(), endingOf(streams)
	gone := func() bool { return len(streamsOn(rels, "")) == 0 }
	_ = waitFor(ctx, end.begin, gone)
	if endStreams(rels, "", end, start) > 0 {
		_ = waitFor(ctx, streams+drainMargin-time.Since(start), gone)
	}
	select {
	case <-over:
	case <-ctx.Done():
	}
	return nil
}

func (w *worker) health() Health {
	h := Health{
		Boot: w.control.ledger.boot, PID: os.Getpid(), Holder: int(w.holder.Load()), Started: w.started.UTC(),
		Routes: len(w.plane.table.Load().routes),
	}
	for _, ln := range w.lists[nameHTTP] {
		h.HTTP = append(h.HTTP, ln.Addr().String())
	}
	for _, ln := range w.lists[nameHTTPS] {
		h.HTTPS = append(h.HTTPS, ln.Addr().String())
	}
	w.control.mu.Lock()
	defer w.control.mu.Unlock()
	if w.control.unsaved != nil {
		h.TableError = w.control.unsaved.Error()
	}
	return h
}
