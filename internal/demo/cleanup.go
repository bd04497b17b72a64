package demo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of every descendant whose own parent dies. What Belay starts outlives Belay
// on purpose; this is how the demo still knows which processes are its own.
func adoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// process is one entry of /proc.
type process struct {
	pid, parent int
	zombie      bool
}

// descendants returns the living processes beneath pid, parents before children.
func descendants(pid int) []process {
	entries, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	children := map[int][]process{}
	for _, name := range entries {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // it ended meanwhile
		}
		if p, ok := parseStat(string(data)); ok {
			children[p.parent] = append(children[p.parent], p)
		}
	}
	var all []process
	queue := []int{pid}
	for len(queue) > 0 {
		for _, child := range children[queue[0]] {
			queue = append(queue, child.pid)
			if !child.zombie {
				all = append(all, child)
			}
		}
		queue = queue[1:]
	}
	return all
}

// parseStat reads pid, state and parent. The name in parentheses may hold anything, so the rest begins behind the last one.
func parseStat(text string) (process, bool) {
	end := strings.LastIndexByte(text, ')')
	begin := strings.IndexByte(text, ' ')
	if end < 0 || begin < 0 {
		return process{}, false
	}
	fields := strings.Fields(text[end+1:])
	if len(fields) < 2 {
		return process{}, false
	}
	pid, err1 := strconv.Atoi(text[:begin])
	parent, err2 := strconv.Atoi(fields[1])
	return process{pid: pid, parent: parent, zombie: fields[0] == "Z"}, err1 == nil && err2 == nil
}

// endAll ends every descendant of this process: TERM first, KILL after grace, again until none is left
// or the time is over. Killing in rounds, parents first, leaves nobody who would start another one.
func endAll(grace, limit time.Duration) error {
	begin := time.Now()
	for {
		left := descendants(os.Getpid())
		if len(left) == 0 {
			return nil
		}
		signal := unix.SIGTERM
		if time.Since(begin) > grace {
			signal = unix.SIGKILL
		}
		if time.Since(begin) > limit {
			return fmt.Errorf("%d processes would not end, the first is %d", len(left), left[0].pid)
		}
		for _, p := range left {
			if err := unix.Kill(p.pid, signal); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("process %d cannot be ended: %w", p.pid, err)
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// removeAll removes a folder in which mounts of ended processes may still be going away.
func removeAll(dir string) error {
	var err error
	for range 20 {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// stopScript is left behind with --stay. It ends what names the folder in its command line or environment, in rounds,
// and removes the folder.
const stopScript = `#!/bin/sh
# Ends what the demo left running, and removes this folder.
dir=%s
for signal in TERM TERM KILL KILL KILL; do
  for proc in /proc/[0-9]*; do
    pid=${proc#/proc/}
    [ "$pid" = $$ ] && continue
    if cat "$proc/cmdline" "$proc/environ" 2>/dev/null | tr '\0' '\n' | grep -qF -- "$dir/data"; then
      kill -$signal "$pid" 2>/dev/null
    fi
  done
  sleep 1
done
rm -rf "$dir"
`
