package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/domain"
)

// TokenPrefix begins every token, so that scanners find one that has leaked.
const TokenPrefix = "belay_"

// Tokens are the tokens of the API. Only their hashes are kept, in a private file that several processes may use: the daemon
// verifies what the command line has created.
type Tokens struct{ path string }

// Token is what is kept of one.
type Token struct {
	Name    string    `json:"name"` // who acts with it
	Hash    string    `json:"hash"` // SHA-256, hex: enough for 256 random bits
	Created time.Time `json:"created"`
}

// NewTokens returns the tokens of a file, which need not exist yet. Its folder must be private.
func NewTokens(path string) *Tokens { return &Tokens{path: path} }

// Create makes a token for a name and returns it. It cannot be read again.
func (t *Tokens) Create(name string) (string, error) {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' }) {
		return "", domain.Errorf(domain.Invalid, "create token for %q: not a name", name)
	}
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the process instead
	token := TokenPrefix + base64.RawURLEncoding.EncodeToString(random[:])
	return token, t.change(func(list []Token) ([]Token, error) {
		if slices.ContainsFunc(list, func(k Token) bool { return k.Name == name }) {
			return nil, domain.Errorf(domain.Conflict, "create token for %s: there is one", name).WithHint("revoke it first, or take another name")
		}
		return append(list, Token{Name: name, Hash: hash(token), Created: time.Now().UTC()}), nil
	})
}

// Revoke forgets the token of a name.
func (t *Tokens) Revoke(name string) error {
	return t.change(func(list []Token) ([]Token, error) {
		rest := slices.DeleteFunc(slices.Clone(list), func(k Token) bool { return k.Name == name })
		if len(rest) == len(list) {
			return nil, domain.Errorf(domain.NotFound, "token of %s: not found", name)
		}
		return rest, nil
	})
}

// List returns what is kept of all tokens, oldest first.
func (t *Tokens) List() ([]Token, error) {
	content, err := os.ReadFile(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read tokens: %w", err)
	}
	var list []Token
	if err := json.Unmarshal(content, &list); err != nil {
		return nil, fmt.Errorf("read tokens %s: %w", t.path, err)
	}
	return list, nil
}

// Verify returns the name that a token acts for. Every kept hash is compared, each in constant time. A file that cannot be read
// verifies nothing.
func (t *Tokens) Verify(token string) (name string, ok bool) {
	list, err := t.List()
	if err != nil || !strings.HasPrefix(token, TokenPrefix) {
		return "", false
	}
	given := []byte(hash(token))
	for _, k := range list {
		if subtle.ConstantTimeCompare(given, []byte(k.Hash)) == 1 {
			name, ok = k.Name, true
		}
	}
	return name, ok
}

func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// change replaces the list, whole or not at all, while no other process does.
func (t *Tokens) change(f func([]Token) ([]Token, error)) error {
	release, err := lock(t.path+".lock", true)
	if err != nil {
		return fmt.Errorf("lock tokens: %w", err)
	}
	defer release()
	list, err := t.List()
	if err != nil {
		return err
	}
	if list, err = f(list); err != nil {
		return err
	}
	content, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(t.path), ".tokens-*") // 0600
	if err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	_, err = file.Write(append(content, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), t.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write tokens: %w", err), os.Remove(file.Name()))
	}
	return nil
}

// lock takes the lock of a file, which the kernel gives back when the process ends. Without wait it fails at once when another
// process holds it.
func lock(path string, wait bool) (release func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	if err := unix.Flock(int(file.Fd()), how); err != nil {
		_ = file.Close()
		return nil, err
	}
	return func() { _ = file.Close() }, nil
}
