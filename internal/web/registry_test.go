package web_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/belay-cd/belay/internal/registry"
	"github.com/belay-cd/belay/internal/web"
)

// TestRegistry pushes and pulls over TCP with the token as password, and gets nothing without it.
func TestRegistry(t *testing.T) {
	store, err := registry.Open(t.TempDir(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tokens := web.NewTokens(filepath.Join(t.TempDir(), "tokens"))
	token, err := tokens.Create("ci")
	if err != nil {
		t.Fatal(err)
	}
	s := web.New(&fake{}, web.Options{Tokens: tokens, Registry: store.Handler()})
	addr, err := s.ServeTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown(t.Context()) })
	image, err := random.Image(1<<12, 2)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(addr.String()+"/shop:"+strings.Repeat("a", 40), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err == nil {
		t.Error("pushed without a token")
	}
	auth := remote.WithAuth(&authn.Basic{Username: "ci", Password: token})
	if err := remote.Write(ref, image, auth); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Image(ref); err == nil {
		t.Error("pulled without a token")
	}
	back, err := remote.Image(ref, auth)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := image.Digest()
	if got, _ := back.Digest(); got != want {
		t.Errorf("pulled %s, pushed %s", got, want)
	}
	res, err := http.Get("http://" + addr.String() + "/v1/apps")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("the API without a token: %s", res.Status)
	}
}
