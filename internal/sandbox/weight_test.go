package sandbox_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/sandbox"
)

// A confined command is as light as it should be, and so is what it starts.
func TestWeight(t *testing.T) {
	b := box(t)
	for _, c := range []struct {
		weight         sandbox.Weight
		nice, policy   string
		class, ioLevel int
	}{
		{sandbox.Full, "0", "0", 0, 0}, {sandbox.Low, "5", "0", 2, 7}, {sandbox.Lowest, "10", "3", 3, 0},
	} {
		for _, own := range []bool{false, true} {
			script := "grep -o '^[0-9]* .*' /proc/self/stat; cat /proc/self/oom_score_adj /proc/self/autogroup; sh -c 'sleep 3011 & echo $!; read x'"
			cmd, err := b.Command(t.Context(), sandbox.Spec{
				Dir: "/", Argv: []string{"sh", "-c", script}, Env: []string{"PATH=" + path}, UID: 65534, GID: 65534,
				Weight: c.weight, OwnPIDs: own, OOMScoreAdj: 321,
			})
			if err != nil {
				t.Fatal(err)
			}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var lines []string
			for buf := make([]byte, 4096); len(lines) < 4; {
				n, err := out.Read(buf)
				if err != nil {
					t.Fatalf("%q, %v", lines, err)
				}
				lines = append(lines, strings.Split(strings.TrimSpace(string(buf[:n])), "\n")...)
			}
			stat := strings.Fields(lines[0][strings.LastIndex(lines[0], ")")+1:])
			if stat[16] != c.nice || stat[38] != c.policy || lines[1] != "321" {
				t.Errorf("%q: nice %s policy %s oom_score_adj %s", c.weight, stat[16], stat[38], lines[1])
			}
			if strings.HasPrefix(lines[2], "/autogroup") && !strings.HasSuffix(lines[2], "nice "+c.nice) {
				t.Errorf("%q: its session is %s", c.weight, lines[2])
			}
			for _, pid := range sleepers("3011") {
				got, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(pid), 0)
				if errno != 0 {
					t.Fatal(errno)
				}
				if class, level := int(got)>>13, int(got)&7; c.class != 0 && (class != c.class || level != c.ioLevel) {
					t.Errorf("%q: class %d level %d of the disk", c.weight, class, level)
				}
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			_ = in.Close()
			_ = cmd.Wait()
		}
	}
}

// sleepers finds the processes "sleep ARG" as this machine numbers them.
func sleepers(arg string) []int {
	var pids []int
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		if data, _ := os.ReadFile(name); string(data) == "sleep\x00"+arg+"\x00" {
			var pid int
			if _, err := fmt.Sscanf(name, "/proc/%d/", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// A build that wants too much memory is ended with all that it started, and says why.
func TestMemoryIsBounded(t *testing.T) {
	b := box(t)
	eat := "head -c %d /dev/zero | tail -c %d | sleep 3012"
	for _, c := range []struct {
		eaten int
		dies  bool
	}{{16 << 20, false}, {160 << 20, true}} {
		script := fmt.Sprintf("("+eat+") & sleep 1.5; echo over", c.eaten, c.eaten)
		out, code := run(t, b, sandbox.Spec{OwnPIDs: true, Memory: 96 << 20}, script)
		if died := code == 128+int(unix.SIGKILL); died != c.dies {
			t.Errorf("%d MiB eaten: exit code %d: %s", c.eaten>>20, code, out)
		}
		if said := strings.Contains(out, "it used more than its 96 MiB of memory"); said != c.dies {
			t.Errorf("%d MiB eaten: it says %q", c.eaten>>20, out)
		}
		if left := sleepers("3012"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// What several processes share counts once, or an app with many workers would be ended for memory that it does not use.
func TestSharedMemoryCountsOnce(t *testing.T) {
	const size = 64 << 20
	fd, err := unix.MemfdCreate("shared", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "shared")
	defer file.Close()
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for range 3 {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "share")
		cmd.ExtraFiles = []*os.File{file}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
		if _, err := out.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, cmd.Process.Pid)
	}
	if sum := sandbox.Resident(pids, 1<<40); sum < 3*size {
		t.Errorf("the quick sum is %d MiB", sum>>20)
	}
	if together := sandbox.Resident(pids, size); together < size/2 || together > 2*size {
		t.Errorf("three processes that share %d MiB use %d", size>>20, together>>20)
	}
	if none := sandbox.Resident([]int{1 << 30}, 0); none != 0 {
		t.Errorf("a process that is gone uses %d", none)
	}
}

// share maps descriptor 3, touches all of it, says so and waits.
func share() int {
	const size = 64 << 20
	memory, err := unix.Mmap(3, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 1
	}
	for i := 0; i < size; i += 4096 {
		memory[i] = 1
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
	return 0
}

func TestWorkshopIsLight(t *testing.T) {
	s := sandbox.Workshop{Data: "/data", App: "shop", Cgroups: []string{"/g"}}.Spec("", []string{"make"}, nil)
	if s.Weight != sandbox.Lowest || s.OOMScoreAdj != 800 || !s.OwnPIDs || len(s.Cgroups) != 1 {
		t.Errorf("a build runs as %+v", s)
	}
	if total := sandbox.WorkshopMemory(); s.Memory != total || total < 64<<20 {
		t.Errorf("a build may use %d of %d bytes", s.Memory, total)
	}
}
