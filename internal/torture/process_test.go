package torture

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/supervise"
)

// children are the processes that this one waits for itself. Whatever else dies beneath it comes to it as an orphan, and
// is collected by reap.
var children struct {
	sync.Mutex
	pids map[int]bool
}

// adoptOrphans makes this process the parent of every descendant whose parent dies: what outlives the daemon on purpose
// is still known here.
func adoptOrphans() error {
	children.pids = map[int]bool{}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	go func() {
		for range time.Tick(250 * time.Millisecond) {
			reap()
		}
	}()
	return nil
}

// reap collects ended orphans, as init would.
func reap() {
	children.Lock()
	defer children.Unlock()
	for _, p := range processes() {
		if p.parent == os.Getpid() && p.zombie && !children.pids[p.pid] {
			_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
		}
	}
}

// startChild starts a command that its caller waits for.
func startChild(cmd *exec.Cmd) error {
	children.Lock()
	defer children.Unlock()
	err := cmd.Start()
	if err == nil {
		children.pids[cmd.Process.Pid] = true
	}
	return err
}

// waitChild waits for a started child.
func waitChild(cmd *exec.Cmd) error {
	err := cmd.Wait()
	children.Lock()
	defer children.Unlock()
	delete(children.pids, cmd.Process.Pid)
	return err
}

// runChild runs a command to its end and returns what it printed.
func runChild(cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = time.Second
	}
	if err := startChild(cmd); err != nil {
		return "", err
	}
	err := waitChild(cmd)
	return out.String(), err
}

type process struct {
	pid, parent int
	zombie      bool
	what        string
}

func (p process) String() string { return fmt.Sprintf("%d %s", p.pid, p.what) }

// processes lists all of /proc.
func processes() []process {
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	var all []process
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // it ended meanwhile
		}
		end := bytes.LastIndexByte(data, ')')
		fields := strings.Fields(string(data[end+1:]))
		if end < 0 || len(fields) < 2 {
			continue
		}
		p := process{zombie: fields[0] == "Z" || fields[0] == "X"}
		p.pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(name)))
		p.parent, _ = strconv.Atoi(fields[1])
		all = append(all, p)
	}
	return all
}

// descendants lists the living processes beneath this one, parents first.
func descendants() []process {
	all := processes()
	var found []process
	for queue := []int{os.Getpid()}; len(queue) > 0; queue = queue[1:] {
		for _, p := range all {
			if p.parent != queue[0] {
				continue
			}
			queue = append(queue, p.pid)
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
			p.what = strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
			if !p.zombie {
				found = append(found, p)
			}
		}
	}
	return found
}

// endAll kills processes of this test, parents first, so that nobody starts another one.
func endAll(list []process) {
	for _, p := range list {
		_ = unix.Kill(p.pid, unix.SIGKILL)
	}
}

// eventually waits for a condition, and fails with what it says last.
func eventually(t *testing.T, within time.Duration, what string, f func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// instance is one instance as its folder says.
type instance struct {
	dir, app, env, release, name string
	state                        supervise.State
}

// instances reads the state files below a data folder: those with a living shim or process.
func instances(data string) []instance {
	dirs, _ := filepath.Glob(filepath.Join(data, "instances", "*", "*", "*", "*"))
	var found []instance
	for _, dir := range dirs {
		state, err := supervise.ReadState(dir)
		if err != nil || !state.Shim.Alive() && !state.Child.Alive() {
			continue
		}
		part := strings.Split(strings.TrimPrefix(dir, data+"/"), "/")
		found = append(found, instance{dir: dir, app: part[1], env: part[2], release: part[3], name: part[4], state: state})
	}
	return found
}

func kill(pid int, signal syscall.Signal) error {
	if pid <= 1 || !slices.ContainsFunc(descendants(), func(p process) bool { return p.pid == pid }) {
		return fmt.Errorf("process %d is not one of this test", pid)
	}
	return unix.Kill(pid, signal)
}
