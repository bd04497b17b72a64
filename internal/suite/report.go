package suite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

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
