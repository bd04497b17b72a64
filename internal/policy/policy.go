package policy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Policy is the policy file as it was last right. It is read again when it changes.
type Policy struct {
	path     string
	optional bool // nothing is demanded while it is not there

	mu    sync.Mutex
	set   set
	seen  stamp
	wrong error
}

// stamp tells one state of the file from another.
type stamp struct {
	there   bool
	changed time.Time
	size    int64
	inode   uint64
	owner   uint32
	mode    fs.FileMode
}

// Open reads a policy file. Optional: it need not be there. A file that others may write, or that is wrong, is an error: a
// server does not start with less than its administrator asked for.
func Open(path string, optional bool) (*Policy, error) {
	p := &Policy{path: path, optional: optional}
	set, seen, err := p.read()
	if err != nil {
		return nil, err
	}
	p.set, p.seen = set, seen
	return p, nil
}

// Floors returns what is demanded of an app.
func (p *Policy) Floors(app string) domain.Floors {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set.floors(app)
}

// Person returns whom a user name, a full name or an address belongs to; "" when the file does not say.
func (p *Policy) Person(identity string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set.persons[strings.ToLower(identity)]
}

// Text is the policy in one line, and what is wrong with its file; "" when there is none.
func (p *Policy) Text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.wrong != nil:
		return p.path + ": the last right one holds: " + p.wrong.Error()
	case !p.seen.there:
		return ""
	default:
		return p.path + ": " + p.set.summary()
	}
}

// Refresh reads the file again when it has changed. A wrong one changes nothing but Text; the error is told once for each
// state of the file.
func (p *Policy) Refresh() (changed bool, err error) {
	now, err := stat(p.path)
	p.mu.Lock()
	same := err == nil && now == p.seen && p.wrong == nil
	p.mu.Unlock()
	if same {
		return false, nil
	}
	set, seen, err := p.read()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		told := p.wrong != nil && p.wrong.Error() == err.Error()
		p.wrong = err
		if told {
			return false, nil
		}
		return false, err
	}
	p.set, p.seen, p.wrong = set, seen, nil
	return true, nil
}

// Watch refreshes until ctx ends, and tells each change and each fault.
func (p *Policy) Watch(ctx context.Context, every time.Duration, tell func(text string, err error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	last, _ := stat(p.path)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if now, err := stat(p.path); err == nil && now != last { // somebody writes it: it counts when it lies still
			last = now
			continue
		}
		if changed, err := p.Refresh(); changed || err != nil {
			tell(p.Text(), err)
		}
	}
}

func stat(path string) (stamp, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{}, nil
	}
	if err != nil {
		return stamp{}, err
	}
	return stampOf(info), nil
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{there: true, changed: info.ModTime(), size: info.Size(), mode: info.Mode()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode, s.owner = sys.Ino, sys.Uid
	}
	return s
}

// read opens the file once, so that what was checked is what is read.
func (p *Policy) read() (set, stamp, error) {
	f, err := os.Open(p.path)
	if errors.Is(err, fs.ErrNotExist) && p.optional && !p.there() {
		return set{}, stamp{}, nil
	}
	if err != nil {
		return set{}, stamp{}, domain.Errorf(domain.Invalid, "the policy cannot be read: %w", err).WithHint("--policy names it")
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return set{}, stamp{}, err
	}
	if err := safe(p.path, info); err != nil {
		return set{}, stamp{}, err
	}
	if info.Size() > maxBytes {
		return set{}, stamp{}, domain.Errorf(domain.Invalid, "%s is larger than %d bytes", p.path, maxBytes)
	}
	text := make([]byte, info.Size())
	if n, err := f.ReadAt(text, 0); err != nil && n < len(text) {
		return set{}, stamp{}, err
	}
	got, err := parse(p.path, text)
	return got, stampOf(info), err
}

// there reports whether the file was seen: then its absence is a fault, and no end of its floors.
func (p *Policy) there() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.there
}

// maxBytes is the largest policy file.
const maxBytes = 256 << 10

// safe refuses a file that anybody but root and the server's own user may change.
func safe(path string, info fs.FileInfo) error {
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() {
		return domain.Errorf(domain.Invalid, "the policy %s is no ordinary file", path)
	}
	if sys.Uid != 0 && int(sys.Uid) != os.Geteuid() {
		return domain.Errorf(domain.Invalid, "the policy %s belongs to another user, who could change it", path).WithHint("chown root %s", path)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return domain.Errorf(domain.Invalid, "the policy %s may be written by others", path).WithHint("chmod go-w %s", path)
	}
	folder := filepath.Dir(path)
	around, err := os.Stat(folder)
	if err == nil && around.Mode().Perm()&0o022 != 0 && around.Mode()&fs.ModeSticky == 0 {
		return domain.Errorf(domain.Invalid, "the policy %s may be replaced by others, who may write its folder", path).WithHint("chmod go-w %s", folder)
	}
	return err
}
