package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/belay-cd/belay/internal/domain"
)

// request is one call of the API.
type request struct {
	method string
	path   string
	query  url.Values
	header http.Header
	body   io.Reader
	// changes says that the call asks for something to happen, so that a lost answer leaves it open.
	changes bool
}

// maxProblem bounds how much of an error's body is read.
const maxProblem = 64 << 10

// LostError is a request that was sent whole and never answered: the server may have accepted it.
type LostError struct{ Cause error }

func (e *LostError) Error() string { return e.Cause.Error() }

// Unwrap returns what broke the connection.
func (e *LostError) Unwrap() error { return e.Cause }

// Lost reports whether err leaves open whether the server accepted the request.
func Lost(err error) bool {
	var lost *LostError
	return errors.As(err, &lost)
}

// path joins segments to a path of the API, each escaped.
func path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// do sends r and returns a 2xx answer, whose body the caller closes. Any other answer becomes its error.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) {
		if info.Err == nil {
			sent.Store(true)
		}
	}}
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), r.method, target, r.body)
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "%s %s: %w", r.method, target, err)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err, sent.Load() && r.changes)
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }()
	return nil, c.problem(res, r.changes)
}

// unreachable says what is known about a request that got no answer.
func (c *Client) unreachable(ctx context.Context, err error, sent bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if sent {
		return domain.Errorf(domain.Unavailable, "server %s went away before it answered: the request may have been accepted: %w",
			c.address, &LostError{Cause: err}).WithHint("belay status says what runs")
	}
	e := domain.Errorf(domain.Unavailable, "server %s not reached, nothing was asked of it: %w", c.address, err)
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return e.WithHint("start it with belay serve, or name another with --server or BELAY_SERVER")
	case errors.Is(err, syscall.EACCES):
		return e.WithHint("the socket belongs to another user: use its group, or --server with BELAY_TOKEN")
	}
	return e
}

// problem reads an error answer (RFC 9457 with code and hint).
func (c *Client) problem(res *http.Response, changes bool) error {
	var p struct {
		Title  string      `json:"title"`
		Detail string      `json:"detail"`
		Code   domain.Code `json:"code"`
		Hint   string      `json:"hint"`
		Errors []struct {
			Message  string `json:"message"`
			Location string `json:"location"`
		} `json:"errors"`
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, maxProblem)) // what arrived is all there is to say
	known := json.Unmarshal(body, &p) == nil && (p.Detail != "" || p.Title != "")
	said := []string{cmp.Or(p.Detail, p.Title)}
	for _, e := range p.Errors {
		said = append(said, strings.TrimSpace(e.Location+" "+e.Message))
	}
	message := strings.Join(said, "; ")
	if !known {
		message = "server " + c.address + " answered " + res.Status
	}
	if p.Code == "" {
		p.Code = codeOf(res.StatusCode)
	}
	e := domain.Errorf(p.Code, "%s", message)
	if !known && changes && p.Code == domain.Unavailable {
		// A proxy in between answered, not Belay: the request may have got through before.
		e = domain.Errorf(p.Code, "%s: the request may have been accepted: %w", message, &LostError{Cause: errors.New(res.Status)})
	}
	if p.Hint != "" {
		e = e.WithHint("%s", p.Hint)
	}
	return e
}

// codeOf classifies an answer that carries no code of Belay's.
func codeOf(status int) domain.Code {
	switch status {
	case http.StatusNotFound:
		return domain.NotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return domain.Denied
	case http.StatusConflict:
		return domain.Conflict
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return domain.Unavailable
	}
	if status >= 300 && status < 500 {
		return domain.Invalid
	}
	return domain.Failed
}

// get reads one JSON document.
func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	return answer[T](ctx, c, request{method: http.MethodGet, path: path, query: query})
}

// post sends in as JSON and reads one JSON document.
func post[T any](ctx context.Context, c *Client, path string, in any) (T, error) {
	body, err := json.Marshal(in)
	if err != nil {
		var none T
		return none, domain.Errorf(domain.Invalid, "request: %w", err)
	}
	return answer[T](ctx, c, request{
		method: http.MethodPost, path: path, body: bytes.NewReader(body), changes: true,
		header: http.Header{"Content-Type": {"application/json"}},
	})
}

// answer sends r and reads its answer.
func answer[T any](ctx context.Context, c *Client, r request) (T, error) {
	var out T
	res, err := c.do(ctx, r)
	if err != nil {
		return out, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return out, c.unreachable(ctx, err, r.changes)
	}
	if len(body) == 0 { // done, and nothing to say
		return out, nil
	}
	if err := json.Unmarshal(body, &out); err != nil {
		return out, domain.Errorf(domain.Failed, "server %s: its answer is not what this belay understands: %w", c.address, err).
			WithHint("compare belay version here and on the server")
	}
	return out, nil
}
