package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sharedRun is what programs need of /run: name resolution and local databases. The rest holds the sockets of service
// managers, container engines and agents, each of them a way out.
var sharedRun = []string{
	"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager/resolv.conf", "/run/nscd",
	"/run/postgresql", "/run/mysqld", "/run/redis", "/run/memcached",
}

// Walls returns what every confined command of this daemon must not see, and what it may see again: the daemon's folder,
// the home of the daemon's user but for the toolchains in path, and /run but for name resolution and databases.
// Data is the daemon's folder, home the home folder of its user, path a PATH.
func Walls(data, home, path string) (hide []string, bind []Bind) {
	hide = []string{data, "/run"}
	for _, p := range sharedRun {
		bind = append(bind, Bind{From: p, To: p, ReadOnly: true, Optional: true})
	}
	if home == "" || home == "/" {
		return hide, bind
	}
	if _, ok := below(home, data); !ok {
		hide = append(hide, home)
	} else {
		hide[0] = home
	}
	for _, dir := range Toolchains(home, path) {
		bind = append(bind, Bind{From: dir, To: dir, ReadOnly: true, Optional: true})
	}
	return hide, bind
}

// binOnly are folders of a home whose bin folder is shown without what lies beside it, because that holds credentials or
// other people's sources.
var binOnly = []string{".", ".local", ".cargo", "go"}

// Toolchains returns the folders below home that the entries of path need: for …/bin, …/sbin and …/shims the folder
// around them (the installation), for a few well-known ones the entry alone.
func Toolchains(home, path string) []string {
	var dirs []string
	for entry := range strings.SplitSeq(path, ":") {
		rel, ok := below(home, filepath.Clean(entry))
		if !ok || rel == "." || !filepath.IsAbs(entry) {
			continue
		}
		dir := rel
		switch filepath.Base(rel) {
		case "bin", "sbin", "shims":
			if around := filepath.Dir(rel); !slices.Contains(binOnly, around) {
				dir = around
			}
		}
		if rel == ".cargo/bin" {
			dirs = append(dirs, filepath.Join(home, ".rustup"))
		}
		dirs = append(dirs, filepath.Join(home, dir))
	}
	return outermost(dirs)
}

// outermost drops the folders that lie below another one, and those that do not exist.
func outermost(dirs []string) []string {
	slices.Sort(dirs)
	var kept []string
	for _, dir := range slices.Compact(dirs) {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if slices.ContainsFunc(kept, func(k string) bool { _, in := below(k, dir); return in }) {
			continue
		}
		kept = append(kept, dir)
	}
	return kept
}

// ToolchainEnv returns the variables without which toolchains below home would look into the app's HOME instead.
func ToolchainEnv(home, path string) map[string]string {
	env := map[string]string{}
	for _, dir := range Toolchains(home, path) {
		switch rel, _ := below(home, dir); rel {
		case ".rustup":
			env["RUSTUP_HOME"] = dir
		case ".pyenv":
			env["PYENV_ROOT"] = dir
		}
	}
	return env
}
