package web

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
)

// What a test run is asked for and tells, in the words of the control plane.
type (
	// TestRequest is a commit handed over to be tested before its merge.
	TestRequest = delivery.TestRequest
	// TestEvent is one fact about a test run.
	TestEvent = delivery.TestEvent
	// TestVerdict is what a run came to.
	TestVerdict = delivery.Verdict
	// TestFailure is one test that failed.
	TestFailure = delivery.Failure
)

// testType is the content type of a test run's answer: one JSON document a line.
const testType = "application/x-ndjson"

// TestLine is one line of a test run's answer: an event, or the error that ended it without a verdict. An empty line only says
// that the run goes on.
type TestLine struct {
	TestEvent
	Error *Problem `json:"error,omitempty" doc:"Why there is no verdict; the last line."`
}

// testInput is a commit to be tested. The bundle is not read before the service does.
type testInput struct {
	AppPath
	Commit  string `query:"commit" required:"true" pattern:"^([0-9a-f]{40}|[0-9a-f]{64})$" doc:"Full SHA."`
	Folder  string `query:"folder" maxLength:"1000" doc:"Folder of belay.yaml within the repository."`
	Level   string `query:"level" enum:"unit,integration,e2e" doc:"This level alone."`
	All     bool   `query:"all" doc:"Run what the change does not touch, too."`
	request *http.Request
}

// Resolve keeps the request, whose body is the bundle.
func (in *testInput) Resolve(ctx huma.Context) []error {
	bundle := shipInput{}
	problems := bundle.Resolve(ctx)
	in.request = bundle.request
	return problems
}

func (s *Server) registerTests(api huma.API) {
	line := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[TestLine](), true, "TestLine")
	huma.Register(api, huma.Operation{
		OperationID: "test-commit", Method: http.MethodPost, Path: "/v1/apps/{app}/tests", Summary: "Build and test a commit before its merge",
		Description: "Runs the stages build and test alone. The answer comes line by line while they run; it ends with a verdict or an error. " +
			"Whoever closes the connection ends the run.",
		BodyReadTimeout: -1, // boundedBody sees to it
		RequestBody: &huma.RequestBody{
			Description: "A git bundle that holds the commit; empty when the server holds it already.",
			Content:     map[string]*huma.MediaType{bundleType: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}},
		},
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{testType: {Schema: line}}}},
	}, func(_ context.Context, in *testInput) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			ctx, stop := s.untilClosing(r.Context())
			defer stop()
			s.test(ctx, w, in)
		}}, nil
	})
}

// test streams one run. Until its first fact it is answered like any other request.
func (s *Server) test(ctx context.Context, w http.ResponseWriter, in *testInput) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := &streamWriter{w: w, control: http.NewResponseController(w), contentType: testType, patience: s.options.WriteTimeout}
	send := func(l TestLine) {
		body, err := json.Marshal(l)
		if err == nil {
			_, err = out.Write(append(body, '\n'))
		}
		if err != nil {
			cancel(err) // nobody reads it any more
		}
	}
	request := TestRequest{App: in.App, Commit: in.Commit, Folder: in.Folder, Level: in.Level, All: in.All, By: by(ctx)}
	bundle, sent := in.request.Body.(*boundedBody)
	if sent {
		request.Bundle = bundle
	}
	var beats sync.WaitGroup
	over := make(chan struct{})
	begun := sync.OnceFunc(func() { beats.Go(func() { s.beat(out, over, cancel) }) })
	err := s.service.Test(ctx, request, func(e TestEvent) {
		send(TestLine{TestEvent: e})
		begun()
	})
	close(over)
	beats.Wait() // nothing may write once the answer has ended
	switch {
	case err == nil:
	case !out.begun && sent && bundle.large:
		writeProblem(w, tooLarge())
	case !out.begun:
		writeProblem(w, problemOf(ctx, s.options.Log, err))
	default:
		send(TestLine{TestEvent: TestEvent{Type: "error", At: time.Now().UTC()}, Error: s.ended(ctx, err)})
	}
}

// ended says why a run that had begun has no verdict.
func (s *Server) ended(ctx context.Context, err error) *Problem {
	select {
	case <-s.closing:
		return newProblem(http.StatusServiceUnavailable, domain.Unavailable, "the server stops: the test run ended with it, and left nothing",
			"belay test again, when it is back")
	default:
		return problemOf(ctx, s.options.Log, err)
	}
}

// beat writes empty lines, so that both ends notice when the other has gone.
func (s *Server) beat(out *streamWriter, over <-chan struct{}, gone context.CancelCauseFunc) {
	ticker := time.NewTicker(s.options.Heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-over:
			return
		case <-ticker.C:
			if _, err := out.Write([]byte("\n")); err != nil {
				gone(err)
				return
			}
		}
	}
}
