package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module       = "github.com/belay-cd/belay/"
	fileLimit    = 500 // lines
	funcLimit    = 60  // lines between the braces, without those that are only a comment
	everything   = "everything"
	architecture = "docs/ARCHITECTURE.md"
)

// Packages whose whole behaviour must be testable in fake time: they do no input and output.
var pure = []string{"domain", "measure", "judge", "judge/lab", "guard", "sample", "journal", "rollout", "delivery"}

// What a pure package may not import.
var ioPackages = []string{"os", "os/exec", "os/signal", "os/user", "net", "net/http", "database/sql", "syscall", "plugin"}

// Files and functions that may be longer, each with the reason.
var (
	longFiles = map[string]string{}
	longFuncs = map[string]string{}
)

// source is one Go file that is not a test.
type source struct {
	path    string // slash-separated, from the root of the module
	pkg     string // folder under internal/, or the folder itself outside of it
	imports map[string]int
	lines   int
	file    *ast.File
	fset    *token.FileSet
	text    []string
}

func TestImportsFollowTheTable(t *testing.T) {
	allowed := readTable(t)
	seen := map[string]bool{}
	for _, s := range sources(t) {
		if !strings.HasPrefix(s.path, "internal/") {
			continue
		}
		seen[s.pkg] = true
		may, ok := allowed[s.pkg]
		if !ok {
			t.Errorf("%s: package %s has no row in %s: write what it means and what it may import", s.path, s.pkg, architecture)
			allowed[s.pkg] = []string{everything}
			continue
		}
		for imported, line := range s.imports {
			other, ok := strings.CutPrefix(imported, module+"internal/")
			if !ok || slices.Contains(may, everything) || slices.Contains(may, other) {
				continue
			}
			t.Errorf("%s:%d: %s may not import %s: %s allows it %s", s.path, line, s.pkg, other, architecture, strings.Join(may, ", "))
		}
	}
	if len(seen) < 2 {
		t.Fatal("no packages found: the test looks in the wrong place")
	}
}

func TestOnlyTheTopJoinsThePrograms(t *testing.T) {
	for _, s := range sources(t) {
		for top, from := range map[string][]string{"app": {"cmd/belay"}, "cli": {"cmd/belay", "internal/app"}} {
			line, ok := s.imports[module+"internal/"+top]
			if ok && !slices.Contains(from, path.Dir(s.path)) {
				t.Errorf("%s:%d: only %s may import internal/%s", s.path, line, strings.Join(from, " and "), top)
			}
		}
	}
}

func TestDomainImportsTheStandardLibraryOnly(t *testing.T) {
	for _, s := range sources(t) {
		if s.pkg != "domain" {
			continue
		}
		for imported, line := range s.imports {
			if strings.Contains(strings.Split(imported, "/")[0], ".") {
				t.Errorf("%s:%d: domain imports %s", s.path, line, imported)
			}
		}
	}
}

func TestCoreDoesNoInputAndOutput(t *testing.T) {
	for _, s := range sources(t) {
		if !slices.Contains(pure, s.pkg) {
			continue
		}
		for _, forbidden := range ioPackages {
			if line, ok := s.imports[forbidden]; ok {
				t.Errorf("%s:%d: %s imports %s: put a port in its place and the adapter elsewhere", s.path, line, s.pkg, forbidden)
			}
		}
	}
}

func TestOnlyTheStoreSpeaksSQL(t *testing.T) {
	for _, s := range sources(t) {
		for imported, line := range s.imports {
			sql := imported == "database/sql" || strings.HasPrefix(imported, "modernc.org/sqlite")
			if sql && s.pkg != "store" {
				t.Errorf("%s:%d: only internal/store imports %s", s.path, line, imported)
			}
		}
	}
}

func TestFilesAndFunctionsStayShort(t *testing.T) {
	used := map[string]bool{}
	for _, s := range sources(t) {
		if s.lines > fileLimit {
			used[s.path] = true
			if longFiles[s.path] == "" {
				t.Errorf("%s: %d lines, %d are allowed", s.path, s.lines, fileLimit)
			}
		}
		for _, declaration := range s.file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok || function.Body == nil {
				continue
			}
			if length := bodyLines(s, function.Body); length > funcLimit {
				name := s.path + ":" + function.Name.Name
				used[name] = true
				if longFuncs[name] == "" {
					t.Errorf("%s:%d: %s has %d lines, %d are allowed", s.path, s.fset.Position(function.Pos()).Line,
						function.Name.Name, length, funcLimit)
				}
			}
		}
	}
	for _, list := range []map[string]string{longFiles, longFuncs} {
		for name := range maps.Keys(list) {
			if !used[name] {
				t.Errorf("%s is short enough now: take it off the list", name)
			}
		}
	}
}

// bodyLines counts the lines between the braces that are more than a comment.
func bodyLines(s source, body *ast.BlockStmt) int {
	first, last := s.fset.Position(body.Lbrace).Line, s.fset.Position(body.Rbrace).Line
	count := 0
	for n := first + 1; n < last; n++ {
		if !strings.HasPrefix(strings.TrimSpace(s.text[n-1]), "//") {
			count++
		}
	}
	return count
}

// readTable reads which package may import which from the table in docs/ARCHITECTURE.md.
func readTable(t *testing.T) map[string][]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(architecture)))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(data), "\n## Packages\n")
	if !ok {
		t.Fatalf("%s has no section Packages", architecture)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	table := map[string][]string{}
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		name := strings.TrimSpace(cells[0])
		if len(cells) != 3 || !strings.HasPrefix(name, "`") {
			continue
		}
		may := []string{}
		for word := range strings.SplitSeq(cells[2], ",") {
			if word = strings.TrimSpace(word); word != "" {
				may = append(may, word)
			}
		}
		table[strings.Trim(name, "`")] = may
	}
	if len(table) == 0 {
		t.Fatalf("%s: the table of packages was not found", architecture)
	}
	return table
}

// sources parses every Go file of the module that is neither a test nor generated nor part of an example.
func sources(t *testing.T) []source {
	t.Helper()
	root := filepath.Join("..", "..")
	var found []source
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != root && (strings.HasPrefix(base, ".") || slices.Contains([]string{"testdata", "examples", "bin", "node_modules"}, base)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") || strings.HasSuffix(base, "_test.go") {
			return nil
		}
		s, err := parse(root, name)
		if err != nil {
			return err
		}
		if !ast.IsGenerated(s.file) {
			found = append(found, s)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func parse(root, name string) (source, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return source{}, err
	}
	rel, err := filepath.Rel(root, name)
	if err != nil {
		return source{}, err
	}
	s := source{path: filepath.ToSlash(rel), fset: token.NewFileSet(), imports: map[string]int{}}
	s.pkg = strings.TrimPrefix(path.Dir(s.path), "internal/")
	s.text = strings.Split(string(data), "\n")
	s.lines = len(s.text) - 1
	if s.file, err = parser.ParseFile(s.fset, name, data, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		return source{}, err
	}
	for _, spec := range s.file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, err
		}
		s.imports[imported] = s.fset.Position(spec.Pos()).Line
	}
	return s, nil
}
