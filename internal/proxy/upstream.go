package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of a connection to an instance.
const (
	dialWithin   = 2 * time.Second
	answerWithin = 60 * time.Second // to the first byte of the answer
	askAfter     = time.Second      // that an instance takes to say whether it wants a body; then the client is asked for it
	idleFor      = 4 * time.Second  // shorter than the 5 s after which many servers close an idle connection
)

// Upstream carries a request to the instance that its URL names. It does not repeat a request of which a byte was
// written, unless the request is idempotent. Send is safe for concurrent use.
type Upstream interface {
	// Send answers the head of the response. wrote says whether any byte of the request may have reached the instance.
	Send(req *http.Request, a Attempt) (res *http.Response, wrote bool, err error)
}

// Attempt is one try of a request.
type Attempt struct {
	Fresh   bool        // on a new connection
	Begin   func() bool // is asked right before the request begins: false keeps every byte of it back, as errTakenBack
	Written func()      // is called after each Begin that said true, when the head of the request is on its way
	Interim func(code int, header textHeader) error
}

// errTakenBack means that the request may not begin on the instance any more.
var errTakenBack = errors.New("instance gets no more requests")

// netUpstream is an Upstream of net/http.
type netUpstream struct {
	pooled, fresh, h2c *http.Transport
}

func newNetUpstream() *netUpstream {
	pooled := &http.Transport{
		DialContext:            dialCounted,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        idleFor,
		ResponseHeaderTimeout:  answerWithin,
		ExpectContinueTimeout:  askAfter,
		MaxResponseHeaderBytes: 256 << 10,
		DisableCompression:     true,
	}
	fresh := pooled.Clone()
	fresh.DisableKeepAlives = true
	h2c := pooled.Clone()
	h2c.Protocols = new(http.Protocols)
	h2c.Protocols.SetUnencryptedHTTP2(true)
	return &netUpstream{pooled: pooled, fresh: fresh, h2c: h2c}
}

// Send sends one request with net/http. The context of req carries no trace: two would be composed by reflection.
func (u *netUpstream) Send(req *http.Request, a Attempt) (*http.Response, bool, error) {
	var conn *countedConn
	var before int64
	wrote := false
	d := &departure{Attempt: a}
	trace := &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			wrote = wrote || conn != nil && conn.written.Load() > before
			if conn, _ = info.Conn.(*countedConn); conn != nil {
				before = conn.written.Load()
				conn.note.Store(d)
			}
		},
		Got1xxResponse: a.Interim,
	}
	transport := u.pooled
	switch {
	case isGRPC(req):
		transport = u.h2c
		written, ok := d.early()
		if !ok {
			return nil, false, errTakenBack
		}
		defer written()
		trace.WroteHeaders = written
	case a.Fresh:
		transport = u.fresh
	}
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), trace))
	res, err := transport.RoundTrip(req)
	if err != nil && d.refused.Load() {
		return nil, false, errTakenBack
	}
	if err != nil {
		wrote = wrote || conn != nil && conn.written.Load() > before || transport == u.h2c && !isDial(err)
		return nil, wrote, err
	}
	if body, ok := res.Body.(io.ReadWriteCloser); ok && conn != nil {
		res.Body = &upgraded{ReadWriteCloser: body, conn: conn}
	}
	return res, wrote, nil
}

// textHeader is what net/http hands to a trace.
type textHeader = textproto.MIMEHeader

func isGRPC(req *http.Request) bool {
	return req.ProtoMajor == 2 && strings.HasPrefix(req.Header.Get("Content-Type"), "application/grpc")
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// departure is an attempt that waits for its first byte to be written.
type departure struct {
	Attempt
	asked   bool // already: its connection carries other requests, too, and is not to fail
	refused atomic.Bool
}

// early asks before there is a connection. written is to be called once at least.
func (d *departure) early() (written func(), ok bool) {
	if !d.begin() {
		return nil, false
	}
	d.asked = true
	return sync.OnceFunc(func() {
		if d.Written != nil {
			d.Written()
		}
	}), true
}

func (d *departure) begin() bool {
	if d.asked || d.Begin == nil || d.Begin() {
		return true
	}
	d.refused.Store(true)
	return false
}

func (d *departure) written() {
	if !d.asked && d.Written != nil {
		d.Written()
	}
}

// countedConn knows how many bytes were written to it: what says whether a request can have begun.
type countedConn struct {
	net.Conn
	written atomic.Int64
	note    atomic.Pointer[departure] // is asked at the first write: net/http says so before it flushes
}

func (c *countedConn) Write(p []byte) (int, error) {
	if c.note.Load() != nil {
		if d := c.note.Swap(nil); d != nil {
			if !d.begin() {
				return 0, errTakenBack
			}
			defer d.written()
		}
	}
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// CloseWrite half-closes the connection, as WebSockets end.
func (c *countedConn) CloseWrite() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// upgraded is a connection that changed its protocol, with a way to wake a Read that waits.
type upgraded struct {
	io.ReadWriteCloser
	conn net.Conn
}

// SetReadDeadline bounds the reads of the connection.
func (u *upgraded) SetReadDeadline(t time.Time) error { return u.conn.SetReadDeadline(t) }

// CloseWrite half-closes the connection.
func (u *upgraded) CloseWrite() error {
	if c, ok := u.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

func dialCounted(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialWithin, KeepAlive: 15 * time.Second}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn}, nil
}
