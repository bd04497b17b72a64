package suite

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/belay-cd/belay/internal/build/glob"
)

const (
	// maxOutside is how many files behind a link out of the folder are read; what lies behind a larger one is not known.
	maxOutside = 5_000
	// maxMemo bounds what a Memo remembers, in files.
	maxMemo = 500_000
	// settled is how old a file's change must be before its hash is remembered: a younger one may change again within the
	// resolution of the file system's clock.
	settled = time.Second
)

// Memo computes hashes of files and remembers them for as long as inode, size, change and modification time stay. The
// change time cannot be set by the file's owner, so a file that was written is always read again. It is safe for concurrent
// use. The zero value is ready.
type Memo struct {
	mu    sync.Mutex
	files map[string]memorised
}

type memorised struct {
	stamp stamp
	mtime syscall.Timespec
	hash  string
}

// Folder returns the hash of all that is in a folder: names, kinds, modes, contents, and where links lead. Only what match
// takes counts, by its path in the folder; nil takes all. What lies outside and is reached by a link counts with its
// content. Times do not count.
func (m *Memo) Folder(ctx context.Context, dir string, match func(name string) bool) (sum string, err error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) && match == nil {
		return "none", nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return hex.EncodeToString(sha256.New().Sum(nil)), nil // as a folder in which nothing counts
	}
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	h := sha256.New()
	err = fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if name == "." || match != nil && !match(name) {
			return nil
		}
		state, err := m.state(ctx, root, name, match != nil)
		if errors.Is(err, fs.ErrNotExist) {
			state, err = "gone", nil
		}
		_, _ = fmt.Fprintf(h, "%q %s\n", name, state) // a hash takes everything
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

func (m *Memo) state(ctx context.Context, root *os.Root, name string, narrowed bool) (string, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return "", err
	}
	full := filepath.Join(root.Name(), name)
	switch {
	case info.IsDir():
		return "d", nil
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := root.Readlink(name)
		if err != nil {
			return "", err
		}
		behind, err := m.Behind(ctx, root.Name(), full, narrowed)
		return fmt.Sprintf("l %q %s", to, behind), err
	case !info.Mode().IsRegular():
		return info.Mode().Type().String(), nil
	}
	hash, err := m.file(full, info, func() (*os.File, error) {
		return root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	})
	return fmt.Sprintf("f %o %s", info.Mode().Perm()&0o111, hash), err
}

// Behind returns the hash of what a link leads to, when that is outside of the folder root; "" when it is inside, and so
// counted itself. With narrowed, what is inside counts too: it may not be among the files that were chosen.
func (m *Memo) Behind(ctx context.Context, root, link string, narrowed bool) (string, error) {
	to, err := filepath.EvalSymlinks(link)
	if err != nil {
		return "leads nowhere", nil //nolint:nilerr // a link that leads nowhere is a state as any other
	}
	if real, err := filepath.EvalSymlinks(root); err == nil && (to == real || strings.HasPrefix(to, real+"/")) && !narrowed {
		return "", nil
	}
	info, err := os.Stat(to)
	switch {
	case err != nil:
		return "leads nowhere", nil //nolint:nilerr // as above
	case info.Mode().IsRegular():
		return m.path(to)
	case !info.IsDir():
		return info.Mode().Type().String(), nil
	}
	left := maxOutside
	sum, err := m.Folder(ctx, to, func(string) bool { left--; return left > 0 })
	if left <= 0 {
		return fmt.Sprintf("too large to know at %d", time.Now().UnixNano()), nil // never the same again
	}
	return sum, err
}

// path returns the hash of the content of a regular file.
func (m *Memo) path(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	return m.file(name, info, func() (*os.File, error) {
		return os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	})
}

func (m *Memo) file(name string, info fs.FileInfo, open func() (*os.File, error)) (string, error) {
	now := memorised{stamp: stampOf(info)}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		now.mtime = st.Mtim
	}
	m.mu.Lock()
	was, ok := m.files[name]
	m.mu.Unlock()
	if ok && was.stamp == now.stamp && was.mtime == now.mtime {
		return was.hash, nil
	}
	var err error
	if now.hash, err = contentOf(open); err != nil {
		return "", err
	}
	if changed := time.Unix(now.stamp.ctime.Unix()); time.Since(changed) > settled {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.files == nil || len(m.files) >= maxMemo {
			m.files = map[string]memorised{}
		}
		m.files[name] = now
	}
	return now.hash, nil
}

func contentOf(open func() (*os.File, error)) (sum string, err error) {
	f, err := open()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "not a file any more", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// selectors are files that choose a toolchain or its packages. They count whatever inputs say.
var selectors = []string{
	"go.mod", "go.sum", "go.work", "go.work.sum", ".tool-versions", "mise.toml", ".mise.toml", ".python-version", ".nvmrc", ".node-version",
	".ruby-version", ".java-version", ".sdkmanrc", "rust-toolchain", "rust-toolchain.toml", "global.json", ".gitattributes", ".npmrc",
}

// Matcher returns which files of a repository the inputs of a level take, by their path from its top; nil when there are
// no inputs, which means all. Folder is the app's folder, to which the inputs are relative.
func Matcher(folder string, inputs []string) func(name string) bool {
	if len(inputs) == 0 {
		return nil
	}
	var patterns []string
	for _, in := range inputs {
		in = path.Join(folder, in)
		if in == "." || in == "" {
			return nil
		}
		patterns = append(patterns, in)
	}
	return func(name string) bool {
		if slices.Contains(selectors, path.Base(name)) {
			return true
		}
		for at := name; at != "." && at != "/"; at = path.Dir(at) { // a folder stands for all that is in it
			for _, p := range patterns {
				if at == p || glob.Match(p, at) {
					return true
				}
			}
		}
		return false
	}
}

// Mix makes one hash of several, in their order.
func Mix(sums ...string) string { return digest(sums...) }
