// Package web is the daemon's face: the JSON API, the event stream and a page for people, on a unix socket and over TCP.
// It decides who may ask, and asks the Service.
package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belay-cd/belay/internal/domain"
)

// Options are the settings of a server; their zero values are good ones.
type Options struct {
	Version string
	// Tokens verifies callers over TCP; without it nobody comes in there.
	Tokens *Tokens
	// Hosts are further names under which the server may be asked over TCP.
	Hosts []string
	// SocketGroup is the group that may use the unix socket; 0 is only the user that runs the server.
	SocketGroup int
	// NoApprovals is why nobody can be told from the repositories' code on the unix socket, so that no approval counts; "" is
	// the usual case.
	NoApprovals string
	// Registry speaks the distribution protocol under /v2/; nil leaves it out. Whoever may ask the API may push and pull.
	Registry http.Handler
	// MaxBundle bounds an uploaded bundle or blob, in bytes; 0 is DefaultMaxBundle.
	MaxBundle int64
	// Collectors are further metrics to show under /metrics.
	Collectors []prometheus.Collector
	Log        *slog.Logger
	// Proc is where the kernel tells of processes; "" is /proc.
	Proc string

	// HeaderTimeout and BodyTimeout bound how long a caller may take to send the header, and how long a body may stand still.
	HeaderTimeout, BodyTimeout time.Duration
	// Heartbeat is the time between two signs of life of a silent stream, WriteTimeout how long a reader of one may stand still.
	Heartbeat, WriteTimeout time.Duration
}

// The limits that stand when Options name no others.
const (
	DefaultMaxBundle = 1 << 30 // bytes

	maxBody       = 1 << 20 // bytes of a JSON request
	maxHeader     = 64 << 10
	headerTimeout = 10 * time.Second
	bodyTimeout   = 15 * time.Second
	idleTimeout   = 2 * time.Minute
	heartbeat     = 15 * time.Second
	writeTimeout  = 10 * time.Second
)

func (o Options) withDefaults() Options {
	if o.MaxBundle == 0 {
		o.MaxBundle = DefaultMaxBundle
	}
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&o.HeaderTimeout, headerTimeout}, {&o.BodyTimeout, bodyTimeout}, {&o.Heartbeat, heartbeat}, {&o.WriteTimeout, writeTimeout}} {
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	return o
}

// Server answers the API on any number of listeners.
type Server struct {
	service  Service
	options  Options
	metrics  *metrics
	template *template.Template
	handler  http.Handler // without the checks of TCP

	closing   chan struct{} // closed by Shutdown: streams end
	closeOnce sync.Once

	mu       sync.Mutex
	servers  []*http.Server
	cleanups []func()
}

// New makes a server that listens nowhere yet.
func New(service Service, options Options) *Server {
	s := &Server{service: service, options: options.withDefaults(), template: newTemplate(), closing: make(chan struct{})}
	s.metrics = newMetrics(s)
	mux := http.NewServeMux()
	s.register(s.newAPI(mux))
	mux.Handle("GET /metrics", s.metrics.handler())
	if s.options.Registry != nil {
		mux.Handle(registryPath, s.options.Registry)
	}
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if app, number, ok := deliveryPage(r); ok { // a pattern of its own would clash with the registry's
			r.SetPathValue("app", app)
			r.SetPathValue("number", number)
			s.page(w, r)
			return
		}
		writeProblem(w, newProblem(http.StatusNotFound, domain.NotFound, r.Method+" "+r.URL.Path+": not found", "GET /openapi.json lists what there is"))
	})
	s.handler = s.protect(s.identify(s.limit(mux)))
	return s
}

// Handler returns all that the server answers. Who has not come through ServeUnix needs a token.
func (s *Server) Handler() http.Handler { return s.handler }

// ServeTCP listens on a host:port and answers in the background. It returns the address, of use when the port was 0.
func (s *Server) ServeTCP(addr string) (net.Addr, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, domain.Errorf(domain.Unavailable, "listen on %s: %w", addr, err).WithHint("name another address with --listen")
	}
	host, _, _ := net.SplitHostPort(addr) // it was good enough to listen on
	s.serve(listener, s.checkHost(host, s.handler))
	return listener.Addr(), nil
}

// ServeUnix listens on a unix socket and answers in the background. Whoever may open the socket comes in, and is known by the
// kernel's word. A socket that a dead server left behind is replaced; that of a living one is a Conflict.
func (s *Server) ServeUnix(path string) error {
	release, err := lock(path+".lock", false)
	if err != nil {
		return socketTaken(path, err)
	}
	listener, err := s.listenUnix(path)
	if err != nil {
		release()
		return err
	}
	s.mu.Lock()
	s.cleanups = append(s.cleanups, func() { _ = os.Remove(path); release() })
	s.mu.Unlock()
	s.serve(listener, s.handler)
	return nil
}

func socketTaken(path string, cause error) error {
	return domain.Errorf(domain.Conflict, "listen on %s: another server uses it: %w", path, cause).WithHint("stop it first: belay status says whether it answers")
}

// listenUnix makes the socket under another name first, so that nobody can open it before its mode is right.
func (s *Server) listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, domain.Errorf(domain.Conflict, "listen on %s: it is there, and no socket", path)
		}
		if conn, err := (&net.Dialer{Timeout: headerTimeout}).DialContext(context.Background(), "unix", path); err == nil {
			return nil, errors.Join(socketTaken(path, errors.New("it answers")), conn.Close())
		}
	}
	begun := filepath.Join(filepath.Dir(path), ".sock")
	if err := os.Remove(begun); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: begun, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	listener.SetUnlinkOnClose(false)
	mode := fs.FileMode(0o600)
	if s.options.SocketGroup != 0 {
		mode = 0o660
		err = os.Chown(begun, -1, s.options.SocketGroup)
	}
	if err == nil {
		err = os.Chmod(begun, mode)
	}
	if err == nil {
		err = os.Rename(begun, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), listener.Close(), os.Remove(begun))
	}
	return listener, nil
}

func (s *Server) serve(listener net.Listener, handler http.Handler) {
	server := &http.Server{
		Handler: handler, ConnContext: s.peer,
		ReadHeaderTimeout: s.options.HeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
	}
	s.mu.Lock()
	s.servers = append(s.servers, server)
	s.mu.Unlock()
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.options.Log.Error("server stopped", "address", listener.Addr().String(), "error", err)
		}
	}()
}

// Shutdown takes no more requests, ends streams, and waits for other requests until ctx ends; then it cuts them off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closeOnce.Do(func() { close(s.closing) })
	s.mu.Lock()
	servers, cleanups := s.servers, s.cleanups
	s.servers, s.cleanups = nil, nil
	s.mu.Unlock()
	var failed error
	for _, server := range servers {
		if err := server.Shutdown(ctx); err != nil {
			failed = errors.Join(failed, fmt.Errorf("shut down: %w", err), server.Close())
		}
	}
	for _, f := range cleanups {
		f()
	}
	return failed
}

// untilClosing returns a context that also ends when the server shuts down: for streams, which would never end otherwise.
func (s *Server) untilClosing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}
