package notify

import (
	"context"
	"crypto/tls"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// BusyError is a receiver that asks to be left alone for a while.
type BusyError struct {
	Message string
	After   time.Duration
}

func (e *BusyError) Error() string { return e.Message }

// timeout bounds one attempt.
const timeout = 10 * time.Second

// Receivers sends to whatever kind of receiver a URL names. Addresses of the server's own network are allowed: an
// administrator sets the URL, nobody else can.
type Receivers struct {
	// TLS is how receivers of webhooks are trusted. Default: the certificates of the system.
	TLS *tls.Config
	// Version of the program, for receivers that ask.
	Version string
	// Source names this server to receivers. Default "belay".
	Source string

	chat chat
}

// Send hands one message to its receiver, once, within ten seconds.
func (r *Receivers) Send(ctx context.Context, secret domain.Secret, n domain.Notice) (answer string, err error) {
	u, err := parse(secret)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if web(u) {
		answer, err = r.post(ctx, u, n)
	} else {
		answer, err = r.chat.send(ctx, u, secret, n)
	}
	return masked(answer, secret), maskedError(err, secret)
}

// Check says whether a URL can be sent to, without sending. Its error holds nothing of the URL.
func Check(secret domain.Secret) error {
	u, err := parse(secret)
	if err != nil || web(u) {
		return err
	}
	_, err = service(u, secret)
	return err
}

// Kind names the kind of receiver: webhook, slack, smtp, …
func Kind(secret domain.Secret) string {
	u, err := parse(secret)
	switch {
	case err != nil:
		return "unknown"
	case web(u):
		return "webhook"
	}
	return scheme(u)
}

// Signed reports whether the messages of a webhook are signed.
func Signed(secret domain.Secret) bool {
	u, err := parse(secret)
	return err == nil && web(u) && signingKey(u) != ""
}

func web(u *url.URL) bool { return u.Scheme == "https" || u.Scheme == "http" }

// scheme is the name of the service: generic of generic+https.
func scheme(u *url.URL) string {
	name, _, _ := strings.Cut(strings.ToLower(u.Scheme), "+")
	return name
}

func parse(secret domain.Secret) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(secret.Reveal()))
	if err != nil || u.Scheme == "" {
		return nil, domain.Errorf(domain.Invalid, "the URL of the channel is not a URL").
			WithHint("https://host/path#secret=…, slack://…, smtp://…: docs/notifications.md")
	}
	if !web(u) {
		if !slices.Contains(services(), scheme(u)) {
			return nil, domain.Errorf(domain.Invalid, "the URL of the channel begins with %q, which is no kind of receiver", scheme(u)).
				WithHint("one of https, %s", strings.Join(services(), ", "))
		}
		return u, nil
	}
	if u.Host == "" {
		return nil, domain.Errorf(domain.Invalid, "the URL of the channel names no host").WithHint("https://host/path#secret=…")
	}
	if u.Scheme == "http" && !near(u.Hostname()) {
		return nil, domain.Errorf(domain.Invalid, "the URL of the channel is plain http: messages would travel in the clear").
			WithHint("https://…; http:// is for loopback, private addresses, .internal and .localhost")
	}
	return u, nil
}

// near reports whether a host is on this machine or in a private network.
func near(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".internal") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && (ip.IsLoopback() || ip.IsPrivate())
}
