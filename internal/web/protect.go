package web

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// checkHost answers only under names that are this server's. A page on another site that has pointed its own name at this
// address (DNS rebinding) comes with that name.
func (s *Server) checkHost(listen string, next http.Handler) http.Handler {
	names := append([]string{"localhost", "127.0.0.1", "::1", listen}, s.options.Hosts...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostName(r.Host)
		if host == "" || !slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, host) }) && host != localIP(r) {
			writeProblem(w, newProblem(http.StatusMisdirectedRequest, domain.Denied, "host "+r.Host+": not a name of this server",
				"use its address, or name it as a host of belay serve"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostName returns a Host header without its port and brackets.
func hostName(header string) string {
	if host, _, err := net.SplitHostPort(header); err == nil {
		return host
	}
	return strings.TrimSuffix(strings.TrimPrefix(header, "["), "]")
}

// localIP returns the address that the connection came to: no foreign name can be it.
func localIP(r *http.Request) string {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return ""
	}
	return addr.IP.String()
}

// protect sets what browsers need to be told, and refuses what a page of another site has sent.
func (s *Server) protect(next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, newProblem(http.StatusForbidden, domain.Denied, "the request comes from a page of another site", ""))
	}))
	checked := crossOrigin.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("Cache-Control", "no-store")
		checked.ServeHTTP(w, r)
	})
}

// limit bounds the size of bodies and the time that they may stand still.
func (s *Server) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		most := int64(maxBody)
		if r.Header.Get("Content-Type") == bundleType || isRegistry(r) {
			most = s.options.MaxBundle
		}
		if r.ContentLength > most {
			w.Header().Set("Connection", "close")
			writeProblem(w, tooLarge())
			return
		}
		body := &boundedBody{
			ReadCloser: http.MaxBytesReader(w, r.Body, most), control: http.NewResponseController(w), still: s.options.BodyTimeout,
		}
		if most == maxBody {
			body.until = time.Now().Add(s.options.BodyTimeout)
		}
		r.Body = body
		next.ServeHTTP(w, r)
	})
}

func tooLarge() *Problem {
	return newProblem(http.StatusRequestEntityTooLarge, domain.Invalid, "the body is larger than this server takes", "")
}

// boundedBody is a body that must keep coming. Once it has ended no deadline is set: it would end the handler, however long
// that may rightly take.
type boundedBody struct {
	io.ReadCloser
	control *http.ResponseController
	still   time.Duration
	until   time.Time // zero: as long as it keeps coming
	large   bool      // more came than may
	ended   bool
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	deadline := b.until
	if deadline.IsZero() {
		deadline = time.Now().Add(b.still)
	}
	if err := b.control.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p) // the HTTP server lifts the deadline when it reaches the end
	var large *http.MaxBytesError
	b.large = b.large || errors.As(err, &large)
	b.ended = errors.Is(err, io.EOF)
	return n, err
}
