package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/secrets"
	"github.com/belay-cd/belay/internal/store"
)

// dataFor returns a data folder that is not below /tmp, which every command has for itself.
func dataFor(t *testing.T) string {
	t.Helper()
	parent := "/var/lib"
	if os.Geteuid() != 0 {
		parent, _ = os.UserHomeDir()
	}
	data, err := os.MkdirTemp(parent, "belay-test-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	if err := os.Chmod(data, 0o711); err != nil { //nolint:gosec // as a data folder is
		t.Fatal(err)
	}
	return data
}

// secretServer is as much of a server as secrets need.
func secretServer(t *testing.T) (*Server, *resolver) {
	t.Helper()
	data := dataFor(t)
	if err := os.Mkdir(filepath.Join(data, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := &Server{o: Options{Data: data}, log: slog.New(slog.DiscardHandler), box: &sandbox.Sandbox{}, maskedLog: &maskedLog{w: io.Discard}}
	var err error
	if s.sealer, err = secrets.OpenSealer(s.path("keys", "seal.key")); err != nil {
		t.Fatal(err)
	}
	if s.store, err = store.Open(t.Context(), s.path("belay.db"), sealed{s.sealer}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.store.Close() })
	s.runner = &runner{accounts: sandbox.Accounts{File: s.path("keys", "users.json"), Numeric: true}}
	r, err := s.openSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

func commandOf(t *testing.T, text string) config.Command {
	t.Helper()
	c, err := config.NewCommand(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The command of a secret is code of the repository: it sees nothing of the daemon but what was handed over for its app.
func TestCommandsOfSecretsSeeNothingOfTheDaemon(t *testing.T) {
	s, r := secretServer(t)
	t.Setenv("DAEMONS_OWN", "d4emon-0wn-value")
	t.Setenv("OP_TOKEN", "op-t0ken")
	t.Setenv(execEnv, "shop:OP_TOKEN other:DAEMONS_OWN")
	read := func(app, text string) (string, error) {
		v, _, err := r.resolver.Read(t.Context(), app, domain.Staging, secrets.Ref{Name: "X", Provider: secrets.Exec, Place: text})
		return v.Reveal(), err
	}
	got, err := read("shop", `printf '%s\n%s\n' "$BELAY_ENV $BELAY_APP $OP_TOKEN" "two lines"`)
	if err != nil || got != "staging shop op-t0ken\ntwo lines" {
		t.Errorf("%q %v", got, err)
	}
	if got, err := read("shop", "env"); err != nil || strings.Contains(got, "d4emon") || strings.Contains(got, "BELAY_EXEC") {
		t.Errorf("its environment: %q %v", got, err)
	}
	if got, err := read("third", "env"); err != nil || strings.Contains(got, "op-t0ken") {
		t.Errorf("another app's: %q %v", got, err)
	}
	if mode, why := s.box.Probe(); mode == sandbox.None {
		t.Skip("no sandbox works here, so nothing is hidden: " + why)
	}
	for _, text := range []string{
		"cat " + s.path("keys", "secrets.key"), "ls " + s.path("keys"), "cat " + s.path("belay.db"), "strings /proc/" + fmt.Sprint(os.Getpid()) + "/environ",
	} {
		if got, err := read("shop", text); err == nil {
			t.Errorf("%s: %q", text, got)
		}
	}
	if os.Geteuid() == 0 {
		if got, err := read("shop", "id -u"); err != nil || got == "0" {
			t.Errorf("it runs as %s: %v", got, err)
		}
	}
}

func TestCommandsOfSecretsAreBounded(t *testing.T) {
	_, r := secretServer(t)
	run := r.resolver.Run
	if _, err := run(t.Context(), "shop", domain.Staging, "echo half-of-the-value >&2; exit 3"); err == nil || strings.Contains(err.Error(), "half-of") || !strings.Contains(err.Error(), "3") {
		t.Errorf("%v", err)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := run(ctx, "shop", domain.Staging, "sleep 60"); err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	began = time.Now()
	if v, err := run(t.Context(), "shop", domain.Staging, "yes"); err == nil || time.Since(began) > config.SecretCommandTimeout/2 {
		t.Errorf("%d bytes in %s: %v", len(v), time.Since(began), err)
	}
}

// One file with every provider, in both environments: values, versions, findings, and what texts show of them.
func TestEveryProvider(t *testing.T) {
	s, r := secretServer(t)
	file := filepath.Join(t.TempDir(), "shop.env")
	if err := os.WriteFile(file, []byte("KEY=f1le-value-9912\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LICENSE_staging", "env-st4ging-1181")
	t.Setenv("LICENSE_production", "env-pr0duction-1182")
	f := &config.File{App: "shop", Secrets: config.Secrets{
		Store: []config.Var{"STORED"}, File: map[string]config.ServerFile{"FILED": config.ServerFile(file + "#KEY")},
		Env: map[string]config.DaemonVar{"LICENSE": "LICENSE_$BELAY_ENV"}, Exec: map[string]config.Command{"RUN": commandOf(t, `printf 'ex3c-%s-3315' $BELAY_ENV`)},
	}, Build: config.Build{Secrets: []config.Var{"NPM_TOKEN"}}}
	set := func(env domain.Environment, name, value string) {
		t.Helper()
		v := domain.SecretVersion{SecretPlace: domain.SecretPlace{App: "shop", Environment: env, Name: name}}
		if _, _, err := r.SetSecret(t.Context(), v, domain.NewSecret(value), nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := r.Resolve(t.Context(), "shop", f, domain.Staging); domain.CodeOf(err) != domain.Refused || domain.HintOf(err) != "belay secret set STORED --env staging" {
		t.Errorf("%v, hint %s", err, domain.HintOf(err))
	}
	set(domain.Staging, "STORED", "st0red-staging-771")
	set(domain.Production, "STORED", "ch4ngeme-not-really-8")
	set(domain.Production, "STORED", "st0red-production-772")
	set(domain.BuildSecrets, "NPM_TOKEN", "npm_t0ken_889900")
	want := map[string]string{"STORED": "st0red-production-772", "FILED": "f1le-value-9912", "LICENSE": "env-pr0duction-1182", "RUN": "ex3c-production-3315"}
	values, versions, err := r.Resolve(t.Context(), "shop", f, domain.Production)
	if err != nil || versions["STORED"] != 2 || versions["FILED"] != 1 {
		t.Fatalf("%v %v", versions, err)
	}
	for name, v := range want {
		if values[name].Reveal() != v {
			t.Errorf("%s is %q, want %q", name, values[name].Reveal(), v)
		}
	}
	env, own, err := r.build(t.Context(), "shop", f)
	if err != nil || !slices.Equal(env, []string{"NPM_TOKEN=npm_t0ken_889900"}) || len(own) != 1 {
		t.Errorf("%v %v", env, err)
	}
	statuses, findings, err := r.Inspect(t.Context(), "shop", f, map[domain.Environment]*domain.Release{})
	if err != nil || len(statuses) != 5 {
		t.Fatalf("%+v %v", statuses, err)
	}
	if len(findings) != 1 || findings[0].ID != "same" || findings[0].Name != "FILED" {
		t.Errorf("findings: %+v", findings)
	}
	if err := os.Chmod(file, 0o644); err != nil { //nolint:gosec // the defect that is looked for
		t.Fatal(err)
	}
	if _, findings, _ = r.Inspect(t.Context(), "shop", f, nil); len(findings) != 2 || findings[0].ID != "readable" {
		t.Errorf("findings: %+v", findings)
	}
	// What was resolved, what is stored, and what was stored before is masked, also in a process that resolved nothing yet.
	again, err := s.openSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := "a st0red-staging-771 b st0red-production-772 c ch4ngeme-not-really-8 d npm_t0ken_889900 e"
	for name, one := range map[string]*resolver{"this": r, "the next": again} {
		if got := one.masks.text("shop", text); got != "a [redacted] b [redacted] c [redacted] d [redacted] e" {
			t.Errorf("%s process: %s", name, got)
		}
	}
	var b strings.Builder
	log := slog.New(slog.NewTextHandler(&maskedLog{w: &b, mask: r.masks.anyApp}, nil))
	if err := s.store.EnsureApp(t.Context(), "shop", "root"); err != nil {
		t.Fatal(err)
	}
	log.Error("failed", "url", "postgres://u:st0red-production-772@db")
	if strings.Contains(b.String(), "st0red") || !strings.Contains(b.String(), "[redacted]@db") {
		t.Errorf("the server's log: %s", b.String())
	}
}
