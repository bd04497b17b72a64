package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// firstFD is where inherited sockets begin, as systemd hands them over.
const firstFD = 3

// The names of what a worker inherits.
const (
	nameControl = "control"
	nameHTTP    = "http"
	nameHTTPS   = "https"
	nameGo      = "go"     // a byte says: serve now; its end says that the holder is gone
	nameStatus  = "status" // where the worker says how far it is
)

// socket is one inherited file with its name.
type socket struct {
	name string
	file *os.File
}

// inherited returns the files that LISTEN_FDS hands to this process, and removes the variables, so that no child takes
// them for its own.
func inherited() ([]socket, error) {
	count, pid, names := os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDNAMES")
	for _, v := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(v); err != nil {
			return nil, err
		}
	}
	if count == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > 64 {
		return nil, fmt.Errorf("LISTEN_FDS=%s is no number of files", count)
	}
	list := make([]socket, n)
	named := strings.Split(names, ":")
	for i := range list {
		fd := firstFD + i
		syscall.CloseOnExec(fd)
		list[i].file = os.NewFile(uintptr(fd), "inherited")
		if i < len(named) {
			list[i].name = named[i]
		}
	}
	return list, nil
}

// nameOf guesses the name of an inherited socket that has none of ours.
func nameOf(s socket) string {
	switch s.name {
	case nameControl, nameHTTP, nameHTTPS:
		return s.name
	}
	ln, err := net.FileListener(s.file)
	if err != nil {
		return s.name
	}
	defer ln.Close()
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
		if tcp.Port == 443 || tcp.Port == 8443 {
			return nameHTTPS
		}
		return nameHTTP
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return nameControl
}

// openSockets returns the sockets to hold: the inherited ones, and those that the options name beside them. The lock
// keeps a second holder from the same control socket; it ends with the process.
func openSockets(o options) (list []socket, lock *os.File, err error) {
	if lock, err = lockFile(o.socket + ".lock"); err != nil {
		return nil, nil, err
	}
	given, err := inherited()
	if err != nil {
		return nil, nil, err
	}
	have := map[string]bool{}
	for _, s := range given {
		s.name = nameOf(s)
		have[s.name] = true
		list = append(list, s)
	}
	if !have[nameControl] {
		f, err := listenControl(o.socket)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, socket{nameControl, f})
	}
	for name, addrs := range map[string]string{nameHTTP: o.http, nameHTTPS: o.https} {
		if have[name] || addrs == "" {
			continue
		}
		for addr := range strings.SplitSeq(addrs, ",") {
			f, err := listenTCP(strings.TrimSpace(addr))
			if err != nil {
				return nil, nil, err
			}
			list = append(list, socket{name, f})
		}
	}
	return list, lock, nil
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: another proxy holds it: %w", path, err)
	}
	return f, nil
}

func listenControl(path string) (*os.File, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	old := syscall.Umask(0o177)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	syscall.Umask(old)
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false)
	defer ln.Close()
	return ln.File()
}

func listenTCP(addr string) (*os.File, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	ln, err := net.ListenTCP("tcp", a)
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	return ln.File()
}

// listenersOf turns the inherited files of a name into listeners.
func listenersOf(list []socket, name string) ([]net.Listener, error) {
	var out []net.Listener
	for _, s := range list {
		if s.name != name {
			continue
		}
		ln, err := net.FileListener(s.file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if u, ok := ln.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		_ = s.file.Close() // the listener has its own copy
		out = append(out, ln)
	}
	return out, nil
}

func fileOf(list []socket, name string) *os.File {
	for _, s := range list {
		if s.name == name {
			return s.file
		}
	}
	return nil
}
