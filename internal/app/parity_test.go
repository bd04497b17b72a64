package app

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// postgres starts a PostgreSQL of its own, and returns the URL of a database by its name.
func postgres(t *testing.T) func(database string) string {
	t.Helper()
	initdb, err := exec.LookPath("initdb")
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); err != nil && len(found) > 0 {
		initdb = found[len(found)-1]
	}
	if initdb == "" {
		t.Skip("no PostgreSQL is installed here")
	}
	dir, err := os.MkdirTemp("", "belay-parity-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const nobody = 65534
	run := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(filepath.Dir(initdb), program), args...) //nolint:gosec // the test's own program
		cmd.Dir = dir
		if os.Geteuid() == 0 { // PostgreSQL does not run as root
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
		return cmd
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := run("initdb", "-D", dir+"/data", "-U", "ana", "-A", "trust", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server := run("postgres", "-D", dir+"/data", "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		_ = server.Wait()
	})
	url := func(database string) string { return "postgres://ana:hunter2hunter2@/" + database + "?host=" + dir }
	for range 100 {
		conn, err := pgx.Connect(t.Context(), url("postgres"))
		if err == nil {
			return closing(t, conn, url)
		}
		time.Sleep(50 * time.Millisecond) // it says nowhere when it is ready
	}
	t.Fatal("PostgreSQL does not start")
	return nil
}

func closing(t *testing.T, conn *pgx.Conn, url func(string) string) func(string) string {
	t.Helper()
	for _, name := range []string{"staging", "production"} {
		if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return url
}

func TestDatabasesAreAsked(t *testing.T) {
	url := postgres(t)
	for name, rows := range map[string]string{"staging": "40", "production": "5000"} {
		conn, err := pgx.Connect(t.Context(), url(name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), "CREATE TABLE item AS SELECT generate_series(1, "+rows+"); CREATE TABLE empty (id int); ANALYZE"); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	staging, err := databases{}.Look(t.Context(), url("staging"))
	if err != nil {
		t.Fatal(err)
	}
	production, err := databases{}.Look(t.Context(), url("production"))
	if err != nil || staging.Rows != 40 || production.Rows != 5000 || staging.Version < 9 || staging.Version != production.Version {
		t.Errorf("%+v %+v %v", staging, production, err)
	}
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mute.Close() }()
	for place, why := range map[string]string{
		url("nothing"): "it refused with SQLSTATE 3D000",
		"postgres://ana:hunter2hunter2@127.0.0.1:1/production":                  "connection refused",
		"postgres://ana:hunter2hunter2@" + mute.Addr().String() + "/production": "no answer within 3s",
		"postgres://ana:hunter2hunter2@host:port/production":                    "its URL cannot be read",
		"mysql://ana:hunter2hunter2@127.0.0.1/production":                       "only PostgreSQL is asked: its URL begins with postgres://",
	} {
		_, err := databases{}.Look(t.Context(), place)
		if err == nil || err.Error() != why {
			t.Errorf("%s: %v, want %s", place, err, why)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "ana")) {
			t.Errorf("it tells the secret: %v", err)
		}
	}
}
