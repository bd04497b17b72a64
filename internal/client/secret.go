package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/web"
)

// Secret is a value on its way to the server.
type Secret struct {
	domain.SecretPlace
	Value *domain.Secret // nil: none is given
	From  string         // prompt, stdin or file
}

// SetSecret stores a value; the server takes it on its unix socket only.
func (c *Client) SetSecret(ctx context.Context, s Secret) (domain.SecretSet, error) {
	return answer[domain.SecretSet](ctx, c, s.request(secretsOf(s.App), nil))
}

// RotateSecret stores a value, or takes the newest, and delivers what is stable again with it.
func (c *Client) RotateSecret(ctx context.Context, s Secret, revoke bool) (web.RotationResult, error) {
	return answer[web.RotationResult](ctx, c, s.request(secretsOf(s.App)+"/rotate", url.Values{"revoke": {strconv.FormatBool(revoke)}}))
}

// Secrets says everything about an app's secrets but their values.
func (c *Client) Secrets(ctx context.Context, app string) (domain.SecretReport, error) {
	return get[domain.SecretReport](ctx, c, secretsOf(app), nil)
}

// SecretHistory lists the versions of a secret, oldest first; app "" is the server.
func (c *Client) SecretHistory(ctx context.Context, app, name string) ([]domain.SecretVersion, error) {
	list, err := get[struct {
		Versions []domain.SecretVersion `json:"versions"`
	}](ctx, c, secretsOf(app)+"/history", url.Values{"name": {name}})
	return list.Versions, err
}

func secretsOf(app string) string {
	if app == "" {
		return path("secrets")
	}
	return path("apps", app, "secrets")
}

func (s Secret) request(where string, query url.Values) request {
	if query == nil {
		query = url.Values{}
	}
	query.Set("name", s.Name)
	for key, value := range map[string]string{"environment": string(s.Environment), "from": s.From} {
		if value != "" {
			query.Set(key, value)
		}
	}
	r := request{method: http.MethodPost, path: where, query: query, changes: true, header: http.Header{}}
	if s.Value != nil {
		r.header.Set("Content-Type", "application/octet-stream")
		r.body = strings.NewReader(s.Value.Reveal())
	}
	return r
}
