package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// cloudEvent is the body of a webhook: a CloudEvent 1.0 in structured JSON.
type cloudEvent struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	Data            eventData `json:"data"`
}

type eventData struct {
	App         string             `json:"app"`
	Channel     string             `json:"channel"`
	Kind        domain.NoticeKind  `json:"kind"`
	Environment domain.Environment `json:"environment,omitempty"`
	Delivery    int                `json:"delivery,omitempty"`
	Sentence    string             `json:"sentence"`
	URL         string             `json:"url,omitempty"`
	domain.NoticeFacts
	Event domain.Event `json:"event"`
}

// eventType is what the kind is put behind.
const eventType = "belay.delivery."

func (r *Receivers) body(n domain.Notice) ([]byte, error) {
	return json.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: n.ID, Source: cmp.Or(r.Source, "belay"), Type: eventType + string(n.Kind), Subject: about(n),
		Time: n.Event.At, DataContentType: "application/json",
		Data: eventData{
			App: n.App, Channel: n.Channel, Kind: n.Kind, Environment: n.Environment, Delivery: n.Delivery, Sentence: n.Sentence,
			URL: n.URL, NoticeFacts: n.Facts, Event: n.Event,
		},
	})
}

// about names what a message is about: shop/142, or shop.
func about(n domain.Notice) string {
	if n.Delivery == 0 {
		return n.App
	}
	return n.App + "/" + strconv.Itoa(n.Delivery)
}

// post sends a webhook. The part of the URL behind # is never sent: it holds the key of the signature.
func (r *Receivers) post(ctx context.Context, u *url.URL, n domain.Notice) (string, error) {
	body, err := r.body(n)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, withoutFragment(u), bytes.NewReader(body))
	if err != nil {
		return "", domain.Errorf(domain.Invalid, "the URL of the channel is not a URL")
	}
	req.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	req.Header.Set("User-Agent", "belay/"+cmp.Or(r.Version, "dev"))
	req.Header.Set("Idempotency-Key", n.ID)
	if key := signingKey(u); key != "" {
		req.Header.Set("Belay-Signature", signature(key, time.Now(), body))
	}
	// A connection of its own each time: receivers are few, and a stale one would cost an attempt.
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: r.TLS}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: stay}
	res, err := client.Do(req)
	if err != nil {
		return "", unreached(err)
	}
	defer func() { _ = res.Body.Close() }()
	return answered(res)
}

func withoutFragment(u *url.URL) string {
	c := *u
	c.Fragment, c.RawFragment = "", ""
	return c.String()
}

// maxRedirects bounds how often a receiver may send us on.
const maxRedirects = 3

// stay follows a redirect only where the message goes to the same place whole: same scheme, host and port, same method.
func stay(next *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > maxRedirects || next.Method != first.Method || next.URL.Scheme != first.URL.Scheme || next.URL.Host != first.URL.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// signingKey is what stands behind #secret= in the URL; "" leaves messages unsigned.
func signingKey(u *url.URL) string {
	values, err := url.ParseQuery(u.EscapedFragment())
	if err != nil {
		return ""
	}
	return values.Get("secret")
}

// signature is the value of the header Belay-Signature: t=SECONDS,v1=HEX, where HEX is HMAC-SHA256 over "SECONDS.BODY".
func signature(key string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = mac.Write([]byte(t + ".")) // never fails
	_, _ = mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// maxAnswer is how much of an answer is shown, in bytes.
const maxAnswer = 200

// answered tells a taken message from one that was not.
func answered(res *http.Response) (string, error) {
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer)) // what arrived is all there is to say
	answer := strings.TrimSpace(fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode)))
	if line := oneLine(string(text)); line != "" {
		answer += ": " + line
	}
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return answer, nil
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return "", fmt.Errorf("it answered %d and sends us elsewhere, which is not followed: set the URL of that place", res.StatusCode)
	}
	message := "it answered " + answer
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		return "", &BusyError{Message: message, After: time.Duration(seconds) * time.Second}
	}
	return "", errors.New(message)
}

// oneLine makes text of others fit for a terminal and a log.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	return strings.Join(strings.Fields(text), " ")
}

// unreached says why no answer came, without the URL that net/http puts into its errors.
func unreached(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var timed net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timed) && timed.Timeout() {
		return fmt.Errorf("no answer within %s", timeout)
	}
	return fmt.Errorf("not reached: %w", err)
}
