package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watched is Command for a command whose connections are to be seen: the kernel asks before every connect, and goes on.
// Nothing is refused and nothing is slowed down but the connects themselves. The watcher's Wait must be called when the
// command has ended, or was not started.
func (s *Sandbox) Watched(ctx context.Context, spec Spec) (*exec.Cmd, *Watcher, error) {
	spec.Watch = true
	cmd, err := s.Command(ctx, spec)
	if err != nil {
		return nil, nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("sandbox: make a socket pair: %w", err)
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(pair[1]), "belay-watch"))
	return cmd, watch(pair[0], spec), nil
}

// watchSocket is the descriptor over which the child hands the kernel's questions to the daemon.
const watchSocket = 4

// The system calls that reach out, and what the kernel is told about them.
const (
	retAllow  = 0x7fff0000
	retNotify = 0x7fc00000

	i386Socketcall = 102
	i386Connect    = 362
)

// filter asks about connect, about messages to an address, and about ways around both.
func filter(arch uint32) []unix.SockFilter {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	equal := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	end := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	const number, architecture, arg4 = 0, 4, 16 + 4*8
	return []unix.SockFilter{
		load(architecture),
		equal(arch, 0, 10),
		load(number),
		equal(unix.SYS_CONNECT, 12, 0),
		equal(unix.SYS_SENDMSG, 11, 0),
		equal(unix.SYS_SENDMMSG, 10, 0),
		equal(unix.SYS_IO_URING_SETUP, 9, 0),
		equal(unix.SYS_SENDTO, 0, 7),
		load(arg4), // the address; none on a connection that is there already
		equal(0, 0, 6),
		load(arg4 + 4),
		equal(0, 3, 4),
		load(number), // a program of another architecture
		equal(i386Socketcall, 2, 0),
		equal(i386Connect, 1, 0),
		end(retAllow),
		end(retNotify),
	}
}

func nativeArch() (uint32, bool) {
	switch runtime.GOARCH {
	case "amd64":
		return unix.AUDIT_ARCH_X86_64, true
	case "arm64":
		return unix.AUDIT_ARCH_AARCH64, true
	}
	return 0, false
}

// surrender installs the filter for this thread and for all that it executes, and sends the kernel's end to the daemon.
// Where that does not work the daemon learns that it sees nothing; the command runs all the same.
func surrender() {
	arch, ok := nativeArch()
	if !ok {
		return
	}
	listener, ready := make(chan int), make(chan struct{})
	sent := make(chan struct{})
	go func() { // on another thread: this one's messages are asked about as soon as the filter is there
		runtime.LockOSThread()
		close(ready)
		if fd := <-listener; fd >= 0 {
			_ = unix.Sendmsg(watchSocket, []byte{1}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
			_ = unix.Close(fd)
		}
		close(sent)
	}()
	<-ready
	listener <- install(arch)
	<-sent
}

func install(arch uint32) int {
	code := filter(arch)
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER,
		uintptr(unsafe.Pointer(&program))) //nolint:gosec // the kernel reads a struct
	if errno != 0 {
		return -1
	}
	return int(fd)
}
