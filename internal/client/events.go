package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// EventFilter selects events; zero values select all.
type EventFilter struct {
	App      string
	Delivery int
}

// maxEvent bounds one line of the stream.
const maxEvent = 4 << 20

// silence is how long a stream may say nothing, not even a comment, before it counts as dead.
const silence = 45 * time.Second

var errSilent = errors.New("nothing heard for " + silence.String())

// Events calls f for each event after the given sequence number, in order, on one connection. It returns when ctx ends, when
// f returns an error (that error), or when the stream ends: domain.Unavailable, and the caller goes on after the last number.
func (c *Client) Events(ctx context.Context, after int64, filter EventFilter, f func(domain.Event) error) error {
	query := url.Values{"after": {strconv.FormatInt(after, 10)}}
	if filter.App != "" {
		query.Set("app", filter.App)
	}
	if filter.Delivery != 0 {
		query.Set("delivery", strconv.Itoa(filter.Delivery))
	}
	header := http.Header{"Accept": {"text/event-stream"}, "Last-Event-ID": {strconv.FormatInt(after, 10)}}
	streamCtx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watchdog := time.AfterFunc(silence, func() { stop(errSilent) })
	defer watchdog.Stop()
	res, err := c.do(streamCtx, request{method: http.MethodGet, path: path("events"), query: query, header: header})
	if err != nil {
		if ctx.Err() == nil && streamCtx.Err() != nil {
			return c.streamEnded(errSilent)
		}
		return err
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxEvent)
	var data strings.Builder
	for lines.Scan() {
		watchdog.Reset(silence)
		line := lines.Text()
		if line != "" {
			if text, ok := strings.CutPrefix(line, "data:"); ok {
				data.WriteString(strings.TrimPrefix(text, " "))
				data.WriteByte('\n')
			}
			continue
		}
		if data.Len() == 0 {
			continue
		}
		var e domain.Event
		if err := json.Unmarshal([]byte(data.String()), &e); err != nil {
			return domain.Errorf(domain.Failed, "server %s: an event is not what this belay understands: %w", c.address, err)
		}
		data.Reset()
		if e.Seq <= after {
			continue // said again after a reconnect
		}
		after = e.Seq
		if err := f(e); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := context.Cause(streamCtx); err != nil {
		return c.streamEnded(err)
	}
	return c.streamEnded(lines.Err())
}

func (c *Client) streamEnded(cause error) error {
	if cause == nil {
		cause = errors.New("it closed the stream")
	}
	return domain.Errorf(domain.Unavailable, "server %s went away: %w", c.address, cause)
}
