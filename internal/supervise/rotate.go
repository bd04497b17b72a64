package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// openLog opens the log for appending. The process writes to this file itself, so that nothing that dies can stop it.
func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
}

// rotate copies a log that grew past the policy's size to path.1 (and that to path.2, …) and empties it in place: the
// process goes on writing to the same file. What is written between copy and emptying is lost, at most a few lines.
func rotate(path string, p LogPolicy) error {
	fi, err := os.Stat(path)
	if err != nil || p.Size <= 0 || fi.Size() <= p.Size {
		return err
	}
	for i := p.Keep - 1; i > 1; i-- {
		err := os.Rename(fmt.Sprintf("%s.%d", path, i-1), fmt.Sprintf("%s.%d", path, i))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if p.Keep > 1 {
		if err := copyFile(path, path+".1"); err != nil {
			// A full disk must not get fuller: without room for the copy the log is emptied all the same.
			_ = os.Remove(path + ".1")
		}
	}
	return os.Truncate(path, 0)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // read only
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
