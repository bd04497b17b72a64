package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/coder/websocket"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/web"
)

// execFrame bounds one frame in either direction.
const execFrame = 1 << 20

// Streams are the three streams of a command.
type Streams struct {
	In       io.Reader // nil is closed at once
	Out, Err io.Writer
}

// Exec runs a one-off command in the stable release of an environment and returns its exit code.
func (c *Client) Exec(ctx context.Context, app string, env domain.Environment, argv []string, s Streams) (int, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop() // ends the copy of stdin
	query := url.Values{"environment": {string(env)}, "argv": argv}
	header := http.Header{}
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
	//nolint:bodyclose // the library closes it, and replaces it by what was read of it
	conn, res, err := websocket.Dial(ctx, c.base+path("apps", app, "exec")+"?"+query.Encode(),
		&websocket.DialOptions{HTTPClient: c.http, HTTPHeader: header})
	if err != nil {
		// A nil answer means that nothing came back; the library leaves the body of a refusal readable.
		if res != nil && res.StatusCode != http.StatusSwitchingProtocols {
			return 0, c.problem(res, false)
		}
		return 0, c.unreachable(ctx, err, false)
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(2 * execFrame)
	go sendStdin(ctx, conn, s.In)
	for {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			if status := closeReason(err); status != "" {
				return 0, domain.Errorf(domain.Failed, "%s", status)
			}
			return 0, domain.Errorf(domain.Unavailable, "server %s went away: the command may still run: %w", c.address, err)
		}
		if len(frame) == 0 {
			continue
		}
		code, ended, err := receive(frame[0], frame[1:], s)
		if err != nil || ended {
			_ = conn.Close(websocket.StatusNormalClosure, "") // all that matters has been said
			return code, err
		}
	}
}

// receive acts on one frame of the server.
func receive(kind byte, body []byte, s Streams) (code int, ended bool, err error) {
	switch kind {
	case web.FrameStdout:
		_, err = s.Out.Write(body)
	case web.FrameStderr:
		_, err = s.Err.Write(body)
	case web.FrameExit:
		code, err = exitCode(body)
		return code, true, err
	}
	return 0, false, err
}

// exitCode reads the last frame: a number, or an error with its code and hint.
func exitCode(body []byte) (int, error) {
	var n int
	if json.Unmarshal(body, &n) == nil {
		return n, nil
	}
	var e struct {
		Code  domain.Code `json:"code"`
		Error string      `json:"error"`
		Hint  string      `json:"hint"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return 0, domain.Errorf(domain.Failed, "exit code %q: %w", body, err)
	}
	return 0, domain.Errorf(e.Code, "%s", e.Error).WithHint("%s", e.Hint)
}

func closeReason(err error) string {
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		return closed.Reason
	}
	return ""
}

// sendStdin copies in to the command, then says that it is closed. Errors show at the reading side.
func sendStdin(ctx context.Context, conn *websocket.Conn, in io.Reader) {
	buf := make([]byte, 32<<10)
	buf[0] = web.FrameStdin
	for in != nil {
		n, err := in.Read(buf[1:])
		if n > 0 && conn.Write(ctx, websocket.MessageBinary, buf[:1+n]) != nil {
			return
		}
		if err != nil {
			break
		}
	}
	_ = conn.Write(ctx, websocket.MessageBinary, []byte{web.FrameStdinClosed})
}
