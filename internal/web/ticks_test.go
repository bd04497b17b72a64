package web_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/web"
)

// ticks asks for the ticks of a delivery.
func ticks(t *testing.T, r *running, number string) *http.Response {
	t.Helper()
	res, err := r.unix.Get("http://belay/v1/apps/shop/deliveries/" + number + "/ticks")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func TestTicksAreLines(t *testing.T) {
	r := start(t, nil)
	res := ticks(t, r, "newest")
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%s %s", res.Status, res.Header.Get("Content-Type"))
	}
	n := int64(0)
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		var line web.Replayed
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if n++; line.N != n || line.Boot != "b" || line.Evidence != 1.4 {
			t.Errorf("%s", lines.Bytes())
		}
	}
	if n != 2 {
		t.Errorf("%d lines", n)
	}
	// What breaks before the first lines are sent is a problem, and what breaks later must not look whole.
	if status, answer, _ := r.local(t, http.MethodGet, "/v1/apps/shop/deliveries/6/ticks", ""); status != http.StatusInternalServerError || strings.Contains(answer, "secret") {
		t.Errorf("%d %s", status, answer)
	}
	res = ticks(t, r, "7")
	if _, err := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || err == nil {
		t.Errorf("a cut-off answer looks whole: %s", res.Status)
	}
}
