package supervise

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// handoverFD is the descriptor on which a shim finds the variables that no file has.
const handoverFD = 4

// handOver returns a file in memory that holds variables.
func handOver(secret []string) (*os.File, error) {
	fd, err := unix.MemfdCreate("belay-shim", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "belay-shim")
	text, err := json.Marshal(secret)
	if err == nil {
		_, err = f.WriteAt(text, 0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// takeOver reads what Launch handed over, once. A shim that somebody starts by hand has nothing.
func takeOver() []string {
	var stat unix.Stat_t
	if unix.Fstat(handoverFD, &stat) != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	unix.CloseOnExec(handoverFD)
	f := os.NewFile(handoverFD, "handover")
	defer f.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(f, maxHandover))
	var secret []string
	if err != nil || json.Unmarshal(text, &secret) != nil {
		return nil
	}
	return secret
}

// maxHandover bounds the variables of one instance in bytes: the kernel takes less.
const maxHandover = 16 << 20

// with returns variables with others above them.
func with(env, secret []string) []string {
	all := slices.Clone(env)
	for _, pair := range secret {
		name, _, _ := strings.Cut(pair, "=")
		all = slices.DeleteFunc(all, func(v string) bool { return strings.HasPrefix(v, name+"=") })
		all = append(all, pair)
	}
	return all
}

// Quiet keeps the memory of this process, which holds values of secrets, from files and from other processes of its user: no
// core is written when it crashes, and only root may read it.
func Quiet() error {
	err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if os.Geteuid() != 0 {
		return err // undumpable, an ordinary user's daemon could not read its own /proc any more, nor map users
	}
	return errors.Join(err, unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}
