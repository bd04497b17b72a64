package web_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

const planted = "s3cr3t-value-7719"

func TestSecretsAreSetOnTheSocketOnly(t *testing.T) {
	r := start(t, nil)
	raw := func(req *http.Request) { req.Header.Set("Content-Type", "application/octet-stream") }
	for _, path := range []string{
		"/v1/apps/shop/secrets?name=KEY&environment=staging&from=stdin", "/v1/secrets?name=notify/oncall",
		"/v1/apps/shop/secrets/rotate?name=KEY&environment=staging&revoke=true",
	} {
		status, answer, _ := r.tcp(t, "POST", path, planted, raw)
		if status != 403 || strings.Contains(answer, planted) || !strings.Contains(answer, "on the server itself") {
			t.Errorf("%s with a token: %d %s", path, status, answer)
		}
	}
	if asked := r.last(); asked != "" {
		t.Errorf("and yet it was asked: %s", asked)
	}
	for path, want := range map[string]string{
		"/v1/apps/shop/secrets?name=KEY&environment=staging&from=stdin":                   "set shop staging KEY by " + me(t) + " from stdin: 17 bytes",
		"/v1/secrets?name=notify/oncall":                                                  "set notify/oncall by " + me(t) + " from : 17 bytes",
		"/v1/apps/shop/secrets/rotate?name=KEY&environment=staging&from=file&revoke=true": "rotate shop staging KEY by " + me(t) + ", value true, revoke true",
	} {
		status, answer := onTheSocket(t, r, path, planted, "application/octet-stream")
		if status != 200 || r.last() != want || strings.Contains(answer, planted) {
			t.Errorf("%s: %d %s, asked %q, want %q", path, status, answer, r.last(), want)
		}
	}
	// A request that is wrong is refused without its value.
	for _, path := range []string{"/v1/apps/shop/secrets", "/v1/apps/shop/secrets?name=KEY&environment=moon", "/v1/apps/shop/secrets?name=KEY&environment=staging"} {
		status, answer := onTheSocket(t, r, path, `{"value":"`+planted+`"}`, "application/json")
		if status != 422 || strings.Contains(answer, planted) {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
	// Without values a token will do.
	if status, answer, _ := r.tcp(t, "GET", "/v1/apps/shop/secrets", "", nil); status != 200 || !strings.Contains(answer, `"findings":[]`) {
		t.Errorf("list: %d %s", status, answer)
	}
	if status, answer, _ := r.tcp(t, "GET", "/v1/apps/shop/secrets/history?name=KEY", "", nil); status != 200 || !strings.Contains(answer, `"version":1`) {
		t.Errorf("history: %d %s", status, answer)
	}
}

func onTheSocket(t *testing.T, r *running, path, body, kind string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://belay"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	res, err := r.unix.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}
