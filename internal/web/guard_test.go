package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/web"
)

// A dashboard had buttons and no login.
func TestScar_argo_1323(t *testing.T) {
	r := start(t, nil)
	for name, authorization := range map[string]string{
		"none": "", "wrong": "Bearer belay_wrong", "other scheme": "Basic " + r.token, "prefix": "Bearer " + r.token[:len(r.token)-1],
		"longer": "Bearer " + r.token + "x", "the hash": "Bearer " + hashOf(t, r), "empty": "Bearer ",
	} {
		for _, what := range []struct{ method, path, body string }{
			{"GET", "/v1/apps", ""}, {"GET", "/v1/health", ""}, {"GET", "/metrics", ""}, {"GET", "/", ""}, {"GET", "/openapi.json", ""}, {"GET", "/v1/events", ""},
			{"POST", "/v1/apps/shop/rollback", `{"environment":"production"}`}, {"POST", "/v1/freeze", `{"reason":"x"}`}, {"GET", "/v1/nothing", ""},
			{"GET", "/v1/apps/shop/exec?environment=production&argv=x", ""}, {"POST", "/v1/apps/shop/deliveries?commit=" + sha, ""},
		} {
			status, answer, header := r.tcp(t, what.method, what.path, what.body, func(req *http.Request) { req.Header.Set("Authorization", authorization) })
			if status != 401 || header.Get("WWW-Authenticate") == "" || !strings.Contains(answer, `"code":"denied"`) {
				t.Errorf("token %s, %s %s: %d %s", name, what.method, what.path, status, answer)
			}
		}
	}
	if r.last() != "" {
		t.Errorf("and yet it was asked: %s", r.last())
	}
	if status, _, _ := r.tcp(t, "GET", "/v1/apps", "", nil); status != 200 {
		t.Errorf("with the token: %d", status)
	}
	if status, _, _ := r.tcp(t, "GET", "/v1/apps", "", func(req *http.Request) { req.Header.Set("Authorization", "bearer  "+r.token) }); status != 200 {
		t.Errorf("in other letters: %d", status)
	}
}

func hashOf(t *testing.T, r *running) string {
	t.Helper()
	list, err := web.NewTokens(filepath.Join(filepath.Dir(r.socket), "tokens.json")).List()
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	return list[0].Hash
}

func TestTokens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	tokens := web.NewTokens(path)
	token, err := tokens.Create("ci")
	if err != nil || !strings.HasPrefix(token, "belay_") || len(token) < 40 {
		t.Fatal(token, err)
	}
	if _, err := tokens.Create("ci"); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("twice: %v", err)
	}
	content, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(content), token) {
		t.Errorf("the file holds the token: %s %v", content, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	if name, ok := web.NewTokens(path).Verify(token); !ok || name != "ci" {
		t.Errorf("another process: %s %v", name, ok)
	}
	if err := tokens.Revoke("ci"); err != nil {
		t.Error(err)
	}
	if _, ok := tokens.Verify(token); ok {
		t.Error("revoked, and good")
	}
	if err := tokens.Revoke("ci"); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("revoked again: %v", err)
	}
}

func TestHosts(t *testing.T) {
	r := start(t, nil)
	port := r.base[strings.LastIndex(r.base, ":"):]
	for host, want := range map[string]int{
		"127.0.0.1" + port: 200, "localhost" + port: 200, "LOCALHOST": 200, "[::1]" + port: 200, "belay.example.com": 200,
		"evil.example" + port: 421, "127.0.0.1.evil.example": 421, "belay.example.com.": 421, "localhost.evil.example:80": 421, "169.254.169.254": 421,
	} {
		status, _, _ := r.tcp(t, "GET", "/v1/apps", "", func(req *http.Request) { req.Host = host })
		if status != want {
			t.Errorf("host %s: %d, want %d", host, status, want)
		}
	}
}

func TestPagesOfOtherSites(t *testing.T) {
	r := start(t, nil)
	for name, header := range map[string]http.Header{
		"fetch metadata": {"Sec-Fetch-Site": {"cross-site"}}, "same site": {"Sec-Fetch-Site": {"same-site"}},
		"origin": {"Origin": {"https://evil.example"}}, "sandboxed frame": {"Origin": {"null"}},
	} {
		status, _, _ := r.tcp(t, "POST", "/v1/freeze", `{"reason":"x"}`, func(req *http.Request) {
			for k, v := range header {
				req.Header[k] = v
			}
		})
		if status != 403 || r.last() != "" {
			t.Errorf("%s: %d, asked %q", name, status, r.last())
		}
	}
	_, res, err := websocket.Dial(t.Context(), r.base+"/v1/apps/shop/exec?environment=production&argv=cat",
		&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + r.token}, "Origin": {"https://evil.example"}}})
	if err == nil || res == nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("WebSocket: %v", err)
	}
	_, _, header := r.tcp(t, "GET", "/v1/apps", "", nil)
	for _, name := range []string{"X-Content-Type-Options", "X-Frame-Options", "Content-Security-Policy", "Referrer-Policy"} {
		if header.Get(name) == "" {
			t.Errorf("no %s", name)
		}
	}
	if header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("other sites may read answers")
	}
}

func TestPathTricks(t *testing.T) {
	r := start(t, nil)
	for _, app := range []string{"..%2f..%2fetc", "%2e%2e", "a%2Fb", "shop%00", "shop%0a", "Shop", "-shop", "shop%3Fx", "%C3%A9t%C3%A9", strings.Repeat("a", 41), "shop;rm", "$(id)"} {
		for _, path := range []string{"/v1/apps/" + app + "/deliveries", "/v1/apps/" + app + "/logs?role=web"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+path, nil)
			if err != nil {
				continue // not even a client sends it
			}
			req.Header.Set("Authorization", "Bearer "+r.token)
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if res.StatusCode < 300 || res.StatusCode >= 500 || r.last() != "" {
				t.Errorf("%s: %d %s, asked %q", path, res.StatusCode, body, r.last())
			}
		}
	}
}

func TestHugeAndSlowRequests(t *testing.T) {
	r := start(t, func(o *web.Options) {
		o.HeaderTimeout, o.BodyTimeout = 100*time.Millisecond, 100*time.Millisecond
	})
	if status, answer, _ := r.tcp(t, "POST", "/v1/freeze", `{"reason":"`+strings.Repeat("x", 2<<20)+`"}`, nil); status != 413 {
		t.Errorf("huge body: %d %.200s", status, answer)
	}
	if status, _, _ := r.tcp(t, "GET", "/v1/apps", "", func(req *http.Request) { req.Header.Set("X-Junk", strings.Repeat("x", 100<<10)) }); status != 431 {
		t.Errorf("huge header: %d", status)
	}
	addr := strings.TrimPrefix(r.base, "http://")
	for name, begin := range map[string]string{
		"header": "GET /v1/apps HTTP/1.1\r\nHost: " + addr + "\r\n",
		"body": "POST /v1/freeze HTTP/1.1\r\nHost: " + addr + "\r\nAuthorization: Bearer " + r.token +
			"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, begin)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err = io.ReadAll(conn) // ends when the server hangs up
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("slow %s: the server waits for ever", name)
		}
		_ = conn.Close()
	}
	if r.last() != "" {
		t.Errorf("asked %s", r.last())
	}
}

func TestSocketIsPrivateAndNeverStolen(t *testing.T) {
	r := start(t, nil)
	info, err := os.Lstat(r.socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	other := web.New(newFake(), web.Options{})
	if err := other.ServeUnix(r.socket); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a second server: %v", err)
	}
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.sock") // of a living server that knows no lock
	listener, err := net.Listen("unix", foreign)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.ServeUnix(foreign); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a foreign server: %v", err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = listener.Close() // killed: its socket stays behind
	if err := other.ServeUnix(foreign); err != nil {
		t.Errorf("a stale socket: %v", err)
	}
	if err := other.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(foreign); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := other.ServeUnix(file); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("a file: %v", err)
	}
	if status, _, _ := r.local(t, "GET", "/v1/apps", ""); status != 200 {
		t.Errorf("the first one: %d", status)
	}
}

func TestOneOfManyServersGetsTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "belay.sock")
	results := make(chan error)
	for range 8 {
		server := web.New(newFake(), web.Options{})
		go func() { results <- server.ServeUnix(path) }()
		t.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	}
	won := 0
	for range 8 {
		if err := <-results; err == nil {
			won++
		} else if domain.CodeOf(err) != domain.Conflict {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d servers have it", won)
	}
}

// events reads a stream until n events have come, and returns their numbers.
func events(t *testing.T, r *running, query string, lastID string, n int) (seqs []int64) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.base+"/v1/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s: %s", query, res.Status)
	}
	lines := bufio.NewScanner(res.Body)
	for len(seqs) < n && lines.Scan() {
		var seq int64
		if _, err := fmt.Sscanf(lines.Text(), "id: %d", &seq); err == nil {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

func TestEventsResumeWithoutGapOrDouble(t *testing.T) {
	r := start(t, nil)
	const total = 300
	go func() {
		for i := range total {
			r.add(domain.Event{App: []string{"shop", "blog"}[i%2], Type: "log"})
		}
	}()
	var seen []int64
	for len(seen) < total { // cut off after each few, again and again
		seen = append(seen, events(t, r, "?after=0", fmt.Sprint(len(seen)), min(7, total-len(seen)))...)
	}
	for i, seq := range seen {
		if seq != int64(i+1) {
			t.Fatalf("number %d at place %d", seq, i+1)
		}
	}
	if got := events(t, r, "?after=290&app=blog", "", 5); fmt.Sprint(got) != "[292 294 296 298 300]" {
		t.Errorf("of one app: %v", got)
	}
	for range 2 { // each reader was let go of
		<-r.ended
	}
}

func TestEventsBeatAndEndWithTheServer(t *testing.T) {
	r := start(t, func(o *web.Options) { o.Heartbeat = 10 * time.Millisecond })
	r.add(domain.Event{App: "shop", Type: "early"})
	res, err := r.unix.Get("http://belay/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), ": still here") {
		if strings.HasPrefix(lines.Text(), "id:") {
			t.Error("without after only new events come")
		}
	}
	r.stop(t)
	for lines.Scan() { // ends
	}
}

func TestASlowReaderOfEventsIsDropped(t *testing.T) {
	r := start(t, func(o *web.Options) { o.WriteTimeout = 50 * time.Millisecond })
	conn, err := net.Dial("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = io.WriteString(conn, "GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\n\r\n") // and reads nothing
	for range 64 {
		r.add(domain.Event{App: "shop", Type: "log", Data: map[string]any{"line": strings.Repeat("x", 64<<10)}})
	}
	<-r.ended
	if _, answer, _ := r.local(t, "GET", "/metrics", ""); !strings.Contains(answer, "belay_event_readers_dropped_total 1") {
		t.Error("not counted")
	}
}

// An approval is a person's: a token may be a machine's, and without a sandbox the repositories' code has the socket too.
func TestMachinesApproveNothing(t *testing.T) {
	const approve, reject = "/v1/apps/shop/deliveries/2/approve", "/v1/apps/shop/deliveries/2/reject"
	r := start(t, nil)
	status, answer, _ := r.tcp(t, "POST", approve, `{}`, nil)
	if status != 403 || !strings.Contains(answer, `"code":"refused"`) || strings.HasPrefix(r.last(), "approve") {
		t.Errorf("with a token: %d %s, asked %q", status, answer, r.last())
	}
	if _, _, _ = r.tcp(t, "POST", reject, `{}`, nil); !strings.HasPrefix(r.last(), "reject shop 2 ci") {
		t.Errorf("no is always safe, asked %q", r.last())
	}
	if status, answer, _ := r.local(t, "POST", approve, `{}`); status != 200 {
		t.Errorf("on the machine: %d %s", status, answer)
	}
	open := start(t, func(o *web.Options) { o.NoApprovals = "repository code runs as the server itself" })
	if status, answer, _ := open.local(t, "POST", approve, `{}`); status != 403 || !strings.Contains(answer, "as the server itself") || open.last() != "" {
		t.Errorf("without a sandbox: %d %s, asked %q", status, answer, open.last())
	}
}
