package suite_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/suite"
)

// trap is one thing that makes a level red when it changes. Check is the level's script, or Level is changed by plant.
type trap struct {
	check  string
	plant  func(*machine)
	change func(*machine)
}

func (m *machine) unit() *suite.Level { return &m.levels[len(m.levels)-1] }

// same writes a file again with other content, and its old size and times.
func (m *machine) same(name, text string) {
	m.t.Helper()
	full := filepath.Join(m.top, name)
	before, err := os.Stat(full)
	m.must(err)
	if int(before.Size()) != len(text) {
		m.t.Fatalf("%s: %d bytes, not %d", name, len(text), before.Size())
	}
	m.must(os.WriteFile(full, []byte(text), before.Mode().Perm()))
	m.must(os.Chtimes(full, before.ModTime(), before.ModTime()))
}

func (m *machine) link(to, name string) {
	m.t.Helper()
	full := filepath.Join(m.top, name)
	_ = os.Remove(full)
	m.must(os.Symlink(to, full))
}

func (m *machine) remove(name string) { m.must(os.Remove(filepath.Join(m.top, name))) }

func (m *machine) rename(from, to string) {
	m.must(os.Rename(filepath.Join(m.top, from), filepath.Join(m.top, to)))
}

func file(name, text string) func(*machine) {
	return func(m *machine) { m.write(name, text) }
}

const okScript, redScript = "#!/bin/sh\nexit 0\n", "#!/bin/sh\nexit 1\n"

// traps are ways in which a result of yesterday is wrong today.
var traps = map[string]trap{
	"a variable of the daemon": {`test "$GREETING" = hello`, func(m *machine) { m.env = []string{"GREETING=hello"} }, func(m *machine) { m.env = []string{"GREETING=bye"} }},
	"a variable of the level":  {`test "$MODE" = a`, func(m *machine) { m.unit().Env = []string{"MODE=a"} }, func(m *machine) { m.unit().Env = []string{"MODE=b"} }},
	"the command":              {"exit 0", func(*machine) {}, func(m *machine) { m.unit().Run = "sh check.sh && exit 3 # php" }},
	"the order of PATH": {"tool", func(m *machine) { m.write("one/bin/tool", okScript); m.write("two/bin/tool", redScript) },
		func(m *machine) { m.path[0], m.path[1] = m.path[1], m.path[0] }},
	"a program that hides another":                 {"tool", file("two/bin/tool", okScript), file("one/bin/tool", redScript)},
	"a program of the same version, size and time": {"tool", file("one/bin/tool", okScript), func(m *machine) { m.same("one/bin/tool", redScript) }},
	"a version of a program":                       {"node --version | grep -q v18", file("one/bin/node", "#!/bin/sh\necho v18.1.0\n"), func(m *machine) { m.same("one/bin/node", "#!/bin/sh\necho v20.1.0\n") }},
	"a program behind a link": {"tool", func(m *machine) {
		m.write("v1/tool.sh", okScript)
		m.write("v2/tool.sh", redScript)
		m.link("../../v1/tool.sh", "one/bin/tool")
	}, func(m *machine) { m.link("../../v2/tool.sh", "one/bin/tool") }},
	"a program that is called by a program": {"runner", func(m *machine) {
		m.write("one/bin/runner", "#!/bin/sh\nexec helper\n")
		m.write("one/bin/helper", okScript)
	},
		func(m *machine) { m.same("one/bin/helper", redScript) }},
	"a choice of a version manager": {`test "$(cat "$(dirname "$(command -v tool)")/../version")" = 3.11`, func(m *machine) {
		m.write("pyenv/shims/tool.sh", okScript)
		m.rename("pyenv/shims/tool.sh", "pyenv/shims/tool")
		m.write("pyenv/version", "3.11")
		m.path = append([]string{filepath.Join(m.top, "pyenv/shims")}, m.path...)
	}, file("pyenv/version", "3.12")},
	"an installed library": {`test -e "$(dirname "$(command -v tool)")/../lib/python3.11/site-packages/requests"`, func(m *machine) {
		m.write("one/bin/tool", okScript)
		m.write("one/lib/python3.11/site-packages/requests", "")
	}, func(m *machine) { m.remove("one/lib/python3.11/site-packages/requests") }},
	"a package of the system": {`grep -q libfoo1 ../root/var/lib/dpkg/status`, file("root/var/lib/dpkg/status", "libfoo1"), file("root/var/lib/dpkg/status", "libfoo2")},
	"the version of a service": {`test "$PGVERSION" = 15`, func(m *machine) {
		m.unit().Services, m.versions, m.given = []string{"postgres"}, []string{"postgres 15.18"}, []string{"PGVERSION=15"}
	}, func(m *machine) { m.versions, m.given = []string{"postgres 16.2"}, []string{"PGVERSION=16"} }},
	"the settings of a service": {`test "$TABLES" = 3`, func(m *machine) {
		m.unit().Services, m.versions, m.given = []string{"postgres"}, []string{"postgres 15.18", "template 5f0c"}, []string{"TABLES=3"}
	}, func(m *machine) {
		m.versions, m.given = []string{"postgres 15.18", "template 9a1b"}, []string{"TABLES=4"}
	}},
	"the time zone of the environment": {`test "$(date -d @0 +%H)" = 00`, func(m *machine) { m.env = []string{"TZ=UTC"} }, func(m *machine) { m.env = []string{"TZ=JST-9"} }},
	"the time zone of the machine":     {"grep -q UTC ../root/etc/localtime", file("root/etc/localtime", "UTC0"), func(m *machine) { m.same("root/etc/localtime", "JST9") }},
	"the time zone behind a link": {"grep -q UTC ../root/etc/localtime", func(m *machine) {
		m.write("root/zone/utc", "UTC")
		m.write("root/zone/jst", "JST")
		m.must(os.MkdirAll(filepath.Join(m.root, "etc"), 0o755))
		m.link("../zone/utc", "root/etc/localtime")
	}, func(m *machine) { m.link("../zone/jst", "root/etc/localtime") }},
	"the locale":                {`test "$LANG" = C.UTF-8`, func(m *machine) { m.env = []string{"LANG=C.UTF-8"} }, func(m *machine) { m.env = []string{"LANG=de_DE.UTF-8"} }},
	"a name in /etc/hosts":      {"grep -q 10.0.0.1 ../root/etc/hosts", file("root/etc/hosts", "10.0.0.1 db"), file("root/etc/hosts", "10.0.0.2 db")},
	"a setting in the home":     {`grep -q strict "$HOME/.toolrc"`, file("home/.toolrc", "strict"), file("home/.toolrc", "loose!")},
	"a file that is no program": {"./tool.sh", file("src/tool.sh", okScript), func(m *machine) { m.must(os.Chmod(filepath.Join(m.dir, "tool.sh"), 0o644)) }},
	"a link to another file":    {"grep -q a link", func(m *machine) { m.write("src/a", "a"); m.write("src/b", "b"); m.link("a", "src/link") }, func(m *machine) { m.link("b", "src/link") }},
	"a file behind a link":      {"grep -q a link", func(m *machine) { m.write("shared/a", "a"); m.link("../shared/a", "src/link") }, func(m *machine) { m.same("shared/a", "b") }},
	"a folder behind a link":    {"test ! -e link/new", func(m *machine) { m.write("shared/a", "a"); m.link("../shared", "src/link") }, file("shared/new", "")},
	"a submodule":               {"grep -q v1 vendor/lib/version", file("src/vendor/lib/version", "v1"), file("src/vendor/lib/version", "v2")},
	"a file of another name":    {"test -e a.txt", file("src/a.txt", ""), func(m *machine) { m.rename("src/a.txt", "src/b.txt") }},
	"a name in other case":      {"test -e A.txt", file("src/A.txt", ""), func(m *machine) { m.rename("src/A.txt", "src/a.txt") }},
	"an empty file more":        {"test ! -e extra", func(*machine) {}, file("src/extra", "")},
	"an empty folder more":      {"test ! -e extra", func(*machine) {}, func(m *machine) { m.must(os.Mkdir(filepath.Join(m.dir, "extra"), 0o755)) }},
	"a file less":               {"test -e a.txt", file("src/a.txt", ""), func(m *machine) { m.remove("src/a.txt") }},
	"a swap of two contents":    {"grep -q a a.txt", func(m *machine) { m.write("src/a.txt", "a"); m.write("src/b.txt", "b") }, func(m *machine) { m.same("src/a.txt", "b"); m.same("src/b.txt", "a") }},
	"the ends of lines":         {"test $(wc -c < a.txt) = 2", file("src/a.txt", "a\n"), file("src/a.txt", "a\r\n")},
	"a large file of the same size and time": {"grep -q needle big", file("src/big", strings.Repeat("x", 1<<20)+"needle"),
		func(m *machine) { m.same("src/big", strings.Repeat("x", 1<<20)+"noodle") }},
	"a file that git ignores":   {"test ! -e local.cfg", file("src/.gitignore", "local.cfg"), file("src/local.cfg", "x")},
	"a file in a kept folder":   {"test ! -e cache/poison", file("src/cache/index", "x"), file("src/cache/poison", "x")},
	"what the build generates":  {`grep -q v1 gen.txt`, func(m *machine) { generate(m, "v1") }, func(m *machine) { generate(m, "v2") }},
	"how a role is run":         {`test "$WORKERS" = 1`, startWith("digest workers=1", "WORKERS=1"), startWith("digest workers=2", "WORKERS=2")},
	"the artifact of a role":    {`test "$ANSWER" = 1`, startWith("sha256:1", "ANSWER=1"), startWith("sha256:2", "ANSWER=2")},
	"the report that is read":   {"echo '" + green + "' > a.xml", func(m *machine) { m.write("src/a.xml", green); m.unit().Report = "a.xml" }, func(m *machine) { m.unit().Report = "b.xml" }},
	"the time that it may take": {"sleep 0.3", func(*machine) {}, func(m *machine) { m.unit().Timeout = 100 * time.Millisecond }},
	"what the level before leaves": {"grep -q 1 left", func(m *machine) {
		m.levels = []suite.Level{{Name: "unit", Run: "sh -c 'echo 1 > left' # php", Timeout: time.Minute}, {Name: "integration", Run: script, Timeout: time.Minute}}
		m.files = func(context.Context, []string) (string, error) { return "a fresh checkout", nil }
	}, func(m *machine) { m.levels[0].Run = "sh -c 'echo 2 > left' # php" }},
	"an input that is named": {"grep -q a src/a.txt", func(m *machine) {
		m.write("src/src/a.txt", "a")
		m.unit().Inputs = []string{"src/**/*.txt", "check.sh"}
	}, file("src/src/a.txt", "b")},
	"the toolchain that a file chooses": {"grep -q 18 .nvmrc", func(m *machine) { m.write("src/.nvmrc", "18"); m.unit().Inputs = []string{"check.sh"} }, file("src/.nvmrc", "20")},
	"which files count": {"test ! -e other/new", func(m *machine) { m.write("src/other/a", ""); m.unit().Inputs = []string{"check.sh"} },
		func(m *machine) { m.write("src/other/new", ""); m.unit().Inputs = []string{"."} }},
	"how it is confined": {`test "$BOXED" = 1`, confined("user 1"), confined("none 0")},
}

func generate(m *machine, text string) {
	m.prepare = func(context.Context) error { return os.WriteFile(filepath.Join(m.dir, "gen.txt"), []byte(text), 0o644) } //nolint:gosec // a file of a checkout
	m.must(m.prepare(m.t.Context()))
}

func startWith(roles, given string) func(*machine) {
	return func(m *machine) {
		m.unit().Start, m.unit().Inputs, m.unit().Vouched = []string{"web"}, []string{"."}, true
		m.roles, m.given = roles, []string{given}
	}
}

func confined(how string) func(*machine) {
	return func(m *machine) {
		m.fixed = map[string]string{"confinement": how}
		m.unit().Services, m.versions, m.given = []string{"redis"}, []string{"redis 7"}, []string{"BOXED=" + strings.TrimPrefix(strings.Fields(how)[1], " ")}
	}
}

// TestCacheNeverGivesAStaleGreen: each trap is green, is answered from memory as long as nothing changes, and then really
// runs and is red.
func TestCacheNeverGivesAStaleGreen(t *testing.T) {
	t.Parallel()
	if len(traps) < 30 {
		t.Fatalf("%d traps", len(traps))
	}
	for name, trap := range traps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.runner.quiet = true // that a check which reaches nothing is known to do so is another test's
			m.write("src/check.sh", trap.check+"\n")
			trap.plant(m)
			if p := m.run(); !p.Green() {
				t.Fatalf("it is red before anything changed: %+v\n%s", p.Red(), m.log.String())
			}
			for p := m.run(); len(m.runner.ran) > 0; p = m.run() {
				if m.delivery > 143 || !p.Green() {
					t.Fatalf("it is not answered from memory: %s", m.log.String())
				}
			}
			trap.change(m)
			p := m.run()
			if p.Green() {
				t.Fatal("a stale green")
			}
			if red := p.Red(); red.Known || red.CachedFrom != "" || len(m.runner.ran) == 0 {
				t.Errorf("red without a run: %+v", red)
			}
			if p = m.run(); p.Green() || len(m.runner.ran) == 0 {
				t.Error("a red was answered from memory")
			}
		})
	}
}

// TestAnswerFromMemory: what is shown of a level that did not run.
func TestAnswerFromMemory(t *testing.T) {
	m := newMachine(t)
	m.write("src/r.sh", "echo '"+green+"' > ../r.xml && cp ../r.xml r.xml\n")
	m.write("src/r.xml", green+"\n")
	m.levels = []suite.Level{{Name: "unit", Run: "sh r.sh", Report: "r.xml", Timeout: time.Minute}, {Name: "integration", Run: "true", Timeout: time.Minute},
		{Name: "e2e", None: "a library"}}
	m.run()
	p := m.run()
	unit, integration, e2e := p.Levels[0], p.Levels[1], p.Levels[2]
	if len(m.runner.ran) > 0 || !unit.Known || unit.Passed != 2 || unit.Cached != 2 || unit.CachedFrom != "#141" || !unit.Counted || len(unit.Cases) != 2 {
		t.Errorf("%+v\n%s", unit, m.log.String())
	}
	if !integration.Known || integration.Counted || integration.Cached != 0 || integration.CachedFrom != "#141" || !strings.Contains(strings.Join(integration.Warnings, ""), "uncounted") {
		t.Errorf("%+v", integration)
	}
	if e2e.State != suite.Gap || e2e.Known {
		t.Errorf("%+v", e2e)
	}
	m.delivery = -1 // a run before the merge is number 0
	m.write("src/new", "")
	m.run()
	m.delivery = 150
	if p = m.run(); p.Levels[0].CachedFrom != "a run before the merge" {
		t.Errorf("%+v", p.Levels[0])
	}
}

// TestBranchDoesNotAnswerForMain: a branch can change what the inputs leave out, so that its tests are green.
func TestBranchDoesNotAnswerForMain(t *testing.T) {
	m := newMachine(t)
	m.write("src/check.sh", "test ! -e broken || test -e skip\n")
	m.write("src/broken", "")
	m.write("src/skip", "") // on the branch only
	m.unit().Inputs = []string{"check.sh", "broken"}
	m.delivery = -1
	if p := m.run(); !p.Green() {
		t.Fatal(m.log.String())
	}
	m.delivery = -1
	if p := m.run(); !p.Levels[0].Known {
		t.Errorf("the same commit again: %s", m.log.String())
	}
	m.remove("src/skip")
	m.delivery, m.commit = 150, "b"
	if p := m.run(); p.Green() {
		t.Error("the branch answered for another commit")
	}
}

// TestNetworkIsNoInput: a level that reaches what no hash covers runs each time, and its inputs can say otherwise.
func TestNetworkIsNoInput(t *testing.T) {
	m := newMachine(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	m.must(err)
	defer func() { _ = l.Close() }()
	var answer atomic.Value
	answer.Store("yes")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintln(c, answer.Load())
			_ = c.Close()
		}
	}()
	m.write("src/check.sh", fmt.Sprintf(`python3 -c 'import socket; s=socket.create_connection(("127.0.0.1",%d)); exit(s.recv(3)!=b"yes")'`+"\n", l.Addr().(*net.TCPAddr).Port))
	for range 2 {
		if p := m.run(); !p.Green() || p.Levels[0].Known {
			t.Fatalf("%+v\n%s", p.Levels[0], m.log.String())
		}
	}
	if !strings.Contains(m.log.String(), "it reaches "+l.Addr().String()+", which no hash covers") {
		t.Errorf("%q", m.log.String())
	}
	answer.Store("no!")
	if p := m.run(); p.Green() {
		t.Error("a stale green")
	}
	answer.Store("yes")
	m.unit().Inputs, m.unit().Vouched = []string{"."}, true
	m.run()
	if p := m.run(); !p.Levels[0].Known {
		t.Errorf("its inputs were chosen, and it runs: %s", m.log.String())
	}
	m.unit().Inputs, m.unit().Vouched, m.runner.blind = nil, false, true
	m.write("src/check.sh", "exit 0\n")
	m.run()
	if p := m.run(); p.Levels[0].Known || !strings.Contains(m.log.String(), "does not tell whether it reaches a network") {
		t.Errorf("it is not known what it reaches: %+v %q", p.Levels[0], m.log.String())
	}
}
