package config

import (
	"os/exec"
	"slices"
	"testing"
)

func command(t *testing.T, text string) Command {
	t.Helper()
	c, err := NewCommand(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return c
}

func TestPlainCommandsNeedNoShell(t *testing.T) {
	env := func(name string) string { return map[string]string{"PORT": "8080", "A": "x y"}[name] }
	for _, c := range []struct {
		text string
		argv []string
	}{
		{"bin/api", []string{"bin/api"}},
		{"gunicorn app --bind 127.0.0.1:$PORT", []string{"gunicorn", "app", "--bind", "127.0.0.1:8080"}},
		{`say "$A and 'b'" '$A' a\ b`, []string{"say", "x y and 'b'", "$A", "a b"}},
		{"run $A", []string{"run", "x y"}},
		{"", nil},
	} {
		cmd := Command{}
		if c.text != "" {
			cmd = command(t, c.text)
			if _, ok := cmd.Plain(); !ok {
				t.Errorf("%q is plain", c.text)
			}
		}
		if got := cmd.Argv(env); !slices.Equal(got, c.argv) {
			t.Errorf("%q: %q, want %q", c.text, got, c.argv)
		}
	}
	for _, text := range []string{"a && b", "a | b", "a > f", "A=1 b", "ls *.go", "cd x", "a\nb", "echo $(date)", "echo ${A:-b}", "a &", "! a", "~/bin/x", "exec bin/api"} {
		cmd := command(t, text)
		if args, ok := cmd.Plain(); ok {
			t.Errorf("%q needs a shell, got %q", text, args)
		}
		if got := cmd.Argv(env); !slices.Equal(got, []string{"sh", "-eu", "-c", text}) {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// In a script of several lines each line must succeed: asked of a real shell.
func TestEachLineMustSucceed(t *testing.T) {
	for text, ok := range map[string]bool{"true\ntrue": true, "false\ntrue": false, "true\necho $not_set_anywhere": false} {
		argv := command(t, text).Argv(func(string) string { return "" })
		err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).Run()
		if (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCommandsThatCannotFail(t *testing.T) {
	for text, part := range map[string]string{
		"true":                                  "",
		":":                                     "",
		"/bin/true":                             "",
		"exit 0":                                "",
		"npm test || true":                      "|| true",
		"npm test || exit 0":                    "|| exit 0",
		"npm test || :":                         "|| :",
		"npm test || echo failed":               "|| echo failed",
		"npm test; true":                        "; true",
		"npm test\nexit 0":                      "exit 0",
		"set +e\nnpm test":                      "set +e",
		"jest --passWithNoTests":                "--passWithNoTests",
		"sh -c 'true'":                          "",
		"sh -c 'npm test || true'":              "",
		"bash -euc 'exit 0'":                    "",
		"npm test &":                            "&",
		"(npm test || true)":                    "|| true",
		"npm test | tee out.txt":                "| tee out.txt",
		"echo no tests":                         "",
		"! false":                               "",
		"cd app && npm test || true":            "|| true",
		"npm run lint\nnpm test || true":        "|| true",
		"true && true":                          "",
		"npx vitest run --passWithNoTests=true": "--passWithNoTests=true",
	} {
		got, weak := command(t, text).CannotFail()
		if !weak || got != part {
			t.Errorf("%q: %q %v, want %q", text, got, weak, part)
		}
	}
	for _, text := range []string{"npm test", "go test ./... && echo ok", "docker rm x || true; npm test", "npm test\necho done", "test -f true",
		"make true", "pytest -k 'true or exit'", "go test ./... | go-junit-report", "npm test || (cat log; exit 1)", "jest --passWithNoTests=false", "false", "exit 1", "./e2e.sh"} {
		if part, weak := command(t, text).CannotFail(); weak {
			t.Errorf("%q is honest, got %q", text, part)
		}
	}
}
