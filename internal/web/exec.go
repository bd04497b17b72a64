package web

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/belay-cd/belay/internal/domain"
)

// The first byte of each binary frame of an exec connection says what the rest is.
const (
	FrameStdin       byte = iota // client: bytes for the command
	FrameStdout                  // server: bytes from the command
	FrameStderr                  // server: bytes from the command
	FrameExit                    // server, last: the exit code in JSON, or {"code", "error", "hint"} when there is none
	FrameStdinClosed             // client: no more bytes come
)

// maxFrame bounds a frame from the client.
const maxFrame = 1 << 20

type execInput struct {
	AppPath
	Environment domain.Environment `query:"environment" required:"true" enum:"staging,production"`
	Argv        []string           `query:"argv,explode" required:"true" minItems:"1" maxItems:"1000" doc:"The command, one value per word."`
}

func (s *Server) registerExec(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "exec", Method: http.MethodGet, Path: "/v1/apps/{app}/exec", Summary: "Run a one-off command in the stable release",
		Description: "A WebSocket of binary frames. The first byte says what the rest is: 0 stdin, 1 stdout, 2 stderr, 3 the exit code " +
			"in JSON or an error with code, error and hint, 4 stdin is closed.",
		Responses: map[string]*huma.Response{"101": {Description: "Switching Protocols"}},
	}, func(_ context.Context, in *execInput) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			s.exec(w, r, in)
		}}, nil
	})
}

func (s *Server) exec(w http.ResponseWriter, r *http.Request, in *execInput) {
	if r.Header.Get("Upgrade") == "" {
		w.Header().Set("Upgrade", "websocket")
		writeProblem(w, newProblem(http.StatusUpgradeRequired, domain.Invalid, "exec: the streams of a command need a WebSocket", "use belay exec"))
		return
	}
	conn, err := websocket.Accept(w, r, nil) // answers by itself when it fails, also to a page of another site
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(maxFrame)
	ctx, stop := s.untilClosing(context.WithoutCancel(r.Context())) // the connection is no longer the HTTP server's
	defer stop()
	stdin, feed := io.Pipe()
	defer func() { _ = stdin.Close() }()
	go func() {
		defer stop() // who has gone needs no command
		receive(ctx, conn, feed)
	}()
	go func() {
		defer stop()
		ticker := time.NewTicker(s.options.Heartbeat)
		defer ticker.Stop()
		for { // a command that does not read its input would hide that the client has gone
			select {
			case <-ticker.C:
				if _, err := (frames{ctx, conn, FrameStdout}).Write(nil); err != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	code, err := s.service.Exec(ctx, ExecRequest{App: in.App, Environment: in.Environment, Argv: in.Argv, By: by(r.Context())},
		stdin, frames{ctx, conn, FrameStdout}, frames{ctx, conn, FrameStderr})
	last, encoded := json.Marshal(code)
	if err != nil {
		p := problemOf(ctx, s.options.Log, err)
		last, encoded = json.Marshal(map[string]any{"code": p.Code, "error": p.Detail, "hint": p.Hint})
	}
	if encoded == nil {
		_, _ = frames{ctx, conn, FrameExit}.Write(last) // whoever has gone hears nothing
	}
	_ = conn.Close(websocket.StatusNormalClosure, "")
}

// receive feeds stdin until the connection ends. A command that does not read holds up the client, and nobody else.
func receive(ctx context.Context, conn *websocket.Conn, stdin *io.PipeWriter) {
	defer func() { _ = stdin.CloseWithError(io.ErrUnexpectedEOF) }()
	for {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			return
		}
		switch {
		case len(frame) == 0:
		case frame[0] == FrameStdinClosed:
			_ = stdin.Close()
		case frame[0] == FrameStdin:
			_, _ = stdin.Write(frame[1:]) // the command may have stopped reading, which is its own affair
		}
	}
}

// frames sends what is written as frames of one kind.
type frames struct {
	ctx  context.Context //nolint:containedctx // io.Writer has no place for it, and this lives as long as one request
	conn *websocket.Conn
	kind byte
}

func (f frames) Write(p []byte) (int, error) {
	const most = 32<<10 - 1 // with its first byte, what a client takes unasked
	for sent := 0; ; {
		n := min(len(p)-sent, most)
		frame := append([]byte{f.kind}, p[sent:sent+n]...)
		if err := f.conn.Write(f.ctx, websocket.MessageBinary, frame); err != nil {
			return sent, err
		}
		if sent += n; sent == len(p) {
			return sent, nil
		}
	}
}
