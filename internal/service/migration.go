package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/domain"
)

// format changes when templates must be made anew because they are made differently.
const format = "1"

// What is read of migrations at most.
const (
	maxFile  = 32 << 20 // bytes of one file
	maxTotal = 256 << 20
	maxFiles = 100_000
)

// Migrations are how a database gets its schema. The zero value leaves it empty.
type Migrations struct {
	// Tool is goose, sql, the name of another tool, or "" with Up.
	Tool string
	Up   string // command, one step or all of them
	// Status prints the level, if it is not "": then Up is repeated until it prints the same twice.
	Status   string
	Dir      string // of the migrations, relative to the app's folder; "": the tool's habit
	Variable string // that gets the URL of the database
	Timeout  time.Duration

	Folder string         // the app's folder in the checkout, where commands run
	Env    []string       // of commands
	Runner command.Runner // runs them, confined
	Log    io.Writer

	files []file
}

// file is one file that a template is made from.
type file struct {
	name string // in the app's folder
	mode fs.FileMode
	text []byte
	sum  [sha256.Size]byte
}

// habits are the folders of tools that are not told one.
var habits = map[string][]string{
	"goose": {"migrations", "db/migrations"}, "sql": {"migrations", "db/migrations", "sql"},
	"golang-migrate": {"migrations", "db/migrations"}, "atlas": {"migrations"}, "dbmate": {"db/migrations"},
	"flyway": {"sql", "src/main/resources/db/migration"}, "alembic": {"alembic", "migrations"}, "rails": {"db"},
}

// Read reads the files that decide what the schema becomes, once: what is remembered under their content is made from
// the same bytes. For the tools that are built in they are the migrations; for Django the folders called migrations; for
// other commands the folder of the migrations, or the whole checkout where there is none; for all commands also what
// pins the versions of libraries.
func (m Migrations) Read() (Migrations, error) {
	if m.Tool == "" && m.Up == "" {
		return m, nil
	}
	root, err := os.OpenRoot(m.Folder)
	if err != nil {
		return m, fmt.Errorf("migrations: %w", err)
	}
	defer root.Close()
	if m.Dir = path.Clean(m.Dir); m.Dir == "." {
		m.Dir = m.habit(func(dir string) bool {
			fi, err := root.Stat(dir)
			return err == nil && fi.IsDir()
		})
	}
	if m.Dir == "" && m.own() {
		return m, domain.Errorf(domain.Invalid, "migrations: %s finds no folder with migrations", m.Tool).WithHint("migrations: { dir: … } names it")
	}
	walk := m.Dir
	if walk == "" {
		walk = "."
	}
	if err := m.read(root, walk, m.wants); err != nil {
		return m, fmt.Errorf("migrations: %w", err)
	}
	if m.own() {
		return m, m.check()
	}
	if walk != "." {
		if err := m.read(root, ".", pinned); err != nil {
			return m, fmt.Errorf("migrations: %w", err)
		}
	}
	return m, nil
}

// Entry is one file of a commit.
type Entry struct {
	Name string // in the app's folder
	Hash string // of its content and mode
	Link bool   // its content is another file's
}

func (e Entry) file() file { return file{name: e.Name, sum: sha256.Sum256([]byte(e.Hash))} }

// Planned stands for Read where there is no checkout: the key is made from what the commit says of the same files. It is
// another key than that of the files read.
func (m Migrations) Planned(commit []Entry) Migrations {
	if m.Tool == "" && m.Up == "" {
		return m
	}
	if m.Dir = path.Clean(m.Dir); m.Dir == "." {
		m.Dir = m.habit(func(dir string) bool {
			return slices.ContainsFunc(commit, func(e Entry) bool { return strings.HasPrefix(e.Name, dir+"/") })
		})
	}
	links := false
	for _, e := range commit {
		inside := m.Dir == "" || strings.HasPrefix(e.Name, m.Dir+"/")
		if inside && m.wants(e.Name) || !m.own() && pinned(e.Name) {
			m.files = append(m.files, e.file())
			links = links || e.Link
		}
	}
	if links || len(m.files) == 0 { // what they are is somewhere else
		for _, e := range commit {
			m.files = append(m.files, e.file())
		}
	}
	return m
}

// own reports whether this package runs the migrations itself.
func (m Migrations) own() bool { return m.Tool == "goose" || m.Tool == "sql" }

func (m Migrations) habit(exists func(dir string) bool) string {
	for _, dir := range habits[m.Tool] {
		if exists(dir) {
			return dir
		}
	}
	return ""
}

// wants reports whether a file below the folder of the migrations decides what the schema becomes.
func (m Migrations) wants(name string) bool {
	switch m.Tool {
	case "goose", "sql":
		return path.Dir(name) == m.Dir && (path.Ext(name) == ".sql" || path.Ext(name) == ".go")
	case "django":
		return m.Dir != "" || slices.Contains(strings.Split(path.Dir(name), "/"), "migrations") ||
			strings.Contains(path.Base(name), "settings") || path.Base(name) == "manage.py" || pinned(name)
	default:
		return true
	}
}

// pins are the files at the top of an app that pin the versions of its libraries, or configure tools.
var pins = []string{
	"go.mod", "go.sum", "requirements*.txt", "pyproject.toml", "*.lock", "package.json", "package-lock.json",
	"pnpm-lock.yaml", "Gemfile", "pom.xml", "build.gradle*", "gradle.lockfile", "composer.json", "alembic.ini", "atlas.hcl",
	"flyway.*", ".tool-versions", ".python-version", ".ruby-version",
}

func pinned(name string) bool {
	return path.Dir(name) == "." && slices.ContainsFunc(pins, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return err == nil && ok
	})
}

// skipped are folders that installations fill.
var skipped = []string{".git", "node_modules", ".venv", "venv", "__pycache__", "target", "vendor"}

// read reads the files below dir that are wanted. Symbolic links that leave the app's folder are refused by the root.
func (m *Migrations) read(root *os.Root, dir string, wants func(string) bool) error {
	total := 0
	return fs.WalkDir(root.FS(), dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != dir && slices.Contains(skipped, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !wants(name) || slices.ContainsFunc(m.files, func(f file) bool { return f.name == name }) {
			return nil
		}
		f, err := m.open(root, name)
		if errors.Is(err, errNotAFile) {
			return nil
		}
		if err != nil {
			return err
		}
		m.files = append(m.files, f)
		if total += len(f.text); total > maxTotal || len(m.files) > maxFiles {
			return fmt.Errorf("%s holds more than %d MiB or %d files", dir, maxTotal>>20, maxFiles)
		}
		return nil
	})
}

var errNotAFile = errors.New("not a file")

func (m *Migrations) open(root *os.Root, name string) (file, error) {
	in, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return file{}, err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return file{}, err
	}
	if !fi.Mode().IsRegular() {
		return file{}, errNotAFile
	}
	sum := sha256.New()
	f := file{name: name, mode: fi.Mode().Perm() & 0o111}
	if !m.own() {
		_, err = io.Copy(sum, in)
	} else {
		f.text, err = io.ReadAll(io.LimitReader(in, maxFile+1))
		_, _ = sum.Write(f.text)
		if err == nil && len(f.text) > maxFile {
			err = fmt.Errorf("%s: more than %d MiB", name, maxFile>>20)
		}
	}
	f.sum = [sha256.Size]byte(sum.Sum(nil))
	return f, err
}

// Key names the content of the migrations on a major version of PostgreSQL: 24 hexadecimal digits.
func (m Migrations) Key(major int) string {
	sum := sha256.New()
	for _, part := range []string{format, strconv.Itoa(major), strings.Join(settings, " "), m.Tool, m.Up, m.Status, m.Dir, m.Variable} {
		_, _ = fmt.Fprintf(sum, "%d:%s\n", len(part), part)
	}
	if m.Tool == "goose" {
		_, _ = fmt.Fprintln(sum, gooseVersion())
	}
	if !m.own() {
		for _, kv := range m.Env {
			_, _ = fmt.Fprintf(sum, "env %d:%s\n", len(kv), kv)
		}
	}
	for _, f := range m.files {
		_, _ = fmt.Fprintf(sum, "file %d:%s %o %x\n", len(f.name), f.name, f.mode, f.sum)
	}
	return hex.EncodeToString(sum.Sum(nil))[:24]
}

// gooseVersion is that of the library in this binary.
func gooseVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, dep := range info.Deps {
		if dep.Path == "github.com/pressly/goose/v3" {
			return dep.Version
		}
	}
	return ""
}

// apply runs the migrations in a database that is empty.
func (m Migrations) apply(ctx context.Context, d *Database) error {
	if m.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, m.Timeout, fmt.Errorf("migrations took longer than %s", m.Timeout))
		defer cancel()
	}
	var err error
	switch {
	case m.Tool == "" && m.Up == "":
		return nil
	case m.Tool == "goose":
		err = m.goose(ctx, d)
	case m.Tool == "sql":
		err = m.sql(ctx, d)
	default:
		err = m.commands(ctx, d)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return nil
}
