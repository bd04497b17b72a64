// Package glob matches slash-separated paths with *, ?, [a-z] inside one part and ** across parts.
package glob

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

// Match reports whether name matches pattern. A malformed pattern matches nothing; see Valid.
func Match(pattern, name string) bool {
	return match(strings.Split(path.Clean(pattern), "/"), strings.Split(name, "/"))
}

func match(pattern, name []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			for len(pattern) > 1 && pattern[1] == "**" { // a row of ** means one: keeps the time polynomial
				pattern = pattern[1:]
			}
			for i := range len(name) + 1 {
				if match(pattern[1:], name[i:]) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], name[0]); err != nil || !ok {
			return false
		}
		pattern, name = pattern[1:], name[1:]
	}
	return len(name) == 0
}

// Valid says whether the pattern can be used: relative, inside its folder, well formed, with at most 8 double stars.
func Valid(pattern string) error {
	switch {
	case pattern == "":
		return errors.New("the pattern is empty")
	case path.IsAbs(pattern):
		return errors.New("the pattern is not relative")
	case strings.Count(pattern, "**") > 8:
		return errors.New("the pattern has more than 8 **")
	}
	clean := path.Clean(pattern)
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return errors.New("the pattern leaves its folder")
	}
	for part := range strings.SplitSeq(clean, "/") {
		if _, err := path.Match(part, ""); err != nil {
			return errors.New("the pattern is malformed")
		}
	}
	return nil
}

// Find returns the paths in fsys that match pattern, folders too, sorted. It does not follow symbolic links. Folders that
// vanish or cannot be read while it looks hold nothing.
func Find(fsys fs.FS, pattern string) ([]string, error) {
	if err := Valid(pattern); err != nil {
		return nil, err
	}
	pattern = path.Clean(pattern)
	base := fixedPart(pattern)
	var found []string
	err := fs.WalkDir(fsys, base, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // unreadable: nothing there to match
		}
		if Match(pattern, name) {
			found = append(found, name)
		}
		return nil
	})
	return found, err
}

// fixedPart returns the folder before the first part with a wildcard, so that a search looks no further than needed.
func fixedPart(pattern string) string {
	parts := strings.Split(pattern, "/")
	for i, part := range parts {
		if strings.ContainsAny(part, `*?[\`) {
			parts = parts[:i]
			break
		}
	}
	if len(parts) == 0 {
		return "."
	}
	return strings.Join(parts, "/")
}
