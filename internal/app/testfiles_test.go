package app

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/source"
	"github.com/belay-cd/belay/internal/suite"
)

// filesOf are those of a commit with a level, and a checkout of it.
func filesOf(t *testing.T, build, script string) *testFiles {
	t.Helper()
	top := t.TempDir()
	repo := filepath.Join(top, "repo/shop.git")
	git := exec.Command("sh", "-euc", `mkdir -p work "$REPO"; cd work; git init -q -b main; git config user.name Ana; git config user.email ana@shop.example
`+script+`
git add -A; git commit -q -m first; git clone -q --bare . "$REPO"; git rev-parse HEAD`)
	git.Dir, git.Env = top, append(os.Environ(), "REPO="+repo)
	out, err := git.Output()
	if err != nil {
		t.Fatal(err)
	}
	d := domain.Delivery{App: "shop", Commit: string(out[:40])}
	text := "app: shop\nbuild: { " + build + "files: [.], cache: [kept] }\ntest: { unit: { run: ./t }, integration: { none: there is none }, e2e: { none: there is none } }\nroles: { web: { run: ./web } }\n"
	file, _ := config.Parse("belay.yaml", []byte(text), config.Options{})
	tree, err := source.Tree(t.Context(), repo, d.Commit)
	if err != nil {
		t.Fatal(err)
	}
	p := place{Workshop: sandbox.Workshop{Data: top, App: "shop"}, mark: d.Commit, built: filepath.Join(top, "work/shop/built")}
	p.dir = p.Checkout()
	if err := source.Checkout(t.Context(), repo, d.Commit, p.Checkout(), source.Options{UID: os.Geteuid(), GID: os.Getegid()}); err != nil {
		t.Fatal(err)
	}
	return &testFiles{b: &builder{runner: &runner{data: top}}, job: delivery.Job{Delivery: d, File: file}, place: p, tree: tree,
		record: filepath.Join(top, "records/key.files"), known: map[string]string{}}
}

func (f *testFiles) put(t *testing.T, name, text string) {
	t.Helper()
	full := filepath.Join(f.place.Checkout(), name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func hashed(t *testing.T, f *testFiles, inputs ...string) string {
	t.Helper()
	f.known = map[string]string{}
	sum, err := f.hash(t.Context(), inputs)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestFilesOfACommit: without a build they are what git knows, what lies behind links out of it, and the kept folders.
func TestFilesOfACommit(t *testing.T) {
	beside := filepath.Join(t.TempDir(), "beside")
	if err := os.WriteFile(beside, []byte("a"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := filesOf(t, "", "echo a > a; ln -s "+beside+" link")
	first := hashed(t, f)
	f.put(t, "left-by-a-test", "x")
	if hashed(t, f) != first {
		t.Error("what a test left in the checkout counts: the next run has a fresh one")
	}
	if err := os.WriteFile(beside, []byte("b"), 0o644); err != nil {
		t.Fatal(err)
	}
	second := hashed(t, f)
	if second == first {
		t.Error("the file behind the link does not count")
	}
	narrow := hashed(t, f, "a")
	f.put(t, "kept/poison", "x")
	if hashed(t, f) == second {
		t.Error("the kept folder does not count")
	}
	if hashed(t, f, "a") != narrow {
		t.Error("a kept folder counts that is not among the inputs")
	}
}

// TestFilesOfABuild: with a build they are what it left, known before a checkout is there once they were seen.
func TestFilesOfABuild(t *testing.T) {
	f := filesOf(t, "run: make, ", "echo a > a")
	if _, err := f.hash(t.Context(), nil); !errors.Is(err, suite.ErrUnprepared) {
		t.Errorf("nobody has seen what the build makes: %v", err)
	}
	f.put(t, "gen", "1")
	f.ready = true
	if err := f.remember(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, err := f.hash(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	f.begun = true
	f.put(t, "left-by-a-test", "x")
	if got := hashed(t, f); got != first {
		t.Error("a level's leavings count for the next")
	}
	f.begun, f.ready = false, false // the next delivery of the commit
	if got := hashed(t, f); got != first {
		t.Error("what the build of the same inputs left is not remembered")
	}
	f.ready = true // it was built again, and the build made something else
	if err := os.Remove(filepath.Join(f.place.Checkout(), "left-by-a-test")); err != nil {
		t.Fatal(err)
	}
	if got := hashed(t, f); got != first {
		t.Error("the same build has another hash")
	}
	f.put(t, "gen", "2")
	if got := hashed(t, f); got == first {
		t.Error("what the build makes does not count")
	}
}
