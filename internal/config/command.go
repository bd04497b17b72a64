package config

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// Command is what `run` holds, parsed with the shell's grammar. A plain command is executed directly, so that it works
// in images without a shell; anything else runs under sh -eu -c.
type Command struct {
	Text string
	file *syntax.File
}

// NewCommand parses a command. The error says where the shell's grammar refuses it.
func NewCommand(text string) (Command, error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(text), "")
	if err != nil {
		// Bash's grammar is a superset that sh on many machines understands.
		file, err = syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	}
	return Command{Text: text, file: file}, err
}

func (c *Command) parse(s string) *fault {
	if strings.TrimSpace(s) == "" {
		return &fault{id: "empty", why: "the command is empty", hint: "write what is to be run"}
	}
	cmd, err := NewCommand(s)
	if err != nil {
		why := err.Error()
		if e, ok := err.(syntax.ParseError); ok { //nolint:errorlint // the parser returns it unwrapped
			why = e.Text
		}
		return &fault{id: "shell-syntax", why: "the shell does not understand it: " + why, hint: "quote the value when it holds { } , or #"}
	}
	if len(cmd.file.Stmts) == 0 {
		return &fault{id: "empty", why: "the command is empty", hint: "write what is to be run"}
	}
	*c = cmd
	return nil
}
func (*Command) shape() shape { return shape{name: "command"} }

// Zero reports whether there is no command.
func (c Command) Zero() bool { return c.Text == "" }

func (c Command) String() string { return c.Text }

// MarshalText writes the command as it stands in the file.
func (c Command) MarshalText() ([]byte, error) { return []byte(c.Text), nil }

// UnmarshalText reads a command.
func (c *Command) UnmarshalText(text []byte) error {
	cmd, err := NewCommand(string(text))
	*c = cmd
	return err
}

// piece is a part of a word: literal text, or the name of a variable.
type piece struct {
	text     string
	variable bool
}

func plainWord(parts []syntax.WordPart, quoted bool) ([]piece, bool) {
	var out []piece
	for i, part := range parts {
		switch p := part.(type) {
		case *syntax.Lit:
			if !quoted && (strings.ContainsAny(p.Value, "*?[{") || i == 0 && strings.HasPrefix(p.Value, "~")) {
				return nil, false
			}
			out = append(out, piece{text: unescape(p.Value, quoted)})
		case *syntax.SglQuoted:
			if p.Dollar {
				return nil, false
			}
			out = append(out, piece{text: p.Value})
		case *syntax.DblQuoted:
			inner, ok := plainWord(p.Parts, true)
			if !ok || p.Dollar {
				return nil, false
			}
			out = append(out, inner...)
		case *syntax.ParamExp:
			if !p.Short || p.Param == nil || !varPattern.MatchString(p.Param.Value) {
				return nil, false
			}
			out = append(out, piece{text: p.Param.Value, variable: true})
		default:
			return nil, false
		}
	}
	return out, true
}

// unescape takes backslashes away as a shell would.
func unescape(s string, quoted bool) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			if s[i+1] == '\n' {
				i++
				continue
			}
			if !quoted || strings.IndexByte("$`\"\\", s[i+1]) >= 0 {
				i++
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
