package source

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// Ref returns the commit that ref names in the repository around dir; "" is HEAD. It refuses a tree with changes that no
// commit holds, an unknown ref, and commits of which parts live elsewhere (shallow clones, submodules, LFS).
func Ref(ctx context.Context, dir, ref string) (Commit, error) {
	c, err := Resolve(ctx, dir, ref)
	if err != nil {
		return Commit{}, err
	}
	if err := clean(ctx, dir); err != nil {
		return Commit{}, err
	}
	return c, user(dir).unsupported(ctx, c.SHA)
}

// Resolve returns the commit that ref names, whatever the state of the tree.
func Resolve(ctx context.Context, dir, ref string) (Commit, error) {
	if ref == "" {
		ref = "HEAD"
	}
	g := user(dir)
	if _, err := g.run(ctx, "rev-parse", "--git-dir"); err != nil {
		return Commit{}, domain.Errorf(domain.Invalid, "nothing shipped: %s is not in a git repository: %w", dir, err).
			WithHint("belay delivers commits: git init, git add, git commit")
	}
	out, err := g.run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
	sha := strings.TrimSpace(out)
	if err != nil || sha == "" {
		if ref == "HEAD" {
			return Commit{}, domain.Errorf(domain.Invalid, "nothing shipped: the repository has no commit yet").
				WithHint("git add and git commit first; belay delivers commits, never folders")
		}
		return Commit{}, domain.Errorf(domain.Invalid, "nothing shipped: no commit is named %q here", ref).
			WithHint("git log --oneline -5 %s shows what there is; git fetch may bring what is missing", "HEAD")
	}
	if !ValidSHA(sha) {
		return Commit{}, domain.Errorf(domain.Invalid, "nothing shipped: the repository uses another hash than SHA-1")
	}
	return g.commit(ctx, sha)
}

// clean refuses a tree in which files differ from HEAD, also files that git does not know and does not ignore: they are
// the usual reason why a commit works here and nowhere else.
func clean(ctx context.Context, dir string) error {
	g := user(dir)
	if bare, err := g.run(ctx, "rev-parse", "--is-bare-repository"); err != nil || strings.TrimSpace(bare) == "true" {
		return err
	}
	out, err := g.run(ctx, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=none")
	if err != nil {
		return err
	}
	if out == "" {
		return nil
	}
	entries := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	head, err := Resolve(ctx, dir, "HEAD")
	if err != nil {
		return err
	}
	noun := "files differ"
	if len(entries) == 1 {
		noun = "file differs"
	}
	return domain.Errorf(domain.Invalid, "nothing shipped: the tree is dirty: %d %s from %s", len(entries), noun, head.Short()).
		WithHint("commit or stash them; belay delivers commits, never folders\n%s", sample(entries))
}

func sample(entries []string) string {
	const shown = 5
	var lines []string
	for i, entry := range entries {
		if i == shown {
			lines = append(lines, fmt.Sprintf("  and %d more", len(entries)-shown))
			break
		}
		lines = append(lines, "  "+entry)
	}
	return strings.Join(lines, "\n")
}

// Root returns the top folder of the repository around dir.
func Root(ctx context.Context, dir string) (string, error) {
	out, err := user(dir).run(ctx, "rev-parse", "--show-toplevel")
	return strings.TrimSuffix(out, "\n"), err
}

// Bundle returns a git bundle with sha and its history, without what the server has already (commits that it keeps). It
// is empty when the server has sha itself. The repository is only read. Close ends git and removes what Bundle made.
func Bundle(ctx context.Context, dir, sha string, have []string) (io.ReadCloser, error) {
	if !ValidSHA(sha) {
		return nil, domain.Errorf(domain.Invalid, "%q is not a full SHA", sha)
	}
	g := user(dir)
	if out, err := g.run(ctx, "rev-parse", "--is-shallow-repository"); err != nil {
		return nil, err
	} else if strings.TrimSpace(out) == "true" {
		return nil, domain.Errorf(domain.Invalid, "nothing shipped: this is a shallow clone, its history cannot be proven").
			WithHint("git fetch --unshallow (in GitHub Actions: actions/checkout with fetch-depth: 0)")
	}
	except, has := g.known(ctx, sha, have)
	if has {
		return io.NopCloser(strings.NewReader("")), nil
	}
	scratch, err := scratchRepo(ctx, g, sha)
	if err != nil {
		return nil, err
	}
	return start(ctx, hardened(scratch), scratch, append([]string{"bundle", "create", "--quiet", "-", shipRef}, except...))
}

const shipRef = "refs/heads/ship"

// known returns ^SHA for each commit in have that this repository has too, at most 64 of them, and whether sha is among
// them. A commit of another history costs nothing: it excludes nothing.
func (g git) known(ctx context.Context, sha string, have []string) (except []string, has bool) {
	for _, h := range have {
		if !ValidSHA(h) || len(except) == 64 {
			continue
		}
		if h == sha {
			return nil, true
		}
		if _, err := g.run(ctx, "merge-base", "--is-ancestor", h, sha); err == nil {
			except = append(except, "^"+h)
		}
	}
	return except, false
}

// scratchRepo makes an empty repository that borrows the objects of g and names sha by a ref: a bundle needs one, and the
// user's own repository is not to be written to.
func scratchRepo(ctx context.Context, g git, sha string) (string, error) {
	out, err := g.run(ctx, "rev-parse", "--path-format=absolute", "--git-path", "objects")
	if err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp("", "belay-ship-")
	if err != nil {
		return "", err
	}
	s := hardened(scratch)
	_, err = s.run(ctx, "init", "--quiet", "--bare", "--template=", scratch)
	if err == nil {
		objects := strings.TrimSuffix(out, "\n") + "\n"
		err = os.WriteFile(filepath.Join(scratch, "objects", "info", "alternates"), []byte(objects), 0o600)
	}
	if err == nil {
		_, err = s.run(ctx, "update-ref", shipRef, sha)
	}
	if err != nil {
		return "", join(err, os.RemoveAll(scratch))
	}
	return scratch, nil
}

// start runs git with its output as a stream.
func start(ctx context.Context, g git, scratch string, args []string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := g.command(ctx, args...)
	var said strings.Builder
	cmd.Stderr = &limited{w: &said, left: 16 << 10}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, join(err, os.RemoveAll(scratch))
	}
	return &stream{out: out, cancel: cancel, end: func(cancelled bool) error {
		err := cmd.Wait()
		if cancelled {
			err = nil
		}
		if err != nil {
			err = g.explain(ctx, args[0], said.String(), err)
		}
		return join(err, os.RemoveAll(scratch))
	}}, nil
}

// stream is the output of a running git; the end of it is an error when git failed, so that a torn bundle is never taken
// for a whole one.
type stream struct {
	out    io.Reader
	cancel context.CancelFunc
	end    func(cancelled bool) error
	done   bool
	err    error
}

func (s *stream) Read(p []byte) (int, error) {
	if s.done {
		return 0, s.final()
	}
	n, err := s.out.Read(p)
	if err != nil {
		s.finish(false)
		if n > 0 {
			return n, nil
		}
		return 0, s.final()
	}
	return n, nil
}

func (s *stream) final() error {
	if s.err != nil {
		return s.err
	}
	return io.EOF
}

func (s *stream) finish(cancelled bool) {
	if !s.done {
		s.done = true
		if cancelled {
			s.cancel()
		}
		s.err = s.end(cancelled)
		s.cancel()
	}
}

// Close ends git if it still runs.
func (s *stream) Close() error {
	s.finish(true)
	return s.err
}

// Folders returns the folders of a commit that hold a file of this name, from the top of the repository, sorted; "" is the
// top itself.
func Folders(ctx context.Context, dir, sha, name string) ([]string, error) {
	out, err := user(dir).run(ctx, "ls-tree", "-r", "-z", "--name-only", "--full-tree", sha)
	if err != nil {
		return nil, err
	}
	var folders []string
	for file := range strings.SplitSeq(out, "\x00") {
		if path.Base(file) == name {
			folders = append(folders, strings.TrimSuffix(strings.TrimSuffix(file, name), "/"))
		}
	}
	slices.Sort(folders)
	return folders, nil
}
