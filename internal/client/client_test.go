package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/belay-cd/belay/internal/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers with handler and returns a client of it.
func server(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	c, err := New(s.URL, "belay_token")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]domain.Code{
		"/run/belay/belay.sock": "", "unix:///run/belay.sock": "", "https://belay.example.com": "", "http://127.0.0.1:7070": "",
		"http://[::1]:7070": "", "http://localhost": "", "http://belay.localhost:7070": "",
		"http://belay.example.com": domain.Invalid, "http://10.0.0.4:7070": domain.Invalid, "belay.example.com": domain.Invalid,
		"ftp://belay.example.com": domain.Invalid, "": domain.Invalid, "https://": domain.Invalid, "://": domain.Invalid,
	} {
		_, err := New(address, "")
		if want == "" && err != nil || want != "" && (err == nil || domain.CodeOf(err) != want) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// Whoever gets exit code 3 must know whether what they asked for may have happened.
func TestUnreachableSaysWhetherTheRequestMayHaveBeenAccepted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	refuses, err := New(path, "")
	if err != nil {
		t.Fatal(err)
	}
	missing, err := New(path+"-missing", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	breaks := server(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	})
	gateway := server(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	busy := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"detail":"shutting down","code":"unavailable"}`)
	})
	for _, c := range []struct {
		name   string
		client *Client
		lost   bool
	}{{"refused", refuses, false}, {"no socket", missing, false}, {"broken off", breaks, true}, {"gateway", gateway, true}, {"busy", busy, false}} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.client.Rollback(t.Context(), "shop-api", domain.Production, "", "")
			if domain.CodeOf(err) != domain.Unavailable || Lost(err) != c.lost || strings.Contains(err.Error(), "may have been accepted") != c.lost {
				t.Errorf("lost %t, code %s: %v", Lost(err), domain.CodeOf(err), err)
			}
			// A question changes nothing, however its answer is lost.
			if _, err := c.client.Status(t.Context(), "shop-api"); err == nil || Lost(err) || strings.Contains(err.Error(), "accepted") {
				t.Errorf("a question: %v", err)
			}
		})
	}
}

func TestProblemsKeepTheirCodeAndHint(t *testing.T) {
	answer, status := "", 0
	c := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	})
	for _, x := range []struct {
		status        int
		answer        string
		code          domain.Code
		message, hint string
	}{
		{403, `{"detail":"held by guard","code":"refused","hint":"belay thaw"}`, domain.Refused, "held by guard", "belay thaw"},
		{409, `{"detail":"it has ended","code":"conflict"}`, domain.Conflict, "it has ended", ""},
		{422, `{"title":"Unprocessable","errors":[{"message":"not a SHA","location":"query.commit"}]}`, domain.Invalid, "Unprocessable; query.commit not a SHA", ""},
		{404, "404 page not found", domain.NotFound, "404 Not Found", ""},
		{401, "", domain.Denied, http.StatusText(http.StatusUnauthorized), ""},
		{302, "", domain.Invalid, "302 Found", ""},
		{500, "<html>", domain.Failed, "500 Internal Server Error", ""},
	} {
		status, answer = x.status, x.answer
		_, err := c.Status(t.Context(), "shop-api")
		if domain.CodeOf(err) != x.code || !strings.Contains(err.Error(), x.message) || domain.HintOf(err) != x.hint {
			t.Errorf("%d %s: %s %v (hint %q)", x.status, x.answer, domain.CodeOf(err), err, domain.HintOf(err))
		}
	}
	status, answer = 200, "{"
	if _, err := c.Status(t.Context(), "shop-api"); domain.CodeOf(err) != domain.Failed {
		t.Errorf("half an answer: %v", err)
	}
}

func TestShipSendsTheBundleOnceUnderItsKey(t *testing.T) {
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		got := []string{r.Method, r.URL.String(), r.Header.Get("Idempotency-Key"), r.Header.Get("Content-Type"), r.Header.Get("Authorization"), string(body)}
		want := []string{"POST", "/v1/apps/shop-api/deliveries?commit=4f2c81a&folder=services%2Fbilling", "key", "application/octet-stream", "Bearer belay_token", "bundle"}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v %q", err, got)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"number":142}`)
	})
	d, err := c.Ship(t.Context(), Submission{App: "shop-api", Commit: "4f2c81a", Folder: "services/billing", Key: "key", Bundle: strings.NewReader("bundle")})
	if err != nil || d.Number != 142 {
		t.Errorf("%v %v", d, err)
	}
}

func TestEventsGoOnAfterTheLastOne(t *testing.T) {
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("after") != "7" || r.Header.Get("Last-Event-ID") != "7" || r.URL.Query().Get("delivery") != "142" {
			t.Errorf("asked for %s", r.URL)
		}
		// A comment, one that is known already, one over two lines, and one that was cut off.
		_, _ = io.WriteString(w, ": belay\n\nid: 7\ndata: {\"seq\":7}\n\nid: 8\ndata: {\"seq\":8,\ndata: \"type\":\"log\"}\n\nevent: x\n\nid: 9\ndata:{\"seq\":9}\n\nid: 10\ndata: {\"se")
	})
	var got []int64
	err := c.Events(t.Context(), 7, EventFilter{App: "shop-api", Delivery: 142}, func(e domain.Event) error {
		got = append(got, e.Seq)
		return nil
	})
	if !slices.Equal(got, []int64{8, 9}) || domain.CodeOf(err) != domain.Unavailable {
		t.Errorf("%v: %v", got, err)
	}
	stop := errors.New("enough")
	if err := c.Events(t.Context(), 7, EventFilter{Delivery: 142}, func(domain.Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the end that was asked for: %v", err)
	}
}

func TestCancelledCallsSayWhy(t *testing.T) {
	arrived := make(chan struct{}, 3)
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	why := errors.New("interrupted")
	for name, call := range map[string]func(context.Context) error{
		"events": func(ctx context.Context) error {
			return c.Events(ctx, 0, EventFilter{}, func(domain.Event) error { return nil })
		},
		"logs": func(ctx context.Context) error {
			return c.Logs(ctx, LogQuery{App: "shop-api", Follow: true}, &bytes.Buffer{})
		},
		"status": func(ctx context.Context) error { _, err := c.Status(ctx, "shop-api"); return err },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { <-arrived; cancel(why) }()
		if err := call(ctx); !errors.Is(err, why) {
			t.Errorf("%s: %v", name, err)
		}
		cancel(nil)
	}
}

// A recording that breaks off must not pass for a whole one.
func TestTicksBreakOff(t *testing.T) {
	for _, whole := range []bool{true, false} {
		c := server(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/apps/shop-api/deliveries/newest/ticks" {
				t.Errorf("asked %s", r.URL.Path)
			}
			_, _ = io.WriteString(w, "{\"n\":1}\n")
			_ = http.NewResponseController(w).Flush()
			if !whole {
				panic(http.ErrAbortHandler)
			}
		})
		got := ""
		err := c.Ticks(t.Context(), "shop-api", Newest, func(r io.Reader) error {
			text, err := io.ReadAll(r)
			got = string(text)
			return err
		})
		if got != "{\"n\":1}\n" || whole != (err == nil) || !whole && domain.CodeOf(err) != domain.Unavailable {
			t.Errorf("whole %t: %q, %v", whole, got, err)
		}
	}
}
