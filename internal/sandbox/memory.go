package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Resident returns how much memory processes use together, in bytes. Pages that several of them share count once; that
// takes a closer look, which is taken only when the sum lies above limit. Processes that are gone use nothing.
func Resident(pids []int, limit int64) int64 {
	sum := int64(0)
	for _, pid := range pids {
		sum += resident(pid)
	}
	if sum <= limit {
		return sum
	}
	sum = 0
	for _, pid := range pids {
		sum += proportional(pid)
	}
	return sum
}

// resident is the memory of one process, shared or not.
func resident(pid int) int64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// proportional is the memory of one process, of what it shares its part. Where the kernel does not tell, it is what is
// certainly its own.
func proportional(pid int) int64 {
	if sum, ok := kib(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss:"); ok {
		return sum
	}
	own, _ := kib(fmt.Sprintf("/proc/%d/status", pid), "RssAnon:")
	return own
}

// kib reads one line "NAME 123 kB" of a file of the kernel, in bytes.
func kib(path, name string) (int64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		return n << 10, err == nil
	}
	return 0, false
}

// How often memory is looked at: more often when it may soon be too much.
const (
	memoryEvery = time.Second
	memoryClose = 100 * time.Millisecond
)

// NextLook returns when memory of which used is taken is looked at again.
func NextLook(used, limit int64) time.Duration {
	if used > limit/2 {
		return memoryClose
	}
	return memoryEvery
}

// WorkshopMemory is how many bytes builds and tests may use: three quarters of the machine's, so that what serves keeps
// the rest and its files stay cached.
func WorkshopMemory() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit) / 4 * 3
}

// bound ends everything in this namespace of process ids, but for its init, when it uses more memory than limit. It never
// returns.
func bound(limit int64, exceeded *atomic.Bool) {
	used := int64(0)
	for {
		time.Sleep(NextLook(used, limit))
		if used = Resident(others(), limit); used > limit {
			exceeded.Store(true)
			_ = unix.Kill(-1, unix.SIGKILL)
		}
	}
}

// others lists the processes that this one sees beside itself.
func others() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close() //nolint:errcheck // a folder
	names, _ := dir.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}
