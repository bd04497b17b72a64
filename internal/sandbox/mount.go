package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mounts builds what the command sees: the whole machine read-only, covered where Hide says so, with the folders of Bind
// shown again. Sources are opened before anything is covered, so that a bind may come from below a covered folder.
func mounts(req request) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("detach mounts: %w", err)
	}
	trees, err := openTrees(req.Spec.Bind)
	if err != nil {
		return err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("make the machine read-only: %w", err)
	}
	if err := cover(req.Spec); err != nil {
		return err
	}
	for _, t := range trees {
		if err := t.show(); err != nil {
			return err
		}
	}
	// Covers stay empty: the command may not build in them what another would trust.
	if err := sealCovers(req.Spec.Hide); err != nil {
		return err
	}
	return mountProc(req)
}

func cover(spec Spec) error {
	hidden := slices.Clone(spec.Hide)
	// Outer folders first, else an outer cover would take an inner one away.
	slices.SortFunc(hidden, func(a, b string) int { return cmp.Compare(len(a), len(b)) })
	private := []string{}
	if spec.PrivateTmp {
		private = []string{"/tmp", "/var/tmp", "/dev/shm"}
	}
	for _, dir := range private {
		if err := tmpfs(dir, "mode=1777,size=50%"); err != nil {
			return err
		}
	}
	for _, dir := range hidden {
		// A folder below a private one is away already; it is covered only if it is still there.
		if err := tmpfs(dir, "mode=0755,size=1m"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func tmpfs(dir, options string) error {
	if _, err := os.Stat(dir); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("cover: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("cover %s: %w", dir, err)
	}
	return nil
}

func sealCovers(hidden []string) error {
	for _, dir := range hidden {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
			continue
		}
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(unix.AT_FDCWD, dir, 0, &attr); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("seal %s: %w", dir, err)
		}
	}
	return nil
}

// tree is a detached copy of a mount, made before anything was covered.
type tree struct {
	bind Bind
	fd   int
	dir  bool
}

func openTrees(binds []Bind) ([]tree, error) {
	var trees []tree
	for _, b := range binds {
		fi, err := os.Stat(b.From)
		if errors.Is(err, os.ErrNotExist) && b.Optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("show %s: %w", b.From, err)
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, b.From, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return nil, fmt.Errorf("show %s: %w", b.From, err)
		}
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
		if b.ReadOnly {
			attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
		}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
			return nil, fmt.Errorf("show %s: %w", b.From, err)
		}
		trees = append(trees, tree{bind: b, fd: fd, dir: fi.IsDir()})
	}
	return trees, nil
}

// show attaches the tree. The way to the target may lead through folders that the app owns or that came with its
// artifact: no symbolic link is followed there.
func (t tree) show() error {
	target, err := makeTarget(t.bind.To, t.dir)
	if err != nil {
		return fmt.Errorf("show %s at %s: %w", t.bind.From, t.bind.To, err)
	}
	defer unix.Close(target) //nolint:errcheck // a path descriptor
	flags := unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(t.fd, "", target, "", flags); err != nil {
		return fmt.Errorf("show %s at %s: %w", t.bind.From, t.bind.To, err)
	}
	return unix.Close(t.fd)
}

// makeTarget opens the mount point, made where it is missing (in a cover; elsewhere it must exist).
func makeTarget(path string, dir bool) (int, error) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, how)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	parent, name := filepath.Split(strings.TrimRight(path, "/"))
	up, err := makeTarget(filepath.Clean(parent), true)
	if err != nil {
		return -1, err
	}
	defer unix.Close(up) //nolint:errcheck // a path descriptor
	if dir {
		err = unix.Mkdirat(up, name, 0o755)
	} else {
		err = unix.Mknodat(up, name, unix.S_IFREG|0o644, 0)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	how.Flags |= unix.O_NOFOLLOW
	return unix.Openat2(up, name, how)
}

// mountProc shows the command its own processes only: those of its namespace, or those of its user.
func mountProc(req request) error {
	options := "hidepid=invisible"
	if req.ownPIDs() {
		options = ""
	}
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	err := unix.Mount("proc", "/proc", "proc", flags, options)
	if errors.Is(err, unix.EINVAL) && options != "" {
		err = unix.Mount("proc", "/proc", "proc", flags, "hidepid=2")
	}
	if err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}
