package source

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// maxFile is the largest file that ReadFile returns, in bytes.
const maxFile = 16 << 20

// Lookup returns a commit that the repository keeps.
func Lookup(ctx context.Context, repo, sha string) (Commit, error) {
	if !ValidSHA(sha) {
		return Commit{}, domain.Errorf(domain.Invalid, "%q is not a full SHA", sha)
	}
	c, err := hardened(repo).commit(ctx, sha)
	if err != nil {
		return Commit{}, domain.Errorf(domain.NotFound, "commit %s is not on the server: %w", domain.ShortCommit(sha), err)
	}
	return c, nil
}

// ReadFile returns one file of a commit, up to 16 MiB. The path is relative to the top of the repository.
func ReadFile(ctx context.Context, repo, sha, name string) ([]byte, error) {
	name = path.Clean(name)
	if !ValidSHA(sha) || path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") {
		return nil, domain.Errorf(domain.Invalid, "%s in commit %q: not a path of a commit", name, sha)
	}
	g := hardened(repo)
	object := sha + ":" + name
	size, err := g.run(ctx, "cat-file", "-s", object)
	if err != nil {
		return nil, domain.Errorf(domain.NotFound, "commit %s has no %s: %w", domain.ShortCommit(sha), name, err)
	}
	var n int64
	if _, err := fmt.Sscan(size, &n); err != nil || n > maxFile {
		return nil, domain.Errorf(domain.Refused, "%s in commit %s is larger than %d MiB", name, domain.ShortCommit(sha), maxFile>>20)
	}
	body, err := g.run(ctx, "cat-file", "blob", object)
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "%s in commit %s is not a file: %w", name, domain.ShortCommit(sha), err)
	}
	return []byte(body), nil
}

// Files returns the tracked files of a commit below folder ("" or "." for all), relative to folder, sorted.
func Files(ctx context.Context, repo, sha, folder string) ([]string, error) {
	if !ValidSHA(sha) {
		return nil, domain.Errorf(domain.Invalid, "%q is not a full SHA", sha)
	}
	treeish := sha
	if folder = path.Clean(folder); folder != "." {
		treeish = sha + ":" + folder
	}
	out, err := hardened(repo).run(ctx, "ls-tree", "-r", "-z", "--name-only", "--full-tree", treeish)
	if err != nil {
		return nil, domain.Errorf(domain.NotFound, "commit %s has no folder %s: %w", domain.ShortCommit(sha), folder, err)
	}
	if out == "" {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(out, "\x00"), "\x00"), nil
}

// Log returns the commits that to has and from has not, newest first, at most 1,000. An empty from, or one that the
// repository does not have, gives to alone.
func Log(ctx context.Context, repo, from, to string) ([]Commit, error) {
	g := hardened(repo)
	last, err := Lookup(ctx, repo, to)
	if err != nil {
		return nil, err
	}
	if !ValidSHA(from) || g.exists(ctx, from) != nil {
		return []Commit{last}, nil
	}
	out, err := g.run(ctx, "log", "-n", "1000", "--no-show-signature", commitFormat, from+".."+to, "--")
	if err != nil {
		return nil, err
	}
	var commits []Commit
	for line := range strings.SplitSeq(strings.TrimSuffix(out, "\n"), "\n") {
		if line == "" {
			continue
		}
		c, err := parseCommit(line)
		if err != nil {
			return nil, err
		}
		commits = append(commits, c)
	}
	return commits, nil
}

// Changed returns the paths that differ between two commits, sorted.
func Changed(ctx context.Context, repo, from, to string) ([]string, error) {
	if !ValidSHA(from) || !ValidSHA(to) {
		return nil, domain.Errorf(domain.Invalid, "%q..%q: not two full SHAs", from, to)
	}
	out, err := hardened(repo).run(ctx, "diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-ext-diff", from, to)
	if err != nil || out == "" {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(out, "\x00"), "\x00"), nil
}
