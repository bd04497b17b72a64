package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
)

// A random part is killed again and again, under load and during deliveries. BELAY_SEED repeats a run.
func TestRandomKills(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("BELAY_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("BELAY_SEED=%d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t, "2s", "")
	w.probes = 4 // an instance that is killed once is no harm
	w.deliver("first", "", domain.DoneState)
	tr := w.startTraffic(rate)
	capacity := w.watchCapacity()
	var deaths []death
	delivery, number := 0, 0
	deck := []string{"daemon", "worker", "holder", "shim", "instance", "shim"}
	for n := range kills {
		if delivery == 0 {
			number++
			w.commit(fmt.Sprintf("release-%d", number), "")
			delivery = w.ship()
		}
		time.Sleep(time.Duration(200+dice.IntN(1200)) * time.Millisecond)
		if n%len(deck) == 0 {
			dice.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		if d, ok := w.killOne(dice, deck[n%len(deck)]); ok {
			deaths = append(deaths, d)
			t.Logf("%s killed %s", d.at.Format("15:04:05.000"), d.what)
		}
		if d, err := w.api1.Delivery(t.Context(), appName, delivery); err == nil && d.State.Final() {
			w.endedWell(d)
			delivery = 0
		}
	}
	if delivery != 0 {
		w.endedWell(w.await(delivery, 90*time.Second))
	}
	w.allThere()
	all := tr.stop()
	capacity()
	noFailures(t, all, kills*rate/2, func(r request) bool { return excused(r, deaths) })
	w.nothingTwice(all)
	if d, err := w.api1.Delivery(t.Context(), appName, client.Newest); err != nil || d.Number != number+1 {
		t.Errorf("the newest delivery is #%d, %d were shipped: %v", d.Number, number+1, err)
	}
}

// death is one kill -9.
type death struct {
	at, to time.Time
	what   string
	hurts  bool // requests in flight may fail: there was an instance or the proxy
}

// killOne kills one process of a kind. Instances of next are left alone until they have the traffic: a release that is
// not whole is never given any, and that is tried elsewhere.
func (w *world) killOne(dice *rand.Rand, what string) (death, bool) {
	w.t.Helper()
	d := death{what: what}
	pid := 0
	switch what {
	case "daemon":
		d.at = time.Now()
		w.killServe()
		d.to = time.Now()
		time.Sleep(time.Duration(dice.IntN(1000)) * time.Millisecond)
		w.start(binaries.belay)
		return d, true
	case "worker", "holder":
		h, err := w.proxy.Health(w.t.Context())
		if err != nil {
			return d, false
		}
		pid, d.hurts = h.PID, what == "worker"
		if what == "holder" {
			pid = h.Holder
		}
	case "shim", "instance":
		var candidates []instance
		r, err := w.route()
		for _, i := range instances(w.data) {
			serves := err == nil && (onStable(r) && i.release == r.Stable.Release || onNext(r) && i.release == r.Next.Release)
			if what == "shim" || serves {
				candidates = append(candidates, i)
			}
		}
		if len(candidates) == 0 {
			return d, false
		}
		i := candidates[dice.IntN(len(candidates))]
		d.what += " " + filepath.Base(filepath.Dir(i.dir)) + "/" + i.name
		pid = i.state.Shim.PID
		if what == "instance" {
			pid, d.hurts = i.state.Child.PID, true
		}
	}
	d.at = time.Now()
	if err := kill(pid, syscall.SIGKILL); err != nil {
		w.t.Logf("%s: %v", what, err) // it ended meanwhile
		return d, false
	}
	d.to = time.Now()
	return d, true
}

// excused reports whether a request was in flight when an instance or the proxy died. A long stream of before the death of a
// holder stays on the worker that leaves, which a later drain does not reach: it may be cut with its instance.
func excused(r request, deaths []death) bool {
	for _, d := range deaths {
		if r.kind == "longstream" && d.what == "holder" && r.begin.Before(d.to.Add(500*time.Millisecond)) && r.end.After(d.at) {
			return true
		}
		if d.hurts && r.begin.Before(d.to.Add(100*time.Millisecond)) && r.end.After(d.at) {
			return true
		}
	}
	return false
}

// endedWell asserts that a delivery went on by itself to its end.
func (w *world) endedWell(d domain.Delivery) {
	w.t.Helper()
	w.t.Logf("%s", strings.SplitN(describe(d), "\n", 2)[0])
	if d.State != domain.DoneState {
		w.t.Errorf("done is wanted: %s", describe(d))
	}
}

// allThere asserts that, after some time, each slot has exactly its instances, each kept by a shim, and nothing else runs.
func (w *world) allThere() {
	w.t.Helper()
	eventually(w.t, 20*time.Second, "all is whole again", func() error {
		h, err := w.proxy.Health(w.t.Context())
		if err != nil {
			return err
		}
		if h.Holder == 0 {
			return errors.New("nobody holds the sockets")
		}
		s, err := w.api1.Status(w.t.Context(), appName)
		if err != nil {
			return err
		}
		own := map[int]string{w.serve.Process.Pid: "serve", h.PID: "worker", h.Holder: "holder"}
		for _, i := range instances(w.data) {
			own[i.state.Shim.PID], own[i.state.Child.PID] = "shim", "instance"
			if !i.state.Shim.Alive() || !i.state.Child.Alive() {
				return fmt.Errorf("%s/%s/%s is half", i.env, i.release, i.name)
			}
			for _, e := range s.Environments {
				if string(e.Name) == i.env && e.Release != nil && e.Release.ID != i.release {
					return fmt.Errorf("%s/%s runs beside %s", i.release, i.name, e.Release.ID)
				}
			}
		}
		for _, e := range s.Environments {
			if e.Instances.Healthy != 2 || e.Instances.Wanted != 2 {
				return fmt.Errorf("%s has %d of %d instances", e.Name, e.Instances.Healthy, e.Instances.Wanted)
			}
		}
		for _, p := range descendants() {
			leaving := strings.Contains(p.what, "proxy --worker") // the successor has taken over; its last clients may finish
			if own[p.pid] == "" && own[p.parent] != "shim" && !strings.Contains(p.what, " load ") && !leaving {
				return fmt.Errorf("process %s belongs to nobody", p)
			}
		}
		return nil
	})
}

// watchCapacity looks at the routes all the time: a release with traffic must have an instance that answers. It returns
// what ends it.
func (w *world) watchCapacity() func() {
	stop, done := make(chan struct{}), make(chan struct{})
	var bad []string
	seen := 0
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			r, err := w.route()
			if err != nil {
				continue // the proxy died a moment ago
			}
			seen++
			for _, side := range []struct {
				name string
				b    *domain.Backend
				has  bool
			}{{"stable", r.Stable, r.Weight < domain.WeightAll}, {"next", r.Next, r.Weight > 0}} {
				if side.has && (side.b == nil || !answers(side.b)) {
					bad = append(bad, fmt.Sprintf("%s %s has traffic and nobody answers there", time.Now().Format("15:04:05.000"), side.name))
				}
			}
		}
	}()
	return func() {
		w.t.Helper()
		close(stop)
		<-done
		if len(bad) > 0 || seen < 10 {
			w.t.Errorf("of %d looks at the routes %d were bad: %v", seen, len(bad), bad[:min(3, len(bad))])
		}
	}
}

func answers(b *domain.Backend) bool {
	for _, i := range b.Instances {
		if c, err := net.DialTimeout("tcp", i.Addr, time.Second); err == nil {
			_ = c.Close()
			return true
		}
	}
	return false
}

// nothingTwice asserts that no instance ran one POST again, and that each answered one was run.
func (w *world) nothingTwice(all []request) {
	w.t.Helper()
	logs, _ := filepath.Glob(filepath.Join(w.data, "instances", "*", "production", "*", "*", "log*"))
	ran, twice := map[string]int{}, 0
	for _, name := range logs {
		data, err := os.ReadFile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if id, ok := strings.CutPrefix(strings.TrimSpace(line), "post "); ok {
				if ran[id]++; ran[id] > 1 {
					twice++
					w.t.Errorf("POST %s was run %d times", id, ran[id])
				}
			}
		}
	}
	answered := 0
	for _, r := range all {
		if r.kind == "post" && !r.failed() {
			answered++
		}
	}
	w.t.Logf("%d POSTs were run, %d twice, %d were answered", len(ran), twice, answered)
	if len(ran) < answered {
		w.t.Errorf("%d POSTs were answered and only %d run", answered, len(ran))
	}
}
