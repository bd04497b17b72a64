package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/belay-cd/belay/internal/domain"
)

// stream registers a question whose answer has no end of its own, in a content type that is not JSON.
func stream[I any](s *Server, api huma.API, op huma.Operation, contentType string, f func(ctx context.Context, in *I, out *streamWriter) error) {
	op.Method = http.MethodGet
	op.Responses = map[string]*huma.Response{"200": {
		Description: "OK", Content: map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	huma.Register(api, op, func(_ context.Context, in *I) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			ctx, stop := s.untilClosing(r.Context())
			defer stop()
			out := &streamWriter{w: w, control: http.NewResponseController(w), contentType: contentType, patience: s.options.WriteTimeout}
			err := f(ctx, in, out)
			if err != nil && !out.begun {
				writeProblem(w, problemOf(ctx, s.options.Log, err))
				return
			}
			if err != nil && ctx.Err() == nil {
				panic(http.ErrAbortHandler) // a cut-off answer must not look like a whole one
			}
			if !out.begun {
				_, _ = out.Write(nil) // an empty answer is one too
			}
		}}, nil
	})
}

// errSlow is a reader that has stood still for too long. It is dropped, and comes back where it was.
var errSlow = errors.New("the reader is too slow")

// streamWriter sends each write at once. Nothing is kept for a reader that stands still beyond the kernel's own buffers.
type streamWriter struct {
	w           http.ResponseWriter
	control     *http.ResponseController
	contentType string
	patience    time.Duration

	mu    sync.Mutex
	begun bool
}

func (o *streamWriter) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.begun {
		o.begun = true
		o.w.Header().Set("Content-Type", o.contentType)
		o.w.Header().Set("X-Accel-Buffering", "no") // a reverse proxy must not collect it
		o.w.WriteHeader(http.StatusOK)
	}
	if err := o.control.SetWriteDeadline(time.Now().Add(o.patience)); err != nil {
		return 0, err
	}
	n, err := o.w.Write(p)
	if err == nil {
		err = o.control.Flush()
	}
	if err != nil {
		return n, fmt.Errorf("%w: %w", errSlow, err)
	}
	return n, nil
}

// LogsQuery is the part of a query that both kinds of logs share.
type LogsQuery struct {
	Follow bool      `query:"follow" doc:"Go on until the delivery has ended."`
	Since  time.Time `query:"since" doc:"Leave out what is older."`
}

func (s *Server) registerLogs(api huma.API) {
	logs := func(ctx context.Context, q LogQuery, out *streamWriter) error { return s.service.Logs(ctx, q, out) }
	stream(s, api, huma.Operation{
		OperationID: "get-delivery-logs", Path: "/v1/apps/{app}/deliveries/{number}/logs", Summary: "What the stages of a delivery logged",
	}, "text/plain; charset=utf-8", func(ctx context.Context, in *struct {
		DeliveryPath
		LogsQuery
		Stage string `query:"stage" maxLength:"40" doc:"One stage; all without."`
	}, out *streamWriter,
	) error {
		return logs(ctx, LogQuery{App: in.App, Delivery: in.number(), Stage: in.Stage, Follow: in.Follow, Since: in.Since}, out)
	})
	stream(s, api, huma.Operation{
		OperationID: "get-role-logs", Path: "/v1/apps/{app}/logs", Summary: "What the instances of a role logged",
	}, "text/plain; charset=utf-8", func(ctx context.Context, in *struct {
		AppPath
		LogsQuery
		Role string `query:"role" required:"true" maxLength:"40" pattern:"^[a-z][a-z0-9-]*$"`
	}, out *streamWriter,
	) error {
		return logs(ctx, LogQuery{App: in.App, Role: in.Role, Follow: in.Follow, Since: in.Since}, out)
	})
}

type eventsInput struct {
	After       int64    `query:"after" minimum:"-1" default:"-1" doc:"Number of the last event that is known; without it only new ones come."`
	LastEventID int64    `header:"Last-Event-ID" minimum:"-1" default:"-1" doc:"The same, as browsers say it when they come back; the greater counts."`
	App         string   `query:"app" maxLength:"40" pattern:"^[a-z][a-z0-9-]*$"`
	Delivery    int      `query:"delivery" minimum:"0"`
	Types       []string `query:"type,explode" maxItems:"50"`
}

func (s *Server) registerEvents(api huma.API) {
	stream(s, api, huma.Operation{
		OperationID: "stream-events", Path: "/v1/events", Summary: "Events as they happen",
		Description: "Server-sent events. The id of each is its number: a client that was cut off goes on after the last one it has seen.",
	}, "text/event-stream", s.events)
}

func (s *Server) events(ctx context.Context, in *eventsInput, out *streamWriter) error {
	after := max(in.After, in.LastEventID)
	if after < 0 {
		last, err := s.service.LastEvent(ctx)
		if err != nil {
			return err
		}
		after = last
	}
	s.metrics.readers.Inc()
	defer s.metrics.readers.Dec()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if _, err := out.Write([]byte(": belay\n\n")); err != nil {
		return err
	}
	var beats sync.WaitGroup
	beats.Go(func() {
		for tick := time.NewTicker(s.options.Heartbeat); ; {
			select {
			case <-tick.C:
				if _, err := out.Write([]byte(": still here\n\n")); err != nil {
					stop(err)
				}
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	})
	err := s.service.Events(ctx, after, EventFilter{App: in.App, Delivery: in.Delivery, Types: in.Types}, func(e domain.Event) error {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "id: %d\ndata: %s\n\n", e.Seq, data); err != nil {
			return err
		}
		s.metrics.lag.Set(time.Since(e.At).Seconds())
		return nil
	})
	if errors.Is(err, errSlow) || errors.Is(context.Cause(ctx), errSlow) {
		s.metrics.dropped.Inc()
	}
	stop(nil)
	beats.Wait() // nothing may write once the answer has ended
	return err
}
