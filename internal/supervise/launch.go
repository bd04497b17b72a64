package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Start records what to run in dir and launches its shim. It returns when state.json is true. A stop that was asked for
// before is forgotten, and so is the history of restarts.
func Start(ctx context.Context, self, dir string, spec Spec) error {
	for _, name := range []string{stopFile, stateFile, exitFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := WriteJSON(filepath.Join(dir, specFile), spec); err != nil {
		return err
	}
	return Launch(ctx, self, dir, spec.Secret...)
}

// Launch makes sure that the instance in dir has a shim, which adopts its process or starts it again. It returns when
// state.json is true. Self is the binary whose "shim" verb is Main, secret the variables that spec.Secret had: no file has
// them.
func Launch(ctx context.Context, self, dir string, secret ...string) error {
	if HasShim(dir) {
		return nil
	}
	notice, done, err := os.Pipe()
	if err != nil {
		return err
	}
	defer notice.Close() //nolint:errcheck // read only
	handover, err := handOver(secret)
	if err != nil {
		return errors.Join(err, done.Close())
	}
	defer handover.Close() //nolint:errcheck // the shim has its own
	out, err := openLog(filepath.Join(dir, "shim.log"))
	if err != nil {
		return errors.Join(err, done.Close())
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return errors.Join(err, out.Close(), done.Close())
	}
	spec := filepath.Join(dir, specFile)
	proc, err := os.StartProcess(self, []string{"belay", "shim", "--spec", spec}, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=1", "PATH=" + os.Getenv("PATH")},
		Files: []*os.File{null, out, out, done, handover},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	err = errors.Join(err, null.Close(), out.Close(), done.Close())
	if err != nil {
		return fmt.Errorf("start the shim: %w", err)
	}
	if err := proc.Release(); err != nil {
		return err
	}
	return awaitReady(ctx, notice, dir)
}

func awaitReady(ctx context.Context, notice *os.File, dir string) error {
	stop := context.AfterFunc(ctx, func() { _ = notice.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := bufio.NewReader(notice).ReadString('\n')
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil && line == "ready\n" || HasShim(dir) {
		return nil
	}
	said, _ := os.ReadFile(filepath.Join(dir, "shim.log"))
	return fmt.Errorf("start the shim: it ended: %s", strings.TrimSpace(string(said[max(0, len(said)-500):])))
}

// HasShim reports whether a shim holds the instance in dir.
func HasShim(dir string) bool { return held(filepath.Join(dir, lockFile)) }

// Stop ends the process of the instance in dir for good: the intent is on disk before anything is signalled, so that
// nothing starts it again whatever dies now. TERM, and KILL after the grace of its spec. What to run is deleted with it,
// because it may hold secrets. Without a shim, Stop does the shim's work. A folder that is not there is no error.
func Stop(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := WriteJSON(filepath.Join(dir, stopFile), time.Now()); err != nil {
		return err
	}
	for HasShim(dir) {
		state, err := ReadState(dir)
		if err != nil {
			return fmt.Errorf("find the shim: %w", err)
		}
		if err := state.Shim.Signal(unix.SIGTERM); err != nil {
			return err
		}
		if err := state.Shim.Wait(ctx); err != nil {
			return err
		}
	}
	if err := stopOrphan(ctx, dir); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(dir, specFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// stopOrphan ends a process whose shim is gone.
func stopOrphan(ctx context.Context, dir string) error {
	var spec Spec
	state, err := ReadState(dir)
	if err != nil || state.Phase == Ended {
		return nil //nolint:nilerr // nothing was ever started, or the shim has done it
	}
	if err := ReadJSON(filepath.Join(dir, specFile), &spec); err != nil {
		return nil //nolint:nilerr // stopped before
	}
	group, _ := NewGroup(spec.Group, Limits{})
	if err := state.Child.Group(unix.SIGTERM); err != nil {
		return err
	}
	grace, cancel := context.WithTimeout(ctx, time.Duration(spec.Grace))
	_ = state.Child.Wait(grace)
	cancel()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := errors.Join(state.Child.Group(unix.SIGKILL), group.Kill(ctx), state.Child.Wait(ctx)); err != nil {
		return err
	}
	group.Remove()
	state.Phase = Ended
	return WriteJSON(filepath.Join(dir, stateFile), state)
}

// HasSpec reports whether dir says what to run.
func HasSpec(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, specFile))
	return err == nil && !Stopping(dir)
}

// Stopping reports whether the instance in dir was asked to end for good.
func Stopping(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, stopFile))
	return err == nil
}
