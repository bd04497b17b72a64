package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/web"
)

// Newest is the number that stands for an app's newest delivery.
const Newest = 0

// Apps lists the names of all apps on the server.
func (c *Client) Apps(ctx context.Context) ([]string, error) {
	var apps []string
	return apps, c.list(ctx, path("apps"), nil, "apps", &apps)
}

// Status says what runs where.
func (c *Client) Status(ctx context.Context, app string) (domain.AppStatus, error) {
	var s domain.AppStatus
	return s, c.get(ctx, path("apps", app), nil, &s)
}

// Have lists commits of the app that the server holds already, newest first.
func (c *Client) Have(ctx context.Context, app string) ([]string, error) {
	var commits []string
	return commits, c.list(ctx, path("apps", app, "have"), nil, "commits", &commits)
}

// Deliveries lists the newest first, at most limit.
func (c *Client) Deliveries(ctx context.Context, app string, limit int) ([]domain.Delivery, error) {
	var ds []domain.Delivery
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	return ds, c.list(ctx, path("apps", app, "deliveries"), query, "deliveries", &ds)
}

// Delivery returns one; Newest is the newest.
func (c *Client) Delivery(ctx context.Context, app string, number int) (domain.Delivery, error) {
	var d domain.Delivery
	return d, c.get(ctx, delivery(app, number), nil, &d)
}

// Submission is a commit to be shipped.
type Submission struct {
	App    string
	Commit string // full SHA
	Folder string // of belay.yaml within the repository, "" is its root
	// Key makes a repeated request answer with the first one's delivery.
	Key string
	// Bundle is a git bundle that holds the commit; nil when the server holds it already.
	Bundle io.Reader
	// From is the address of a running app to take over; "" for none.
	From string
}

// Ship hands a commit over and returns the delivery that the server has stored for it.
func (c *Client) Ship(ctx context.Context, s Submission) (domain.Delivery, error) {
	query := url.Values{"commit": {s.Commit}}
	if s.Folder != "" {
		query.Set("folder", s.Folder)
	}
	if s.From != "" {
		query.Set("from", s.From)
	}
	header := http.Header{"Content-Type": {"application/octet-stream"}, "Idempotency-Key": {s.Key}}
	var d domain.Delivery
	return d, c.json(ctx, request{
		method: http.MethodPost, path: path("apps", s.App, "deliveries"), query: query, header: header,
		body: s.Bundle, changes: true,
	}, &d)
}

type reason struct {
	Reason string `json:"reason"`
}

// Cancel ends a delivery: before production it is rejected, during a rollout it is rolled back.
func (c *Client) Cancel(ctx context.Context, app string, number int, why string) (domain.Delivery, error) {
	var d domain.Delivery
	return d, c.post(ctx, delivery(app, number)+"/cancel", reason{Reason: why}, &d)
}

// Explain says why a delivery ended as it did.
func (c *Client) Explain(ctx context.Context, app string, number int) (domain.Explanation, error) {
	var e domain.Explanation
	return e, c.get(ctx, delivery(app, number)+"/explain", nil, &e)
}

// Rollback goes back in one environment; to is a release or a commit, "" is the release before.
func (c *Client) Rollback(ctx context.Context, app string, env domain.Environment, to, why string) (domain.RollbackResult, error) {
	in := struct {
		Environment domain.Environment `json:"environment"`
		To          string             `json:"to"`
		Reason      string             `json:"reason"`
	}{env, to, why}
	var r domain.RollbackResult
	return r, c.post(ctx, path("apps", app, "rollback"), in, &r)
}

// Plan asks what would happen if commit were shipped now with this belay.yaml. Nothing is touched.
func (c *Client) Plan(ctx context.Context, app, commit string, file []byte) (web.PlanView, error) {
	in := struct {
		Commit string `json:"commit"`
		File   string `json:"file"`
	}{commit, string(file)}
	var p web.PlanView
	return p, c.post(ctx, path("apps", app, "plan"), in, &p)
}

type freeze struct {
	App    string     `json:"app,omitempty"`
	Reason string     `json:"reason"`
	Until  *time.Time `json:"until,omitempty"`
}

// Freeze stops what starts Deploy production, for one app or, with app "", for the whole server.
func (c *Client) Freeze(ctx context.Context, app, why string, until *time.Time) error {
	return c.post(ctx, path("freeze"), freeze{App: app, Reason: why, Until: until}, nil)
}

// Thaw lifts a freeze, and the hold of the app when app is given.
func (c *Client) Thaw(ctx context.Context, app, why string) error {
	return c.post(ctx, path("thaw"), freeze{App: app, Reason: why}, nil)
}

// Health says what runs on the server.
func (c *Client) Health(ctx context.Context) (web.Health, error) {
	var h web.Health
	return h, c.get(ctx, path("health"), nil, &h)
}

// LogQuery selects log lines.
type LogQuery struct {
	App      string
	Delivery int    // Newest is the newest; not used with Role
	Stage    string // "" is all stages
	Role     string // instances of this role instead of stages
	Follow   bool
	Since    time.Time
}

// Logs copies the selected lines to w until they end or, with Follow, until ctx does.
func (c *Client) Logs(ctx context.Context, q LogQuery, w io.Writer) error {
	query := url.Values{}
	if q.Follow {
		query.Set("follow", "true")
	}
	if !q.Since.IsZero() {
		query.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	where := delivery(q.App, q.Delivery) + "/logs"
	if q.Role != "" {
		where = path("apps", q.App, "logs")
		query.Set("role", q.Role)
	} else if q.Stage != "" {
		query.Set("stage", q.Stage)
	}
	res, err := c.do(ctx, request{method: http.MethodGet, path: where, query: query})
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if _, err := io.Copy(w, res.Body); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return domain.Errorf(domain.Unavailable, "server %s went away in the middle of the log: %w", c.address, err)
	}
	return nil
}

func delivery(app string, number int) string {
	id := "newest"
	if number != Newest {
		id = strconv.Itoa(number)
	}
	return path("apps", app, "deliveries", id)
}

// list reads a list that stands bare or under its name.
func (c *Client) list(ctx context.Context, path string, query url.Values, name string, out any) error {
	var raw json.RawMessage
	if err := c.get(ctx, path, query, &raw); err != nil {
		return err
	}
	var named map[string]json.RawMessage
	if json.Unmarshal(raw, &named) == nil {
		raw = named[name]
	}
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return domain.Errorf(domain.Failed, "server %s: its list of %s is not what this belay understands: %w", c.address, name, err)
	}
	return nil
}
