package source_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/source"
)

// TestTree lists files, programs, links with where they lead, and submodules with the commit they stand for.
func TestTree(t *testing.T) {
	dir := newRepo(t)
	first := gitIn(t, dir, "rev-parse", "HEAD")
	gitIn(t, dir, "update-index", "--add", "--cacheinfo", "160000,"+first+",vendor/lib")
	gitIn(t, dir, "commit", "-q", "-m", "a submodule")
	sha := gitIn(t, dir, "rev-parse", "HEAD")
	entries, err := source.Tree(t.Context(), filepath.Join(dir, ".git"), sha)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Mode, e.Path, e.Link)))
		if e.Path == "vendor/lib" && e.SHA != first {
			t.Errorf("the submodule stands for %s", e.SHA)
		}
	}
	want := "100644 belay.yaml, 100644 cmd/main.go, 120000 link cmd/main.go, 100755 run.sh, 160000 vendor/lib"
	if strings.Join(got, ", ") != want {
		t.Errorf("%q", got)
	}
	if _, err := source.Tree(t.Context(), filepath.Join(dir, ".git"), strings.Repeat("0", 40)); err == nil {
		t.Error("a commit that is not there is listed")
	}
}
