package suite

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/domain"
)

// goCommand is a plain go test, taken apart.
type goCommand struct {
	head     []string // go test, with -C folder
	flags    []string
	packages []string // patterns
	rest     []string // from -args on
}

// Flags of go test that stand alone, and those that take the next word where they have no = in them.
var (
	goSwitches = strings.Fields(`a n x v i json race msan asan cover short failfast work trimpath modcacherw linkshared benchmem fullpath buildvcs`)
	goValues   = strings.Fields(`run skip count timeout tags p parallel cpu bench benchtime coverprofile covermode coverpkg mod modfile overlay o
		exec ldflags gcflags asmflags gccgoflags pkgdir installsuffix toolexec compiler buildmode outputdir cpuprofile memprofile memprofilerate
		blockprofile blockprofilerate mutexprofile mutexprofilefraction trace list shuffle vet C pgo`)
	goListFlags = []string{"tags", "mod", "modfile", "overlay", "race", "msan", "asan", "compiler"} // they choose packages and files
)

// parseGo takes go test apart. It is not ok for another command, and where it cannot be told what the packages are.
func parseGo(argv []string) (c goCommand, ok bool) {
	if len(argv) < 2 || path.Base(argv[0]) != "go" || argv[1] != "test" {
		return c, false
	}
	c.head = argv[:2]
	for i := 2; i < len(argv); i++ {
		arg := argv[i]
		name, _, valued := strings.Cut(strings.TrimPrefix(strings.TrimLeft(arg, "-"), "test."), "=")
		switch {
		case name == "args" && strings.HasPrefix(arg, "-"):
			c.rest = argv[i:]
			return c, true
		case !strings.HasPrefix(arg, "-"):
			if strings.HasSuffix(arg, ".go") {
				return c, false // files are one package, whatever their number
			}
			c.packages = append(c.packages, arg)
		case slices.Contains(goSwitches, name) || valued && slices.Contains(goValues, name) && name != "C":
			c.flags = append(c.flags, arg)
		case slices.Contains(goValues, name) && i+1 < len(argv):
			i++
			if name == "C" {
				c.head = append(slices.Clip(c.head), arg, argv[i])
				continue
			}
			c.flags = append(c.flags, arg, argv[i])
		default:
			return c, false
		}
	}
	if len(c.packages) == 0 {
		c.packages = []string{"."}
	}
	return c, true
}

// with is the command for some packages only.
func (c goCommand) with(packages []string) []string {
	return slices.Concat(c.head, c.flags, packages, c.rest)
}

// list is the go list that names the packages, each with whether it has tests.
func (c goCommand) list() []string {
	argv := append(slices.Clone(c.head), "-f", "{{.ImportPath}} {{len .TestGoFiles}} {{len .XTestGoFiles}}")
	argv[1] = "list"
	for i := 0; i < len(c.flags); i++ {
		name, _, valued := strings.Cut(strings.TrimLeft(c.flags[i], "-"), "=")
		takes := !valued && slices.Contains(goValues, name)
		if slices.Contains(goListFlags, name) {
			argv = append(argv, c.flags[i])
			if takes {
				argv = append(argv, c.flags[i+1])
			}
		}
		if takes {
			i++
		}
	}
	return append(append(argv, "--"), c.packages...)
}

// packagesOf asks go list for the packages of a command, those with tests and those without.
func (s *Suite) packagesOf(ctx context.Context, req Request, level Level, c goCommand, env []string) (tested, bare []string, err error) {
	var out, complained bytes.Buffer
	err = s.Runner.Run(ctx, command.Cmd{Dir: req.Dir, Argv: c.list(), Env: env, Stdout: &out, Stderr: &complained, Purpose: level.Name, Timeout: level.Timeout})
	if err != nil {
		return nil, nil, domain.Errorf(domain.Failed, "go list: %w: %s", err, firstReason(complained.String()))
	}
	for line := range strings.Lines(out.String()) {
		var name string
		var own, external int
		if _, err := fmt.Sscanf(line, "%s %d %d", &name, &own, &external); err != nil {
			return nil, nil, domain.Errorf(domain.Failed, "go list: %q: %w", strings.TrimSpace(line), err)
		}
		if own+external > 0 {
			tested = append(tested, name)
		} else {
			bare = append(bare, name)
		}
	}
	return tested, bare, nil
}

// pytestCommand is a plain pytest, taken apart.
type pytestCommand struct {
	head  []string // up to pytest
	args  []string // without paths and without the report
	paths []string // files, folders and single tests
	junit string   // the report that it writes
}

// pytestValues are flags of pytest that take the next word.
var pytestValues = strings.Fields(`-k -m -n -p -c -o -W -r --cov --cov-report --cov-config --maxfail --tb --durations --rootdir --ignore --deselect
	--ds --dist --timeout --reruns --reruns-delay --color --log-level --log-cli-level --basetemp --confcutdir --import-mode --override-ini
	--junit-prefix --html --capture --show-capture --randomly-seed`)

// parsePytest takes pytest apart. It is not ok for another command, and where it collects more than files of tests.
func parsePytest(argv []string, fsys fs.FS) (c pytestCommand, ok bool) {
	at := slices.IndexFunc(argv, func(word string) bool { return path.Base(word) == "pytest" || path.Base(word) == "py.test" })
	if at < 0 || !slices.Contains(pytestRunners, strings.Join(base(argv[:at]), " ")) {
		return c, false
	}
	c.head = argv[:at+1]
	rest := argv[at+1:]
	if slices.ContainsFunc(append(pytestSays(fsys, "addopts"), rest...), collectsMore) {
		return c, false
	}
	for i := 0; i < len(rest); i++ {
		arg := rest[i]
		name, value, valued := strings.Cut(arg, "=")
		switch {
		case name == "--junitxml" || name == "--junit-xml":
			if !valued && i+1 < len(rest) {
				i++
				value = rest[i]
			}
			c.junit = value
		case strings.HasPrefix(arg, "-"):
			c.args = append(c.args, arg)
			if !valued && slices.Contains(pytestValues, arg) && i+1 < len(rest) {
				i++
				c.args = append(c.args, rest[i])
			}
		default:
			file, _, _ := strings.Cut(arg, "::")
			if _, err := fs.Stat(fsys, path.Clean(file)); err != nil {
				return c, false
			}
			c.paths = append(c.paths, path.Clean(arg))
		}
	}
	return c, true
}

// pytestRunners are what may stand before pytest.
var pytestRunners = []string{"", "python -m", "python3 -m", "uv run", "poetry run", "pipenv run", "pdm run", "hatch run", "rye run"}

func base(words []string) []string {
	names := slices.Clone(words)
	for i, word := range names {
		names[i] = path.Base(word)
	}
	return names
}

// collectsMore reports a flag with which pytest finds tests outside of its files.
func collectsMore(arg string) bool {
	return strings.HasPrefix(arg, "--doctest") || arg == "--pyargs" || strings.HasPrefix(arg, "@")
}

// files are the units of the command in a checkout: the files that it would find, and single tests that it names.
func (c pytestCommand) files(fsys fs.FS) ([]string, error) {
	patterns := pytestSays(fsys, "python_files")
	if patterns == nil {
		patterns = pythonFiles
	}
	all, err := testFiles(fsys, patterns, nil)
	paths := c.paths
	if len(paths) == 0 {
		paths = pytestSays(fsys, "testpaths")
	}
	if len(paths) == 0 {
		return all, err
	}
	var units []string
	for _, name := range paths {
		info, statErr := fs.Stat(fsys, path.Clean(name))
		if statErr == nil && info.IsDir() {
			for _, file := range all {
				if path.Clean(name) == "." || strings.HasPrefix(file, path.Clean(name)+"/") {
					units = append(units, file)
				}
			}
			continue
		}
		if statErr != nil && !strings.Contains(name, "::") {
			return all, err // testpaths with a pattern in it
		}
		units = append(units, name)
	}
	slices.Sort(units)
	return slices.Compact(units), err
}

// with is the command for some files only, with a report of its own. Names in the report are to be the same whatever the
// files: they count from the folder that pytest takes as its root.
func (c pytestCommand) with(files []string, report string) []string {
	argv := slices.Concat(c.head, c.args)
	if !slices.ContainsFunc(c.args, func(arg string) bool { return strings.HasPrefix(arg, "--rootdir") }) {
		argv = append(argv, "--rootdir=.")
	}
	if report != "" {
		argv = append(argv, "--junitxml="+report)
	}
	return append(argv, files...)
}
