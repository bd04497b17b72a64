package process

import (
	"errors"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watcher tells when a file of a folder was replaced.
type watcher struct {
	file *os.File

	mu    sync.Mutex
	bells map[int32]chan struct{}
}

func newWatcher() (*watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return &watcher{file: os.NewFile(uintptr(fd), "inotify"), bells: map[int32]chan struct{}{}}, nil
}

// add returns a channel that holds a token after a file was renamed into dir.
func (w *watcher) add(dir string) (bell chan struct{}, remove func(), err error) {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	bell = make(chan struct{}, 1)
	var wd int
	ctlErr := raw.Control(func(fd uintptr) {
		w.mu.Lock()
		defer w.mu.Unlock()
		wd, err = unix.InotifyAddWatch(int(fd), dir, unix.IN_MOVED_TO|unix.IN_ONLYDIR)
		if err == nil {
			w.bells[int32(wd)] = bell
		}
	})
	if err := errors.Join(ctlErr, err); err != nil {
		return nil, nil, err
	}
	return bell, func() {
		_ = raw.Control(func(fd uintptr) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.bells[int32(wd)] == bell {
				delete(w.bells, int32(wd))
				_, _ = unix.InotifyRmWatch(int(fd), uint32(wd))
			}
		})
	}, nil
}

// run rings the bells until the watcher is closed.
func (w *watcher) run() {
	buf := make([]byte, 64<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		for off := 0; off+unix.SizeofInotifyEvent <= n; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&buf[off]))
			if bell, ok := w.bells[event.Wd]; ok {
				select {
				case bell <- struct{}{}:
				default:
				}
			}
			off += unix.SizeofInotifyEvent + int(event.Len)
		}
		w.mu.Unlock()
	}
}

func (w *watcher) close() error { return w.file.Close() }
