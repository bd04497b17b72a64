package suite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/belay-cd/belay/internal/build/command"
)

// goTests runs "go test" so that Go's own cache answers for the packages that a change does not touch, and only where that
// is honest. Go's cache knows the sources, the flags, the variables that a test asks for, and the files of the module that
// it opens, these by size and time alone. It does not know the rest of the machine, files beside the module, and what the
// processes read that a test starts. So:
//
//   - every result is bound to the level's world, through -skip with a pattern that no test has: Go makes it a part of
//     what a result is remembered by;
//   - a package that can start processes, or call C, is bound to all files of the commit as well;
//   - files get times that follow from their content, for as long as the tests run.
type goTests struct {
	runner command.Runner
	salt   string // of the world
	files  string // hash of all files that count
	top    string // of the checkout

	once    sync.Once
	module  string
	escapes bool // a link leads out of the module
	restore func()
	fault   error
}

// steady gives the files of the module their times, once for all parts of a level.
func (g *goTests) steady(ctx context.Context, dir string) error {
	g.once.Do(func() {
		g.module = moduleOf(dir)
		g.restore, g.escapes, g.fault = steady(ctx, g.module)
	})
	return g.fault
}

// end gives the files their own times back.
func (g *goTests) end() {
	if g.restore != nil {
		g.restore()
	}
}

// salt is what the results of packages are bound to. A run that reached a network ends the use of what Go remembers of it.
func (s *Suite) salt(ctx context.Context, req Request, level Level, k key) string {
	recent, err := s.Memory.Recent(ctx, req.App, level.Name, 50)
	if err != nil || req.Fresh {
		return digest(k.world, time.Now().String())
	}
	for _, run := range recent {
		if run.Once != "" && !level.Vouched {
			return digest(k.world, run.At.String())
		}
	}
	return k.world
}

// Run implements command.Runner. What is not go test, or cannot be read for sure, runs without what Go remembers.
func (g *goTests) Run(ctx context.Context, c command.Cmd) error {
	call, ok := parseGoTest(c.Argv)
	if !ok || strings.Contains(valueOf(c.Env, "GOFLAGS"), "-skip") || !g.knowsSkip(ctx, c, call.head[0]) {
		c.Env = append(slices.Clone(c.Env), "GOFLAGS="+strings.TrimSpace(valueOf(c.Env, "GOFLAGS")+" -count=1"))
		return g.runner.Run(ctx, c)
	}
	if err := g.steady(ctx, c.Dir); err != nil {
		return fmt.Errorf("files of the module: %w", err)
	}
	world, all := g.salt, digest(g.salt, g.files)
	if g.escapes || g.module != g.top || exists(filepath.Join(g.module, "go.work")) {
		world = all // Go does not look at files outside of the module
	}
	alone, bound := g.sort(ctx, c, call)
	if len(alone) == 0 || len(bound) == 0 || call.whole || world == all {
		salt := all
		if len(alone) > 0 && len(bound) == 0 {
			salt = world
		}
		c.Argv = call.argv(salt, call.packages)
		return g.runner.Run(ctx, c)
	}
	first, second := c, c
	first.Argv, second.Argv = call.argv(world, alone), call.argv(all, bound)
	err := g.runner.Run(ctx, first)
	var exit *command.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	if again := g.runner.Run(ctx, second); again != nil {
		return again
	}
	return err
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// knowsSkip reports whether this Go has -skip, and makes it a part of what a result is remembered by.
func (g *goTests) knowsSkip(ctx context.Context, c command.Cmd, program string) bool {
	var out bytes.Buffer
	err := g.runner.Run(ctx, command.Cmd{Dir: c.Dir, Argv: []string{program, "env", "GOVERSION"}, Env: c.Env, Stdout: &out, Stderr: io.Discard, Purpose: c.Purpose, Timeout: askWithin})
	var minor int
	_, bad := fmt.Sscanf(strings.TrimSpace(out.String()), "go1.%d", &minor)
	return err == nil && bad == nil && minor >= 21
}

// goCall is a command line of go test that is understood.
type goCall struct {
	head     []string // go, and its own flags before "test"
	flags    []string
	build    []string // those of flags that decide what is built: go list takes them too
	packages []string
	tail     []string // -args and what follows
	whole    bool     // it must not be run in two parts: it writes a file that covers all packages
}

// buildFlags take a value, and go list takes them too; testFlags take a value; lone ones take none.
var (
	buildFlags = []string{"tags", "mod", "modfile", "overlay", "ldflags", "gcflags", "asmflags", "buildmode", "compiler", "toolexec", "pgo", "pkgdir", "covermode", "coverpkg", "C", "p"}
	testFlags  = []string{"run", "timeout", "parallel", "cpu", "shuffle", "vet", "list", "benchtime"}
	loneFlags  = []string{"v", "short", "json", "race", "failfast", "cover", "trimpath", "msan", "asan", "a", "x", "n", "work", "buildvcs", "fullpath", "modcacherw", "linkshared"}
	wholeFlags = []string{"coverprofile", "outputdir"}
)

// parseGoTest reads the command line. It says no to all that it does not know, and to what the cache of Go does not serve.
func parseGoTest(argv []string) (goCall, bool) {
	if len(argv) < 2 || filepath.Base(argv[0]) != "go" || argv[1] != "test" {
		return goCall{}, false
	}
	call := goCall{head: argv[:2]}
	for rest := argv[2:]; len(rest) > 0; {
		arg := rest[0]
		rest = rest[1:]
		if arg == "-args" || arg == "--args" {
			call.tail, rest = append([]string{arg}, rest...), nil
			continue
		}
		if !strings.HasPrefix(arg, "-") {
			if strings.HasSuffix(arg, ".go") {
				return call, false
			}
			call.packages = append(call.packages, arg)
			continue
		}
		name, _, joined := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		took := []string{arg}
		valued := slices.Contains(buildFlags, name) || slices.Contains(testFlags, name) || slices.Contains(wholeFlags, name)
		switch {
		case !valued && !slices.Contains(loneFlags, name) || name == "C":
			return call, false
		case valued && !joined && len(rest) == 0:
			return call, false
		case valued && !joined:
			took, rest = append(took, rest[0]), rest[1:]
		}
		call.flags = append(call.flags, took...)
		call.whole = call.whole || slices.Contains(wholeFlags, name)
		if slices.Contains(buildFlags, name) && name != "p" && name != "covermode" && name != "coverpkg" || slices.Contains([]string{"race", "msan", "asan"}, name) {
			call.build = append(call.build, took...)
		}
	}
	if len(call.packages) == 0 {
		call.packages = []string{"."}
	}
	return call, true
}

func (g goCall) argv(salt string, packages []string) []string {
	argv := append(slices.Clone(g.head), "-skip=^belay:"+salt[:32]+"$")
	argv = append(argv, g.flags...)
	return append(append(argv, packages...), g.tail...)
}

// goPackageInfo is what go list says.
type goPackageInfo struct {
	ImportPath, Dir, ForTest string
	Module                   *struct {
		Main bool
		Dir  string
	}
	Standard, DepOnly bool
	Deps              []string
	GoFiles, CgoFiles []string
	TestGoFiles       []string
	XTestGoFiles      []string
	Error             *struct{ Err string }
}

// sort lists the packages whose tests see nothing that Go's cache does not, and the others. Neither when that is not known.
func (g *goTests) sort(ctx context.Context, c command.Cmd, call goCall) (alone, bound []string) {
	var out bytes.Buffer
	argv := append([]string{call.head[0], "list", "-test", "-deps", "-json=ImportPath,Dir,Module,ForTest,Standard,DepOnly,Deps,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles,Error"}, call.build...)
	list := command.Cmd{Dir: c.Dir, Argv: append(append(argv, "--"), call.packages...), Env: c.Env, Stdout: &out, Stderr: io.Discard, Purpose: c.Purpose, Timeout: c.Timeout}
	if g.runner.Run(ctx, list) != nil {
		return nil, nil
	}
	packages, ok := readGoList(&out)
	if !ok {
		return nil, nil
	}
	opens := map[string]bool{} // by import path: it can start processes or call C itself
	for _, p := range packages {
		if strings.HasSuffix(p.ImportPath, ".test") {
			continue // the main package that go makes
		}
		if m := p.Module; m != nil && m.Main { // where the commands see it is not where it lies
			if rest, err := filepath.Rel(m.Dir, p.Dir); err == nil && filepath.IsLocal(rest) {
				p.Dir = filepath.Join(g.module, rest)
			}
		}
		opens[p.ImportPath] = reachesOut(p)
	}
	for _, p := range packages {
		if p.DepOnly || p.ForTest != "" || strings.HasSuffix(p.ImportPath, ".test") {
			continue
		}
		closed := !opens[p.ImportPath]
		for _, q := range packages { // the package and its tests, as they are built for them
			if q.ForTest == p.ImportPath {
				closed = closed && !opens[q.ImportPath] && !slices.ContainsFunc(q.Deps, func(dep string) bool { return opens[dep] })
			}
		}
		if closed {
			alone = append(alone, p.ImportPath)
		} else {
			bound = append(bound, p.ImportPath)
		}
	}
	return alone, bound
}

func readGoList(out io.Reader) ([]goPackageInfo, bool) {
	var packages []goPackageInfo
	for d := json.NewDecoder(out); ; {
		var p goPackageInfo
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages, true
		}
		if err != nil || p.Error != nil {
			return nil, false
		}
		packages = append(packages, p)
	}
}

// outward are calls that Go's record of what a test reads does not see, beside those of os/exec and plugin.
var outward = regexp.MustCompile(`\bStartProcess\b|\bForkExec\b|\b(syscall|unix)\.(Exec|Open|Openat|Read|Pread|Mmap|Stat|Lstat|RawSyscall6?|Syscall6?|Connect)\b|//go:linkname|\bSysProcAttr\b|` +
	// Where a link leads is not recorded, and another name of an import hides the calls above.
	`\bRead[lL]ink\b|\bEvalSymlinks\b|\b\w+[ \t]+"(syscall|golang\.org/x/sys/\w+)"`)

func reachesOut(p goPackageInfo) bool {
	if p.ImportPath == "os/exec" || p.ImportPath == "plugin" {
		return true
	}
	if p.Standard {
		return false
	}
	if len(p.CgoFiles) > 0 {
		return true
	}
	if strings.HasPrefix(p.ImportPath, "golang.org/x/sys/") {
		return false // it only offers the calls: who uses them is found
	}
	for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(p.Dir, name)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return true
		}
		if outward.Match(text) {
			return true
		}
	}
	return false
}

// moduleOf returns the folder of the module that dir is in; dir itself when there is none.
func moduleOf(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		if exists(filepath.Join(at, "go.mod")) {
			return at
		}
		if at == filepath.Dir(at) {
			return dir
		}
	}
}

const (
	// maxSteady is the largest file whose time follows from its content, in bytes; others are new in each checkout.
	maxSteady = 64 << 20
	// Steady times lie between 2001 and 2018: long past, so that nothing takes them for just written.
	steadyFrom, steadySpan = 978_307_200, 1 << 29
)

// steady gives the files and folders of a module modification times that follow from their content: the same content has
// the same time in every checkout, and another content has another one. Restore gives back the times of what is still as
// it was: make and its like compare times with each other. Escapes says that a link leads out of the module.
func steady(ctx context.Context, module string) (restore func(), escapes bool, err error) {
	root, err := os.OpenRoot(module)
	if err != nil {
		return nil, false, err
	}
	type was struct{ old, set time.Time }
	changed := map[string]was{}
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git") {
			return fs.SkipDir
		}
		if entry.Type()&fs.ModeSymlink != 0 {
			_, out := root.Stat(name) // it refuses what leads out of the folder
			escapes = escapes || out != nil
			return nil
		}
		info, err := root.Lstat(name)
		if err != nil {
			return err
		}
		sum, ok, err := contentSum(root, name, info)
		if err != nil || !ok {
			return err
		}
		set := steadyTime(sum)
		changed[name] = was{info.ModTime(), set}
		return root.Chtimes(name, set, set)
	})
	restore = func() {
		for name, w := range changed {
			if info, err := root.Lstat(name); err == nil && info.ModTime().Equal(w.set) {
				_ = root.Chtimes(name, w.old, w.old) // it is a courtesy to what runs next
			}
		}
		_ = root.Close()
	}
	if err != nil {
		restore()
		return nil, false, err
	}
	return restore, escapes, nil
}

// contentSum hashes a file, or the names in a folder.
func contentSum(root *os.Root, name string, info fs.FileInfo) (sum string, ok bool, err error) {
	switch {
	case info.IsDir():
		entries, err := fs.ReadDir(root.FS(), name)
		names := make([]string, len(entries))
		for i, e := range entries {
			names[i] = e.Name()
		}
		return digest(names...), true, err
	case !info.Mode().IsRegular() || info.Size() > maxSteady:
		return "", false, nil
	}
	sum, err = contentOf(func() (*os.File, error) {
		return root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	})
	return sum, true, err
}

func steadyTime(sum string) time.Time {
	h := sha256.Sum256([]byte(sum))
	seconds := binary.BigEndian.Uint32(h[:4]) % steadySpan
	return time.Unix(steadyFrom+int64(seconds), int64(binary.BigEndian.Uint32(h[4:8])%1_000_000_000))
}
