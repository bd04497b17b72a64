package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchy is one mounted control group hierarchy in which groups can be made.
type hierarchy struct {
	base        string   // folder below which this daemon makes its groups
	controllers []string // of version 1; empty for the unified one
	unified     bool
}

// Group is the control group of one instance, in as many hierarchies as the kernel has.
type Group struct {
	dirs    []string
	unified string // folder in the unified hierarchy, ""
	memory  string // folder that limits memory, ""
}

// hierarchies finds the hierarchies that this process may make groups in. In version 1 that is below its own group. In
// the unified one it is the highest folder above its own that it may write to, because a group that holds processes
// cannot hand controllers to groups below it.
func hierarchies() []hierarchy {
	own := ownGroups()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var found []hierarchy
	for line := range strings.Lines(string(mounts)) {
		left, right, ok := strings.Cut(line, " - ")
		fields, types := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(types) < 3 {
			continue
		}
		mount := fields[4]
		switch types[0] {
		case "cgroup2":
			if dir := highestWritable(mount, own[""]); dir != "" {
				found = append(found, hierarchy{base: dir, unified: true})
			}
		case "cgroup":
			for option := range strings.SplitSeq(types[2], ",") {
				if path, ok := own[option]; ok && slices.Contains([]string{"memory", "cpu", "pids"}, option) {
					dir := filepath.Join(mount, path)
					if unix.Access(dir, unix.W_OK) == nil {
						found = append(found, hierarchy{base: dir, controllers: []string{option}})
					}
				}
			}
		}
	}
	return found
}

// ownGroups returns the group of this process per controller; "" is the unified hierarchy.
func ownGroups() map[string]string {
	own := map[string]string{}
	data, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			own[c] = parts[2]
		}
	}
	return own
}

func highestWritable(mount, own string) string {
	best := ""
	for dir := filepath.Join(mount, own); strings.HasPrefix(dir, mount); dir = filepath.Dir(dir) {
		if unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK) == nil && unix.Access(dir, unix.W_OK) == nil {
			best = dir
		}
	}
	return best
}

// NewGroup makes the group name (folders separated by slashes) with its limits, wherever the kernel allows, and returns
// notes on what it did not allow. A group that exists is taken. Without a name there is no group.
func NewGroup(name string, limits Limits) (Group, []string) {
	var g Group
	limited := map[string]bool{}
	var in []hierarchy
	if name != "" {
		in = hierarchies()
	}
	for _, h := range in {
		dir := filepath.Join(h.base, name)
		if h.unified {
			delegate(h.base, name)
		}
		if !makeGroup(dir) {
			continue
		}
		g.dirs = append(g.dirs, dir)
		if h.unified {
			g.unified = dir
		}
		for kind, err := range limitIn(dir, h, limits) {
			if err == nil {
				limited[kind] = true
				if kind == "memory" {
					g.memory = dir
				}
			}
		}
	}
	var notes []string
	// Memory is not among them: where the kernel does not limit it, the shim does.
	for kind, wanted := range map[string]bool{"cpu": limits.CPU > 0, "pids": limits.PIDs > 0} {
		if wanted && !limited[kind] {
			notes = append(notes, "this machine does not let belay limit "+kind)
		}
	}
	slices.Sort(notes)
	return g, notes
}

// makeGroup makes a group and those above it. Another instance's end may take an empty one above away meanwhile.
func makeGroup(dir string) bool {
	for range 10 {
		if os.MkdirAll(dir, 0o755) == nil {
			return true
		}
	}
	return false
}

// controllers are those of the unified hierarchy that limits and shares need.
var controllers = []string{"memory", "cpu", "pids", "io"}

// delegate hands the controllers down from base to the group, as far as there are any.
func delegate(base, name string) {
	dir := base
	for part := range strings.SplitSeq(filepath.Dir(name), "/") {
		for _, c := range controllers {
			// What is not there cannot be handed down; the missing limit is noted later.
			_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
		}
		dir = filepath.Join(dir, part)
		_ = os.Mkdir(dir, 0o755)
	}
	for _, c := range controllers {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
	}
}

// limitIn sets the limits that this hierarchy knows and returns what came of each.
func limitIn(dir string, h hierarchy, l Limits) map[string]error {
	const period = 100_000 // µs
	set := map[string]error{}
	put := func(kind, file, value string) {
		if h.unified || slices.Contains(h.controllers, kind) {
			set[kind] = errors.Join(set[kind], writeExisting(filepath.Join(dir, file), value))
		}
	}
	quota := strconv.FormatInt(int64(l.CPU*period), 10)
	switch {
	case l.Memory > 0 && h.unified:
		put("memory", "memory.max", strconv.FormatInt(l.Memory, 10))
	case l.Memory > 0:
		put("memory", "memory.limit_in_bytes", strconv.FormatInt(l.Memory, 10))
	}
	switch {
	case l.CPU > 0 && h.unified:
		put("cpu", "cpu.max", fmt.Sprintf("%s %d", quota, period))
	case l.CPU > 0:
		put("cpu", "cpu.cfs_period_us", strconv.Itoa(period))
		put("cpu", "cpu.cfs_quota_us", quota)
	}
	switch {
	case l.Share > 0 && h.unified:
		// A wish: beside groups without a controller it is the nice value that counts.
		_ = writeExisting(filepath.Join(dir, "cpu.weight"), strconv.Itoa(l.Share))
		_ = writeExisting(filepath.Join(dir, "io.weight"), strconv.Itoa(l.Share))
	case l.Share > 0 && slices.Contains(h.controllers, "cpu"):
		const ordinary = 1024
		_ = writeExisting(filepath.Join(dir, "cpu.shares"), strconv.Itoa(l.Share*ordinary/100))
	}
	if l.PIDs > 0 {
		put("pids", "pids.max", strconv.FormatInt(l.PIDs, 10))
	}
	return set
}

// writeExisting writes to a control file; it never makes an ordinary one.
func writeExisting(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// LimitsMemory reports whether the kernel itself keeps the group within its memory.
func (g Group) LimitsMemory() bool { return g.memory != "" }

// Dirs are the folders that a process enters to be in the group.
func (g Group) Dirs() []string { return g.dirs }

// OOMKills returns how many processes of the group were ended because memory ran out, as far as the kernel counts.
func (g Group) OOMKills() int {
	if g.memory == "" {
		return 0
	}
	for _, file := range []string{"memory.events", "memory.oom_control"} {
		data, err := os.ReadFile(filepath.Join(g.memory, file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
				v, _ := strconv.Atoi(strings.TrimSpace(n))
				return v
			}
		}
	}
	return 0
}

// PIDs returns the processes in the group.
func (g Group) PIDs() []int {
	if len(g.dirs) == 0 {
		return nil
	}
	dir := g.dirs[0]
	if g.unified != "" {
		dir = g.unified
	}
	data, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	var pids []int
	for f := range strings.FieldsSeq(string(data)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Kill ends every process of the group, also those that left their parents, and returns when none is left.
func (g Group) Kill(ctx context.Context) error {
	for {
		pids := g.PIDs()
		if len(pids) == 0 {
			return nil
		}
		if g.unified == "" || writeExisting(filepath.Join(g.unified, "cgroup.kill"), "1") != nil {
			for _, pid := range pids {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d processes are still there: %w", len(pids), context.Cause(ctx))
		case <-time.After(5 * time.Millisecond): // the kernel tells nobody when a group is empty but by polling
		}
	}
}

// Remove takes the empty group away, and the one above it when it was the last in it.
func (g Group) Remove() {
	for _, dir := range g.dirs {
		// A group that cannot go now goes with the machine. One that still has groups in it stays by itself.
		_, _ = unix.Rmdir(dir), unix.Rmdir(filepath.Dir(dir))
	}
}

// Sweep ends the processes of every group below parent whose name matches pattern, and removes those groups. A daemon
// that was killed leaves them.
func Sweep(ctx context.Context, parent, pattern string) error {
	var errs []error
	for _, h := range hierarchies() {
		dirs, err := filepath.Glob(filepath.Join(h.base, parent, pattern))
		errs = append(errs, err)
		for _, dir := range dirs {
			g := Group{dirs: []string{dir}}
			if h.unified {
				g.unified = dir
			}
			errs = append(errs, g.Kill(ctx))
			g.Remove()
		}
	}
	return errors.Join(errs...)
}
