package build_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/build"
	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/registry"
)

const sha = "4f2c81a9d0b5e6f7a8b9c0d1e2f3a4b5c6d7e8f9"

// bench is an app's folder with a builder.
type bench struct {
	*build.Builder
	dir, store, releases string
	log                  bytes.Buffer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	base := t.TempDir()
	b := &bench{dir: filepath.Join(base, "work/shop/src"), store: filepath.Join(base, "registry"), releases: filepath.Join(base, "releases")}
	s, err := registry.Open(b.store, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.Builder = &build.Builder{Runner: command.Local{}, Store: s, Records: build.Folder(filepath.Join(base, "records"))}
	t.Cleanup(func() {
		found, _ := filepath.Glob(filepath.Join(b.releases, "*"))
		for _, f := range found {
			_ = registry.RemoveUnpacked(f)
		}
	})
	b.write(t, "main.sh", "#!/bin/sh\necho hello\n", 0o755)
	b.write(t, "page.html", "<html>\n", 0o644)
	return b
}

func (b *bench) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	file := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) request() build.Request {
	b.log.Reset()
	return build.Request{
		App: "shop", Commit: sha, Tree: strings.Repeat("a", 40), Time: time.Unix(1_700_000_000, 0), Dir: b.dir,
		Tracked: []string{"main.sh", "page.html"}, Files: []string{"."}, Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=/tmp"},
		Timeout: time.Minute, Delivery: 142, Log: &b.log,
	}
}

// unpacked returns the folder of an artifact's files.
func (b *bench) unpacked(t *testing.T, digest string) string {
	t.Helper()
	dest := registry.Folder(b.releases, digest)
	if err := b.Store.Unpack(t.Context(), digest, dest); err != nil {
		t.Fatal(err)
	}
	return dest
}

func mustBuild(t *testing.T, b *bench, r build.Request) build.Result {
	t.Helper()
	result, err := b.Build(t.Context(), r)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.log.String())
	}
	return result
}

func fails(t *testing.T, b *bench, r build.Request, code domain.Code, parts ...string) {
	t.Helper()
	_, err := b.Build(t.Context(), r)
	if err == nil {
		t.Fatal("it did not fail")
	}
	if domain.CodeOf(err) != code {
		t.Errorf("code %s: %v", domain.CodeOf(err), err)
	}
	for _, part := range parts {
		if text := err.Error() + "\n" + domain.HintOf(err); !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

func TestBuildPacksWhatTheCommandsMade(t *testing.T) {
	b := newBench(t)
	r := b.request()
	r.Run = "mkdir -p bin dist/assets target\ncp main.sh bin/api\necho js > dist/assets/app.js\necho o > target/obj.o; ln -s api bin/link"
	r.Lint = []string{"test -f main.sh", "echo looks fine"}
	r.Files = []string{"bin", "dist/**/*.js", "page.html", "target/obj.o"}
	r.Cache = []string{"target"}
	result := mustBuild(t, b, r)
	if result.Reused || len(result.Commands) != 3 || result.Delivery != 142 {
		t.Errorf("%+v", result)
	}
	if !strings.Contains(b.log.String(), "lint | looks fine\n") {
		t.Errorf("log: %q", b.log.String())
	}
	at := b.unpacked(t, result.Digest)
	for name, want := range map[string]string{"bin/api": "#!/bin/sh\necho hello\n", "dist/assets/app.js": "js\n", "page.html": "<html>\n", "target/obj.o": "o\n"} {
		if body, err := os.ReadFile(filepath.Join(at, name)); err != nil || string(body) != want {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(at, "main.sh")); err == nil {
		t.Error("a file that nobody named was packed")
	}
	if out, err := exec.Command(filepath.Join(at, "bin/link")).Output(); err != nil || string(out) != "hello\n" {
		t.Errorf("the program does not run: %q, %v", out, err)
	}
	if digest, err := b.Store.Resolve("shop", sha); err != nil || digest != result.Digest {
		t.Errorf("the tag is %s, %v", digest, err)
	}
	config, err := b.Store.Config(result.Digest)
	labels := config.Config.Labels
	if err != nil || labels[build.LabelCommit] != sha || labels[build.LabelFixed] != b.dir || labels[build.LabelHost] != "/bin/sh (bin/api)" {
		t.Errorf("%v, %v", labels, err)
	}
}

func TestBuildIsReproducible(t *testing.T) {
	b := newBench(t)
	r := b.request()
	r.Run = "mkdir -p out/empty; date +%N > /dev/null; umask 0; cp page.html out/b; cp page.html out/a; mkdir -p cache; date +%N > cache/x"
	r.Files, r.Cache = []string{"out", "."}, []string{"cache"}
	first := mustBuild(t, b, r)
	b.Records = nil // really build again, in another folder order, at other times
	for _, f := range []string{"out", "cache"} {
		if err := os.RemoveAll(filepath.Join(b.dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	_ = os.Chtimes(filepath.Join(b.dir, "page.html"), old, old)
	_ = os.Chmod(filepath.Join(b.dir, "page.html"), 0o600)
	r.Files = []string{"./out/", "page.html", "main.sh"}
	r.Run = "mkdir -p out/empty; cp page.html out/a; cp page.html out/b"
	second := mustBuild(t, b, r)
	if first.Digest != second.Digest || len(second.Warnings) > 0 {
		t.Errorf("%s, then %s; %v", first.Digest, second.Digest, second.Warnings)
	}
	for _, h := range headers(t, b, first.Digest) {
		if !h.ModTime.Equal(r.Time) || h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s carries %v and %d:%d", h.Name, h.ModTime, h.Uid, h.Gid)
		}
	}
	b.write(t, "page.html", "<html>.", 0o644)
	third := mustBuild(t, b, b.request())
	if third.Digest == first.Digest || len(third.Warnings) != 1 {
		t.Errorf("another content has the same digest, or no warning: %+v", third)
	}
}

// headers reads the only layer of an artifact.
func headers(t *testing.T, b *bench, digest string) []*tar.Header {
	t.Helper()
	_, _, body, err := b.Store.Manifest("shop", digest)
	if err != nil {
		t.Fatal(err)
	}
	var m registry.Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	f, err := b.Store.Blob(m.Layers[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	content, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all []*tar.Header
	for archive := tar.NewReader(content); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
	}
}

func TestCachesAreNotPacked(t *testing.T) {
	b := newBench(t)
	r := b.request()
	r.Run = "mkdir -p out/cache/deep out/.git; echo x > out/cache/deep/x; echo y > out/.git/y; echo z > out/z"
	r.Files, r.Cache = []string{"out", "out/**/*"}, []string{"out/cache"}
	at := b.unpacked(t, mustBuild(t, b, r).Digest)
	for _, name := range []string{"out/cache", "out/.git"} {
		if _, err := os.Lstat(filepath.Join(at, name)); err == nil {
			t.Errorf("%s was packed", name)
		}
	}
	if _, err := os.Lstat(filepath.Join(at, "out/z")); err != nil {
		t.Error(err)
	}
}

func TestPrepareRunsTheCommandsOnly(t *testing.T) {
	b := newBench(t)
	r := b.request()
	r.Run, r.Lint = "touch made", []string{"touch linted"}
	commands, err := b.Prepare(t.Context(), r)
	if err != nil || len(commands) != 1 {
		t.Errorf("%+v, %v", commands, err)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "made")); err != nil {
		t.Error(err)
	}
	if _, err := b.Store.Resolve("shop", sha); err == nil {
		t.Error("something was packed")
	}
}

func TestBuildReusesWhatItBuilt(t *testing.T) {
	b := newBench(t)
	r := b.request()
	r.Run = "echo run >> ../runs"
	first := mustBuild(t, b, r)
	r.Delivery = 143
	second := mustBuild(t, b, r)
	if !second.Reused || second.Digest != first.Digest || second.Delivery != 142 || len(second.Commands) != 0 {
		t.Errorf("%+v", second)
	}
	other := r
	other.Toolchain = []string{"go1.27"}
	if mustBuild(t, b, other).Reused {
		t.Error("another toolchain was taken for the same")
	}
	for _, blob := range find(t, filepath.Join(b.store, "blobs")) { // what was altered is built again
		_ = os.Chmod(blob, 0o600)
		if err := os.WriteFile(blob, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, err := b.Build(t.Context(), r)
	if err != nil || again.Reused || again.Digest != first.Digest {
		t.Errorf("%+v, %v", again, err)
	}
	if err := b.Store.Verify(t.Context(), again.Digest); err != nil {
		t.Error(err)
	}
	runs, _ := os.ReadFile(filepath.Join(b.dir, "../runs"))
	if got := strings.Count(string(runs), "run"); got != 3 {
		t.Errorf("ran %d times", got)
	}
}

func find(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestBuildFailures(t *testing.T) {
	t.Run("a line in the middle fails", func(t *testing.T) {
		b := newBench(t)
		r := b.request()
		r.Run = "echo one\nfalse && echo two\ntouch reached"
		fails(t, b, r, domain.Failed, "build failed", "exit 1")
		if _, err := os.Stat(filepath.Join(b.dir, "reached")); err == nil {
			t.Error("it went on")
		}
	})
	t.Run("lint fails", func(t *testing.T) {
		b := newBench(t)
		r := b.request()
		r.Run, r.Lint = "sleep 60", []string{"echo page.html:1: bad >&2; exit 3"}
		fails(t, b, r, domain.Failed, "lint failed", "exit 3")
		if !strings.Contains(b.log.String(), "lint | page.html:1: bad") {
			t.Errorf("log: %q", b.log.String())
		}
	})
	t.Run("lint changes a file", func(t *testing.T) {
		b := newBench(t)
		r := b.request()
		r.Lint = []string{"true", "sed -i s/html/HTML/ page.html"}
		fails(t, b, r, domain.Failed, "1 file changed: page.html", "prettier --check")
	})
	t.Run("lint removes a file", func(t *testing.T) {
		b := newBench(t)
		r := b.request()
		r.Lint = []string{"rm page.html"}
		fails(t, b, r, domain.Failed, "page.html")
	})
	t.Run("gofmt lists", func(t *testing.T) {
		if _, err := exec.LookPath("gofmt"); err != nil {
			t.Skip("no gofmt in PATH")
		}
		b := newBench(t)
		b.write(t, "main.go", "package  main\n", 0o644)
		r := b.request()
		r.Lint = []string{"gofmt -l ."}
		fails(t, b, r, domain.Failed, "not formatted")
	})
	t.Run("a pattern matches nothing", func(t *testing.T) {
		b := newBench(t)
		r := b.request()
		r.Files = []string{"main.sh", "dist/*.js"}
		fails(t, b, r, domain.Failed, `"dist/*.js" matches nothing`)
	})
	t.Run("a pattern leaves the folder", func(t *testing.T) {
		b := newBench(t)
		r := b.request()
		r.Files = []string{"../secret"}
		fails(t, b, r, domain.Invalid, "leaves its folder")
	})
	t.Run("a link leaves the folder", func(t *testing.T) {
		b := newBench(t)
		r := b.request()
		r.Run, r.Files = "mkdir out; ln -s ../../../../belay.db out/db", []string{"out"}
		fails(t, b, r, domain.Refused, "out/db is a link that leaves the artifact")
	})
	t.Run("a folder behind a link", func(t *testing.T) {
		b := newBench(t)
		r := b.request()
		r.Run, r.Files = "ln -s /etc out", []string{"out/passwd"}
		fails(t, b, r, domain.Failed, "matches nothing")
	})
	t.Run("a pipe", func(t *testing.T) {
		b := newBench(t)
		r := b.request()
		r.Run, r.Files = "mkdir out; mkfifo out/pipe", []string{"out"}
		fails(t, b, r, domain.Failed, "a pipe")
	})
	t.Run("too long", func(t *testing.T) {
		b := newBench(t)
		r := b.request()
		r.Run, r.Timeout = "sleep 60 & sleep 60; wait", 200*time.Millisecond
		began := time.Now()
		fails(t, b, r, domain.Failed, "timed out after 200ms")
		if time.Since(began) > 5*time.Second {
			t.Error("the limit did not hold")
		}
	})
	t.Run("the disk is full", func(t *testing.T) {
		b := newBench(t)
		s, err := registry.Open(b.store, registry.Options{MinFree: 1 << 60})
		if err != nil {
			t.Fatal(err)
		}
		b.Store = s
		fails(t, b, b.request(), domain.Refused, "too full")
	})
}

func TestBuildNamesTheProgramsOfTheHost(t *testing.T) {
	b := newBench(t)
	r := b.request()
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	r.Run = "mkdir -p bin .venv/bin; cp " + shell + " bin/dynamic; ln -s /usr/bin/python3 .venv/bin/python; ln -s python .venv/bin/python3\n" +
		"printf '#!/usr/bin/env -S node --flag\\n' > bin/js; chmod +x bin/js\nprintf '#!%s/.venv/bin/python\\n' \"$PWD\" > bin/own; chmod +x bin/own"
	r.Files = []string{"bin", ".venv"}
	r.Roles = []string{"java -jar x.jar", "bin/dynamic -c true", ".venv/bin/python app.py"}
	got := strings.Join(mustBuild(t, b, r).Host, ", ")
	for _, want := range []string{"/ld-linux", "(bin/dynamic)", "/usr/bin/python3 (.venv/bin/python)", "node (bin/js)", "java (java -jar x.jar)"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not name %q", got, want)
		}
	}
	if strings.Contains(got, "bin/own") {
		t.Errorf("%q names a script that uses an interpreter of the artifact", got)
	}
	static := newBench(t)
	rs := static.request()
	rs.Files = []string{"page.html"}
	if host := mustBuild(t, static, rs).Host; len(host) > 0 {
		t.Errorf("a page needs %v", host)
	}
}

// TestExitErrorIsKept: what a caller may want to know survives the sentence.
func TestExitErrorIsKept(t *testing.T) {
	b := newBench(t)
	r := b.request()
	r.Run = "exit 7"
	result, err := b.Build(t.Context(), r)
	var exit *command.ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || len(result.Commands) != 1 || result.Commands[0].Failed == "" {
		t.Errorf("%v, %+v", err, result.Commands)
	}
}
