package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is what the kernel says of one process.
type process struct {
	pid, parent int
	zombie      bool
	args        []string
	cpu         time.Duration // of itself and of its ended children
}

// clockTick is the kernel's unit of CPU time for user space on every Linux that Go knows.
const clockTick = 10 * time.Millisecond

// descendants lists the processes beneath this one, parents first.
func descendants() []process { return beneath(os.Getpid()) }

func beneath(root int) []process {
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	children := map[int][]process{}
	for _, name := range names {
		if p, ok := readProcess(name); ok {
			children[p.parent] = append(children[p.parent], p)
		}
	}
	var found []process
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		for _, p := range children[queue[0]] {
			queue = append(queue, p.pid)
			found = append(found, p)
		}
	}
	return found
}

func readProcess(stat string) (process, bool) {
	data, err := os.ReadFile(stat)
	if err != nil {
		return process{}, false // it ended meanwhile
	}
	_, rest, ok := bytes.Cut(data, []byte(") ")) // no name here has a bracket
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 15 {
		return process{}, false
	}
	p := process{zombie: fields[0] == "Z"}
	p.pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(stat)))
	p.parent, _ = strconv.Atoi(fields[1])
	for _, n := range fields[11:15] { // utime, stime, cutime, cstime
		ticks, _ := strconv.Atoi(n)
		p.cpu += time.Duration(ticks) * clockTick
	}
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	p.args = strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
	return p, true
}

// verb is the command that a process of the program runs: serve, proxy, shim …; "" for other programs.
func (p process) verb() string {
	belay := built.belay
	if len(p.args) < 2 || p.args[0] != belay && filepath.Base(p.args[0]) != filepath.Base(belay) {
		return ""
	}
	return p.args[1]
}

// withVerb lists this test's processes of a verb.
func withVerb(verb string) []process {
	var found []process
	for _, p := range descendants() {
		if p.verb() == verb {
			found = append(found, p)
		}
	}
	return found
}

// cpu adds up the CPU time that processes have used, exact to 10 ms.
func cpu(pids []int) time.Duration {
	var sum time.Duration
	for _, pid := range pids {
		p, _ := readProcess(fmt.Sprintf("/proc/%d/stat", pid))
		sum += p.cpu
	}
	return sum
}

func pidsOf(list []process) []int {
	var pids []int
	for _, p := range list {
		pids = append(pids, p.pid)
	}
	return pids
}

// memory is what a process holds, in MB (10⁶ bytes): RSS counts the pages that it shares with its siblings, the program's
// text above all, in each of them; PSS shares them out.
type memory struct{ rss, pss float64 }

func (m memory) String() string { return fmt.Sprintf("%.1f MB (PSS %.1f)", m.rss, m.pss) }

func memoryOf(pids ...int) memory {
	var m memory
	for _, pid := range pids {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) < 2 {
				continue
			}
			kib, _ := strconv.ParseFloat(f[1], 64)
			switch f[0] {
			case "Rss:":
				m.rss += kib * 1024 / 1e6
			case "Pss:":
				m.pss += kib * 1024 / 1e6
			}
		}
	}
	return m
}

// endDescendants ends what this test started, parents first, so that nobody starts another one, and collects it.
func endDescendants() {
	for range 100 {
		left := descendants()
		if len(left) == 0 {
			return
		}
		for _, p := range left {
			if !p.zombie {
				_ = unix.Kill(p.pid, unix.SIGKILL)
			} else if p.parent == os.Getpid() {
				_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	fmt.Fprintln(os.Stderr, "left behind:", pidsOf(descendants()))
}
