package app

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/process"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/service"
	"github.com/belay-cd/belay/internal/suite"
)

// tree is an artifact that lies unpacked in a folder.
type tree string

func (t tree) Unpack(context.Context, string) (string, error) { return string(t), nil }

// testRunner is a runner whose instances find an artifact of these files.
func testRunner(t *testing.T, artifact map[string]string) *runner {
	t.Helper()
	data, err := os.MkdirTemp("/var/tmp", "belay") //nolint:usetesting // a folder that other users may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(data) })
	for _, dir := range []string{"", "instances", "volumes", "release", "work"} {
		if err := os.MkdirAll(filepath.Join(data, dir), 0o711); err != nil { //nolint:gosec // as the daemon's
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(data, dir), 0o755); err != nil { //nolint:gosec // as the daemon's
			t.Fatal(err)
		}
	}
	for name, text := range artifact {
		path := filepath.Join(data, "release", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // everybody reads a release
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil { //nolint:gosec // everybody reads a release
			t.Fatal(err)
		}
	}
	box, accounts := &sandbox.Sandbox{}, sandbox.Accounts{File: filepath.Join(data, "users.json"), Numeric: true}
	driver, err := process.New(process.Config{Data: data, Artifacts: tree(filepath.Join(data, "release")), Sandbox: box, Accounts: accounts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = driver.Close() })
	return &runner{Driver: driver, data: data, box: box, accounts: accounts}
}

// started is an app of which one role writes down its database and one does not start.
const started = `app: shop
build: { files: [.] }
test: { unit: { run: go test -json ./... }, integration: { none: "too small" }, e2e: { none: "too small" } }
secrets: { env: { DATABASE_URL: SHOP_DB_$BELAY_ENV } }
roles:
  web:    { static: public, hosts: { staging: [a.localhost], production: [b.localhost] } }
  back-office: { static: admin, hosts: { staging: [c.localhost], production: [d.localhost] } }
  worker: { run: ./worker, probe: { log: "^ready$" }, volumes: { files: var } }
  broken: { run: ./broken, probe: { log: "^ready$" } }
`

func TestStartGivesRolesTheServices(t *testing.T) {
	f, findings := config.Parse("belay.yaml", []byte(started), config.Options{Demo: true})
	for _, found := range findings {
		if found.Severity == config.Error {
			t.Fatal(found)
		}
	}
	r := testRunner(t, map[string]string{
		"public/index.html": "shop", "admin/index.html": "office",
		"worker": "#!/bin/sh\necho \"$DATABASE_URL\" >var/seen\necho ready\nexec sleep 1000\n",
		"broken": "#!/bin/sh\necho 'no column named price' >&2\nexit 3\n",
	})
	if mode, why := r.box.Probe(); mode == sandbox.None {
		t.Skip("no sandbox works here: ", why)
	}
	s := &starter{r, delivery.Job{Delivery: domain.Delivery{App: "shop"}, File: f}, delivery.Artifact{Digest: "sha256:1"}}
	var stops []func(context.Context) error
	for _, url := range []string{"postgres://a", "postgres://b"} { // two parts at once
		given, stop, err := s.Start(t.Context(), []string{"worker", "web", "back-office"}, []string{"DATABASE_URL=" + url})
		if err != nil {
			t.Fatal(err)
		}
		stops = append(stops, stop)
		want := map[string]string{"BELAY_URL": "shop", "BELAY_URL_WEB": "shop", "BELAY_URL_BACK_OFFICE": "office"}
		for _, pair := range given {
			name, address, _ := strings.Cut(pair, "=")
			if got := body(t, address); got != want[name] {
				t.Errorf("%s: %q", pair, got)
			}
			delete(want, name)
		}
		if len(want) > 0 {
			t.Errorf("not given: %v", want)
		}
	}
	seen := []string{}
	files, err := filepath.Glob(filepath.Join(r.data, "volumes/shop/test/*/seen"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, strings.TrimSpace(string(text)))
	}
	slices.Sort(seen)
	if strings.Join(seen, " ") != "postgres://a postgres://b" {
		t.Errorf("the workers of two parts saw %q", seen)
	}
	for _, stop := range stops {
		if err := stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	_, _, err = s.Start(t.Context(), []string{"web", "broken"}, nil)
	if err == nil || !strings.Contains(err.Error(), "no column named price") || !strings.Contains(err.Error(), "give DATABASE_URL a literal value") {
		t.Errorf("a role that does not start: %v", err)
	}
	for _, kind := range []string{"volumes", "instances"} {
		if left, err := filepath.Glob(filepath.Join(r.data, kind, "shop/test/*")); err != nil || len(left) > 0 {
			t.Errorf("left of %s: %v, %v", kind, left, err)
		}
	}
}

func body(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url) //nolint:gosec,noctx // a test's own address
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSweepTestedLeavesTheEnvironments(t *testing.T) {
	data := t.TempDir()
	for _, dir := range []string{"volumes/shop/test/files.1", "instances/shop/test/rel_test_1", "volumes/shop/production/files"} {
		if err := os.MkdirAll(filepath.Join(data, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := sweepTested(data); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(data, "*/shop/*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "production" {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestServicesOfALevel(t *testing.T) {
	installed := service.Postgres(t.Context(), command.DefaultPath)
	if _, err := service.Redis(t.Context(), command.DefaultPath); len(installed) == 0 || err != nil {
		t.Skip("postgres or redis is not installed here")
	}
	r := testRunner(t, nil)
	if mode, why := r.box.Probe(); mode == sandbox.None {
		t.Skip("no sandbox works here: ", why)
	}
	f, _ := config.Parse("belay.yaml", []byte(started+"migrations: { tool: sql, dir: migrations }\n"), config.Options{Demo: true})
	m := service.New(service.Config{Data: r.data, Path: command.DefaultPath, Sandbox: r.box, Accounts: r.accounts})
	t.Cleanup(func() { _ = m.Close(context.Background()) })
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "migrations"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "migrations/1.sql"), []byte("create table item (id int);"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	b := &builder{runner: r, servers: m}
	p := place{dir: dir}
	p.Path = command.DefaultPath
	s := b.services(delivery.Job{Delivery: domain.Delivery{App: "shop"}, File: f}, p, &log)
	env, names, release, err := s.Provide(t.Context(), suite.Level{Name: "integration", Services: []string{"postgres", "redis"}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var given []string
	for _, pair := range env {
		name, _, _ := strings.Cut(pair, "=")
		given = append(given, name)
	}
	if strings.Join(given, " ") != "DATABASE_URL PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGSSLMODE REDIS_URL" {
		t.Errorf("given %q", given)
	}
	if len(names) != 2 || names[0] != "postgres "+installed[0].Version || !strings.HasPrefix(names[1], "redis ") {
		t.Errorf("versions %q", names)
	}
	if !strings.Contains(log.String(), "production's version is not known") || !strings.Contains(log.String(), "a template and a fresh database in") {
		t.Errorf("log %q", log.String())
	}
	if err := release(context.Background()); err != nil {
		t.Error(err)
	}
	for services, want := range map[string]string{
		"mysql 8":     "mysql cannot be provided for tests yet",
		"postgres 99": "postgres 99 is not installed on this server",
		"redis 99":    "redis 99 is not installed",
	} {
		level := suite.Level{Name: "integration", Services: []string{"redis", services}}
		_, _, _, err := s.Provide(t.Context(), level, 0)
		if _, same := s.Versions(t.Context(), level); err == nil || same == nil || !strings.Contains(err.Error(), want) || same.Error() != err.Error() {
			t.Errorf("%s: %v, %v", services, err, same)
		}
	}
	if left, err := filepath.Glob(filepath.Join(service.Folder(r.data, "shop"), "redis-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
