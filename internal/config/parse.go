package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/belay-cd/belay/internal/domain"
)

// Options change what a file may hold.
type Options struct {
	// Demo lets times be shorter than their lower bounds, as `belay serve --demo` does.
	Demo bool
	// Dir is the app's folder in a checkout. With it, hints can name files.
	Dir fs.FS
	// Folder is where in its repository the file stands: services/billing, "." for the top. "" is not known: then no path
	// is held against it.
	Folder string
}

// Parse reads a belay.yaml. It returns every finding at once, sorted by place: of its syntax, of its keys and values, and
// of the rules between them. The File is nil only when the syntax could not be read; with an error among the findings it
// holds what could be read and must not be delivered.
func Parse(name string, src []byte, opts Options) (*File, []Finding) {
	f := &File{places: newPlaces(name, src, opts)}
	w := &walker{places: &f.places, owner: FileName}
	body, ok := w.syntax(src)
	if !ok {
		return nil, f.findings()
	}
	w.file(body, f)
	f.fillDefaults()
	if body != nil {
		f.rules()
	}
	findings := f.findings()
	return f, findings
}

// Load reads belay.yaml in a folder and checks it, together with what the folder holds. Findings that are notes say
// which keys are not in force. The error is about reading the file.
func Load(dir string, opts Options) (*File, []Finding, error) {
	name := filepath.Join(dir, FileName)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, domain.Errorf(domain.Invalid, "no %s here: %w", FileName, err).WithHint("belay init writes one")
	}
	if err == nil && info.Size() > MaxFileBytes {
		return nil, nil, domain.Errorf(domain.Invalid, "%s is larger than %d bytes", FileName, MaxFileBytes)
	}
	src, readErr := os.ReadFile(name)
	if readErr != nil {
		return nil, nil, domain.Errorf(domain.Invalid, "%s cannot be read: %w", FileName, readErr)
	}
	if opts.Dir == nil {
		opts.Dir = os.DirFS(dir)
	}
	if opts.Folder == "" {
		opts.Folder = folderInRepository(dir)
	}
	f, findings := Parse(FileName, src, opts)
	if f != nil {
		findings = sortFindings(append(append(findings, Check(f, opts.Dir)...), NotInForce(f)...))
	}
	return f, findings, nil
}

// folderInRepository looks upward for the repository that a folder is in, "" for none.
func folderInRepository(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	for top := dir; ; top = filepath.Dir(top) {
		if _, err := os.Stat(filepath.Join(top, ".git")); err == nil {
			folder, err := filepath.Rel(top, dir)
			if err != nil {
				return ""
			}
			return filepath.ToSlash(folder)
		}
		if top == filepath.Dir(top) {
			return ""
		}
	}
}

// syntax reads the tree. ok is false when there is none.
func (w *walker) syntax(src []byte) (body ast.Node, ok bool) {
	if len(src) > MaxFileBytes {
		w.errorf("too-large", Span{1, 1, 2}, "", "the file is larger than %d bytes", MaxFileBytes)
		return nil, false
	}
	for i, line := range w.lines {
		if len(line) > MaxLine {
			w.errorf("line-too-long", Span{i + 1, MaxLine + 1, MaxLine + 2}, "break it", "a line is longer than %d characters", MaxLine)
			return nil, false
		}
	}
	if at, deep := tooDeep(w.lines); deep {
		w.errorf("too-deep", at, "", "nested deeper than %d levels", MaxDepth)
		return nil, false
	}
	src = w.unquotedStars(src)
	file, err := parseTree(src)
	if err != nil {
		w.syntaxError(err)
		return nil, false
	}
	var docs []*ast.DocumentNode
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType || d.Start != nil && len(docs) > 0 {
			docs = append(docs, d)
		}
	}
	if len(docs) == 0 {
		w.errorf("empty-file", Span{1, 1, 2}, "belay init writes one", "the file is empty")
		return nil, true
	}
	if len(docs) > 1 {
		at := Span{len(w.lines), 1, 2}
		if docs[1].Start != nil {
			at = tokenSpan(docs[1].Start.Position.Line, docs[1].Start.Position.Column, 3)
		}
		w.errorf("second-document", at, "one file per app", "a second document: belay.yaml is one document")
	}
	return docs[0].Body, true
}

// parseTree keeps a fault of the YAML library from ending the process.
func parseTree(src []byte) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it cannot be read as YAML")
		}
	}()
	return parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
}

func tokenSpan(line, column, length int) Span { return Span{line, column, column + length} }

func (w *walker) syntaxError(err error) {
	at, reason := Span{1, 1, 2}, err.Error()
	var e yaml.Error
	if errors.As(err, &e) {
		reason = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			at = tokenSpan(t.Position.Line, t.Position.Column, 1)
		}
	}
	hint := "quote values that hold { } [ ] , # or \": \""
	if strings.Contains(reason, "'\t'") {
		reason, hint = "a tab", "indent with spaces"
	}
	w.errorf("syntax", at, hint, "not YAML: %s", reason)
}

// tooDeep counts brackets and indentation, so that a bomb is refused before the tree is built.
func tooDeep(lines [][]rune) (Span, bool) {
	depth := 0
	for i, line := range lines {
		indent := 0
		for indent < len(line) && (line[indent] == ' ' || line[indent] == '-' || line[indent] == '?') {
			indent++
		}
		if indent > 4*MaxDepth {
			return Span{i + 1, 1, 2}, true
		}
		for j, r := range line {
			switch r {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(0, depth-1)
			}
			if depth > MaxDepth {
				return Span{i + 1, j + 1, j + 2}, true
			}
		}
	}
	return Span{}, false
}

var (
	starPattern = regexp.MustCompile(`(?:^|[\s{,])([A-Za-z0-9_.-]+):\s+(\*[^\s,}]*)([^,}#]*)`)
	linePattern = regexp.MustCompile(`^(\s*)([A-Za-z0-9_.-]+):(?:\s|$)`)
)

// unquotedStars finds values that begin with an unquoted * and are no alias's name, which YAML reports as something
// else. It replaces the star by a letter so that the rest of the file is read too, and marks the place.
func (w *walker) unquotedStars(src []byte) []byte {
	lines := strings.Split(string(src), "\n")
	var parents []struct {
		indent int
		key    string
	}
	for i, line := range lines {
		if m := linePattern.FindStringSubmatch(line); m != nil {
			for len(parents) > 0 && parents[len(parents)-1].indent >= len(m[1]) {
				parents = parents[:len(parents)-1]
			}
			parents = append(parents, struct {
				indent int
				key    string
			}{len(m[1]), m[2]})
		}
		at := starPattern.FindStringSubmatchIndex(line)
		if at == nil || strings.HasPrefix(strings.TrimSpace(line), "#") || strings.ContainsAny(line[:at[4]], `"'`) {
			continue
		}
		key, star, rest := line[at[2]:at[3]], line[at[4]:at[5]], strings.TrimRight(line[at[6]:at[7]], " ")
		if varPattern.MatchString(star[1:]) && rest == "" || len(parents) == 0 {
			continue // a real alias: refused by the walk
		}
		var path []string
		for _, p := range parents {
			path = append(path, p.key)
		}
		if path[len(path)-1] != key {
			path = append(path, key)
		}
		column := len([]rune(line[:at[4]])) + 1
		w.errorf("unquoted-star", tokenSpan(i+1, column, len([]rune(star))), `"`+star+rest+`"`,
			"%s: an unquoted * starts a YAML alias", strings.Join(path, "."))
		w.stars = append(w.stars, Span{Line: i + 1, Column: column})
		lines[i] = line[:at[4]] + "x" + strings.ReplaceAll(line[at[4]+1:at[7]], "*", "x") + line[at[7]:]
	}
	return []byte(strings.Join(lines, "\n"))
}
