package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Proc names one process for good: a process id alone may have been given away again.
type Proc struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, from /proc/PID/stat
	Boot  string `json:"boot"`  // id of that boot
}

var bootID = sync.OnceValue(func() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(id))
})

// Identify returns the name of the running process pid, or an error when there is none or only its zombie is left.
func Identify(pid int) (Proc, error) {
	p, ended, err := look(pid)
	if err == nil && ended {
		return Proc{}, fmt.Errorf("process %d: it has ended", pid)
	}
	return p, err
}

// look names process pid and says whether it has ended and only waits to be collected.
func look(pid int) (p Proc, ended bool, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Proc{}, false, err
	}
	fields, err := statFields(stat)
	if err != nil {
		return Proc{}, false, fmt.Errorf("process %d: %w", pid, err)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return Proc{}, false, fmt.Errorf("process %d: %w", pid, err)
	}
	return Proc{PID: pid, Start: start, Boot: bootID()}, fields[0] == "Z" || fields[0] == "X", nil
}

// statFields returns the fields of /proc/PID/stat from the third on. The second, the name, may hold blanks and brackets.
func statFields(stat []byte) ([]string, error) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return nil, errors.New("stat cannot be read")
	}
	fields := strings.Fields(string(stat[i+1:]))
	if len(fields) < 20 {
		return nil, errors.New("stat is too short")
	}
	return fields, nil
}

// Alive reports whether this very process runs.
func (p Proc) Alive() bool {
	if p.PID <= 0 {
		return false
	}
	now, err := Identify(p.PID)
	return err == nil && now == p
}

// open returns a descriptor of this very process, whether or not it is a child.
func (p Proc) open() (int, error) {
	if p.PID <= 0 {
		return -1, unix.ESRCH
	}
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return -1, err
	}
	// From here on the descriptor holds the id: what is true now stays true.
	if now, _, err := look(p.PID); err != nil || now != p {
		return -1, errors.Join(unix.ESRCH, unix.Close(fd))
	}
	return fd, nil
}

// Signal sends sig to this very process; one that has ended is no error.
func (p Proc) Signal(sig unix.Signal) error {
	fd, err := p.open()
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // a process descriptor
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// Group sends sig to the process group that p leads, and to p itself.
func (p Proc) Group(sig unix.Signal) error {
	if p.Alive() {
		if err := unix.Kill(-p.PID, sig); err == nil || !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return p.Signal(sig)
}

// Wait returns when the process has ended, or with the context's error. It needs not be a child; a child is collected.
func (p Proc) Wait(ctx context.Context) error {
	fd, err := p.open()
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer func() {
		if stop() {
			_ = f.Close()
		}
	}()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		if n > 0 {
			_ = unix.Waitid(unix.P_PIDFD, int(fd), nil, unix.WEXITED|unix.WNOHANG, nil)
		}
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
