package source

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// Options of a checkout.
type Options struct {
	Keep []string // folders inside that survive from the last checkout: caches. Tracked files win over them
	UID  int      // owner of every file; the daemon's own ids leave it alone
	GID  int
}

// Checkout makes dir hold exactly the files of the commit sha and, where they were, the kept folders of before. There is
// no .git in it, and no hook, filter or configuration of the repository ran. Dir is replaced as a whole by one rename:
// whatever happens, it is the checkout of before or the new one. Its parent must not be writable by the app's own user.
func Checkout(ctx context.Context, repo, sha, dir string, o Options) (err error) {
	g := hardened(repo)
	if !ValidSHA(sha) {
		return domain.Errorf(domain.Invalid, "%q is not a full SHA", sha)
	}
	if err := g.exists(ctx, sha); err != nil {
		return err
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o711); err != nil { // the way to dir must be passable for its owner
		return err
	}
	if err := sweep(dir); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(parent, scratchPrefix(dir))
	if err != nil {
		return err
	}
	defer func() { err = join(err, removeAll(scratch)) }()
	fresh := filepath.Join(scratch, "next")
	if err := write(ctx, g, sha, scratch, fresh); err != nil {
		return domain.Errorf(domain.Failed, "commit %s cannot be checked out: %w", domain.ShortCommit(sha), err)
	}
	if err := own(fresh, o); err != nil {
		return err
	}
	if err := carry(dir, fresh, o); err != nil {
		return err
	}
	if err := os.Rename(dir, filepath.Join(scratch, "before")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Rename(fresh, dir)
}

func scratchPrefix(dir string) string { return "." + filepath.Base(dir) + "-" }

// sweep removes what an interrupted checkout left, and gives back the checkout of before if it was caught between the two
// renames.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(dir), scratchPrefix(dir)+"*"))
	if err != nil {
		return err
	}
	for _, scratch := range left {
		if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
			_ = os.Rename(filepath.Join(scratch, "before"), dir) // there may be none
		}
		if err := removeAll(scratch); err != nil {
			return err
		}
	}
	return nil
}

// write lets git write the files, into an index and a folder of their own.
func write(ctx context.Context, g git, sha, scratch, fresh string) error {
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	g = g.with("GIT_INDEX_FILE="+filepath.Join(scratch, "index"), "GIT_WORK_TREE="+fresh)
	g.dir = fresh
	if _, err := g.run(ctx, "read-tree", sha); err != nil {
		return err
	}
	_, err := g.run(ctx, "checkout-index", "--all", "--force", "--quiet")
	return err
}

// own gives the files to the app's build user and sets their modes, which git leaves to the umask.
func own(dir string, o Options) error {
	change := (o.UID != os.Geteuid() || o.GID != os.Getegid()) && os.Geteuid() == 0
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if change {
			if err := os.Lchown(name, o.UID, o.GID); err != nil { //nolint:gosec // nobody else can reach it yet
				return err
			}
		}
		if entry.Type()&fs.ModeSymlink != 0 || name == dir {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		return os.Chmod(name, mode) //nolint:gosec // nobody else can reach it yet
	})
}

// carry moves the kept folders over. The folders belong to the app's own user, who may have put anything in their place:
// only real folders, reached through real folders, are kept.
func carry(from, to string, o Options) error {
	for _, keep := range o.Keep {
		keep = filepath.Clean(keep)
		if !filepath.IsLocal(keep) || keep == "." {
			return domain.Errorf(domain.Invalid, "build.cache: %s is not a folder inside the app", keep)
		}
		if !realFolder(from, keep) {
			continue
		}
		target := filepath.Join(to, keep)
		if _, err := os.Lstat(target); err == nil {
			continue // the commit itself has files there
		}
		if err := parents(to, keep, o); err != nil {
			continue // the commit has a file or a link where a parent would be
		}
		if err := os.Rename(filepath.Join(from, keep), target); err != nil {
			return err
		}
	}
	return nil
}

// parents makes the folders above keep, owned like the checkout.
func parents(root, keep string, o Options) error {
	at := root
	parts := strings.Split(keep, string(filepath.Separator))
	for _, part := range parts[:len(parts)-1] {
		at = filepath.Join(at, part)
		info, err := os.Lstat(at)
		switch {
		case err == nil && !info.IsDir():
			return errors.New("not a folder")
		case err == nil:
			continue
		}
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		if os.Geteuid() == 0 {
			if err := os.Lchown(at, o.UID, o.GID); err != nil {
				return err
			}
		}
	}
	return nil
}

func realFolder(root, relative string) bool {
	at := root
	for part := range strings.SplitSeq(relative, string(filepath.Separator)) {
		at = filepath.Join(at, part)
		if info, err := os.Lstat(at); err != nil || !info.IsDir() {
			return false
		}
	}
	return true
}

// removeAll removes a folder, also one with folders that their owner made read-only.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil || os.Geteuid() == 0 {
		return err
	}
	_ = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(name, 0o700) //nolint:gosec // it is about to be removed
		}
		return nil
	})
	return os.RemoveAll(dir)
}
