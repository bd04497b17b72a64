package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Account is the identity under which code of one app runs for one purpose.
type Account struct {
	Name string `json:"name"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
}

// Accounts hands out one system user per app and purpose, and remembers them in a file so that they stay the same.
type Accounts struct {
	// File holds what was handed out. It is made when it is missing, readable by the daemon only.
	File string
	// Numeric uses bare numbers even where system users can be made.
	Numeric bool
}

// Build is the purpose of an account besides the two environments.
const Build = "build"

// firstNumber is the first bare number, where no system user can be made: above everything that distributions and
// container engines hand out.
const firstNumber = 1_900_000_000

// Of returns the account of app for a purpose (build, staging, production), made when there is none yet. Without root it
// is the daemon's own, because nothing else is possible; the namespaces do the keeping apart then.
func (a Accounts) Of(ctx context.Context, app, purpose string) (Account, error) {
	if os.Geteuid() != 0 {
		return Account{UID: os.Geteuid(), GID: os.Getegid()}, nil
	}
	unlock, err := lockFile(a.File + ".lock")
	if err != nil {
		return Account{}, fmt.Errorf("user for %s %s: %w", app, purpose, err)
	}
	defer unlock()
	known, err := a.load()
	if err != nil {
		return Account{}, err
	}
	key := app + "/" + purpose
	if acc, ok := known[key]; ok {
		return acc, nil
	}
	acc, err := a.create(ctx, accountName(app, purpose), known)
	if err != nil {
		return Account{}, fmt.Errorf("user for %s %s: %w", app, purpose, err)
	}
	known[key] = acc
	return acc, a.save(known)
}

func (a Accounts) load() (map[string]Account, error) {
	known := map[string]Account{}
	data, err := os.ReadFile(a.File)
	if errors.Is(err, os.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &known); err != nil {
		return nil, fmt.Errorf("%s: %w", a.File, err)
	}
	return known, nil
}

func (a Accounts) save(known map[string]Account) error {
	data, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return err
	}
	tmp := a.File + ".new"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, a.File)
}

func (a Accounts) create(ctx context.Context, name string, known map[string]Account) (Account, error) {
	if !a.Numeric {
		useradd, err := exec.LookPath("useradd")
		if err != nil {
			useradd = "/usr/sbin/useradd"
		}
		acc, err := systemUser(ctx, useradd, name)
		if err == nil {
			return acc, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return Account{}, err
		}
	}
	number := firstNumber
	for _, acc := range known {
		number = max(number, acc.UID+1)
	}
	return Account{Name: name, UID: number, GID: number}, nil
}

// systemUser makes the user, or takes the one of that name that an earlier run made.
func systemUser(ctx context.Context, useradd, name string) (Account, error) {
	found, err := user.Lookup(name)
	if err != nil {
		cmd := exec.CommandContext(ctx, useradd, "--system", "--no-create-home", "--user-group",
			"--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", name)
		if out, err := cmd.CombinedOutput(); err != nil {
			return Account{}, fmt.Errorf("useradd: %w: %s", err, strings.TrimSpace(string(out)))
		}
		if found, err = user.Lookup(name); err != nil {
			return Account{}, err
		}
	}
	uid, err := strconv.Atoi(found.Uid)
	if err != nil {
		return Account{}, err
	}
	gid, err := strconv.Atoi(found.Gid)
	if err != nil {
		return Account{}, err
	}
	if uid == 0 || gid == 0 {
		return Account{}, fmt.Errorf("user %s is root", name)
	}
	return Account{Name: name, UID: uid, GID: gid}, nil
}

var plainName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// accountName is belay-APP-PURPOSE, with a hash in place of an app's name that is too long or no name for a user.
func accountName(app, purpose string) string {
	const longest = 32 // of useradd
	name := "belay-" + app + "-" + purpose
	if len(name) <= longest && plainName.MatchString(name) {
		return name
	}
	sum := sha256.Sum256([]byte(app))
	return "belay-" + hex.EncodeToString(sum[:5]) + "-" + purpose
}

// lockFile takes an exclusive lock that ends with the process at the latest.
func lockFile(path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
