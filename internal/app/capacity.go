package app

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/registry"
)

const (
	// minFree is what must stay free on the disk before anything new is started or taken in.
	minFree = 256 << 20
	// filesPerInstance is how many files and connections an instance is reckoned with.
	filesPerInstance = 1024
)

// room is what the machine has, as it says itself.
type room struct {
	memory     int64  // bytes that can be used without swapping
	disk       uint64 // bytes that are free
	files      int64  // that can still be opened on the whole machine
	perProcess int64  // that one process may open at most
	// connections is how many the database takes; 0 when nobody knows.
	connections int
}

// Capacity reckons what the start of a release takes of the machine, a line for each kind, and refuses it where that is too
// much. Surge is how many instances of a role run beside stable's at once; 0 is all of them. What runs of the release
// already is not counted again.
func (r *runner) Capacity(ctx context.Context, rel domain.Release, surge int) (string, error) {
	if rel.External != "" {
		return "", nil // it runs already, and elsewhere
	}
	running, err := r.Recorded()
	if err != nil {
		return "", err
	}
	has, err := r.room(ctx, rel)
	if err != nil {
		return "", err
	}
	return reckon(rel, surge, running, has)
}

// room asks the machine.
func (r *runner) room(ctx context.Context, rel domain.Release) (room, error) {
	memory, err := freeMemory()
	if err != nil {
		return room{}, err
	}
	disk, _, err := registry.Free(r.data)
	if err != nil {
		return room{}, err
	}
	files, err := freeFiles()
	if err != nil {
		return room{}, err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return room{}, fmt.Errorf("limit of open files: %w", err)
	}
	has := room{memory: memory, disk: disk, files: files, perProcess: int64(min(limit.Max, math.MaxInt64))}
	if r.connections != nil {
		has.connections = r.connections(ctx, rel)
	}
	return has, nil
}

// freeMemory reads what the kernel says can be used without swapping.
func freeMemory() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kib); n == 1 {
			return kib << 10, nil
		}
	}
	return 0, errors.New("no MemAvailable in /proc/meminfo")
}

// freeFiles reads how many files the kernel still lets the machine open.
func freeFiles() (int64, error) {
	text, err := os.ReadFile("/proc/sys/fs/file-nr")
	if err != nil {
		return 0, err
	}
	var open, unused, most int64
	if _, err := fmt.Sscan(string(text), &open, &unused, &most); err != nil {
		return 0, fmt.Errorf("/proc/sys/fs/file-nr: %w", err)
	}
	return most - open + unused, nil
}

// more is how many instances of a role are to be started.
type more struct {
	domain.Workload
	count int
}

// reckon sums up what the start of a release takes. Running is everything that should run on this machine.
func reckon(rel domain.Release, surge int, running []domain.Instance, has room) (string, error) {
	starts := starting(rel, surge, running)
	var lines []string
	for _, of := range []func(domain.Release, []more, []domain.Instance, room) (string, error){
		reckonMemory, reckonDisk, reckonFiles, reckonPools,
	} {
		line, err := of(rel, starts, running, has)
		if line != "" {
			lines = append(lines, line)
		}
		if err != nil {
			return strings.Join(lines, "\n"), err
		}
	}
	return strings.Join(lines, "\n"), nil
}

// starting lists what is to be started beside what runs. A role that is handed over needs no room of its own.
func starting(rel domain.Release, surge int, running []domain.Instance) []more {
	var starts []more
	for _, w := range rel.Workloads {
		mine, others := 0, 0
		for _, i := range running {
			switch {
			case i.App != rel.App || i.Environment != rel.Environment || i.Role != w.Role:
			case i.Release == rel.ID:
				mine++
			default:
				others++
			}
		}
		count := w.Instances
		switch {
		case w.Kind == domain.Singleton || w.Kind == domain.Cron:
			count = 1 - min(others, 1)
		case surge > 0 && others > 0:
			count = min(surge, count)
		}
		if count = max(0, count-mine); count > 0 {
			starts = append(starts, more{w, count})
		}
	}
	return starts
}

// withSpare adds the fifth that is kept for what nobody reckoned with.
func withSpare(n int64) int64 { return n + n/5 }

func reckonMemory(rel domain.Release, starts []more, _ []domain.Instance, has room) (string, error) {
	need := int64(0)
	var parts, open []string
	for _, m := range starts {
		if m.Memory <= 0 {
			open = append(open, m.Role)
			continue
		}
		need += m.Memory * int64(m.count)
		parts = append(parts, fmt.Sprintf("%s %d × %s", m.Role, m.count, registry.Size(uint64(m.Memory))))
	}
	free := registry.Size(uint64(max(0, has.memory)))
	line := fmt.Sprintf("memory    %s free", free)
	if need > 0 {
		line = fmt.Sprintf("memory    %s, a fifth to spare: %s of %s free", strings.Join(parts, " + "), registry.Size(uint64(withSpare(need))), free)
	}
	if len(open) > 0 {
		line += fmt.Sprintf("; %s set no memory, so they are not counted", strings.Join(open, ", "))
		if len(open) == 1 {
			line = strings.Replace(line, "set no memory, so they are", "sets no memory, so it is", 1)
		}
	}
	if need > 0 && withSpare(need) > has.memory {
		return line, domain.Errorf(domain.Refused, "no room for %s: %s and a fifth to spare are %s, %s of memory are free", rel.Short(),
			strings.Join(parts, " + "), registry.Size(uint64(withSpare(need))), free).
			WithHint("fewer instances, less memory for each, strategy rolling, or a bigger machine")
	}
	return line, nil
}

func reckonDisk(rel domain.Release, _ []more, _ []domain.Instance, has room) (string, error) {
	line := fmt.Sprintf("disk      %s free, %s of it kept free", registry.Size(has.disk), registry.Size(minFree))
	if has.disk < minFree {
		return line, domain.Errorf(domain.Refused, "no room for %s: %s are free on the disk, %s must stay free", rel.Short(),
			registry.Size(has.disk), registry.Size(minFree)).
			WithHint("free space or enlarge the disk; what runs is not touched, a rollback still works")
	}
	return line, nil
}

func reckonFiles(rel domain.Release, starts []more, _ []domain.Instance, has room) (string, error) {
	count := int64(0)
	for _, m := range starts {
		count += int64(m.count)
	}
	if count == 0 {
		return "", nil
	}
	need := withSpare(count * filesPerInstance)
	free := strconv.FormatInt(has.files, 10)
	if has.files > 1<<40 {
		free = "unlimited"
	}
	sum := fmt.Sprintf("%d × %d open files and a fifth to spare are %d", count, filesPerInstance, need)
	line := fmt.Sprintf("files     %s, %s free; %d for each process", sum, free, has.perProcess)
	switch {
	case has.perProcess < filesPerInstance:
		return line, domain.Errorf(domain.Refused, "no room for %s: a process may open %d files here, an instance is reckoned with %d",
			rel.Short(), has.perProcess, filesPerInstance).WithHint("raise the limit of the server: LimitNOFILE= in its unit, or ulimit -n")
	case need > has.files:
		return line, domain.Errorf(domain.Refused, "no room for %s: %s, the machine can open %s more", rel.Short(), sum, free).
			WithHint("raise fs.file-max, or run fewer instances")
	}
	return line, nil
}

// reckonPools adds up the connections that both releases may keep open: while one replaces the other, both have theirs.
func reckonPools(rel domain.Release, starts []more, running []domain.Instance, has room) (string, error) {
	total := 0
	var parts []string
	add := func(what string, w domain.Workload, count int) {
		if name, size := poolOf(w.Env); size > 0 && count > 0 {
			total += size * count
			parts = append(parts, fmt.Sprintf("%s%s %d × %d (%s)", what, w.Role, count, size, name))
		}
	}
	for _, m := range starts {
		add("", m.Workload, m.count)
	}
	for _, m := range serving(rel, running) {
		add("running ", m.Workload, m.count)
	}
	if total == 0 {
		return "", nil
	}
	sum := fmt.Sprintf("%s = %d connections", strings.Join(parts, " + "), total)
	if has.connections <= 0 {
		return "database  " + sum + "; how many it takes is not known", nil
	}
	line := fmt.Sprintf("database  %s of %d", sum, has.connections)
	if total > has.connections {
		return line, domain.Errorf(domain.Refused, "no room for %s: %s, the database takes %d", rel.Short(), sum, has.connections).
			WithHint("smaller pools, fewer instances, strategy rolling, or a higher max_connections")
	}
	return line, nil
}

// serving counts what runs of the release's app and environment, by release and role, in the order of their records.
func serving(rel domain.Release, running []domain.Instance) []more {
	var list []more
	at := map[domain.InstanceID]int{}
	for _, i := range running {
		if i.App != rel.App || i.Environment != rel.Environment {
			continue
		}
		key := domain.InstanceID{Release: i.Release, Role: i.Role}
		n, known := at[key]
		if !known {
			n, at[key] = len(list), len(list)
			list = append(list, more{Workload: i.Workload})
		}
		list[n].count++
	}
	return list
}

// poolNames are the variables by which frameworks and their users set the size of a pool of database connections, the most
// particular first.
var poolNames = []string{
	"DATABASE_POOL_SIZE", "DB_POOL_SIZE", "DATABASE_POOL_MAX", "DB_POOL_MAX", "DATABASE_POOL", "DB_POOL", "DB_MAX_OPEN_CONNS",
	"SQLALCHEMY_POOL_SIZE", "SPRING_DATASOURCE_HIKARI_MAXIMUM_POOL_SIZE", "POOL_SIZE", "RAILS_MAX_THREADS",
}

// poolKeys are the same in the query of DATABASE_URL.
var poolKeys = []string{"pool_max_conns", "connection_limit", "pool_size", "pool"}

// poolOf returns the declared size of an instance's pool and where it is declared; 0 when nothing declares one. Of
// DATABASE_URL nothing but that number is read.
func poolOf(env map[string]string) (string, int) {
	for _, name := range poolNames {
		if size, err := strconv.Atoi(strings.TrimSpace(env[name])); err == nil && size > 0 && size < 1<<20 {
			return name, size
		}
	}
	u, err := url.Parse(env["DATABASE_URL"])
	if err != nil {
		return "", 0
	}
	for _, key := range poolKeys {
		if size, err := strconv.Atoi(u.Query().Get(key)); err == nil && size > 0 && size < 1<<20 {
			return key + " of DATABASE_URL", size
		}
	}
	return "", 0
}
