package sandbox_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/belay-cd/belay/internal/sandbox"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "sandbox" {
		os.Exit(sandbox.Main(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// run executes a shell script confined in box and returns what it printed and its exit code.
func run(t *testing.T, box *sandbox.Sandbox, spec sandbox.Spec, script string) (string, int) {
	t.Helper()
	spec.Argv = []string{"sh", "-c", script}
	if spec.Dir == "" {
		spec.Dir = "/"
	}
	spec.Env = append(spec.Env, "PATH="+path)
	if spec.UID == 0 {
		spec.UID, spec.GID = 65534, 65534
	}
	cmd, err := box.Command(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestSmoke(t *testing.T) {
	box := &sandbox.Sandbox{}
	mode, reason := box.Probe()
	t.Log(mode, reason)
	data := t.TempDir()
	os.Chmod(data, 0o711)
	os.WriteFile(filepath.Join(data, "belay.db"), []byte("x"), 0o644)
	work := filepath.Join(data, "work")
	os.Mkdir(work, 0o700)
	os.Chown(work, 65534, 65534)
	hide, binds := sandbox.Walls(data, "/root", os.Getenv("PATH"))
	binds = append(binds, sandbox.Bind{From: work, To: work})
	for _, own := range []bool{false, true} {
		out, code := run(t, box, sandbox.Spec{Hide: hide, Bind: binds, PrivateTmp: true, OwnPIDs: own, Dir: work}, "id; pwd; ls -la "+data+"; touch x; ls -la; ls /proc | head -5; ls -la /root /run; cat /proc/self/status | grep -E 'Cap|NoNew'; ls /proc/self/fd; grep ' / ' /proc/self/mountinfo; exit 3")
		t.Log(out, code)
	}
	_ = strings.Contains
}
