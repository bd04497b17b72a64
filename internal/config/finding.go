package config

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Severity says how much a finding weighs.
type Severity string

// The severities. A note says that a key is accepted but has no effect yet; it never counts.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Finding is one thing that is wrong, or worth knowing, about a file, with its place. Columns count characters from 1;
// EndColumn is the first one behind the place.
type Finding struct {
	File      string   `json:"file"`
	Line      int      `json:"line"`
	Column    int      `json:"column"`
	EndColumn int      `json:"end_column"`
	Severity  Severity `json:"severity"`
	ID        string   `json:"id"`
	Message   string   `json:"message"`
	Hint      string   `json:"hint,omitempty"`
	// Excerpt is the line itself, with secrets masked, and Caret the 1-based column of the place in it.
	Excerpt string `json:"-"`
	Caret   int    `json:"-"`
	Carets  int    `json:"-"`
}

// Failed reports whether findings hold an error, or with strict a warning.
func Failed(findings []Finding, strict bool) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool {
		return f.Severity == Error || strict && f.Severity == Warning
	})
}

// sortFindings orders by file and place, and drops what was found twice.
func sortFindings(findings []Finding) []Finding {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.CompactFunc(findings, func(a, b Finding) bool {
		return a.File == b.File && a.Line == b.Line && a.Column == b.Column && a.ID == b.ID && a.Message == b.Message
	})
}

// The colours of a finding on a terminal.
const (
	bold, red, yellow, cyan, reset = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[36m", "\x1b[0m"
)

// Format writes findings as people read them, each with its line, a caret and its hint, and then Summary. Notes are
// written like the others.
func Format(w io.Writer, findings []Finding, color bool) error {
	var b strings.Builder
	for _, f := range findings {
		f.format(&b, color)
	}
	if line := Summary(findings); line != "" {
		b.WriteString(line + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (f Finding) format(b *strings.Builder, color bool) {
	paint := func(code, text string) string {
		if !color {
			return text
		}
		return code + text + reset
	}
	fmt.Fprintf(b, "%s %s\n", paint(bold, fmt.Sprintf("%s:%d:%d:", f.File, f.Line, f.Column)), f.Message)
	if f.Line == 0 || f.Excerpt == "" {
		if f.Hint != "" {
			b.WriteString("        " + paint(cyan, "hint: "+f.Hint) + "\n")
		}
		return
	}
	caret := red
	if f.Severity != Error {
		caret = yellow
	}
	margin := "      | " + strings.Repeat(" ", f.Caret-1)
	carets := strings.Repeat("^", f.Carets)
	fmt.Fprintf(b, "%5d | %s\n%s%s", f.Line, f.Excerpt, margin, paint(caret, carets))
	switch {
	case f.Hint == "":
	case utf8.RuneCountInString(margin+carets+" "+f.Hint) <= Width:
		b.WriteString(" " + paint(cyan, f.Hint))
	default:
		b.WriteString("\n        " + paint(cyan, "hint: "+f.Hint))
	}
	b.WriteByte('\n')
}

// Summary counts: "3 errors, 1 warning in belay.yaml". Without errors and warnings it is "".
func Summary(findings []Finding) string {
	var parts, files []string
	for _, s := range []Severity{Error, Warning} {
		n := 0
		for _, f := range findings {
			if f.Severity == s {
				n++
				if !slices.Contains(files, f.File) {
					files = append(files, f.File)
				}
			}
		}
		if n == 1 {
			parts = append(parts, "1 "+string(s))
		} else if n > 1 {
			parts = append(parts, fmt.Sprintf("%d %ss", n, s))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, ", ") + " in " + strings.Join(files, ", ")
}

// Report returns the errors among findings, with warnings, as Format writes them without colour. bad says that there is
// an error; otherwise the text is "".
func Report(findings []Finding) (text string, bad bool) {
	if !Failed(findings, false) {
		return "", false
	}
	shown := slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return f.Severity == Note })
	var b strings.Builder
	_ = Format(&b, shown, false) // a Builder takes everything
	return strings.TrimRight(b.String(), "\n"), true
}
