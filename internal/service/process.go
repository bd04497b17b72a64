package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/sandbox"
)

// keeper starts a server and ends it when the pipe on standard input closes: when the daemon asks for it, or is gone.
const keeper = `exec 3<&0
"$@" </dev/null 3<&- &
child=$!
{ read -r _ <&3; kill -"$0" $child; sleep 5; kill -KILL $child; } >/dev/null 2>&1 &
wait $child`

// endWithin is how long a server has to end once its pipe is closed, before the kernel ends it and all that it started.
const endWithin = 8 * time.Second

// lockWithin is how long to wait for the end of a server that an earlier daemon left: its keeper gives it five seconds.
const lockWithin = 15 * time.Second

// process is one running server.
type process struct {
	cmd   *exec.Cmd
	log   string
	alive io.Closer     // the daemon's end of the pipe
	done  chan struct{} // closed when everything of it has ended
}

// spec is a confined command with the rights of the server that lives in h.
func (m *Manager) spec(h home, memory int64, argv ...string) (sandbox.Spec, error) {
	hide, binds := sandbox.Walls(m.cfg.Data, m.cfg.Home, m.cfg.Path)
	binds = append(binds, sandbox.Bind{From: h.inside, To: h.inside})
	names, err := h.names()
	if err != nil {
		return sandbox.Spec{}, err
	}
	return sandbox.Spec{
		Dir: h.inside, Argv: argv, UID: h.account.UID, GID: h.account.GID,
		Env:  []string{"PATH=" + m.cfg.Path, "HOME=" + h.inside, "LANG=C.UTF-8", "TMPDIR=/tmp"},
		Hide: hide, Bind: append(binds, names...), PrivateTmp: true, OwnPIDs: true,
		OOMScoreAdj: sandbox.WorkshopOOM, Weight: sandbox.Lowest, Memory: memory, Cgroups: m.cfg.Cgroups,
		Rlimits: []sandbox.Rlimit{{Resource: unix.RLIMIT_CORE}},
	}, nil
}

// names gives an account that is a bare number a name inside, without which PostgreSQL does not start.
func (h home) names() ([]sandbox.Bind, error) {
	if _, err := user.LookupId(strconv.Itoa(h.account.UID)); err == nil {
		return nil, nil
	}
	path := filepath.Join(h.dir, "passwd")
	line := fmt.Sprintf("belay-test:x:%d:%d::/nonexistent:/usr/sbin/nologin\n", h.account.UID, h.account.GID)
	//nolint:gosec // every process may read /etc/passwd
	return []sandbox.Bind{{From: path, To: "/etc/passwd", ReadOnly: true}}, os.WriteFile(path, []byte(line), 0o644)
}

// run runs a command of the server's programs to its end, and returns what it said.
func (m *Manager) run(ctx context.Context, h home, argv ...string) (string, error) {
	spec, err := m.spec(h, 0, argv...)
	if err != nil {
		return "", err
	}
	cmd, err := m.cfg.Sandbox.Command(ctx, spec)
	if err != nil {
		return "", err
	}
	defer closeAll(cmd.ExtraFiles)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	return said.String(), err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// program is a server with its arguments, how many bytes of memory it may use, and the signal that ends it.
type program struct {
	argv   []string
	memory int64
	end    string
}

// launch starts a server. It holds the lock of its log for as long as anything of it lives: where two daemons follow one
// another, the second waits for the end of what the first had started.
func (m *Manager) launch(ctx context.Context, h home, run program) (*process, error) {
	spec, err := m.spec(h, run.memory, append([]string{"sh", "-c", keeper, run.end}, run.argv...)...)
	if err != nil {
		return nil, err
	}
	log, err := lockedLog(ctx, filepath.Join(h.dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd, err := m.cfg.Sandbox.Command(context.WithoutCancel(ctx), spec)
	if err != nil {
		return nil, err
	}
	defer closeAll(cmd.ExtraFiles)
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, log, log
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	p := &process{cmd: cmd, log: log.Name(), alive: ours, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		_ = ours.Close()
		close(p.done)
	}()
	return p, nil
}

// lockedLog opens a server's log, emptied, once no other server writes to it.
func lockedLog(ctx context.Context, path string) (*os.File, error) {
	log, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockWithin)
	defer cancel()
	for {
		err = unix.Flock(int(log.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return log, log.Truncate(0)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, log.Close())
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%s: the server of an earlier daemon still runs", filepath.Dir(path)), log.Close())
		}
	}
}

// running reports whether it has not ended.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stop ends it: as it likes to end, then at once.
func (p *process) stop(ctx context.Context) error {
	_ = p.alive.Close()
	ctx, cancel := context.WithTimeout(ctx, endWithin)
	defer cancel()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	return p.kill()
}

// kill ends it and all that it started, now.
func (p *process) kill() error {
	// It leads a session of its own. Where it has process ids of its own they all end with it.
	err := unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
	<-p.done
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// lastLines is how many lines of a log are shown.
const lastLines = 5

// said returns the last lines of its log, in one line.
func (p *process) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	return lastOf(string(text))
}

// lastOf returns the last lines of a text that are not empty, in one line.
func lastOf(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-lastLines):], " | ")
}

// freePort returns a port of the loopback interface on which nobody listens.
func freePort(ctx context.Context) (int, error) {
	l, err := listen(ctx)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	_, port, ok := strings.Cut(l.Addr().String(), ":")
	if !ok {
		return 0, fmt.Errorf("no port in %s", l.Addr())
	}
	return strconv.Atoi(port)
}
