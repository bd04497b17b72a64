package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"os/user"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/web"
)

var update = flag.Bool("update", false, "write docs/openapi.json again")

func me(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Skip("this user has no name here: ", err)
	}
	return u.Username
}

func TestRoutes(t *testing.T) {
	r := start(t, nil)
	who := me(t)
	for _, c := range []struct {
		method, path, body string
		status             int
		asked, answer      string
	}{
		{"GET", "/v1/apps", "", 200, "", `{"apps":["shop"]}`},
		{"GET", "/v1/apps/shop/have", "", 200, "", `{"commits":["` + sha + `","shop"]}`},
		{"GET", "/v1/apps/shop/deliveries/2/changes", "", 200, "changes shop 2", `"commits":3`},
		{"GET", "/v1/apps/shop/deliveries", "", 200, "deliveries shop 20", `"number":2`},
		{"GET", "/v1/apps/shop/deliveries?limit=3", "", 200, "deliveries shop 3", `"deliveries":[`},
		{"GET", "/v1/apps/shop/deliveries?limit=0", "", 422, "", `"code":"invalid"`},
		{"GET", "/v1/apps/shop/deliveries/newest", "", 200, "delivery shop 0", `"state":"running"`},
		{"GET", "/v1/apps/shop/deliveries/0", "", 200, "delivery shop 0", ""},
		{"GET", "/v1/apps/shop/deliveries/142", "", 200, "delivery shop 142", ""},
		{"GET", "/v1/apps/shop/deliveries/oldest", "", 422, "", "path.number"},
		{"GET", "/v1/apps/shop/deliveries/-1", "", 422, "", ""},
		{"POST", "/v1/apps/shop/deliveries/142/cancel", `{"reason":"why"}`, 200, "cancel shop 142 " + who + " why", ""},
		{"POST", "/v1/apps/shop/rollback", `{"environment":"production","to":"rel_1"}`, 200, "rollback shop production rel_1 " + who + " true", `"app":"shop"`},
		{"POST", "/v1/apps/shop/rollback", `{"environment":"prodution"}`, 422, "", `body.environment`},
		{"POST", "/v1/apps/shop/rollback", `{"environment":`, 400, "", `"code":"invalid"`},
		{"POST", "/v1/apps/shop/rollback", "", 400, "", `"code":"invalid"`},
		{"POST", "/v1/apps/shop/plan", `{"commit":"` + sha + `","file":"app: shop"}`, 200, "", `"commit":"app: shop"`},
		{"POST", "/v1/apps/shop/deliveries?commit=" + sha + "&folder=api", "", 201, "ship shop " + sha + ` "api" ` + who + "  -1", `"number":7`},
		{"POST", "/v1/apps/shop/deliveries?commit=" + sha + "&from=http%3A%2F%2F127.0.0.1:80", "", 201, `ship shop from "http://127.0.0.1:80" urgent "" by ` + who, ""},
		{"POST", "/v1/apps/shop/deliveries?commit=" + sha + "&urgent=it+burns", "", 201, `ship shop from "" urgent "it burns" by ` + who, ""},
		{"POST", "/v1/apps/shop/deliveries/2/approve", `{"reason":"fine"}`, 200, "approve shop 2 " + who + " fine", ""},
		{"POST", "/v1/apps/shop/deliveries/newest/reject", `{}`, 403, "reject shop 0 " + who + " ", "waits for nobody"},
		{"POST", "/v1/apps/shop/deliveries?commit=main", "", 422, "", "query.commit"},
		{"POST", "/v1/freeze", `{"reason":"fair","until":"2026-12-01T00:00:00Z"}`, 200, "freeze  " + who + " fair true", ""},
		{"POST", "/v1/freeze", `{}`, 422, "", "reason"},
		{"POST", "/v1/thaw", `{"app":"shop","reason":"over"}`, 200, "thaw shop " + who + " over", ""},
		{"GET", "/v1/health", "", 200, "", `"version":"1.2.3"`},
		{"GET", "/v1/apps/shop/deliveries/2/logs?stage=build", "", 200, "", "shop 2 build \n"},
		{"GET", "/v1/apps/shop/logs?role=web", "", 200, "", "shop 0  web\n"},
		{"GET", "/v1/apps/shop/logs", "", 422, "", "query.role"},
		{"GET", "/v1/nothing", "", 404, "", `"code":"not_found"`},
		{"GET", "/openapi.json", "", 200, "", `"openapi":"3.1.0"`},
		{"GET", "/metrics", "", 200, "", `belay_deliveries{app="shop",state="done"} 1`},
	} {
		status, answer, header := r.local(t, c.method, c.path, c.body)
		if status != c.status || !strings.Contains(answer, c.answer) {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, answer)
		}
		if c.asked != "" && r.last() != c.asked {
			t.Errorf("%s %s: asked %q, want %q", c.method, c.path, r.last(), c.asked)
		}
		if want := "application/problem+json"; status >= 400 && header.Get("Content-Type") != want {
			t.Errorf("%s %s: content type %s", c.method, c.path, header.Get("Content-Type"))
		}
	}
}

func TestErrorsTellPeopleAndOperatorsApart(t *testing.T) {
	r := start(t, nil)
	status, answer, _ := r.local(t, "GET", "/v1/apps/blog", "")
	var p web.Problem
	if err := json.Unmarshal([]byte(answer), &p); err != nil {
		t.Fatal(err)
	}
	if status != 404 || p.Code != domain.NotFound || p.Detail != "app blog: not found" || p.Hint != "belay ship makes it" || p.Status != 404 {
		t.Errorf("%d %s", status, answer)
	}
	status, answer, _ = r.local(t, "GET", "/v1/apps/shop/deliveries/1/explain", "")
	if status != 500 || strings.Contains(answer, "/var/secret") {
		t.Errorf("%d %s", status, answer)
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	r := start(t, nil)
	for _, path := range []string{"/v1/apps/shop", "/"} {
		if _, answer, _ := r.local(t, "GET", path, ""); strings.Contains(answer, "s3cr3t") || !strings.Contains(answer, sha[:7]) {
			t.Errorf("%s: %s", path, answer)
		}
	}
}

func TestPage(t *testing.T) {
	r := start(t, nil)
	status, page, header := r.local(t, "GET", "/", "")
	for _, want := range []string{"shop", "production", sha[:7], "2 of 2", "monitor", "pending", "&lt;script&gt;",
		"to <code>9be1f02</code>, warm, 0 ms in its rehearsal", "Job nightly in production", `<span class="bad">missed</span>: nobody was there`, "Urgent: it burns",
		"http://127.0.0.1:3000 over as stable", "next has 5 %, watched until 14:31:00 UTC", "<td>4529</td><td>4</td>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	policy := header.Get("Content-Security-Policy")
	if status != 200 || strings.Contains(page, "<script") || !strings.Contains(policy, "default-src 'none'; style-src 'sha256-") {
		t.Errorf("%d %s\n%s", status, policy, page)
	}
}

func TestShipStreamsABundle(t *testing.T) {
	r := start(t, func(o *web.Options) { o.MaxBundle = 1 << 20 })
	send := func(size int, contentType string, chunked bool) (int, string) {
		status, answer, _ := r.tcp(t, "POST", "/v1/apps/shop/deliveries?commit="+sha, "", func(req *http.Request) {
			req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(make([]byte, size))), int64(size)
			if chunked {
				req.ContentLength = -1
			}
			req.Header.Set("Content-Type", contentType)
			req.Header.Set("Idempotency-Key", "k1")
		})
		return status, answer
	}
	if status, answer := send(1<<20, "application/octet-stream", true); status != 201 || r.last() != "ship shop "+sha+` "" ci k1 1048576` {
		t.Errorf("%d %s, asked %s", status, answer, r.last())
	}
	for _, chunked := range []bool{true, false} {
		status, answer := send(1<<20+1, "application/octet-stream", chunked)
		if status != 413 || !strings.Contains(answer, `"code":"invalid"`) {
			t.Errorf("too large, chunked %v: %d %s", chunked, status, answer)
		}
	}
	if status, answer := send(10, "application/x-www-form-urlencoded", false); status != 422 {
		t.Errorf("a form: %d %s", status, answer)
	}
}

// A deadline for reading the body that outlives the body would end whatever takes longer than it.
func TestALongRequestOutlivesTheBodyTimeout(t *testing.T) {
	r := start(t, func(o *web.Options) { o.BodyTimeout = 50 * time.Millisecond })
	r.rollback = func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return errors.New("cut off")
		case <-time.After(400 * time.Millisecond): // the rollback takes its time
			return nil
		}
	}
	if status, answer, _ := r.local(t, "POST", "/v1/apps/shop/rollback", `{"environment":"staging"}`); status != 200 {
		t.Errorf("%d %s", status, answer)
	}
	status, answer, _ := r.tcp(t, "POST", "/v1/apps/shop/deliveries?commit="+sha, "bundle", func(req *http.Request) {
		req.Header.Set("Content-Type", "application/octet-stream")
	})
	if status != 201 {
		t.Errorf("%d %s", status, answer)
	}
}

func TestLogs(t *testing.T) {
	r := start(t, nil)
	r.logs = func(context.Context, web.LogQuery, io.Writer) error {
		return domain.Errorf(domain.NotFound, "no such stage")
	}
	if status, answer, _ := r.local(t, "GET", "/v1/apps/shop/deliveries/2/logs", ""); status != 404 || !strings.Contains(answer, "no such stage") {
		t.Errorf("an error before the first line: %d %s", status, answer)
	}
	r.logs = func(_ context.Context, _ web.LogQuery, w io.Writer) error {
		_, _ = io.WriteString(w, "one line\n")
		return errors.New("broke")
	}
	res, err := r.unix.Get("http://belay/v1/apps/shop/deliveries/2/logs")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if text, err := io.ReadAll(res.Body); err == nil || string(text) != "one line\n" {
		t.Errorf("an answer that was cut off looks whole: %q %v", text, err)
	}
	r.logs = func(context.Context, web.LogQuery, io.Writer) error { return nil }
	if status, answer, _ := r.local(t, "GET", "/v1/apps/shop/deliveries/2/logs", ""); status != 200 || answer != "" {
		t.Errorf("no line: %d %s", status, answer)
	}
}

// The time limit of a stream must not outlive it on a connection that is used again.
func TestAConnectionServesOnAfterAStream(t *testing.T) {
	r := start(t, func(o *web.Options) { o.WriteTimeout = 20 * time.Millisecond })
	r.rollback = func(context.Context) error {
		<-time.After(100 * time.Millisecond) // longer than a reader of a stream may stand still
		return nil
	}
	if status, _, _ := r.local(t, "GET", "/v1/apps/shop/logs?role=web", ""); status != 200 {
		t.Fatal(status)
	}
	if status, answer, _ := r.local(t, "POST", "/v1/apps/shop/rollback", `{"environment":"staging"}`); status != 200 {
		t.Errorf("%d %s", status, answer)
	}
}

func dial(t *testing.T, r *running, query string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), r.base+"/v1/apps/shop/exec?environment=production&"+query,
		&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + r.token}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

func TestExec(t *testing.T) {
	r := start(t, nil)
	conn := dial(t, r, "argv=cat&argv=a+b,c")
	input := bytes.Repeat([]byte("0123456789"), 10_000)
	for _, frame := range [][]byte{append([]byte{web.FrameStdin}, input...), {}, {web.FrameStdinClosed}} {
		if err := conn.Write(t.Context(), websocket.MessageBinary, frame); err != nil {
			t.Fatal(err)
		}
	}
	got := map[byte][]byte{}
	for {
		_, frame, err := conn.Read(t.Context())
		if err != nil {
			break
		}
		got[frame[0]] = append(got[frame[0]], frame[1:]...)
	}
	if !bytes.Equal(got[web.FrameStdout], input) || string(got[web.FrameStderr]) != "bye" || string(got[web.FrameExit]) != "3" {
		t.Errorf("%d bytes, stderr %q, exit %q", len(got[web.FrameStdout]), got[web.FrameStderr], got[web.FrameExit])
	}
	if want := `exec shop production ["cat" "a b,c"] ci`; r.last() != want {
		t.Errorf("asked %s, want %s", r.last(), want)
	}
	_, frame, err := dial(t, r, "argv=x").Read(t.Context())
	if err != nil || string(frame[1:]) != `{"code":"refused","error":"nothing runs","hint":"ship first"}` {
		t.Errorf("refused: %q %v", frame, err)
	}
	if status, _, _ := r.tcp(t, "GET", "/v1/apps/shop/exec?environment=production&argv=x", "", nil); status != 426 {
		t.Errorf("without a WebSocket: %d", status)
	}
	if status, _, _ := r.tcp(t, "GET", "/v1/apps/shop/exec?environment=production", "", nil); status != 422 {
		t.Errorf("without a command: %d", status)
	}
}

func TestExecEndsWithItsClientAndItsServer(t *testing.T) {
	r := start(t, func(o *web.Options) { o.Heartbeat = 20 * time.Millisecond })
	first := dial(t, r, "argv=hang")
	// The command does not read: the second frame stays, and so would the news of the end.
	for range 2 {
		if err := first.Write(t.Context(), websocket.MessageBinary, []byte{web.FrameStdin, 'x'}); err != nil {
			t.Fatal(err)
		}
	}
	_ = first.CloseNow()
	<-r.ended
	dial(t, r, "argv=hang")
	r.stop(t)
	<-r.ended
}

func TestOpenAPI(t *testing.T) {
	got, err := web.New(newFake(), web.Options{}).OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	const golden = "../../docs/openapi.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/openapi.json is not what the API is (%v): go generate ./internal/web", err)
	}
	if bytes.Contains(got, []byte("ErrorModel")) {
		t.Error("an error that is no Problem")
	}
}
