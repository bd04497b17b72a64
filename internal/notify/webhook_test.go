package notify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

var message = domain.Notice{
	ID: "ntf_1", App: "shop", Channel: "oncall", Kind: domain.NoticeRolledBack, Delivery: 142, Environment: domain.Production,
	Sentence: "rolled back after 12s: errors 9 %", URL: "https://belay.example/shop/142",
	Facts: domain.NoticeFacts{Commit: "4f2c81a9", Subject: "Sell tea", Author: "ana", State: domain.RolledBackState},
	Event: domain.Event{Seq: 90144, At: time.Date(2026, 11, 23, 14, 0, 0, 0, time.UTC), Type: "delivery.rolled_back", App: "shop", Delivery: 142},
}

// token stands for whatever of a URL must not be seen.
const token = "T0PSECRETt0ken"

// shown fails when an answer or an error tells something of the URL.
func shown(t *testing.T, answer string, err error) {
	t.Helper()
	if text := fmt.Sprintf("%s %v %+v %#v", answer, err, err, err); strings.Contains(text, token) || strings.Contains(text, "k3y0fTheSignature") {
		t.Errorf("the URL shows: %s", text)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), token) {
			t.Errorf("the cause shows the URL: %s", e)
		}
	}
}

// hmacByHand is HMAC-SHA256 as RFC 2104 writes it, so that the signature is not checked by what made it.
func hmacByHand(key, text []byte) string {
	block := make([]byte, 64)
	if len(key) > 64 {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	copy(block, key)
	pad := func(with byte) []byte {
		out := make([]byte, 64)
		for i := range block {
			out[i] = block[i] ^ with
		}
		return out
	}
	inner := sha256.Sum256(append(pad(0x36), text...))
	outer := sha256.Sum256(append(pad(0x5c), inner[:]...))
	return hex.EncodeToString(outer[:])
}

func TestAWebhookIsSignedAndWhole(t *testing.T) {
	var got *http.Request
	var body []byte
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(w, "thanks for "+token+"\x1b[31m\n")
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	r := &Receivers{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Version: "1.2.3", Source: "https://belay.example"}
	url := domain.NewSecret(s.URL + "/hook/" + token + "?room=7#secret=k3y0fTheSignature%2B")
	answer, err := r.Send(t.Context(), url, message)
	shown(t, answer, err)
	if err != nil || answer != "202 Accepted: thanks for [masked] [31m" {
		t.Fatalf("%q, %v", answer, err)
	}
	if got.Method != http.MethodPost || got.URL.String() != "/hook/"+token+"?room=7" || got.Header.Get("Idempotency-Key") != "ntf_1" ||
		got.Header.Get("Content-Type") != "application/cloudevents+json; charset=utf-8" || got.Header.Get("User-Agent") != "belay/1.2.3" {
		t.Errorf("%s %s %v", got.Method, got.URL, got.Header)
	}
	var at int64
	var sum string
	if _, err := fmt.Sscanf(strings.Replace(got.Header.Get("Belay-Signature"), ",v1=", " ", 1), "t=%d %s", &at, &sum); err != nil {
		t.Fatalf("%q: %v", got.Header.Get("Belay-Signature"), err)
	}
	if want := hmacByHand([]byte("k3y0fTheSignature+"), fmt.Appendf(nil, "%d.%s", at, body)); sum != want || time.Since(time.Unix(at, 0)) > time.Minute {
		t.Errorf("signature %s of %d, want %s", sum, at, want)
	}
	var e map[string]any
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatal(err)
	}
	data := e["data"].(map[string]any)
	if e["specversion"] != "1.0" || e["id"] != "ntf_1" || e["type"] != "belay.delivery.rolled_back" || e["subject"] != "shop/142" ||
		e["source"] != "https://belay.example" || e["time"] != "2026-11-23T14:00:00Z" || e["datacontenttype"] != "application/json" {
		t.Errorf("%s", body)
	}
	if data["sentence"] != message.Sentence || data["commit"] != "4f2c81a9" || data["url"] != message.URL || data["state"] != "rolled_back" ||
		data["event"].(map[string]any)["seq"] != 90144.0 {
		t.Errorf("%s", body)
	}
	if bytes.Contains(body, []byte("k3y0f")) {
		t.Error("the key was sent")
	}
	// Another certificate is not believed.
	answer, err = (&Receivers{}).Send(t.Context(), url, message)
	shown(t, answer, err)
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v", err)
	}
}

func TestReceiversThatDoNotTakeIt(t *testing.T) {
	var elsewhere int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/500/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no room for "+r.URL.Path, http.StatusInternalServerError)
	})
	mux.HandleFunc("/429/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "90")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	mux.HandleFunc("/reset/", func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	})
	over := make(chan struct{})
	mux.HandleFunc("/slow/", func(http.ResponseWriter, *http.Request) { <-over })
	mux.HandleFunc("/302/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok/", http.StatusFound) })
	mux.HandleFunc("/307/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/ok/", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/away/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/loop/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
	})
	var taken string
	mux.HandleFunc("/ok/", func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		taken = r.Method + string(b)
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	defer close(over)
	closed := httptest.NewServer(mux)
	closed.Close()
	for _, c := range []struct{ url, want string }{
		{s.URL + "/500/", "it answered 500 Internal Server Error: no room for /500/[masked]"},
		{s.URL + "/429/", "it answered 429 Too Many Requests"},
		{s.URL + "/reset/", "not reached: "},
		{s.URL + "/slow/", "no answer within 10s"},
		{s.URL + "/302/", "it answered 302 and sends us elsewhere, which is not followed: set the URL of that place"},
		{s.URL + "/away/", "it answered 307 and sends us elsewhere, which is not followed: set the URL of that place"},
		{s.URL + "/loop/", "it answered 307 and sends us elsewhere, which is not followed: set the URL of that place"},
		{closed.URL + "/ok/", "not reached: dial tcp " + strings.TrimPrefix(closed.URL, "http://") + ": connect: connection refused"},
		{"http://hooks.example.com/", "the URL of the channel is plain http: messages would travel in the clear"},
		{"http:///", "the URL of the channel names no host"},
		{"https://x y/", "the URL of the channel is not a URL"},
		{"ftp://127.0.0.1/", `the URL of the channel begins with "ftp", which is no kind of receiver`},
		{"logger://", `the URL of the channel begins with "logger", which is no kind of receiver`},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		answer, err := (&Receivers{}).Send(ctx, domain.NewSecret(c.url+token), message)
		cancel()
		shown(t, answer, err)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %q, %v", c.url, answer, err)
		}
		var busy *BusyError
		if errors.As(err, &busy) != strings.Contains(c.url, "429") || busy != nil && busy.After != 90*time.Second {
			t.Errorf("%s: %+v", c.url, busy)
		}
	}
	if elsewhere != 0 {
		t.Error("it was sent on to another host")
	}
	answer, err := (&Receivers{}).Send(t.Context(), domain.NewSecret(s.URL+"/307/"+token), message)
	shown(t, answer, err)
	if err != nil || !strings.HasPrefix(taken, "POST{") {
		t.Errorf("%q %v: %s", answer, err, taken)
	}
}

func TestKinds(t *testing.T) {
	for url, want := range map[string]string{
		"https://hooks.example/x#secret=a": "webhook true", "https://hooks.example/x": "webhook false", "http://10.0.0.7/x": "webhook false",
		"http://relay.internal/x": "webhook false", "http://203.0.113.7/x": "unknown false", "slack://hook:AAA-BBB-CCC@webhook": "slack false",
		"generic+https://x.example/y": "generic false", "nonsense": "unknown false", "": "unknown false",
	} {
		if got := fmt.Sprint(Kind(domain.NewSecret(url)), " ", Signed(domain.NewSecret(url))); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}
