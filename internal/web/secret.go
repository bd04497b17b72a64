package web

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/belay-cd/belay/internal/domain"
)

// maxSecret bounds the value of a secret in bytes; one more is read, so that a longer one is refused and not cut.
const maxSecret = 32 << 10

// maySetSecrets lets only somebody of this machine set a value: a token may be a machine's, which has no need to know one, and
// over TCP a value could pass places that keep it.
func (s *Server) maySetSecrets(ctx context.Context) error {
	if !onSocket(ctx) {
		return domain.Errorf(domain.Denied, "not stored: secrets are set on the server itself, through its socket; a token does not do").
			WithHint("ssh to the server: belay secret set NAME --env staging")
	}
	return nil
}

// SecretInput is a value for a place. (It is exported because the description of the API is read from exported fields only.) The value is the raw body, never part of the address or of a document: nothing that
// checks or logs requests sees it.
type SecretInput struct {
	Name        string             `query:"name" required:"true" maxLength:"100" doc:"Variable, or notify/CHANNEL."`
	Environment domain.Environment `query:"environment" enum:"staging,production,build" doc:"Empty for notify/CHANNEL only."`
	From        string             `query:"from" enum:"prompt,stdin,file" doc:"How the value was given."`
	request     *http.Request
}

// Resolve keeps the request, whose body is the value.
func (in *SecretInput) Resolve(ctx huma.Context) []error {
	in.request, _ = humago.Unwrap(ctx)
	if in.request.ContentLength != 0 && in.request.Header.Get("Content-Type") != bundleType {
		return []error{&huma.ErrorDetail{Message: "a value is " + bundleType, Location: "header.Content-Type"}}
	}
	return nil
}

// value reads the body; nil when there is none.
func (in *SecretInput) value() (*domain.Secret, error) {
	if in.request.ContentLength == 0 {
		return nil, nil
	}
	text, err := io.ReadAll(io.LimitReader(in.request.Body, maxSecret+1))
	if err != nil {
		return nil, errors.New("the value did not arrive whole")
	}
	v := domain.NewSecret(string(text))
	return &v, nil
}

func (in *SecretInput) ask(ctx context.Context, app string) (SecretRequest, error) {
	value, err := in.value()
	return SecretRequest{
		SecretPlace: domain.SecretPlace{App: app, Environment: in.Environment, Name: in.Name},
		Value:       value, By: by(ctx), From: in.From,
	}, err
}

type setInput struct {
	AppPath
	SecretInput
}

type rotateInput struct {
	AppPath
	SecretInput
	Revoke bool `query:"revoke" doc:"Take the versions before from every release, and wipe them."`
}

// SecretName names a secret.
type SecretName struct {
	Name string `query:"name" required:"true" maxLength:"100"`
}

type versionsList struct {
	Versions []domain.SecretVersion `json:"versions" doc:"Oldest first."`
}

func (s *Server) registerSecrets(api huma.API) {
	body := func(op huma.Operation) huma.Operation {
		op.Method = http.MethodPost
		op.RequestBody = &huma.RequestBody{
			Description: "The value, as it is.",
			Content:     map[string]*huma.MediaType{bundleType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
		}
		return op
	}
	operation(s, api, body(huma.Operation{OperationID: "set-secret", Path: "/v1/apps/{app}/secrets", Summary: "Store a secret; on the unix socket only"}),
		func(ctx context.Context, in *setInput) (domain.SecretSet, error) {
			return s.setSecret(ctx, &in.SecretInput, in.App)
		})
	operation(s, api, body(huma.Operation{OperationID: "set-server-secret", Path: "/v1/secrets", Summary: "Store a secret of the server; on the unix socket only"}),
		func(ctx context.Context, in *SecretInput) (domain.SecretSet, error) { return s.setSecret(ctx, in, "") })
	operation(s, api, body(huma.Operation{OperationID: "rotate-secret", Path: "/v1/apps/{app}/secrets/rotate", Summary: "Deliver a secret's new value; on the unix socket only"}),
		s.rotateSecret)
	get(s, api, "list-secrets", "/v1/apps/{app}/secrets", "Everything about an app's secrets but their values",
		func(ctx context.Context, in *AppPath) (domain.SecretReport, error) {
			return s.service.Secrets(ctx, in.App)
		})
	get(s, api, "secret-history", "/v1/apps/{app}/secrets/history", "The versions of a secret", func(ctx context.Context, in *struct {
		AppPath
		SecretName
	},
	) (versionsList, error) {
		list, err := s.service.SecretHistory(ctx, in.App, in.Name)
		return versionsList{Versions: list}, err
	})
	get(s, api, "server-secret-history", "/v1/secrets/history", "The versions of a secret of the server",
		func(ctx context.Context, in *SecretName) (versionsList, error) {
			list, err := s.service.SecretHistory(ctx, "", in.Name)
			return versionsList{Versions: list}, err
		})
}

func (s *Server) setSecret(ctx context.Context, in *SecretInput, app string) (domain.SecretSet, error) {
	if err := s.maySetSecrets(ctx); err != nil {
		return domain.SecretSet{}, err
	}
	q, err := in.ask(ctx, app)
	if err != nil {
		return domain.SecretSet{}, err
	}
	return s.service.SetSecret(ctx, q)
}

func (s *Server) rotateSecret(ctx context.Context, in *rotateInput) (RotationResult, error) {
	if err := s.maySetSecrets(ctx); err != nil {
		return RotationResult{}, err
	}
	q, err := in.ask(ctx, in.App)
	if err != nil {
		return RotationResult{}, err
	}
	q.Revoke = in.Revoke
	return s.service.RotateSecret(ctx, q)
}
