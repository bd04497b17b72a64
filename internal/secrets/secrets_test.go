package secrets_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/secrets"
)

// counter numbers fingerprints as the store does.
type counter map[string][]string

func (c counter) Version(app, env, name, fingerprint string) (int, error) {
	place := app + "/" + env + "/" + name
	for i, f := range c[place] {
		if f == fingerprint {
			return i + 1, nil
		}
	}
	c[place] = append(c[place], fingerprint)
	return len(c[place]), nil
}

func resolver(t *testing.T, vars map[string]string) *secrets.Resolver {
	t.Helper()
	sealer, err := secrets.OpenSealer(filepath.Join(t.TempDir(), "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	return &secrets.Resolver{Sealer: sealer, Versions: counter{}, Lookup: func(name string) (string, bool) { v, ok := vars[name]; return v, ok }}
}

func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "staging.env"), "# comment\nexport SENTRY_DSN='https://a@s/1' # why\nOTHER=x\n", 0o600)
	whole := write(t, filepath.Join(dir, "key.pem"), "line 1\nline 2\n", 0o640)
	vars := map[string]string{"DB_staging": "postgres://s", "CREDENTIALS_DIRECTORY": dir}
	r := resolver(t, vars)
	refs := []secrets.Ref{
		{Name: "DATABASE_URL", Provider: secrets.Env, Place: "DB_$BELAY_ENV"},
		{Name: "SENTRY_DSN", Provider: secrets.File, Place: dir + "/$BELAY_ENV.env#SENTRY_DSN"},
		{Name: "KEY", Provider: secrets.File, Place: whole},
		{Name: "CREDENTIAL", Provider: secrets.File, Place: "$CREDENTIALS_DIRECTORY/key.pem"},
	}
	set, err := r.Resolve(t.Context(), "shop", domain.Staging, refs)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"DATABASE_URL": "postgres://s", "SENTRY_DSN": "https://a@s/1", "KEY": "line 1\nline 2", "CREDENTIAL": "line 1\nline 2"} {
		if got := set.Values[name].Reveal(); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
		if set.Versions[name] != 1 {
			t.Errorf("%s has version %d, want 1", name, set.Versions[name])
		}
	}
	vars["DB_staging"] = "postgres://rotated"
	for _, want := range []int{2, 2} {
		if set, err = r.Resolve(t.Context(), "shop", domain.Staging, refs); err != nil || set.Versions["DATABASE_URL"] != want || set.Versions["KEY"] != 1 {
			t.Errorf("after a rotation: %v %v, want %d", set.Versions, err, want)
		}
	}
	vars["DB_staging"] = "postgres://s"
	if set, err = r.Resolve(t.Context(), "shop", domain.Staging, refs); err != nil || set.Versions["DATABASE_URL"] != 1 {
		t.Errorf("a value that came back: %v %v, want version 1", set.Versions, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", set, set, set); strings.Contains(text, "postgres") {
		t.Errorf("a set printed a value: %s", text)
	}
}

// Every way in which a secret cannot be read: all in one error, with reasons and without any value.
func TestResolveReportsEverythingAtOnceAndNoValue(t *testing.T) {
	const value = "v4lue-that-must-not-show"
	dir, data := t.TempDir(), t.TempDir()
	write(t, filepath.Join(data, "seal.key"), value, 0o600)
	if err := os.Symlink(filepath.Join(data, "seal.key"), filepath.Join(dir, "innocent")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := write(t, filepath.Join(dir, "open"), value, 0o604)
	dotenv := write(t, filepath.Join(dir, "dotenv"), "A=1\n", 0o600)
	broken := write(t, filepath.Join(dir, "broken"), "A=1\n"+value+"\n", 0o600)
	unclosed := write(t, filepath.Join(dir, "unclosed"), "A=\""+value+"\n", 0o600)
	vars := map[string]string{"EMPTY": "", "NUL": value + "\x00", "LONG": strings.Repeat(value, 5000), "BELAY_TOKEN": value, "FINE": value}
	r := resolver(t, vars)
	r.Private = []string{data}
	cases := map[string]struct{ ref, reason string }{
		"UNSET":     {"env:NOT_THERE", "variable NOT_THERE of the daemon is not set"},
		"EMPTY":     {"env:EMPTY", "the value is empty"},
		"NUL":       {"env:NUL", "NUL byte"},
		"LONG":      {"env:LONG", "above 32768"},
		"OWN":       {"env:BELAY_TOKEN", "variable BELAY_TOKEN is the daemon's own"},
		"RELATIVE":  {"file:secrets/x", "not an absolute path"},
		"ABSENT":    {"file:" + dir + "/absent", "no such file"},
		"OPEN":      {"file:" + open, "open to others (chmod o="},
		"FOLDER":    {"file:" + dir, "not a regular file"},
		"PIPE":      {"file:" + dir + "/pipe", "not a regular file"},
		"DAEMONS":   {"file:" + data + "/seal.key", "no place for secrets of apps"},
		"LINKED":    {"file:" + dir + "/innocent", "no place for secrets of apps"},
		"DOTTED":    {"file:" + dir + "/../" + filepath.Base(data) + "/seal.key", ""},
		"PROC":      {"file:/proc/self/environ", "/proc"},
		"NO_KEY":    {"file:" + dotenv + "#B", "has no B"},
		"BROKEN":    {"file:" + broken + "#A", "line 2: not KEY=value"},
		"UNCLOSED":  {"file:" + unclosed + "#A", "line 1: the quote is not closed"},
		"NO_CREDS":  {"file:$CREDENTIALS_DIRECTORY/x", "without systemd credentials"},
		"LATER":     {"vault:kv/a#b", `no vault is known here`},
		"TWO_KINDS": {"env:NOT_THERE_$BELAY_ENV", "variable NOT_THERE_production"},
	}
	refs := []secrets.Ref{{Name: "FINE", Provider: secrets.Env, Place: "FINE"}}
	for name, c := range cases {
		provider, place, _ := strings.Cut(c.ref, ":")
		refs = append(refs, secrets.Ref{Name: name, Provider: provider, Place: place})
	}
	_, err := r.Resolve(t.Context(), "shop", domain.Production, refs)
	if err == nil || domain.CodeOf(err) != domain.Refused {
		t.Fatalf("error %v, code %s", err, domain.CodeOf(err))
	}
	text := err.Error() + domain.HintOf(err)
	for name, c := range cases {
		if !strings.Contains(text, name+": ") || !strings.Contains(text, c.reason) {
			t.Errorf("%s (%s) is not in: %s", name, c.reason, text)
		}
	}
	if !strings.HasPrefix(text, fmt.Sprintf("%d secrets of shop cannot be read for production: ABSENT: ", len(cases))) {
		t.Errorf("begins %.90s", text)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(fmt.Sprintf("%+v", e), value) {
			t.Errorf("the error tells a value: %v", e)
		}
	}
	if len(r.Versions.(counter)) != 0 {
		t.Error("versions were given although secrets are missing")
	}
}

func TestRootsBoundFiles(t *testing.T) {
	allowed, elsewhere := t.TempDir(), t.TempDir()
	in := write(t, filepath.Join(allowed, "in"), "value", 0o600)
	out := write(t, filepath.Join(elsewhere, "out"), "value", 0o600)
	r := resolver(t, nil)
	r.Roots = []string{allowed}
	if _, err := r.Resolve(t.Context(), "shop", domain.Staging, []secrets.Ref{{Name: "A", Provider: secrets.File, Place: in}}); err != nil {
		t.Errorf("inside: %v", err)
	}
	if _, err := r.Resolve(t.Context(), "shop", domain.Staging, []secrets.Ref{{Name: "A", Provider: secrets.File, Place: out}}); err == nil {
		t.Error("a file outside the allowed folders was read")
	}
}

func TestResolveStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("cancelled by ana"))
	_, err := resolver(t, nil).Resolve(ctx, "shop", domain.Staging, []secrets.Ref{{Name: "A", Provider: secrets.Env, Place: "A"}})
	if err == nil || !strings.Contains(err.Error(), "cancelled by ana") {
		t.Errorf("%v", err)
	}
}

func TestDotenv(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "x.env"), `
PLAIN=a b#c # comment
SINGLE='a "b" \n # c'   # comment
DOUBLE="a\n\"b\" \\ \$HOME \q"
MULTI="-----BEGIN-----
 indented
-----END-----"
SPACED  = x
TWICE=1
TWICE=2
EQUALS=a=b=c
`+"CRLF=x\r\n", 0o600)
	r := resolver(t, nil)
	for key, want := range map[string]string{
		"PLAIN": "a b#c", "SINGLE": `a "b" \n # c`, "DOUBLE": "a\n\"b\" \\ $HOME \\q", "MULTI": "-----BEGIN-----\n indented\n-----END-----",
		"SPACED": "x", "TWICE": "2", "EQUALS": "a=b=c", "CRLF": "x",
	} {
		set, err := r.Resolve(t.Context(), "shop", domain.Staging, []secrets.Ref{{Name: key, Provider: secrets.File, Place: path + "#" + key}})
		if err != nil || set.Values[key].Reveal() != want {
			t.Errorf("%s: %q %v, want %q", key, set.Values[key].Reveal(), err, want)
		}
	}
}

func TestSameValue(t *testing.T) {
	secret := domain.NewSecret
	found := secrets.SameValue(
		map[string]domain.Secret{"B": secret("same-1"), "A": secret("same-2"), "C": secret("one"), "D": secret("x")},
		map[string]domain.Secret{"B": secret("same-1"), "A": secret("same-2"), "C": secret("two"), "E": secret("x")})
	if len(found) != 2 || found[0].Name != "A" || found[1].Name != "B" {
		t.Fatalf("%+v", found)
	}
	if strings.Contains(fmt.Sprintf("%+v", found), "same-1") {
		t.Errorf("a finding tells a value: %+v", found)
	}
}

func TestSeal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	s, err := secrets.OpenSealer(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Fatalf("key file: %v %v", info, err)
	}
	place := secrets.Place{App: "shop", Environment: domain.Staging, Name: "KEY"}
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.String().Draw(t, "plain")
		sealed := s.Seal(place, domain.NewSecret(plain))
		if !secrets.Sealed(sealed) || len(plain) > 8 && strings.Contains(sealed, plain) || sealed == s.Seal(place, domain.NewSecret(plain)) {
			t.Fatalf("sealed %q as %q", plain, sealed)
		}
		again, err := secrets.OpenSealer(path) // as after a restart
		if err != nil {
			t.Fatal(err)
		}
		if got, err := again.Open(place, sealed); err != nil || got.Reveal() != plain {
			t.Fatalf("opened %q as %q: %v", plain, got.Reveal(), err)
		}
		// Any byte changed, and it does not open. Most changed letters are still base64.
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "byte")
		b := []byte(sealed)
		b[i] = rapid.SampledFrom([]byte("ABCxyz019+/-\x00")).Filter(func(c byte) bool { return c != sealed[i] }).Draw(t, "to")
		if got, err := s.Open(place, string(b)); err == nil {
			t.Fatalf("altered at %d: opened as %q", i, got.Reveal())
		}
	})
	sealed := s.Seal(place, domain.NewSecret("value-1234"))
	for _, other := range []secrets.Place{
		{App: "shop2", Environment: domain.Staging, Name: "KEY"}, {App: "shop", Environment: domain.Production, Name: "KEY"},
		{App: "shop", Environment: domain.Staging, Name: "KEY2"}, {},
	} {
		if _, err := s.Open(other, sealed); err == nil {
			t.Errorf("opened in %s", other)
		}
		if s.Fingerprint(place, domain.NewSecret("v")) == s.Fingerprint(other, domain.NewSecret("v")) {
			t.Errorf("one fingerprint in two places: %s", other)
		}
	}
	stranger, err := secrets.OpenSealer(filepath.Join(t.TempDir(), "other.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Open(place, sealed); err == nil || strings.Contains(err.Error(), "value-1234") {
		t.Errorf("another key: %v", err)
	}
	for _, text := range []string{"", "value-1234", "belay-sealed-1:", "belay-sealed-1:AAAA"} {
		if _, err := s.Open(place, text); err == nil {
			t.Errorf("%q opened", text)
		}
	}
}

func TestSealerRefusesABadKey(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"group": 0o640, "others": 0o604, "written": 0o622} {
		if _, err := secrets.OpenSealer(write(t, filepath.Join(dir, name), strings.Repeat("k", 32), mode)); domain.CodeOf(err) != domain.Refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := secrets.OpenSealer(write(t, filepath.Join(dir, "short"), "k", 0o600)); err == nil {
		t.Error("a key of one byte was taken")
	}
	if err := os.Symlink(filepath.Join(dir, "short"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.OpenSealer(filepath.Join(dir, "link")); err == nil {
		t.Error("a link was taken")
	}
	if _, err := secrets.OpenSealer(filepath.Join(dir, "absent", "seal.key")); err == nil {
		t.Error("no folder, no error")
	}
}

// Daemon and command line may both open the first key at once: they must agree on it.
func TestSealerMakesOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	made := make(chan *secrets.Sealer, 8)
	for range cap(made) {
		go func() {
			s, err := secrets.OpenSealer(path)
			if err != nil {
				t.Error(err)
			}
			made <- s
		}()
	}
	place := secrets.Place{App: "a", Environment: domain.Staging, Name: "N"}
	first := <-made
	for range cap(made) - 1 {
		if s := <-made; first == nil || s == nil || s.Fingerprint(place, domain.NewSecret("x")) != first.Fingerprint(place, domain.NewSecret("x")) {
			t.Error("two keys")
		}
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

func TestSealWorkload(t *testing.T) {
	s, err := secrets.OpenSealer(filepath.Join(t.TempDir(), "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	w := domain.Workload{Role: "web", Env: map[string]string{"LOG": "debug", "KEY": "value-1234"}, Secrets: []string{"KEY", "ABSENT"}}
	sealed := s.SealWorkload("shop", domain.Staging, w)
	if w.Env["KEY"] != "value-1234" || sealed.Env["LOG"] != "debug" || !secrets.Sealed(sealed.Env["KEY"]) {
		t.Fatalf("%v, sealed %v", w.Env, sealed.Env)
	}
	if twice := s.SealWorkload("shop", domain.Staging, sealed); twice.Env["KEY"] != sealed.Env["KEY"] {
		t.Error("sealed twice")
	}
	back, err := s.OpenWorkload("shop", domain.Staging, sealed)
	if err != nil || back.Env["KEY"] != "value-1234" || !secrets.Sealed(sealed.Env["KEY"]) {
		t.Errorf("%v %v", back.Env, err)
	}
	if _, err := s.OpenWorkload("shop", domain.Production, sealed); err == nil {
		t.Error("a workload of staging opened in production")
	}
}
