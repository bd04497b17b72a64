package torture

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// All processes end at one instant, at each step of a rollout: what the slots own serves again within seconds, and the
// delivery ends as it should. A boot of the machine differs only in the ids that are given away again.
func TestRebootAtEachStep(t *testing.T) {
	w := newWorld(t, "3s", "")
	first := w.deliver("first", "", domain.DoneState)
	stable := first.Commit
	moments := []struct {
		name  string
		until func(number int)
		want  domain.DeliveryState
	}{
		{"in the monitor", func(int) { w.awaitRoute("next has the traffic", onNext); time.Sleep(time.Second) }, domain.DoneState},
		{"while rolling back", func(int) {
			w.awaitRoute("next has the traffic", onNext)
			go w.belay("rollback", "production", "--reason", "reboot")
			w.awaitRoute("it is taken back", func(r domain.Route) bool { return r.Latched })
		}, domain.RolledBackState},
		{"while production starts", func(n int) {
			w.awaitStage(n, domain.DeployProduction)
		}, domain.DoneState},
		{"right after the shift", func(int) { w.awaitRoute("next has the traffic", onNext) }, domain.DoneState},
		{"in the build", func(n int) { w.awaitStage(n, domain.Build) }, ""},
		{"while staging starts", func(n int) { w.awaitStage(n, domain.DeployStaging) }, domain.DoneState},
	}
	if !long {
		moments = moments[:1]
	}
	for n, m := range moments {
		commit := w.commit(fmt.Sprintf("release-%d", n), "")
		number := w.ship()
		m.until(number)
		serving := w.serving() // what had the traffic, or was given it meanwhile
		w.reboot()
		began := time.Now()
		w.start(binaries.belay)
		ready := w.awaitAnswer(10 * time.Second)
		t.Logf("%s: serve is ready after %s, production answers %s after that", m.name, w.ready.Round(time.Millisecond), ready.Round(time.Millisecond))
		if time.Since(began) > 10*time.Second {
			t.Errorf("%s: production serves after %s", m.name, time.Since(began))
		}
		d := w.await(number, 90*time.Second)
		t.Logf("%s: %s", m.name, strings.SplitN(describe(d), "\n", 2)[0])
		if m.want != "" && d.State != m.want {
			t.Errorf("%s: %s is wanted: %s", m.name, m.want, describe(d))
		}
		if d.State == domain.DoneState {
			stable = commit
		}
		if got := w.awaitStable(); got != stable {
			t.Errorf("%s: %s serves production, %s is wanted (%s before)", m.name, got, stable, serving)
		}
		if d.State == domain.RolledBackState {
			w.thaw()
		}
		w.allThere()
	}
}

// reboot ends all processes of the data folder.
func (w *world) reboot() {
	w.t.Helper()
	for range 100 {
		left := descendants()
		if len(left) == 0 {
			<-w.gone
			return
		}
		endAll(left)
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatalf("not all processes end: %v", descendants())
}

// awaitStage waits until a stage of a delivery has begun.
func (w *world) awaitStage(number int, stage domain.Stage) {
	w.t.Helper()
	eventually(w.t, 60*time.Second, fmt.Sprintf("stage %s of #%d begins", stage, number), func() error {
		d, err := w.api1.Delivery(w.t.Context(), appName, number)
		if err != nil {
			return err
		}
		for _, s := range d.Stages {
			if s.Name == stage && s.State == domain.PendingStage {
				return errors.New(describe(d))
			}
		}
		return nil
	})
}

// awaitAnswer waits until production answers and returns how long that took.
func (w *world) awaitAnswer(within time.Duration) time.Duration {
	w.t.Helper()
	began := time.Now()
	eventually(w.t, within, "production answers", func() error {
		r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+w.http+"/", nil)
		if err != nil {
			return err
		}
		r.Host = productionHost
		r.Close = true
		client := http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: (&net.Dialer{}).DialContext, DisableKeepAlives: true}}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	})
	return time.Since(began)
}

// serving names the releases of production's route.
func (w *world) serving() string {
	r, err := w.route()
	if err != nil {
		return err.Error()
	}
	text := fmt.Sprintf("weight %d, latched %t", r.Weight, r.Latched)
	if r.Stable != nil {
		text += ", stable " + domain.ShortCommit(r.Stable.Commit)
	}
	if r.Next != nil {
		text += ", next " + domain.ShortCommit(r.Next.Commit)
	}
	return text
}

// awaitStable waits until production's route has one release, and returns its commit.
func (w *world) awaitStable() string {
	w.t.Helper()
	return w.awaitRoute("no rollout is open", func(r domain.Route) bool { return r.Rollout == "" && r.Stable != nil }).Stable.Commit
}

// thaw lifts the hold of a rollback.
func (w *world) thaw() {
	w.t.Helper()
	if code, out := w.belay("thaw", "--app", appName, "--reason", "the test goes on"); code != 0 {
		w.t.Fatalf("thaw ended with %d: %s", code, out)
	}
}
