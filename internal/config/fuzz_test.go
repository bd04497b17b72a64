package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/belay-cd/belay/internal/domain"
)

// Whatever the file holds: no panic, and every finding lies within it and can be shown.
func FuzzParse(f *testing.F) {
	names, err := filepath.Glob("testdata/examples/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	for _, s := range samples {
		f.Add(lines(s.src))
	}
	for _, s := range []string{"", "a: &x [*x]\n", "? - a\n: b\n", "app: |\n  x\n", "env: { A: ä, B: \"\\x00\" }", "\xff: \x00", "roles:\n  web:\n    run: \"a\n      b\"\n", small, strict} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) > 8<<10 {
			return
		}
		file, findings := Parse(FileName, src, Options{})
		if file == nil && len(findings) == 0 {
			t.Fatal("no file, and no reason")
		}
		count := strings.Count(string(src), "\n") + 1
		for _, n := range append(findings, NotInForce(file)...) {
			if n.Line < 1 || n.Line > count || n.Column < 1 || n.EndColumn <= n.Column || n.ID == "" || n.Message == "" {
				t.Fatalf("%+v", n)
			}
			line := strings.Split(string(src), "\n")[n.Line-1]
			if n.Column > utf8.RuneCountInString(line)+1 {
				t.Fatalf("%+v is behind the end of %q", n, line)
			}
			if strings.ContainsAny(n.Message+n.Hint, "\n\r") {
				t.Fatalf("several lines: %q", n.Message)
			}
		}
		render(t, findings)
		if file != nil {
			for _, env := range domain.Environments {
				HashOf(Workloads(file, env))
			}
			Stricter(file, file)
		}
	})
}

func FuzzCommand(f *testing.F) {
	for _, s := range []string{"a b", "a && b || true", "sh -c 'sh -c true'", "a <<E\nb\nE", "$(x", "{ a; }", "if true; then exit 0; fi"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := NewCommand(text)
		if err != nil {
			return
		}
		c.CannotFail()
	})
}
