package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var shop = map[string]string{
	"migrations/00001_item.sql": "-- +goose Up\ncreate table item (id bigint generated always as identity primary key, name text not null);\n-- +goose Down\ndrop table item;\n",
	"migrations/00002_seed.sql": "-- +goose Up\ninsert into item (name) values ('chalk'), ('rope');\n-- +goose Down\ndelete from item;\n",
}

func TestEveryRunGetsAFreshMigratedDatabase(t *testing.T) {
	m := sharedManager(t)
	first := fresh(t, m, "shop", migrations(t, "goose", shop))
	if !first.Made {
		t.Error("the first run must make the template")
	}
	must(t, first.URL(), "select count(*) from item", "2")
	must(t, first.URL(), "select current_user", "app")
	if _, err := ask(t, first.URL(), "delete from item"); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, first.URL(), "alter table item add column seen boolean"); err != nil {
		t.Fatal("a test may change its schema: ", err)
	}
	second := fresh(t, m, "shop", migrations(t, "goose", shop))
	if second.Made || second.Name == first.Name {
		t.Errorf("the second run: %+v after %+v", second, first)
	}
	must(t, second.URL(), "select count(*) from item", "2")
	t.Logf("template and first %s, second %s", first.Took, second.Took)
	more := map[string]string{"migrations/00003_more.sql": "-- +goose Up\ninsert into item (name) values ('nut');\n"}
	for name, text := range shop {
		more[name] = text
	}
	third := fresh(t, m, "shop", migrations(t, "goose", more))
	if !third.Made {
		t.Error("another migration is another template")
	}
	must(t, third.URL(), "select count(*) from item", "3")
	empty := fresh(t, m, "shop", Migrations{})
	must(t, empty.URL(), "select count(*) from pg_tables where schemaname = 'public'", "0")
}

func TestARunCannotReachTemplatesOrTheServer(t *testing.T) {
	m := sharedManager(t)
	d := fresh(t, m, "shop", migrations(t, "goose", shop))
	template := templatePrefix + migrations(t, "goose", shop).Key(newest(t).Major)
	denied(t, d.URL(), "drop database "+template, "must be owner")
	denied(t, d.URL(), "alter database "+template+" allow_connections true", "must be owner")
	denied(t, strings.Replace(d.URL(), d.Name, template, 1), "select 1", "not currently accepting connections")
	denied(t, strings.Replace(d.URL(), d.Name, "postgres", 1), "select 1", "permission denied")
	denied(t, d.URL(), "copy (select 1) to program 'id'", "must be superuser")
	denied(t, d.URL(), "select pg_read_file('postmaster.opts')", "permission denied")
	if _, err := ask(t, d.URL(), "create database test_shop"); err != nil {
		t.Error("frameworks make databases of their own: ", err)
	}
	if _, err := ask(t, d.URL(), "create extension pg_trgm"); err != nil {
		t.Log("no trusted extension here: ", err)
	}
}

func TestTwoAppsCannotConnectToEachOthers(t *testing.T) {
	t.Parallel()
	m := sharedManager(t)
	a, b := fresh(t, m, "shop", Migrations{}), fresh(t, m, "blog", Migrations{})
	if a.Port == b.Port {
		t.Fatal("two apps share a server")
	}
	crossed := strings.Replace(strings.Replace(a.URL(), fmt.Sprint(a.Port), fmt.Sprint(b.Port), 1), a.Name, b.Name, 1)
	denied(t, crossed, "select 1", "password authentication failed")
	if os.Geteuid() == 0 {
		if a.s.home.account.UID == b.s.home.account.UID || a.s.home.account.UID == 0 {
			t.Errorf("accounts %+v and %+v", a.s.home.account, b.s.home.account)
		}
		fi, err := os.Stat(a.s.home.inside)
		if err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("data folder %v, %v", fi, err)
		}
	}
}

func TestManyAtOnceMakeOneTemplate(t *testing.T) {
	m := sharedManager(t)
	v := newest(t)
	slow := map[string]string{"migrations/1.sql": "select pg_sleep(0.3); create table made (at timestamptz default now()); insert into made default values;"}
	reads := migrations(t, "sql", slow)
	var wait sync.WaitGroup
	made := make(chan *Database, 8)
	for range 8 {
		wait.Go(func() {
			d, err := m.Fresh(t.Context(), Customer{App: "shop"}, v, reads)
			if err != nil {
				t.Error(err)
				return
			}
			made <- d
		})
	}
	wait.Wait()
	close(made)
	makers, names := 0, map[string]bool{}
	for d := range made {
		if d.Made {
			makers++
		}
		names[d.Name] = true
		must(t, d.URL(), "select count(*) from made", "1")
		if err := d.Drop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if makers != 1 || len(names) != 8 {
		t.Errorf("%d made the template, %d databases", makers, len(names))
	}
}

func TestAFailedMigrationLeavesNoTemplate(t *testing.T) {
	m := sharedManager(t)
	v := newest(t)
	for tool, files := range map[string]map[string]string{
		"sql":   {"migrations/1_good.sql": "create table a (id int);", "migrations/2_bad.sql": "-- adds b\ncreate table b (id int);\n\ncreate table\n  b (id int);"},
		"goose": {"migrations/1_good.sql": "-- +goose Up\ncreate table a (id int);", "migrations/2_bad.sql": "-- +goose Up\ncreate table a (id int);"},
	} {
		bad := migrations(t, tool, files)
		for range 2 { // the second try must not find half of the first
			_, err := m.Fresh(t.Context(), Customer{App: "shop"}, v, bad)
			if err == nil || !strings.Contains(err.Error(), "migrations/2_bad.sql") || !strings.Contains(err.Error(), "already exists") {
				t.Errorf("%s: %v", tool, err)
			}
			if tool == "sql" && !strings.Contains(fmt.Sprint(err), "2_bad.sql:4") {
				t.Errorf("no line: %v", err)
			}
		}
	}
	d := fresh(t, m, "shop", Migrations{})
	must(t, d.URL(), "select count(*) from pg_database where datname like 'making%'", "0")
}

func TestADroppedRunLeavesNothing(t *testing.T) {
	m := sharedManager(t)
	v := newest(t)
	d, err := m.Fresh(t.Context(), Customer{App: "shop"}, v, Migrations{})
	if err != nil {
		t.Fatal(err)
	}
	other := fresh(t, m, "shop", Migrations{})
	if _, err := ask(t, d.URL(), "create database test_of_a_framework"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	open := make(chan error, 1)
	go func() { // a connection that the tests left open does not keep it
		_, err := ask(t, d.URL(), "select pg_sleep(60)")
		open <- err
	}()
	eventually(t, "the connection", func() bool {
		n, err := ask(t, other.URL(), "select count(*) from pg_stat_activity where datname = '"+d.Name+"'")
		return err == nil && n == "1"
	})
	cancel(errors.New("the delivery was cancelled"))
	if err := d.Drop(context.WithoutCancel(ctx)); err != nil {
		t.Error(err)
	}
	if err := <-open; err == nil {
		t.Error("the connection was not ended")
	}
	must(t, other.URL(), "select count(*) from pg_database where datname = '"+d.Name+"'", "0")
	must(t, other.URL(), "select count(*) from pg_database where datname like 'test_of%'", "1")
	if err := m.servers["shop/"+fmt.Sprint(v.Major)].clean(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestAServerThatIsGoneComesBack ends one server in every way in which it may end, one after the other.
func TestAServerThatIsGoneComesBack(t *testing.T) {
	t.Parallel()
	m := manager(t, func(c *Config) { c.Idle = 50 * time.Millisecond })
	v := newest(t)
	stop := func(t *testing.T, s *postgres) {
		t.Helper()
		if err := s.proc.stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		harm func(t *testing.T, d *Database)
		made bool // the templates are gone with it
	}{
		{"idle", func(t *testing.T, d *Database) {
			if err := d.Drop(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the end of an idle server", func() bool { return !listens(d.Port) })
		}, false},
		{"killed", func(t *testing.T, d *Database) { killPostmaster(t, d.s) }, false},
		{"deleted while it runs", func(t *testing.T, _ *Database) { remove(t, Folder(m.cfg.Data, "shop")) }, true},
		{"control file cut", func(t *testing.T, d *Database) {
			stop(t, d.s)
			if err := os.Truncate(filepath.Join(d.s.home.inside, "global/pg_control"), 10); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"the machine was started again", func(t *testing.T, d *Database) {
			stop(t, d.s)
			write(t, filepath.Join(d.s.home.dir, bootFile), "another boot")
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, err := m.Fresh(t.Context(), Customer{App: "shop"}, v, migrations(t, "goose", shop))
			if err != nil {
				t.Fatal(err)
			}
			c.harm(t, before)
			if c.name != "idle" {
				defer func() {
					if err := before.Drop(context.Background()); err != nil {
						t.Error("dropping what is gone: ", err)
					}
				}()
			}
			next := fresh(t, m, "shop", migrations(t, "goose", shop))
			if next.Made != c.made {
				t.Errorf("the template was made: %v", next.Made)
			}
			must(t, next.URL(), "select count(*) from item", "2")
			must(t, next.URL(), "select count(*) from pg_database where datname = '"+before.Name+"'", "0")
			denied(t, strings.Replace(next.URL(), next.password, before.password, 1), "select 1", "password authentication failed")
		})
	}
}

func remove(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
}

func TestOldAndManyTemplatesAreDropped(t *testing.T) {
	m := sharedManager(t)
	v := newest(t)
	template := func(n int) Migrations {
		return migrations(t, "sql", map[string]string{"migrations/1.sql": fmt.Sprintf("create table t%d (id int);", n)})
	}
	keep := fresh(t, m, "shop", Migrations{})
	count := "select count(*) from pg_database where datname like 'template\\_%'"
	for n := range templatesKept + 2 {
		d, err := m.Fresh(t.Context(), Customer{App: "shop"}, v, template(n))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	must(t, keep.URL(), count, fmt.Sprint(templatesKept))
	conn, err := keep.s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // a test
	old := templatePrefix + template(templatesKept+1).Key(v.Major)
	if _, err := conn.Exec(t.Context(), fmt.Sprintf("comment on database %s is '2001-01-01T00:00:00Z'", quoted(old))); err != nil {
		t.Fatal(err)
	}
	if err := keep.s.forget(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	must(t, keep.URL(), count, fmt.Sprint(templatesKept-1))
	must(t, keep.URL(), "select count(*) from pg_database where datname = '"+old+"'", "0")
}
