package secrets_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"pgregory.net/rapid"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/secrets"
)

func openKeyring(t *testing.T, dir string) *secrets.Keyring {
	t.Helper()
	k, err := secrets.OpenKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var key = domain.SecretPlace{App: "shop", Environment: domain.Production, Name: "KEY"}

func TestKeyringOpensWhatItSealedAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	k := openKeyring(t, dir)
	info, err := os.Stat(filepath.Join(dir, "secrets.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("identity: %v %v", info, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		plain := string(rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "plain"))
		sealed, err := k.Encrypt(key, 3, domain.NewSecret(plain))
		if err != nil || len(plain) > 8 && bytes.Contains(sealed, []byte(plain)) {
			t.Fatalf("%q sealed as %q: %v", plain, sealed, err)
		}
		if got, err := k.Decrypt(key, 3, sealed); err != nil || got.Reveal() != plain {
			t.Fatalf("%q opened as %q: %v", plain, got.Reveal(), err)
		}
		altered := slices.Clone(sealed)
		altered[rapid.IntRange(0, len(altered)-1).Draw(t, "byte")] ^= 1
		if got, err := k.Decrypt(key, 3, altered); err == nil {
			t.Fatalf("altered, and opened as %q", got.Reveal())
		}
	})
}

// Whoever can write the store must not be able to hand production's value to staging, or an old one as the newest.
func TestKeyringRefusesAMovedValue(t *testing.T) {
	k := openKeyring(t, t.TempDir())
	sealed, err := k.Encrypt(key, 3, domain.NewSecret("value-1234"))
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []domain.SecretPlace{
		{App: "shop2", Environment: domain.Production, Name: "KEY"}, {App: "shop", Environment: domain.Staging, Name: "KEY"},
		{App: "shop", Environment: domain.Production, Name: "KEY2"}, {App: `shop" "production`, Name: "KEY"},
	} {
		if _, err := k.Decrypt(other, 3, sealed); domain.CodeOf(err) != domain.Refused || strings.Contains(err.Error(), "value-1234") {
			t.Errorf("%s: %v", other, err)
		}
	}
	if _, err := k.Decrypt(key, 2, sealed); err == nil {
		t.Error("it opened as another version")
	}
	stranger := openKeyring(t, t.TempDir())
	if _, err := stranger.Decrypt(key, 3, sealed); err == nil {
		t.Error("another server opened it")
	}
}

// An offline recovery key opens values with the age library alone, also those that were set before it was listed.
func TestRecoveryKeyOpensEverything(t *testing.T) {
	dir := t.TempDir()
	shelf := newShelf()
	safe := &secrets.Safe{Keys: openKeyring(t, dir), Shelf: shelf}
	if _, _, err := safe.Set(t.Context(), domain.SecretVersion{SecretPlace: key}, domain.NewSecret("before"), nil); err != nil {
		t.Fatal(err)
	}
	recovery, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "recipients")
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasPrefix(string(text), "#") {
		t.Fatalf("recipients: %q %v", text, err)
	}
	if err := os.WriteFile(path, append(text, []byte(recovery.Recipient().String()+"\n")...), 0o600); err != nil {
		t.Fatal(err)
	}
	safe.Keys = openKeyring(t, dir)
	if n, err := safe.Reseal(t.Context()); n != 1 || err != nil {
		t.Fatalf("sealed again: %d %v", n, err)
	}
	if n, err := safe.Reseal(t.Context()); n != 0 || err != nil {
		t.Fatalf("sealed again for nothing: %d %v", n, err)
	}
	if _, _, err := safe.Set(t.Context(), domain.SecretVersion{SecretPlace: key}, domain.NewSecret("after"), nil); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"before", "after"} {
		r, err := age.Decrypt(bytes.NewReader(shelf.list[i].Sealed), recovery)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := io.ReadAll(r)
		_, value, _ := strings.Cut(string(plain), "\n")
		if err != nil || value != want || !strings.Contains(string(plain), fmt.Sprintf(`"shop" "production" "KEY" %d`, i+1)) {
			t.Errorf("recovered %q: %v", plain, err)
		}
		if got, err := safe.Keys.Decrypt(key, i+1, shelf.list[i].Sealed); err != nil || got.Reveal() != want {
			t.Errorf("the server itself: %q %v", got.Reveal(), err)
		}
	}
	if err := os.WriteFile(path, []byte("age1nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.OpenKeyring(dir); err == nil || !strings.Contains(err.Error(), "recipients:1") {
		t.Errorf("a wrong recipient: %v", err)
	}
}

func TestKeyringRefusesAKeyThatOthersCanRead(t *testing.T) {
	dir := t.TempDir()
	openKeyring(t, dir)
	if err := os.Chmod(filepath.Join(dir, "secrets.key"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.OpenKeyring(dir); domain.CodeOf(err) != domain.Refused {
		t.Errorf("%v", err)
	}
}

func TestSafe(t *testing.T) {
	safe := &secrets.Safe{Keys: openKeyring(t, t.TempDir()), Shelf: newShelf()}
	set := func(p domain.SecretPlace, value string) (domain.SecretVersion, bool, error) {
		return safe.Set(t.Context(), domain.SecretVersion{SecretPlace: p, By: "ana"}, domain.NewSecret(value), nil)
	}
	if _, _, err := safe.Current(t.Context(), key); domain.CodeOf(err) != domain.NotFound || domain.HintOf(err) != "belay secret set KEY --env production" {
		t.Errorf("%v: %s", err, domain.HintOf(err))
	}
	for i, value := range []string{"one", "two\nlines\n", "two\nlines\n", "one"} {
		v, unchanged, err := set(key, value)
		if want := []int{1, 2, 2, 3}[i]; err != nil || v.Version != want || unchanged != (i == 2) {
			t.Errorf("%q: v%d unchanged %t %v", value, v.Version, unchanged, err)
		}
	}
	if v, n, err := safe.Current(t.Context(), key); v.Reveal() != "one" || n != 3 || err != nil {
		t.Errorf("%s v%d %v", v.Reveal(), n, err)
	}
	staging := key
	staging.Environment = domain.Staging
	if _, _, err := safe.Current(t.Context(), staging); err == nil {
		t.Error("the value of production came out in staging")
	}
	for _, value := range []string{"", "a\x00b", strings.Repeat("x", secrets.MaxValue+1)} {
		if _, _, err := set(key, value); domain.CodeOf(err) != domain.Invalid || value != "" && strings.Contains(err.Error(), value) {
			t.Errorf("%.10q: %v", value, err)
		}
	}
	for _, name := range []string{"PORT", "BELAY_TOKEN", "a-b", "", "1A", "notify/", "notify/a b", "../X"} {
		if _, _, err := set(domain.SecretPlace{App: "shop", Environment: domain.Staging, Name: name}, "value"); domain.CodeOf(err) != domain.Invalid {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestChannelOfTheAppGoesBeforeTheServers(t *testing.T) {
	safe := &secrets.Safe{Keys: openKeyring(t, t.TempDir()), Shelf: newShelf()}
	if _, err := safe.Channel(t.Context(), "shop", "oncall"); domain.CodeOf(err) != domain.NotFound {
		t.Error(err)
	}
	for app, url := range map[string]string{"": "https://server", "shop": "https://shop"} {
		if _, _, err := safe.Set(t.Context(), domain.SecretVersion{SecretPlace: domain.ChannelPlace(app, "oncall")}, domain.NewSecret(url), nil); err != nil {
			t.Fatal(err)
		}
	}
	for app, want := range map[string]string{"shop": "https://shop", "other": "https://server", "": "https://server"} {
		if v, err := safe.Channel(t.Context(), app, "oncall"); err != nil || v.Reveal() != want {
			t.Errorf("%s: %s %v", app, v.Reveal(), err)
		}
	}
}

func TestJudge(t *testing.T) {
	secret := domain.NewSecret
	found := secrets.Judge(
		map[string]domain.Secret{"SAME": secret("k9f3-Lq2z8-XxPw"), "URL": secret("postgres://app:ChangeMe@db/x"), "FINE": secret("dev")},
		map[string]domain.Secret{"SAME": secret("k9f3-Lq2z8-XxPw"), "URL": secret("postgres://app:u7Gd02LmQq1v@db/x"), "SHORT": secret("aaaaaaaaaaaaaaaa")})
	var ids []string
	for _, f := range found {
		ids = append(ids, f.ID+" "+f.Name+" "+string(f.Environment))
		if text := fmt.Sprint(f); strings.Contains(text, "k9f3") || strings.Contains(text, "ChangeMe") {
			t.Errorf("a finding tells a value: %s", text)
		}
	}
	slices.Sort(ids)
	if want := []string{"same SAME ", "weak SHORT production", "weak URL staging"}; !slices.Equal(ids, want) {
		t.Errorf("%q, want %q", ids, want)
	}
}

// memoryShelf keeps encrypted values in memory.
type memoryShelf struct{ list []secrets.Stored }

func newShelf() *memoryShelf { return &memoryShelf{} }

func (s *memoryShelf) Add(_ context.Context, v domain.SecretVersion, recipients string, _ *domain.Rotation,
	seal func(domain.SecretVersion) ([]byte, error),
) (domain.SecretVersion, error) {
	for _, one := range s.list {
		if one.SecretPlace == v.SecretPlace {
			v.Version = one.Version
		}
	}
	v.Version++
	sealed, err := seal(v)
	s.list = append(s.list, secrets.Stored{SecretPlace: v.SecretPlace, Version: v.Version, Sealed: sealed, Recipients: recipients})
	return v, err
}

func (s *memoryShelf) Of(_ context.Context, p domain.SecretPlace) ([]secrets.Stored, error) {
	return slices.DeleteFunc(slices.Clone(s.list), func(one secrets.Stored) bool { return one.SecretPlace != p }), nil
}

func (s *memoryShelf) Stale(_ context.Context, recipients string) ([]secrets.Stored, error) {
	return slices.DeleteFunc(slices.Clone(s.list), func(one secrets.Stored) bool { return one.Recipients == recipients }), nil
}

func (s *memoryShelf) Replace(_ context.Context, one secrets.Stored) error {
	for i := range s.list {
		if s.list[i].SecretPlace == one.SecretPlace && s.list[i].Version == one.Version {
			s.list[i] = one
		}
	}
	return nil
}
