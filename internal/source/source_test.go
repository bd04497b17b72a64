package source_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/source"
)

// gitIn runs git in dir as an ordinary person.
func gitIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{
		"-c", "user.name=Ana", "-c", "user.email=ana@shop.example", "-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false",
	}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// newRepo makes a repository with one commit.
func newRepo(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	gitIn(t, dir, "init", "-q")
	write(t, filepath.Join(dir, "belay.yaml"), "app: shop\n")
	write(t, filepath.Join(dir, "cmd/main.go"), "package main\n")
	write(t, filepath.Join(dir, "run.sh"), "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("cmd/main.go", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	commitAll(t, dir, "search: rank by sales")
	return dir
}

func commitAll(t *testing.T, dir, subject string) string {
	t.Helper()
	gitIn(t, dir, "add", "-A")
	gitIn(t, dir, "commit", "-q", "-m", subject)
	return gitIn(t, dir, "rev-parse", "HEAD")
}

// ship bundles sha and lets the server accept it.
func ship(t *testing.T, dir, repo, sha string, have []string) (source.Commit, int) {
	t.Helper()
	bundle, err := source.Bundle(t.Context(), dir, sha, have)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := bundle.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := source.Accept(t.Context(), repo, bytes.NewReader(body), sha, source.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return c, len(body)
}

func refused(t *testing.T, err error, code domain.Code, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("not refused")
	}
	if got := domain.CodeOf(err); got != code {
		t.Errorf("code %s, want %s: %v", got, code, err)
	}
	for _, part := range parts {
		if text := err.Error() + "\n" + domain.HintOf(err); !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

func TestRefSaysWhoAndWhat(t *testing.T) {
	dir := newRepo(t)
	c, err := source.Ref(t.Context(), filepath.Join(dir, "cmd"), "")
	if err != nil {
		t.Fatal(err)
	}
	if c.SHA != gitIn(t, dir, "rev-parse", "HEAD") || c.Tree != gitIn(t, dir, "rev-parse", "HEAD^{tree}") {
		t.Errorf("wrong commit or tree: %+v", c)
	}
	if c.Author != "Ana" || c.CommitterEmail != "ana@shop.example" || c.Subject != "search: rank by sales" || c.Time.IsZero() {
		t.Errorf("wrong person, subject or time: %+v", c)
	}
}

// codex#42201: a coding agent went around a refused path and shipped a dirty tree under a clean SHA.
func TestScar_codex_42201(t *testing.T) {
	dir, repo := newRepo(t), filepath.Join(t.TempDir(), "shop.git")
	sha := gitIn(t, dir, "rev-parse", "HEAD")
	write(t, filepath.Join(dir, "cmd/main.go"), "package evil\n")
	write(t, filepath.Join(dir, "forgotten.go"), "package main\n")

	_, err := source.Ref(t.Context(), dir, "HEAD")
	refused(t, err, domain.Invalid, "nothing shipped: the tree is dirty: 2 files differ from "+sha[:7],
		"commit or stash them; belay delivers commits, never folders", "forgotten.go")

	// Whoever goes around the refusal still ships the commit, not the folder.
	ship(t, dir, repo, sha, nil)
	out := filepath.Join(t.TempDir(), "src")
	if err := source.Checkout(t.Context(), repo, sha, out, source.Options{UID: os.Geteuid(), GID: os.Getegid()}); err != nil {
		t.Fatal(err)
	}
	if body, _ := os.ReadFile(filepath.Join(out, "cmd/main.go")); string(body) != "package main\n" {
		t.Errorf("the dirty file was shipped: %q", body)
	}
	if _, err := os.Lstat(filepath.Join(out, "forgotten.go")); err == nil {
		t.Error("a file without a commit was shipped")
	}
}

func TestRefRefusals(t *testing.T) {
	ctx := context.Background()
	t.Run("unknown ref", func(t *testing.T) {
		_, err := source.Ref(ctx, newRepo(t), "no-such-branch")
		refused(t, err, domain.Invalid, `no commit is named "no-such-branch"`)
	})
	t.Run("an option instead of a ref", func(t *testing.T) {
		_, err := source.Ref(ctx, newRepo(t), "--all")
		refused(t, err, domain.Invalid, "no commit is named")
	})
	t.Run("no repository", func(t *testing.T) {
		_, err := source.Ref(ctx, t.TempDir(), "")
		refused(t, err, domain.Invalid, "not in a git repository")
	})
	t.Run("no commit", func(t *testing.T) {
		dir := t.TempDir()
		gitIn(t, dir, "init", "-q")
		_, err := source.Ref(ctx, dir, "")
		refused(t, err, domain.Invalid, "has no commit yet")
	})
	t.Run("shallow", func(t *testing.T) {
		origin, dir := newRepo(t), filepath.Join(t.TempDir(), "clone")
		write(t, filepath.Join(origin, "a"), "a")
		sha := commitAll(t, origin, "second")
		gitIn(t, origin, "clone", "-q", "--depth=1", "file://"+origin, dir)
		_, err := source.Bundle(ctx, dir, sha, nil)
		refused(t, err, domain.Invalid, "shallow clone", "--unshallow")
	})
	t.Run("submodule", func(t *testing.T) {
		other, dir := newRepo(t), newRepo(t)
		gitIn(t, dir, "-c", "protocol.file.allow=always", "submodule", "add", "-q", other, "libs/money")
		commitAll(t, dir, "add a submodule")
		_, err := source.Ref(ctx, dir, "")
		refused(t, err, domain.Invalid, "libs/money is a git submodule")
	})
	t.Run("large file storage", func(t *testing.T) {
		dir := newRepo(t)
		write(t, filepath.Join(dir, ".gitattributes"), "*.bin filter=lfs diff=lfs\n")
		write(t, filepath.Join(dir, "model.bin"), "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
		gitIn(t, dir, "-c", "filter.lfs.clean=cat", "-c", "filter.lfs.required=false", "add", "-A")
		gitIn(t, dir, "-c", "filter.lfs.clean=cat", "commit", "-q", "-m", "lfs")
		_, err := source.Ref(ctx, dir, "")
		refused(t, err, domain.Invalid, "model.bin is kept in Git LFS")
	})
}

func TestBundleIsIncremental(t *testing.T) {
	dir, repo := newRepo(t), filepath.Join(t.TempDir(), "shop.git")
	write(t, filepath.Join(dir, "big"), strings.Repeat("incompressible? no, but long\n", 20000)+gitIn(t, dir, "rev-parse", "HEAD"))
	first := commitAll(t, dir, "first")
	_, whole := ship(t, dir, repo, first, nil)

	write(t, filepath.Join(dir, "belay.yaml"), "app: shop2\n")
	second := commitAll(t, dir, "second")
	have, err := source.Have(t.Context(), repo)
	if err != nil || len(have) != 1 || have[0] != first {
		t.Fatalf("have %v, %v", have, err)
	}
	c, part := ship(t, dir, repo, second, append(have, strings.Repeat("0", 40)))
	if part >= whole {
		t.Errorf("the second bundle has %d bytes, the first %d", part, whole)
	}
	if c.SHA != second || c.Subject != "second" {
		t.Errorf("%+v", c)
	}
	if _, empty := ship(t, dir, repo, second, []string{second}); empty != 0 {
		t.Errorf("%d bytes for a commit that the server has", empty)
	}
	body, err := source.ReadFile(t.Context(), repo, first, "belay.yaml")
	if err != nil || string(body) != "app: shop\n" {
		t.Errorf("%q, %v", body, err)
	}
	log, err := source.Log(t.Context(), repo, first, second)
	if err != nil || len(log) != 1 || log[0].SHA != second {
		t.Errorf("%+v, %v", log, err)
	}
	changed, err := source.Changed(t.Context(), repo, first, second)
	if err != nil || len(changed) != 1 || changed[0] != "belay.yaml" {
		t.Errorf("%v, %v", changed, err)
	}
	_, err = source.ReadFile(t.Context(), repo, first, "../../etc/passwd")
	refused(t, err, domain.Invalid, "not a path of a commit")
	_, err = source.ReadFile(t.Context(), repo, first, "missing.yaml")
	refused(t, err, domain.NotFound, "has no missing.yaml")
}

func TestAcceptRefusesHostileBundles(t *testing.T) {
	dir := newRepo(t)
	sha := gitIn(t, dir, "rev-parse", "HEAD")
	other := strings.Repeat("ab", 20)
	bundle, err := source.Bundle(t.Context(), dir, sha, nil)
	if err != nil {
		t.Fatal(err)
	}
	good, err := io.ReadAll(bundle)
	if err != nil {
		t.Fatal(err)
	}
	_ = bundle.Close()
	small := source.DefaultLimits
	small.Bundle = int64(len(good)) - 1
	few := source.DefaultLimits
	few.Files = 2
	flipped := bytes.Clone(good)
	flipped[len(flipped)-60] ^= 0x40

	for name, c := range map[string]struct {
		body   []byte
		sha    string
		limits source.Limits
		says   string
	}{
		"not a bundle":       {[]byte("GIF89a"), sha, source.DefaultLimits, "not a git bundle"},
		"empty":              {nil, sha, source.DefaultLimits, "does not bring commit"},
		"another commit":     {good, other, source.DefaultLimits, "another commit is in it"},
		"a lying header":     {bytes.Replace(good, []byte(sha), []byte(other), 1), other, source.DefaultLimits, "does not bring commit"},
		"a flipped bit":      {flipped, sha, source.DefaultLimits, "bad objects"},
		"torn":               {good[:len(good)-30], sha, source.DefaultLimits, "bad objects"},
		"too large":          {good, sha, small, "larger than"},
		"too many files":     {good, sha, few, "too large"},
		"a header for ever":  {append([]byte("# v2 git bundle\n"), bytes.Repeat([]byte("x y\n"), 20_000)...), sha, source.DefaultLimits, "does not end"},
		"a line for ever":    {append([]byte("# v2 git bundle\n"), bytes.Repeat([]byte("x"), 1<<20)...), sha, source.DefaultLimits, "torn"},
		"not a SHA at all":   {good, "--upload-pack=evil", source.DefaultLimits, "not a full SHA"},
		"the tree as commit": {treeBundle(t, dir), gitIn(t, dir, "rev-parse", "HEAD^{tree}"), source.DefaultLimits, "not a commit"},
	} {
		t.Run(name, func(t *testing.T) {
			repo := filepath.Join(t.TempDir(), "shop.git")
			_, err := source.Accept(t.Context(), repo, bytes.NewReader(c.body), c.sha, c.limits)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("want %q, got %v", c.says, err)
			}
			if left, _ := filepath.Glob(filepath.Join(repo, "objects", "incoming-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if have, err := source.Have(t.Context(), repo); err != nil || len(have) > 0 {
				t.Errorf("kept %v, %v", have, err)
			}
		})
	}
}

// treeBundle makes a bundle whose header names a tree.
func treeBundle(t *testing.T, dir string) []byte {
	t.Helper()
	tree := gitIn(t, dir, "rev-parse", "HEAD^{tree}")
	cmd := exec.Command("git", "pack-objects", "--stdout", "--revs", "-q")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader("HEAD\n")
	pack, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte("# v2 git bundle\n"+tree+" refs/heads/ship\n\n"), pack...)
}

// rawCommit makes a commit out of a hand-made tree that git itself would refuse to write.
func rawCommit(t *testing.T, dir, entryName, mode string) string {
	t.Helper()
	hash := func(kind, body string) string {
		cmd := exec.Command("git", "hash-object", "-t", kind, "-w", "--stdin", "--literally")
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(body)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	blob := hash("blob", "#!/bin/sh\ntouch /tmp/owned\n")
	var raw bytes.Buffer
	raw.WriteString(mode + " " + entryName + "\x00")
	for i := 0; i < len(blob); i += 2 {
		var b byte
		for _, c := range blob[i : i+2] {
			b = b<<4 | byte(strings.IndexRune("0123456789abcdef", c))
		}
		raw.WriteByte(b)
	}
	tree := hash("tree", raw.String())
	return hash("commit", "tree "+tree+"\nauthor E <e@x> 1 +0000\ncommitter E <e@x> 1 +0000\n\nx\n")
}

func TestAcceptRefusesPathTricks(t *testing.T) {
	for _, name := range []string{".git", "..", ".GIT", "git~1", "a/b", ".git\u200c"} {
		t.Run(name, func(t *testing.T) {
			dir := newRepo(t)
			sha := rawCommit(t, dir, name, "100755")
			bundle, err := source.Bundle(t.Context(), dir, sha, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = bundle.Close() }()
			_, err = source.Accept(t.Context(), filepath.Join(t.TempDir(), "shop.git"), bundle, sha, source.DefaultLimits)
			refused(t, err, domain.Refused, "bad objects")
		})
	}
}

func TestCheckoutIsClean(t *testing.T) {
	dir, repo := newRepo(t), filepath.Join(t.TempDir(), "shop.git")
	first := gitIn(t, dir, "rev-parse", "HEAD")
	ship(t, dir, repo, first, nil)
	write(t, filepath.Join(dir, "second"), "2")
	write(t, filepath.Join(dir, ".gitattributes"), "*.go filter=evil export-ignore\n")
	second := commitAll(t, dir, "second")
	ship(t, dir, repo, second, []string{first})
	// A hook and a filter in the bare repository itself must not run either.
	owned := filepath.Join(t.TempDir(), "owned")
	write(t, filepath.Join(repo, "hooks/post-checkout"), "#!/bin/sh\ntouch "+owned+"\n")
	if err := os.Chmod(filepath.Join(repo, "hooks/post-checkout"), 0o755); err != nil {
		t.Fatal(err)
	}

	out := filepath.Join(t.TempDir(), "work", "src")
	options := source.Options{Keep: []string{"target", "deep/cache", "cmd", "trap"}, UID: os.Geteuid(), GID: os.Getegid()}
	checkout := func(sha string) {
		t.Helper()
		if err := source.Checkout(t.Context(), repo, sha, out, options); err != nil {
			t.Fatal(err)
		}
	}
	checkout(first)
	write(t, filepath.Join(out, "target/x"), "cached")
	write(t, filepath.Join(out, "deep/cache/y"), "cached")
	write(t, filepath.Join(out, "cmd/left"), "left over")
	write(t, filepath.Join(out, "left/over"), "left over")
	write(t, filepath.Join(out, "belay.yaml"), "changed")
	if err := os.Symlink("/etc", filepath.Join(out, "trap")); err != nil {
		t.Fatal(err)
	}
	checkout(second)

	for name, want := range map[string]string{
		"belay.yaml": "app: shop\n", "second": "2", "target/x": "cached", "deep/cache/y": "cached", "cmd/main.go": "package main\n",
	} {
		if body, err := os.ReadFile(filepath.Join(out, name)); err != nil || string(body) != want {
			t.Errorf("%s: %q, %v", name, body, err)
		}
	}
	for _, gone := range []string{"left", "cmd/left", ".git", "trap"} {
		if _, err := os.Lstat(filepath.Join(out, gone)); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	if info, err := os.Stat(filepath.Join(out, "run.sh")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("run.sh: %v, %v", info.Mode(), err)
	}
	if to, err := os.Readlink(filepath.Join(out, "link")); err != nil || to != "cmd/main.go" {
		t.Errorf("link: %q, %v", to, err)
	}
	if _, err := os.Lstat(owned); err == nil {
		t.Error("a hook ran")
	}
	checkout(first)
	if _, err := os.Lstat(filepath.Join(out, "second")); err == nil {
		t.Error("a file of another commit is still there")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), ".src-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCheckoutSurvivesACrashBetweenItsRenames(t *testing.T) {
	dir, repo := newRepo(t), filepath.Join(t.TempDir(), "shop.git")
	sha := gitIn(t, dir, "rev-parse", "HEAD")
	ship(t, dir, repo, sha, nil)
	out := filepath.Join(t.TempDir(), "src")
	write(t, filepath.Join(filepath.Dir(out), ".src-1", "before", "target", "x"), "cached")
	if err := source.Checkout(t.Context(), repo, sha, out, source.Options{Keep: []string{"target"}, UID: os.Geteuid(), GID: os.Getegid()}); err != nil {
		t.Fatal(err)
	}
	if body, err := os.ReadFile(filepath.Join(out, "target", "x")); err != nil || string(body) != "cached" {
		t.Errorf("the cache was lost: %q, %v", body, err)
	}
}

func TestCheckoutGivesTheFilesToTheBuildUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir, repo := newRepo(t), filepath.Join(t.TempDir(), "shop.git")
	sha := gitIn(t, dir, "rev-parse", "HEAD")
	ship(t, dir, repo, sha, nil)
	out := filepath.Join(t.TempDir(), "src")
	if err := source.Checkout(t.Context(), repo, sha, out, source.Options{UID: 12345, GID: 12345}); err != nil {
		t.Fatal(err)
	}
	check, err := exec.Command("find", out, "!", "-user", "12345").CombinedOutput()
	if err != nil || len(check) > 0 {
		t.Errorf("not given away: %s %v", check, err)
	}
	if info, _ := os.Stat(out); info.Mode().Perm() != 0o700 {
		t.Errorf("others may look into the checkout: %v", info.Mode())
	}
}
