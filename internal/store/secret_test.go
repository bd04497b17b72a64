package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/store"
)

func TestSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "belay.db")
	s, err := store.Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	p := domain.SecretPlace{App: "shop", Environment: domain.Production, Name: "KEY"}
	sealed := func(v domain.SecretVersion) ([]byte, error) {
		return fmt.Appendf(nil, "sealed-%d-QWERTYUIOP", v.Version), nil
	}
	add := func(r *domain.Rotation) domain.SecretVersion {
		t.Helper()
		v, err := s.AddSecret(t.Context(), domain.SecretVersion{SecretPlace: p, By: "ana", Set: time.Now().UTC()}, "keys-1", r, sealed)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	// Numbers go on where another provider's ended, and the other way round.
	if n, err := s.SecretVersion(t.Context(), "shop", domain.Production, "KEY", "f1"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if v := add(nil); v.Version != 2 || v.State != domain.CurrentSecret {
		t.Errorf("%+v", v)
	}
	if n, err := s.SecretVersion(t.Context(), "shop", domain.Production, "KEY", "f2"); n != 3 || err != nil {
		t.Errorf("v%d %v", n, err)
	}
	if at, err := s.SecretSeen(t.Context(), p, 3); err != nil || time.Since(at) > time.Minute {
		t.Errorf("seen %s %v", at, err)
	}
	r := domain.Rotation{ID: "rot_1", SecretPlace: p, Revoke: true}
	if v := add(&r); v.Version != 4 || r.Version != 4 {
		t.Errorf("%+v %+v", v, r)
	}
	if open, err := s.OpenRotations(t.Context()); err != nil || len(open) != 1 || open[0].Version != 4 {
		t.Errorf("%+v %v", open, err)
	}
	// What cannot be sealed is not stored, nor is its rotation.
	failed := errors.New("no key")
	if _, err := s.AddSecret(t.Context(), domain.SecretVersion{SecretPlace: p}, "keys-1", &domain.Rotation{ID: "rot_2", SecretPlace: p},
		func(domain.SecretVersion) ([]byte, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Error(err)
	}
	versions, err := s.SecretVersions(t.Context(), "shop")
	if err != nil || len(versions) != 2 || versions[0].State != domain.RetiringSecret || versions[1].State != domain.CurrentSecret {
		t.Fatalf("%+v %v", versions, err)
	}
	if others, err := s.SecretVersions(t.Context(), ""); err != nil || len(others) != 0 {
		t.Errorf("of the server: %+v %v", others, err)
	}
	stale, err := s.StaleSecrets(t.Context(), "keys-2")
	if err != nil || len(stale) != 2 {
		t.Fatalf("%+v %v", stale, err)
	}
	stale[0].Sealed, stale[0].Recipients = []byte("again"), "keys-2"
	if err := s.ResealSecret(t.Context(), stale[0]); err != nil {
		t.Fatal(err)
	}
	versions[0].State = domain.RevokedSecret
	if err := s.WipeSecret(t.Context(), versions[0]); err != nil {
		t.Fatal(err)
	}
	if list, err := s.SealedSecrets(t.Context(), p); err != nil || len(list) != 1 || list[0].Version != 4 || string(list[0].Sealed) != "sealed-4-QWERTYUIOP" {
		t.Errorf("%+v %v", list, err)
	}
	r.Done = true
	if err := s.SaveRotation(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if open, err := s.OpenRotations(t.Context()); err != nil || len(open) != 0 {
		t.Errorf("%+v %v", open, err)
	}
	if err := s.Close(); err != nil { // writes everything back
		t.Fatal(err)
	}
	if content, err := os.ReadFile(path); err != nil || bytes.Contains(content, []byte("sealed-2-QWERTYUIOP")) || !bytes.Contains(content, []byte("sealed-4-QWERTYUIOP")) {
		t.Errorf("a wiped value is still in the file (%v)", err)
	}
}
