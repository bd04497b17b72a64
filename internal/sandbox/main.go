package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// failed is the exit code when the isolation could not be set up. The reason is on standard error.
const failed = 125

// Main is the verb "belay sandbox": it reads a Spec from file descriptor 3, confines itself and executes the command. It
// returns only when that failed, or as the init of the command with its exit code.
func Main(args []string) int {
	req, err := receive()
	if err != nil {
		return complain(err)
	}
	// What the kernel keeps per thread must be set on the thread that executes the command.
	runtime.LockOSThread()
	if slices.Contains(args, "--init") {
		unix.CloseOnExec(3)
		return start(req.Spec, reap)
	}
	if err := confine(req); err != nil {
		return complain(err)
	}
	if slices.Contains(args, "--probe") {
		return 0
	}
	if req.Spec.Watch {
		surrender()
	}
	if req.ownPIDs() {
		// The init is executed anew, so that none of its threads keeps a right that the app could take over.
		return complain(unix.Exec("/proc/self/exe", []string{"belay", "sandbox", "--init"}, os.Environ()))
	}
	unix.CloseOnExec(3)
	return start(req.Spec, func(path string, spec Spec) int {
		return complain(fmt.Errorf("%s: %w", path, unix.Exec(path, spec.Argv, spec.Env)))
	})
}

// start finds the command and hands it to run.
func start(spec Spec, run func(path string, spec Spec) int) int {
	path, err := lookPath(spec)
	if err != nil {
		return complain(err)
	}
	return run(path, spec)
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "sandbox:", err)
	return failed
}

func (r request) ownPIDs() bool {
	return r.Mode == Namespace || r.Mode == User && r.Spec.OwnPIDs
}

func receive() (request, error) {
	var req request
	data, err := handedOver()
	if err != nil {
		return req, fmt.Errorf("read the command: %w", err)
	}
	if err := json.Unmarshal(data, &req); err != nil {
		return req, fmt.Errorf("read the command: %w", err)
	}
	return req, nil
}

// handedOver reads descriptor 3 from its beginning and leaves it open, for the init to read again.
func handedOver() ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(3, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("no command handed over on descriptor 3")
	}
	data := make([]byte, st.Size)
	_, err := unix.Pread(3, data, 0)
	return data, err
}

// confine applies the spec to this process, rights last.
func confine(req request) error {
	spec := req.Spec
	for _, dir := range spec.Cgroups {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("enter control group: %w", err)
		}
	}
	if spec.OOMScoreAdj != 0 {
		// Lowering needs a right that a container may lack. It is a wish, not a guarantee.
		_ = os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(spec.OOMScoreAdj)), 0)
	}
	if err := spec.Weight.apply(); err != nil {
		return err
	}
	for _, l := range spec.Rlimits {
		if err := setrlimit(l); err != nil {
			return err
		}
	}
	if req.Mode != None {
		if err := mounts(req); err != nil {
			return err
		}
	}
	if err := drop(req); err != nil {
		return err
	}
	dir := spec.Dir
	if req.Mode == None {
		dir = unbound(spec)
	}
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("enter folder %s: %w", dir, err)
	}
	// Descriptors that the daemon left open are not for the app.
	return unix.CloseRange(4, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
}

func setrlimit(l Rlimit) error {
	lim := unix.Rlimit{Cur: l.Soft, Max: l.Hard}
	var now unix.Rlimit
	if err := unix.Getrlimit(l.Resource, &now); err == nil {
		// Without the right to raise, as much as there is.
		if os.Geteuid() != 0 {
			lim.Max = min(lim.Max, now.Max)
			lim.Cur = min(lim.Cur, lim.Max)
		}
	}
	if err := syscall.Setrlimit(l.Resource, &syscall.Rlimit{Cur: lim.Cur, Max: lim.Max}); err != nil {
		return fmt.Errorf("set limit %d: %w", l.Resource, err)
	}
	return nil
}

// drop gives up every right: the user, the groups, the capabilities, and the way to new ones.
func drop(req request) error {
	if req.Mode == User {
		if err := syscall.Setgroups([]int{req.Spec.GID}); err != nil {
			return fmt.Errorf("set groups: %w", err)
		}
		if err := syscall.Setresgid(req.Spec.GID, req.Spec.GID, req.Spec.GID); err != nil {
			return fmt.Errorf("set group: %w", err)
		}
		if err := syscall.Setresuid(req.Spec.UID, req.Spec.UID, req.Spec.UID); err != nil {
			return fmt.Errorf("set user: %w", err)
		}
	}
	if req.Mode == Namespace {
		// The permitted set goes with the exec, because the user is not 0 inside.
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
			return fmt.Errorf("clear capabilities: %w", err)
		}
	}
	if !req.Spec.AllowNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	return nil
}

// unbound is the working folder when nothing can be bound: the real folder behind Dir.
func unbound(spec Spec) string {
	for _, b := range slices.Backward(spec.Bind) {
		if rest, ok := below(b.To, spec.Dir); ok && b.From != b.To {
			return filepath.Join(b.From, rest)
		}
	}
	return spec.Dir
}

// below reports whether path is dir or below it, and returns the rest.
func below(dir, path string) (string, bool) {
	rel, err := filepath.Rel(dir, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	return rel, true
}

// lookPath finds the command as seen from inside, in the PATH of its own environment.
func lookPath(spec Spec) (string, error) {
	name := spec.Argv[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := "/usr/local/bin:/usr/bin:/bin"
	for _, kv := range spec.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			continue
		}
		full := filepath.Join(dir, name)
		if fi, err := os.Stat(full); err == nil && !fi.IsDir() && unix.Access(full, unix.X_OK) == nil {
			return full, nil
		}
	}
	return "", fmt.Errorf("%w: %s (PATH %s)", exec.ErrNotFound, name, path)
}
