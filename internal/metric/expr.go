// Package metric reads the two small languages in which a file speaks of numbers: expressions, which say what must be
// true, and queries, which compute a number out of an app's scraped metrics. It does no input or output.
package metric

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/parser"
)

// Builtin are the names that Belay itself measures, for next, stable and baseline alike. Rates are fractions, times are
// seconds, memory is bytes, cpu is cores.
var Builtin = []string{"error_rate", "p50", "p95", "p99", "requests_per_second", "cpu", "memory", "db_connections", "restarts",
	"jobs_done", "jobs_failed", "jobs_lag"}

// ErrNoData means that a number is not known: the caller decides what silence means.
var ErrNoData = errors.New("no data")

// SyntaxError says what is wrong with an expression or a query, and at which byte.
type SyntaxError struct {
	Offset, Length int
	Reason         string
}

func (e *SyntaxError) Error() string { return e.Reason }

// Expr is a compiled expression.
type Expr struct {
	text  string
	root  ast.Node
	names []Name
}

// Name is a name in an expression: plain means next; baseline.x is before the rollout, stable.x is now.
type Name struct {
	Text           string // as written
	Metric         string // without baseline. or stable.
	Offset, Length int    // in bytes
}

var (
	namePattern = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*`)
)

const maxExpression = 4096

// ParseExpr compiles an expression: names, numbers with units (80%, 300ms, 2m), + - * /, comparisons, and, or, not.
// Its result must be true or false. The error is a *SyntaxError.
func ParseExpr(text string) (*Expr, error) {
	if len(text) > maxExpression {
		return nil, &SyntaxError{Reason: "the expression is too long"}
	}
	if i := strings.IndexAny(text, "\"'`[]{}|&?:;@#$"); i >= 0 {
		return nil, &SyntaxError{Offset: i, Length: 1, Reason: fmt.Sprintf("%c has no meaning here", text[i])}
	}
	if depth := strings.Count(text, "(") + strings.Count(text, "-") + strings.Count(text, "not"); depth > 200 {
		return nil, &SyntaxError{Reason: "the expression is nested too deeply"}
	}
	numbers, err := withoutUnits(text)
	if err != nil {
		return nil, err
	}
	tree, parseErr := parser.Parse(numbers)
	if parseErr != nil {
		reason, _, _ := strings.Cut(parseErr.Error(), "\n")
		if i := strings.LastIndex(reason, " ("); i > 0 {
			reason = reason[:i]
		}
		return nil, &SyntaxError{Reason: "not an expression: " + reason}
	}
	e := &Expr{text: text, root: tree.Node, names: namesOf(text)}
	kind, err := kindOf(e.root)
	if err != nil {
		return nil, err
	}
	if kind != isBool {
		return nil, &SyntaxError{Reason: "it is a number: what must it be?"}
	}
	return e, nil
}

func (e *Expr) String() string { return e.text }

// Names returns every name of the expression with its place.
func (e *Expr) Names() []Name { return slices.Clone(e.names) }

// withoutUnits turns numbers with units into plain ones: percent into fractions, times into seconds.
func withoutUnits(text string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); {
		start := i
		switch c := text[i]; {
		case c == '%':
			return "", &SyntaxError{Offset: i, Length: 1, Reason: "% stands after a number"}
		case isLetter(c):
			for i < len(text) && (isLetter(text[i]) || isDigit(text[i]) || text[i] == '.') {
				i++
			}
			b.WriteString(text[start:i])
		case isDigit(c):
			for i < len(text) && (isDigit(text[i]) || text[i] == '.' && i+1 < len(text) && isDigit(text[i+1])) {
				i++
			}
			digits := i
			for i < len(text) && isLetter(text[i]) {
				i++
			}
			if i == digits && i < len(text) && text[i] == '%' {
				i++
			}
			v, ok := number(text[start:digits], text[digits:i])
			if !ok {
				return "", &SyntaxError{Offset: start, Length: i - start, Reason: "not a number: " + text[start:i]}
			}
			b.WriteString(v)
			if i < len(text) && isLetter(text[i]) {
				b.WriteByte(' ') // 80%and
			}
		default:
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), nil
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func number(digits, unit string) (string, bool) {
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return "", false
	}
	scale, ok := map[string]float64{"": 1, "%": 0.01, "ms": 0.001, "s": 1, "m": time.Minute.Seconds(), "h": time.Hour.Seconds(), "d": 24 * time.Hour.Seconds()}[unit]
	return strconv.FormatFloat(v*scale, 'f', -1, 64), ok
}

func namesOf(text string) []Name {
	var out []Name
	for _, at := range namePattern.FindAllStringIndex(text, -1) {
		name := text[at[0]:at[1]]
		if name == "and" || name == "or" || name == "not" || at[0] > 0 && isDigit(text[at[0]-1]) {
			continue
		}
		metric := name
		if side, rest, ok := strings.Cut(name, "."); ok && (side == "baseline" || side == "stable") {
			metric = rest
		}
		out = append(out, Name{Text: name, Metric: metric, Offset: at[0], Length: at[1] - at[0]})
	}
	return out
}

type kind int

const (
	isNumber kind = iota
	isBool
)

var operators = map[string]struct{ of, gives kind }{
	"+": {isNumber, isNumber}, "-": {isNumber, isNumber}, "*": {isNumber, isNumber}, "/": {isNumber, isNumber},
	"<": {isNumber, isBool}, "<=": {isNumber, isBool}, ">": {isNumber, isBool}, ">=": {isNumber, isBool},
	"==": {isNumber, isBool}, "and": {isBool, isBool}, "or": {isBool, isBool},
}

// kindOf checks that the tree holds only what the language has, and that numbers and truths are not mixed.
func kindOf(n ast.Node) (kind, error) {
	switch n := n.(type) {
	case *ast.IntegerNode, *ast.FloatNode, *ast.IdentifierNode:
		return isNumber, nil
	case *ast.MemberNode:
		if _, ok := memberName(n); ok {
			return isNumber, nil
		}
	case *ast.UnaryNode:
		want := isNumber
		if n.Operator == "not" {
			want = isBool
		} else if n.Operator != "-" && n.Operator != "+" {
			break
		}
		got, err := kindOf(n.Node)
		if err == nil && got != want {
			err = &SyntaxError{Reason: "numbers and truths are mixed at " + n.Operator}
		}
		return want, err
	case *ast.BinaryNode:
		op, ok := operators[n.Operator]
		if !ok {
			return 0, &SyntaxError{Reason: "unknown operator " + n.Operator}
		}
		for _, side := range []ast.Node{n.Left, n.Right} {
			got, err := kindOf(side)
			if err != nil {
				return 0, err
			}
			if got != op.of {
				return 0, &SyntaxError{Reason: "numbers and truths are mixed at " + n.Operator}
			}
		}
		return op.gives, nil
	}
	return 0, &SyntaxError{Reason: "only names, numbers, + - * /, comparisons, and, or, not are known here"}
}

func memberName(n *ast.MemberNode) (string, bool) {
	side, ok := n.Node.(*ast.IdentifierNode)
	prop, isString := n.Property.(*ast.StringNode)
	if !ok || !isString || side.Value != "baseline" && side.Value != "stable" {
		return "", false
	}
	return side.Value + "." + prop.Value, true
}

// Eval says whether the expression holds. look returns the number of a name ("error_rate", "baseline.p95"); when it does
// not know a name the error wraps ErrNoData. A division by zero is no data too.
func (e *Expr) Eval(look func(name string) (float64, bool)) (bool, error) {
	v, err := eval(e.root, look)
	return v != 0, err
}

// eval computes truths as 1 and 0.
func eval(n ast.Node, look func(string) (float64, bool)) (float64, error) {
	switch n := n.(type) {
	case *ast.IntegerNode:
		return float64(n.Value), nil
	case *ast.FloatNode:
		return n.Value, nil
	case *ast.IdentifierNode:
		return lookUp(n.Value, look)
	case *ast.MemberNode:
		name, _ := memberName(n)
		return lookUp(name, look)
	case *ast.UnaryNode:
		v, err := eval(n.Node, look)
		switch n.Operator {
		case "not":
			v = truth(v == 0)
		case "-":
			v = -v
		}
		return v, err
	case *ast.BinaryNode:
		a, err := eval(n.Left, look)
		if err != nil {
			return 0, err
		}
		if n.Operator == "and" && a == 0 || n.Operator == "or" && a != 0 {
			return a, nil
		}
		b, err := eval(n.Right, look)
		if err != nil {
			return 0, err
		}
		return apply(n.Operator, a, b)
	}
	return 0, fmt.Errorf("unknown part of an expression: %T", n)
}

func lookUp(name string, look func(string) (float64, bool)) (float64, error) {
	if v, ok := look(name); ok {
		return v, nil
	}
	return 0, fmt.Errorf("%s: %w", name, ErrNoData)
}

func apply(op string, a, b float64) (float64, error) {
	switch op {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "/":
		if b == 0 {
			return 0, fmt.Errorf("division by zero: %w", ErrNoData)
		}
		return a / b, nil
	case "<":
		return truth(a < b), nil
	case "<=":
		return truth(a <= b), nil
	case ">":
		return truth(a > b), nil
	case ">=":
		return truth(a >= b), nil
	case "==":
		return truth(a == b), nil
	default: // and, or: the left side did not decide
		return b, nil
	}
}

func truth(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}
