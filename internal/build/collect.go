package build

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/build/glob"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/registry"
)

// collect returns the paths to pack, folders too, sorted. Every pattern must match something; a link that leaves the app's
// folder is refused.
func collect(root *os.Root, r Request) ([]string, error) {
	if len(r.Files) == 0 {
		return nil, domain.Errorf(domain.Invalid, "build.files names nothing to pack")
	}
	set := map[string]bool{}
	for _, pattern := range r.Files {
		found, err := matches(root, r, pattern)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, domain.Errorf(domain.Failed, "build.files: %q matches nothing after the build", pattern).
				WithHint("paths are relative to the app's folder; does build.run write it there?")
		}
		for _, name := range found {
			set[name] = true
		}
	}
	names := make([]string, 0, len(set))
	for name := range set {
		info, err := root.Lstat(name)
		if err != nil {
			return nil, err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			if err := registry.CheckLink(root, name); err != nil {
				return nil, err
			}
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func matches(root *os.Root, r Request, pattern string) ([]string, error) {
	pattern = path.Clean(pattern)
	if pattern == "." {
		return existing(root, r.Tracked), nil
	}
	if err := glob.Valid(pattern); err != nil {
		return nil, domain.Errorf(domain.Invalid, "build.files: %q: %w", pattern, err)
	}
	found, err := glob.Find(root.FS(), pattern)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, name := range found {
		err := fs.WalkDir(root.FS(), name, func(name string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case hidden(r.Cache, pattern, name) && entry.IsDir():
				return fs.SkipDir
			case hidden(r.Cache, pattern, name):
				return nil
			}
			all = append(all, name)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// existing leaves out what the build removed.
func existing(root *os.Root, tracked []string) []string {
	var names []string
	for _, name := range tracked {
		if _, err := root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			names = append(names, name)
		}
	}
	return names
}

// hidden reports whether a path is never packed: git's own folder, and a cache, unless the pattern itself names something
// inside the cache (a program that the compiler leaves there).
func hidden(caches []string, pattern, name string) bool {
	if slices.Contains(strings.Split(name, "/"), ".git") {
		return true
	}
	for _, cache := range caches {
		cache = path.Clean(cache)
		if inside(cache, name) && (!inside(cache, pattern) || pattern == cache) {
			return true
		}
	}
	return false
}

func inside(folder, name string) bool {
	return name == folder || strings.HasPrefix(name, folder+"/")
}
