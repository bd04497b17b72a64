package cli

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func testMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"belay": func() {
		commands := Commands{Version: "0.1.0-test", Internal: map[string]func([]string) int{
			"shim": func(args []string) int { return 40 + len(args) },
		}}
		os.Exit(Main(os.Args[1:], Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, commands))
	}})
}

type fakeKey struct{}

// start makes the data folder of a fake server and lets it answer.
func start(t testing.TB, scenario string) *fake {
	t.Helper()
	dir, err := os.MkdirTemp("", "belay-cli-") // short: the name of a socket is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	f := &fake{dir: dir}
	f.play(scenario)
	if err := f.serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.stop(); err != nil {
			t.Log(err)
		}
	})
	return f
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			f := start(e.T().(testing.TB), "good")
			e.Values[fakeKey{}] = f
			e.Setenv("BELAY_DATA", f.dir)
			e.Setenv("TZ", "UTC")
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("TERM", "xterm")
			for _, name := range []string{"GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"} {
				e.Setenv(name, "ana")
			}
			for _, name := range []string{"GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"} {
				e.Setenv(name, "ana@example.com")
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"scenario": func(ts *testscript.TestScript, _ bool, args []string) { ts.Value(fakeKey{}).(*fake).play(args[0]) },
			"away":     func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(ts.Value(fakeKey{}).(*fake).stop()) },
			"asked": func(ts *testscript.TestScript, _ bool, args []string) {
				f := ts.Value(fakeKey{}).(*fake)
				f.mu.Lock()
				defer f.mu.Unlock()
				if got := strings.Join(f.said, "\n"); !strings.Contains(got, strings.Join(args, " ")) {
					ts.Fatalf("the server was asked:\n%s", got)
				}
			},
			"taken-back": func(ts *testscript.TestScript, _ bool, args []string) { ts.Value(fakeKey{}).(*fake).takenBack(args[0]) },
			// code N COMMAND… runs a command and wants its exit code.
			"code": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				got := "0"
				if err != nil {
					got = strings.TrimPrefix(err.Error(), "exit status ")
				}
				if got != args[0] {
					ts.Fatalf("exit code %s, not %s", got, args[0])
				}
			},
			// project makes a repository with one commit of belay.yaml.
			"project": func(ts *testscript.TestScript, _ bool, args []string) {
				dir := ts.MkAbs(args[0])
				top := dir
				if len(args) > 1 {
					top = ts.MkAbs(args[1])
				}
				ts.Check(os.MkdirAll(dir, 0o755))
				ts.Check(os.WriteFile(filepath.Join(dir, "belay.yaml"), []byte(projectFile), 0o644))
				ts.Check(os.WriteFile(filepath.Join(dir, "index.html"), []byte("hello\n"), 0o644))
				for _, git := range [][]string{{"init", "-q"}, {"add", "."}, {"commit", "-q", "-m", "search: rank by sales"}} {
					ts.Check(ts.Exec("git", append([]string{"-C", top}, git...)...))
				}
			},
		},
	})
}

const projectFile = `app: shop-api
build: { files: [index.html], lint: [test -s index.html] }
test:
  unit:        { none: a page without code }
  integration: { none: a page without code }
  e2e:         { run: curl -fsS $BELAY_URL, start: [web] }
roles:
  web:
    static: .
    hosts: { staging: [staging.shop.example], production: [shop.example] }
rollout: { strategy: blue-green }
`

// Whoever presses ctrl-c leaves; the delivery stays.
func TestCtrlCLeaves(t *testing.T) {
	f := start(t, "stuck")
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	cmd := exec.CommandContext(ctx, "belay", "show", "shop-api/142", "--follow")
	cmd.Env = append(os.Environ(), "BELAY_DATA="+f.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 20)); err != nil { // it follows
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code says more
	if cmd.ProcessState.ExitCode() != 130 || said.String() != "left; #142 goes on: belay show 142 --follow\n" {
		t.Errorf("exit %d, stderr %q", cmd.ProcessState.ExitCode(), said.String())
	}
}
