package secrets_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/secrets"
)

// vaultServer speaks the part of Vault's API that is used, as its documentation and its answers show it: KV version 2 at kv,
// KV version 1 at old, AppRole logins, and a seal.
type vaultServer struct {
	sealed   atomic.Bool
	failures atomic.Int32 // answers of 500 to come
	asked    atomic.Int32
	logins   atomic.Int32
	revoked  atomic.Bool
}

func (v *vaultServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.asked.Add(1)
	answer := func(status int, doc any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(doc)
	}
	errs := func(status int, said ...string) {
		answer(status, map[string]any{"errors": append([]string{}, said...)})
	}
	if v.sealed.Load() {
		errs(503, "Vault is sealed")
		return
	}
	if v.failures.Add(-1) >= 0 {
		errs(500, "internal error")
		return
	}
	if r.URL.Path == "/v1/auth/approle/login" {
		var in struct {
			Role   string `json:"role_id"`
			Secret string `json:"secret_id"`
		}
		if json.NewDecoder(r.Body).Decode(&in) != nil || in.Role != "role" || in.Secret != "secret-id-1" {
			errs(400, "invalid role or secret ID")
			return
		}
		v.logins.Add(1)
		v.revoked.Store(false)
		answer(200, map[string]any{"auth": map[string]any{"client_token": "approle-token", "lease_duration": 3600}})
		return
	}
	token := r.Header.Get("X-Vault-Token")
	if token != "root-token" && (token != "approle-token" || v.revoked.Load()) || strings.HasPrefix(r.URL.Path, "/v1/kv/data/forbidden") {
		errs(403, "1 error occurred:\n\t* permission denied\n\n")
		return
	}
	switch r.URL.Path {
	case "/v1/kv/data/shop/production":
		answer(200, map[string]any{"request_id": "x", "data": map[string]any{
			"data":     map[string]any{"url": "postgres://shop:s3cr3t@db/shop", "port": 5432, "list": []int{1}},
			"metadata": map[string]any{"created_time": "2026-11-23T00:00:00Z", "deletion_time": "", "destroyed": false, "version": 7},
		}})
	case "/v1/kv/data/shop/deleted":
		answer(404, map[string]any{"request_id": "x", "data": map[string]any{"data": nil,
			"metadata": map[string]any{"deletion_time": "2026-11-23T00:00:00Z", "destroyed": false, "version": 2}}})
	case "/v1/old/data/shop":
		answer(200, map[string]any{"data": map[string]any{"url": "x"}})
	default:
		if strings.HasPrefix(r.URL.Path, "/v1/kv/") {
			errs(404)
			return
		}
		errs(404, "no handler for route \""+strings.TrimPrefix(r.URL.Path, "/v1/")+"\". route entry not found.")
	}
}

func vaultAt(t *testing.T, env map[string]string) (*secrets.Vault, *vaultServer) {
	t.Helper()
	fake := &vaultServer{}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	if env["VAULT_ADDR"] == "" {
		env["VAULT_ADDR"] = server.URL
	}
	return &secrets.Vault{Pause: time.Millisecond, Lookup: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}, fake
}

func TestVaultReadsAFieldAndItsVersion(t *testing.T) {
	v, fake := vaultAt(t, map[string]string{"VAULT_TOKEN": "root-token"})
	value, version, err := v.Read(t.Context(), "kv/shop/production#url")
	if value != "postgres://shop:s3cr3t@db/shop" || version != 7 || err != nil {
		t.Errorf("%q v%d %v", value, version, err)
	}
	if value, _, err := v.Read(t.Context(), "kv/shop/production#port"); value != "5432" || err != nil {
		t.Errorf("a number: %q %v", value, err)
	}
	fake.failures.Store(2)
	if _, _, err := v.Read(t.Context(), "kv/shop/production#url"); err != nil {
		t.Errorf("two failures, then an answer: %v", err)
	}
	fake.failures.Store(100)
	before := fake.asked.Load()
	if _, _, err := v.Read(t.Context(), "kv/shop/production#url"); err == nil || fake.asked.Load()-before != 3 {
		t.Errorf("it fails for good: asked %d times: %v", fake.asked.Load()-before, err)
	}
}

func TestVaultSaysWhatIsWrong(t *testing.T) {
	v, fake := vaultAt(t, map[string]string{"VAULT_TOKEN": "root-token"})
	for place, want := range map[string]string{
		"kv/shop/production#nothing": "kv/shop/production has no field nothing (it has list, port, url)",
		"kv/shop/production#list":    "field list of kv/shop/production is no text",
		"kv/shop/absent#url":         "vault has nothing at kv/shop/absent",
		"kv/shop/deleted#url":        "is deleted or destroyed",
		"kv/forbidden/x#url":         "needs read on kv/data/forbidden/x",
		"secret/shop#url":            "vault has no mount secret",
		"old/shop#url":               "mount old does not speak KV version 2",
		"kv/../sys/seal#url":         "mount/path#field is expected",
		"kv#url":                     "mount/path#field is expected",
		"kv/shop":                    "mount/path#field is expected",
	} {
		if _, _, err := v.Read(t.Context(), place); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", place, err, want)
		} else if strings.Contains(err.Error(), "root-token") || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: the error tells a secret: %v", place, err)
		}
	}
	fake.sealed.Store(true)
	before := fake.asked.Load()
	if _, _, err := v.Read(t.Context(), "kv/shop/production#url"); err == nil || !strings.Contains(err.Error(), "sealed") || fake.asked.Load() != before+1 {
		t.Errorf("sealed, asked %d times: %v", fake.asked.Load()-before, err)
	}
}

func TestVaultTakesAnAppRole(t *testing.T) {
	id := filepath.Join(t.TempDir(), "secret-id")
	if err := os.WriteFile(id, []byte("secret-id-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v, fake := vaultAt(t, map[string]string{"VAULT_ROLE_ID": "role", "VAULT_SECRET_ID_FILE": id})
	for range 3 {
		if _, _, err := v.Read(t.Context(), "kv/shop/production#url"); err != nil {
			t.Fatal(err)
		}
	}
	if n := fake.logins.Load(); n != 1 {
		t.Errorf("%d logins for three reads", n)
	}
	fake.revoked.Store(true) // the token ended before its time
	if _, _, err := v.Read(t.Context(), "kv/shop/production#url"); err != nil || fake.logins.Load() != 2 {
		t.Errorf("%d logins, %v", fake.logins.Load(), err)
	}
	wrong, _ := vaultAt(t, map[string]string{"VAULT_ROLE_ID": "role", "VAULT_SECRET_ID": "wrong-secret-id"})
	if _, _, err := wrong.Read(t.Context(), "kv/shop/production#url"); err == nil || strings.Contains(err.Error(), "wrong-secret-id") ||
		!strings.Contains(err.Error(), "does not accept the AppRole") {
		t.Errorf("%v", err)
	}
	if got := v.Private(); len(got) != 1 || got[0] != id {
		t.Errorf("private: %v", got)
	}
}

func TestVaultIsReachedAsTheAdministratorSaid(t *testing.T) {
	fake := &vaultServer{}
	server := httptest.NewTLSServer(fake)
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	trusting, _ := vaultAt(t, map[string]string{"VAULT_ADDR": server.URL, "VAULT_TOKEN": "root-token", "VAULT_CACERT": ca})
	if _, _, err := trusting.Read(t.Context(), "kv/shop/production#url"); err != nil {
		t.Error(err)
	}
	strict, _ := vaultAt(t, map[string]string{"VAULT_ADDR": server.URL, "VAULT_TOKEN": "root-token"})
	if _, _, err := strict.Read(t.Context(), "kv/shop/production#url"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
	for name, env := range map[string]map[string]string{
		"no VAULT_ADDR":  {"VAULT_ADDR": "no address", "VAULT_TOKEN": "x"},
		"no VAULT_TOKEN": {},
		"not reached":    {"VAULT_ADDR": "http://user:p4ssw0rd@127.0.0.1:1", "VAULT_TOKEN": "x"},
	} {
		v, _ := vaultAt(t, env)
		if _, _, err := v.Read(t.Context(), "kv/shop/production#url"); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "p4ssw0rd") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A token is shown to nobody else, whatever Vault's answer says.
	var stolen atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen.Store(r.Header.Get("X-Vault-Token") != "") }))
	defer thief.Close()
	redirects := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	defer redirects.Close()
	v, _ := vaultAt(t, map[string]string{"VAULT_ADDR": redirects.URL, "VAULT_TOKEN": "root-token"})
	if _, _, err := v.Read(t.Context(), "kv/shop/production#url"); err == nil || stolen.Load() {
		t.Errorf("redirected: %v, token shown: %t", err, stolen.Load())
	}
}

func TestVaultsVersionIsTheReleases(t *testing.T) {
	r := resolver(t, nil)
	r.Vault, _ = vaultAt(t, map[string]string{"VAULT_TOKEN": "root-token"})
	r.Run = func(_ context.Context, app string, env domain.Environment, command string) (string, error) {
		return app + " " + string(env) + " " + command, nil
	}
	set, err := r.Resolve(t.Context(), "shop", domain.Production, []secrets.Ref{
		{Name: "URL", Provider: secrets.Kv, Place: "kv/shop/$BELAY_ENV#url"}, {Name: "TOKEN", Provider: secrets.Exec, Place: "op read $BELAY_ENV"}})
	if err != nil || set.Versions["URL"] != 7 || set.Versions["TOKEN"] != 1 || set.Values["TOKEN"].Reveal() != "shop production op read $BELAY_ENV" {
		t.Errorf("%v %q %v", set.Versions, set.Values["TOKEN"].Reveal(), err)
	}
	if _, err := r.Resolve(t.Context(), "shop", domain.Production, []secrets.Ref{{Name: "T", Provider: secrets.Env, Place: "VAULT_TOKEN"}}); err == nil {
		t.Error("a commit named the daemon's own token")
	}
}
