package config

import (
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// CannotFail looks for a reason why a command succeeds whatever it finds: true, || true, exit 0 and their kin. part is
// the text that is to blame, "" when it is the whole command. ok is false for an honest command.
func (c Command) CannotFail() (part string, ok bool) {
	if c.file == nil {
		return "", false
	}
	return c.weakList(c.file.Stmts, c.Text, 0)
}

// Flags that turn red into green.
var softFlags = []string{"--passWithNoTests", "--pass-with-no-tests", "--exit-zero", "--allow-no-tests"}

// weakList judges a list of statements. The last one is the tests: when it hides its result the list is weak. An earlier
// one may: docker rm x || true, then the tests.
func (c Command) weakList(stmts []*syntax.Stmt, src string, depth int) (string, bool) {
	if len(stmts) == 0 || depth > 10 {
		return "", false
	}
	if part, ok := softFlag(stmts); ok {
		return part, true
	}
	last := stmts[len(stmts)-1]
	if isConstant(last) {
		if len(stmts) > 1 {
			return trailing(src, last), true
		}
		return "", true
	}
	if last.Background {
		return "&", true
	}
	_, isCall := last.Cmd.(*syntax.CallExpr)
	if part, ok := c.weakStmt(last, src, depth); ok && (!isCall || len(stmts) == 1) {
		return part, true
	}
	for _, st := range stmts[:len(stmts)-1] {
		if switchesOff(st) {
			return text(src, st), true
		}
		if endsGreen(st) {
			return text(src, st), true
		}
	}
	return "", false
}

func (c Command) weakStmt(st *syntax.Stmt, src string, depth int) (string, bool) {
	switch cmd := st.Cmd.(type) {
	case *syntax.BinaryCmd:
		switch cmd.Op {
		case syntax.OrStmt:
			if _, weak := c.weakStmt(cmd.Y, src, depth+1); weak || isConstant(cmd.Y) || neverFails(cmd.Y) {
				return "|| " + text(src, cmd.Y), true
			}
		case syntax.AndStmt:
			if isConstant(cmd.X) && isConstant(cmd.Y) {
				return "", true
			}
			if _, isCall := cmd.Y.Cmd.(*syntax.CallExpr); !isCall {
				return c.weakStmt(cmd.Y, src, depth+1)
			}
		case syntax.Pipe, syntax.PipeAll:
			if isConstant(cmd.Y) || neverFails(cmd.Y) {
				return "| " + text(src, cmd.Y), true
			}
			return c.weakStmt(cmd.Y, src, depth+1)
		}
	case *syntax.Block:
		return c.weakList(cmd.Stmts, src, depth+1)
	case *syntax.Subshell:
		return c.weakList(cmd.Stmts, src, depth+1)
	case *syntax.CallExpr:
		return weakCall(cmd, depth)
	}
	return "", false
}

// weakCall looks into sh -c '…' and finds an echo or a printf that is the whole command.
func weakCall(call *syntax.CallExpr, depth int) (string, bool) {
	words := literals(call)
	if len(words) == 0 {
		return "", false
	}
	if slices.Contains([]string{"echo", "printf"}, words[0]) {
		return "", true
	}
	if !slices.Contains([]string{"sh", "bash", "dash", "zsh", "ash"}, path.Base(words[0])) {
		return "", false
	}
	for i, w := range words {
		if strings.HasPrefix(w, "-") && strings.HasSuffix(w, "c") && i+1 < len(words) {
			inner, err := NewCommand(words[i+1])
			if err != nil || inner.file == nil {
				return "", false
			}
			if _, weak := inner.weakList(inner.file.Stmts, inner.Text, depth+1); weak {
				return "", true
			}
		}
	}
	return "", false
}

// literals returns the words of a call; a word that is no literal is "\x00".
func literals(call *syntax.CallExpr) []string {
	var out []string
	for _, arg := range call.Args {
		var word strings.Builder
		pieces, ok := plainWord(arg.Parts, false)
		for _, p := range pieces {
			if p.variable {
				ok = false
			}
			word.WriteString(p.text)
		}
		if !ok {
			word.Reset()
			word.WriteByte(0)
		}
		out = append(out, word.String())
	}
	return out
}

// isConstant reports whether a statement is one that only succeeds: true, :, exit 0.
func isConstant(st *syntax.Stmt) bool {
	call, ok := st.Cmd.(*syntax.CallExpr)
	if !ok || st.Negated {
		neg := ok && st.Negated && slices.Equal(literals(call), []string{"false"})
		return neg
	}
	words := literals(call)
	if len(words) == 0 {
		return true
	}
	switch path.Base(words[0]) {
	case "true", ":":
		return true
	case "exit":
		return len(words) == 1 || len(words) == 2 && words[1] == "0"
	}
	return false
}

// neverFails are commands that print and succeed: behind || or a pipe they hide what was red.
func neverFails(st *syntax.Stmt) bool {
	call, ok := st.Cmd.(*syntax.CallExpr)
	if !ok || st.Negated {
		return false
	}
	words := literals(call)
	return len(words) > 0 && slices.Contains([]string{"echo", "printf", "cat", "tee", "head", "tail", "true", ":"}, path.Base(words[0]))
}

// endsGreen reports an exit 0 in the middle, behind which nothing runs.
func endsGreen(st *syntax.Stmt) bool {
	call, ok := st.Cmd.(*syntax.CallExpr)
	return ok && slices.Equal(literals(call), []string{"exit", "0"})
}

// switchesOff reports set +e, after which only the last command counts.
func switchesOff(st *syntax.Stmt) bool {
	call, ok := st.Cmd.(*syntax.CallExpr)
	return ok && slices.Equal(literals(call), []string{"set", "+e"})
}

func softFlag(stmts []*syntax.Stmt) (string, bool) {
	found := ""
	for _, st := range stmts {
		syntax.Walk(st, func(n syntax.Node) bool {
			if call, ok := n.(*syntax.CallExpr); ok {
				for _, w := range literals(call) {
					flag, value, _ := strings.Cut(w, "=")
					if slices.Contains(softFlags, flag) && value != "false" {
						found = w
					}
				}
			}
			return true
		})
	}
	return found, found != ""
}

func text(src string, n syntax.Node) string {
	from, to := int(n.Pos().Offset()), int(n.End().Offset())
	if from > to || to > len(src) {
		return ""
	}
	return strings.TrimRight(src[from:to], " ;\n")
}

// trailing is the last statement with what divides it from the one before.
func trailing(src string, st *syntax.Stmt) string {
	from := int(st.Pos().Offset())
	if from <= len(src) && strings.HasSuffix(strings.TrimRight(src[:from], " "), ";") {
		return "; " + text(src, st)
	}
	return text(src, st)
}
