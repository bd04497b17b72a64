package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// snapshot is the state of the tracked files: kind, mode and content.
type snapshot map[string]string

func snap(dir string, tracked []string) (s snapshot, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	s = snapshot{}
	for _, name := range tracked {
		if s[name], err = stateOf(root, name); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func stateOf(root *os.Root, name string) (string, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "gone", nil
	}
	if err != nil {
		return "", err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := root.Readlink(name)
		return "link " + to, err
	case !info.Mode().IsRegular():
		return info.Mode().Type().String(), nil
	}
	f, err := openFile(root, name)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%v %s", info.Mode()&0o100, hex.EncodeToString(h.Sum(nil))), errors.Join(err, f.Close())
}

// openFile opens a regular file without following a link or waiting at a pipe: the folder belongs to the app's own user.
func openFile(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file any more", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// differs returns the files that differ, sorted.
func (s snapshot) differs(o snapshot) []string {
	var names []string
	for name, state := range s {
		if o[name] != state {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
