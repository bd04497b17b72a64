package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/belay-cd/belay/internal/build/command"
	"github.com/belay-cd/belay/internal/build/glob"
	"github.com/belay-cd/belay/internal/domain"
)

// reports are the files that matched a report's pattern before the level began: those do not count unless they are
// written again.
type reports map[string]stamp

// stamp changes whenever a file is written; its change time cannot be set back as its modification time can.
type stamp struct {
	inode uint64
	size  int64
	ctime syscall.Timespec
}

func stampOf(info fs.FileInfo) stamp {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{size: info.Size()}
	}
	return stamp{st.Ino, st.Size, st.Ctim}
}

func look(root *os.Root, pattern string) (reports, error) {
	if pattern == "" {
		return reports{}, nil
	}
	names, err := glob.Find(root.FS(), pattern)
	if err != nil {
		return nil, err
	}
	seen := reports{}
	for _, name := range names {
		if info, err := root.Lstat(name); err == nil && info.Mode().IsRegular() {
			seen[name] = stampOf(info)
		}
	}
	return seen, nil
}

// read counts the files that match pattern and were written since.
func (before reports) read(root *os.Root, pattern string) (tally, bool, error) {
	var all tally
	now, err := look(root, pattern)
	if err != nil {
		return all, false, err
	}
	counted, stale := false, 0
	var faults []error
	names, err := glob.Find(root.FS(), pattern)
	if err != nil {
		return all, false, err
	}
	for _, name := range names {
		was, there := before[name]
		is, regular := now[name]
		if !regular {
			continue
		}
		if there && was == is {
			stale++
			continue
		}
		t, err := readReport(root, name)
		all.add(t)
		if err != nil {
			faults = append(faults, domain.Errorf(domain.Failed, "report %s: %w", name, err))
			continue
		}
		counted = true
	}
	switch {
	case len(faults) > 0:
		return all, counted, errors.Join(faults...)
	case !counted && stale > 0:
		return all, false, domain.Errorf(domain.Failed, "report %s matches only files from before: the level wrote none", pattern)
	case !counted:
		return all, false, domain.Errorf(domain.Failed, "report %s matches no file", pattern)
	}
	return all, true, nil
}

// readReport counts one file. Links are followed inside the app's folder only.
func readReport(root *os.Root, name string) (t tally, err error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return t, err
	}
	if !info.Mode().IsRegular() {
		return t, fmt.Errorf("it is not a file")
	}
	return parseJUnit(f)
}

// outcome is what one command and its report came to.
type outcome struct {
	t             tally
	counted       bool
	ended, report error  // how the command ended, and why its report does not count
	said          string // the last line that it wrote, as the end of a message
}

// execute runs one command of a level and reads its report.
func (s *Suite) execute(ctx context.Context, req Request, level Level, argv, env []string) (o outcome) {
	root, err := os.OpenRoot(req.Dir)
	if err != nil {
		o.ended = err
		return o
	}
	defer func() { _ = root.Close() }()
	before, err := look(root, level.Report)
	if err != nil {
		o.ended = fmt.Errorf("report %s: %w", level.Report, err)
		return o
	}
	s.speak(ctx, req, level, argv, env, &o)
	if level.Report != "" {
		o.t, o.counted, o.report = before.read(root, level.Report)
	}
	return o
}

// speak runs the command alone, with its output in the log, read as that of go test -json.
func (s *Suite) speak(ctx context.Context, req Request, level Level, argv, env []string, o *outcome) {
	log := req.Log
	if log == nil {
		log = io.Discard
	}
	said, complained := &lastLine{}, &lastLine{}
	log = &locked{w: log}
	stdout := NewGoTest(io.MultiWriter(log, said))
	o.ended = s.Runner.Run(ctx, command.Cmd{
		Dir: req.Dir, Argv: argv, Env: env, Stdout: stdout, Stderr: io.MultiWriter(log, complained), Purpose: level.Name, Timeout: level.Timeout,
	})
	o.counted = stdout.close()
	o.t = stdout.t
	o.said = first(complained.String(), said.String()) // what a command says of its end is on stderr
}

// locked lets two streams write to one log.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
