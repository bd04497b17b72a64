package metric

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Functions are the functions that a query may call.
var Functions = []string{"rate", "increase", "sum", "avg", "max", "min", "quantile"}

const maxDepth = 50

// ParseQuery parses a query. The error is a *SyntaxError.
func ParseQuery(text string) (*Query, error) {
	if len(text) > maxExpression {
		return nil, &SyntaxError{Reason: "the query is too long"}
	}
	p := &queryParser{text: text}
	root := p.sum(0)
	p.space()
	if p.err == nil && p.at < len(text) {
		p.failf(1, "%q was not expected", text[p.at:p.at+1])
	}
	if p.err != nil {
		return nil, p.err
	}
	if len(p.names) == 0 {
		return nil, &SyntaxError{Length: len(text), Reason: "it names no metric"}
	}
	return &Query{text: text, root: root, names: p.names}, nil
}

// queryParser is a recursive descent over the text. After the first error nothing moves any more.
type queryParser struct {
	text  string
	at    int
	names []string
	err   *SyntaxError
}

func (p *queryParser) failf(length int, format string, args ...any) {
	if p.err == nil {
		p.err = &SyntaxError{Offset: p.at, Length: length, Reason: fmt.Sprintf(format, args...)}
	}
}

func (p *queryParser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\n\r", p.text[p.at]) >= 0 {
		p.at++
	}
}

// take skips c when it comes next.
func (p *queryParser) take(c byte) bool {
	p.space()
	if p.err == nil && p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *queryParser) want(c byte) {
	if !p.take(c) {
		p.failf(0, "%q is missing", string(c))
	}
}

func (p *queryParser) sum(depth int) node {
	left := p.product(depth)
	for p.err == nil {
		switch {
		case p.take('+'):
			left = binary{'+', left, p.product(depth)}
		case p.take('-'):
			left = binary{'-', left, p.product(depth)}
		default:
			return left
		}
	}
	return left
}

func (p *queryParser) product(depth int) node {
	left := p.term(depth)
	for p.err == nil {
		switch {
		case p.take('*'):
			left = binary{'*', left, p.term(depth)}
		case p.take('/'):
			left = binary{'/', left, p.term(depth)}
		default:
			return left
		}
	}
	return left
}

func (p *queryParser) term(depth int) node {
	if depth > maxDepth {
		p.failf(0, "it is nested too deeply")
		return constant(0)
	}
	p.space()
	switch {
	case p.take('('):
		n := p.sum(depth + 1)
		p.want(')')
		return n
	case p.take('-'):
		return negative{p.term(depth + 1)}
	case p.at < len(p.text) && isDigit(p.text[p.at]):
		return constant(p.number())
	}
	start := p.at
	name := p.word()
	if name == "" {
		p.failf(1, "a metric, a function or a number is expected")
		return constant(0)
	}
	if p.take('(') {
		if !slices.Contains(Functions, name) {
			p.err = &SyntaxError{Offset: start, Length: len(name), Reason: "unknown function " + name}
			return constant(0)
		}
		return p.call(name)
	}
	return p.selector(name)
}

// word reads a metric's name, a label or a function.
func (p *queryParser) word() string {
	start := p.at
	for p.at < len(p.text) && (isLetter(p.text[p.at]) || p.text[p.at] == ':' || p.at > start && isDigit(p.text[p.at])) {
		p.at++
	}
	return p.text[start:p.at]
}

func (p *queryParser) number() float64 {
	start := p.at
	for p.at < len(p.text) && (isDigit(p.text[p.at]) || p.text[p.at] == '.') {
		p.at++
	}
	v, err := strconv.ParseFloat(p.text[start:p.at], 64)
	if err != nil {
		p.at = start
		p.failf(1, "not a number")
	}
	return v
}

// call reads the arguments of a function. Aggregations take a metric, or a rate or an increase of one.
func (p *queryParser) call(name string) node {
	q := 0.0
	if name == "quantile" {
		p.space()
		q = p.number()
		p.want(',')
		if p.err == nil && q > 1 {
			p.failf(0, "a quantile is between 0 and 1")
		}
	}
	p.space()
	inner, how := p.at, "last"
	word := p.word()
	if p.take('(') {
		if word != "rate" && word != "increase" || name == "rate" || name == "increase" || name == "quantile" {
			p.err = &SyntaxError{Offset: inner, Length: len(word), Reason: fmt.Sprintf("%s takes a metric", name)}
			return constant(0)
		}
		how = word
		p.space()
		word = p.word()
	}
	s := p.selector(word)
	if how != "last" {
		p.want(')')
	}
	p.want(')')
	switch name {
	case "rate", "increase":
		s.how, s.join = name, "sum"
	default:
		s.how, s.join, s.q = how, name, q
	}
	return s
}

func (p *queryParser) selector(name string) selector {
	s := selector{name: name, how: "last", join: "sum"}
	if name == "" {
		p.failf(1, "a metric is expected")
		return s
	}
	if !slices.Contains(p.names, name) {
		p.names = append(p.names, name)
	}
	if p.take('{') {
		for p.err == nil && !p.take('}') {
			s.matchers = append(s.matchers, p.matcher())
			if !p.take(',') {
				p.want('}')
				break
			}
		}
	}
	if p.take('[') {
		end := strings.IndexByte(p.text[p.at:], ']')
		if end < 0 {
			p.failf(0, `"]" is missing`)
			return s
		}
		window, err := time.ParseDuration(strings.TrimSpace(p.text[p.at : p.at+end]))
		if err != nil || window <= 0 {
			p.failf(end, "not a window: [1m]")
		}
		s.window = window
		p.at += end + 1
	}
	return s
}

func (p *queryParser) matcher() Matcher {
	p.space()
	m := Matcher{Label: p.word()}
	if m.Label == "" {
		p.failf(1, "a label is expected")
	}
	m.Negated = p.take('!')
	p.want('=')
	if p.take('~') {
		p.failf(0, "labels are compared with = or != only")
	}
	p.space()
	if p.err != nil {
		return m
	}
	quoted, err := strconv.QuotedPrefix(p.text[p.at:])
	if err != nil {
		p.failf(1, "the label's value is not quoted")
		return m
	}
	m.Value, _ = strconv.Unquote(quoted)
	p.at += len(quoted)
	return m
}
