// Package torture tries the real program: real processes on loopback are killed, flooded, starved and attacked while a
// client of its own counts what a visitor would have noticed. The long tests need the build tag torture.
package torture

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// What the tests run, built once. Newer is the same program with another version.
var binaries struct{ belay, newer, app, release string }

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "load" {
		os.Exit(loadMain(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "visits" {
		os.Exit(visitsMain(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "crowd" {
		os.Exit(crowdMain(os.Args[2:]))
	}
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (int, error) {
	if err := adoptOrphans(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "belay-torture-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return 1, err
	}
	if err := buildAll(dir); err != nil {
		return 1, err
	}
	code := m.Run()
	if left := descendants(); len(left) > 0 && code == 0 {
		endAll(left)
		return 1, fmt.Errorf("%d processes were left behind: %v", len(left), left)
	}
	return code, nil
}

// buildAll builds the programs. BELAY_BINARY and BELAY_NEWER name those that are built already.
func buildAll(dir string) error {
	binaries.belay, binaries.newer = filepath.Join(dir, "belay"), filepath.Join(dir, "newer")
	binaries.app, binaries.release = filepath.Join(dir, "app"), filepath.Join(dir, "release")
	for _, b := range []struct{ out, version, pkg, given string }{
		{binaries.belay, "1.0.0", "../../cmd/belay", os.Getenv("BELAY_BINARY")},
		{binaries.newer, "1.1.0", "../../cmd/belay", os.Getenv("BELAY_NEWER")},
		{binaries.app, "", "./testdata/app", ""},
		{binaries.release, "", "./testdata/release", ""},
	} {
		if b.given != "" {
			if err := os.Symlink(b.given, b.out); err != nil {
				return err
			}
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+b.version, "-o", b.out, b.pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := runChild(cmd)
		cancel()
		if err != nil {
			return fmt.Errorf("build %s: %w: %s", b.pkg, err, out)
		}
	}
	return nil
}
