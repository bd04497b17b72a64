package proxy

import (
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/belay-cd/belay/internal/domain"
)

// releaseHeader says which release answered.
const releaseHeader = "X-Belay-Release"

// plane is the data plane: it sends each request where the table says. It takes no lock and touches no file.
type plane struct {
	Upstream Upstream
	Trusted  []netip.Prefix // peers whose forwarding headers are believed
	Silent   bool           // answers do not say which release gave them
	Certs    *certs         // nil: no TLS
	table    atomic.Pointer[table]
	buffers  bufferPool
	quiet    *log.Logger
}

// users handles the requests of users, secure ones when they came by TLS.
func (p *plane) users(secure bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.admit(w, r) {
			return
		}
		x := exchange{plane: p, in: r, secure: secure}
		for {
			t := p.table.Load()
			x.route = t.find(r.Host, r.URL.Path)
			if x.route == nil {
				http.Error(w, "unknown host", http.StatusNotFound)
				return
			}
			if !secure && p.redirect(w, r, x.route) {
				return
			}
			x.side, x.unit.ticket = x.route.choose(r)
			x.home = x.route.backendOf(x.side)
			if x.home == nil {
				w.Header().Set("Retry-After", "5")
				http.Error(w, "no release yet", http.StatusServiceUnavailable)
				return
			}
			x.home.begin()
			if p.table.Load() == t {
				break
			}
			x.home.starting.Add(-1) // the table changed under the request: it is drawn again
			x.home.open.Add(-1)
		}
		x.meter = x.route.meterOf(x.side)
		x.serve(w)
	})
}

// checks handles the requests of a rollout's check listener: they reach next, whatever the weight, and are not counted.
func (p *plane) checks(key, id string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.admit(w, r) {
			return
		}
		t := p.table.Load().routes[key]
		if t == nil || t.next == nil || t.next.id != id {
			http.Error(w, "no next release", http.StatusServiceUnavailable)
			return
		}
		x := exchange{plane: p, in: r, route: t, side: domain.Next, home: t.next}
		x.home.begin()
		x.serve(w)
	})
}

// admit refuses what no proxy should pass on.
func (p *plane) admit(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	case r.Host == "" || r.URL.Path == "" || r.URL.Path[0] != '/' && r.URL.Path != "*":
		http.Error(w, "bad request", http.StatusBadRequest)
	default:
		return true
	}
	return false
}

// redirect sends a request for a host with a certificate to https.
func (p *plane) redirect(w http.ResponseWriter, r *http.Request, t *route) bool {
	if p.Certs == nil || t.TLS == "none" {
		return false
	}
	host := hostName(r.Host)
	if isLocal(host) || !p.Certs.has(host) || trusts(p.Trusted, r) && r.Header.Get("X-Forwarded-Proto") == "https" {
		return false
	}
	status := http.StatusPermanentRedirect
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		status = http.StatusMovedPermanently
	}
	http.Redirect(w, r, "https://"+host+p.Certs.suffix+r.URL.RequestURI(), status)
	return true
}

// isLocal reports whether a host is reached without leaving the machine or the private network.
func isLocal(host string) bool {
	if ip := net.ParseIP(strings.Trim(host, "[]")); ip != nil {
		return ip.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".internal")
}

// label says which release answers.
func (p *plane) label(h http.Header, b *backend) {
	h.Del(releaseHeader)
	if !p.Silent {
		h.Set(releaseHeader, domain.ShortCommit(b.commit))
	}
}

// bufferPool keeps the buffers in which bodies are copied.
type bufferPool struct{ pool sync.Pool }

// Get returns a buffer.
func (b *bufferPool) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 16<<10)
}

// Put takes a buffer back.
func (b *bufferPool) Put(p []byte) { b.pool.Put(&p) }
