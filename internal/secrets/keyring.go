package secrets

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"filippo.io/age"

	"github.com/belay-cd/belay/internal/domain"
)

// The files of a keyring.
const (
	identityFile   = "secrets.key" // the server's age identity
	recipientsFile = "recipients"  // whoever else can open what is stored, one recipient a line
)

// Keyring encrypts the values of Belay's own store with age: for the server's X25519 identity, and for every recipient of
// the file recipients beside it. Such a recipient can be a recovery key that is kept offline: age -d with its identity opens
// a value without Belay.
//
// Within the encrypted text stands where the value belongs: app, environment, name and version. Decrypt refuses a text that
// was moved.
type Keyring struct {
	identity   *age.X25519Identity
	recipients []age.Recipient
	id         string
}

// OpenKeyring reads the keys of a folder, and makes the identity (0600) when there is none. It refuses an identity that
// others can read, and recipients that it does not understand.
func OpenKeyring(dir string) (*Keyring, error) {
	path := filepath.Join(dir, identityFile)
	text, err := readPrivateKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeIdentity(path); err == nil {
			text, err = readPrivateKey(path)
		}
	}
	if err != nil {
		return nil, err
	}
	identities, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil || len(identities) != 1 {
		return nil, domain.Errorf(domain.Failed, "key of the secrets %s: it is no age identity", path).
			WithHint("restore it from the backup: without it no stored secret opens")
	}
	identity, ok := identities[0].(*age.X25519Identity)
	if !ok {
		return nil, domain.Errorf(domain.Failed, "key of the secrets %s: an X25519 identity is expected", path)
	}
	k := &Keyring{identity: identity}
	return k, k.loadRecipients(filepath.Join(dir, recipientsFile))
}

func readPrivateKey(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("key of the secrets: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, domain.Errorf(domain.Refused, "key of the secrets %s: mode %s, others may have read it", path, info.Mode()).
			WithHint("find out who could read it, rotate the secrets, then chmod 600 %s", path)
	}
	return os.ReadFile(path)
}

func makeIdentity(path string) error {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return fmt.Errorf("make the key of the secrets: %w", err)
	}
	text := fmt.Sprintf("# opens every secret of this server; public key: %s\n%s\n", identity.Recipient(), identity)
	return makePrivate(path, []byte(text))
}

// recipientsText is what the file of recipients says when it is made.
const recipientsText = `# Who can open the stored secrets besides this server: one age recipient a line.
# Make a recovery key on another machine (age-keygen -o recovery.key), keep it offline, and write its public key here.
# At the next start of belay serve every stored value is encrypted for the recipients of this file.
`

func (k *Keyring) loadRecipients(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makePrivate(path, []byte(recipientsText)); err != nil {
			return err
		}
		text, err = os.ReadFile(path)
		if err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("recipients of the secrets: %w", err)
	}
	k.recipients = []age.Recipient{k.identity.Recipient()}
	names := []string{k.identity.Recipient().String()}
	for n, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || slices.Contains(names, line) {
			continue
		}
		r, err := age.ParseX25519Recipient(line)
		if err != nil {
			return domain.Errorf(domain.Invalid, "%s:%d: not an age recipient: %w", path, n+1, err).WithHint("age1…, as age-keygen prints it")
		}
		k.recipients, names = append(k.recipients, r), append(names, line)
	}
	slices.Sort(names)
	sum := sha256.Sum256([]byte(strings.Join(names, "\n")))
	k.id = hex.EncodeToString(sum[:])
	return nil
}

// Recipients names the set of keys that can open what Encrypt makes now.
func (k *Keyring) Recipients() string { return k.id }

// label begins the encrypted text: what it is, and where it belongs. The parts are quoted, so no two places are the same.
func label(p domain.SecretPlace, version int) string {
	return fmt.Sprintf("belay-secret-1 %s %s %s %d\n", strconv.Quote(p.App), strconv.Quote(string(p.Environment)), strconv.Quote(p.Name), version)
}

// Encrypt seals a value for its place and version.
func (k *Keyring) Encrypt(p domain.SecretPlace, version int, value domain.Secret) ([]byte, error) {
	var b bytes.Buffer
	w, err := age.Encrypt(&b, k.recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt secret %s: %w", p, err)
	}
	if _, err := io.WriteString(w, label(p, version)+value.Reveal()); err != nil {
		return nil, fmt.Errorf("encrypt secret %s: %w", p, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encrypt secret %s: %w", p, err)
	}
	return b.Bytes(), nil
}

// Decrypt opens what Encrypt made for the same place and version. An altered or moved text is an error.
func (k *Keyring) Decrypt(p domain.SecretPlace, version int, sealed []byte) (domain.Secret, error) {
	r, err := age.Decrypt(bytes.NewReader(sealed), k.identity)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(r)
	}
	if err != nil {
		return domain.Secret{}, domain.Errorf(domain.Failed, "secret %s v%d: does not open: altered, or encrypted for another key", p, version).
			WithHint("restore the folder keys together with the store, or: %s", p.SetCommand())
	}
	value, ok := strings.CutPrefix(string(text), label(p, version))
	if !ok {
		return domain.Secret{}, domain.Errorf(domain.Refused, "secret %s v%d: what is stored there belongs to another place", p, version).
			WithHint("somebody moved it: find out who can write the store, then: %s", p.SetCommand())
	}
	return domain.NewSecret(value), nil
}
