//go:build torture

package torture

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// One kill per delivery, at a moment anywhere on its way.
func TestOneKillPerDelivery(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 2))
	w := newWorld(t, "1s", "")
	w.probes = 4
	w.deliver("first", "", domain.DoneState)
	tr := w.startTraffic(100)
	capacity := w.watchCapacity()
	var deaths []death
	for n, what := range []string{"daemon", "daemon", "worker", "daemon", "shim", "holder", "daemon", "instance", "daemon", "shim"} {
		w.commit(fmt.Sprintf("release-%d", n), "")
		number := w.ship()
		wait := time.Duration(dice.IntN(5000)) * time.Millisecond
		time.Sleep(wait)
		if d, ok := w.killOne(dice, what); ok {
			deaths = append(deaths, d)
			t.Logf("after %s killed %s", wait, d.what)
		}
		w.endedWell(w.await(number, 90*time.Second))
	}
	all := tr.stop()
	capacity()
	noFailures(t, all, 1000, func(r request) bool { return excused(r, deaths) })
	w.nothingTwice(all)
	w.allThere()
}

// argo-rollouts#1774, #841, flagger#1152: a bad release blocked the next good one. Here a release that fails, one that
// hangs and one whose instances die before the shift each end, and the next good one is done, without a person.
func TestScar_argo_1774_FromEveryFailedStateOneCanGoForward(t *testing.T) {
	w := newWorld(t, "1s", "")
	w.deliver("first", "", domain.DoneState)
	tr := w.startTraffic(100)
	for _, bad := range []struct {
		name, mode string
		harm       func()
		want       []domain.DeliveryState
	}{
		{"fails", "fail=0.6", nil, []domain.DeliveryState{domain.RolledBackState}},
		{"hangs", "", func() { w.tell(w.awaitRoute("next has the traffic", onNext), "/hang") }, []domain.DeliveryState{domain.RolledBackState}},
		{"dies before the shift", "", func() {
			r := w.awaitRoute("next is there", func(r domain.Route) bool { return r.Next != nil })
			for _, i := range instances(w.data) {
				if i.release == r.Next.Release {
					_ = kill(i.state.Child.PID, syscall.SIGKILL)
				}
			}
		}, []domain.DeliveryState{domain.RolledBackState, domain.FailedState, domain.DoneState}},
	} {
		w.monitor = "30s"
		if bad.harm != nil && len(bad.want) > 1 {
			w.monitor = "2s" // it may live
		}
		began := time.Now()
		w.commit("bad-"+bad.name, bad.mode)
		number := w.ship()
		if bad.harm != nil {
			bad.harm()
		}
		d := w.await(number, 2*time.Minute)
		hurt := 0
		for _, q := range tr.sofar() {
			if q.failed() && q.begin.After(began) {
				hurt++
			}
		}
		t.Logf("%s: the visitors saw %d failures", bad.name, hurt)
		ok := false
		for _, s := range bad.want {
			ok = ok || d.State == s
		}
		t.Logf("%s: %s after %s", bad.name, strings.SplitN(describe(d), "\n", 2)[0], time.Since(began).Round(time.Second))
		if !ok {
			t.Errorf("%s: %v is wanted: %s", bad.name, bad.want, describe(d))
		}
		if r, err := w.route(); err != nil || r.Rollout != "" && r.Weight != 0 {
			t.Errorf("%s: afterwards the weight is %d, %v", bad.name, r.Weight, err)
		}
		w.monitor = "1s"
		w.deliver("good-after-"+bad.name, "", domain.DoneState)
	}
	tr.stop()
	w.allThere()
}

// With nobody watching an open rollout, the proxy itself takes a release back that fails most of its requests.
func TestTheProxyTakesBackAloneWhatServeCannot(t *testing.T) {
	w := newWorld(t, "1s", "")
	w.deliver("first", "", domain.DoneState)
	w.monitor = "2m"
	tr := w.startTraffic(50)
	w.commit("bad", "")
	number := w.ship()
	r := w.awaitRoute("next has the traffic", onNext)
	w.killServe()
	w.tell(r, "/break")
	gone := time.Now()
	w.awaitRoute("the proxy takes it back", func(r domain.Route) bool { return r.Latched && r.Weight == 0 })
	took := time.Since(gone)
	t.Logf("taken back %s after serve died", took.Round(100*time.Millisecond))
	if took < 25*time.Second || took > 45*time.Second {
		t.Errorf("about 30 s are wanted")
	}
	w.start(binaries.belay)
	if d := w.await(number, time.Minute); d.State != domain.RolledBackState {
		t.Errorf("rolled back is wanted: %s", describe(d))
	} else {
		t.Log(strings.SplitN(describe(d), "\n", 2)[0])
	}
	tr.stop()
	w.allThere()
}

// Holder and worker die together: nobody listens until the daemon has noticed, which must not take long.
func TestTheWholeProxyComesBack(t *testing.T) {
	w := newWorld(t, "1s", "")
	w.deliver("first", "", domain.DoneState)
	h, err := w.proxy.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{h.Holder, h.PID} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("production answers again after %s", w.awaitAnswer(6*time.Second).Round(time.Millisecond))
	w.deliver("second", "", domain.DoneState)
	w.allThere()
}

// A leaving worker must not serve by the table of yesterday: a connection that was open before a new holder took the
// sockets over begins no request on a release that was taken back since.
func TestALeavingWorkerKnowsOfARollback(t *testing.T) {
	w := newWorld(t, "1s", "")
	w.deliver("first", "", domain.DoneState)
	w.monitor = "1m"
	w.commit("bad", "")
	w.ship()
	r := w.awaitRoute("next has the traffic", onNext)
	v := &visitor{load: &load{addr: w.http, host: productionHost}}
	defer v.hangUp()
	if status, release, err := v.ask(http.MethodGet, "/", nil); status != http.StatusOK || release != label(r.Next) {
		t.Fatalf("%d of %s, %v", status, release, err)
	}
	before, err := w.proxy.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := kill(before.Holder, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "a new worker serves", func() error {
		h, err := w.proxy.Health(t.Context())
		if err == nil && (h.PID == before.PID || h.Holder == 0) {
			err = fmt.Errorf("%+v", h)
		}
		return err
	})
	if code, out := w.belay("rollback", "production", "--reason", "torture"); code != 0 {
		t.Fatalf("%d: %s", code, out)
	}
	time.Sleep(100 * time.Millisecond)
	if !v.usable() {
		t.Log("the leaving worker has closed the connection: nothing can begin on it")
	}
	status, release, err := v.ask(http.MethodGet, "/", nil)
	t.Logf("the connection of before gets %d of %s, %v", status, release, err)
	if release == label(r.Next) {
		t.Errorf("a request began on next after its rollback")
	}
}
