package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// The names of databases. A template gets its name when it is complete: one that is being made has another.
const (
	templatePrefix = "template_"
	makingPrefix   = "making_"
	runPrefix      = "run_"
)

// What is kept of the templates of one server.
const (
	templatesKept = 5
	templateDays  = 7
)

// usedFormat sorts as time does.
const usedFormat = "2006-01-02T15:04:05.000000Z"

// Database is a fresh database of one run.
type Database struct {
	s    *postgres
	Name string
	Port int
	// Made reports that the template had to be made for it.
	Made bool
	// Took is how long the database took, without the template and the start of the server.
	Took time.Duration

	password string
}

// URL is where the tests reach it.
func (d *Database) URL() string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", tester, d.password, d.Port, d.Name)
}

// Env are the variables that name it, as libpq reads them, and its URL as variable.
func (d *Database) Env(variable string) []string {
	return []string{
		variable + "=" + d.URL(), "PGHOST=127.0.0.1", fmt.Sprintf("PGPORT=%d", d.Port), "PGUSER=" + tester,
		"PGPASSWORD=" + d.password, "PGDATABASE=" + d.Name, "PGSSLMODE=disable",
	}
}

// Fresh gives a run a database of its own in which the migrations have run: a copy of a template that is made
// once for each content of the migrations. Several callers at once make it once. Drop must be called exactly once.
func (m *Manager) Fresh(ctx context.Context, of Customer, v Installed, migrations Migrations) (*Database, error) {
	s, err := m.server(of, v)
	if err != nil {
		return nil, err
	}
	if err := s.use(ctx); err != nil {
		return nil, err
	}
	d, err := s.fresh(ctx, migrations)
	if err != nil && ctx.Err() == nil && s.broken(ctx) {
		if err = s.again(ctx); err == nil {
			d, err = s.fresh(ctx, migrations)
		}
	}
	if err != nil {
		s.leave()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return d, nil
}

// broken reports whether the server died, is dying, or lost its data folder.
func (s *postgres) broken(ctx context.Context) bool {
	s.mu.Lock()
	proc := s.proc
	s.mu.Unlock()
	if proc == nil || !proc.running() {
		return true
	}
	if _, err := os.Stat(filepath.Join(s.home.inside, "PG_VERSION")); err != nil {
		return true
	}
	conn, err := s.connect(ctx)
	if err == nil {
		_ = conn.Close(ctx)
		return false
	}
	var dial *net.OpError
	return ctx.Err() == nil && errors.As(err, &dial) && dial.Op == "dial"
}

// again starts a broken server.
func (s *postgres) again(ctx context.Context) error {
	release, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	if !s.broken(ctx) {
		return nil // somebody else did
	}
	if s.proc != nil {
		if err := s.proc.kill(); err != nil {
			return err
		}
	}
	return s.start(ctx)
}

// fresh copies the template.
func (s *postgres) fresh(ctx context.Context, migrations Migrations) (*Database, error) {
	template := templatePrefix + migrations.Key(s.v.Major)
	made, err := s.template(ctx, template, migrations)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is open on it
	name := runPrefix + strings.ToLower(password()[:10])
	if _, err := conn.Exec(ctx, s.create(name, template)); err != nil {
		return nil, fmt.Errorf("a fresh database: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Database{s: s, Name: name, Port: s.port, Made: made, Took: time.Since(began), password: s.tester}, nil
}

// create is the statement that copies a template. Copying its files takes half as long as writing them through the log
// where nothing waits for the disk.
func (s *postgres) create(name, template string) string {
	text := fmt.Sprintf("create database %s template %s owner %s", quoted(name), quoted(template), tester)
	if s.v.Major >= 15 {
		text += " strategy file_copy"
	}
	return text
}

// template makes sure that the template is there, and reports whether it had to be made.
func (s *postgres) template(ctx context.Context, name string, migrations Migrations) (made bool, err error) {
	if found, err := s.touch(ctx, name); err != nil || found {
		return false, err
	}
	release, err := s.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	if found, err := s.touch(ctx, name); err != nil || found {
		return false, err
	}
	return true, s.makeTemplate(ctx, name, migrations)
}

// touch reports whether a template is there, and notes that it is used.
func (s *postgres) touch(ctx context.Context, name string) (bool, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is open on it
	found := false
	err = conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1)", name).Scan(&found)
	if err != nil || !found {
		return false, err
	}
	return true, s.note(ctx, conn, name)
}

// note writes down when a template was used last.
func (s *postgres) note(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, fmt.Sprintf("comment on database %s is '%s'", quoted(name), time.Now().UTC().Format(usedFormat)))
	return err
}

// makeTemplate runs the migrations in a new database and gives it the template's name once it is complete. The caller
// has the turn.
func (s *postgres) makeTemplate(ctx context.Context, name string, migrations Migrations) (err error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is open on it
	making := makingPrefix + strings.TrimPrefix(name, templatePrefix)
	if err := s.drop(ctx, conn, making); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, s.create(making, "template0")); err != nil {
		return fmt.Errorf("a template: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove(context.WithoutCancel(ctx), making))
		}
	}()
	d := &Database{s: s, Name: making, Port: s.port, password: s.tester}
	if err := migrations.apply(ctx, d); err != nil {
		return err
	}
	// From here on nobody but the owner changes it, and nobody connects to it: that would hold up every copy.
	for _, statement := range []string{
		fmt.Sprintf("alter database %s owner to %s", quoted(making), owner),
		fmt.Sprintf("alter database %s allow_connections false", quoted(making)),
		fmt.Sprintf("select pg_terminate_backend(pid) from pg_stat_activity where datname = '%s'", making),
		"checkpoint",
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("complete the template: %w", err)
		}
	}
	if err := s.rename(ctx, conn, making, name); err != nil {
		return err
	}
	if err := s.note(ctx, conn, name); err != nil {
		return err
	}
	return s.forget(ctx, conn)
}

// rename waits for the connections that were just ended.
func (s *postgres) rename(ctx context.Context, conn *pgx.Conn, from, to string) error {
	statement := fmt.Sprintf("alter database %s rename to %s", quoted(from), quoted(to))
	var err error
	for range 100 {
		if _, err = conn.Exec(ctx, statement); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("complete the template: %w", err)
}

// drop drops a database with its connections; one that is not there is no error.
func (s *postgres) drop(ctx context.Context, conn *pgx.Conn, name string) error {
	text := "drop database if exists " + quoted(name)
	if s.v.Major >= 13 {
		text += " with (force)"
	} else if _, err := conn.Exec(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, text)
	return err
}

func (s *postgres) remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if s.broken(ctx) {
		return nil // its next start drops it
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is open on it
	return s.drop(ctx, conn, name)
}

// Drop drops the database and ends its connections. When it was the last one in use, the databases that the tests made
// for themselves go as well.
func (d *Database) Drop(ctx context.Context) error {
	err := d.s.remove(ctx, d.Name)
	release, turn := d.s.acquire(ctx)
	if turn == nil {
		defer release()
		d.s.mu.Lock()
		last := d.s.used == 1
		d.s.mu.Unlock()
		if last && !d.s.broken(ctx) {
			err = errors.Join(err, d.s.clean(ctx))
		}
	}
	d.s.leave()
	return err
}

func (s *postgres) clean(ctx context.Context) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is open on it
	return s.sweep(ctx, conn)
}

// sweep drops every database that is no complete template, and the templates that are too many or too old. Nobody uses
// the server meanwhile.
func (s *postgres) sweep(ctx context.Context, conn *pgx.Conn) error {
	names, err := list(ctx, conn, "select datname from pg_database where not datistemplate and datname <> 'postgres' and not starts_with(datname, $1)", templatePrefix)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.drop(ctx, conn, name); err != nil {
			return err
		}
	}
	return s.forget(ctx, conn)
}

// forget drops the templates that were not used for a week, and all but the few used last.
func (s *postgres) forget(ctx context.Context, conn *pgx.Conn) error {
	const stale = `select datname from (
		select datname, coalesce(shobj_description(oid, 'pg_database'), '') as used from pg_database where starts_with(datname, $1)
		order by used desc) t
	where used < $2 or datname not in (
		select datname from pg_database where starts_with(datname, $1)
		order by coalesce(shobj_description(oid, 'pg_database'), '') desc limit $3)`
	oldest := time.Now().UTC().AddDate(0, 0, -templateDays).Format(usedFormat)
	names, err := list(ctx, conn, stale, templatePrefix, oldest, templatesKept)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.drop(ctx, conn, name); err != nil {
			return err
		}
	}
	return nil
}

func list(ctx context.Context, conn *pgx.Conn, query string, args ...any) ([]string, error) {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
