package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sandbox makes confined commands. The zero value re-executes the running binary.
type Sandbox struct {
	// Self is the binary whose "sandbox" verb is Main; empty is the running one.
	Self string
	// Force, when set, is used instead of probing.
	Force Mode

	once   sync.Once
	mode   Mode
	reason string
}

// request is what goes over file descriptor 3.
type request struct {
	Mode Mode `json:"mode"`
	Spec Spec `json:"spec"`
}

// Probe returns the mode that works on this machine, found by trying once, and for None the reason in one line.
func (s *Sandbox) Probe() (Mode, string) {
	s.once.Do(func() {
		if s.Force != "" {
			s.mode, s.reason = s.Force, "set by configuration"
			return
		}
		s.mode, s.reason = s.probe()
	})
	return s.mode, s.reason
}

func (s *Sandbox) probe() (Mode, string) {
	mode := Namespace
	if os.Geteuid() == 0 {
		mode = User
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	// The nobody user is enough to see whether the mounts and the change of user work.
	spec := Spec{
		Dir: "/", Argv: []string{"/proc/self/exe"}, UID: 65534, GID: 65534,
		PrivateTmp: true, Hide: []string{"/run"},
	}
	cmd, err := s.command(ctx, mode, spec)
	if err != nil {
		return None, err.Error()
	}
	cmd.Args = append(cmd.Args, "--probe")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return None, fmt.Sprintf("mode %s does not work here: %v: %s", mode, err, strings.TrimSpace(string(out)))
	}
	return mode, ""
}

// Command returns a command that runs spec confined in the mode that Probe found. The caller sets its standard streams and
// starts it; its process id is that of the app's process, or of its init when the process ids are its own. The context
// kills it.
func (s *Sandbox) Command(ctx context.Context, spec Spec) (*exec.Cmd, error) {
	mode, _ := s.Probe()
	return s.command(ctx, mode, spec)
}

func (s *Sandbox) command(ctx context.Context, mode Mode, spec Spec) (*exec.Cmd, error) {
	if len(spec.Argv) == 0 {
		return nil, errors.New("sandbox: no command given")
	}
	if mode == User && spec.UID == 0 {
		return nil, errors.New("sandbox: code of a repository never runs as root")
	}
	self := s.Self
	if self == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("sandbox: find own binary: %w", err)
		}
		self = exe
	}
	handover, err := memfile(request{Mode: mode, Spec: spec})
	if err != nil {
		return nil, fmt.Errorf("sandbox: hand over the command: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, "sandbox")
	cmd.Env = []string{"GOMAXPROCS=1", "GOGC=off"} // it lives for a moment; as init it only waits
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{handover}
	cmd.SysProcAttr = attributes(mode, spec)
	return cmd, nil
}

// attributes are the namespaces that must exist before the first instruction of the child runs.
func attributes(mode Mode, spec Spec) *syscall.SysProcAttr {
	// A session of its own, and so a process group: the kernel may share the processor out between sessions.
	attr := &syscall.SysProcAttr{Setsid: true}
	switch mode {
	case User:
		attr.Cloneflags = unix.CLONE_NEWNS
		if spec.OwnPIDs {
			attr.Cloneflags |= unix.CLONE_NEWPID | unix.CLONE_NEWIPC
		}
	case Namespace:
		uid, gid := os.Geteuid(), os.Getegid()
		attr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		// Mounting needs this right past the exec; Main gives it up again.
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	case None:
	}
	return attr
}

// memfile returns an anonymous file with v as JSON, positioned at its beginning.
func memfile(v any) (*os.File, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("belay-sandbox", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "belay-sandbox")
	if _, err := f.WriteAt(data, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
