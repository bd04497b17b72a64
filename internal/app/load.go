package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/check"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/proxy"
)

// The bounds of a load. What cannot be begun because so many requests are open counts as failed: a visitor would wait.
const (
	loadOne  = 5 * time.Second // one request
	loadOpen = 256             // requests that are open at once
	loadBody = 1 << 20         // bytes of an answer that are read
	// loadBehind is how far the pace may fall behind before it lets go: a machine that slept is not flooded afterwards.
	loadBehind = time.Second
	loadGrain  = 5 * time.Millisecond
)

// visit is a request through a public route.
type visit struct {
	http   check.HTTP
	target check.Target // its Host says which route
}

// load sends visits at a steady pace, whatever the answers take: an app that hangs is asked no less often.
type load struct {
	list      []visit
	perSecond int
	health    func(ctx context.Context) (proxy.Health, error)
	mask      *check.Runner

	mu          sync.Mutex
	seen        delivery.Load
	http, https string          // where the proxy listens
	secure      map[string]bool // hosts that are served over TLS only
}

// start begins the load. The returned function ends it, waits for the open requests and says what came back; it may be
// called again.
func (l *load) start(ctx context.Context) (stop func() delivery.Load) {
	ctx, cancel := context.WithCancel(ctx)
	enough := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		l.run(ctx, enough)
	}()
	end := sync.OnceFunc(func() {
		close(enough)
		<-over
		cancel()
	})
	return func() delivery.Load {
		end()
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.seen
	}
}

func (l *load) run(ctx context.Context, enough <-chan struct{}) {
	if len(l.list) == 0 {
		l.mu.Lock()
		l.seen.Message = "no web role takes requests"
		l.mu.Unlock()
		return
	}
	transport := l.transport()
	defer transport.CloseIdleConnections()
	free := make(chan struct{}, loadOpen)
	var open sync.WaitGroup
	defer open.Wait()
	interval := time.Second / time.Duration(l.perSecond)
	tick := time.NewTicker(max(loadGrain, interval))
	defer tick.Stop()
	for sent, due := 0, time.Now(); ; {
		if time.Since(due) > loadBehind {
			due = time.Now()
		}
		for ; !due.After(time.Now()); due = due.Add(interval) {
			v := l.list[sent%len(l.list)]
			sent++
			select {
			case free <- struct{}{}:
				open.Go(func() {
					defer func() { <-free }()
					l.visit(ctx, transport, v)
				})
			default:
				l.count(fmt.Errorf("%d requests are open and have no answer", loadOpen), v)
			}
		}
		select {
		case <-tick.C:
		case <-enough:
			return
		case <-ctx.Done():
			return
		}
	}
}

// transport reaches the proxy whatever the host's address is elsewhere. Each request is a visitor with a connection of his
// own.
func (l *load) transport() *http.Transport {
	return &http.Transport{
		DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			var d net.Dialer
			return d.DialContext(ctx, network, l.address(port == "443"))
		},
		// Who answers is known: it is the proxy of this machine. Whether its certificate is trusted elsewhere is not asked here.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, //nolint:gosec // see above
	}
}

// visit sends one request, and counts what came back. What the end of the load cut off counts for nothing.
func (l *load) visit(ctx context.Context, transport *http.Transport, v visit) {
	one, cancel := context.WithTimeoutCause(ctx, loadOne, fmt.Errorf("no answer within %s", loadOne))
	defer cancel()
	err := l.locate(one)
	if err == nil {
		err = l.ask(one, transport, v)
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil && one.Err() != nil {
		err = context.Cause(one)
	}
	l.count(err, v)
}

// ask follows the one redirect that is the proxy's own: to the TLS route of the same host.
func (l *load) ask(ctx context.Context, transport *http.Transport, v visit) error {
	for {
		secure := l.isSecure(v.target.Host)
		scheme := "http://"
		if secure {
			scheme = "https://"
		}
		v.target.URL = scheme + v.target.Host
		req, err := v.http.Request(ctx, v.target)
		if err != nil {
			return err
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, loadBody))
		_ = resp.Body.Close()
		if !secure && l.moved(resp, v.target.Host) {
			continue
		}
		switch {
		case resp.StatusCode >= http.StatusInternalServerError:
			return fmt.Errorf("%d; body: %s", resp.StatusCode, l.mask.Shown(string(body)))
		case err != nil:
			return fmt.Errorf("%d, then the body broke off after %d bytes: %w", resp.StatusCode, len(body), err)
		default:
			return nil
		}
	}
}

// moved remembers that the host is served over TLS.
func (l *load) moved(resp *http.Response, host string) bool {
	to, err := resp.Location()
	if err != nil || to.Scheme != "https" || !strings.EqualFold(to.Hostname(), host) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.https == "" {
		return false
	}
	l.secure[host] = true
	return true
}

func (l *load) isSecure(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.http == "" || l.secure[host]
}

func (l *load) address(secure bool) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if secure {
		return l.https
	}
	return l.http
}

// locate asks the proxy where it listens, until it says so.
func (l *load) locate(ctx context.Context) error {
	if l.address(false)+l.address(true) != "" {
		return nil
	}
	h, err := l.health(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(h.HTTP) > 0 {
		l.http = loopback(h.HTTP[0])
	}
	if len(h.HTTPS) > 0 {
		l.https = loopback(h.HTTPS[0])
	}
	if l.http+l.https == "" {
		return errors.New("the proxy listens to no visitors")
	}
	return nil
}

// loopback is the address under which a listener of this machine is reached from it.
func loopback(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	switch ip := net.ParseIP(host); {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

func (l *load) count(err error, v visit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen.Requests++
	if err == nil {
		return
	}
	l.seen.Failed++
	if l.seen.Message == "" {
		method := v.http.Method
		if method == "" {
			method = http.MethodGet
		}
		l.seen.Message = fmt.Sprintf("%s %s%s: %v", method, v.target.Host, v.http.Path, err)
	}
}
