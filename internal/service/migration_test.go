package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/domain"
)

func TestStatements(t *testing.T) {
	for text, want := range map[string]string{
		"select 1; select 2":                                                "1:select 1|1:select 2",
		"-- a; b\n\nselect 1;\n\nselect\n2;\n":                              "3:select 1|5:select\n2",
		"select ';', \"a;b\", E'\\';', 'it''s;';":                           `1:select ';', "a;b", E'\';', 'it''s;'`,
		"do $$ begin; end $$; select $a$;$a$;":                              "1:do $$ begin; end $$|1:select $a$;$a$",
		"/* ; /* ; */ ; */ select 1;":                                       "1:select 1",
		"create rule r as on insert to a do (select 1; select 2); select 3": "1:create rule r as on insert to a do (select 1; select 2)|1:select 3",
		"create function f() returns int begin atomic select case when true then 1 end; select 2; end; select 3;": "1:create function f() returns int begin atomic select case when true then 1 end; select 2; end|1:select 3",
		"begin; select 1; end; commit;":        "1:begin|1:select 1|1:end|1:commit",
		";;\n;":                                "",
		"select $1; select a$b$c; select 1":    "1:select $1|1:select a$b$c|1:select 1",
		"select 'not closed; ":                 "1:select 'not closed; ",
		"\ufeffselect 1;":                      "1:select 1",
		"insert into a values ('x');-- end":    "1:insert into a values ('x')",
		"select \"atomic\", atomic from a; b;": `1:select "atomic", atomic from a|1:b`,
	} {
		var got []string
		for _, s := range statements(text) {
			got = append(got, fmt.Sprintf("%d:%s", s.line, s.text))
		}
		if all := strings.Join(got, "|"); all != want {
			t.Errorf("%q: %q, want %q", text, all, want)
		}
	}
}

// TestStatementsLoseNothing: whatever the text, its statements are parts of it, in order, at the lines they name.
func TestStatementsLoseNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{
			"select", " ", "\n", ";", "'", "\"", "$$", "$a$", "--", "/*", "*/", "(", ")", "E'\\''", "begin atomic", "end", "case", "ü", "1",
		})).Draw(t, "text"), "")
		rest := text
		for _, s := range statements(text) {
			i := strings.Index(rest, s.text)
			if i < 0 || s.text == "" {
				t.Fatalf("%q is no part of %q", s.text, rest)
			}
			if line := 1 + strings.Count(text[:len(text)-len(rest)+i], "\n"); s.line > line+strings.Count(rest, "\n") || s.line < 1 {
				t.Fatalf("%q in line %d, at the earliest %d", s.text, s.line, line)
			}
			rest = rest[i+len(s.text):]
		}
	})
}

func TestTheKeyIsThatOfTheContent(t *testing.T) {
	key := func(m Migrations) string {
		t.Helper()
		read, err := m.Read()
		if err != nil {
			t.Fatal(err)
		}
		return read.Key(15)
	}
	dir := checkout(t, shop)
	base := Migrations{Tool: "goose", Folder: dir, Variable: "DATABASE_URL"}
	first := key(base)
	if again := key(Migrations{Tool: "goose", Folder: checkout(t, shop), Variable: "DATABASE_URL", Timeout: 1}); again != first {
		t.Error("the same content in another folder has another key")
	}
	if read, _ := base.Read(); read.Key(16) == first {
		t.Error("another major version has the same key")
	}
	write(t, filepath.Join(dir, "main.go"), "package main")
	if key(base) != first {
		t.Error("a file that is no migration changes the key")
	}
	write(t, filepath.Join(dir, "migrations/00002_seed.sql"), "-- +goose Up\nselect 1;\n")
	changed := key(base)
	write(t, filepath.Join(dir, "migrations/00003_generated.sql"), "-- +goose Up\nselect 1;\n")
	if added := key(base); changed == first || added == changed {
		t.Error("a changed or a new migration has the same key")
	}
	own := Migrations{Up: "./migrate up", Folder: dir, Variable: "DATABASE_URL"}
	before := key(own)
	write(t, filepath.Join(dir, "main.go"), "package main // changed")
	if key(own) == before {
		t.Error("without a folder everything may decide what a command does")
	}
	own.Dir = "migrations"
	before = key(own)
	write(t, filepath.Join(dir, "go.sum"), "a library v2")
	if key(own) == before {
		t.Error("another version of a library has the same key")
	}
	own.Env = []string{"SCHEMA=shop"}
	with := key(own)
	if own.Env[0] = "SCHEMA=blog"; key(own) == with {
		t.Error("another environment has the same key")
	}
}

func TestPlannedFollowsTheCommit(t *testing.T) {
	entries := []Entry{{Name: "main.go", Hash: "1"}, {Name: "go.sum", Hash: "1"}, {Name: "db/migrations/1.sql", Hash: "1"}}
	change := func(i int, hash string) []Entry {
		other := append([]Entry(nil), entries...)
		other[i].Hash = hash
		return other
	}
	for tool, decides := range map[string][3]bool{"goose": {false, false, true}, "golang-migrate": {false, true, true}} {
		m := Migrations{Tool: tool}
		for i, want := range decides {
			if got := m.Planned(entries).Key(15) != m.Planned(change(i, "2")).Key(15); got != want {
				t.Errorf("%s: %s decides: %v", tool, entries[i].Name, got)
			}
		}
	}
	linked := append(change(0, "1"), Entry{Name: "db/migrations/2.sql", Hash: "1", Link: true})
	m := Migrations{Tool: "goose"}
	before := m.Planned(linked).Key(15)
	linked[0].Hash = "2"
	if m.Planned(linked).Key(15) == before {
		t.Error("a link may lead anywhere in the commit")
	}
	if (Migrations{}).Planned(entries).Key(15) != (Migrations{}).Planned(nil).Key(15) {
		t.Error("without migrations files do not matter")
	}
}

func TestMigrationsThatAreRefused(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.sql")
	write(t, secret, "select 'of the server'")
	for name, c := range map[string]struct {
		files map[string]string
		tool  string
		link  string
		want  string
	}{
		"no folder":     {map[string]string{"main.go": ""}, "goose", "", "finds no folder"},
		"no files":      {map[string]string{"migrations/README": ""}, "sql", "", "no .sql file"},
		"written in Go": {map[string]string{"migrations/00001_a.sql": "", "migrations/00002_b.go": ""}, "goose", "", "written in Go"},
		"environment":   {map[string]string{"migrations/00001_a.sql": "-- +goose Up\n-- +goose ENVSUB ON\nselect '${HOME}';"}, "goose", "", "00001_a.sql:2: ENVSUB"},
		"a link away":   {map[string]string{"migrations/00001_a.sql": "select 1"}, "sql", secret, "escapes"},
	} {
		dir := checkout(t, c.files)
		if c.link != "" {
			if err := os.Symlink(c.link, filepath.Join(dir, "migrations/00009_link.sql")); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Migrations{Tool: c.tool, Folder: dir}.Read()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// commandsIn are migrations by commands, which run without a sandbox in a checkout that the test makes.
func commandsIn(t *testing.T, m Migrations, files map[string]string) Migrations {
	t.Helper()
	m.Folder, m.Runner, m.Variable, m.Timeout = checkout(t, files), command.Local{}, "SHOP_DATABASE", time.Minute
	m.Env = []string{"PATH=" + command.DefaultPath + ":" + newest(t).Dir}
	read, err := m.Read()
	if err != nil {
		t.Fatal(err)
	}
	return read
}

func TestCommandsMigrate(t *testing.T) {
	m := sharedManager(t)
	v := newest(t)
	log := &bytes.Buffer{}
	files := map[string]string{"db/1.sql": "create table done (id int);"}
	d := fresh(t, m, "shop", commandsIn(t, Migrations{Up: `psql -qf db/1.sql "$SHOP_DATABASE"`, Dir: "db", Log: log}, files))
	must(t, d.URL(), "select count(*) from done", "0")
	if !strings.Contains(log.String(), "psql -qf db/1.sql") || strings.Contains(log.String(), d.password) {
		t.Errorf("log %q", log)
	}
	steps := Migrations{
		Up:     `psql -qc "insert into step select count(*) + 1 from step having count(*) < 3"`,
		Status: `psql -qtAc "create table if not exists step (n int)" -c "select count(*) from step"`,
	}
	d = fresh(t, m, "shop", commandsIn(t, steps, files))
	must(t, d.URL(), "select count(*) from step", "3")
	_, err := m.Fresh(t.Context(), Customer{App: "shop"}, v, commandsIn(t, Migrations{Up: `echo "line 7: no such column" >&2; exit 3`}, files))
	if err == nil || !strings.Contains(err.Error(), "no such column") || !strings.Contains(err.Error(), "migrations:") {
		t.Errorf("the last lines of the tool: %v", err)
	}
	slow := commandsIn(t, Migrations{Up: "sleep 60"}, files)
	slow.Timeout = 100 * time.Millisecond
	if _, err := m.Fresh(t.Context(), Customer{App: "shop"}, v, slow); err == nil || !strings.Contains(err.Error(), "100ms") {
		t.Errorf("a migration without end: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("cancelled by ana"))
	if _, err := m.Fresh(ctx, Customer{App: "shop"}, v, slow); err == nil || !strings.Contains(err.Error(), "cancelled by ana") {
		t.Errorf("a cancelled delivery: %v", err)
	}
}

func TestVersionsAreChosen(t *testing.T) {
	installed := []Installed{{Major: 17, Version: "17.2"}, {Major: 15, Version: "15.18"}}
	for major, want := range map[int]string{0: "17.2", 15: "15.18"} {
		if v, err := Choose(installed, major, ""); err != nil || v.Version != want {
			t.Errorf("%d: %+v, %v", major, v, err)
		}
	}
	_, err := Choose(installed, 16, ", and production runs it")
	if err == nil || !strings.Contains(err.Error(), "postgres 16 is not installed on this server, and production runs it; it has 17, 15") ||
		!strings.Contains(domain.HintOf(err), "postgresql-16") {
		t.Errorf("%v: %s", err, domain.HintOf(err))
	}
	if _, err := Choose(nil, 0, ""); err == nil {
		t.Error("nothing is installed")
	}
	if _, err := Redis(t.Context(), t.TempDir()); err == nil {
		t.Error("redis from nowhere")
	}
}

func TestProductionIsAskedOnceADay(t *testing.T) {
	m := sharedManager(t)
	d := fresh(t, m, "shop", Migrations{})
	asked := 0
	urls := func(context.Context) []string { asked++; return []string{"mysql://x", d.URL()} }
	for range 3 {
		if got := m.Production(t.Context(), "asked", urls); got != newest(t).Major {
			t.Errorf("production runs %d", got)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	began := time.Now()
	silent, err := listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for range 2 {
		got := m.Production(t.Context(), "silent", func(context.Context) []string { return []string{"postgres://x@" + silent.Addr().String() + "/x"} })
		if got != 0 {
			t.Errorf("nobody said %d", got)
		}
	}
	if took := time.Since(began); took > 2*askWithin {
		t.Errorf("it waited %s", took)
	}
}

func TestUnmergedCodeHasAServerOfItsOwn(t *testing.T) {
	t.Parallel()
	m := sharedManager(t)
	merged := fresh(t, m, "shop", Migrations{})
	d, err := m.Fresh(t.Context(), Customer{App: "shop", Unmerged: true}, newest(t), Migrations{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Drop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if d.Port == merged.Port {
		t.Error("it shares one with deliveries")
	}
}
