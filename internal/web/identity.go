package web

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
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

// onSocket reports whether the caller is a user of this machine, on its socket.
func onSocket(ctx context.Context) bool {
	_, named := ctx.Value(localKey{}).(local)
	return named
}

// peer returns ctx with the person at the other end of a unix socket, as the kernel knows them.
func (s *Server) peer(ctx context.Context, conn net.Conn) context.Context {
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
	return known(ctx, s.options.Proc, credentials)
}

// local is a caller whom the kernel has named. Login is the user as whom they logged in, where that is another one; doubt is why
// nobody can tell which person it is, "" for none.
type local struct{ login, doubt string }

// unset is the login of a process that no login began.
const unset = ^uint32(0)

// known names the person behind a process. Sudo and su change the user of a process and not who logged in: for root that is
// who logged in. For any other user a login that differs names two people, and proves neither: a process that no login began
// may write down any.
func known(ctx context.Context, proc string, c *unix.Ucred) context.Context {
	name := userName(c.Uid)
	var who local
	if _, kept := loginOf(proc, "self"); kept { // else this kernel keeps no logins
		login, found := loginOf(proc, strconv.Itoa(int(c.Pid)))
		switch {
		case !found:
			who.doubt = "its process is gone, or outside of what this server sees, so that nobody can tell who began it"
		case login == unset || login == c.Uid:
		case c.Uid == 0:
			name = userName(login)
		default:
			who.login = userName(login)
			who.doubt = fmt.Sprintf("it runs as %s, and was begun by the login of %s", name, who.login)
		}
	}
	return context.WithValue(context.WithValue(ctx, localKey{}, who), identityKey{}, name)
}

// loginOf reads the login user of a process.
func loginOf(proc, pid string) (uid uint32, kept bool) {
	text, err := os.ReadFile(filepath.Join(proc, pid, "loginuid"))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	return uint32(n), err == nil
}

// login is the user as whom the caller logged in, where that is another than the one who asks.
func login(ctx context.Context) string {
	who, _ := ctx.Value(localKey{}).(local)
	return who.login
}

// mayApprove lets only a person of this machine approve: as long as nobody logs in, a token may be a machine's, and code that
// runs as the server itself could use the socket.
func (s *Server) mayApprove(ctx context.Context) error {
	who, known := ctx.Value(localKey{}).(local)
	if !known {
		return domain.Errorf(domain.Refused, "not approved: a token may be a machine's, and an approval is a person's").
			WithHint("approve on the server itself, through its socket; reject takes a token too")
	}
	if who.doubt != "" {
		return domain.Errorf(domain.Refused, "not approved: who asks is not known: %s", who.doubt).WithHint("log in as yourself, and run belay approve itself")
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
