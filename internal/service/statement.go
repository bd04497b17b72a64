package service

import (
	"regexp"
	"strings"
)

// statement is one statement of a file of SQL.
type statement struct {
	text string
	line int // in which it begins, from 1
}

// statements splits a file at the semicolons that end statements: not those in strings, quoted names, comments, dollar
// quotes, brackets and the bodies of functions in standard SQL. Comments before a statement are left out.
func statements(text string) []statement {
	var all []statement
	line, start, depth, blank := 1, 0, 0, true
	startLine := 1
	flush := func(end int) {
		if !blank {
			all = append(all, statement{text[start:end], startLine})
		}
		blank = true
	}
	for i := 0; i < len(text); {
		n, kind := token(text[i:])
		part := text[i : i+n]
		switch {
		case kind == gap:
		case kind == semicolon && depth == 0:
			flush(i)
		default:
			if blank {
				blank, start, startLine = false, i, line
			}
			depth = max(0, depth+nesting(part, kind, text[start:i]))
		}
		line += strings.Count(part, "\n")
		i += n
	}
	flush(len(text))
	return all
}

// The kinds of tokens that splitting tells apart.
const (
	other = iota
	gap   // white space and comments
	word
	semicolon
)

// atomic begins the body of a function in standard SQL, which ends at its "end".
var atomic = regexp.MustCompile(`(?i)\bbegin\s+$`)

// nesting returns by how much a token opens or closes what semicolons do not end.
func nesting(part string, kind int, before string) int {
	switch {
	case part == "(":
		return 1
	case part == ")":
		return -1
	case kind != word:
		return 0
	}
	// What counts as a body is rare: "begin atomic" opens one, and within it every "case" has an "end" of its own.
	switch strings.ToLower(part) {
	case "atomic":
		if atomic.MatchString(before) {
			return 1
		}
	case "case":
		if inBody(before) {
			return 1
		}
	case "end":
		if inBody(before) {
			return -1
		}
	}
	return 0
}

var opened = regexp.MustCompile(`(?i)\bbegin\s+atomic\b`)

func inBody(before string) bool { return opened.MatchString(before) }

// token returns the length and the kind of the token that text begins with. It is never 0 bytes long.
func token(text string) (n, kind int) {
	c := text[0]
	switch {
	case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
		return 1, gap
	case strings.HasPrefix(text, "--"):
		if end := strings.IndexByte(text, '\n'); end >= 0 {
			return end, gap
		}
		return len(text), gap
	case strings.HasPrefix(text, "/*"):
		return comment(text), gap
	case strings.HasPrefix(text, "\ufeff"):
		return len("\ufeff"), gap
	case c == ';':
		return 1, semicolon
	case c == '\'':
		return literal(text, '\'', false), other
	case (c == 'e' || c == 'E') && len(text) > 1 && text[1] == '\'':
		return 1 + literal(text[1:], '\'', true), other
	case c == '"':
		return literal(text, '"', false), other
	case c == '$':
		return dollar(text), other
	case letter(c):
		n = 1
		for n < len(text) && (letter(text[n]) || text[n] >= '0' && text[n] <= '9' || text[n] == '$') {
			n++
		}
		return n, word
	}
	return 1, other
}

func letter(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// comment is the length of a comment between /* and */, which may hold others.
func comment(text string) int {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

// literal is the length of what stands between quotes. A doubled quote is a part of it, and one behind a backslash where
// those escape.
func literal(text string, quote byte, escapes bool) int {
	for i := 1; i < len(text); i++ {
		switch {
		case escapes && text[i] == '\\':
			i++
		case text[i] != quote:
		case i+1 < len(text) && text[i+1] == quote:
			i++
		default:
			return i + 1
		}
	}
	return len(text)
}

var tag = regexp.MustCompile(`^\$([A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$`)

// dollar is the length of a dollar-quoted string, or 1 for another dollar.
func dollar(text string) int {
	open := tag.FindString(text)
	if open == "" {
		return 1
	}
	end := strings.Index(text[len(open):], open)
	if end < 0 {
		return len(text)
	}
	return len(open) + end + len(open)
}
