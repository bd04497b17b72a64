//go:build e2e

// Package e2e asks the running shop at $BELAY_URL what a visitor would ask.
package e2e

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

func shop(t *testing.T) string {
	url := os.Getenv("BELAY_URL")
	if url == "" {
		t.Fatal("BELAY_URL is not set: start the shop and set it, for instance http://127.0.0.1:8080")
	}
	return strings.TrimSuffix(url, "/")
}

func TestAVisitorFindsAndOrdersTea(t *testing.T) {
	url := shop(t)
	for path, want := range map[string]string{"/": "Tea shop", "/api/search?q=assam": "Assam tea", "/api/items/1": "Assam tea"} {
		answer, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Fatalf("%s: %d %s %v", path, answer.StatusCode, body, err)
		}
	}
	answer, err := http.Post(url+"/api/cart", "application/json", strings.NewReader(`{"id": 1}`))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 201 {
		t.Fatalf("order: %d", answer.StatusCode)
	}
}
