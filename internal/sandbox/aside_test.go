package sandbox_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/sandbox"
)

// What is built aside begins with copies of what the app's own commands left, and shares nothing with it.
func TestBorrow(t *testing.T) {
	data := t.TempDir()
	acc := sandbox.Account{UID: os.Getuid(), GID: os.Getgid()}
	if os.Geteuid() == 0 {
		acc = sandbox.Account{UID: 65534, GID: 65534}
	}
	own := sandbox.Workshop{Data: data, App: "shop", Account: acc}
	aside := own
	aside.Aside = true
	if err := own.Make(); err != nil {
		t.Fatal(err)
	}
	at := func(names ...string) string {
		return filepath.Join(append([]string{data, "work", "shop"}, names...)...)
	}
	give := func(name string) {
		if err := os.Lchown(name, acc.UID, acc.GID); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		for dir := filepath.Dir(name); dir != at(); dir = filepath.Dir(dir) {
			give(dir)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		give(name)
	}
	long := time.Unix(1_700_000_000, 0)
	write(at("cache", "go-mod", "mod", "a.go"), "package a\n", 0o444)
	write(at("home", ".config", "run.sh"), "echo\n", 0o755)
	write(at("src", "node_modules", "x", "x.js"), "x\n", 0o644)
	if err := os.Chtimes(at("home", ".config", "run.sh"), long, long); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"out": "/etc/passwd", "in": ".config/run.sh"} {
		if err := os.Symlink(to, at("home", link)); err != nil {
			t.Fatal(err)
		}
		give(at("home", link))
	}
	secret := filepath.Join(data, "secret")
	if err := os.WriteFile(secret, []byte("of the daemon"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(secret, at("home", "stolen")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(at("cache", "go-mod", "mod"), 0o555); err != nil { // as go leaves it
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(at("cache", "go-mod", "mod"), 0o755) }) //nolint:gosec // to be removed
	asked := int64(0)
	room := func(n int64) error { asked += n; return nil }
	for range 2 { // a second time over what the first left
		if err := aside.Borrow(t.Context(), room); err != nil {
			t.Fatal(err)
		}
		if err := aside.BorrowKept(t.Context(), []string{"node_modules", "../home", ".", "none"}, room); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"cache/go-mod/mod/a.go", "home/.config/run.sh", "src/node_modules/x/x.js"} {
			was, err1 := os.Stat(at(name))
			is, err2 := os.Stat(at("aside", name))
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			if os.SameFile(was, is) || was.Mode() != is.Mode() || !was.ModTime().Equal(is.ModTime()) || was.Size() != is.Size() {
				t.Errorf("%s: %v %v, was %v %v", name, is.Mode(), is.ModTime(), was.Mode(), was.ModTime())
			}
		}
		if info, err := os.Stat(at("aside", "cache", "go-mod", "mod")); err != nil || info.Mode().Perm() != 0o555 {
			t.Errorf("%v %v", info, err)
		}
		if to, err := os.Readlink(at("aside", "home", "out")); err != nil || to != "/etc/passwd" {
			t.Errorf("%s %v", to, err)
		}
		if _, err := os.Lstat(at("aside", "home", "stolen")); os.Geteuid() == 0 && err == nil {
			t.Error("a link to a file of the daemon was copied out")
		}
		for name := range map[string]bool{"src/none": true, "src/home": true} {
			if _, err := os.Lstat(at("aside", name)); err == nil && name != "src/none" {
				t.Errorf("%s is there", name)
			}
		}
	}
	if asked == 0 {
		t.Error("nobody asked for room")
	}
	full := errors.New("no room")
	if err := aside.Borrow(t.Context(), func(int64) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
	if err := own.Dispose(); err == nil {
		t.Error("the app's own folders can be disposed of")
	}
	if err := aside.Dispose(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(at("aside")); !os.IsNotExist(err) {
		t.Error(err)
	}
	if _, err := os.Stat(at("home", ".config", "run.sh")); err != nil {
		t.Error(err)
	}
}

// Aside or not, a command sees the same paths; only what lies behind them differs.
func TestAsideIsSeenAtTheSamePaths(t *testing.T) {
	w := sandbox.Workshop{Data: "/data", App: "shop"}
	a := w
	a.Aside = true
	if got, want := strings.Join(a.Spec("", nil, nil).Env, " "), strings.Join(w.Spec("", nil, nil).Env, " "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if a.Checkout() != "/data/work/shop/aside/src" || a.Seen(a.Checkout()+"/api") != "/data/work/shop/src/api" || a.Src() != w.Src() {
		t.Errorf("%s %s %s", a.Checkout(), a.Seen(a.Checkout()+"/api"), a.Src())
	}
	for _, b := range a.Spec("", nil, nil).Bind {
		if strings.HasPrefix(b.To, "/data/") && (!strings.HasPrefix(b.From, "/data/work/shop/aside/") || b.From == b.To) {
			t.Errorf("%+v", b)
		}
	}
	a.Unbound = true // nothing can be seen elsewhere: it is there under its own name
	if a.Src() != a.Checkout() || !strings.Contains(strings.Join(a.Spec("", nil, nil).Env, " "), "HOME=/data/work/shop/aside/home") {
		t.Errorf("%s", a.Src())
	}
}
