package process_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/driver/process"
	"github.com/belay-cd/belay/internal/sandbox"
)

// targets is what an adversary is after.
type targets struct {
	Data   string // of the daemon
	Daemon int    // its process
	Other  string // a file of another app
	Suid   string // a program that root owns, with the setuid bit
}

// attack tries every way in and returns those that worked. It runs as code of the app.
func attack(at targets) []string {
	return append(append(reach(at), force(at)...), fromNamespace(at)...)
}

// reach tries what does no harm where it works.
func reach(at targets) []string {
	var in []string
	try := func(name string, err error) {
		if err == nil {
			in = append(in, name)
		}
	}
	read := func(path string) { _, err := os.ReadFile(path); try("read "+path, err) }
	proc := "/proc/" + strconv.Itoa(at.Daemon)

	read(filepath.Join(at.Data, "belay.db"))
	read(filepath.Join(at.Data, "keys", "signing.key"))
	read(at.Other)
	read(filepath.Join(at.Data, "users.json"))
	for _, path := range []string{"/etc/passwd", "/etc/ld.so.preload", "/etc/cron.d/belay", "/proc/sys/kernel/core_pattern", "/sys/fs/cgroup/cgroup.procs"} {
		try("open for writing "+path, openWritable(path))
	}
	for _, hierarchy := range []string{"memory", "unified", "pids", "cpu"} {
		path := filepath.Join("/sys/fs/cgroup", hierarchy, "cgroup.procs")
		try("open for writing "+path, openWritable(path))
	}
	for _, sock := range []string{"belay.sock", "proxy.sock"} {
		try("connect "+sock, dial(filepath.Join(at.Data, "run", sock)))
	}
	for _, name := range []string{"environ", "mem", "maps", "root/etc/passwd", "cwd/x", "fd/0", "auxv"} {
		read(filepath.Join(proc, name))
	}
	_, err := os.ReadDir(proc + "/fd")
	try("list the daemon's descriptors", err)
	try("signal the daemon", unix.Kill(at.Daemon, 0))
	try("signal the daemon's group", unix.Kill(-at.Daemon, 0))
	try("trace the daemon", unix.PtraceAttach(at.Daemon))
	_, err = unix.PidfdOpen(at.Daemon, 0)
	if err == nil { // a name is no way in, but taking its descriptors is
		fd, _ := unix.PidfdOpen(at.Daemon, 0)
		_, err = unix.PidfdGetfd(fd, 0, 0)
	}
	try("take the daemon's descriptors", err)
	link := filepath.Join(os.TempDir(), "belay-test-link-"+strconv.Itoa(os.Getpid()))
	try("hard link", os.Link(filepath.Join(at.Data, "belay.db"), link))
	_ = os.Remove(link)
	if out, err := exec.Command(at.Suid, "-u").Output(); err == nil && strings.TrimSpace(string(out)) == "0" {
		in = append(in, "run a setuid program")
	}
	return in
}

// force tries what would hurt this machine if it worked.
func force(at targets) []string {
	var in []string
	try := func(name string, err error) {
		if err == nil {
			in = append(in, name)
		}
	}
	try("become root", unix.Setresuid(0, 0, 0))
	try("take the cover away", unix.Unmount(at.Data, unix.MNT_DETACH))
	try("mount", unix.Mount("none", "/tmp", "tmpfs", 0, ""))
	for _, dev := range []string{"/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda"} {
		try("open "+dev, openWritable(dev))
	}
	for fd := 3; fd < 256; fd++ {
		var st unix.Stat_t
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 && unix.Fstat(fd, &st) == nil {
			in = append(in, fmt.Sprintf("inherited descriptor %d", fd))
		}
	}
	for _, sock := range []string{"/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/systemd/private", "/run/dbus/system_bus_socket"} {
		try("connect "+sock, dial(sock))
	}
	return in
}

// fromNamespace tries again with all rights in a namespace of the adversary's own.
func fromNamespace(at targets) []string {
	script := fmt.Sprintf(`umount -l %[1]s 2>/dev/null && echo "uncover as root of a namespace"
umount -l /proc 2>/dev/null && test -e /proc/%[2]d/environ && cat /proc/%[2]d/environ >/dev/null 2>&1 && echo "uncover /proc"
mount -o remount,rw / 2>/dev/null && echo "make the machine writable"
mount -o remount,bind,rw / 2>/dev/null && touch /etc/belay-was-here 2>/dev/null && echo "write as root of a namespace"
cat %[1]s/belay.db >/dev/null 2>&1 && echo "read as root of a namespace"; true`, at.Data, at.Daemon)
	cmd := exec.Command("unshare", "-Urm", "sh", "-c", script)
	out, err := cmd.Output()
	if err != nil {
		return nil // no namespace, no way in
	}
	return strings.FieldsFunc(strings.TrimSpace(string(out)), func(r rune) bool { return r == '\n' })
}

func openWritable(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

func dial(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	return c.Close()
}

func attackMain(args []string) int {
	var at targets
	if err := json.Unmarshal([]byte(args[0]), &at); err != nil {
		return 2
	}
	fmt.Println("attacked")
	ways := attack
	if len(args) > 1 {
		ways = reach
	}
	for _, in := range ways(at) {
		fmt.Println("IN:", in)
	}
	return 0
}

// fortress fills a data folder with what must be kept, as the daemon does, and returns what to aim at.
func fortress(t *testing.T, b *bench) targets {
	t.Helper()
	for _, dir := range []string{"keys", "run", "work/blog/src", "instances/blog/production/rel_9/web-0"} {
		if err := os.MkdirAll(filepath.Join(b.data, dir), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	// Readable by everybody on purpose: the walls must hold without the bits.
	other := filepath.Join(b.data, "instances/blog/production/rel_9/web-0", "instance.json")
	for _, file := range []string{filepath.Join(b.data, "belay.db"), filepath.Join(b.data, "keys", "signing.key"), other} {
		if err := os.WriteFile(file, []byte("secret"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, sock := range []string{"belay.sock", "proxy.sock"} {
		l, err := net.Listen("unix", filepath.Join(b.data, "run", sock))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(b.data, "run", sock), 0o666); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}
	return targets{Data: b.data, Daemon: os.Getpid(), Other: other, Suid: "./id"}
}

// plantSuid puts a setuid program of root where the adversary finds it.
func plantSuid(t *testing.T, dir string) {
	t.Helper()
	program, err := os.ReadFile("/usr/bin/id") // a copy: a link would give the machine's own the bit
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "id"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "id"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
}

func verdict(t *testing.T, out string, err error) {
	t.Helper()
	if err != nil || !strings.Contains(out, "attacked\n") {
		t.Fatalf("the adversary did not run: %v: %s", err, out)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "IN:") {
			t.Errorf("a way in: %s", line)
		}
	}
}

func TestInstanceCannotBreakOut(t *testing.T) {
	b := newBench(t, nil)
	at := fortress(t, b)
	plantSuid(t, filepath.Join(b.data, "releases", "aa"))
	inst := b.instance("rel_1", 0, "good", 0)
	aim, _ := json.Marshal(at)
	var out bytes.Buffer
	code, err := b.Exec(t.Context(), inst, "./app attack '"+string(aim)+"'", process.Stdio{Out: &out, Err: &out}, nil)
	if code != 0 {
		err = fmt.Errorf("exit code %d, %w", code, err)
	}
	verdict(t, out.String(), err)
}

func TestBuildCannotBreakOut(t *testing.T) { workshopCannotBreakOut(t, sandbox.Build) }

func TestTestCannotBreakOut(t *testing.T) { workshopCannotBreakOut(t, "test") }

func workshopCannotBreakOut(t *testing.T, purpose string) {
	t.Helper()
	b := newBench(t, nil)
	at := fortress(t, b)
	box := &sandbox.Sandbox{}
	if mode, why := box.Probe(); mode == sandbox.None {
		t.Skip("nothing keeps code apart on this machine: " + why)
	}
	accounts := sandbox.Accounts{File: filepath.Join(b.data, "users.json"), Numeric: true}
	acc, err := accounts.Of(t.Context(), "shop", purpose)
	if err != nil {
		t.Fatal(err)
	}
	w := sandbox.Workshop{Data: b.data, Home: os.Getenv("HOME"), Path: os.Getenv("PATH"), App: "shop", Account: acc}
	if err := w.Clear(); err != nil {
		t.Fatal(err)
	}
	copyBinary(t, filepath.Join(b.data, "releases", "aa", "app"), filepath.Join(w.Src(), "app"))
	if err := w.Give(); err != nil {
		t.Fatal(err)
	}
	plantSuid(t, w.Src())
	aim, _ := json.Marshal(at)
	cmd, err := box.Command(t.Context(), w.Spec("", []string{"./app", "attack", string(aim)}, nil))
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	verdict(t, string(out), err)
}

// The adversary must be able to win: without walls it finds its ways in, else the tests above would prove nothing.
func TestAdversaryCanWin(t *testing.T) {
	b := newBench(t, nil)
	at := fortress(t, b)
	plantSuid(t, b.data)
	victim := exec.Command("sleep", "60")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = victim.Process.Kill()
		_ = victim.Wait()
	}()
	at.Daemon, at.Suid = victim.Process.Pid, filepath.Join(b.data, "id")
	aim, _ := json.Marshal(at)
	self, _ := os.Executable()
	out, err := exec.Command(self, "attack", string(aim), "only what does no harm").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"belay.db", "signing.key", "belay.sock", "proxy.sock", "instance.json", "environ", "signal the daemon", "trace the daemon"} {
		if !strings.Contains(string(out), way) {
			t.Errorf("without walls it did not manage: %s; only %s", way, out)
		}
	}
}

// What the app leaves in its own folders leads the daemon nowhere.
func TestLinksLeadNowhere(t *testing.T) {
	b := newBench(t, nil)
	victim := filepath.Join(b.data, "belay.db")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	inst := b.instance("rel_1", 0, "good", 0)
	inst.Workload.Volumes = map[string]string{"v": "v"}
	b.start(b.instance("rel_1", 0, "good", 0))
	run := "for d in /tmp /run/belay/instance v; do ln -sfn " + victim + " $d/x; ln -sfn " + victim + " $d/heartbeat; ln -sfn / $d/dir; done"
	inst.Index = 1
	inst.Workload.Run = "sh -c '" + run + "; exec ./app app good'"
	b.start(inst)
	for range 2 {
		if err := b.Stop(t.Context(), inst.InstanceID); err != nil {
			t.Fatal(err)
		}
		b.start(inst)
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "precious" {
		t.Errorf("it is %q now, %v", data, err)
	}
	if fi, err := os.Stat(victim); err != nil || fi.Mode().Perm() != 0o600 || fi.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
		t.Errorf("its rights are %v now, %v", fi.Mode(), err)
	}
}
