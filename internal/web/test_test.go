package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/web"
)

// Test plays a run: the level asked for says which.
func (f *fake) Test(ctx context.Context, r web.TestRequest, emit func(web.TestEvent)) error {
	size := int64(-1)
	if r.Bundle != nil {
		n, err := io.Copy(io.Discard, r.Bundle)
		if err != nil {
			return domain.Errorf(domain.Failed, "read bundle: %v", err)
		}
		size = n
	}
	f.note("test %s %s %q %q %v by %s %d", r.App, r.Commit, r.Folder, r.Level, r.All, r.By, size)
	if r.App != "shop" {
		return domain.Errorf(domain.NotFound, "no app %s", r.App)
	}
	emit(web.TestEvent{Type: "accepted", Commit: r.Commit})
	switch r.Level {
	case "e2e": // until somebody ends it
		<-ctx.Done()
		f.ended <- "test"
		return context.Cause(ctx)
	case "integration":
		return domain.Errorf(domain.Superseded, "gave way").WithHint("again")
	}
	emit(web.TestEvent{Type: "log", Stage: domain.Test, Text: "ok\nshop"})
	emit(web.TestEvent{Type: "verdict", Verdict: &web.TestVerdict{App: r.App, Commit: r.Commit, Green: true, Sentence: "green: 3 tests"}})
	return nil
}

// begun opens a test run on a server's socket.
func begun(t *testing.T, r *running, query string) (lines *bufio.Scanner, leave func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://belay/v1/apps/shop/tests?commit="+sha+query, strings.NewReader("bundle"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	res, err := r.unix.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); _ = res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%s %s", res.Status, res.Header.Get("Content-Type"))
	}
	return bufio.NewScanner(res.Body), stop
}

func read(t *testing.T, lines *bufio.Scanner) web.TestLine {
	t.Helper()
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		var l web.TestLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	t.Fatal("the answer ended: ", lines.Err())
	return web.TestLine{}
}

func TestTestRunIsStreamed(t *testing.T) {
	r := start(t, nil)
	lines, _ := begun(t, r, "&folder=api&all=true")
	var kinds []string
	for range 3 {
		kinds = append(kinds, string(read(t, lines).Type))
	}
	if got := strings.Join(kinds, " "); got != "accepted log verdict" {
		t.Error(got)
	}
	for lines.Scan() {
		if len(lines.Bytes()) > 0 {
			t.Errorf("after the verdict: %s", lines.Bytes())
		}
	}
	if want := `test shop ` + sha + ` "api" "" true by ` + me(t) + " 6"; r.last() != want {
		t.Errorf("asked %q, want %q", r.last(), want)
	}
}

func TestTestRunWithoutAVerdict(t *testing.T) {
	r := start(t, nil)
	// Before it has begun it is refused like any request.
	status, answer, header := r.local(t, "POST", "/v1/apps/blog/tests?commit="+sha, "")
	if status != 404 || header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s", status, answer)
	}
	if status, answer, _ := r.local(t, "POST", "/v1/apps/shop/tests?commit="+sha+"&level=load", ""); status != 422 || !strings.Contains(answer, "query.level") {
		t.Errorf("%d %s", status, answer)
	}
	// After that its last line says why.
	lines, _ := begun(t, r, "&level=integration")
	read(t, lines)
	if l := read(t, lines); l.Error == nil || l.Error.Code != domain.Superseded || l.Error.Hint != "again" {
		t.Errorf("%+v", l)
	}
}

// Whoever leaves ends the run, although nothing is written to him at that moment.
func TestTestRunEndsWithItsReader(t *testing.T) {
	r := start(t, nil)
	lines, leave := begun(t, r, "&level=e2e")
	read(t, lines)
	leave()
	select {
	case <-r.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the run goes on without a reader")
	}
}

// A server that stops says so to those who wait for a verdict.
func TestTestRunEndsWithTheServer(t *testing.T) {
	r := start(t, nil)
	lines, _ := begun(t, r, "&level=e2e")
	read(t, lines)
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	down := make(chan error, 1)
	go func() { down <- r.server.Shutdown(ctx) }()
	if l := read(t, lines); l.Error == nil || l.Error.Code != domain.Unavailable || !strings.Contains(l.Error.Detail, "the server stops") {
		t.Errorf("%+v", l)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}
