package web

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/domain"
)

type identityKey struct{}

// localKey marks callers whom the kernel has named, on the unix socket.
type localKey struct{}

// by returns the proven identity of the caller.
func by(ctx context.Context) string {
	name, _ := ctx.Value(identityKey{}).(string)
	return name
}

// peer returns ctx with the user at the other end of a unix socket, as the kernel knows it.
func peer(ctx context.Context, conn net.Conn) context.Context {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return ctx
	}
	var credentials *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		credentials, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || failed != nil {
		return ctx
	}
	return context.WithValue(context.WithValue(ctx, localKey{}, true), identityKey{}, userName(credentials.Uid))
}

// mayApprove lets only a person of this machine approve: as long as nobody logs in, a token may be a machine's, and code that
// runs as the server itself could use the socket.
func (s *Server) mayApprove(ctx context.Context) error {
	if local, _ := ctx.Value(localKey{}).(bool); !local {
		return domain.Errorf(domain.Refused, "not approved: a token may be a machine's, and an approval is a person's").
			WithHint("approve on the server itself, through its socket; reject takes a token too")
	}
	if s.options.NoApprovals != "" {
		return domain.Errorf(domain.Refused, "not approved: %s", s.options.NoApprovals).
			WithHint("run belay serve as root, or where user namespaces work")
	}
	return nil
}

func userName(uid uint32) string {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return fmt.Sprintf("uid %d", uid)
	}
	return u.Username
}

// identify lets only those in who have shown who they are: by the unix socket, or by a token.
func (s *Server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if by(r.Context()) != "" {
			next.ServeHTTP(w, r)
			return
		}
		if token := tokenOf(r); token != "" && s.options.Tokens != nil {
			if name, ok := s.options.Tokens.Verify(token); ok {
				next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, name)))
				return
			}
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="belay"`)
		if takesPassword(r) {
			w.Header().Set("WWW-Authenticate", `Basic realm="belay"`)
		}
		writeProblem(w, newProblem(http.StatusUnauthorized, domain.Denied, "no valid token: who asks is not known",
			"set BELAY_TOKEN, or use the unix socket of this machine"))
	})
}

// registryPath is where the distribution protocol is spoken.
const registryPath = "/v2/"

func isRegistry(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, registryPath) }

// isPage reports whether a request is for what people read in a browser. It changes nothing.
func isPage(r *http.Request) bool {
	return r.Method == http.MethodGet && !strings.HasPrefix(r.URL.Path, "/v1/") && strings.Contains(r.Header.Get("Accept"), "text/html")
}

func takesPassword(r *http.Request) bool { return isRegistry(r) || isPage(r) }

// tokenOf returns the token of a request: a bearer token, or the password of basic authentication for clients that know no
// other way: those of the registry, and browsers that open the page.
func tokenOf(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	if _, password, ok := r.BasicAuth(); ok && takesPassword(r) {
		return password
	}
	return ""
}
