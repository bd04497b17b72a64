package evidence_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/evidence"
	"github.com/belay-cd/belay/internal/registry"
)

const sha = "4f2c81a9d0b5e6f7a8b9c0d1e2f3a4b5c6d7e8f9"

func key(t *testing.T, dir string) *evidence.Key {
	t.Helper()
	k, err := evidence.OpenKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func stage() evidence.Stage {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return evidence.Stage{App: "shop", Commit: sha, Delivery: 142, Stage: evidence.BuildStage, Result: evidence.ResultPassed, Began: now, Ended: now, Details: json.RawMessage(`{"files":3}`)}
}

func TestKeyIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	first, second := key(t, dir), key(t, dir)
	if first.ID() != second.ID() || !first.Public().Equal(second.Public()) {
		t.Error("two keys")
	}
	if key(t, t.TempDir()).ID() == first.ID() {
		t.Error("another folder has the same key")
	}
	file := filepath.Join(dir, "evidence.key")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.OpenKey(dir); domain.CodeOf(err) != domain.Refused {
		t.Errorf("a key that others read: %v", err)
	}
	if err := os.WriteFile(file, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(file, 0o600)
	if _, err := evidence.OpenKey(dir); domain.CodeOf(err) != domain.Refused {
		t.Errorf("a broken key: %v", err)
	}
}

func TestSignAndVerify(t *testing.T) {
	k := key(t, t.TempDir())
	digest := "sha256:" + strings.Repeat("ab", 32)
	envelope, err := k.Sign(stage().Statement(digest))
	if err != nil {
		t.Fatal(err)
	}
	s, err := evidence.Verify(envelope, key(t, t.TempDir()).Public(), k.Public())
	if err != nil || s.Digest() != digest || s.Predicate.Commit != sha || string(s.Predicate.Details) != `{"files":3}` {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := evidence.Verify(envelope, key(t, t.TempDir()).Public()); domain.CodeOf(err) != domain.Refused {
		t.Errorf("another key: %v", err)
	}
	if _, err := evidence.Verify(envelope); domain.CodeOf(err) != domain.Refused {
		t.Errorf("no key: %v", err)
	}
	for i := range envelope { // every byte counts
		for _, flip := range []byte{0x01, 0x20} {
			bad := bytes.Clone(envelope)
			bad[i] ^= flip
			if got, err := evidence.Verify(bad, k.Public()); err == nil && !sameMeaning(bad, envelope) {
				t.Fatalf("byte %d altered, and accepted: %+v", i, got)
			}
		}
	}
	if _, err := evidence.Verify(append(bytes.Clone(envelope), []byte(" {}")...), k.Public()); err == nil {
		t.Error("something follows, and it is accepted")
	}
}

// sameMeaning is true where an altered byte changes nothing that is said: JSON member names match in any case.
func sameMeaning(a, b []byte) bool {
	var x, y evidence.Envelope
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && x.Payload == y.Payload && x.PayloadType == y.PayloadType &&
		len(x.Signatures) == 1 && x.Signatures[0] == y.Signatures[0]
}

// TestEnvelopeIsDSSE compares with the encoding that the specification of DSSE prints.
func TestEnvelopeIsDSSE(t *testing.T) {
	k := key(t, t.TempDir())
	envelope, err := k.Sign(stage().Statement("sha256:" + strings.Repeat("ab", 32)))
	if err != nil {
		t.Fatal(err)
	}
	var e evidence.Envelope
	if err := json.Unmarshal(envelope, &e); err != nil {
		t.Fatal(err)
	}
	payload, _ := base64.StdEncoding.DecodeString(e.Payload)
	sig, _ := base64.StdEncoding.DecodeString(e.Signatures[0].Sig)
	message := "DSSEv1 28 application/vnd.in-toto+json " + length(len(payload)) + " " + string(payload)
	if !ed25519.Verify(k.Public(), []byte(message), sig) {
		t.Error("the signature is over something else")
	}
}

func length(n int) string {
	return strconv.Itoa(n)
}

// shelf is a registry with one image.
func shelf(t *testing.T) (gate *evidence.Gate, dir, digest string) {
	t.Helper()
	dir = t.TempDir()
	s, err := registry.Open(dir, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	config, n, err := s.PutBlob(ctx, strings.NewReader(`{"os":"linux"}`), "")
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(registry.Manifest{SchemaVersion: 2, MediaType: registry.ManifestType, Config: &registry.Descriptor{MediaType: registry.ConfigType, Digest: config, Size: n}})
	if err != nil {
		t.Fatal(err)
	}
	digest, err = s.PutManifest(ctx, "shop", sha, registry.ManifestType, body)
	if err != nil {
		t.Fatal(err)
	}
	return &evidence.Gate{Key: key(t, t.TempDir()), Artifacts: s}, dir, digest
}

func TestAdmit(t *testing.T) {
	ctx := t.Context()
	refused := func(t *testing.T, g *evidence.Gate, digest, commit string, code domain.Code, says string) {
		t.Helper()
		_, err := g.Admit(ctx, "shop", commit, digest)
		if domain.CodeOf(err) != code || err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %s %q, got %v", code, says, err)
		}
	}
	t.Run("signed", func(t *testing.T) {
		g, _, digest := shelf(t)
		for range 2 {
			if err := g.Record(ctx, digest, stage()); err != nil {
				t.Fatal(err)
			}
		}
		s, err := g.Admit(ctx, "shop", sha, digest)
		if err != nil || s.Delivery != 142 {
			t.Errorf("%+v, %v", s, err)
		}
		refused(t, g, digest, strings.Repeat("0", 40), domain.Refused, "was built from 4f2c81a, not from 0000000")
	})
	t.Run("unsigned", func(t *testing.T) {
		g, _, digest := shelf(t)
		refused(t, g, digest, sha, domain.Refused, "is unsigned")
	})
	t.Run("missing", func(t *testing.T) {
		g, _, _ := shelf(t)
		refused(t, g, "sha256:"+strings.Repeat("0", 64), sha, domain.NotFound, "not in the registry")
	})
	t.Run("red build, other stage, other app", func(t *testing.T) {
		g, _, digest := shelf(t)
		red, other, foreign := stage(), stage(), stage()
		red.Result, other.Stage, foreign.App = "failed", "test", "mailer"
		for _, s := range []evidence.Stage{red, other, foreign} {
			if err := g.Record(ctx, digest, s); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, g, digest, sha, domain.Refused, "is unsigned")
	})
	t.Run("signed by somebody else", func(t *testing.T) {
		g, _, digest := shelf(t)
		own := g.Key
		g.Key = key(t, t.TempDir())
		if err := g.Record(ctx, digest, stage()); err != nil {
			t.Fatal(err)
		}
		foreign := g.Key.Public()
		g.Key = own
		refused(t, g, digest, sha, domain.Refused, "no valid evidence")
		g.Trusted = []ed25519.PublicKey{foreign}
		if _, err := g.Admit(ctx, "shop", sha, digest); err != nil {
			t.Error(err)
		}
	})
	t.Run("evidence of another artifact", func(t *testing.T) {
		g, _, digest := shelf(t)
		envelope, err := g.Key.Sign(stage().Statement("sha256:" + strings.Repeat("cd", 32)))
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Artifacts.Attach(ctx, "shop", digest, evidence.MediaType, envelope); err != nil {
			t.Fatal(err)
		}
		refused(t, g, digest, sha, domain.Refused, "no valid evidence")
	})
	t.Run("altered artifact", func(t *testing.T) {
		g, dir, digest := shelf(t)
		if err := g.Record(ctx, digest, stage()); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "blobs/sha256", digest[7:9], digest[7:])
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_ = os.Chmod(file, 0o600)
		if err := os.WriteFile(file, append(body, ' '), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, g, digest, sha, domain.Refused, "was altered")
	})
}
