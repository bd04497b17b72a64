package suite_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/suite"
)

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, dir string, levels ...suite.Level) suite.Pyramid {
	t.Helper()
	s := suite.Suite{Runner: command.Local{}}
	p, err := s.Run(t.Context(), suite.Request{Dir: dir, Env: environment(), Levels: levels}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local", "GOPROXY=off"}
}

const green = `<testsuites><testsuite name="s" tests="2"><testcase classname="a" name="x" time="0.5"/><testcase classname="a" name="y" time="1,000.25"/></testsuite></testsuites>`

func level(name, run, report string) suite.Level {
	return suite.Level{Name: name, Run: run, Report: report, Timeout: 30 * time.Second}
}

func TestJudgement(t *testing.T) {
	const red = `<testsuite failures="1"><testcase name="x"><failure message="want 1, got 2">trace</failure></testcase><testcase name="y"/></testsuite>`
	const skipped = `<testsuite><testcase name="x"><skipped/></testcase></testsuite>`
	for name, c := range map[string]struct {
		run, report string
		state       suite.State
		reason      string
		counts      [3]int
		counted     bool
	}{
		"green":                {"echo '" + green + "' > r.xml", "r.xml", suite.Passed, "", [3]int{2, 0, 0}, true},
		"red":                  {"echo '" + red + "' > r.xml; exit 1", "r.xml", suite.Failed, "1 test failed", [3]int{1, 1, 0}, true},
		"exit 0 with failures": {"echo '" + red + "' > r.xml", "r.xml", suite.Failed, "exited 0, but its report counts 1 test", [3]int{1, 1, 0}, true},
		"exit 1 without":       {"echo '" + green + "' > r.xml; exit 1", "r.xml", suite.Failed, "exit 1, though its report counts no failure", [3]int{2, 0, 0}, true},
		"no test":              {"echo '<testsuites/>' > r.xml", "r.xml", suite.Failed, "0 tests ran", [3]int{}, true},
		"all skipped":          {"echo '" + skipped + "' > r.xml", "r.xml", suite.Failed, "0 tests ran: 1 test skipped", [3]int{0, 0, 1}, true},
		"no report":            {"echo done", "r/*.xml", suite.Failed, "report r/*.xml matches no file", [3]int{}, false},
		"a stale report":       {"echo done", "old.xml", suite.Failed, "matches only files from before", [3]int{}, false},
		"a touched report":     {"echo '" + green + "' > old.xml", "*.xml", suite.Passed, "", [3]int{2, 0, 0}, true},
		"a torn report":        {"echo '<testsuite><testcase' > r.xml", "r.xml", suite.Failed, "report r.xml: not a readable report", [3]int{}, false},
		"a foreign file":       {"echo '<html></html>' > r.xml", "r.xml", suite.Failed, "it has no testsuite", [3]int{}, false},
		"a pipe for a report":  {"mkfifo r.xml", "r.xml", suite.Failed, "matches no file", [3]int{}, false},
		"a link for a report":  {"ln -s /etc/passwd r.xml", "r.xml", suite.Failed, "matches no file", [3]int{}, false},
		"uncounted":            {"echo ok", "", suite.Passed, "", [3]int{}, false},
		"uncounted, red":       {"exit 4", "", suite.Failed, "exit 4", [3]int{}, false},
		"missing tool":         {"no-such-tool x", "", suite.Failed, "command not found", [3]int{}, false},
		"not a command":        {"echo 'x", "", suite.Failed, "cannot be read", [3]int{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "old.xml"), green)
			r := run(t, dir, level("unit", c.run, c.report)).Levels[0]
			if r.State != c.state || !strings.Contains(r.Reason, c.reason) || c.reason == "" && r.Reason != "" {
				t.Errorf("%s: %q", r.State, r.Reason)
			}
			if got := [3]int{r.Passed, r.Failed, r.Skipped}; got != c.counts || r.Counted != c.counted {
				t.Errorf("counts %v, counted %v", got, r.Counted)
			}
			if c.state == suite.Passed && !c.counted && !strings.Contains(strings.Join(r.Warnings, ""), "uncounted") {
				t.Errorf("warnings %q", r.Warnings)
			}
		})
	}
}

func TestLevelsFailFastInOrder(t *testing.T) {
	dir := t.TempDir()
	var seen []string
	s := suite.Suite{Runner: command.Local{}}
	var log bytes.Buffer
	p, err := s.Run(t.Context(), suite.Request{Dir: dir, Env: environment(), Log: &log, Levels: []suite.Level{
		level("unit", "echo first >> order; echo to the log; echo $BELAY_LEVEL", ""),
		{Name: "integration", Run: "echo second >> order; exit 1", Timeout: time.Minute},
		{Name: "e2e", Run: "echo third >> order", Timeout: time.Minute},
	}}, func(r suite.Result) { seen = append(seen, r.Level+" "+string(r.State)) })
	if err != nil || p.Green() || p.Red().Level != "integration" {
		t.Errorf("%+v, %v", p, err)
	}
	if got := strings.Join(seen, ", "); got != "unit passed, integration failed, e2e not_run" {
		t.Error(got)
	}
	if order, _ := os.ReadFile(filepath.Join(dir, "order")); string(order) != "first\nsecond\n" {
		t.Errorf("%q", order)
	}
	if !strings.Contains(log.String(), "to the log\n") {
		t.Errorf("log %q", log.String())
	}
}

func TestGapsAndShape(t *testing.T) {
	many := `<testsuite><testcase name="1"/><testcase name="2"/><testcase name="3"/></testsuite>`
	p := run(t, t.TempDir(), level("unit", "echo '"+green+"' > u.xml", "u.xml"),
		suite.Level{Name: "integration", None: "the API's own pipeline"}, level("e2e", "echo '"+many+"' > e.xml", "e.xml"))
	if !p.Green() || p.Levels[1].State != suite.Gap || p.Levels[1].Reason != "the API's own pipeline" {
		t.Errorf("%+v", p)
	}
	text := strings.Join(p.Warnings, "\n")
	if !strings.Contains(text, "upside down: 3 e2e tests on 2 unit tests") || !strings.Contains(text, "no integration tests") {
		t.Errorf("%q", text)
	}
	if (suite.Pyramid{Levels: []suite.Result{{State: suite.Gap}}}).Green() {
		t.Error("gaps alone are green")
	}
}

func TestTimeoutAndCancel(t *testing.T) {
	began := time.Now()
	slow := suite.Level{Name: "unit", Run: "sleep 60", Timeout: 200 * time.Millisecond}
	r := run(t, t.TempDir(), slow).Levels[0]
	if r.State != suite.Failed || r.Reason != "timed out after 200ms" || r.Took < 200*time.Millisecond {
		t.Errorf("%+v", r)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(200*time.Millisecond, func() { cancel(errors.New("cancelled by ana")) })
	slow.Timeout = time.Minute
	s := suite.Suite{Runner: command.Local{}}
	_, err := s.Run(ctx, suite.Request{Dir: t.TempDir(), Env: environment(), Levels: []suite.Level{slow}}, nil)
	if err == nil || err.Error() != "cancelled by ana" {
		t.Errorf("%v", err)
	}
	if time.Since(began) > 10*time.Second {
		t.Error("it waited")
	}
}

// roles is a Starter that really records what was asked of it.
type roles struct {
	started, stopped, env []string
	fail                  error
}

func (r *roles) Start(_ context.Context, names, env []string) ([]string, func(context.Context) error, error) {
	r.started, r.env = append(r.started, names...), env
	return []string{"BELAY_URL=http://127.0.0.1:1"}, func(ctx context.Context) error {
		r.stopped = append(r.stopped, names...)
		return ctx.Err()
	}, r.fail
}

func TestStartedRolesAreStopped(t *testing.T) {
	for name, command1 := range map[string]string{"green": `test "$BELAY_URL" = http://127.0.0.1:1`, "red": "exit 1", "late": "sleep 60"} {
		t.Run(name, func(t *testing.T) {
			starter := &roles{}
			s := suite.Suite{Runner: command.Local{}, Starter: starter}
			p, err := s.Run(t.Context(), suite.Request{Dir: t.TempDir(), Env: environment(), Levels: []suite.Level{
				{Name: "e2e", Run: command1, Start: []string{"web"}, Env: []string{"KEY=literal"}, Timeout: 300 * time.Millisecond},
			}}, nil)
			if err != nil || p.Green() != (name == "green") {
				t.Errorf("%+v, %v", p, err)
			}
			if strings.Join(starter.env, "") != "KEY=literal" || strings.Join(starter.started, "") != "web" || strings.Join(starter.stopped, "") != "web" {
				t.Errorf("%+v", starter)
			}
		})
	}
	s := suite.Suite{Runner: command.Local{}, Starter: &roles{fail: errors.New("port taken")}}
	p, err := s.Run(t.Context(), suite.Request{Dir: t.TempDir(), Levels: []suite.Level{{Name: "e2e", Run: "true", Start: []string{"web"}}}}, nil)
	if err != nil || !strings.Contains(p.Levels[0].Reason, "port taken") {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestRealGoTest lets the real go command run tests that pass, fail, skip, panic and do not build.
func TestRealGoTest(t *testing.T) {
	t.Parallel()
	const head = "package x\nimport (\"testing\"; \"os\")\nvar _ = os.Exit\n"
	for name, c := range map[string]struct {
		body    string
		state   suite.State
		counts  [3]int
		failure string // name, then message
		output  string
	}{
		"subtests": {head + `func TestA(t *testing.T) { t.Run("b", func(t *testing.T){}); t.Run("c", func(t *testing.T){ t.Run("d", func(t *testing.T){}) }) }
func TestS(t *testing.T) { t.Skip("not today") }
func TestPrint(t *testing.T) { os.Stdout.WriteString("{\"Action\":\"fail\"}\nplain\n") }`, suite.Passed, [3]int{3, 0, 1}, "", ""},
		"a failing subtest":  {head + `func TestA(t *testing.T) { t.Run("b", func(t *testing.T){ t.Error("want 1") }); t.Run("c", func(t *testing.T){}) }`, suite.Failed, [3]int{1, 1, 0}, "x.TestA/b|x_test.go:4: want 1", "want 1"},
		"a failing parent":   {head + `func TestA(t *testing.T) { t.Run("b", func(t *testing.T){}); t.Error("after") }`, suite.Failed, [3]int{1, 1, 0}, "x.TestA|x_test.go:4: after", "after"},
		"a panic":            {head + `func TestA(t *testing.T) {}; func TestB(t *testing.T) { panic("boom") }`, suite.Failed, [3]int{1, 1, 0}, "x.TestB|panic: boom", "goroutine"},
		"does not build":     {head + `func TestA(t *testing.T) { undefined() }`, suite.Failed, [3]int{0, 1, 0}, "x|it does not build", "undefined: undefined"},
		"the process leaves": {head + `func TestA(t *testing.T) { os.Exit(3) }`, suite.Failed, [3]int{0, 1, 0}, "x.TestA|", ""},
		"no tests":           {"package x\n", suite.Failed, [3]int{}, "", ""},
		"all skipped":        {head + `func TestA(t *testing.T) { t.Skip() }`, suite.Failed, [3]int{0, 0, 1}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "go.mod"), "module x\n\ngo 1.24\n")
			write(t, filepath.Join(dir, "x_test.go"), c.body)
			write(t, filepath.Join(dir, "x.go"), "package x\n")
			r := run(t, dir, suite.Level{Name: "unit", Run: "echo before; go test -vet=off -json ./...", Timeout: 2 * time.Minute}).Levels[0]
			if r.State != c.state || [3]int{r.Passed, r.Failed, r.Skipped} != c.counts || !r.Counted {
				t.Errorf("%+v", r)
			}
			if c.failure == "" {
				return
			}
			who, why, _ := strings.Cut(c.failure, "|")
			if len(r.Failures) != 1 || r.Failures[0].Name != who || !strings.Contains(r.Failures[0].Message, why) || !strings.Contains(r.Failures[0].Output, c.output) {
				t.Errorf("%+v", r.Failures)
			}
		})
	}
}
