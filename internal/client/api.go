package client

import (
	"context"
	"errors"
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
	list, err := get[struct {
		Apps []string `json:"apps"`
	}](ctx, c, path("apps"), nil)
	return list.Apps, err
}

// Status says what runs where.
func (c *Client) Status(ctx context.Context, app string) (domain.AppStatus, error) {
	return get[domain.AppStatus](ctx, c, path("apps", app), nil)
}

// Have lists commits of the app that the server holds already, newest first.
func (c *Client) Have(ctx context.Context, app string) ([]string, error) {
	list, err := get[struct {
		Commits []string `json:"commits"`
	}](ctx, c, path("apps", app, "have"), nil)
	return list.Commits, err
}

// Deliveries lists the newest first, at most limit.
func (c *Client) Deliveries(ctx context.Context, app string, limit int) ([]domain.Delivery, error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}}
	list, err := get[struct {
		Deliveries []domain.Delivery `json:"deliveries"`
	}](ctx, c, path("apps", app, "deliveries"), query)
	return list.Deliveries, err
}

// Delivery returns one; Newest is the newest.
func (c *Client) Delivery(ctx context.Context, app string, number int) (domain.Delivery, error) {
	return get[domain.Delivery](ctx, c, delivery(app, number), nil)
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
	// Urgent is why this delivery goes before all others; "" for an ordinary one.
	Urgent string
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
	if s.Urgent != "" {
		query.Set("urgent", s.Urgent)
	}
	header := http.Header{"Content-Type": {"application/octet-stream"}, "Idempotency-Key": {s.Key}}
	return answer[domain.Delivery](ctx, c, request{
		method: http.MethodPost, path: path("apps", s.App, "deliveries"), query: query, header: header, body: s.Bundle, changes: true,
	})
}

type reason struct {
	Reason string `json:"reason"`
}

// Cancel ends a delivery: before production it is rejected, during a rollout it is rolled back.
func (c *Client) Cancel(ctx context.Context, app string, number int, why string) (domain.Delivery, error) {
	return post[domain.Delivery](ctx, c, delivery(app, number)+"/cancel", reason{Reason: why})
}

// Approval is a person's yes, and what it is about.
type Approval struct {
	// Gate is what it answers; "" is what the delivery asks, where that needs no name.
	Gate string `json:"gate,omitempty"`
	// Digest is the artifact that the person was shown.
	Digest string `json:"digest,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Approve agrees with what a delivery waits for.
func (c *Client) Approve(ctx context.Context, app string, number int, yes Approval) (domain.Delivery, error) {
	return post[domain.Delivery](ctx, c, delivery(app, number)+"/approve", yes)
}

// Reject says no to what a delivery waits for: it ends, and goes back where it had traffic.
func (c *Client) Reject(ctx context.Context, app string, number int, why string) (domain.Delivery, error) {
	return post[domain.Delivery](ctx, c, delivery(app, number)+"/reject", reason{Reason: why})
}

// Evidence returns what is signed about a delivery.
func (c *Client) Evidence(ctx context.Context, app string, number int) (domain.Evidence, error) {
	return get[domain.Evidence](ctx, c, delivery(app, number)+"/evidence", nil)
}

// Changes says what a delivery brings beside what serves in production.
func (c *Client) Changes(ctx context.Context, app string, number int) (web.Changes, error) {
	return get[web.Changes](ctx, c, delivery(app, number)+"/changes", nil)
}

// Explain says why a delivery ended as it did.
func (c *Client) Explain(ctx context.Context, app string, number int) (domain.Explanation, error) {
	return get[domain.Explanation](ctx, c, delivery(app, number)+"/explain", nil)
}

// Ticks hands see the seconds that a delivery's rollout was judged by: a line of JSON for each, as they come.
func (c *Client) Ticks(ctx context.Context, app string, number int, see func(io.Reader) error) error {
	res, err := c.do(ctx, request{method: http.MethodGet, path: delivery(app, number) + "/ticks"})
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	broken := &breaks{r: res.Body}
	err = see(broken)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case broken.err != nil:
		return domain.Errorf(domain.Unavailable, "server %s went away in the middle of the ticks: %w", c.address, broken.err)
	}
	return err
}

// breaks remembers how an answer broke off.
type breaks struct {
	r   io.Reader
	err error
}

func (b *breaks) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// Rollback goes back in one environment; to is a release or a commit, "" is the release before.
func (c *Client) Rollback(ctx context.Context, app string, env domain.Environment, to, why string) (domain.RollbackResult, error) {
	in := struct {
		Environment domain.Environment `json:"environment"`
		To          string             `json:"to"`
		Reason      string             `json:"reason"`
	}{env, to, why}
	return post[domain.RollbackResult](ctx, c, path("apps", app, "rollback"), in)
}

// Plan asks what would happen if commit were shipped now with this belay.yaml. Nothing is touched.
func (c *Client) Plan(ctx context.Context, app, commit string, file []byte) (web.PlanView, error) {
	in := struct {
		Commit string `json:"commit"`
		File   string `json:"file"`
	}{commit, string(file)}
	return post[web.PlanView](ctx, c, path("apps", app, "plan"), in)
}

type freeze struct {
	App    string     `json:"app,omitempty"`
	Reason string     `json:"reason"`
	Until  *time.Time `json:"until,omitempty"`
}

// Freeze stops what starts Deploy production, for one app or, with app "", for the whole server.
func (c *Client) Freeze(ctx context.Context, app, why string, until *time.Time) (domain.Frozen, error) {
	return post[domain.Frozen](ctx, c, path("freeze"), freeze{App: app, Reason: why, Until: until})
}

// Thaw lifts a freeze, and the hold of the app when app is given.
func (c *Client) Thaw(ctx context.Context, app, why string) error {
	_, err := post[struct{}](ctx, c, path("thaw"), freeze{App: app, Reason: why})
	return err
}

// Health says what runs on the server.
func (c *Client) Health(ctx context.Context) (web.Health, error) {
	return get[web.Health](ctx, c, path("health"), nil)
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
