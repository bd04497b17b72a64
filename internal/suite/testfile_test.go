package suite

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func tree(names ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for _, name := range names {
		fsys[name] = &fstest.MapFile{Data: []byte("x"), Mode: 0o644}
	}
	return fsys
}

func TestFilesOfTestsByTheConventionsOfTheirStack(t *testing.T) {
	fsys := tree("test_a.py", "pkg/b_test.py", "conftest.py", "src/a.test.ts", "src/b.spec.tsx", "src/c.test.mjs", "src/d.ts", "spec/a_spec.rb", "test/b_test.rb",
		"src/test/java/shop/ATest.java", "src/test/java/shop/Help.java", "tests/ATest.php", "node_modules/z/z.test.js", "vendor/x/XTest.php", ".cache/test_c.py", "checks/odd.py")
	for run, want := range map[string]string{
		"pytest $BELAY_SHARD_TESTS":                     "checks/odd.py pkg/b_test.py test_a.py",
		"npx vitest run $BELAY_SHARD_TESTS":             "checks/odd.py src/a.test.ts src/b.spec.tsx src/c.test.mjs",
		"bundle exec rspec $BELAY_SHARD_TESTS":          "checks/odd.py spec/a_spec.rb test/b_test.rb",
		"./gradlew test":                                "checks/odd.py src/test/java/shop/ATest.java",
		"vendor/bin/phpunit $(cat $BELAY_SHARD_FILE)":   "checks/odd.py tests/ATest.php",
		"./ci.sh $BELAY_SHARD_TESTS":                    "checks/odd.py pkg/b_test.py spec/a_spec.rb src/a.test.ts src/b.spec.tsx src/c.test.mjs src/test/java/shop/ATest.java test/b_test.rb test_a.py tests/ATest.php",
		"python3 -m unittest -v $BELAY_SHARD_TESTS 2>x": "checks/odd.py pkg/b_test.py test_a.py",
	} {
		got, err := testFiles(fsys, patternsOf(strings.Fields(run)), []string{"checks/odd.py", "gone.py", "../out.py", "."}) // a report named them
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %s, %v", run, got, err)
		}
	}
}

func TestAUnitOfAReportIsFound(t *testing.T) {
	l := locate([]string{"tests/int/test_a.py", "tests/test_b.py", "x/same.test.ts", "y/same.test.ts", "src/test/java/shop/ATest.java", "tests/Unit/UserTest.php", "spec/a_spec.rb"})
	for unit, want := range map[string]string{
		"tests/int/test_a.py":                "tests/int/test_a.py",
		"./spec/a_spec.rb":                   "spec/a_spec.rb",
		"/data/work/app/src/tests/test_b.py": "tests/test_b.py",
		"tests.int.test_a":                   "tests/int/test_a.py",
		"tests.int.test_a.TestC":             "tests/int/test_a.py",
		"test_b.TestC":                       "tests/test_b.py",
		"shop.ATest$Inner":                   "src/test/java/shop/ATest.java",
		`Tests\Unit\UserTest`:                "",
		`Unit\UserTest`:                      "tests/Unit/UserTest.php",
		"x/same.test.ts":                     "x/same.test.ts",
		"same.test.ts":                       "", // one of two
		"test":                               "",
		"":                                   "",
	} {
		if got := l.file(unit); got != want {
			t.Errorf("%q is %q, want %q", unit, got, want)
		}
	}
}

func TestPytestIsTakenApart(t *testing.T) {
	fsys := tree("tests/unit/test_a.py", "tests/unit/helper.py", "tests/int/test_b.py", "other/check_c.py", "k/x.py")
	for run, c := range map[string]struct{ ini, argv, files string }{
		"pytest tests/unit --junitxml=u.xml":          {"", "pytest --rootdir=. --junitxml=R F", "tests/unit/test_a.py"},
		"python3 -m pytest -k k -q --junit-xml u.xml": {"", "python3 -m pytest -k k -q --rootdir=. --junitxml=R F", "tests/int/test_b.py tests/unit/test_a.py"},
		"uv run pytest": {"[pytest]\ntestpaths =\n    other\n    tests/int\npython_files = check_*.py test_*.py\n", "uv run pytest --rootdir=. --junitxml=R F", "other/check_c.py tests/int/test_b.py"},
		"pytest tests/int/test_b.py::TestC::test_d": {"", "pytest --rootdir=. --junitxml=R F", "tests/int/test_b.py::TestC::test_d"},
		"pytest --doctest-modules":                  {"", "", ""},
		"pytest --pyargs shop":                      {"", "", ""},
		"pytest nowhere":                            {"", "", ""},
		"tox -e pytest":                             {"", "", ""},
		"pytest":                                    {"[pytest]\naddopts = --doctest-modules\n", "", ""},
	} {
		own := tree()
		for name, file := range fsys {
			own[name] = file
		}
		if c.ini != "" {
			own["pytest.ini"] = &fstest.MapFile{Data: []byte(c.ini)}
		}
		got, ok := parsePytest(strings.Fields(run), own)
		if ok != (c.argv != "") {
			t.Errorf("%s: %+v, %v", run, got, ok)
			continue
		}
		if !ok {
			continue
		}
		if argv := strings.Join(got.with([]string{"F"}, "R"), " "); argv != c.argv {
			t.Errorf("%s: %s", run, argv)
		}
		if files, err := got.files(own); err != nil || strings.Join(files, " ") != c.files {
			t.Errorf("%s: %s, %v", run, files, err)
		}
	}
}

func TestGoTestIsTakenApart(t *testing.T) {
	for run, want := range map[string]string{
		"go test ./...": "go test P|go list -f F -- ./...",
		"go test -C sub -tags x,y -race -run=A ./a b": "go test -C sub -tags x,y -race -run=A P|go list -C sub -f F -tags x,y -race -- ./a b",
		"go test ./... -run Test -count 1 -args -x y": "go test -run Test -count 1 P -args -x y|go list -f F -- ./...",
		"go test -v":               "go test -v P|go list -f F -- .",
		"go test a_test.go":        "",
		"go test -unknown x ./...": "",
		"go vet ./...":             "",
	} {
		c, ok := parseGo(strings.Fields(run))
		got := ""
		if ok {
			list := c.list()
			list[slices.Index(list, "-f")+1] = "F"
			got = strings.Join(c.with([]string{"P"}), " ") + "|" + strings.Join(list, " ")
		}
		if got != want {
			t.Errorf("%s: %s", run, got)
		}
	}
}
