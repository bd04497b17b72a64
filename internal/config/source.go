package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Span is a place in the file: characters Column … EndColumn-1 of a line, counted from 1.
type Span struct{ Line, Column, EndColumn int }

// places is where everything of a File stands, and what was found on the way.
type places struct {
	name   string
	lines  [][]rune
	keys   map[string]Span
	values map[string]Span
	plain  map[string]bool // values whose text stands in the file as it is, on one line
	bad    map[string]bool // values that could not be read
	masked map[int][]Span  // secrets by line, never shown
	opts   Options
	found  []Finding
}

func newPlaces(name string, src []byte, opts Options) places {
	p := places{name: name, opts: opts, keys: map[string]Span{}, values: map[string]Span{}, plain: map[string]bool{}, bad: map[string]bool{}, masked: map[int][]Span{}}
	for line := range strings.SplitSeq(string(src), "\n") {
		p.lines = append(p.lines, []rune(strings.TrimSuffix(line, "\r")))
	}
	return p
}

// Has reports whether the file writes a key: "roles.web.port".
func (p *places) Has(path string) bool { _, ok := p.keys[path]; return ok }

// Pos returns where the value of a path stands, the key when the value has no place of its own, and the nearest key
// above for a path that the file does not write.
func (p *places) Pos(path string) Span {
	for path != "" {
		if s, ok := p.values[path]; ok {
			return s
		}
		if s, ok := p.keys[path]; ok {
			return s
		}
		i := max(strings.LastIndexByte(path, '.'), strings.LastIndexByte(path, '['))
		if i < 0 {
			break
		}
		path = path[:i]
	}
	return Span{1, 1, 2}
}

// KeyPos returns where the key of a path stands.
func (p *places) KeyPos(path string) Span {
	if s, ok := p.keys[path]; ok {
		return s
	}
	return p.Pos(path)
}

// readable reports whether the path was written and everything under it could be read.
func (p *places) readable(path string) bool {
	if !p.Has(path) {
		return false
	}
	for bad := range p.bad {
		if bad == path || strings.HasPrefix(bad, path+".") || strings.HasPrefix(bad, path+"[") {
			return false
		}
	}
	return true
}

// order sorts names under a path by where the file writes them.
func (p *places) order(path string, names []string) []string {
	slices.SortFunc(names, func(a, b string) int {
		x, y := p.KeyPos(path+"."+a), p.KeyPos(path+"."+b)
		if x.Line != y.Line {
			return x.Line - y.Line
		}
		if x.Column != y.Column {
			return x.Column - y.Column
		}
		return strings.Compare(a, b)
	})
	return names
}

// inOrder returns the keys of a map under a path in the order of the file.
func inOrder[V any](p *places, path string, m map[string]V) []string {
	return p.order(path, slices.Collect(maps.Keys(m)))
}

// add records a finding at a place. what is the path it speaks of, "" when the reason says it all.
func (p *places) add(sev Severity, id string, at Span, message, hint string) {
	at.Line = min(max(at.Line, 1), len(p.lines))
	line := p.lines[at.Line-1]
	at.Column = min(max(at.Column, 1), len(line)+1)
	at.EndColumn = min(max(at.EndColumn, at.Column+1), max(len(line)+1, at.Column+1))
	p.found = append(p.found, Finding{File: p.name, Line: at.Line, Column: at.Column, EndColumn: at.EndColumn,
		Severity: sev, ID: id, Message: oneLine(message), Hint: oneLine(hint)})
}

func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' || r == '\t' }), " ")
}

func (p *places) errorf(id string, at Span, hint, format string, args ...any) {
	p.add(Error, id, at, fmt.Sprintf(format, args...), hint)
}

func (p *places) warnf(id string, at Span, hint, format string, args ...any) {
	p.add(Warning, id, at, fmt.Sprintf(format, args...), hint)
}

// within narrows the place of a value to a part of its text, in runes, when the text stands in the file as it is.
func (p *places) within(path string, offset, length int) Span {
	s := p.Pos(path)
	if p.plain[path] && length > 0 && s.Column+offset+length <= s.EndColumn {
		return Span{s.Line, s.Column + offset, s.Column + offset + length}
	}
	return s
}

// mask keeps the text at a place out of every excerpt.
func (p *places) mask(at Span) { p.masked[at.Line] = append(p.masked[at.Line], at) }

// findings returns what was found so far, sorted and with its excerpts.
func (p *places) findings() []Finding {
	out := sortFindings(slices.Clone(p.found))
	for i := range out {
		p.excerpt(&out[i])
	}
	return out
}

// excerptMax is the longest line that is shown whole, in characters.
const excerptMax = 160

// excerpt fills in the line of a finding with secrets masked: a secret shows at most its first letters.
func (p *places) excerpt(f *Finding) {
	line := slices.Clone(p.lines[f.Line-1])
	column, end := f.Column, f.EndColumn
	masked := slices.Clone(p.masked[f.Line])
	slices.SortFunc(masked, func(a, b Span) int { return b.Column - a.Column })
	for _, m := range masked {
		if m.EndColumn-1 > len(line) {
			continue
		}
		text := string(line[m.Column-1 : m.EndColumn-1])
		short := maskSecret(text)
		change := utf8.RuneCountInString(short) - (m.EndColumn - m.Column)
		line = slices.Replace(line, m.Column-1, m.EndColumn-1, []rune(short)...)
		if column >= m.EndColumn {
			column += change
		} else if column > m.Column {
			column = m.Column
		}
		if end >= m.EndColumn {
			end += change
		}
	}
	for i, r := range line {
		if !unicode.IsPrint(r) {
			line[i] = ' '
		}
	}
	if len(line) > excerptMax {
		from := min(max(0, column-excerptMax/2), len(line)-excerptMax)
		line = line[from : from+excerptMax]
		column, end = column-from, end-from
	}
	f.Excerpt, f.Caret = string(line), max(column, 1)
	f.Carets = max(1, min(end, len(line)+1)-f.Caret)
}
