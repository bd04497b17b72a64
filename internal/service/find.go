package service

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

func listen(ctx context.Context) (net.Listener, error) {
	var l net.ListenConfig
	return l.Listen(ctx, "tcp4", "127.0.0.1:0")
}

// Installed is one installed version of a server.
type Installed struct {
	Major   int
	Version string // "15.18", "7.0.15"
	Dir     string // folder of its programs
}

// postgresFolders are where distributions put the programs of PostgreSQL, one folder per major version.
var postgresFolders = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/postgresql/*/bin", "/usr/libexec/postgresql*",
}

// Postgres lists the versions of PostgreSQL that are installed, newest first.
func Postgres(ctx context.Context, path string) []Installed {
	var dirs []string
	for _, pattern := range postgresFolders {
		found, err := filepath.Glob(pattern)
		if err == nil {
			dirs = append(dirs, found...)
		}
	}
	var all []Installed
	for _, dir := range append(dirs, filepath.SplitList(path)...) {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		v, err := versionOf(ctx, filepath.Join(dir, "postgres"))
		if err == nil && !slices.ContainsFunc(all, func(o Installed) bool { return o.Version == v.Version }) {
			all = append(all, v)
		}
	}
	slices.SortStableFunc(all, func(a, b Installed) int { return cmp.Compare(b.Major, a.Major) })
	return all
}

// Redis finds the version of Redis that is installed.
func Redis(ctx context.Context, path string) (Installed, error) {
	for _, dir := range filepath.SplitList(path) {
		for _, name := range []string{"redis-server", "valkey-server"} {
			if v, err := versionOf(ctx, filepath.Join(dir, name)); err == nil {
				return v, nil
			}
		}
	}
	return Installed{}, domain.Errorf(domain.Invalid, "redis is not installed on this server").WithHint("apt-get install redis-server")
}

var versionPattern = regexp.MustCompile(`\b(?:v=)?(\d+)(\.\d+)*`)

// versionOf asks a program for its version.
func versionOf(ctx context.Context, program string) (Installed, error) {
	out, err := exec.CommandContext(ctx, program, "--version").Output() //nolint:gosec // programs of the machine, in its own folders
	if err != nil {
		return Installed{}, err
	}
	text := versionPattern.FindString(string(out))
	text = strings.TrimPrefix(text, "v=")
	number, _, _ := strings.Cut(text, ".")
	major, err := strconv.Atoi(number)
	if err != nil {
		return Installed{}, fmt.Errorf("%s: no version in %q", program, out)
	}
	return Installed{Major: major, Version: text, Dir: filepath.Dir(program)}, nil
}

// Choose returns the installed PostgreSQL of a major version, 0 for the newest. Why says who asks for it.
func Choose(installed []Installed, major int, why string) (Installed, error) {
	for _, v := range installed {
		if major == 0 || v.Major == major {
			return v, nil
		}
	}
	if major == 0 {
		return Installed{}, domain.Errorf(domain.Invalid, "postgres is not installed on this server").WithHint("apt-get install postgresql")
	}
	err := domain.Errorf(domain.Invalid, "postgres %d is not installed on this server%s%s", major, why, others(installed))
	return Installed{}, err.WithHint("apt-get install postgresql-%d; where the distribution has another version, https://apt.postgresql.org has this one", major)
}

func others(installed []Installed) string {
	if len(installed) == 0 {
		return ""
	}
	var names []string
	for _, v := range installed {
		names = append(names, strconv.Itoa(v.Major))
	}
	return "; it has " + strings.Join(names, ", ")
}
