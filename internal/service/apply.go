package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/domain"
)

// environmentRead finds the annotation with which goose puts variables of its process into migrations. The process would
// be the daemon, whose variables are nobody's business.
var environmentRead = regexp.MustCompile(`(?i)\+goose\s+ENVSUB\s+ON`)

// check refuses migrations that the built-in tools cannot run, before anything runs.
func (m Migrations) check() error {
	if len(m.files) == 0 {
		return domain.Errorf(domain.Invalid, "migrations: %s holds no .sql file", m.Dir)
	}
	if m.Tool != "goose" {
		return nil
	}
	for _, f := range m.files {
		if path.Ext(f.name) == ".go" {
			if startsWithDigit(path.Base(f.name)) && !strings.HasSuffix(f.name, "_test.go") {
				return domain.Errorf(domain.Invalid, "migrations: %s is written in Go, which only the app itself can run", f.name).
					WithHint("migrations: { up: …, down: … } with the command that runs them")
			}
			continue
		}
		if at := environmentRead.FindIndex(f.text); at != nil {
			return domain.Errorf(domain.Invalid, "migrations: %s:%d: ENVSUB would read the variables of the server", f.name, lineAt(f.text, at[0])).
				WithHint("migrations: { up: goose … up, down: goose … down } runs goose as a command of the app")
		}
	}
	return nil
}

func startsWithDigit(name string) bool { return name != "" && name[0] >= '0' && name[0] <= '9' }

func lineAt(text []byte, offset int) int { return 1 + bytes.Count(text[:offset], []byte("\n")) }

// config is how the built-in tools connect: as the tests do.
func (d *Database) config() (*pgx.ConnConfig, error) { return pgx.ParseConfig(d.URL()) }

// goose runs the migrations with the library.
func (m Migrations) goose(ctx context.Context, d *Database) error {
	cfg, err := d.config()
	if err != nil {
		return err
	}
	files := fstest.MapFS{}
	for _, f := range m.files {
		if path.Ext(f.name) == ".sql" {
			files[path.Base(f.name)] = &fstest.MapFile{Data: f.text, Mode: 0o444}
		}
	}
	db := stdlib.OpenDB(*cfg)
	defer db.Close() //nolint:errcheck // nothing is open on it
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return domain.Errorf(domain.Failed, "goose: %w", err)
	}
	done, err := provider.Up(ctx)
	if partial := new(goose.PartialError); errors.As(err, &partial) {
		return m.blame(m.Dir+"/"+path.Base(partial.Failed.Source.Path), partial.Err)
	}
	if err != nil {
		return domain.Errorf(domain.Failed, "goose: %w", err)
	}
	m.say("goose: %d migrations in %s", len(done), m.Dir)
	return nil
}

// blame words the error of a database, at the place in a file where it is known.
func (m Migrations) blame(at string, err error) error {
	db := new(pgconn.PgError)
	if !errors.As(err, &db) {
		return domain.Errorf(domain.Failed, "%s: %w", at, err)
	}
	text := db.Message
	if db.Detail != "" {
		text += ": " + db.Detail
	}
	out := domain.Errorf(domain.Failed, "%s: %s (%s)", at, text, db.Code)
	switch {
	case db.Hint != "":
		out = out.WithHint("%s", db.Hint)
	case db.Code == "42501": // insufficient_privilege
		out = out.WithHint("migrations of tests run as the owner of their database, not as a superuser")
	}
	return out
}

func (m Migrations) say(format string, args ...any) {
	if m.Log != nil {
		_, _ = fmt.Fprintf(m.Log, format+"\n", args...)
	}
}

// backwards are the endings of files that take a migration back.
var backwards = []string{".down.sql", ".undo.sql", ".rollback.sql"}

// sql runs plain files in the order of their names, each statement on its own as psql does.
func (m Migrations) sql(ctx context.Context, d *Database) error {
	cfg, err := d.config()
	if err != nil {
		return err
	}
	count := 0
	for _, f := range m.files {
		if path.Ext(f.name) != ".sql" || slices.ContainsFunc(backwards, func(end string) bool { return strings.HasSuffix(f.name, end) }) {
			continue
		}
		if err := m.sqlFile(ctx, cfg, f); err != nil {
			return err
		}
		count++
	}
	m.say("sql: %d files in %s", count, m.Dir)
	return nil
}

// sqlFile runs one file on a connection of its own: what it sets ends with it.
func (m Migrations) sqlFile(ctx context.Context, cfg *pgx.ConnConfig, f file) error {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is open on it
	for _, s := range statements(string(f.text)) {
		if err := conn.PgConn().Exec(ctx, s.text).Close(); err != nil {
			line := s.line
			if db := new(pgconn.PgError); errors.As(err, &db) && db.Position > 0 {
				runes := []rune(s.text)
				line += strings.Count(string(runes[:min(int(db.Position)-1, len(runes))]), "\n")
			}
			return m.blame(fmt.Sprintf("%s:%d", f.name, line), err)
		}
	}
	if conn.PgConn().TxStatus() != 'I' {
		return domain.Errorf(domain.Failed, "%s: its transaction is not committed", f.name)
	}
	return nil
}

// ups are the commands of tools that are not built in. Each reads the variables of the database, too.
var ups = map[string]string{
	"golang-migrate": `migrate -path "$BELAY_MIGRATIONS" -database "$DATABASE_URL" up`,
	"atlas":          `atlas migrate apply --dir "file://$BELAY_MIGRATIONS" --url "$DATABASE_URL"`,
	"flyway":         `flyway -locations="filesystem:$BELAY_MIGRATIONS" migrate`,
	"alembic":        `alembic upgrade head`,
	"django":         `python manage.py migrate --noinput`,
	"rails":          `bundle exec rails db:migrate`,
	"dbmate":         `dbmate --no-dump-schema --migrations-dir "$BELAY_MIGRATIONS" migrate`,
}

// maxSteps bounds how often a command that does one step is run.
const maxSteps = 10_000

// commands runs the app's own tool in the checkout.
func (m Migrations) commands(ctx context.Context, d *Database) error {
	env := append(append(slices.Clone(m.Env), "BELAY_MIGRATIONS="+m.Dir, "DATABASE_URL="+d.URL()), d.Env(m.Variable)...)
	switch m.Tool {
	case "flyway":
		env = append(env, fmt.Sprintf("FLYWAY_URL=jdbc:postgresql://127.0.0.1:%d/%s", d.Port, d.Name),
			"FLYWAY_USER="+tester, "FLYWAY_PASSWORD="+d.password)
	case "rails":
		env = append(env, "RAILS_ENV=test", "SCHEMA="+"/tmp/schema.rb")
	}
	up := m.Up
	if up == "" {
		up = ups[m.Tool]
	}
	if m.Status == "" {
		_, err := m.command(ctx, up, env)
		return err
	}
	before, err := m.command(ctx, m.Status, env)
	for range maxSteps {
		if err != nil {
			return err
		}
		if _, err := m.command(ctx, up, env); err != nil {
			return err
		}
		last := before
		if before, err = m.command(ctx, m.Status, env); err == nil && before == last {
			return nil
		}
	}
	return domain.Errorf(domain.Failed, "%s still changes the level after %d steps", up, maxSteps)
}

// maxSaid is how much of a command's output is kept.
const maxSaid = 64 << 10

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if len(t.text) > 2*maxSaid {
		t.text = append([]byte(nil), t.text[len(t.text)-maxSaid:]...)
	}
	return len(p), nil
}

// command runs one command and returns what it wrote to standard output.
func (m Migrations) command(ctx context.Context, run string, env []string) (string, error) {
	argv, err := command.Argv(run, env)
	if err != nil {
		return "", err
	}
	if m.Runner == nil {
		return "", errors.New("nothing here can run commands")
	}
	began := time.Now()
	said, complained := &tail{}, &tail{}
	err = m.Runner.Run(ctx, command.Cmd{Dir: m.Folder, Argv: argv, Env: env, Stdout: said, Stderr: complained, Purpose: "migrations", Timeout: m.Timeout})
	m.say("%s: %s", run, time.Since(began).Round(time.Millisecond))
	if err == nil {
		return string(said.text), nil
	}
	last := lastOf(string(complained.text))
	if last == "" {
		last = lastOf(string(said.text))
	}
	m.say("%s%s", said.text, complained.text)
	return "", domain.Errorf(domain.Failed, "%s: %w: %s", run, err, last)
}
