package process_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/driver/process"
)

func TestStatic(t *testing.T) {
	outside, site := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		filepath.Join(outside, "secret"):                          "secret",
		filepath.Join(site, "index.html"):                         "home",
		filepath.Join(site, "docs/index.html"):                    "docs",
		filepath.Join(site, "empty/x.txt"):                        "x",
		filepath.Join(site, "a.css"):                              "body{}",
		filepath.Join(site, ".env"):                               "secret",
		filepath.Join(site, ".git/config"):                        "secret",
		filepath.Join(site, ".well-known/acme-challenge/token-1"): "token",
		filepath.Join(site, "404.html"):                           "lost",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range []string{"link", "docs/up"} {
		if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(site, link)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(site)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	h := process.Static(root.FS())
	for _, c := range []struct {
		method, path string
		code         int
		body, header string
	}{
		{"GET", "/", 200, "home", "Content-Type: text/html; charset=utf-8"},
		{"HEAD", "/", 200, "", "Content-Length: 4"},
		{"GET", "/index.html", 200, "home", ""},
		{"GET", "/a.css", 200, "body{}", "Content-Type: text/css; charset=utf-8"},
		{"GET", "/docs", 301, "", "Location: /docs/"},
		{"GET", "/docs/", 200, "docs", "X-Content-Type-Options: nosniff"},
		{"GET", "/empty/", 404, "lost", ""},
		{"GET", "/none", 404, "lost", "Content-Type: text/html; charset=utf-8"},
		{"GET", "/.env", 404, "lost", ""},
		{"GET", "/.git/config", 404, "lost", ""},
		{"GET", "/.well-known/acme-challenge/token-1", 200, "token", ""},
		{"GET", "/link", 404, "lost", ""},
		{"GET", "/docs/up", 404, "lost", ""},
		{"GET", "/../../etc/passwd", 404, "lost", ""},
		{"GET", "/%2e%2e/%2e%2e/etc/passwd", 404, "lost", ""},
		{"GET", "/..%2f..%2fetc%2fpasswd", 404, "lost", ""},
		{"GET", "/a.css%00", 404, "lost", ""},
		{"GET", "/docs/index.html/x", 404, "lost", ""},
		{"POST", "/", 405, "", "Allow: GET, HEAD"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		name, value, _ := strings.Cut(c.header, ": ")
		if w.Code != c.code || c.body != "" && w.Body.String() != c.body || c.header != "" && w.Header().Get(name) != value {
			t.Errorf("%s %s: %d %q %v", c.method, c.path, w.Code, w.Body, w.Header())
		}
		if strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s shows what is outside or hidden", c.path)
		}
	}
}

// Two releases have files of the same name, size and date. What a browser kept of one must not pass as the other's.
func TestStaticTagIsTheContent(t *testing.T) {
	tag := func(text string) string {
		dir := t.TempDir()
		path := filepath.Join(dir, "a.js")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		w := httptest.NewRecorder()
		h := process.Static(root.FS())
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/a.js", nil))
		again := httptest.NewRequest(http.MethodGet, "/a.js", nil)
		again.Header.Set("If-None-Match", w.Header().Get("ETag"))
		second := httptest.NewRecorder()
		h.ServeHTTP(second, again)
		if second.Code != http.StatusNotModified || w.Header().Get("Last-Modified") != "" {
			t.Errorf("asked again: %d, %v", second.Code, w.Header())
		}
		return w.Header().Get("ETag")
	}
	if one, two := tag("let a=1"), tag("let a=2"); one == two || one == "" {
		t.Errorf("both have the tag %s", one)
	}
}
