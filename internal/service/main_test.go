package service

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/sandbox"
)

// TestMain lets the test binary be the sandbox, and the daemon that one test kills.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "sandbox":
		os.Exit(sandbox.Main(os.Args[2:]))
	case len(os.Args) > 2 && os.Args[1] == "daemon":
		os.Exit(daemon(os.Args[2]))
	}
	goleak.VerifyTestMain(&withShared{m})
}

// shared is one manager for the tests that do not harm it: a server takes a second to make.
var shared struct {
	once sync.Once
	m    *Manager
	dir  string
}

// withShared closes what is shared before leaks are looked for.
type withShared struct{ *testing.M }

func (m *withShared) Run() int {
	code := m.M.Run()
	if shared.m != nil {
		if err := shared.m.Close(context.Background()); err != nil {
			fmt.Println(err)
			code = 1
		}
		_ = os.RemoveAll(shared.dir)
	}
	return code
}

func sharedManager(t testing.TB) *Manager {
	t.Helper()
	shared.once.Do(func() {
		shared.dir = newFolder(t)
		shared.m = New(config(shared.dir))
	})
	return shared.m
}

// folder is a data folder with a short path that other users can pass.
func folder(t testing.TB) string {
	t.Helper()
	dir := newFolder(t)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func newFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "belay") //nolint:usetesting // a folder that other users may enter
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // as the daemon's
		t.Fatal(err)
	}
	return dir
}

func config(dir string) Config {
	return Config{
		Data: dir, Path: command.DefaultPath, Sandbox: &sandbox.Sandbox{},
		Accounts: sandbox.Accounts{File: filepath.Join(dir, "users.json"), Numeric: true},
		Log:      slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
}

// manager returns one that is closed at the end of the test.
func manager(t testing.TB, change ...func(*Config)) *Manager {
	t.Helper()
	cfg := config(folder(t))
	for _, f := range change {
		f(&cfg)
	}
	m := New(cfg)
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// installed is what newest finds, once: programs are started for it.
var installed = sync.OnceValues(func() (Installed, string) {
	all := Postgres(context.Background(), command.DefaultPath)
	if len(all) == 0 {
		return Installed{}, "postgres is not installed here"
	}
	box := &sandbox.Sandbox{}
	if mode, why := box.Probe(); mode == sandbox.None && os.Geteuid() == 0 {
		return Installed{}, "postgres does not run as root, and no sandbox works here: " + why
	}
	return all[0], ""
})

// newest is the newest PostgreSQL of this machine.
func newest(t testing.TB) Installed {
	t.Helper()
	v, missing := installed()
	if missing != "" {
		t.Skip(missing)
	}
	return v
}

// checkout writes files and returns their folder.
func checkout(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// migrations reads those of a folder.
func migrations(t testing.TB, tool string, files map[string]string) Migrations {
	t.Helper()
	m, err := Migrations{Tool: tool, Folder: checkout(t, files), Variable: "DATABASE_URL", Timeout: time.Minute}.Read()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// fresh gets a database that is dropped at the end of the test.
func fresh(t testing.TB, m *Manager, app string, migrations Migrations) *Database {
	t.Helper()
	d, err := m.Fresh(t.Context(), Customer{App: app}, newest(t), migrations)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Drop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

// ask runs a query as the tests do and returns its first value as text.
func ask(t testing.TB, url, query string) (string, error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		return "", err
	}
	defer conn.Close(t.Context()) //nolint:errcheck // a test
	rows, err := conn.Query(t.Context(), query, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	text := ""
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return "", err
		}
		if len(values) > 0 {
			text = fmt.Sprint(values[0])
		}
	}
	return text, rows.Err()
}

func must(t testing.TB, url, query, want string) {
	t.Helper()
	got, err := ask(t, url, query)
	if err != nil || got != want {
		t.Errorf("%s: %q, %v; want %q", query, got, err, want)
	}
}

// denied fails the test unless the query is refused for the reason.
func denied(t testing.TB, url, query, why string) {
	t.Helper()
	if got, err := ask(t, url, query); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("%s: %q, %v; want an error with %q", query, got, err, why)
	}
}

// eventually waits until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for range 1000 {
		if holds() {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("%s: not within 20 s", what)
}

func listens(port int) bool {
	conn, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// self is this test binary as another program.
func self(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(context.Background(), exe, args...)
}
