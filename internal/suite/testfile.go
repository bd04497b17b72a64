package suite

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// stack is how the tools of one language name the files of tests.
type stack struct {
	tools    []string // words of a command that tell it
	patterns []string // names of files, without their folder
}

var stacks = []stack{
	{[]string{"pytest", "py.test", "python", "python3", "unittest", "tox", "nox", "uv", "poetry"}, pythonFiles},
	{
		[]string{"jest", "vitest", "mocha", "node", "npm", "npx", "yarn", "pnpm", "playwright", "cypress", "bun", "deno", "ava", "tap"},
		[]string{"*.test.[jt]s", "*.test.[jt]sx", "*.test.[cm][jt]s", "*.spec.[jt]s", "*.spec.[jt]sx", "*.spec.[cm][jt]s", "*.cy.[jt]s", "*.cy.[jt]sx",
			"*-test.[jt]s", "*-test.[cm][jt]s", "*_test.[jt]s", "*_test.[cm][jt]s", "test-*.[jt]s", "test-*.[cm][jt]s"},
	},
	{[]string{"rspec", "rake", "rails", "ruby", "bundle"}, []string{"*_spec.rb", "*_test.rb"}},
	{
		[]string{"mvn", "mvnw", "gradle", "gradlew"},
		[]string{"*Test.java", "*Tests.java", "*TestCase.java", "Test*.java", "*IT.java", "*Test.kt", "*Tests.kt", "*IT.kt", "*Spec.kt", "*Spec.groovy", "*Spec.scala"},
	},
	{[]string{"phpunit", "paratest", "pest", "php", "artisan", "composer"}, []string{"*Test.php"}},
	{[]string{"mix"}, []string{"*_test.exs"}},
}

var pythonFiles = []string{"test_*.py", "*_test.py"}

// skippedFolders hold other people's tests, or a second copy of one's own.
var skippedFolders = []string{"node_modules", "bower_components", "vendor", "site-packages", "__pycache__", "venv", "build", "dist", "target", "out", "coverage"}

// levelFolders are the names of folders whose tests belong to one level.
var levelFolders = map[string][]string{
	"unit":        {"unit"},
	"integration": {"integration", "integ", "int"},
	"e2e":         {"e2e", "end-to-end"},
}

// patternsOf returns the conventions of the tools that a command names; those of all tools when it names none.
func patternsOf(words []string) []string {
	var named, all []string
	for _, s := range stacks {
		all = append(all, s.patterns...)
		for _, word := range words {
			if slices.Contains(s.tools, path.Base(word)) {
				named = append(named, s.patterns...)
				break
			}
		}
	}
	if named == nil {
		return all
	}
	return named
}

// testFiles lists the files in fsys whose names match one of patterns, sorted, and those of known that are still there.
func testFiles(fsys fs.FS, patterns, known []string) ([]string, error) {
	found := map[string]bool{}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err // a test that cannot be seen must not be left out
		}
		base := path.Base(name)
		if entry.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") || slices.Contains(skippedFolders, base)) {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.IsDir() && slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, base); return ok }) {
			found[name] = true
		}
		return nil
	})
	for _, name := range known {
		if info, statErr := fs.Stat(fsys, name); fs.ValidPath(name) && statErr == nil && info.Mode().IsRegular() {
			found[name] = true
		}
	}
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, err
}

// ofLevel leaves the files that a level runs. Those in a folder with the name of another level that has a command are that
// level's; integration and e2e take only the folders of their own name, where there are any.
func ofLevel(files []string, level string, all []Level) []string {
	own := slices.DeleteFunc(slices.Clone(files), func(name string) bool { return !under(name, levelFolders[level]) })
	if len(own) > 0 && level != "unit" {
		return own
	}
	return slices.DeleteFunc(slices.Clone(files), func(name string) bool {
		return !under(name, levelFolders[level]) && slices.ContainsFunc(all, func(l Level) bool {
			return l.Name != level && l.Run != "" && under(name, levelFolders[l.Name])
		})
	})
}

func under(name string, folders []string) bool {
	return slices.ContainsFunc(strings.Split(path.Dir(name), "/"), func(part string) bool { return slices.Contains(folders, part) })
}

// pytestSays returns a setting of pytest's own configuration, as python_files, in the first of its files that has it.
func pytestSays(fsys fs.FS, key string) []string {
	setting := regexp.MustCompile(`(?m)^[ \t]*` + key + `[ \t]*=[ \t]*(\[[^\]]*\]|.*(?:\n[ \t]+[^\s#=]+[ \t]*$)*)`)
	for _, name := range []string{"pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg"} {
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			continue // it is not there
		}
		if m := setting.FindSubmatch(text); m != nil {
			return strings.FieldsFunc(string(m[1]), func(r rune) bool { return strings.ContainsRune(" \t\r\n,\"'[]", r) })
		}
	}
	return nil
}

// locator finds the file that a report means.
type locator struct {
	files  map[string]bool
	suffix map[string]string // the end of a path, without its extension, to the file; "" when there are several
}

func locate(files []string) *locator {
	l := &locator{files: map[string]bool{}, suffix: map[string]string{}}
	for _, name := range files {
		l.files[name] = true
		for end := strings.TrimSuffix(name, path.Ext(name)); ; {
			if other, taken := l.suffix[end]; taken && other != name {
				l.suffix[end] = ""
			} else {
				l.suffix[end] = name
			}
			_, rest, more := strings.Cut(end, "/")
			if !more {
				break
			}
			end = rest
		}
	}
	return l
}

// file returns the path that a test's unit means: a path, perhaps with folders before it that are not ours, or the name of
// a class or module. "" when it is none of the files, or one of several.
func (l *locator) file(unit string) string {
	for name := path.Clean(unit); ; {
		if l.files[name] {
			return name
		}
		_, rest, more := strings.Cut(name, "/")
		if !more {
			break
		}
		name = rest
	}
	parts := strings.FieldsFunc(unit, func(r rune) bool { return strings.ContainsRune(`./\:$`, r) })
	for n := len(parts); n > 0; n-- {
		whole := strings.Join(parts[:n], "/")
		for _, ext := range []string{".py", ".rb", ".php", ".java"} {
			if l.files[whole+ext] {
				return whole + ext
			}
		}
		if name := l.suffix[whole]; name != "" {
			return name
		}
	}
	return ""
}
