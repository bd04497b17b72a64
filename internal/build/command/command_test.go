package command_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/build/command"
)

func TestArgv(t *testing.T) {
	env := []string{"PORT=3000", "TWO=a b", "PORT=4000"}
	for run, want := range map[string][]string{
		"go test -json ./...":        {"go", "test", "-json", "./..."},
		`bin/api --port $PORT`:       {"bin/api", "--port", "4000"},
		`echo "$TWO" 'x $PORT' a"b"`: {"echo", "a b", "x $PORT", "ab"},
		`make "-j2"`:                 {"make", "-j2"},
	} {
		if got, err := command.Argv(run, env); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", run, got, err)
		}
	}
	for _, run := range []string{"a | b", "a && b", "a; b", "A=1 b", "ls *.go", "echo $TWO", "echo ${PORT:-1}", "a > b", "! a", "a &", "cd x", "echo $MISSING", "echo ~", "echo $(date)", "exit 1"} {
		got, err := command.Argv(run, env)
		if err != nil || len(got) != 4 || got[0] != "sh" || got[3] != run {
			t.Errorf("%s: %q, %v", run, got, err)
		}
	}
	for _, run := range []string{"", "  # nothing", "echo 'open", "if true"} {
		if got, err := command.Argv(run, env); err == nil {
			t.Errorf("%q: %q", run, got)
		}
	}
}

func TestEachLineOfAScriptMustSucceed(t *testing.T) {
	for script, code := range map[string]int{
		"true\ntrue": 0, "false\ntrue": 1, "false && true\ntrue": 1, "! true\ntrue": 1,
		"if false; then echo x; fi\ntrue": 0, "f() { false || true; }\nf\ntrue": 0, "cat <<E\nx\nE\ntrue": 0, "cd /\ntest $PWD = /": 0,
	} {
		argv, err := command.Script(script, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = command.Local{}.Run(t.Context(), command.Cmd{Dir: t.TempDir(), Argv: argv, Env: []string{"PATH=" + command.DefaultPath}})
		var exit *command.ExitError
		if got := errors.As(err, &exit); got != (code != 0) || got && exit.Code != code {
			t.Errorf("%q: %v, want %d", script, err, code)
		}
	}
}

func local(ctx context.Context, t *testing.T, c command.Cmd, script string) error {
	t.Helper()
	c.Argv, c.Env, c.Purpose = []string{"sh", "-c", script}, []string{"PATH=" + command.DefaultPath, "X=1"}, "test"
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	return command.Local{}.Run(ctx, c)
}

func TestLocalRunsWithExactlyItsEnvironment(t *testing.T) {
	t.Setenv("SECRET", "s")
	var out bytes.Buffer
	if err := local(t.Context(), t, command.Cmd{Stdout: &out}, "env | sort | grep -v -e ^PWD -e ^_ -e ^SHLVL -e ^OLDPWD"); err != nil {
		t.Fatal(err)
	}
	if out.String() != "PATH="+command.DefaultPath+"\nX=1\n" {
		t.Errorf("%q", out.String())
	}
}

func TestLocalKillsTheWholeGroup(t *testing.T) {
	for name, end := range map[string]func(context.CancelCauseFunc) time.Duration{
		"timeout": func(context.CancelCauseFunc) time.Duration { return 300 * time.Millisecond },
		"cancel": func(cancel context.CancelCauseFunc) time.Duration {
			time.AfterFunc(300*time.Millisecond, func() { cancel(errors.New("cancelled by ana")) })
			return 0
		},
		"left behind": func(context.CancelCauseFunc) time.Duration { return time.Minute },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			pidfile := filepath.Join(t.TempDir(), "pid")
			script := "trap '' TERM; (trap '' TERM; exec sleep 61) & echo $! > " + pidfile + "; "
			if name != "left behind" {
				script += "wait"
			}
			began := time.Now()
			var out bytes.Buffer
			err := local(ctx, t, command.Cmd{Timeout: end(cancel), Stdout: &out}, script)
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("took %s", took)
			}
			var timeout *command.TimeoutError
			switch {
			case name == "timeout" && !errors.As(err, &timeout), name == "cancel" && (err == nil || err.Error() != "cancelled by ana"), name == "left behind" && err != nil:
				t.Errorf("%v", err)
			}
			body, err := os.ReadFile(pidfile)
			if err != nil {
				t.Fatal(err)
			}
			pid, _ := strconv.Atoi(strings.TrimSpace(string(body)))
			gone := false
			for range 100 {
				stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
				if gone = err != nil || strings.Contains(string(stat), ") Z "); gone {
					break
				}
				time.Sleep(10 * time.Millisecond) // nobody signals the end of somebody else's child
			}
			if !gone {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				t.Error("a process of the group still runs")
			}
		})
	}
}

func TestLocalSaysHowItEnded(t *testing.T) {
	var exit *command.ExitError
	if err := local(t.Context(), t, command.Cmd{}, "exit 3"); !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("%v", err)
	}
	if err := local(t.Context(), t, command.Cmd{}, "kill -SEGV $$"); !errors.As(err, &exit) || exit.Signal != syscall.SIGSEGV {
		t.Errorf("%v", err)
	}
	err := command.Local{}.Run(t.Context(), command.Cmd{Dir: t.TempDir(), Argv: []string{"no-such-tool"}, Env: []string{}})
	if err == nil || !strings.Contains(err.Error(), "no-such-tool: command not found") {
		t.Errorf("%v", err)
	}
	if _, err := exec.LookPath("sh"); err != nil {
		t.Fatal(err)
	}
}
