package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// Limits bound what one commit may cost the server.
type Limits struct {
	Bundle int64 // bytes of a bundle
	Tree   int64 // bytes of all files of a commit
	Files  int   // number of files of a commit
}

// DefaultLimits are generous for code and small for abuse.
var DefaultLimits = Limits{Bundle: 2 << 30, Tree: 8 << 30, Files: 500_000}

// keptRef holds a commit that was accepted, so that git never prunes it.
func keptRef(sha string) string { return "refs/belay/" + sha }

// Accept takes a bundle into the bare repository repo, which is made when it is missing, and proves that it brought the
// commit sha: every object is checked, and every object that the commit needs is there. Nothing of a bundle that is
// refused stays. An empty bundle is fine when the commit is there already. Accepting twice is the same as once.
func Accept(ctx context.Context, repo string, bundle io.Reader, sha string, limits Limits) (Commit, error) {
	if !ValidSHA(sha) {
		return Commit{}, domain.Errorf(domain.Invalid, "%q is not a full SHA", sha)
	}
	if err := initRepo(ctx, repo); err != nil {
		return Commit{}, err
	}
	input := bufio.NewReaderSize(&counted{r: bundle, left: limits.Bundle, limit: limits.Bundle}, 64<<10)
	if _, err := input.Peek(1); err != nil && !errors.Is(err, io.EOF) {
		return Commit{}, domain.Errorf(domain.Failed, "the bundle could not be read: %w", err)
	} else if err == nil {
		if err := take(ctx, repo, input, sha); err != nil {
			return Commit{}, err
		}
	}
	return prove(ctx, repo, sha, limits)
}

func prove(ctx context.Context, repo, sha string, limits Limits) (Commit, error) {
	g := hardened(repo)
	if err := g.exists(ctx, sha); err != nil {
		return Commit{}, err
	}
	if err := g.fits(ctx, sha, limits); err != nil {
		return Commit{}, err
	}
	if err := g.unsupported(ctx, sha); err != nil {
		return Commit{}, err
	}
	c, err := g.commit(ctx, sha)
	if err != nil {
		return Commit{}, err
	}
	_, err = g.run(ctx, "update-ref", keptRef(sha), sha)
	return c, err
}

// exists proves that sha is a commit here.
func (g git) exists(ctx context.Context, sha string) error {
	kind, err := g.run(ctx, "cat-file", "-t", sha)
	if err != nil {
		return domain.Errorf(domain.Refused, "the bundle does not bring commit %s: %w", sha, err).
			WithHint("ship it again; the commit is built only from what git proves")
	}
	if kind = strings.TrimSpace(kind); kind != "commit" {
		return domain.Errorf(domain.Refused, "%s is a %s, not a commit", sha, kind)
	}
	return nil
}

// fits refuses a commit whose files would not fit the limits, before anything is written out.
func (g git) fits(ctx context.Context, sha string, limits Limits) error {
	out, err := g.run(ctx, "ls-tree", "-r", "-l", "-z", "--full-tree", sha)
	if err != nil {
		return err
	}
	var bytesAll int64
	files := 0
	for entry := range strings.SplitSeq(out, "\x00") {
		var mode, kind, object string
		var size int64
		if n, _ := fmt.Sscan(entry, &mode, &kind, &object, &size); n == 4 {
			bytesAll += size
		}
		files++
	}
	if bytesAll > limits.Tree || files > limits.Files {
		return domain.Errorf(domain.Refused, "commit %s is too large: %d files, %d MiB; the limits are %d files, %d MiB",
			domain.ShortCommit(sha), files, bytesAll>>20, limits.Files, limits.Tree>>20)
	}
	return nil
}

func initRepo(ctx context.Context, repo string) error {
	if _, err := os.Stat(filepath.Join(repo, "HEAD")); err == nil {
		return nil
	}
	if err := os.MkdirAll(repo, 0o700); err != nil {
		return err
	}
	_, err := hardened(repo).run(ctx, "init", "--quiet", "--bare", "--template=", repo)
	return err
}

// take reads a bundle's header, lets git check the pack in quarantine, proves that sha is complete with it, and only then
// moves the pack into the repository.
func take(ctx context.Context, repo string, bundle *bufio.Reader, sha string) (err error) {
	if err := readHeader(bundle, sha); err != nil {
		return err
	}
	quarantine, err := os.MkdirTemp(filepath.Join(repo, "objects"), "incoming-")
	if err != nil {
		return err
	}
	defer func() { err = join(err, os.RemoveAll(quarantine)) }()
	g := hardened(repo).with("GIT_OBJECT_DIRECTORY="+quarantine,
		"GIT_ALTERNATE_OBJECT_DIRECTORIES="+filepath.Join(repo, "objects"), "GIT_QUARANTINE_PATH="+quarantine)
	// Three harmless faults are common in old histories and let through.
	_, err = g.feed(ctx, bundle, "index-pack", "--stdin", "--fix-thin", "--threads=1",
		"--strict=zeroPaddedFilemode=ignore,missingSpaceBeforeEmail=ignore,badTimezone=ignore")
	if err != nil {
		return domain.Errorf(domain.Refused, "the bundle is refused, git finds bad objects in it: %w", err)
	}
	if err := g.exists(ctx, sha); err != nil {
		return err
	}
	if _, err := g.run(ctx, "rev-list", "--objects", "--quiet", sha, "--not", "--glob=refs/belay/*"); err != nil {
		return domain.Errorf(domain.Refused, "the bundle is refused, commit %s is not complete: %w", domain.ShortCommit(sha), err).
			WithHint("ship it again; the server asks for everything that it does not have")
	}
	return migrate(quarantine, filepath.Join(repo, "objects"))
}

// readHeader reads a version 2 bundle's header up to the pack.
func readHeader(r *bufio.Reader, sha string) error {
	bad := func(why string) error {
		return domain.Errorf(domain.Refused, "this is not a git bundle that brings %s: %s", domain.ShortCommit(sha), why)
	}
	line, err := readLine(r)
	if err != nil || line != "# v2 git bundle" {
		return bad("it does not begin like one")
	}
	found := false
	for range 10_000 {
		line, err := readLine(r)
		switch {
		case err != nil:
			return bad(err.Error())
		case line == "" && !found:
			return bad("another commit is in it")
		case line == "":
			return nil
		}
		object, _, _ := strings.Cut(line, " ")
		found = found || object == sha
	}
	return bad("its header does not end")
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", errors.New("its header is torn")
	}
	return string(bytes.TrimSuffix(line, []byte("\n"))), nil
}

// migrate moves checked packs; the index last, because a pack exists for git once its index does.
func migrate(from, to string) error {
	for _, dir := range []string{from, filepath.Join(from, "pack")} {
		if err := syncFolder(dir); err != nil {
			return err
		}
	}
	packs := filepath.Join(to, "pack")
	if err := os.MkdirAll(packs, 0o700); err != nil {
		return err
	}
	for _, suffix := range []string{"*.pack", "*.rev", "*.idx"} {
		names, err := filepath.Glob(filepath.Join(from, "pack", suffix))
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := os.Rename(name, filepath.Join(packs, filepath.Base(name))); err != nil {
				return err
			}
		}
	}
	return syncFolder(packs)
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return join(f.Sync(), f.Close())
}

// counted fails once more than the limit was read.
type counted struct {
	r           io.Reader
	left, limit int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.left -= int64(n)
	if c.left < 0 {
		return 0, domain.Errorf(domain.Refused, "the bundle is larger than %d MiB", c.limit>>20)
	}
	return n, err
}

// Have returns the newest commits that the repository keeps, at most 64: what Bundle need not send again. A repository
// that does not exist has none.
func Have(ctx context.Context, repo string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(repo, "HEAD")); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	out, err := hardened(repo).run(ctx, "for-each-ref", "--sort=-committerdate", "--count=64", "--format=%(objectname)", "refs/belay/")
	return strings.Fields(out), err
}

func join(errs ...error) error {
	var kept []error
	for _, err := range errs {
		if err != nil {
			kept = append(kept, err)
		}
	}
	if len(kept) == 1 {
		return kept[0]
	}
	return errors.Join(kept...)
}
