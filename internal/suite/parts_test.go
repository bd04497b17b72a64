package suite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/suite"
)

// runner is a tool that runs files of tests: each line of a file is a test, "name seconds" or "name seconds red".
const runner = `#!/bin/sh
report=$1; shift
echo "<testsuites><testsuite>" > "$report"
red=0
for file in "$@"; do
  while read -r name took end; do
    echo "$file" >> ran
    if [ "$end" = red ]; then red=1; body="<failure message='$name is red'/>"; else body=""; fi
    echo "<testcase classname='c' file='$file' name='$name' time='$took'>$body</testcase>" >> "$report"
  done < "$file"
done
echo "</testsuite></testsuites>" >> "$report"
exit $red
`

func checkout(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	write(t, filepath.Join(dir, "runner"), runner)
	if err := os.Chmod(filepath.Join(dir, "runner"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func sharded(run, report string, n int) suite.Level {
	return suite.Level{Name: "unit", Run: run, Report: report, Shards: n, Timeout: 30 * time.Second}
}

// memory is a Memory in memory.
type memory struct {
	mu   sync.Mutex
	runs []suite.Run // newest first
}

func (m *memory) Green(context.Context, string, string, string) (*suite.Run, error) { return nil, nil }

func (m *memory) Same(_ context.Context, _, _, inputs string) ([]suite.Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var same []suite.Run
	for _, r := range m.runs {
		if r.Inputs == inputs {
			same = append(same, r)
		}
	}
	return same, nil
}

func (m *memory) Recent(_ context.Context, _, level string, limit int) ([]suite.Run, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var recent []suite.Run
	for _, r := range m.runs {
		if r.Level == level && len(recent) < limit {
			recent = append(recent, r)
		}
	}
	return recent, nil
}

func (m *memory) Save(_ context.Context, r suite.Run) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runs = slices.Insert(m.runs, 0, r)
	return nil
}

func remembering(t *testing.T, dir string, m *memory, levels ...suite.Level) suite.Pyramid {
	t.Helper()
	s := suite.Suite{Runner: command.Local{}, Memory: m}
	p, err := s.Run(t.Context(), suite.Request{App: "shop", Dir: dir, Env: environment(), Levels: levels}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ran(t *testing.T, dir string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "ran"))
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(text))
	slices.Sort(names)
	return names
}

func TestPartsTogetherRunEverything(t *testing.T) {
	files := map[string]string{"test_slow.py": "slow 9\n", "tests/test_long.py": "long 5\n", "tests/a_test.py": "a 1\nb 1\n", "test_s.py": "s 3\n",
		"node_modules/x/test_no.py": "no 1\n", ".venv/test_no.py": "no 1\n", "tests/helper.py": "no 1\n"}
	dir := checkout(t, files)
	m := &memory{}
	var known suite.Run
	known.Level = "unit"
	for name, took := range map[string]time.Duration{"./test_slow.py": 9 * time.Second, dir + "/tests/test_long.py": 5 * time.Second, "tests/a_test.py": 4 * time.Second, "test_s.py": 4 * time.Second} {
		known.Cases = append(known.Cases, suite.Case{Name: name, Unit: name, State: suite.CasePassed, Took: took})
	}
	m.runs = append(m.runs, known)
	run := `./runner "r-$BELAY_SHARD.xml" $BELAY_SHARD_TESTS; echo "$BELAY_SHARD of $BELAY_SHARDS: $BELAY_SHARD_TESTS" > "part-$BELAY_SHARD"; cmp -s /dev/null "$BELAY_SHARD_FILE" && exit 9; tr '\n' ' ' < "$BELAY_SHARD_FILE" > "file-$BELAY_SHARD"`
	r := remembering(t, dir, m, sharded(run, "r-$BELAY_SHARD.xml", 3)).Levels[0]
	if r.State != suite.Passed || r.Passed != 5 || !r.Counted || len(r.Shards) != 3 {
		t.Fatalf("%+v", r)
	}
	if got := strings.Join(ran(t, dir), " "); got != "test_s.py test_slow.py tests/a_test.py tests/a_test.py tests/test_long.py" {
		t.Errorf("ran %s", got)
	}
	var parts []string
	for i := range 3 {
		text, _ := os.ReadFile(filepath.Join(dir, fmt.Sprintf("part-%d", i+1)))
		list, _ := os.ReadFile(filepath.Join(dir, fmt.Sprintf("file-%d", i+1)))
		_, tests, _ := strings.Cut(strings.TrimSpace(string(text)), ": ")
		if tests != strings.TrimSpace(string(list)) || !strings.HasPrefix(string(text), fmt.Sprintf("%d of 3: ", i+1)) {
			t.Errorf("%q, %q", text, list)
		}
		parts = append(parts, tests)
	}
	slices.Sort(parts)
	if got := strings.Join(parts, ", "); got != "test_s.py tests/a_test.py, test_slow.py, tests/test_long.py" {
		t.Errorf("parts %s", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".belay*")); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}

func TestAllRedPartsAreShown(t *testing.T) {
	files := map[string]string{}
	for i := range 4 {
		files[fmt.Sprintf("test_%d.py", i)] = fmt.Sprintf("good%d 1\nbad%d 1 red\n", i, i)
	}
	files["test_3.py"] = "fine 1\n"
	r := remembering(t, checkout(t, files), &memory{}, sharded(`./runner r-$BELAY_SHARD.xml $BELAY_SHARD_TESTS`, "r-$BELAY_SHARD.xml", 4)).Levels[0]
	if r.State != suite.Failed || r.Failed != 3 || r.Passed != 4 || len(r.Failures) != 3 {
		t.Errorf("%+v", r)
	}
	if !strings.HasPrefix(r.Reason, "3 tests failed: ") || strings.Contains(r.Reason, "exit 1") { // the failed tests say it
		t.Errorf("%q", r.Reason)
	}
}

func TestPartsAndTheirReports(t *testing.T) {
	files := map[string]string{"test_a.py": "a 1\n", "test_b.py": "b 1\n"}
	for name, c := range map[string]struct {
		run, report string
		passed      int
		reason      string
	}{
		"one file for all":        {`sleep 0.$BELAY_SHARD; ./runner r.xml $BELAY_SHARD_TESTS`, "r*.xml", 1, "r.xml: give each its own"},
		"one file at one moment":  {`./runner r-$BELAY_SHARD.xml $BELAY_SHARD_TESTS; mv r-$BELAY_SHARD.xml r.xml; until [ -e r.xml ]; do :; done`, "r.xml", 1, "give each its own"},
		"a pattern for all":       {`./runner r-$BELAY_SHARD.xml $BELAY_SHARD_TESTS`, "r*.xml", 2, ""},
		"one part writes none":    {`test $BELAY_SHARD = 2 || ./runner r-$BELAY_SHARD.xml $BELAY_SHARD_TESTS`, "r-$BELAY_SHARD.xml", 1, "part 2 of 2: report r-2.xml matches no file"},
		"stale reports":           {`echo $BELAY_SHARD`, "old-$BELAY_SHARD.xml", 0, "part 1 of 2: report old-1.xml matches only files from before"},
		"it divides by itself":    {`./runner r-$BELAY_SHARD.xml $(ls test_*.py | sed -n "${BELAY_SHARD}p")`, "r-$BELAY_SHARD.xml", 2, ""},
		"a part without a report": {`echo $BELAY_SHARD_TESTS`, "", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := checkout(t, files)
			write(t, filepath.Join(dir, "old-1.xml"), green)
			r := remembering(t, dir, &memory{}, sharded(c.run, c.report, 2)).Levels[0]
			if r.Passed != c.passed || !strings.Contains(r.Reason, c.reason) || (r.State == suite.Passed) != (r.Reason == "") {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestWhatCannotBeDividedIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		files  map[string]string
		run    string
		reason string
	}{
		"no variable":       {map[string]string{"test_a.py": "a 1\n"}, "./runner r.xml test_a.py", "does not say which part"},
		"no file of tests":  {map[string]string{"checks.py": "a 1\n"}, "./runner r.xml $BELAY_SHARD_TESTS", "no file of tests is named as in"},
		"a space in a path": {map[string]string{"test_a b.py": "a 1\n"}, "./runner r.xml $BELAY_SHARD_TESTS", `"test_a b.py" cannot stand in $BELAY_SHARD_TESTS`},
		"a bracket":         {map[string]string{"[id].test.ts": "a 1\n"}, "./runner r.xml $BELAY_SHARD_TESTS", "$BELAY_SHARD_FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			r := remembering(t, checkout(t, c.files), &memory{}, sharded(c.run, "r.xml", 2)).Levels[0]
			if r.State != suite.Failed || !strings.Contains(r.Reason, c.reason) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestMoreShardsThanFiles(t *testing.T) {
	dir := checkout(t, map[string]string{"test_a.py": "a 1\n", "test_b.py": "b 1\n"})
	r := remembering(t, dir, &memory{}, sharded("./runner r-$BELAY_SHARD.xml $BELAY_SHARD_TESTS", "r-$BELAY_SHARD.xml", 8)).Levels[0]
	if r.State != suite.Passed || r.Passed != 2 || len(r.Shards) != 2 || !slices.Contains(r.Warnings, "2 parts instead of 8: there is no more to divide") {
		t.Errorf("%+v", r)
	}
}

func TestFilesOfOtherLevelsAreTheirs(t *testing.T) {
	dir := checkout(t, map[string]string{"src/test_a.py": "a 1\n", "tests/unit/test_b.py": "b 1\n", "tests/e2e/test_c.py": "c 1\n", "tests/int/test_d.py": "d 1\n"})
	run, report := "./runner $BELAY_LEVEL-$BELAY_SHARD.xml $BELAY_SHARD_TESTS", "$BELAY_SHARD.xml"
	unit, e2e := sharded(run, "unit-"+report, 2), sharded(run, "e2e-"+report, 2)
	e2e.Name = "e2e"
	p := remembering(t, dir, &memory{}, unit, suite.Level{Name: "integration", None: "none here"}, e2e)
	if p.Levels[0].Passed != 3 || p.Levels[2].Passed != 1 || !p.Green() { // nobody else runs tests/int
		t.Errorf("%+v", p.Levels)
	}
}

func TestATimeoutIsOfTheLevel(t *testing.T) {
	level := sharded("test $BELAY_SHARD != 2 || sleep 60; ./runner r-$BELAY_SHARD.xml $BELAY_SHARD_TESTS", "r-$BELAY_SHARD.xml", 2)
	level.Timeout = 500 * time.Millisecond
	began := time.Now()
	r := remembering(t, checkout(t, map[string]string{"test_a.py": "a 1\n", "test_b.py": "b 1\n"}), &memory{}, level).Levels[0]
	if r.State != suite.Failed || r.Passed != 1 || !strings.Contains(r.Reason, "part 2 of 2: timed out") || time.Since(began) > 10*time.Second {
		t.Errorf("%+v", r)
	}
}

// servers is a Services that records what was asked of it.
type servers struct {
	mu       sync.Mutex
	given    []int
	released int
	fail     error
}

func (s *servers) Versions(context.Context, suite.Level) ([]string, error) { return nil, nil }

func (s *servers) Provide(_ context.Context, _ suite.Level, part int) ([]string, []string, func(context.Context) error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil && part == 1 {
		return nil, nil, nil, s.fail
	}
	s.given = append(s.given, part)
	return []string{fmt.Sprintf("DATABASE_URL=db-%d", part)}, []string{"postgres 17.2"}, func(ctx context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.released++
		return ctx.Err()
	}, nil
}

func TestEachPartHasServicesOfItsOwn(t *testing.T) {
	files := map[string]string{"test_a.py": "a 1\n", "test_b.py": "b 1\n"}
	level := sharded(`test "$DATABASE_URL" = "db-$((BELAY_SHARD-1))"; ./runner r-$BELAY_SHARD.xml $BELAY_SHARD_TESTS`, "r-$BELAY_SHARD.xml", 2)
	level.Services = []string{"postgres"}
	for name, fail := range map[string]error{"": nil, "no room": errors.New("no room")} {
		services := &servers{fail: fail}
		s := suite.Suite{Runner: command.Local{}, Services: services}
		p, err := s.Run(t.Context(), suite.Request{Dir: checkout(t, files), Env: environment(), Levels: []suite.Level{level}}, nil)
		r := p.Levels[0]
		if err != nil || (r.State == suite.Passed) != (fail == nil) || !strings.Contains(r.Reason, name) || services.released != len(services.given) {
			t.Errorf("%+v, %+v", r, services)
		}
		if fail == nil && (len(services.given) != 2 || strings.Join(r.Services, "") != "postgres 17.2") {
			t.Errorf("%+v, %+v", r, services)
		}
	}
}

func TestPartsOfGoPackages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module x\n\ngo 1.24\n")
	write(t, filepath.Join(dir, "bare", "bare.go"), "package bare\n")
	for i := range 5 {
		name := fmt.Sprintf("p%d", i)
		write(t, filepath.Join(dir, name, "a_test.go"), fmt.Sprintf("package %s\nimport \"testing\"\nfunc TestA(t *testing.T) {}\nfunc TestB%d(t *testing.T) {}\n", name, i))
	}
	r := remembering(t, dir, &memory{}, sharded("go test -json -vet=off -count 1 ./... -run Test", "", 2)).Levels[0]
	if r.State != suite.Passed || r.Passed != 10 || !r.Counted || len(r.Shards) != 2 {
		t.Fatalf("%+v", r)
	}
	units := map[string]bool{}
	for _, c := range r.Cases {
		units[c.Unit] = true
	}
	if len(units) != 5 || !units["x/p3"] {
		t.Errorf("%v", units)
	}
	write(t, filepath.Join(dir, "p9", "a_test.go"), "package p9\nimport \"no/such\"\nfunc TestA() {}\n")
	r = remembering(t, dir, &memory{}, sharded("go test -json -vet=off ./...", "", 2)).Levels[0]
	if r.State != suite.Failed || r.Failed == 0 || !strings.Contains(fmt.Sprint(r.Failures), "p9") {
		t.Errorf("%+v", r)
	}
}

func TestPartsOfPytest(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("/usr/bin/python3", "-m", "pytest", "--version").CombinedOutput(); err != nil {
		t.Skipf("no pytest here: %s", out)
	}
	dir := t.TempDir()
	for i := range 4 {
		write(t, filepath.Join(dir, "tests", fmt.Sprintf("d%d", i), fmt.Sprintf("test_m%d.py", i)), "import time\ndef test_a(): time.sleep(0.01)\nclass TestC:\n    def test_b(self): pass\n")
	}
	write(t, filepath.Join(dir, "tests", "test_nothing.py"), "x = 1\n")
	m := &memory{}
	level := sharded("/usr/bin/python3 -m pytest tests -q -k 'test_a or test_b' --junitxml=int.xml", "int.xml", 3)
	r := remembering(t, dir, m, level).Levels[0]
	if r.State != suite.Passed || r.Passed != 8 || len(r.Shards) != 3 || r.Cases[0].Unit == "" {
		t.Fatalf("%+v", r)
	}
	names := map[string]bool{}
	for _, c := range r.Cases {
		names[c.Name] = true
	}
	if !names["tests.d2.test_m2.TestC.test_b"] {
		t.Errorf("%v", names)
	}
	write(t, filepath.Join(dir, "tests", "test_red.py"), "def test_a(): assert 0\n")
	if r = remembering(t, dir, m, level).Levels[0]; r.State != suite.Failed || r.Failed != 1 || r.Passed != 8 {
		t.Errorf("%+v", r)
	}
}
