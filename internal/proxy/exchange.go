package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// exchange is one request and its answer.
type exchange struct {
	plane  *plane
	in     *http.Request
	out    http.Header // of the answer
	secure bool

	route *route
	side  domain.Side // whose the draw made it
	home  *backend    // of that side
	on    *backend    // where it runs now: home, or stable for a request that next could not serve
	inst  *instance
	unit  unit
	meter *meter // nil for requests of checks

	started  time.Time
	latency  time.Duration // to the first byte of the answer, -1 before it
	pending  atomic.Bool   // counted in home.starting
	body     *replayBody
	answer   *answerBody
	stream   *stream
	status   int
	flowing  bool // the answer has begun
	unserved bool
	counted  bool
	whole    bool // the answer was passed on to its end
}

// errNoInstance means that a release has no instance at all.
var errNoInstance = errors.New("no instance")

// serve runs the request on the backend that it was drawn for. The caller has counted it in.
func (x *exchange) serve(w http.ResponseWriter) {
	x.on, x.out, x.latency = x.home, w.Header(), -1
	x.pending.Store(true)
	x.started = time.Now()
	x.home.first.Store(x.started.UnixNano())
	if x.meter != nil {
		x.meter.open.Add(1)
		x.meter.begin(x.in, &x.unit)
	}
	defer x.finish() // also when the answer broke off and ServeHTTP panics to cut the connection
	if isUpgrade(x.in.Header) && !isWebSocket(x.in.Header) {
		x.in.Header.Del("Upgrade")
		x.in.Header.Del("Http2-Settings")
	}
	proxy := httputil.ReverseProxy{
		Rewrite: x.rewrite, Transport: x, ModifyResponse: x.modify, BufferPool: &x.plane.buffers,
		ErrorLog: x.plane.quiet,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			x.fail(w, err)
		},
	}
	proxy.ServeHTTP(w, x.in)
	x.whole = true
}

func (x *exchange) rewrite(pr *httputil.ProxyRequest) {
	pr.Out.URL.Scheme, pr.Out.URL.Host = "http", "instance"
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery // as it came, also where it does not parse
	pr.Out.URL.ForceQuery = pr.In.URL.ForceQuery
	pr.Out.Trailer = pr.In.Trailer // filled in while the body is read
	if _, ok := pr.In.Header["User-Agent"]; !ok {
		pr.Out.Header["User-Agent"] = nil
	}
	forward(pr, x.secure, trusts(x.plane.Trusted, pr.In))
	if pr.Out.Body != nil {
		x.body = &replayBody{src: pr.Out.Body}
	}
}

// RoundTrip finds an answer: on the release that the request was drawn for, and where next cannot serve it, on stable.
func (x *exchange) RoundTrip(out *http.Request) (*http.Response, error) {
	var interim func(int, textHeader) error
	if t := httptrace.ContextClientTrace(out.Context()); t != nil {
		interim = x.interim(t.Got1xxResponse)
	}
	out = out.WithContext(x.in.Context())
	res, again, err := x.try(out, interim)
	if err != nil && again && x.side == domain.Next && x.meter != nil && x.in.Context().Err() == nil {
		if stable := x.route.stable; stable != nil {
			x.unserved = !errors.Is(err, errTakenBack) // then next was not even asked
			x.move(stable)
			res, _, err = x.try(out, interim)
		}
	}
	if err == nil && res.StatusCode == http.StatusNotFound {
		res = x.skew(out, res)
	}
	return res, err
}

// move counts the request on another release of its route.
func (x *exchange) move(to *backend) {
	x.settle()
	to.open.Add(1)
	x.on.end()
	x.on = to
	x.on.first.Store(time.Now().UnixNano())
}

// tries is how often a request is sent at most on one release.
const tries = 3

// try sends the request to the instances of the present release. again says whether it may be sent elsewhere after an error.
func (x *exchange) try(out *http.Request, interim func(int, textHeader) error) (res *http.Response, again bool, err error) {
	var tried []*instance
	fresh := false
	err = errNoInstance
	for range tries {
		inst := x.take(tried)
		if inst == nil {
			return nil, true, err
		}
		req := x.attempt(out, inst)
		if req == nil {
			inst.open.Add(-1)
			return nil, false, err
		}
		x.inst = inst
		var wrote bool
		res, wrote, err = x.plane.Upstream.Send(req, x.departing(fresh || inst.hasty.Load(), interim))
		if err == nil {
			inst.notice(res)
			return res, false, nil
		}
		inst.open.Add(-1)
		x.inst = nil
		if x.in.Context().Err() != nil {
			return nil, false, err
		}
		if errors.Is(err, errTakenBack) {
			return nil, true, err
		}
		inst.eject()
		tried = append(tried, inst)
		switch {
		case !wrote:
		case x.repeatable() && !fresh && !isTimeout(err):
			fresh = true
		default:
			return nil, x.repeatable() && !isTimeout(err), err
		}
		if x.lost(x.on.release) {
			return nil, true, err
		}
	}
	return nil, true, err
}

// take counts the request in on an instance of its release, one that was not tried if there is one. An instance that left
// the table since the draw is taken only when its whole release did. Nil means that there is none at all.
func (x *exchange) take(tried []*instance) *instance {
	for n := 1; ; n++ {
		inst := x.on.pick(tried)
		if inst == nil {
			inst = x.on.pick(nil)
		}
		if inst == nil {
			return nil
		}
		inst.open.Add(1)
		if !inst.left.Load() || n == tries {
			return inst
		}
		inst.open.Add(-1)
		if now := x.plane.table.Load().routes[x.route.key]; now != nil {
			for _, b := range []*backend{now.stable, now.next} {
				if b != nil && b.release == x.on.release {
					x.on = b
				}
			}
		}
	}
}

// departing is an attempt on the present release, which must not begin after a change that takes the traffic away was
// answered: a request that was drawn before may have waited long for a connection, or for the processor.
func (x *exchange) departing(fresh bool, interim func(int, textHeader) error) Attempt {
	to := x.on.release // the connection may ask when the exchange has moved on
	return Attempt{
		Fresh: fresh, Interim: interim,
		Begin: func() bool {
			return to.depart(func() bool { return !x.lost(to) })
		},
		Written: func() {
			to.departing.Add(-1)
			x.settle()
		},
	}
}

// lost reports whether the route has taken its traffic away from the release since the draw.
func (x *exchange) lost(to *release) bool {
	if x.meter == nil || x.side != domain.Next || to != x.home.release {
		return false
	}
	now := x.plane.table.Load().routes[x.route.key]
	return now == nil || now.next == nil || now.next.id != x.home.id || !now.takes(domain.Next)
}

// attempt is the outgoing request for one instance, nil when its body is gone.
func (x *exchange) attempt(out *http.Request, inst *instance) *http.Request {
	req := *out
	req.Close = req.Close || x.expects() // else net/http asks for the body after a final answer, to keep the connection
	url := *out.URL
	url.Host = inst.addr
	req.URL = &url
	if x.body != nil {
		view := x.body.view()
		if view == nil {
			return nil
		}
		req.Body = view
	}
	return &req
}

// interim passes interim answers on by tell, but for a 100: the server says it when the body is first asked for, which may be
// before the instance does, and must be once.
func (x *exchange) interim(tell func(int, textHeader) error) func(int, textHeader) error {
	if tell == nil {
		return nil
	}
	return func(code int, h textHeader) error {
		if code == http.StatusContinue {
			return nil
		}
		if x.expects() {
			if !x.body.mu.TryLock() {
				return nil // the server may be writing its 100 at this moment: a hint is not worth two in one
			}
			defer x.body.mu.Unlock()
		}
		return tell(code, h)
	}
}

// expects reports whether the client waits for a 100 before it sends its body.
func (x *exchange) expects() bool {
	return x.body != nil && len(x.in.Header["Expect"]) > 0
}

// repeatable reports whether a request that may have reached an instance can be sent again.
func (x *exchange) repeatable() bool {
	switch x.in.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return x.body == nil && !isUpgrade(x.in.Header)
	}
	return false
}

// modify sees the head of the answer before the client does.
func (x *exchange) modify(res *http.Response) error {
	x.latency = time.Since(x.started)
	x.status = res.StatusCode
	x.plane.label(res.Header, x.on)
	if isUpgrade(x.in.Header) && res.StatusCode != http.StatusSwitchingProtocols {
		x.out.Set("Connection", "close") // what follows on it was not checked
	}
	if x.unit.cookie != "" && !isShared(res.Header) {
		c := http.Cookie{ //nolint:gosec // secure wherever the request was; plain http has to keep its visitors too
			Name: x.route.cookie, Value: x.unit.cookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: x.secure,
		}
		res.Header.Add("Set-Cookie", c.String())
	}
	x.answer = &answerBody{ReadCloser: res.Body}
	x.flowing = true
	x.on.flowing.Add(1)
	x.inst.flowing.Add(1)
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		conn, ok := res.Body.(io.ReadWriteCloser)
		if !ok {
			return errors.New("upgraded connection cannot be written")
		}
		socket := newSocketBody(conn)
		res.Body = socket
		x.follow(socket.finish)
	case isEvents(res.Header):
		events := &eventBody{ReadCloser: res.Body}
		res.Body = events
		x.follow(events.finish)
	default:
		res.Body = x.answer
	}
	return nil
}

// follow makes the exchange a stream: it is counted now, and a drain can finish it.
func (x *exchange) follow(finish func(within time.Duration)) {
	x.stream = &stream{inst: x.inst, finish: finish}
	x.on.addStream(x.stream)
	x.count()
}

// fail answers for the instances that could not.
func (x *exchange) fail(w http.ResponseWriter, err error) {
	x.unserved = true
	x.status = http.StatusBadGateway
	switch {
	case isTimeout(err):
		x.status = http.StatusGatewayTimeout
	case errors.Is(err, errNoInstance):
		x.status = http.StatusServiceUnavailable
	}
	x.plane.label(w.Header(), x.home)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if isUpgrade(x.in.Header) {
		x.out.Set("Connection", "close")
	}
	w.WriteHeader(x.status)
	_, _ = io.WriteString(w, strings.ToLower(http.StatusText(x.status))+"\n") // the client may be gone
}

// settle says that the request is on its way, or will never be.
func (x *exchange) settle() {
	if x.pending.CompareAndSwap(true, false) {
		x.home.starting.Add(-1)
	}
}

// finish counts the request out.
func (x *exchange) finish() {
	x.settle()
	if x.stream != nil {
		x.on.removeStream(x.stream)
	}
	if x.flowing {
		x.on.flowing.Add(-1)
		x.inst.flowing.Add(-1)
	}
	if x.inst != nil {
		x.inst.open.Add(-1)
	}
	x.count()
	x.on.end()
	if x.meter != nil {
		x.meter.open.Add(-1)
	}
}

// count measures the request once: a stream when it begins, all else when it ends. A client that went away before the
// answer counts with the time it waited.
func (x *exchange) count() {
	if x.meter == nil || x.counted {
		return
	}
	x.counted = true
	gone := x.in.Context().Err() != nil
	outcome := measure.Served
	switch {
	case gone && x.latency < 0:
		x.latency = time.Since(x.started)
	case x.unserved, x.answer != nil && x.answer.broke && !gone:
		outcome = measure.Unserved
	case x.status >= http.StatusInternalServerError:
		outcome = measure.Errored
	}
	x.meter.record(&x.unit, outcome, x.latency)
}

func idOf(b *backend) string {
	if b == nil {
		return ""
	}
	return b.id
}

func isTimeout(err error) bool {
	var t net.Error
	return !isDial(err) && errors.As(err, &t) && t.Timeout()
}

func isUpgrade(h http.Header) bool { return len(h["Upgrade"]) > 0 }

func isWebSocket(h http.Header) bool {
	return len(h["Upgrade"]) == 1 && strings.EqualFold(h["Upgrade"][0], "websocket")
}

func isEvents(h http.Header) bool {
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(media), "text/event-stream")
}

// isShared reports whether a cache may hand the answer to other visitors.
func isShared(h http.Header) bool {
	c := h.Get("Cache-Control")
	return strings.Contains(c, "public") || strings.Contains(c, "s-maxage")
}
