package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// forwarded are the signals that a supervisor or a person sends to an app.
var forwarded = []os.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH,
}

// reap is the init of a namespace of process ids: it starts the command in a process group of its own, hands signals on to
// that group, collects what ends, and ends with the command. The kernel then ends the rest.
func reap(path string, spec Spec) int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, forwarded...)
	pid, err := syscall.ForkExec(path, spec.Argv, &syscall.ProcAttr{
		Env:   spec.Env,
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return complain(fmt.Errorf("%s: %w", path, err))
	}
	go func() {
		for s := range signals {
			if n, ok := s.(syscall.Signal); ok {
				_ = unix.Kill(-pid, n)
			}
		}
	}()
	var exceeded atomic.Bool
	if spec.Memory > 0 {
		debug.SetGCPercent(20) // it looks around for as long as the command runs
		go bound(spec.Memory, &exceeded)
	}
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return complain(fmt.Errorf("wait: %w", err))
		}
		if got != pid {
			continue
		}
		if exceeded.Load() {
			_ = complain(fmt.Errorf("it was ended: it used more than its %d MiB of memory", spec.Memory>>20))
		}
		if status.Signaled() {
			return 128 + int(status.Signal())
		}
		return status.ExitStatus()
	}
}
