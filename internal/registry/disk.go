package registry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/domain"
)

// Guard refuses to take need bytes in when less than the store's MinFree would stay free.
func (s *Store) Guard(need uint64) error {
	if s.opt.MinFree == 0 && need == 0 {
		return nil
	}
	return Guard(s.dir, need, s.opt.MinFree)
}

// Guard refuses work that needs so many bytes on the disk of path that less than keep bytes stay free. The error is
// domain.Refused and says the numbers.
func Guard(path string, need, keep uint64) error {
	free, total, err := Free(path)
	if err != nil {
		return err
	}
	if free >= need && free-need >= keep {
		return nil
	}
	return domain.Errorf(domain.Refused, "the disk of %s is too full: %s of %s free, %s needed and %s kept free",
		path, Size(free), Size(total), Size(need), Size(keep)).
		WithHint("free space or enlarge the disk; what runs is not touched, a rollback still works")
}

// Free returns the bytes that are free for an ordinary user on the disk of path, and the disk's size.
func Free(path string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", path, err)
	}
	block := uint64(st.Bsize)
	return st.Bavail * block, st.Blocks * block, nil
}

// Size writes a number of bytes as people read it.
func Size(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}

// Ballast makes a file of size bytes that really takes up the disk, to be given back by FreeBallast when the disk is full
// and a rollback must write. One that is there in full is left alone.
func Ballast(path string, size int64) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = os.Remove(path) // half a ballast only takes space
		}
	}()
	if info, err := f.Stat(); err != nil {
		return err
	} else if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Size() == size && st.Blocks*512 >= size {
		return nil
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		_, err = io.CopyN(f, zeros{}, size)
	}
	if err != nil {
		return fmt.Errorf("ballast of %s: %w", Size(uint64(size)), err)
	}
	return f.Sync()
}

// FreeBallast gives the ballast back and reports how many bytes it held; 0 when there was none.
func FreeBallast(path string) (int64, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), os.Remove(path)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
