package torture

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/domain"
)

// What the world does to a rollback. Arm happens while next has the traffic and just before the command.
type obstacle struct {
	name, mode string
	arm        func(w *world, r domain.Route)
	disarm     func(w *world)
}

var obstacles = []obstacle{
	{name: "nothing is wrong"},
	{name: "next is stopped and ignores TERM", mode: "ignoreterm", arm: func(w *world, r domain.Route) {
		for _, i := range instances(w.data) {
			if i.release == r.Next.Release {
				if err := kill(i.state.Child.PID, syscall.SIGSTOP); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	}},
	{name: "next hangs", arm: func(w *world, r domain.Route) { w.tell(r, "/hang") }},
	{name: "next floods its log", arm: func(w *world, r domain.Route) { w.tell(r, "/flood") }},
	{name: "registry, repository and secret are gone", arm: func(w *world, _ domain.Route) {
		for _, name := range []string{"registry", "repo"} {
			if err := os.Rename(filepath.Join(w.data, name), filepath.Join(w.data, name+".gone")); err != nil {
				w.t.Fatal(err)
			}
		}
		if err := os.Remove(w.secret()); err != nil {
			w.t.Fatal(err)
		}
	}, disarm: func(w *world) {
		for _, name := range []string{"registry", "repo"} {
			_ = os.RemoveAll(filepath.Join(w.data, name))
			if err := os.Rename(filepath.Join(w.data, name+".gone"), filepath.Join(w.data, name)); err != nil {
				w.t.Fatal(err)
			}
		}
		w.makeSecret()
	}},
}

// Whatever next does and whatever is gone: the command moves the traffic, and no request begins on next after it.
func TestRollbackWaitsForNothing(t *testing.T) {
	w := newWorld(t, "30s", "")
	w.makeSecret()
	w.file = fmt.Sprintf("secrets: { file: { TOKEN: \"%s/secret.$BELAY_ENV#TOKEN\" } }\n", w.dir)
	w.monitor = "1s"
	w.deliver("first", "", domain.DoneState)
	w.monitor = "30s"
	tr := w.startTraffic(100)
	list := obstacles
	if !long {
		list = obstacles[:2]
	}
	for n, o := range list {
		w.commit(fmt.Sprintf("bad-%d", n), o.mode)
		number := w.ship()
		r := w.awaitRoute("next has the traffic", onNext)
		time.Sleep(300 * time.Millisecond)
		if o.arm != nil {
			o.arm(w, r)
		}
		w.rollBack(o.name, r, tr)
		if o.disarm != nil {
			o.disarm(w)
		}
		if !long && o.mode != "" {
			return // it takes its whole grace to end
		}
		d := w.await(number, 60*time.Second)
		if d.State != domain.RolledBackState {
			t.Errorf("%s: rolled back is wanted: %s", o.name, describe(d))
		}
		w.awaitStable()
		w.thaw()
	}
	all := tr.stop()
	if len(all) < 100 {
		t.Errorf("only %d requests", len(all))
	}
	w.allThere()
}

// rollBack gives the command and asserts what the visitors see after it.
func (w *world) rollBack(name string, r domain.Route, tr *traffic) {
	w.t.Helper()
	began := time.Now()
	code, out := w.belay("rollback", "production", "--reason", "torture")
	ack := time.Now()
	if code != 0 {
		w.t.Errorf("%s: rollback ended with %d: %s", name, code, out)
	}
	now, err := w.route()
	if err != nil || now.Rollout == r.Rollout && (now.Weight != 0 || !now.Latched) {
		w.t.Errorf("%s: after the command the weight is %d, latched %t, %v", name, now.Weight, now.Latched, err)
	}
	time.Sleep(500 * time.Millisecond)
	late, onStable := 0, 0
	for _, q := range tr.sofar() {
		if !q.begin.After(ack) {
			continue
		}
		switch q.release {
		case label(r.Next):
			late++
			w.t.Errorf("%s: %s began on next %s after the acknowledgement", name, q, q.begin.Sub(ack))
		case label(r.Stable):
			onStable++
		}
		if q.failed() {
			w.t.Errorf("%s: failed after the acknowledgement: %s", name, q)
		}
	}
	w.t.Logf("%s: back in %s; then %d requests on stable, %d on next; %s", name, ack.Sub(began).Round(time.Millisecond), onStable, late,
		strings.TrimSpace(out))
	if onStable == 0 {
		w.t.Errorf("%s: nothing was served by stable after it", name)
	}
}

// label is how the answers name a release.
func label(b *domain.Backend) string { return domain.ShortCommit(b.Commit) }

// tell asks each instance of next itself for something.
func (w *world) tell(r domain.Route, path string) {
	w.t.Helper()
	for _, i := range r.Next.Instances {
		client := http.Client{Timeout: 2 * time.Second}
		answer, err := client.Get("http://" + i.Addr + path)
		if err != nil {
			w.t.Fatal(err)
		}
		_ = answer.Body.Close()
	}
}

func (w *world) secret() string { return filepath.Join(w.dir, "secret.production") }

func (w *world) makeSecret() {
	w.t.Helper()
	for _, env := range domain.Environments {
		text := "TOKEN=torture-" + string(env) + "-0123456789\n"
		if err := os.WriteFile(filepath.Join(w.dir, "secret."+string(env)), []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

// A full disk takes away the records, not the way back.
func TestRollbackWithAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a folder with little room is a mount, which needs root")
	}
	data := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", data, "tmpfs", 0, "size=800m,mode=755"); err != nil {
		t.Skipf("a folder with little room cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(data, unix.MNT_DETACH) })
	w := newWorld(t, "1s", filepath.Join(data, "data"))
	w.deliver("first", "", domain.DoneState)
	w.monitor = "30s"
	tr := w.startTraffic(50)
	w.commit("bad", "")
	number := w.ship()
	r := w.awaitRoute("next has the traffic", onNext)
	w.awaitStage(number, domain.Monitor)
	fill(t, filepath.Join(data, "data", "volumes", "fill"))
	w.rollBack("the disk is full", r, tr)
	if err := os.Remove(filepath.Join(data, "data", "volumes", "fill")); err != nil {
		t.Fatal(err)
	}
	if d := w.await(number, 60*time.Second); d.State != domain.RolledBackState {
		t.Errorf("rolled back is wanted: %s", describe(d))
	}
	tr.stop()
	w.awaitStable()
	w.allThere()
}

// fill takes all room of a file system.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 20; size > 0; size /= 4 {
		block := make([]byte, size)
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	t.Logf("the disk is full: %d bytes are free (%v)", int64(st.Bavail)*st.Bsize, err)
}

// The server dies between the flip and the record of it: the latch in the data plane is all that is left of the decision.
func TestACrashBetweenFlipAndRecordGoesOnAsARollback(t *testing.T) {
	w := newWorld(t, "1s", "")
	w.deliver("first", "", domain.DoneState)
	w.monitor = "30s"
	tr := w.startTraffic(100)
	w.commit("bad", "")
	number := w.ship()
	r := w.awaitRoute("next has the traffic", onNext)
	go w.belay("rollback", "production", "--reason", "torture")
	deadline := time.Now().Add(20 * time.Second)
	for {
		now, err := w.route()
		if err == nil && now.Latched {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the flip never came")
		}
	}
	w.killServe()
	flipped := time.Now()
	time.Sleep(time.Second)
	w.start(binaries.belay)
	if d := w.await(number, 60*time.Second); d.State != domain.RolledBackState {
		t.Errorf("rolled back is wanted: %s", describe(d))
	} else {
		t.Log(strings.SplitN(describe(d), "\n", 2)[0])
	}
	if got := w.awaitStable(); got != r.Stable.Commit {
		t.Errorf("%s serves, %s is wanted", got, r.Stable.Commit)
	}
	for _, q := range tr.stop() {
		if q.begin.After(flipped) && (q.release == label(r.Next) || q.failed()) {
			t.Errorf("after the flip: %s", q)
		}
	}
	w.allThere()
}
