package app

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/source"
)

// linter gives linters a checkout of their own, which they see read-only where the app is built. The folders of build.cache are
// the app's own and may be written, unless the commit has files there. Where no mounts work it is nil.
func (b *builder) linter(d domain.Delivery, f *config.File, p place) func(context.Context) (command.Runner, error) {
	return func(ctx context.Context) (command.Runner, error) {
		if mode, _ := b.runner.box.Probe(); mode == sandbox.None {
			return nil, nil
		}
		owner := source.Options{UID: p.Account.UID, GID: p.Account.GID}
		if err := source.Checkout(ctx, repoDir(b.runner.data, d.App), d.Commit, p.Clean(), owner); err != nil {
			return nil, err
		}
		shown := []sandbox.Bind{{From: p.Clean(), To: p.Src(), ReadOnly: true}}
		for _, name := range kept(d, f) {
			if _, err := os.Lstat(filepath.Join(p.Clean(), name)); !errors.Is(err, fs.ErrNotExist) {
				continue // the commit's own files stay as they are
			}
			if err := p.Folders(name); err != nil {
				continue // something of the commit is in the way: there is no such cache
			}
			shown = append(shown, sandbox.Bind{From: filepath.Join(p.Checkout(), name), To: filepath.Join(p.Src(), name)})
		}
		return confined{box: b.runner.box, place: p, shown: shown, env: lintCaches(p)}, nil
	}
}

// lintCaches leads tools that write beside the sources elsewhere.
func lintCaches(p place) []string {
	at := func(name string) string { return filepath.Join(p.Cache(), "lint", name) }
	return []string{
		"CARGO_TARGET_DIR=" + at("cargo"), "RUFF_CACHE_DIR=" + at("ruff"), "MYPY_CACHE_DIR=" + at("mypy"),
		"PYTHONPYCACHEPREFIX=" + at("python"), "RUBOCOP_CACHE_ROOT=" + at("rubocop"),
	}
}

// kept are the folders of build.cache, relative to the checkout.
func kept(d domain.Delivery, f *config.File) []string {
	var names []string
	for _, c := range f.Build.Cache {
		names = append(names, filepath.ToSlash(filepath.Join(d.Folder, string(c))))
	}
	return names
}
