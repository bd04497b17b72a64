package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/web"
)

// TestRequest is a commit to be tested before its merge.
type TestRequest struct {
	App    string
	Commit string // full SHA
	Folder string // of belay.yaml within the repository, "" is its root
	// Level is the only level that runs; "" is all of them.
	Level string
	// All runs what the change does not touch, too.
	All bool
	// Bundle is a git bundle that holds the commit; nil when the server holds it already.
	Bundle io.Reader
}

// Test has a commit built and tested, and calls f for each fact, the verdict last. It returns when the verdict was told, when f
// returns an error (that error), or with the reason why there is no verdict. When ctx ends the server ends the run.
func (c *Client) Test(ctx context.Context, t TestRequest, f func(web.TestEvent) error) error {
	query := url.Values{"commit": {t.Commit}}
	if t.Folder != "" {
		query.Set("folder", t.Folder)
	}
	if t.Level != "" {
		query.Set("level", t.Level)
	}
	if t.All {
		query.Set("all", "true")
	}
	streamCtx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	res, err := c.do(streamCtx, request{
		method: http.MethodPost, path: path("apps", t.App, "tests"), query: query, body: t.Bundle,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
	})
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	watchdog := time.AfterFunc(silence, func() { stop(errSilent) })
	defer watchdog.Stop()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		watchdog.Reset(silence)
		if len(lines.Bytes()) == 0 {
			continue // it only goes on
		}
		var line web.TestLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return domain.Errorf(domain.Failed, "server %s: an event is not what this belay understands: %w", c.address, err)
		}
		if p := line.Error; p != nil {
			e := domain.Errorf(p.Code, "%s", p.Detail)
			if p.Hint != "" {
				e = e.WithHint("%s", p.Hint)
			}
			return e
		}
		if err := f(line.TestEvent); err != nil || line.Verdict != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	cause := context.Cause(streamCtx)
	if cause == nil {
		cause = lines.Err()
	}
	if cause == nil {
		cause = errors.New("it closed the stream")
	}
	return domain.Errorf(domain.Unavailable, "server %s went away: the test run ended with the connection: %w", c.address, cause).
		WithHint("belay test again")
}
