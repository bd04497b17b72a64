package suite_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/suite"
)

// goMachine is a machine with a module, whose only level is go test.
func goMachine(t *testing.T, run string) *machine {
	t.Helper()
	m := newMachine(t)
	m.path = strings.Split(os.Getenv("PATH"), ":")
	m.runner.open = true
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	m.must(err)
	m.env = []string{"GOCACHE=" + strings.TrimSpace(string(cache)), "GOPATH=" + filepath.Join(m.top, "go"), "GOTOOLCHAIN=local", "GOPROXY=off",
		"GOFLAGS=-mod=mod", "GOTELEMETRY=off", "CGO_ENABLED=0", "TZ=UTC", "SHELLVAR=1", "GOVAR=1"}
	m.levels = []suite.Level{{Name: "unit", Run: run, Timeout: 2 * time.Minute}}
	return m
}

// fresh lays the files out anew, as a delivery does: they are as before, and all of them have new times.
func (m *machine) fresh(name string) {
	m.t.Helper()
	m.must(filepath.WalkDir(filepath.Join(m.top, name), func(name string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(name)
		m.must(err)
		info, err := entry.Info()
		m.must(err)
		m.must(os.Remove(name))
		return os.WriteFile(name, body, info.Mode().Perm())
	}))
}

// goTraps are packages of one module. Each reads something in a way of its own, and is red when that changes.
var goTraps = map[string]struct {
	test   string // body of the test
	change func(*machine)
}{
	"child":    {`out, err := exec.Command("cat", "../fixtures/child.txt").Output(); want(t, string(out), err, "a")`, func(m *machine) { m.write("src/fixtures/child.txt", "b") }},
	"other":    {`out, err := os.ReadFile("../other/testdata/x.txt"); want(t, string(out), err, "a")`, func(m *machine) { m.write("src/other/testdata/x.txt", "b") }},
	"same":     {`out, err := os.ReadFile("testdata/x.txt"); want(t, string(out), err, "a")`, func(m *machine) { m.same("src/same/testdata/x.txt", "b") }},
	"embedded": {`want(t, text, nil, "a")`, func(m *machine) { m.same("src/embedded/x.txt", "b") }},
	"mode":     {`info, err := os.Stat("testdata/tool"); want(t, fmt.Sprint(info.Mode().Perm()&1), err, "--x------x"[9:]); _ = info`, func(m *machine) { m.must(os.Chmod(filepath.Join(m.dir, "mode/testdata/tool"), 0o644)) }},
	"listed":   {`list, err := os.ReadDir("testdata"); want(t, fmt.Sprint(len(list)), err, "1")`, func(m *machine) { m.write("src/listed/testdata/y.txt", "") }},
	"linked":   {`out, err := os.ReadFile("testdata/link"); want(t, string(out), err, "a")`, func(m *machine) { m.link("../../fixtures/b.txt", "src/linked/testdata/link") }},
	"raw":      {`fd, err := syscall.Open("../fixtures/raw.txt", 0, 0); b := make([]byte, 1); syscall.Read(fd, b); want(t, string(b), err, "a")`, func(m *machine) { m.write("src/fixtures/raw.txt", "b") }},
}

func (m *machine) plantGo() {
	m.write("src/go.mod", "module x\n\ngo 1.24\n")
	const head = "package x\nimport (\"embed\"; \"fmt\"; \"os\"; \"os/exec\"; \"syscall\"; \"testing\"; \"time\")\n" +
		"var _ embed.FS\nvar _ = fmt.Sprint\nvar _ = os.Stat\nvar _ = time.Now\n%s\n" +
		"func want(t *testing.T, got string, err error, want string) { if err != nil || got != want { t.Fatal(got, err) } }\n"
	for name, trap := range goTraps {
		uses := ""
		text := head
		if !strings.Contains(trap.test, "exec.") {
			text = strings.ReplaceAll(text, "\"os/exec\"; ", "")
		}
		if !strings.Contains(trap.test, "syscall.") {
			text = strings.ReplaceAll(text, "\"syscall\"; ", "")
		}
		if name == "embedded" {
			uses = "//go:embed x.txt\nvar text string"
		}
		m.write("src/"+name+"/x_test.go", fmt.Sprintf(text, uses)+"func TestIt(t *testing.T) { "+trap.test+" }\n")
	}
	for _, name := range []string{"fixtures/child.txt", "fixtures/raw.txt", "other/testdata/x.txt", "same/testdata/x.txt", "embedded/x.txt", "listed/testdata/x.txt", "fixtures/a.txt"} {
		m.write("src/"+name, "a")
	}
	m.write("src/fixtures/b.txt", "b")
	m.write("src/mode/testdata/tool", "")
	m.must(os.Chmod(filepath.Join(m.dir, "mode/testdata/tool"), 0o755))
	m.must(os.MkdirAll(filepath.Join(m.dir, "linked/testdata"), 0o755))
	m.link("../../fixtures/a.txt", "src/linked/testdata/link")
	m.write("src/mode/x_test.go", fmt.Sprintf(strings.ReplaceAll(strings.ReplaceAll(head, "\"os/exec\"; ", ""), "\"syscall\"; ", ""), "")+
		`func TestIt(t *testing.T) { info, err := os.Stat("testdata/tool"); want(t, fmt.Sprint(info.Mode().Perm()&1), err, "---------x") }`)
}

// TestGoPackagesNeverGiveAStaleGreen lets one package after another be answered by Go's cache, and changes what each reads.
func TestGoPackagesNeverGiveAStaleGreen(t *testing.T) {
	t.Parallel()
	m := goMachine(t, "go test -vet=off -json ./...")
	m.plantGo()
	m.write("src/zone/x_test.go", "package x\nimport (\"testing\"; \"time\")\nfunc TestIt(t *testing.T) { if h := time.Unix(0,0).Hour(); h != 0 { t.Fatal(h) } }\n")
	m.write("src/shell/x_test.go", "package x\nimport (\"testing\"; \"os/exec\")\nfunc TestIt(t *testing.T) { if out, err := exec.Command(\"sh\", \"-c\", \"echo $SHELLVAR\").Output(); string(out) != \"1\\n\" { t.Fatal(string(out), err) } }\n")
	if p := m.run(); !p.Green() {
		t.Fatalf("%+v\n%s", p.Red(), m.log.String())
	}
	m.fresh("src")
	m.write("src/unrelated.txt", "x") // else the level would not run at all
	p := m.run()
	if n := p.Levels[0].Cached; !p.Green() || n != 7 {
		t.Errorf("%d of %d tests are answered by Go's cache: those that start processes or call the kernel must run\n%s", n, p.Levels[0].Passed, m.log.String())
	}
	for _, trap := range goTraps {
		trap.change(m)
	}
	p = m.run()
	for name := range goTraps {
		if !failed(p, "x/"+name+".TestIt") {
			t.Errorf("a stale green: %s", name)
		}
	}
	for name, change := range map[string]string{"zone": "TZ=UTC|TZ=Asia/Tokyo", "shell": "SHELLVAR=1|SHELLVAR=2"} {
		was, is, _ := strings.Cut(change, "|")
		for i := range m.env {
			if m.env[i] == was {
				m.env[i] = is
			}
		}
		if p = m.run(); !failed(p, "x/"+name+".TestIt") {
			t.Errorf("a stale green: %s", name)
		}
	}
}

func failed(p suite.Pyramid, name string) bool {
	for _, f := range p.Levels[0].Failures {
		if f.Name == name {
			return true
		}
	}
	return false
}

// TestGoOutsideOfItsModule: what lies beside the module is none of Go's business, and of ours all the same. Nor may go
// test answer from its cache where it is called by a script.
func TestGoOutsideOfItsModule(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]string{"in a folder": "go test -C app -vet=off -json ./...", "in a script": "cd app && go test -vet=off -json ./...", "in the folder": "go test -vet=off -json ./..."} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := goMachine(t, run)
			m.write("src/app/go.mod", "module x\n\ngo 1.24\n")
			m.write("src/shared.txt", "a")
			m.write("src/app/x_test.go", "package x\nimport (\"testing\"; \"os\")\nfunc TestIt(t *testing.T) { if b, err := os.ReadFile(\"../shared.txt\"); string(b) != \"a\" { t.Fatal(string(b), err) } }\n")
			if name == "in the folder" {
				m.top2, m.dir = m.dir, filepath.Join(m.dir, "app")
			}
			if p := m.run(); !p.Green() {
				t.Fatalf("%+v\n%s", p.Red(), m.log.String())
			}
			m.write("src/shared.txt", "b")
			if p := m.run(); p.Green() {
				t.Error("a stale green")
			}
		})
	}
}

// TestThousandsOfTests: nothing changed, and nothing runs; one package changed, and what depends on it runs.
func TestThousandsOfTests(t *testing.T) {
	t.Parallel()
	const each = 50
	m := goMachine(t, "go test -vet=off -json ./...")
	m.write("src/go.mod", "module x\n\ngo 1.24\n")
	for i := range packages {
		var code, tests strings.Builder
		_, _ = fmt.Fprintf(&code, "package p%02d\n", i)
		if i%4 > 0 { // chains of four
			_, _ = fmt.Fprintf(&code, "import \"x/p%02d\"\n//go:noinline\nfunc F() int { return p%02d.F() }\n", i-1, i-1)
		} else {
			_, _ = fmt.Fprint(&code, "//go:noinline\nfunc F() int { return 1 }\n")
		}
		_, _ = fmt.Fprintf(&tests, "package p%02d\nimport \"testing\"\n", i)
		for n := range each {
			_, _ = fmt.Fprintf(&tests, "func Test%02d(t *testing.T) { if F() < 1 { t.Fatal() } }\n", n)
		}
		m.write(fmt.Sprintf("src/p%02d/p.go", i), code.String())
		m.write(fmt.Sprintf("src/p%02d/p_test.go", i), tests.String())
	}
	began := time.Now()
	if p := m.run(); !p.Green() || p.Levels[0].Passed != packages*each {
		t.Fatalf("%+v\n%s", p.Levels[0], m.log.String())
	}
	t.Logf("%d tests, the first time: %s", packages*each, time.Since(began).Round(time.Millisecond))
	m.fresh("src")
	began = time.Now()
	p := m.run()
	t.Logf("nothing changed: %s", time.Since(began).Round(time.Millisecond))
	if r := p.Levels[0]; len(m.runner.ran) > 0 || !r.Known || r.Cached != packages*each || r.CachedFrom != "#141" {
		t.Errorf("%d commands ran: %+v\n%s", len(m.runner.ran), r, m.log.String())
	}
	m.fresh("src")
	m.write("src/p05/p.go", "package p05\nimport \"x/p04\"\n//go:noinline\nfunc F() int { return p04.F() + 1 }\n")
	began = time.Now()
	p = m.run()
	t.Logf("one package changed: %s", time.Since(began).Round(time.Millisecond))
	if r := p.Levels[0]; !p.Green() || r.Passed != packages*each || r.Cached != (packages-3)*each {
		t.Errorf("%d tests, %d cached: of %d packages p05, p06 and p07 depend on the change\n%s", r.Passed, r.Cached, packages, m.log.String())
	}
	for _, name := range []string{"x/p05", "x/p06", "x/p07"} {
		if strings.Contains(m.log.String(), name+"\t(cached)") || !strings.Contains(m.log.String(), "ok  \t"+name) {
			t.Errorf("%s did not run", name)
		}
	}
}
