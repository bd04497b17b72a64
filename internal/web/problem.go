package web

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/belay-cd/belay/internal/domain"
)

// Problem is every error answer (RFC 9457), with the code and the hint that all surfaces share.
type Problem struct { //nolint:errname // the name that RFC 9457 gives it
	Type   string              `json:"type" doc:"About what kind of problem; the code says more." example:"about:blank"`
	Title  string              `json:"title" doc:"The HTTP status in words."`
	Status int                 `json:"status"`
	Detail string              `json:"detail" doc:"What happened and why, in one line."`
	Code   domain.Code         `json:"code" enum:"failed,invalid,not_found,unavailable,waiting,rolled_back,refused,conflict,rejected,superseded,expired,denied"`
	Hint   string              `json:"hint,omitempty" doc:"What to do next."`
	Errors []*huma.ErrorDetail `json:"errors,omitempty" doc:"Each part of the request that is wrong."`
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns the type of a problem in JSON.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func newProblem(status int, code domain.Code, detail, hint string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Code: code, Hint: hint}
}

// statusOf returns the HTTP status of a code.
func statusOf(code domain.Code) int {
	switch code {
	case domain.Invalid:
		return http.StatusUnprocessableEntity
	case domain.NotFound:
		return http.StatusNotFound
	case domain.Unavailable:
		return http.StatusServiceUnavailable
	case domain.Refused, domain.Denied:
		return http.StatusForbidden
	case domain.Waiting, domain.RolledBack, domain.Conflict, domain.Rejected, domain.Superseded, domain.Expired:
		return http.StatusConflict
	case domain.Failed:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

// codeOf classifies an answer of the HTTP layer.
func codeOf(status int) domain.Code {
	switch {
	case status == http.StatusNotFound:
		return domain.NotFound
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return domain.Denied
	case status >= 400 && status < 500:
		return domain.Invalid
	}
	return domain.Failed
}

// problemOf turns an error into what the caller sees. An error without a code is for the operator: the caller learns only that
// there was one.
func problemOf(ctx context.Context, log *slog.Logger, err error) *Problem {
	var ready *Problem
	if errors.As(err, &ready) {
		return ready
	}
	var known *domain.Error
	if errors.As(err, &known) {
		return newProblem(statusOf(known.Code), known.Code, err.Error(), known.Hint)
	}
	if ctx.Err() != nil {
		return newProblem(http.StatusServiceUnavailable, domain.Unavailable, "the request was ended before its answer", "")
	}
	log.ErrorContext(ctx, "request failed", "error", err)
	return newProblem(http.StatusInternalServerError, domain.Failed, "internal error", "the log of belay serve says more")
}

// writeProblem answers with p where nothing was written yet.
func writeProblem(w http.ResponseWriter, p *Problem) {
	body, err := json.Marshal(p)
	if err != nil {
		body = []byte("{}")
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // whoever has gone hears nothing
}

// asProblem makes the errors that the HTTP layer finds by itself look like all others.
func asProblem(_ huma.Context, _ string, v any) (any, error) {
	if e, ok := v.(*huma.ErrorModel); ok {
		p := newProblem(e.Status, codeOf(e.Status), e.Detail, "")
		p.Errors = e.Errors
		return p, nil
	}
	return v, nil
}
