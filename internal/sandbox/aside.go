package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// lies is where a folder of the workshop really is. What is built aside lies elsewhere than it is seen.
func (w Workshop) lies(name string) string {
	if w.Aside {
		return filepath.Join(w.asides(), name)
	}
	return filepath.Join(w.Data, "work", w.App, name)
}

func (w Workshop) asides() string { return filepath.Join(w.Data, "work", w.App, "aside") }

// Checkout is where the checkout really is; Src is where its commands see it.
func (w Workshop) Checkout() string { return w.lies("src") }

// Seen returns the path under which commands see a path of the checkout.
func (w Workshop) Seen(path string) string {
	if rest, ok := below(w.Checkout(), path); ok {
		return filepath.Join(w.Src(), rest)
	}
	return path
}

// Borrow makes the folders of a workshop aside anew, and fills home and cache with copies of what the app's own hold: no hard
// link, no reference. Room is asked before each file is written; an error of it ends the copy. No code of the app may run
// meanwhile. The checkout is not touched.
func (w Workshop) Borrow(ctx context.Context, room func(bytes int64) error) error {
	own := w
	own.Aside = false
	for _, name := range []string{"home", "cache", "tmp"} {
		if err := removeAll(w.lies(name)); err != nil {
			return err
		}
	}
	if err := w.Make(); err != nil {
		return err
	}
	for _, name := range []string{"home", "cache"} {
		if err := w.copy(ctx, own.lies(name), w.lies(name), room); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return nil
}

// BorrowKept fills a fresh checkout with copies of the kept folders of the app's own checkout, as far as the commit has no
// files there. Names are relative to the checkout.
func (w Workshop) BorrowKept(ctx context.Context, names []string, room func(bytes int64) error) error {
	own := w
	own.Aside = false
	for _, name := range names {
		from := filepath.Join(own.Checkout(), name)
		if !filepath.IsLocal(name) || filepath.Clean(name) == "." {
			continue
		}
		to, err := os.OpenRoot(w.Checkout())
		if err != nil {
			return err
		}
		_, err = to.Lstat(name)
		if errors.Is(err, os.ErrNotExist) {
			err = w.makeFolders(to, name)
		} else if err == nil {
			err = os.ErrExist // the commit has it
		}
		_ = to.Close()
		if err != nil {
			continue // a file or a link of the commit stands in the way: it wins
		}
		if err := w.copy(ctx, from, filepath.Join(w.Checkout(), name), room); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return nil
}

// makeFolders makes a folder and those above it, owned by the build user.
func (w Workshop) makeFolders(root *os.Root, name string) error {
	name = filepath.Clean(name)
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != filepath.Separator {
			continue
		}
		err := root.Mkdir(name[:i], 0o755)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := w.ownIn(root, name[:i]); err != nil {
			return err
		}
	}
	return nil
}

// Dispose removes all of a workshop aside.
func (w Workshop) Dispose() error {
	if !w.Aside {
		return errors.New("only what is aside may be removed")
	}
	return removeAll(w.asides())
}

// copy copies the folders, files and links below from that belong to the build user into to, which exists. Anything else is
// left out: a socket is none in its copy, and a link to a file of somebody else would hand its content out.
func (w Workshop) copy(ctx context.Context, from, to string, room func(int64) error) error {
	source, err := os.OpenRoot(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer source.Close() //nolint:errcheck // only read
	target, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer target.Close() //nolint:errcheck // each file was closed
	type folder struct {
		name string
		info fs.FileInfo
	}
	var folders []folder
	err = fs.WalkDir(source.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 && int(st.Uid) != w.Account.UID {
			if info.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		switch {
		case info.IsDir():
			folders = append(folders, folder{name, info})
			err = target.Mkdir(name, 0o700)
		case info.Mode()&fs.ModeSymlink != 0:
			var link string
			if link, err = source.Readlink(name); err == nil {
				err = target.Symlink(link, name)
			}
		case info.Mode().IsRegular():
			if err = room(info.Size()); err == nil {
				err = copyFile(source, target, name, info)
			}
		default:
			return nil
		}
		return errors.Join(err, w.ownIn(target, name))
	})
	for i := len(folders) - 1; i >= 0 && err == nil; i-- { // a folder that may not be written is full before that
		f := folders[i]
		err = errors.Join(target.Chmod(f.name, f.info.Mode().Perm()), target.Chtimes(f.name, f.info.ModTime(), f.info.ModTime()))
	}
	return err
}

func copyFile(source, target *os.Root, name string, info fs.FileInfo) (err error) {
	in, err := source.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := target.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return target.Chtimes(name, info.ModTime(), info.ModTime()) // tools compare times with what they remember
}

func (w Workshop) ownIn(root *os.Root, name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return root.Lchown(name, w.Account.UID, w.Account.GID)
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

// Clean is where a checkout lies that no command may change.
func (w Workshop) Clean() string { return w.lies("clean") }

// Folders makes a folder, relative to the checkout, in the checkout and in the clean one, where it is not there yet.
func (w Workshop) Folders(name string) error {
	for _, dir := range []string{w.Checkout(), w.Clean()} {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		err = w.makeFolders(root, name)
		if err = errors.Join(err, root.Close()); err != nil {
			return err
		}
	}
	return nil
}
