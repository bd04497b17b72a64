package secrets

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

const (
	keySize      = 32
	sealedPrefix = "belay-sealed-1:"
)

// Place is where a secret belongs. A sealed value opens in its own place only, so that nobody can move the ciphertext of
// production into staging, or of one app into another.
type Place struct {
	App         string
	Environment domain.Environment
	Name        string
}

func (p Place) String() string { return fmt.Sprintf("%s/%s/%s", p.App, p.Environment, p.Name) }

// aad writes the lengths too: no two places have the same bytes.
func (p Place) aad() []byte {
	return fmt.Appendf(nil, "%d:%s %d:%s %d:%s", len(p.App), p.App, len(p.Environment), p.Environment, len(p.Name), p.Name)
}

// Sealer encrypts values at rest with AES-256-GCM under a random nonce, and makes their fingerprints. One key seals up to
// 2^32 values. It is safe for concurrent use.
type Sealer struct {
	aead        cipher.AEAD
	fingerprint []byte
}

// OpenSealer reads the key from path, and makes it (0600, 32 random bytes) when there is none. It refuses a key that
// others than its owner can read or write, or that is not 32 bytes long.
func OpenSealer(path string) (*Sealer, error) {
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeKey(path); err == nil {
			key, err = readKey(path)
		}
	}
	if err != nil {
		return nil, err
	}
	return newSealer(key)
}

func newSealer(key []byte) (*Sealer, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, "belay seal", keySize)
	if err != nil {
		return nil, fmt.Errorf("derive the sealing key: %w", err)
	}
	fingerprint, err := hkdf.Key(sha256.New, key, nil, "belay fingerprint", keySize)
	if err != nil {
		return nil, fmt.Errorf("derive the fingerprint key: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	return &Sealer{aead: aead, fingerprint: fingerprint}, nil
}

func readKey(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, domain.Errorf(domain.Refused, "sealing key %s: mode %s, others may have read it", path, info.Mode()).
			WithHint("find out who could read it, rotate the secrets, then chmod 600 %s", path)
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("sealing key: %w", err)
	}
	if len(key) != keySize {
		return nil, domain.Errorf(domain.Failed, "sealing key %s: %d bytes instead of %d", path, len(key), keySize).
			WithHint("restore it from the backup: without it no sealed secret opens")
	}
	return key, nil
}

func makeKey(path string) error {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the process instead
	return makePrivate(path, key)
}

// makePrivate links a complete file (0600) into place: a crash leaves no half key, and of two processes one wins.
func makePrivate(path string, content []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-*") // 0600
	if err != nil {
		return fmt.Errorf("make %s: %w", filepath.Base(path), err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("make %s: %w", filepath.Base(path), err)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make %s: %w", filepath.Base(path), err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	return nil
}

// Seal encrypts plain for one place, as one line of text.
func (s *Sealer) Seal(place Place, plain domain.Secret) string {
	// The nil nonce is the contract of NewGCMWithRandomNonce, which draws one and puts it before the ciphertext.
	return sealedPrefix + base64.RawStdEncoding.EncodeToString(s.aead.Seal(nil, nil, []byte(plain.Reveal()), place.aad())) //nolint:gosec // see above
}

// Open decrypts what Seal made for the same place. An altered value, another place or another key is an error.
func (s *Sealer) Open(place Place, sealed string) (domain.Secret, error) {
	text, ok := strings.CutPrefix(sealed, sealedPrefix)
	raw, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if !ok || err != nil {
		return domain.Secret{}, domain.Errorf(domain.Failed, "secret %s: not a sealed value", place)
	}
	plain, err := s.aead.Open(nil, nil, raw, place.aad())
	if err != nil {
		return domain.Secret{}, domain.Errorf(domain.Failed, "secret %s: does not open: altered, of another place, or sealed with another key", place).
			WithHint("restore the folder keys together with the store, or set the secret again")
	}
	return domain.NewSecret(string(plain)), nil
}

// Sealed reports whether text looks like what Seal makes.
func Sealed(text string) bool { return strings.HasPrefix(text, sealedPrefix) }

// Fingerprint names a value without telling it: a keyed hash that differs between places. Use SameValue to compare places.
func (s *Sealer) Fingerprint(place Place, value domain.Secret) string {
	h := hmac.New(sha256.New, s.fingerprint)
	h.Write(place.aad())
	h.Write([]byte{0})
	h.Write([]byte(value.Reveal()))
	return hex.EncodeToString(h.Sum(nil))
}

// SealWorkload returns a copy of w whose secret variables are sealed, to be stored. What is sealed already stays.
func (s *Sealer) SealWorkload(app string, env domain.Environment, w domain.Workload) domain.Workload {
	w.Env = copyEnv(w.Env)
	for _, name := range w.Secrets {
		if v, ok := w.Env[name]; ok && !Sealed(v) {
			w.Env[name] = s.Seal(Place{app, env, name}, domain.NewSecret(v))
		}
	}
	return w
}

// OpenWorkload returns a copy of w whose secret variables hold their values, to be started.
func (s *Sealer) OpenWorkload(app string, env domain.Environment, w domain.Workload) (domain.Workload, error) {
	w.Env = copyEnv(w.Env)
	var errs []error
	for _, name := range w.Secrets {
		sealed, ok := w.Env[name]
		if !ok {
			continue
		}
		v, err := s.Open(Place{app, env, name}, sealed)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		w.Env[name] = v.Reveal()
	}
	if len(errs) > 0 {
		return domain.Workload{}, errors.Join(errs...)
	}
	return w, nil
}

func copyEnv(env map[string]string) map[string]string {
	c := make(map[string]string, len(env))
	for k, v := range env {
		c[k] = v
	}
	return c
}
