package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/sandbox"
	"github.com/belay-cd/belay/internal/supervise"
)

// Stdio is what a one-off command reads and writes. Nil is nothing.
type Stdio struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Exec runs one command in the release, the environment and the walls of an instance, and returns its exit code. Extra
// variables win. When ctx ends, the command and all that it started are killed. It is as heavy as the instance, because
// somebody may judge the release by how long it takes, but goes before it when memory runs out.
func (d *Driver) Exec(ctx context.Context, inst domain.Instance, command string, stdio Stdio, extra map[string]string) (int, error) {
	return d.exec(ctx, inst, oneOff{command: command, stdio: stdio, extra: extra})
}

// Errand does the same for a command by which nothing is judged: it gives way to all that serves.
func (d *Driver) Errand(ctx context.Context, inst domain.Instance, command string, stdio Stdio) (int, error) {
	return d.exec(ctx, inst, oneOff{command: command, stdio: stdio, light: true})
}

func (d *Driver) exec(ctx context.Context, inst domain.Instance, o oneOff) (int, error) {
	if err := checkNames(inst.InstanceID); err != nil {
		return 0, err
	}
	c, err := d.confinement(ctx, inst)
	if err != nil {
		return 0, err
	}
	parent := d.folder(inst.InstanceID)
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(parent, "exec-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left is found and removed with the instance
	if err := os.Chmod(dir, 0o711); err != nil {
		return 0, err
	}
	o.dir, o.ownPIDs = dir, true
	return d.run(ctx, c, o)
}

// oneOff is a command that runs once within the walls of an instance.
type oneOff struct {
	dir     string // that holds its /tmp and its own folder
	command string
	stdio   Stdio
	extra   map[string]string
	ownPIDs bool // it sees only its own processes
	light   bool // it gives way to all that serves
}

// run runs a one-off to its end, or kills it with all that it started when ctx ends.
func (d *Driver) run(ctx context.Context, c confinement, o oneOff) (int, error) {
	inst := c.inst
	spec, err := c.command(o.dir, d.instance(inst.InstanceID).portNow(), o.command, o.extra)
	if err != nil {
		return 0, err
	}
	if o.light {
		spec.Weight = sandbox.Lowest
	}
	if o.ownPIDs {
		spec.OOMScoreAdj = sandbox.WorkshopOOM
	}
	group, _ := supervise.NewGroup(fmt.Sprintf("%s.exec-%d", d.groupOf(inst.InstanceID), d.execs.Add(1)), limitsOf(inst, spec.Weight))
	defer group.Remove()
	spec.Cgroups, spec.OwnPIDs, spec.Memory = group.Dirs(), o.ownPIDs, inst.Workload.Memory
	cmd, err := d.cfg.Sandbox.Command(ctx, spec)
	if err != nil {
		return 0, err
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = o.stdio.In, o.stdio.Out, o.stdio.Err
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second // for pipes that something outside still holds
	err = cmd.Start()
	for _, f := range cmd.ExtraFiles {
		_ = f.Close()
	}
	if err != nil {
		return 0, fmt.Errorf("run %s: %w", o.command, err)
	}
	err = cmd.Wait()
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = group.Kill(clean) // with an init of its own nothing should be left
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return exitCode(err)
}

// sweepOneOffs ends and removes what one-offs of a daemon that was killed have left.
func (d *Driver) sweepOneOffs(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	errs := []error{supervise.Sweep(limited, d.group, "*.exec-*")}
	dirs, err := filepath.Glob(filepath.Join(d.cfg.Data, "instances", "*", "*", "*", "*", "exec-*"))
	for _, dir := range dirs {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(append(errs, err)...)
}

// exitCode is that of a command that was waited for; an end by KILL counts as a shell counts it.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if code := exit.ExitCode(); code >= 0 {
		return code, nil
	}
	return 128 + int(unix.SIGKILL), nil
}

func (it *instance) portNow() int {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.port
}
