package check

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

const (
	maxBody    = 1 << 20 // bytes of a body that are read
	shownBody  = 200     // bytes of a body that are shown
	maxMessage = 4 << 10
	// confirmAfter is the wait before the second try of a failed connection: a listener that was just being opened.
	confirmAfter = time.Second
)

// variable is the only form of interpolation: $NAME.
var variable = regexp.MustCompile(`\$[A-Za-z_][A-Za-z0-9_]*`)

// answer is what came back over http.
type answer struct {
	status int
	body   string
	cut    bool // the body is longer
	took   time.Duration
}

func (r *Runner) http(ctx context.Context, c Check, target Target) Result {
	if target.URL == "" {
		return notChecked("no source: the release has no address")
	}
	attempts := c.Attempts
	if attempts <= 0 {
		attempts = 2
	}
	var a answer
	var err error
	tried := 0
	for {
		tried++
		a, err = ask(ctx, *c.HTTP, target)
		if err == nil || tried >= attempts || !again(*c.HTTP, err) || !wait(ctx, confirmAfter) {
			break
		}
	}
	res := Result{State: Failed, Status: a.status, Attempts: tried}
	switch {
	case err != nil && ctx.Err() != nil:
		res.Message = fmt.Sprintf("%s: %v", c.HTTP.name(), context.Cause(ctx))
	case err != nil:
		res.Message = fmt.Sprintf("%s: %v", c.HTTP.name(), err)
	default:
		if wrong := c.HTTP.judge(a); len(wrong) > 0 {
			res.Message = fmt.Sprintf("%s: %s; body: %s", c.HTTP.name(), strings.Join(wrong, ", "), r.shown(a.body, a.cut))
		} else {
			res.State = Passed
			res.Message = fmt.Sprintf("%s: %d in %s", c.HTTP.name(), a.status, a.took.Round(time.Millisecond))
		}
	}
	if tried > 1 {
		res.Message += fmt.Sprintf(" (try %d, after a failed connection)", tried)
	}
	return res
}

func (h HTTP) method() string {
	if h.Method == "" {
		return http.MethodGet
	}
	return h.Method
}

func (h HTTP) status() int {
	if h.Status == 0 {
		return http.StatusOK
	}
	return h.Status
}

func (h HTTP) name() string { return h.method() + " " + h.Path }

// Request makes the request that h sends to target, without any memory of earlier ones.
func (h HTTP) Request(ctx context.Context, target Target) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, h.method(), strings.TrimSuffix(target.URL, "/")+h.Path, strings.NewReader(h.Send))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "belay-check")
	for name, value := range h.Headers {
		value = variable.ReplaceAllStringFunc(value, func(v string) string {
			if known, ok := target.Env[v[1:]]; ok {
				return known
			}
			return v
		})
		if strings.EqualFold(name, "host") {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	if target.Host != "" && req.Host == req.URL.Host {
		req.Host = target.Host
	}
	return req, nil
}

// Reads reports whether the request only reads: it may be sent as often as one likes.
func (h HTTP) Reads() bool {
	m := h.method()
	return m == http.MethodGet || m == http.MethodHead
}

// ask sends one request on a connection of its own, so that it meets the route as it is now.
func ask(ctx context.Context, h HTTP, target Target) (answer, error) {
	start := time.Now()
	req, err := h.Request(ctx, target)
	if err != nil {
		return answer{}, err
	}
	transport := &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10}
	if req.URL.Scheme == "https" {
		// The certificate is the app's host's, also where the address is a loopback listener.
		transport.TLSClientConfig = &tls.Config{ServerName: hostname(req.Host), MinVersion: tls.VersionTLS12}
	}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return a, fmt.Errorf("%d, then the body broke off after %d bytes: %w", a.status, len(body), err)
	}
	if a.cut = len(body) > maxBody; a.cut {
		body = body[:maxBody]
	}
	a.body, a.took = string(body), time.Since(start)
	return a, nil
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

// again says whether a failed try may be repeated: the connection failed, and the app cannot have acted on the request.
func again(h HTTP, err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	return h.Reads() && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET))
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// judge lists everything about an answer that is not as expected.
func (h HTTP) judge(a answer) []string {
	var wrong []string
	if a.status != h.status() {
		wrong = append(wrong, fmt.Sprintf("expected %d, got %d", h.status(), a.status))
	}
	if h.Within > 0 && a.took > h.Within {
		wrong = append(wrong, fmt.Sprintf("expected within %s, took %s", h.Within, a.took.Round(time.Millisecond)))
	}
	if !strings.Contains(a.body, h.Body) {
		where := "the body"
		if a.cut {
			where = "the first MiB of the body"
		}
		wrong = append(wrong, fmt.Sprintf("expected %q in %s", h.Body, where))
	}
	return append(wrong, judgeJSON(h.JSON, a.body)...)
}

func judgeJSON(want map[string]string, body string) []string {
	if len(want) == 0 {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(body))
	dec.UseNumber()
	var doc any
	if err := dec.Decode(&doc); err != nil {
		return []string{"expected JSON: " + err.Error()}
	}
	paths := make([]string, 0, len(want))
	for path := range want {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	var wrong []string
	for _, path := range paths {
		got, ok := find(doc, strings.Split(path, "."))
		switch {
		case !ok && want[path] == "*":
			wrong = append(wrong, fmt.Sprintf("expected %s to be present", path))
		case !ok:
			wrong = append(wrong, fmt.Sprintf("expected %s to be %s, is absent", path, want[path]))
		case !same(got, want[path]):
			wrong = append(wrong, fmt.Sprintf("expected %s to be %s, is %s", path, want[path], beginning(jsonText(got), 80)))
		}
	}
	return wrong
}

// find follows a path of keys and indexes. A key may itself hold dots: the longest key that fits is taken first.
func find(doc any, path []string) (any, bool) {
	if len(path) == 0 {
		return doc, true
	}
	switch v := doc.(type) {
	case map[string]any:
		for n := len(path); n > 0; n-- {
			if child, ok := v[strings.Join(path[:n], ".")]; ok {
				if found, ok := find(child, path[n:]); ok {
					return found, true
				}
			}
		}
	case []any:
		if i, err := strconv.Atoi(path[0]); err == nil && i >= 0 && i < len(v) {
			return find(v[i], path[1:])
		}
	}
	return nil, false
}

// same compares a value with the text that the file gives: numbers by value, all else by text.
func same(got any, want string) bool {
	if want == "*" {
		return got != nil
	}
	switch v := got.(type) {
	case string:
		return v == want
	case bool:
		return strconv.FormatBool(v) == want
	case nil:
		return want == "null"
	case json.Number:
		if v.String() == want {
			return true
		}
		a, errA := v.Float64()
		b, errB := strconv.ParseFloat(want, 64)
		return errA == nil && errB == nil && a == b
	default:
		return false
	}
}

// jsonText writes a value that was decoded from JSON back as such.
func jsonText(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// Shown is the beginning of a body on one line, masked, for a message.
func (r *Runner) Shown(body string) string { return r.shown(body, false) }

// shown is the beginning of a body on one line, without what would disturb a terminal. It is masked before it is cut: half
// a secret would not be found.
func (r *Runner) shown(body string, cut bool) string {
	if r.Mask != nil {
		body = r.Mask(body)
	}
	text := strings.Join(strings.Fields(strings.Map(printable, strings.ToValidUTF8(body, "·"))), " ")
	if text == "" {
		return "(empty)"
	}
	short := beginning(text, shownBody)
	if cut && short == text {
		short += " …"
	}
	return short
}

func printable(r rune) rune {
	if unicode.IsSpace(r) {
		return ' '
	}
	if !unicode.IsPrint(r) {
		return '·'
	}
	return r
}

// beginning cuts text after at most n bytes, between two runes.
func beginning(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + " …"
}
