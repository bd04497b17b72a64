package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// Status is all routes of one life of the proxy.
type Status struct {
	Boot   string         `json:"boot"`
	Routes []domain.Route `json:"routes"`
}

// TickPage is a run of ticks. First and Last say which ticks the proxy still holds; both are 0 before the first one.
type TickPage struct {
	Boot  string         `json:"boot"`
	First int64          `json:"first"`
	Last  int64          `json:"last"`
	Ticks []measure.Tick `json:"ticks"`
}

// InFlight is what is open on one release of one role.
type InFlight struct {
	App         string             `json:"app"`
	Environment domain.Environment `json:"environment"`
	Role        string             `json:"role"`
	Release     string             `json:"release"`
	Requests    int64              `json:"requests"` // open requests that are no streams
	Streams     int64              `json:"streams"`  // open WebSockets and streams of server-sent events
	// LastRequest is when the last new request began, LastConnection when the last open one ended.
	LastRequest    time.Time `json:"last_request,omitzero"`
	LastConnection time.Time `json:"last_connection,omitzero"`
	// Saved counts requests for static files that this release answered with 404 and the other one could serve.
	Saved     int64              `json:"saved,omitempty"`
	Instances []InstanceInFlight `json:"instances,omitempty"`
}

// InstanceInFlight is what is open on one instance, and what the proxy thinks of it.
type InstanceInFlight struct {
	Addr string `json:"addr"`
	Open int64  `json:"open"` // requests and streams
	Dead bool   `json:"dead,omitempty"`
}

// DrainRequest asks for the end of what is open on a release, or on one instance of it.
type DrainRequest struct {
	App         string             `json:"app"`
	Environment domain.Environment `json:"environment"`
	Release     string             `json:"release"`
	Addr        string             `json:"addr,omitempty"` // only this instance; it must have left the route
	// Within is how long requests may wait for the first byte of their answer.
	Within time.Duration `json:"within"`
	// Streams is how long answers that have begun, WebSockets and other streams may go on. Streams are told to end before:
	// from a fifth of the time on, or 30 s before its end where that is later, each at a random moment, WebSockets with the
	// close code 1012. Default: Within on a release that was rolled back, otherwise ten times Within, at most StreamsWithin.
	Streams time.Duration `json:"streams,omitempty"`
}

// DrainResult says how a drain ended.
type DrainResult struct {
	Open  int64 `json:"open"`  // requests that are still open
	Ended int64 `json:"ended"` // streams that were told to end
	// LastRequest is when the last new request of the release began, LastConnection when its last open one ended.
	LastRequest    time.Time `json:"last_request,omitzero"`
	LastConnection time.Time `json:"last_connection,omitzero"`
}

// Health is what the proxy says of itself.
type Health struct {
	Boot    string    `json:"boot"`
	PID     int       `json:"pid"`
	Holder  int       `json:"holder"` // pid of the process that holds the sockets; 0 when it is gone
	Started time.Time `json:"started"`
	HTTP    []string  `json:"http,omitempty"` // where it listens
	HTTPS   []string  `json:"https,omitempty"`
	Routes  int       `json:"routes"`
	// TableError says why the table could not be written, "" when it was. Traffic follows the table in memory.
	TableError string `json:"table_error,omitempty"`
}

// Client talks to the control socket of a proxy. It is safe for concurrent use.
//
// Every error is a *domain.Error: Conflict for an older epoch or a refused raise, Invalid for a route that cannot be,
// NotFound for what the proxy does not know, Unavailable when it did not answer.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient returns a client for the proxy whose control socket is at the path.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: dial, MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second,
	}}}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Put makes r the route of its app, environment and role, and answers the route as the proxy applies it. When it
// returns, no request begins on a release that r gives no traffic.
func (c *Client) Put(ctx context.Context, r domain.Route) (domain.Route, error) {
	var applied domain.Route
	err := c.call(ctx, http.MethodPut, routePath(r.App, r.Environment, r.Role), r, &applied)
	return applied, err
}

// Delete takes a route away. A route that does not exist is no error.
func (c *Client) Delete(ctx context.Context, app string, env domain.Environment, role string) error {
	return c.call(ctx, http.MethodDelete, routePath(app, env, role), nil, nil)
}

// Routes lists all routes, in the order of their keys.
func (c *Client) Routes(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodGet, "/v1/routes", nil, &s)
	return s, err
}

// Ticks answers the ticks after the given number of the given life of the proxy, and waits for one when there is none
// yet. A boot that is not the present one starts at the first tick held.
func (c *Client) Ticks(ctx context.Context, boot string, after int64, wait time.Duration) (TickPage, error) {
	q := url.Values{"boot": {boot}, "after": {strconv.FormatInt(after, 10)}, "wait": {wait.String()}}
	var p TickPage
	err := c.call(ctx, http.MethodGet, "/v1/ticks?"+q.Encode(), nil, &p)
	return p, err
}

// InFlight answers what is open on each release.
func (c *Client) InFlight(ctx context.Context) ([]InFlight, error) {
	var f []InFlight
	err := c.call(ctx, http.MethodGet, "/v1/inflight", nil, &f)
	return f, err
}

// Drain waits until nothing is open on a release that gets no traffic any more, or on one instance that left its route: at
// most d.Within for requests without an answer and d.Streams for the others, whose streams it ends in good form. What still
// gets traffic is a Conflict.
func (c *Client) Drain(ctx context.Context, d DrainRequest) (DrainResult, error) {
	var r DrainResult
	err := c.call(ctx, http.MethodPost, "/v1/drain", d, &r)
	return r, err
}

// Health answers what the proxy says of itself.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var h Health
	err := c.call(ctx, http.MethodGet, "/v1/health", nil, &h)
	return h, err
}

func routePath(app string, env domain.Environment, role string) string {
	return "/v1/routes/" + url.PathEscape(app) + "/" + url.PathEscape(string(env)) + "/" + url.PathEscape(role)
}

// call sends one request. A worker that died under it, or is about to come up, is asked again once: everything that
// the API does is absolute.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return domain.Errorf(domain.Invalid, "proxy: %w", err)
		}
	}
	res, err := c.send(ctx, method, path, body)
	if err != nil && ctx.Err() == nil {
		res, err = c.send(ctx, method, path, body)
	}
	if err != nil {
		return domain.Errorf(domain.Unavailable, "proxy at %s does not answer: %w", c.socket, err)
	}
	defer res.Body.Close()
	if res.StatusCode >= http.StatusMultipleChoices {
		return readProblem(res)
	}
	if out == nil {
		_, err = io.Copy(io.Discard, res.Body)
	} else {
		err = json.NewDecoder(res.Body).Decode(out)
	}
	if err != nil {
		return domain.Errorf(domain.Unavailable, "answer of the proxy: %w", err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://proxy"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return c.http.Do(req)
}

// problem is an error on the wire.
type problem struct {
	Code    domain.Code `json:"code"`
	Message string      `json:"message"`
	Hint    string      `json:"hint,omitempty"`
}

func readProblem(res *http.Response) error {
	var p problem
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&p); err != nil || p.Code == "" {
		return domain.Errorf(domain.Unavailable, "proxy answered %s", res.Status)
	}
	e := domain.Errorf(p.Code, "%s", p.Message)
	if p.Hint != "" {
		return e.WithHint("%s", p.Hint)
	}
	return e
}

func writeProblem(w http.ResponseWriter, err error) {
	p := problem{Code: domain.CodeOf(err), Message: err.Error(), Hint: domain.HintOf(err)}
	status := map[domain.Code]int{
		domain.Conflict: http.StatusConflict, domain.Invalid: http.StatusUnprocessableEntity,
		domain.NotFound: http.StatusNotFound, domain.Unavailable: http.StatusServiceUnavailable,
	}[p.Code]
	if status == 0 {
		status = http.StatusInternalServerError
	}
	writeJSON(w, status, p)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, fmt.Appendf(nil, `{"code":"failed","message":%q}`, err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller went away; it asks again
}
