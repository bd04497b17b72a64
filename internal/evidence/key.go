// Package evidence signs what the daemon saw of an artifact, and admits only artifacts that have such evidence.
package evidence

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/belay-cd/belay/internal/domain"
)

// Key is the daemon's own signing key.
type Key struct {
	private ed25519.PrivateKey
	id      string
}

const (
	keyFile    = "evidence.key"
	publicFile = "evidence.pub"
)

// OpenKey reads the key in dir, or makes one: evidence.key (0600, PKCS #8), and beside it evidence.pub for others to check
// with. It refuses a key that others may read.
func OpenKey(dir string) (*Key, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, keyFile)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		if err := makeKey(dir, file); err != nil {
			return nil, fmt.Errorf("make the evidence key: %w", err)
		}
	}
	key, err := readKey(file)
	if err != nil {
		return nil, err
	}
	return key, writePublic(filepath.Join(dir, publicFile), key)
}

// makeKey writes a new key. Of two that do so at once, one wins, as a whole.
func makeKey(dir, file string) error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".evidence-*") // made with 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readKey(file string) (*Key, error) {
	info, err := os.Lstat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, domain.Errorf(domain.Refused, "the evidence key %s can be read by others", file).
			WithHint("chmod 600 %s, or remove it: a new key does not vouch for artifacts of the old one", file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, domain.Errorf(domain.Refused, "the evidence key %s cannot be read: not PEM", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, domain.Errorf(domain.Refused, "the evidence key %s cannot be read: %w", file, err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, domain.Errorf(domain.Refused, "the evidence key %s is not an ed25519 key", file)
	}
	return &Key{private: private, id: KeyID(public(private))}, nil
}

// PublicPEM is the public half as others read it: PKIX in PEM.
func (k *Key) PublicPEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil { // an ed25519 key always has this form
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// ParsePublic reads a public key as PublicPEM writes it.
func ParsePublic(text []byte) (ed25519.PublicKey, error) {
	block, rest := pem.Decode(text)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, domain.Errorf(domain.Invalid, "not a public key: one PEM block is expected")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "not a public key: %w", err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, domain.Errorf(domain.Invalid, "not an ed25519 key")
	}
	return key, nil
}

func writePublic(file string, k *Key) error {
	text := k.PublicPEM()
	if was, err := os.ReadFile(file); err == nil && bytes.Equal(was, text) {
		return nil
	}
	return os.WriteFile(file, text, 0o644)
}

func public(private ed25519.PrivateKey) ed25519.PublicKey {
	return ed25519.PublicKey(private[ed25519.SeedSize:])
}

// Public returns the key that signatures are checked with.
func (k *Key) Public() ed25519.PublicKey { return public(k.private) }

// ID returns the name of the key in envelopes.
func (k *Key) ID() string { return k.id }

// KeyID names a public key: the SHA-256 of its 32 bytes, in hexadecimal.
func KeyID(key ed25519.PublicKey) string {
	h := sha256.Sum256(key)
	return hex.EncodeToString(h[:])
}
