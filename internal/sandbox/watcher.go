package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxOutside is how many addresses are named.
const maxOutside = 20

// Watcher sees where a command, and all that it starts, connects to.
type Watcher struct {
	socket   int
	inside   []string        // folders whose sockets are the command's own
	before   map[string]bool // "tcp 5432", "udp 53", "@name": what listened before the command began
	own      func(port uint16) bool
	ownPath  func(dir string) bool
	done     chan struct{}
	ended    chan struct{}
	seen     bool // the kernel asked here
	blind    bool // something could not be seen
	outside  []string
	listener int
}

func watch(socket int, spec Spec) *Watcher {
	w := &Watcher{socket: socket, done: make(chan struct{}), ended: make(chan struct{}), listener: -1, before: listening()}
	if spec.PrivateTmp {
		w.inside = append(w.inside, "/tmp", "/var/tmp", "/dev/shm")
	}
	for _, b := range spec.Bind {
		if !b.ReadOnly {
			w.inside = append(w.inside, b.To)
		}
	}
	w.Own(nil)
	go w.serve()
	return w
}

var portInValue = regexp.MustCompile(`(?:^|:)([0-9]{2,5})(?:[^0-9]|$)`)

// Own says which addresses belong to the command although they were there before it: those that the values of these
// variables (NAME=value) name. It must be called before the command starts.
func (w *Watcher) Own(env []string) {
	ports, text := map[uint16]bool{}, ""
	for _, pair := range env {
		_, value, _ := strings.Cut(pair, "=")
		if plain, err := url.PathUnescape(value); err == nil {
			value = plain
		}
		text += "\n" + value
		for _, found := range portInValue.FindAllStringSubmatch(value, -1) {
			if n, err := strconv.ParseUint(found[1], 10, 16); err == nil {
				ports[uint16(n)] = true
			}
		}
	}
	w.own = func(port uint16) bool { return ports[port] }
	w.ownPath = func(dir string) bool { return strings.Contains(text, dir) }
}

// Wait ends the watch. Known is false when something could not be seen; outside are the addresses that are neither the
// command's own nor were opened by it, at most 20.
func (w *Watcher) Wait() (known bool, outside []string) {
	close(w.done)
	<-w.ended
	return w.seen && !w.blind, w.outside
}

func (w *Watcher) serve() {
	defer close(w.ended)
	defer func() { _ = unix.Close(w.socket) }()
	if w.listener = w.receive(); w.listener < 0 {
		return
	}
	w.seen = true
	defer func() { _ = unix.Close(w.listener) }()
	for {
		ready, gone := w.poll(w.listener)
		if ready {
			w.answer()
		}
		if gone || !ready && w.over() {
			return
		}
	}
}

func (w *Watcher) over() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// poll waits a moment. What is gone can still be ready: then that comes first.
func (w *Watcher) poll(fd int) (ready, gone bool) {
	list := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}} //nolint:gosec // a descriptor
	n, err := unix.Poll(list, int((50 * time.Millisecond).Milliseconds()))
	if err != nil || n == 0 {
		return false, err != nil && !errors.Is(err, unix.EINTR)
	}
	ready = list[0].Revents&unix.POLLIN != 0
	return ready, !ready
}

// receive takes the kernel's end from the child; -1 when none comes.
func (w *Watcher) receive() int {
	for {
		ready, gone := w.poll(w.socket)
		if !ready && (gone || w.over()) {
			return -1
		}
		if !ready {
			continue
		}
		oob := make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := unix.Recvmsg(w.socket, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
		if err != nil || n == 0 {
			return -1
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil || len(messages) == 0 {
			return -1
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil || len(fds) == 0 {
			return -1
		}
		return fds[0]
	}
}

// question and reply are seccomp_notif and seccomp_notif_resp.
type question struct {
	ID           uint64
	PID, Flags   uint32
	Number       int32
	Architecture uint32
	Instruction  uint64
	Args         [6]uint64
}

type reply struct {
	ID    uint64
	Value int64
	Error int32
	Flags uint32
}

const (
	notifyReceive  = 0xc0502100
	notifySend     = 0xc0182101
	notifyContinue = 1
)

func (w *Watcher) answer() {
	var q question
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(w.listener), notifyReceive, uintptr(unsafe.Pointer(&q))); errno != 0 { //nolint:gosec // the kernel fills it
		return // whoever asked has died
	}
	w.look(q)
	r := reply{ID: q.ID, Flags: notifyContinue}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(w.listener), notifySend, uintptr(unsafe.Pointer(&r))) //nolint:gosec // the kernel reads it
}

func (w *Watcher) look(q question) {
	arch, _ := nativeArch()
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", q.PID))
	if err != nil || q.Architecture != arch || q.Number == unix.SYS_IO_URING_SETUP {
		w.blind = true
		if err == nil {
			_ = memory.Close()
		}
		return
	}
	defer func() { _ = memory.Close() }()
	switch q.Number {
	case unix.SYS_CONNECT:
		w.address(q.PID, memory, q.Args[1], q.Args[2])
	case unix.SYS_SENDTO:
		w.address(q.PID, memory, q.Args[4], q.Args[5])
	case unix.SYS_SENDMSG:
		w.message(q.PID, memory, q.Args[1])
	case unix.SYS_SENDMMSG:
		for i := range min(q.Args[2], 64) {
			w.message(q.PID, memory, q.Args[1]+i*64)
		}
	}
}

// message looks at the address of a msghdr.
func (w *Watcher) message(pid uint32, memory *os.File, at uint64) {
	var head [12]byte
	if _, err := memory.ReadAt(head[:], int64(at)); err != nil { //nolint:gosec // an address
		w.blind = true
		return
	}
	if name := binary.NativeEndian.Uint64(head[:8]); name != 0 {
		w.address(pid, memory, name, uint64(binary.NativeEndian.Uint32(head[8:])))
	}
}

func (w *Watcher) address(pid uint32, memory *os.File, at, size uint64) {
	raw := make([]byte, min(size, 128))
	if _, err := memory.ReadAt(raw, int64(at)); err != nil || len(raw) < 2 { //nolint:gosec // an address
		w.blind = w.blind || size >= 2
		return
	}
	switch family := binary.NativeEndian.Uint16(raw); {
	case family == unix.AF_INET && len(raw) >= 8:
		ip, _ := netip.AddrFromSlice(raw[4:8])
		w.internet(netip.AddrPortFrom(ip, binary.BigEndian.Uint16(raw[2:])))
	case family == unix.AF_INET6 && len(raw) >= 24:
		ip, _ := netip.AddrFromSlice(raw[8:24])
		w.internet(netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(raw[2:])))
	case family == unix.AF_UNIX:
		w.local(pid, raw[2:])
	case family == unix.AF_UNSPEC, family == unix.AF_NETLINK, family == unix.AF_ALG:
		// It takes a connection back, or asks the kernel about this machine.
	default:
		w.found(fmt.Sprintf("an address of family %d", family))
	}
}

// internet judges an address of the internet protocols. The machine's own counts as outside when it belongs to something
// that ran before: what that answers is in no hash.
func (w *Watcher) internet(to netip.AddrPort) {
	if !to.Addr().IsLoopback() && !to.Addr().IsUnspecified() {
		w.found(to.String())
		return
	}
	port := strconv.Itoa(int(to.Port()))
	if to.Port() == 53 || (w.before["tcp "+port] || w.before["udp "+port]) && !w.own(to.Port()) {
		w.found(to.String())
	}
}

// harmless are sockets that C libraries ask for the names of users, and that take log lines.
var harmless = []string{"/run/nscd/socket", "/var/run/nscd/socket", "/dev/log", "/run/systemd/userdb", "/run/systemd/journal"}

func (w *Watcher) local(pid uint32, raw []byte) {
	if len(raw) == 0 {
		return
	}
	if raw[0] == 0 {
		if name := "@" + strings.TrimRight(string(raw[1:]), "\x00"); w.before[name] {
			w.found("unix " + name)
		}
		return
	}
	name, _, _ := strings.Cut(string(raw), "\x00")
	if !filepath.IsAbs(name) {
		return // beside the command: in the checkout
	}
	name = filepath.Clean(name)
	within := func(dir string) bool { _, ok := below(dir, name); return ok }
	if slices.ContainsFunc(w.inside, within) || slices.ContainsFunc(harmless, within) || w.ownPath(filepath.Dir(name)) {
		return
	}
	if _, err := os.Lstat(fmt.Sprintf("/proc/%d/root%s", pid, name)); errors.Is(err, os.ErrNotExist) {
		return // nobody is there
	}
	w.found("unix " + name)
}

func (w *Watcher) found(to string) {
	if len(w.outside) < maxOutside && !slices.Contains(w.outside, to) {
		w.outside = append(w.outside, to)
	}
}

// listening lists what can be connected to on this machine right now.
func listening() map[string]bool {
	found := map[string]bool{}
	for file, state := range map[string]string{"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"} {
		for _, f := range procTable("/proc/net/" + file) {
			_, hex, ok := strings.Cut(f[1], ":")
			if port, err := strconv.ParseUint(hex, 16, 16); ok && err == nil && f[3] == state {
				found[strings.TrimSuffix(file, "6")+" "+strconv.FormatUint(port, 10)] = true
			}
		}
	}
	for _, f := range procTable("/proc/net/unix") {
		if len(f) > 7 && strings.HasPrefix(f[7], "@") {
			found[f[7]] = true
		}
	}
	return found
}

func procTable(name string) [][]string {
	body, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	var table [][]string
	for i, line := range strings.Split(string(body), "\n") {
		if f := strings.Fields(line); i > 0 && len(f) > 3 {
			table = append(table, f)
		}
	}
	return table
}
