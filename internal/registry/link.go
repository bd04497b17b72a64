package registry

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// systemFolders may be linked to absolutely: a virtual environment links to the host's interpreter.
var systemFolders = []string{"usr", "bin", "sbin", "lib", "lib64", "opt", "nix"}

// CheckLink refuses the symbolic link name below root when following it, through other links too, leads out of root, unless
// it leads to the system's own programs and libraries. A link that leads nowhere is harmless.
func CheckLink(root *os.Root, name string) error {
	_, err := follow(root, name)
	return err
}

// LinksToSystem returns the absolute path that the link name ends at when it leads to the system, else "".
func LinksToSystem(root *os.Root, name string) string {
	to, err := follow(root, name)
	if err != nil {
		return ""
	}
	return to
}

func follow(root *os.Root, name string) (system string, err error) {
	todo := strings.Split(filepath.ToSlash(name), "/")
	var at []string // resolved, without links
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return "", leaves(name, "..")
			}
			at = at[:len(at)-1]
			continue
		}
		here := path.Join(path.Join(at...), part)
		to, err := root.Readlink(here)
		if errors.Is(err, os.ErrNotExist) {
			return "", nil
		}
		if err != nil { // not a link
			at = append(at, part)
			continue
		}
		if links++; links > 40 {
			return "", nil // as for the kernel: leads nowhere
		}
		if path.IsAbs(to) {
			return systemPath(name, path.Join(append([]string{to}, todo...)...))
		}
		todo = append(strings.Split(to, "/"), todo...)
	}
	return "", nil
}

func systemPath(name, to string) (string, error) {
	first, _, _ := strings.Cut(strings.TrimPrefix(to, "/"), "/")
	if !slices.Contains(systemFolders, first) {
		return "", leaves(name, to)
	}
	return to, nil
}

func leaves(name, to string) error {
	return domain.Errorf(domain.Refused, "%s is a link that leaves the artifact (%s)", name, to).
		WithHint("copy the file into the app, or link to it inside")
}
