// Package command runs the commands of an application: one process group each, ended as a whole when its time is over.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Cmd is one command of an application.
type Cmd struct {
	Dir     string   // working folder
	Argv    []string // program and arguments; see Argv and Script
	Env     []string // the whole environment, KEY=value; nothing is inherited
	Stdout  io.Writer
	Stderr  io.Writer
	Purpose string        // what it is for: build, lint, unit, integration, e2e
	Timeout time.Duration // 0: no limit of its own
	Reach   *Reach        // when set, a Runner that can fills in where the command connected to
}

// Reach is where a command, and all that it started, connected to.
type Reach struct {
	Own     []string // KEY=value: what these variables name belongs to the command alone, as its services do
	Known   bool     // every connection was seen; false where the machine does not allow it
	Outside []string // "93.184.216.34:443": what is neither the command's own nor made by it; at most 20
}

// Runner runs one command to its end. A command that ended with another code than 0 is an *ExitError, one that outlived
// its Timeout a *TimeoutError. When Run returns, no process of the command is left that the Runner can know of, and
// nothing is written to Stdout and Stderr any more.
type Runner interface {
	Run(ctx context.Context, c Cmd) error
}

// ExitError says that a command ran and failed.
type ExitError struct {
	Code   int            // exit code; -1 after a signal
	Signal syscall.Signal // 0 after an exit
}

func (e *ExitError) Error() string {
	if e.Signal != 0 {
		return fmt.Sprintf("killed by signal %d (%s)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exit %d", e.Code)
}

// TimeoutError says that a command was ended because its time was over.
type TimeoutError struct{ After time.Duration }

func (e *TimeoutError) Error() string { return fmt.Sprintf("timed out after %s", e.After) }

// Grace is how long the output of a command is still read after the command itself has ended: a background process that
// keeps the pipe open must not hold a delivery.
const Grace = 2 * time.Second

// Local runs commands on this machine with the caller's own identity, each in a process group of its own. It isolates
// nothing else.
type Local struct{}

// Run implements Runner.
func (Local) Run(ctx context.Context, c Cmd) error {
	if len(c.Argv) == 0 {
		return domain.Errorf(domain.Invalid, "%s: there is no command to run", c.Purpose)
	}
	limited := ctx
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, c.Timeout, &TimeoutError{After: c.Timeout})
		defer cancel()
	}
	path, err := Find(c.Argv[0], c.Dir, c.Env)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(limited, path, c.Argv[1:]...)
	cmd.Args[0] = c.Argv[0]
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.Dir, c.Env, c.Stdout, c.Stderr
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd.Process) }
	cmd.WaitDelay = Grace
	if err := cmd.Start(); err != nil {
		return domain.Errorf(domain.Failed, "%s: cannot start %s: %w", c.Purpose, c.Argv[0], err)
	}
	err = cmd.Wait()
	_ = killGroup(cmd.Process) // what the command left behind in its group
	return outcome(limited, cmd, err)
}

func outcome(ctx context.Context, cmd *exec.Cmd, err error) error {
	if ctx.Err() != nil && (cmd.ProcessState == nil || !cmd.ProcessState.Success()) {
		return context.Cause(ctx)
	}
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return nil
	case errors.As(err, &exit):
		status, ok := exit.Sys().(syscall.WaitStatus)
		if ok && status.Signal() > 0 {
			return &ExitError{Code: -1, Signal: status.Signal()}
		}
		return &ExitError{Code: exit.ExitCode()}
	default:
		return err
	}
}

// killGroup ends every process of the group that p leads.
func killGroup(p *os.Process) error {
	if p == nil || p.Pid <= 1 {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(-p.Pid, syscall.SIGKILL); err != nil {
		return os.ErrProcessDone
	}
	return nil
}
