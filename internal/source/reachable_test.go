package source

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A commit is of a branch when the remote says so, whatever a bundle calls a branch.
func TestReachable(t *testing.T) {
	dir := t.TempDir()
	remote, work, server := filepath.Join(dir, "remote.git"), filepath.Join(dir, "work"), filepath.Join(dir, "server.git")
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=ana", "-c", "user.email=ana@example.com", "-C", work}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for _, args := range [][]string{{"init", "-q", "--bare", remote}, {"init", "-q", "-b", "main", work}} {
		if out, err := exec.Command("git", args...).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	git("commit", "-q", "--allow-empty", "-m", "one")
	one := git("rev-parse", "HEAD")
	git("push", "-q", remote, "main")
	if err := os.MkdirAll(filepath.Join(work, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "db", "0001.sql"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	git("add", "db")
	git("commit", "-q", "-m", "two")
	two := git("rev-parse", "HEAD") // the person's main has it, the remote's has not

	accept := func(sha string) {
		t.Helper()
		bundle, err := Bundle(t.Context(), work, sha, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = bundle.Close() }()
		if _, err := Accept(t.Context(), server, bundle, sha, DefaultLimits); err != nil {
			t.Fatal(err)
		}
	}
	accept(two)
	for _, c := range []struct {
		sha      string
		branches []string
		want     bool
	}{{one, []string{"main"}, true}, {two, []string{"main"}, false}, {one, []string{"release"}, false}, {one, []string{"release", "main"}, true}} {
		if got, err := Reachable(t.Context(), server, remote, c.branches, c.sha); err != nil || got != c.want {
			t.Errorf("%s from %v: %v %v", c.sha[:7], c.branches, got, err)
		}
	}
	if b, err := Compare(t.Context(), server, one, two, "db", 5); err != nil || b.Ahead != 1 || b.Behind != 0 || !slices.Equal(b.Subjects, []string{"two"}) ||
		!slices.Equal(b.Added, []string{"0001.sql"}) {
		t.Errorf("%+v %v", b, err)
	}
	if b, err := Compare(t.Context(), server, two, one, "db", 5); err != nil || b.Ahead != 0 || b.Behind != 1 || len(b.Subjects)+len(b.Added) > 0 {
		t.Errorf("the way back: %+v %v", b, err)
	}
	if b, err := Compare(t.Context(), server, "", two, "", 1); err != nil || b.Ahead != 2 || len(b.Subjects) != 1 {
		t.Errorf("the first: %+v %v", b, err)
	}
	git("push", "-q", remote, "main")
	if got, err := Reachable(t.Context(), server, remote, []string{"main"}, two); err != nil || !got {
		t.Errorf("after the push: %v %v", got, err)
	}
	// The remote takes the commit back: it is of the branch no more.
	git("push", "-q", "--force", remote, one+":main")
	if got, err := Reachable(t.Context(), server, remote, []string{"main"}, two); err != nil || got {
		t.Errorf("after the remote went back: %v %v", got, err)
	}
	if _, err := Reachable(t.Context(), server, filepath.Join(dir, "nowhere.git"), []string{"main"}, one); err == nil {
		t.Error("a remote that is not there proves something")
	}
}
