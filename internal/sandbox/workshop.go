package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Workshop is where an app is built and tested: folders of its own below the daemon's folder, at a path that never
// changes, owned by its build user.
type Workshop struct {
	Data    string // the daemon's folder, without symbolic links
	Home    string // home of the daemon's user, for its toolchains
	Path    string // PATH of the commands
	App     string
	Account Account // of purpose Build
	// Cgroups are the control group folders that bound all builds and tests together; none where there are no such groups.
	Cgroups []string
	// Aside is for a commit that nobody has merged: what its commands leave lies in folders of its own, which they see at the
	// paths of the app's, so that nothing of it meets the next build. Borrow fills them.
	Aside bool
	// Unbound says that nothing can be seen elsewhere than where it lies: no mounts work here.
	Unbound bool
}

// The folders of a workshop.
func (w Workshop) dir(name string) string {
	if w.Unbound {
		return w.lies(name)
	}
	return filepath.Join(w.Data, "work", w.App, name)
}

// Src is the checkout.
func (w Workshop) Src() string { return w.dir("src") }

// Cache outlives builds and holds what toolchains keep.
func (w Workshop) Cache() string { return w.dir("cache") }

// Clear makes the workshop's folders, and Src and the temporary one anew. What it makes belongs to the caller until
// Give, so that a checkout can be written before any code of the app runs.
func (w Workshop) Clear() error {
	if err := os.MkdirAll(filepath.Dir(w.Checkout()), 0o711); err != nil {
		return err
	}
	for _, dir := range []string{w.Checkout(), w.lies("tmp")} {
		// Removal follows no link.
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("clear %s: %w", dir, err)
		}
	}
	return w.Make()
}

// Make makes what is missing of the workshop's folders. Src belongs to the caller until Give.
func (w Workshop) Make() error {
	for _, dir := range []string{w.Checkout(), w.lies("tmp"), w.lies("cache"), w.lies("home")} {
		if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	for _, dir := range []string{w.lies("tmp"), w.lies("cache"), w.lies("home")} {
		if err := w.own(dir); err != nil {
			return err
		}
	}
	return nil
}

// Give hands the checkout over to the build user. It may be called only before code of the app has run in it: afterwards
// a hard link could make it give away another file.
func (w Workshop) Give() error {
	return filepath.WalkDir(w.Checkout(), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return w.own(path)
	})
}

func (w Workshop) own(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, w.Account.UID, w.Account.GID)
}

// Spec returns the confined command argv in the folder dir of the checkout ("" is the checkout itself). The variables env
// come on top of PATH, HOME, TMPDIR and the places of the toolchains' caches. Whatever the command leaves running ends
// with it.
func (w Workshop) Spec(dir string, argv []string, env map[string]string) Spec {
	hide, binds := Walls(w.Data, w.Home, w.Path)
	binds = append(binds, Bind{From: w.lies("tmp"), To: "/tmp"})
	for _, name := range []string{"src", "cache", "home"} {
		binds = append(binds, Bind{From: w.lies(name), To: w.dir(name)})
	}
	all := map[string]string{
		"PATH": w.Path, "HOME": w.dir("home"), "LANG": "C.UTF-8", "TMPDIR": "/tmp",
		"GOMODCACHE": filepath.Join(w.Cache(), "go-mod"), "GOCACHE": filepath.Join(w.Cache(), "go-build"),
		"npm_config_cache": filepath.Join(w.Cache(), "npm"), "PIP_CACHE_DIR": filepath.Join(w.Cache(), "pip"),
		"XDG_CACHE_HOME": filepath.Join(w.Cache(), "xdg"),
	}
	if w.Account.Name != "" {
		all["USER"], all["LOGNAME"] = w.Account.Name, w.Account.Name
	}
	maps.Copy(all, ToolchainEnv(w.Home, w.Path))
	maps.Copy(all, env)
	spec := Spec{
		Dir: filepath.Join(w.Src(), dir), Argv: argv, UID: w.Account.UID, GID: w.Account.GID,
		Hide: hide, Bind: binds, PrivateTmp: true, OwnPIDs: true,
		OOMScoreAdj: WorkshopOOM, Weight: Lowest, Memory: WorkshopMemory(), Cgroups: w.Cgroups,
		Rlimits: []Rlimit{{Resource: unix.RLIMIT_CORE}},
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		spec.Env = append(spec.Env, name+"="+all[name])
	}
	return spec
}
