// Package client speaks to the JSON API of a Belay server: over the unix socket of this machine, or over https with a token.
// Its errors are *domain.Error; an unreachable server is domain.Unavailable, and the sentence says whether the request may
// have been accepted.
package client

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Client is a connection to one server. It is safe for concurrent use.
type Client struct {
	http    *http.Client
	base    string // scheme://host, without a slash at the end
	token   string
	address string // as the person wrote it
}

// dialTimeout bounds how long one connection may take to open.
const dialTimeout = 5 * time.Second

// New makes a client of the server at address: unix:///path/of/belay.sock, a plain absolute path, https://host, or
// http://host on loopback. The token may be empty for a socket. Nothing is sent yet.
func New(address, token string) (*Client, error) {
	if path, ok := socketPath(address); ok {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{Timeout: dialTimeout}
			return d.DialContext(ctx, "unix", path)
		}
		transport := &http.Transport{DialContext: dial, MaxIdleConns: 4, IdleConnTimeout: time.Minute}
		return &Client{http: &http.Client{Transport: transport}, base: "http://localhost", token: token, address: address}, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, domain.Errorf(domain.Invalid, "server %q: not an address", address).
			WithHint("unix:///run/belay/belay.sock, https://belay.example.com, or http://127.0.0.1:7070")
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, domain.Errorf(domain.Invalid, "server %s: the token would travel in the clear", address).
			WithHint("use https://%s", u.Host)
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: true, MaxIdleConns: 4, IdleConnTimeout: time.Minute,
	}
	// A redirect could carry the token to another host.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{
		http: &http.Client{Transport: transport, CheckRedirect: stay}, token: token, address: address,
		base: u.Scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/"),
	}, nil
}

// Address returns where the server is, as it was given to New.
func (c *Client) Address() string { return c.address }

// Close gives back idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func socketPath(address string) (string, bool) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return path, true
	}
	return address, strings.HasPrefix(address, "/")
}

func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
