package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/belay-cd/belay/examples"
)

// repository is the git repository of the shop that the demo makes.
type repository struct{ dir string }

// newRepository writes the shop into dir and commits it.
func newRepository(ctx context.Context, dir string) (repository, string, error) {
	r := repository{dir}
	for _, file := range examples.Shop() {
		name := filepath.Join(dir, filepath.FromSlash(file.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return r, "", err
		}
		if err := os.WriteFile(name, []byte(file.Data), 0o644); err != nil {
			return r, "", err
		}
	}
	if _, err := r.git(ctx, "init", "--quiet", "--initial-branch=main"); err != nil {
		return r, "", err
	}
	commit, err := r.commit(ctx, "Open the shop")
	return r, commit, err
}

// change makes a change and commits it.
func (r repository) change(ctx context.Context, c change) (commit string, err error) {
	if err := c.apply(r.dir); err != nil {
		return "", err
	}
	return r.commit(ctx, c.subject)
}

// commit commits everything and returns the full SHA.
func (r repository) commit(ctx context.Context, subject string) (string, error) {
	if _, err := r.git(ctx, "add", "--all"); err != nil {
		return "", err
	}
	if _, err := r.git(ctx, "commit", "--quiet", "--message", subject); err != nil {
		return "", err
	}
	return r.git(ctx, "rev-parse", "HEAD")
}

// git runs git apart from whatever the person has configured: no signing, no hooks, no templates.
func (r repository) git(ctx context.Context, args ...string) (string, error) {
	fixed := []string{"-C", r.dir, "-c", "user.name=Ana", "-c", "user.email=ana@shop.example"}
	command := exec.CommandContext(ctx, "git", append(fixed, args...)...)
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(out)))
	}
	return strings.TrimSpace(string(out)), nil
}
