package suite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/build/command"
)

// World is what the machine gives to a level beside the files: programs, toolchains, libraries, time zone, names.
type World struct {
	Runner command.Runner // runs what is asked for its version, as the levels are run
	Root   string         // "": the machine's own; a folder that is looked into instead of /, for everything but PATH
	Home   string         // home of whom the levels run as; "": none
	Memo   *Memo
	// Answers outlives the world: what programs said of their versions.
	Answers *Answers
}

// Answers remembers what programs of a machine said of their versions. The zero value is ready, for any number of worlds.
type Answers struct {
	mu    sync.Mutex
	known map[string]string
}

// Parts returns the hashes of the machine, by what they are of. Env is the environment of the level, commands are those
// whose programs count by what they say of themselves.
func (w *World) Parts(ctx context.Context, env, commands []string) (map[string]string, error) {
	parts := map[string]string{
		"programs":   w.programs(valueOf(env, "PATH")),
		"toolchains": w.toolchains(valueOf(env, "PATH")),
		"machine":    w.machine(valueOf(env, "TZ")),
	}
	if w.Home != "" {
		home, err := w.Memo.Folder(ctx, w.Home, ownSettings)
		if err != nil {
			return nil, fmt.Errorf("look into the home folder: %w", err)
		}
		parts["home"] = home
	}
	said, err := w.versions(ctx, env, commands, hashOf(parts))
	parts["versions"] = said
	return parts, err
}

func valueOf(env []string, name string) string {
	for _, pair := range slices.Backward(env) { // the last one holds
		if v, ok := strings.CutPrefix(pair, name+"="); ok {
			return v
		}
	}
	return ""
}

// programs stands for every program that PATH leads to, in its order: a command may start any of them, through make or a
// script. A program is told by its file, not by what it says of itself.
func (w *World) programs(path string) string {
	h := sha256.New()
	for _, dir := range filepath.SplitList(path) {
		_, _ = fmt.Fprintf(h, "%q\n", dir)
		if !filepath.IsAbs(dir) {
			continue // in the checkout: those files count themselves
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			_, _ = fmt.Fprintf(h, "%q %s\n", entry.Name(), fileState(filepath.Join(dir, entry.Name())))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// fileState tells a file that lies where the app's user cannot write: kind, mode, size, inode and times. Links are followed.
func fileState(name string) string {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return "none"
	}
	return fmt.Sprintf("%o %d %d %d.%d %d.%d", st.Mode, st.Size, st.Ino, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
}

// installed are the parts of an installation beside its programs that an upgrade changes: compilers, libraries, and what
// package managers put in for all.
var installed = []string{
	"VERSION", "release", "version", "settings.toml", "pkg/tool/*/*", "lib/*", "lib64/*", "libexec/*", "lib/node_modules/*/package.json",
	"lib/python*/site-packages/*", "lib/python*/dist-packages/*", "lib/ruby/gems/*/specifications/*", "versions/*/bin/*",
	"versions/*/lib/python*/site-packages/*", "versions/node/*/bin/*", "installs/*/*/bin/*", "toolchains/*/bin/*", "toolchains/*/lib/*",
}

// system are the files that change when a package of the system does.
var system = []string{
	"/var/lib/dpkg/status", "/var/lib/rpm/*", "/usr/lib/sysimage/rpm/*", "/lib/apk/db/installed", "/var/lib/pacman/local", "/etc/ld.so.cache",
	"/etc/ssl/certs/ca-certificates.crt", "/usr/lib/locale/*", "/usr/share/zoneinfo/tzdata.zi", "/usr/share/zoneinfo", "/etc/java*/*",
	"/etc/alternatives",
}

// interpreters are looked up in PATH; what their real files lie beside counts.
var interpreters = []string{"go", "node", "python3", "python", "ruby", "java", "javac", "php", "cargo", "rustc", "deno", "bun", "dotnet", "gcc", "clang"}

func (w *World) toolchains(path string) string {
	around := map[string]bool{"/usr": true, "/usr/local": true}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		around[filepath.Dir(filepath.Clean(dir))] = true
		if strings.HasSuffix(dir, "/.cargo/bin") {
			around[filepath.Join(filepath.Dir(filepath.Dir(dir)), ".rustup")] = true
		}
		for _, name := range interpreters {
			if real, err := filepath.EvalSymlinks(filepath.Join(dir, name)); err == nil {
				around[filepath.Dir(filepath.Dir(real))] = true
			}
		}
	}
	var files []string
	for dir := range around {
		for _, pattern := range installed {
			found, _ := filepath.Glob(filepath.Join(dir, pattern)) // the patterns are well formed
			files = append(files, found...)
		}
	}
	for _, pattern := range system {
		found, _ := filepath.Glob(w.Root + pattern)
		files = append(files, found...)
	}
	slices.Sort(files)
	h := sha256.New()
	for _, name := range slices.Compact(files) {
		_, _ = fmt.Fprintf(h, "%q %s\n", name, fileState(name))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// machine stands for the kernel, the processors, the time zone and the names of the machine. The date and the load of the
// machine are no inputs: a test that depends on them is flaky, not cached wrongly.
func (w *World) machine(zone string) string {
	var name unix.Utsname
	_ = unix.Uname(&name) // it cannot fail with a valid address
	texts := []string{
		runtime.GOARCH, strconv.Itoa(runtime.NumCPU()), unix.ByteSliceToString(name.Sysname[:]), unix.ByteSliceToString(name.Release[:]),
		unix.ByteSliceToString(name.Version[:]), unix.ByteSliceToString(name.Machine[:]), unix.ByteSliceToString(name.Nodename[:]),
	}
	files := []string{"/etc/localtime", "/etc/timezone", "/etc/hosts", "/etc/nsswitch.conf", "/etc/locale.conf", "/etc/default/locale", "/etc/os-release"}
	if zone = strings.TrimPrefix(zone, ":"); zone != "" && filepath.IsLocal(zone) {
		files = append(files, "/usr/share/zoneinfo/"+zone)
	}
	for _, file := range files {
		to, _ := os.Readlink(w.Root + file) // not a link: ""
		sum, err := w.Memo.path(w.Root + file)
		if err != nil {
			sum = "none"
		}
		texts = append(texts, file, to, sum)
	}
	return digest(texts...)
}

// notSettings are what tools keep in a home folder and check themselves before they use it: caches by content or version,
// histories and counters. Everything else there may decide a result, and counts.
var notSettings = []string{
	".cache", ".npm", ".yarn", ".pnpm-store", ".local/share/pnpm", ".m2/repository", ".gradle", ".ivy2", ".sbt", ".cargo/registry", ".cargo/git",
	".nuget/packages", ".composer/cache", ".bundle/cache", ".gem/specs", ".ccache", "go/pkg", ".config/go/telemetry", ".config/configstore",
	".bash_history", ".python_history", ".node_repl_history", ".irb_history", ".lesshst", ".wget-hsts", ".dotnet/TelemetryStorageService",
	".java/.userPrefs", ".local/state",
}

func ownSettings(name string) bool {
	for _, not := range notSettings {
		// The folders above them come with them.
		if name == not || strings.HasPrefix(name, not+"/") || strings.HasPrefix(not, name+"/") {
			return false
		}
	}
	return true
}

// families are the tools that speak for a language: which program says its version, and how.
var families = []struct {
	ask   string
	words []string
}{
	{"go version", []string{"go", "gotestsum", "ginkgo"}},
	{"node --version", []string{"node", "npm", "npx", "yarn", "pnpm", "jest", "vitest", "mocha", "playwright", "cypress"}},
	{"python3 --version", []string{"python", "python3", "pytest", "py.test", "tox", "nox", "pip", "pip3", "poetry", "uv", "pipenv"}},
	{"ruby --version", []string{"ruby", "bundle", "rake", "rspec", "rails"}},
	{"java -version", []string{"java", "mvn", "gradle", "mvnw", "gradlew", "sbt", "ant"}},
	{"rustc --version", []string{"cargo", "rustc"}},
	{"php --version", []string{"php", "phpunit", "composer", "pest"}},
}

const askWithin = 20 * time.Second

// versions asks the toolchains of the commands for their versions. A command that names none of them may start any, and so
// all are asked. The answers are asked for again only when the machine has changed: asking takes longer than the rest.
func (w *World) versions(ctx context.Context, env, commands []string, machine string) (string, error) {
	var ask []string
	words := strings.FieldsFunc(strings.Join(commands, " "), func(r rune) bool { return strings.ContainsRune(" \t\n;&|()\"'`$=", r) })
	for _, f := range families {
		if slices.ContainsFunc(words, func(word string) bool { return slices.Contains(f.words, filepath.Base(word)) }) {
			ask = append(ask, f.ask)
		}
	}
	if len(ask) == 0 {
		for _, f := range families {
			ask = append(ask, f.ask)
		}
	}
	question := digest(machine, list(env), list(ask))
	a := w.Answers
	a.mu.Lock()
	answer, ok := a.known[question]
	a.mu.Unlock()
	if ok {
		return answer, nil
	}
	answer, err := w.say(ctx, env, ask)
	if err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil || len(a.known) > 1000 {
		a.known = map[string]string{}
	}
	a.known[question] = answer
	return answer, nil
}

func (w *World) say(ctx context.Context, env, ask []string) (string, error) {
	var script strings.Builder
	for _, question := range ask {
		program, _, _ := strings.Cut(question, " ")
		_, _ = fmt.Fprintf(&script, "echo %s; if command -v %s; then %s; fi 2>&1\n", program, program, question)
	}
	var said bytes.Buffer
	err := w.Runner.Run(ctx, command.Cmd{
		Dir: "/", Argv: []string{"sh", "-c", script.String()}, Env: env, Stdout: &said, Stderr: &said, Purpose: "versions", Timeout: askWithin,
	})
	if cause := context.Cause(ctx); cause != nil {
		return "", cause
	}
	// A toolchain that cannot say its version is one that cannot say its version: its file counts all the same.
	return digest(said.String(), fmt.Sprint(err)), nil
}
