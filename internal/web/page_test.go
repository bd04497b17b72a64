package web_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/belay-cd/belay/internal/web"
)

// TestBrowsers lets a browser in by the token as password, to what people read and to nothing else.
func TestBrowsers(t *testing.T) {
	tokens := web.NewTokens(filepath.Join(t.TempDir(), "tokens"))
	token, err := tokens.Create("ana")
	if err != nil {
		t.Fatal(err)
	}
	s := web.New(&fake{}, web.Options{Tokens: tokens})
	for _, c := range []struct {
		method, path, accept, password string
		status                         int
		challenge                      string
	}{
		{"GET", "/", "text/html", token, 200, ""},
		{"GET", "/", "text/html", "", 401, `Basic realm="belay"`},
		{"GET", "/", "text/html", token + "x", 401, `Basic realm="belay"`},
		{"GET", "/", "application/json", token, 401, `Bearer realm="belay"`},
		{"GET", "/v1/apps", "text/html", token, 401, `Bearer realm="belay"`},
		{"POST", "/v1/freeze", "text/html", token, 401, `Bearer realm="belay"`},
		{"POST", "/", "text/html", token, 401, `Bearer realm="belay"`},
		{"GET", "/shop/0", "text/html", token, 404, ""},
	} {
		r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, http.NoBody)
		r.Header.Set("Accept", c.accept)
		if c.password != "" {
			r.SetBasicAuth("anybody", c.password)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != c.status || w.Header().Get("WWW-Authenticate") != c.challenge {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, w.Code, w.Header().Get("WWW-Authenticate"), c.status, c.challenge)
		}
	}
}
