package scaffold

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
)

// Bounds of what is read: a checkout may be huge, and what matters stands in few small files.
const (
	maxFiles     = 10_000
	maxFileBytes = 256 << 10
	maxBytes     = 32 << 20
)

// Folders that hold what others wrote or what a build made.
var skipped = map[string]bool{
	"node_modules": true, "vendor": true, "testdata": true, "target": true, "__pycache__": true, "venv": true,
	"third_party": true, "bin": true, "coverage": true,
}

// tree is a checkout, read once. Paths are slash-separated and relative to its root.
type tree struct {
	texts map[string]string
	order []string
}

// place is where something was found.
type place struct {
	path string
	line int
	text string   // the whole match
	sub  []string // its groups
}

func readTree(dir string) (*tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	t := &tree{texts: map[string]string{}}
	total := 0
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			hidden := strings.HasPrefix(base, ".") && base != ".github"
			if name != "." && (hidden || skipped[base]) {
				return fs.SkipDir
			}
			return nil
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxFileBytes {
			return nil //nolint:nilerr // a file that vanishes or is too large to be source says nothing
		}
		if len(t.order) >= maxFiles || total > maxBytes {
			return fs.SkipAll
		}
		data, err := root.ReadFile(name)
		if err != nil {
			return err
		}
		total += len(data)
		t.texts[name] = string(data)
		t.order = append(t.order, name)
		return nil
	})
	return t, err
}

func (t *tree) has(name string) bool { _, ok := t.texts[name]; return ok }

// first returns the first of names that exists, or "".
func (t *tree) first(names ...string) string {
	for _, name := range names {
		if t.has(name) {
			return name
		}
	}
	return ""
}

// with returns the files that keep says yes to, in their order.
func (t *tree) with(keep func(name string) bool) []string {
	var names []string
	for _, name := range t.order {
		if keep(name) {
			names = append(names, name)
		}
	}
	return names
}

// find returns the first match of pattern in the files, in their order.
func (t *tree) find(files []string, pattern *regexp.Regexp) (place, bool) {
	for _, name := range files {
		text := t.texts[name]
		loc := pattern.FindStringSubmatchIndex(text)
		if loc == nil {
			continue
		}
		found := place{path: name, line: 1 + strings.Count(text[:loc[0]], "\n"), text: text[loc[0]:loc[1]]}
		for i := 2; i < len(loc); i += 2 {
			group := ""
			if loc[i] >= 0 {
				group = text[loc[i]:loc[i+1]]
			}
			found.sub = append(found.sub, group)
		}
		return found, true
	}
	return place{}, false
}

// count returns how often pattern matches in the files.
func (t *tree) count(files []string, pattern *regexp.Regexp) int {
	n := 0
	for _, name := range files {
		n += len(pattern.FindAllStringIndex(t.texts[name], -1))
	}
	return n
}

// extension keeps files with one of the extensions.
func extension(extensions ...string) func(string) bool {
	return func(name string) bool {
		ext := path.Ext(name)
		for _, want := range extensions {
			if ext == want {
				return true
			}
		}
		return false
	}
}

// inFolder reports whether one of the folders on the way to name is called one of want.
func inFolder(name string, want ...string) bool {
	for part := range strings.SplitSeq(path.Dir(name), "/") {
		for _, w := range want {
			if part == w {
				return true
			}
		}
	}
	return false
}
