package scrape

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// clockTick is the kernel's unit of CPU time in /proc, the same on every Linux that Go runs on.
const clockTick = time.Second / 100

// Table is the machine's processes at one moment.
type Table struct {
	procs    map[int]process
	children map[int][]int
}

type process struct {
	parent, group, session int
	cpu                    time.Duration
	memory                 int64
}

// Usage is what the processes of one instance use.
type Usage struct {
	// CPU is the time in user and kernel mode so far, with that of children that ended and were waited for.
	CPU       time.Duration
	Memory    int64 // resident bytes
	Processes int
}

// ReadTable reads the process table below root, which is /proc.
func ReadTable(root string) (Table, error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return Table{}, fmt.Errorf("process table: %w", err)
	}
	t := Table{procs: map[int]process{}, children: map[int][]int{}}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(root, e.Name(), "stat"))
		if errors.Is(err, fs.ErrPermission) {
			return Table{}, fmt.Errorf("process table: %w", err)
		}
		if p, ok := parseStat(stat); err == nil && ok {
			t.procs[pid] = p
			t.children[p.parent] = append(t.children[p.parent], pid)
		}
	}
	return t, nil
}

// parseStat reads /proc/PID/stat. The name stands in parentheses and may itself hold any character, so the fields begin
// after the last one.
func parseStat(stat []byte) (process, bool) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return process{}, false
	}
	f := strings.Fields(string(stat[i+1:]))
	if len(f) < 22 {
		return process{}, false
	}
	var n [22]int64
	for _, k := range [...]int{1, 2, 3, 11, 12, 13, 14, 21} { // parent, group, session, 4 × CPU, resident pages
		v, err := strconv.ParseInt(f[k], 10, 64)
		if err != nil {
			return process{}, false
		}
		n[k] = v
	}
	return process{
		parent: int(n[1]), group: int(n[2]), session: int(n[3]),
		cpu:    time.Duration(n[11]+n[12]+n[13]+n[14]) * clockTick,
		memory: n[21] * int64(os.Getpagesize()),
	}, true
}

// Tree adds up the process pid, its descendants and, where pid leads a process group or session, all in it: a daemon that
// left its parent still belongs to the instance. It reports false when pid is gone.
func (t Table) Tree(pid int) (Usage, bool) {
	root, ok := t.procs[pid]
	if !ok {
		return Usage{}, false
	}
	members := map[int]bool{}
	queue := []int{pid}
	for id, p := range t.procs {
		if root.group == pid && p.group == pid || root.session == pid && p.session == pid {
			queue = append(queue, id)
		}
	}
	var u Usage
	for len(queue) > 0 {
		id := queue[0]
		queue = queue[1:]
		if members[id] {
			continue
		}
		members[id] = true
		u.CPU += t.procs[id].cpu
		u.Memory += t.procs[id].memory
		u.Processes++
		queue = append(queue, t.children[id]...)
	}
	return u, true
}

func compareIDs(a, b domain.InstanceID) int {
	return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Release, b.Release),
		cmp.Compare(a.Role, b.Role), cmp.Compare(a.Index, b.Index))
}
