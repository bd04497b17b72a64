package command

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"github.com/belay-cd/belay/internal/domain"
)

// Argv turns the text of a command into a program with its arguments. A plain command is executed directly, with $NAME
// replaced from env (KEY=value); anything else (pipes, lists, redirections, globs, assignments) runs under sh -eu -c.
func Argv(run string, env []string) ([]string, error) {
	file, err := parse(run)
	if err != nil {
		return nil, err
	}
	if len(file.Stmts) == 1 {
		if argv, ok := plain(file.Stmts[0], env); ok {
			return argv, nil
		}
	}
	return []string{"sh", "-eu", "-c", run}, nil
}

// Script is Argv for text of several lines of which each must succeed, also where sh -e alone would go on: after
// "false && true" and after "! true".
func Script(run string, env []string) ([]string, error) {
	file, err := parse(run)
	if err != nil {
		return nil, err
	}
	if len(file.Stmts) == 1 {
		return Argv(run, env)
	}
	var text bytes.Buffer
	printer := syntax.NewPrinter()
	for _, statement := range file.Stmts {
		if err := printer.Print(&text, statement); err != nil {
			return nil, domain.Errorf(domain.Invalid, "the command cannot be read: %w", err)
		}
		text.WriteString("\n(exit $?)\n")
	}
	return []string{"sh", "-eu", "-c", text.String()}, nil
}

func parse(run string) (*syntax.File, error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(run), "")
	if err != nil {
		return nil, domain.Errorf(domain.Invalid, "the command cannot be read: %w", err)
	}
	if len(file.Stmts) == 0 {
		return nil, domain.Errorf(domain.Invalid, "the command is empty")
	}
	return file, nil
}

// builtins exist only inside a shell.
var builtins = map[string]bool{
	"cd": true, "export": true, "exit": true, "set": true, "unset": true, "ulimit": true, "umask": true, "exec": true,
	".": true, ":": true, "eval": true, "source": true, "command": true, "wait": true, "trap": true, "shift": true,
	"read": true, "alias": true, "return": true, "times": true, "type": true, "hash": true,
}

func plain(s *syntax.Stmt, env []string) ([]string, bool) {
	call, ok := s.Cmd.(*syntax.CallExpr)
	if !ok || s.Negated || s.Background || s.Coprocess || len(s.Redirs) > 0 || len(call.Assigns) > 0 || len(call.Args) == 0 {
		return nil, false
	}
	argv := make([]string, 0, len(call.Args))
	for _, word := range call.Args {
		text, ok := literal(word.Parts, env, false)
		if !ok {
			return nil, false
		}
		argv = append(argv, text)
	}
	return argv, argv[0] != "" && !builtins[argv[0]]
}

// literal returns the text of a word that needs no shell. An unquoted variable whose value would be split or expanded
// needs one, and so does a variable that is not set: sh -u then names it.
func literal(parts []syntax.WordPart, env []string, quoted bool) (string, bool) {
	var text strings.Builder
	for _, part := range parts {
		switch p := part.(type) {
		case *syntax.Lit:
			if !quoted && strings.ContainsAny(p.Value, `*?[\~{`) || quoted && strings.Contains(p.Value, `\`) {
				return "", false
			}
			text.WriteString(p.Value)
		case *syntax.SglQuoted:
			if p.Dollar {
				return "", false
			}
			text.WriteString(p.Value)
		case *syntax.DblQuoted:
			inner, ok := literal(p.Parts, env, true)
			if !ok {
				return "", false
			}
			text.WriteString(inner)
		case *syntax.ParamExp:
			value, ok := variable(p, env)
			if !ok || !quoted && (value == "" || strings.ContainsAny(value, " \t\n*?[")) {
				return "", false
			}
			text.WriteString(value)
		default:
			return "", false
		}
	}
	return text.String(), true
}

func variable(p *syntax.ParamExp, env []string) (string, bool) {
	if !p.Short || p.Param == nil {
		return "", false
	}
	return lookup(env, p.Param.Value)
}

func lookup(env []string, name string) (string, bool) {
	for i := len(env) - 1; i >= 0; i-- { // the last one holds, as for the kernel's users
		if key, value, ok := strings.Cut(env[i], "="); ok && key == name {
			return value, true
		}
	}
	return "", false
}

// DefaultPath is searched for programs where the environment has no PATH.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Find returns the path of a program as a process in dir with environment env finds it.
func Find(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return name, nil
	}
	path, ok := lookup(env, "PATH")
	if !ok {
		path = DefaultPath
	}
	for _, folder := range filepath.SplitList(path) {
		if !filepath.IsAbs(folder) {
			folder = filepath.Join(dir, folder)
		}
		candidate := filepath.Join(folder, name)
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", domain.Errorf(domain.Failed, "%s: command not found in %s", name, path).
		WithHint("install %s on the server, or add its folder to the PATH of the daemon", name)
}
