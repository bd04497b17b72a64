package supervise

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/sandbox"
)

// Main is the verb "belay shim --spec FILE": it keeps the process of one instance running until the folder of FILE says
// stop. It ends with 0 when it was stopped, when it was told to leave the process alone (TERM without a stop), and when
// another shim has the instance.
func Main(args []string) int {
	flags := flag.NewFlagSet("shim", flag.ContinueOnError)
	spec := flags.String("spec", "", "path of the instance's "+specFile)
	if err := flags.Parse(args); err != nil || *spec == "" {
		fmt.Fprintln(os.Stderr, "shim: --spec is missing: it names the instance's "+specFile)
		return 2
	}
	debug.SetGCPercent(20) // there is one shim per instance: small counts, fast does not
	err := keep(filepath.Dir(*spec))
	if errors.Is(err, errHeld) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		return 1
	}
	return 0
}

// shim is the state of one running shim. One goroutine has it all.
type shim struct {
	dir   string
	spec  Spec
	state State
	group Group
	box   *sandbox.Sandbox
	oom   int // kills that were counted before this child

	children chan os.Signal
	wake     chan os.Signal
	adopted  chan struct{} // closed when the adopted process has ended; nil for a child
	pause    <-chan time.Time
	memory   <-chan time.Time // when memory is looked at; nil where the kernel limits it
	exceeded bool             // this process used more memory than its limit
}

// keep runs the shim of the instance in dir.
func keep(dir string) error {
	lock, err := tryLock(filepath.Join(dir, lockFile))
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // nothing is written
	s := &shim{
		dir: dir, children: make(chan os.Signal, 1), wake: make(chan os.Signal, 1),
	}
	if err := ReadJSON(filepath.Join(dir, specFile), &s.spec); err != nil {
		return fmt.Errorf("read what to run: %w", err)
	}
	s.spec.Secret = takeOver()
	if err := Quiet(); err != nil {
		return fmt.Errorf("keep memory private: %w", err)
	}
	s.box = &sandbox.Sandbox{Force: s.spec.Mode}
	signal.Notify(s.children, unix.SIGCHLD)
	signal.Notify(s.wake, unix.SIGTERM)
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGPIPE)
	// What the app's process leaves behind comes to the shim, which ends it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopt orphans: %w", err)
	}
	if err := s.begin(); err != nil {
		return err
	}
	ready()
	return s.loop()
}

// ready tells the one who launched the shim that state.json is true from now on.
func ready() {
	if f := os.NewFile(3, "ready"); f != nil {
		_, _ = f.WriteString("ready\n")
		_ = f.Close()
	}
}

// begin takes over what an earlier shim left, or starts the first process.
func (s *shim) begin() error {
	// The launcher's descriptor is not for the app.
	unix.CloseOnExec(3)
	if err := ReadJSON(filepath.Join(s.dir, stateFile), &s.state); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the last state: %w", err)
	}
	self, err := Identify(os.Getpid())
	if err != nil {
		return err
	}
	s.state.Shim = self
	s.group, s.state.Notes = NewGroup(s.spec.Group, s.spec.Limits)
	s.oom = s.group.OOMKills()
	child := s.state.Child
	switch {
	case child.Alive():
		s.adopted = make(chan struct{})
		go func() {
			_ = child.Wait(context.Background())
			close(s.adopted)
		}()
		return s.save()
	case s.spec.Once && s.state.Phase != "":
		return s.lost()
	case s.state.Phase == Running:
		// It ended unseen, with the shim or in a reboot: its slot is served again at once.
		s.state.Last = &Exit{Proc: child, Code: -1, At: time.Now(), Unseen: true}
		s.state.Restarts++
		return s.start()
	case s.state.Phase == Pausing && child.Boot == bootID() && time.Now().Before(s.state.Until):
		s.pause = time.After(time.Until(s.state.Until))
		return s.save()
	case s.state.Phase == Pausing:
		s.state.Restarts++
		return s.start()
	default:
		return s.start()
	}
}

func (s *shim) loop() error {
	s.watchMemory(0)
	ticks := time.NewTicker(max(time.Duration(s.spec.Log.Every), 100*time.Millisecond))
	defer ticks.Stop()
	for !s.over() {
		select {
		case <-s.wake:
			if _, err := os.Stat(filepath.Join(s.dir, stopFile)); err != nil {
				return nil // leave the process alone: another shim will adopt it
			}
			return s.stop()
		case <-s.children:
			if exit := s.collect(); exit != nil {
				if err := s.ended(*exit); err != nil {
					return err
				}
			}
		case <-s.adopted:
			s.adopted = nil
			if err := s.ended(Exit{Code: -1, Unseen: true}); err != nil {
				return err
			}
		case <-s.pause:
			s.pause = nil
			s.state.Restarts++
			if err := s.start(); err != nil {
				return err
			}
		case <-s.memory:
			s.boundMemory()
		case <-ticks.C:
			_ = rotate(filepath.Join(s.dir, LogFile), s.spec.Log) // tried again at the next tick
		}
	}
	return nil
}

// start runs the process and records it, or plans the next try.
func (s *shim) start() error {
	s.sweep()
	s.refresh()
	s.state.PortTaken = s.spec.Port > 0 && !portFree(s.spec.Port)
	if s.state.PortTaken {
		return s.plan(fmt.Sprintf("port %d is taken by another process", s.spec.Port))
	}
	log, err := openLog(filepath.Join(s.dir, LogFile))
	if err != nil {
		return s.plan("open the log: " + err.Error())
	}
	defer log.Close() //nolint:errcheck // the process has its own descriptor
	if s.spec.Mode == sandbox.User {
		// The process may open its own output again, as programs do with /dev/stdout.
		if err := log.Chown(s.spec.Command.UID, s.spec.Command.GID); err != nil {
			return s.plan("hand over the log: " + err.Error())
		}
	}
	if fi, err := log.Stat(); err == nil {
		s.state.LogFrom = fi.Size()
	}
	command := s.spec.Command
	command.Env = with(command.Env, s.spec.Secret)
	command.Cgroups = s.group.Dirs()
	cmd, err := s.box.Command(context.Background(), command)
	if err != nil {
		return s.plan(err.Error())
	}
	cmd.Stdout, cmd.Stderr = log, log
	s.oom = s.group.OOMKills()
	if s.spec.Once { // before it is begun: what may have run is never begun again
		s.state.Phase = Launching
		if err := s.save(); err != nil {
			return err
		}
	}
	err = cmd.Start()
	for _, f := range cmd.ExtraFiles {
		_ = f.Close()
	}
	if err != nil {
		return s.plan(err.Error())
	}
	child, _, err := look(cmd.Process.Pid) // not collected yet, so it can be looked at even if it has ended
	if err != nil {
		return err
	}
	_ = cmd.Process.Release()
	s.state.Child, s.state.Phase = child, Running
	s.state.Started, s.state.Until = time.Now(), time.Time{}
	return s.save()
}

// refresh takes over what changed of what to run. When it cannot be read the instance is being stopped.
func (s *shim) refresh() {
	var spec Spec
	if ReadJSON(filepath.Join(s.dir, specFile), &spec) == nil {
		spec.Secret = s.spec.Secret
		s.spec = spec
	}
}

// plan records that there is no process and when the next one is tried.
func (s *shim) plan(reason string) error {
	if reason != "" {
		s.state.Last = &Exit{Code: -1, Signal: reason, At: time.Now()}
		s.state.Child = Proc{}
	}
	if s.spec.Once {
		return s.conclude()
	}
	s.state.InARow++
	pause := s.spec.Backoff.pause(s.state.InARow)
	s.state.Phase, s.state.Until = Pausing, time.Now().Add(pause)
	s.pause = time.After(pause)
	return s.save()
}

// ended records the end of the process, takes away what it left, and plans the next start.
func (s *shim) ended(exit Exit) error {
	exit.Proc, exit.At = s.state.Child, time.Now()
	exit.OOM = s.exceeded || s.group.OOMKills() > s.oom
	s.exceeded = false
	exit.Left = s.sweep()
	if err := WriteJSON(filepath.Join(s.dir, exitFile), exit); err != nil {
		return err
	}
	s.state.Last = &exit
	if exit.At.Sub(s.state.Started) >= time.Duration(s.spec.Backoff.Reset) {
		s.state.InARow = 0
	}
	return s.plan("")
}

// collect takes in ended children and returns the end of the process if it is among them.
func (s *shim) collect() *Exit {
	var found *Exit
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return found
		}
		if pid != s.state.Child.PID || s.adopted != nil || s.state.Phase != Running {
			continue
		}
		found = &Exit{Code: status.ExitStatus()}
		if status.Signaled() {
			found.Code, found.Signal = -1, unix.SignalName(status.Signal())
		}
	}
}

// stop ends the process: TERM to its group, KILL to all that is left after the grace.
func (s *shim) stop() error {
	if s.state.Phase == Running {
		if err := s.state.Child.Group(unix.SIGTERM); err != nil {
			return err
		}
		s.awaitEnd(time.After(time.Duration(s.spec.Grace)))
	}
	s.sweep()
	s.group.Remove()
	s.state.Phase, s.state.Until = Ended, time.Time{}
	return s.save()
}

func (s *shim) awaitEnd(deadline <-chan time.Time) {
	// An end that came before the signals were looked at must not be waited for.
	if exit := s.collect(); exit != nil {
		s.state.Last = exit
		return
	}
	for {
		select {
		case <-s.children:
			if exit := s.collect(); exit != nil {
				exit.Proc, exit.At = s.state.Child, time.Now()
				s.state.Last = exit
				return
			}
		case <-s.adopted:
			return
		case <-deadline:
			return
		}
	}
}

// sweep ends all that is left of the last process: its group, its control group, and what came to the shim from it. It
// returns how many processes these were.
func (s *shim) sweep() int {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	found := len(members(s.group, s.state.Child, os.Getpid()))
	if pid := s.state.Child.PID; pid > 0 && s.state.Child.Boot == bootID() {
		_ = s.state.Child.Group(unix.SIGKILL)
	}
	_ = s.group.Kill(ctx)
	for ctx.Err() == nil {
		left := childrenOf(os.Getpid())
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if len(left) == 0 {
			return found
		}
		select {
		case <-s.children:
		case <-time.After(10 * time.Millisecond):
		}
		var status unix.WaitStatus
		for pid := 1; pid > 0; {
			pid, _ = unix.Wait4(-1, &status, unix.WNOHANG, nil)
		}
	}
	return found
}

func (s *shim) save() error { return WriteJSON(filepath.Join(s.dir, stateFile), s.state) }

// childrenOf returns the running children of a process.
func childrenOf(parent int) []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		if f, err := statFields(stat); err == nil && f[1] == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// portFree reports whether nobody listens on a port of the loopback interface.
func portFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
