package secrets

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile bounds a dotenv file in bytes.
const maxFile = 1 << 20

// ErrExposed is a file whose secrets others can read.
var ErrExposed = errors.New("open to others")

// readFile reads "path" or "path#KEY". One line break at the end of a whole file is not part of the value: every editor
// adds one.
func (r *Resolver) readFile(place string) (string, error) {
	path, key, dotenv := cutLast(place, "#")
	if rest, ok := strings.CutPrefix(path, "$CREDENTIALS_DIRECTORY/"); ok {
		dir, ok := r.lookup("CREDENTIALS_DIRECTORY")
		if !ok {
			return "", fmt.Errorf("%s: the daemon was started without systemd credentials", place)
		}
		path = filepath.Join(dir, rest)
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%s: not an absolute path", path)
	}
	text, err := r.readPrivate(path)
	if err != nil {
		return "", err
	}
	if !dotenv {
		return strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r"), nil
	}
	value, ok, err := dotenvValue(text, key)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if !ok {
		return "", fmt.Errorf("%s has no %s", path, key)
	}
	return value, nil
}

// readPrivate judges the file that it has opened, never the path: a link that changes in between gains nothing.
func (r *Resolver) readPrivate(path string) (string, error) {
	// O_NONBLOCK: opening a named pipe must not hang the daemon.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", err // an os.PathError: names the path and the reason
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a regular file", path)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("%s: mode %s, %w (chmod o= %s)", path, info.Mode().Perm(), ErrExposed, path)
	}
	if err := r.allowed(f, path); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxFile {
		return "", fmt.Errorf("%s: above %d bytes", path, maxFile)
	}
	return string(text), nil
}

// allowed holds the real path of the open file against the folders that are the daemon's own or nobody's secret.
func (r *Resolver) allowed(f *os.File, path string) error {
	actual, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, dir := range append([]string{"/proc", "/sys", "/dev"}, r.Private...) {
		if within(dir, actual) {
			return fmt.Errorf("%s: in %s, which is no place for secrets of apps", path, dir)
		}
	}
	for _, name := range [...]string{"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-"} {
		if actual == name {
			return fmt.Errorf("%s: belongs to the system", path)
		}
	}
	if len(r.Roots) == 0 {
		return nil
	}
	for _, dir := range r.Roots {
		if within(dir, actual) {
			return nil
		}
	}
	return fmt.Errorf("%s: outside the folders that the server allows for secrets (%s)", path, strings.Join(r.Roots, ", "))
}

func within(dir, path string) bool {
	if actual, err := filepath.EvalSymlinks(dir); err == nil {
		dir = actual
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// dotenvValue finds the last assignment of key. Known are KEY=value, export KEY=value, comments, 'literal' and "escaped"
// values, both over several lines. Nothing is expanded. Errors name a line, never its text.
func dotenvValue(text, key string) (value string, found bool, err error) {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		start := i
		line := strings.TrimSpace(lines[i])
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(strings.TrimPrefix(name, "export "))
		if !ok || name == "" {
			return "", false, fmt.Errorf("line %d: not KEY=value", start+1)
		}
		rest = strings.TrimSpace(rest)
		v := unquoted(rest)
		if rest != "" && (rest[0] == '"' || rest[0] == '\'') {
			// A quoted value keeps its own spaces and lines, so go back to the text before trimming.
			_, rest, _ = strings.Cut(lines[i], "=")
			rest = strings.TrimLeft(rest, " \t")
			for {
				if v, ok = quoted(rest); ok {
					break
				}
				if i++; i >= len(lines) {
					return "", false, fmt.Errorf("line %d: the quote is not closed", start+1)
				}
				rest += "\n" + lines[i]
			}
		}
		if name == key {
			value, found = v, true
		}
	}
	return value, found, nil
}

func unquoted(s string) string {
	if i := strings.Index(s, " #"); i >= 0 {
		s = s[:i]
	}
	return strings.TrimSpace(s)
}

// quoted reads a value that begins with a quote, up to the same quote.
func quoted(s string) (string, bool) {
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == quote:
			return b.String(), true
		case c == '\\' && quote == '"' && i+1 < len(s):
			i++
			b.WriteString(unescaped(s[i]))
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

func unescaped(c byte) string {
	switch c {
	case 'n':
		return "\n"
	case 'r':
		return "\r"
	case 't':
		return "\t"
	case '"', '\\', '$', '`', '\n':
		return string(c)
	default:
		return `\` + string(c)
	}
}
