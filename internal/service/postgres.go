package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// The users of a test server: its owner is the daemon's alone; migrations and tests share the other, which may make
// databases but is no superuser, so that no run can change what another one starts from.
const (
	owner  = "belay"
	tester = "app"
)

// postgresMemory bounds a PostgreSQL server with all its connections, in bytes.
const postgresMemory = 2 << 30

// settings of the servers. What makes data durable is off: it is test data, and is made again after a crash.
var settings = []string{
	"fsync=off", "synchronous_commit=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0",
	"shared_buffers=64MB", "max_connections=200", "max_wal_size=256MB", "min_wal_size=64MB", "autovacuum_naptime=1min",
	"listen_addresses=127.0.0.1", "unix_socket_directories=", "logging_collector=off", "log_destination=stderr",
	"log_min_messages=fatal", "log_checkpoints=off", "password_encryption=scram-sha-256", "max_prepared_transactions=16",
}

// postgres is the server of one customer and one major version. It is started when it is needed.
type postgres struct {
	m  *Manager
	of Customer
	v  Installed

	turn   chan struct{} // held while it is started, stopped, or a template is made
	mu     sync.Mutex    // guards what follows
	home   home
	proc   *process
	port   int
	owner  string // password
	tester string // password
	used   int    // runs that have a database
	idle   *time.Timer
}

// server returns the one of a customer and version.
func (m *Manager) server(of Customer, v Installed) (*postgres, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errClosed
	}
	key := fmt.Sprintf("%s/%d%s", of.App, v.Major, of.folder())
	s := m.servers[key]
	if s == nil {
		s = &postgres{m: m, of: of, v: v, turn: make(chan struct{}, 1)}
		m.servers[key] = s
	}
	return s, nil
}

// acquire takes the turn.
func (s *postgres) acquire(ctx context.Context) (release func(), err error) {
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// use makes sure that the server runs, and that it is not stopped before leave.
func (s *postgres) use(ctx context.Context) error {
	release, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	s.mu.Lock()
	s.used++
	if s.idle != nil {
		s.idle.Stop()
	}
	running := s.proc != nil && s.proc.running()
	s.mu.Unlock()
	if running {
		return nil
	}
	if err := s.start(ctx); err != nil {
		s.leave()
		return unavailable("postgres "+s.v.Version, err, "")
	}
	return nil
}

// leave says that a run is over. The last one to leave stops the server after a while.
func (s *postgres) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used--
	if s.used > 0 {
		return
	}
	s.idle = time.AfterFunc(s.m.cfg.Idle, s.rest)
}

// rest stops a server that nobody uses.
func (s *postgres) rest() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*endWithin)
	defer cancel()
	release, err := s.acquire(ctx)
	if err != nil {
		return
	}
	defer release()
	s.mu.Lock()
	proc, used := s.proc, s.used
	s.mu.Unlock()
	if used > 0 || proc == nil {
		return
	}
	if err := proc.stop(ctx); err != nil {
		s.m.cfg.Log.Warn("stop an idle server of tests", "app", s.of.App, "postgres", s.v.Version, "error", err)
	}
}

func (s *postgres) close(ctx context.Context) error {
	s.mu.Lock()
	if s.idle != nil {
		s.idle.Stop()
	}
	proc := s.proc
	s.mu.Unlock()
	if proc == nil {
		return nil
	}
	return proc.stop(ctx)
}

// start brings the server up; a data folder that does not come up is made anew, once. The caller has the turn.
func (s *postgres) start(ctx context.Context) error {
	h, err := s.m.room(ctx, s.of.App, fmt.Sprintf("postgres-%d%s", s.v.Major, s.of.folder()))
	if err != nil {
		return err
	}
	s.home = h
	err = s.launch(ctx)
	if err == nil || ctx.Err() != nil || errors.Is(err, errClosed) {
		return err
	}
	s.m.cfg.Log.Warn("the data of a server of tests is made again", "app", s.of.App, "postgres", s.v.Version, "why", err)
	if err := os.RemoveAll(h.inside); err != nil {
		return err
	}
	if err := h.make(); err != nil {
		return err
	}
	return s.launch(ctx)
}

// launch starts the server on its data folder, which is made when it is missing or may be broken.
func (s *postgres) launch(ctx context.Context) error {
	// Whoever has the lock of the log owns the folder; launch takes it again right away.
	log, err := lockedLog(ctx, filepath.Join(s.home.dir, "log"))
	if err != nil {
		return err
	}
	err = s.initialise(ctx)
	_ = log.Close()
	if err != nil {
		return err
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	argv := []string{filepath.Join(s.v.Dir, "postgres"), "-D", s.home.inside, "-p", strconv.Itoa(port)}
	for _, setting := range settings {
		argv = append(argv, "-c", setting)
	}
	p, err := s.m.launch(ctx, s.home, program{argv: argv, memory: postgresMemory, end: "INT"})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.proc, s.port = p, port
	s.mu.Unlock()
	s.m.mu.Lock()
	closed := s.m.closed
	s.m.mu.Unlock()
	if closed { // after Close looked for what to stop
		return errors.Join(errClosed, p.stop(ctx))
	}
	if err := s.ready(ctx, p); err != nil {
		return errors.Join(fmt.Errorf("%w: %s", err, p.said()), p.kill())
	}
	return nil
}

// The files beside the data folder.
const (
	passwordFile = "password" // of the owner; present once the folder is complete
	bootFile     = "boot"     // id of the boot in which it was last started
)

// initialise makes the data folder, unless there is one that can be trusted: complete, and not from before a restart of
// the machine, which nothing of it survives for certain.
func (s *postgres) initialise(ctx context.Context) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	secret, err := os.ReadFile(filepath.Join(s.home.dir, passwordFile))
	last, _ := os.ReadFile(filepath.Join(s.home.dir, bootFile))
	if _, gone := os.Stat(filepath.Join(s.home.inside, "PG_VERSION")); err == nil && gone == nil && bytes.Equal(last, boot) {
		s.owner = string(secret)
		// Process ids are its own, so the one in this file says nothing.
		return ignoreMissing(os.Remove(filepath.Join(s.home.inside, "postmaster.pid")))
	}
	for _, path := range []string{filepath.Join(s.home.dir, passwordFile), s.home.inside} {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	if err := s.home.make(); err != nil {
		return err
	}
	s.owner = password()
	file, err := s.home.write(".password", s.owner+"\n")
	if err != nil {
		return err
	}
	said, err := s.m.run(ctx, s.home, "sh", "-c",
		`mv "$2" /tmp/password && "$0" --no-sync --no-instructions -D "$1" -U `+owner+
			` -A scram-sha-256 --pwfile /tmp/password -E UTF8 --locale=C.UTF-8`,
		filepath.Join(s.v.Dir, "initdb"), s.home.inside, file)
	if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, lastOf(said))
	}
	s.home.spread("base")
	if err := os.WriteFile(filepath.Join(s.home.dir, bootFile), boot, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.home.dir, passwordFile), []byte(s.owner), 0o600)
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// readyWithin is how long PostgreSQL has to answer, recovery included.
const readyWithin = 60 * time.Second

// ready waits until the server answers, and makes it as runs expect it.
func (s *postgres) ready(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("no answer within %s", readyWithin))
	defer cancel()
	for {
		conn, err := s.connect(ctx)
		if err == nil {
			err = s.prepare(ctx, conn)
			_ = conn.Close(ctx)
			return err
		}
		select {
		case <-p.done:
			return errEnded
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// prepare gives the tests' user a new password and drops what a crash left.
func (s *postgres) prepare(ctx context.Context, conn *pgx.Conn) error {
	s.mu.Lock()
	s.tester = password()
	secret := s.tester
	s.mu.Unlock()
	exists := false
	if err := conn.QueryRow(ctx, "select exists (select from pg_roles where rolname = $1)", tester).Scan(&exists); err != nil {
		return err
	}
	verb := "create"
	if exists {
		verb = "alter"
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf("%s role %s login createdb password '%s'", verb, tester, secret)); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "revoke connect on database postgres from public"); err != nil {
		return err
	}
	return s.sweep(ctx, conn)
}

// connect opens a connection of the server's owner.
func (s *postgres) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, err
	}
	cfg.Host, cfg.Port = "127.0.0.1", uint16(s.port) //nolint:gosec // a port
	cfg.User, cfg.Password, cfg.Database = owner, s.owner, "postgres"
	cfg.TLSConfig, cfg.Fallbacks = nil, nil
	cfg.RuntimeParams = map[string]string{"application_name": "belay"}
	return pgx.ConnectConfig(ctx, cfg)
}

// quoted is a name as SQL takes it.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
