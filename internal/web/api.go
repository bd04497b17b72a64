package web

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/belay-cd/belay/internal/domain"
)

//go:generate go test -run TestOpenAPI -update .

// bundleType is the content type of an uploaded git bundle.
const bundleType = "application/octet-stream"

// newAPI makes an API whose description is complete before its first request, and whose errors all look the same.
func (s *Server) newAPI(mux *http.ServeMux) huma.API {
	config := huma.DefaultConfig("Belay", "1")
	config.Info.Description = "What belay serve answers, on its unix socket and, with a token, over TCP."
	config.DocsPath, config.SchemasPath = "", ""
	config.CreateHooks = nil // no $schema in answers
	config.Transformers = []huma.Transformer{asProblem}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	config.Security = []map[string][]string{{"token": {}}}
	problem := config.Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	config.OnAddOperation = append(config.OnAddOperation, func(_ *huma.OpenAPI, op *huma.Operation) {
		for status := range op.Responses {
			if code, err := strconv.Atoi(status); err != nil || code >= 400 {
				delete(op.Responses, status)
			}
		}
		delete(config.Components.Schemas.Map(), "ErrorModel") // Problem takes its place
		op.Responses["default"] = &huma.Response{
			Description: "Error", Content: map[string]*huma.MediaType{"application/problem+json": {Schema: problem}},
		}
	})
	api := humago.New(mux, config)
	api.UseMiddleware(s.metrics.count)
	return api
}

// AppPath is the part of a path that names an app. It is checked before anything sees it. (It is exported, as the other parts
// of requests are, because the API's description is read from exported fields only.)
type AppPath struct {
	App string `path:"app" maxLength:"40" pattern:"^[a-z][a-z0-9-]*$" doc:"Name of the app."`
}

// DeliveryPath is the part of a path that names a delivery.
type DeliveryPath struct {
	AppPath
	Number string `path:"number" pattern:"^([0-9]{1,9}|newest)$" doc:"Number within the app; newest or 0 is the newest."`
}

// number returns 0 for the newest. The pattern has seen to it that nothing else is no number.
func (p DeliveryPath) number() int {
	n, _ := strconv.Atoi(p.Number)
	return n
}

type appsList struct {
	Apps []string `json:"apps"`
}

type commitsList struct {
	Commits []string `json:"commits" doc:"Full SHAs, newest first."`
}

type deliveriesList struct {
	Deliveries []domain.Delivery `json:"deliveries" doc:"Newest first."`
}

// body is an answer of one JSON document.
type body[T any] struct{ Body T }

// get registers a question that changes nothing.
func get[I, O any](s *Server, api huma.API, id, path, summary string, f func(context.Context, *I) (O, error)) {
	operation(s, api, huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary}, f)
}

// post registers a request that changes something, or asks with a body.
func post[I, O any](s *Server, api huma.API, id, path, summary string, f func(context.Context, *I) (O, error)) {
	operation(s, api, huma.Operation{OperationID: id, Method: http.MethodPost, Path: path, Summary: summary}, f)
}

func operation[I, O any](s *Server, api huma.API, op huma.Operation, f func(context.Context, *I) (O, error)) {
	op.BodyReadTimeout = -1 // boundedBody sees to it
	huma.Register(api, op, func(ctx context.Context, in *I) (*body[O], error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, problemOf(ctx, s.options.Log, err)
		}
		return &body[O]{Body: out}, nil
	})
}

func (s *Server) register(api huma.API) {
	s.registerApps(api)
	s.registerDeliveries(api)
	s.registerActions(api)
	s.registerTests(api)
	s.registerLogs(api)
	s.registerTicks(api)
	s.registerEvents(api)
	s.registerExec(api)
	s.registerSecrets(api)
	s.registerChannels(api)
}

func (s *Server) registerApps(api huma.API) {
	get(s, api, "list-apps", "/v1/apps", "All apps", func(ctx context.Context, _ *struct{}) (appsList, error) {
		apps, err := s.service.Apps(ctx)
		return appsList{Apps: apps}, err
	})
	get(s, api, "get-app", "/v1/apps/{app}", "What runs where", func(ctx context.Context, in *AppPath) (domain.AppStatus, error) {
		status, err := s.service.Status(ctx, in.App)
		return withoutSecrets(status), err
	})
	get(s, api, "list-commits", "/v1/apps/{app}/have", "Commits that need not be sent", func(ctx context.Context, in *AppPath) (commitsList, error) {
		commits, err := s.service.Have(ctx, in.App)
		return commitsList{Commits: commits}, err
	})
	get(s, api, "get-health", "/v1/health", "What the server knows of itself", func(ctx context.Context, _ *struct{}) (Health, error) {
		return s.service.Health(ctx)
	})
}

// withoutSecrets leaves the workloads out of what is shown of an app: the values of secret variables are among them.
func withoutSecrets(status domain.AppStatus) domain.AppStatus {
	if status.Hold != nil {
		hold := *status.Hold
		hold.Bad.Workloads = nil
		status.Hold = &hold
	}
	environments := make([]domain.EnvironmentStatus, len(status.Environments))
	for i, env := range status.Environments {
		if env.Release != nil {
			release := *env.Release
			release.Workloads = nil // whoever wants to know what runs sees instances and routes
			env.Release = &release
		}
		environments[i] = env
	}
	status.Environments = environments
	return status
}

func (s *Server) registerDeliveries(api huma.API) {
	get(s, api, "list-deliveries", "/v1/apps/{app}/deliveries", "Deliveries, newest first", func(ctx context.Context, in *struct {
		AppPath
		Limit int `query:"limit" default:"20" minimum:"1" maximum:"1000"`
	},
	) (deliveriesList, error) {
		list, err := s.service.Deliveries(ctx, in.App, in.Limit)
		return deliveriesList{Deliveries: list}, err
	})
	get(s, api, "get-delivery", "/v1/apps/{app}/deliveries/{number}", "One delivery", func(ctx context.Context, in *DeliveryPath) (domain.Delivery, error) {
		return s.service.Delivery(ctx, in.App, in.number())
	})
	get(s, api, "get-evidence", "/v1/apps/{app}/deliveries/{number}/evidence", "What is signed about it, to be verified anywhere",
		func(ctx context.Context, in *DeliveryPath) (domain.Evidence, error) {
			return s.service.Evidence(ctx, in.App, in.number())
		})
	get(s, api, "explain-delivery", "/v1/apps/{app}/deliveries/{number}/explain", "Why it ended as it did",
		func(ctx context.Context, in *DeliveryPath) (domain.Explanation, error) {
			return s.service.Explain(ctx, in.App, in.number())
		})
	get(s, api, "get-changes", "/v1/apps/{app}/deliveries/{number}/changes", "What it brings beside what serves in production",
		func(ctx context.Context, in *DeliveryPath) (Changes, error) {
			return s.service.Changes(ctx, in.App, in.number())
		})
	s.registerAnswers(api)
	operation(s, api, huma.Operation{
		OperationID: "ship", Method: http.MethodPost, Path: "/v1/apps/{app}/deliveries", Summary: "Deliver a commit",
		DefaultStatus: http.StatusCreated,
		RequestBody: &huma.RequestBody{
			Description: "A git bundle that holds the commit; empty when the server holds it already.",
			Content:     map[string]*huma.MediaType{bundleType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
		},
	}, s.ship)
}

// answerInput is what a person says about a delivery, and why.
type answerInput struct {
	DeliveryPath
	Body struct {
		Reason string `json:"reason,omitempty" maxLength:"1000"`
	}
}

// approveInput is a person's yes, and what it is about.
type approveInput struct {
	DeliveryPath
	Body struct {
		Reason string `json:"reason,omitempty" maxLength:"1000"`
		Digest string `json:"digest,omitempty" maxLength:"200" doc:"The artifact that the person was shown: another one is refused."`
		Gate   string `json:"gate,omitempty" enum:"approvals,way back,window,evidence" doc:"What it answers; empty is what the delivery asks, where that needs no name."`
	}
}

func (s *Server) registerAnswers(api huma.API) {
	post(s, api, "approve-delivery", "/v1/apps/{app}/deliveries/{number}/approve", "Agree with what a delivery waits for; on the unix socket only",
		func(ctx context.Context, in *approveInput) (domain.Delivery, error) {
			if err := s.mayApprove(ctx); err != nil {
				return domain.Delivery{}, err
			}
			return s.service.Approve(ctx, Answer{App: in.App, Number: in.number(), Gate: in.Body.Gate, Digest: in.Body.Digest, By: by(ctx), Reason: in.Body.Reason})
		})
	for _, a := range []struct {
		verb, summary string
		do            func(ctx context.Context, app string, number int, by, reason string) (domain.Delivery, error)
	}{
		{"cancel", "End a delivery: reject it, or roll it back", s.service.Cancel},
		{"reject", "Say no to what a delivery waits for: it ends", s.service.Reject},
	} {
		post(s, api, a.verb+"-delivery", "/v1/apps/{app}/deliveries/{number}/"+a.verb, a.summary,
			func(ctx context.Context, in *answerInput) (domain.Delivery, error) {
				return a.do(ctx, in.App, in.number(), by(ctx), in.Body.Reason)
			})
	}
}

// shipInput is a commit handed over. The bundle is not read before the service does.
type shipInput struct {
	AppPath
	Commit  string `query:"commit" required:"true" pattern:"^([0-9a-f]{40}|[0-9a-f]{64})$" doc:"Full SHA."`
	Folder  string `query:"folder" maxLength:"1000" doc:"Folder of belay.yaml within the repository."`
	From    string `query:"from" maxLength:"1000" doc:"Address of a running app to take over as stable."`
	Urgent  string `query:"urgent" maxLength:"1000" doc:"Why it goes before all others; empty for an ordinary delivery."`
	Key     string `header:"Idempotency-Key" maxLength:"200" doc:"A repeated request with the same key answers with the first one's delivery."`
	request *http.Request
}

// Resolve keeps the request, whose body is the bundle.
func (in *shipInput) Resolve(ctx huma.Context) []error {
	in.request, _ = humago.Unwrap(ctx)
	if in.request.ContentLength != 0 && in.request.Header.Get("Content-Type") != bundleType {
		return []error{&huma.ErrorDetail{Message: "a bundle is " + bundleType, Location: "header.Content-Type", Value: in.request.Header.Get("Content-Type")}}
	}
	return nil
}

func (s *Server) ship(ctx context.Context, in *shipInput) (domain.Delivery, error) {
	submission := Submission{App: in.App, Commit: in.Commit, Folder: in.Folder, By: by(ctx), Key: in.Key, From: in.From, Urgent: in.Urgent, Login: login(ctx)}
	bundle, sent := in.request.Body.(*boundedBody)
	if sent {
		submission.Bundle = bundle
	}
	d, err := s.service.Ship(ctx, submission)
	if err != nil && sent && bundle.large {
		return d, tooLarge()
	}
	return d, err
}

func (s *Server) registerActions(api huma.API) {
	post(s, api, "roll-back", "/v1/apps/{app}/rollback", "Go back", func(ctx context.Context, in *struct {
		AppPath
		Body struct {
			Environment domain.Environment `json:"environment" enum:"staging,production"`
			To          string             `json:"to,omitempty" maxLength:"200" doc:"Release or commit; empty is the release before."`
			Reason      string             `json:"reason,omitempty" maxLength:"1000"`
		}
	},
	) (domain.RollbackResult, error) {
		return s.service.Rollback(ctx, RollbackRequest{
			Accepted: time.Now(), App: in.App, Environment: in.Body.Environment, To: in.Body.To, By: by(ctx), Reason: in.Body.Reason,
		})
	})
	post(s, api, "plan", "/v1/apps/{app}/plan", "What would happen", func(ctx context.Context, in *struct {
		AppPath
		Body struct {
			Commit string `json:"commit" pattern:"^([0-9a-f]{40}|[0-9a-f]{64})$"`
			File   string `json:"file" doc:"belay.yaml as it is at the commit."`
		}
	},
	) (PlanView, error) {
		return s.service.Plan(ctx, PlanRequest{App: in.App, Commit: in.Body.Commit, File: []byte(in.Body.File)})
	})
	type change struct {
		Body struct {
			App    string     `json:"app,omitempty" maxLength:"40" pattern:"^([a-z][a-z0-9-]*)?$" doc:"Empty is the whole server."`
			Reason string     `json:"reason" minLength:"1" maxLength:"1000"`
			Until  *time.Time `json:"until,omitempty"`
		}
	}
	post(s, api, "freeze", "/v1/freeze", "Stop what would reach production", func(ctx context.Context, in *change) (domain.Frozen, error) {
		return s.service.Freeze(ctx, in.Body.App, by(ctx), in.Body.Reason, in.Body.Until)
	})
	post(s, api, "thaw", "/v1/thaw", "Lift a freeze, and the hold of an app", func(ctx context.Context, in *change) (struct{}, error) {
		if in.Body.Until != nil {
			return struct{}{}, domain.Errorf(domain.Invalid, "thaw: until: it is lifted for good")
		}
		return struct{}{}, s.service.Thaw(ctx, in.Body.App, by(ctx), in.Body.Reason, onSocket(ctx))
	})
}

// OpenAPI returns the description of the API, indented, as /openapi.json has it.
func (s *Server) OpenAPI() ([]byte, error) {
	api := s.newAPI(http.NewServeMux())
	s.register(api)
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(api.OpenAPI())
	return []byte(b.String()), err
}
