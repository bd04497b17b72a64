package delivery

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// A person's wish is stored after the flip. When the process dies in between, the latch of the data plane is all that is
// left of it, and it is enough.
func TestLatchCarriesTheWish(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.Monitor)
		dying := w.life
		dying.die("split production 0", true)
		w.disk.mu.Lock()
		w.disk.fail = func(what string) error {
			if what == "fact" {
				return errors.New("the wish did not reach the disk")
			}
			return nil
		}
		w.disk.mu.Unlock()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = dying.s.Rollback(t.Context(), RollbackRequest{App: "shop", By: "ana"})
		}()
		d := w.await(b.Number)
		<-ended
		if !strings.HasSuffix(dying.last, "latched=true") {
			t.Fatalf("it died after %q", dying.last)
		}
		w.want("rolled back", d, domain.RolledBackState, only("a", true))
	})
}

// Next is watched from its first traffic on, also while its checks take long.
func TestGuardWatchesDuringChecks(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		w.bad[sha("b")] = 0.5
		w.mu.Lock()
		w.slow["production check under traffic"] = 5 * time.Minute
		w.mu.Unlock()
		b := w.ship("b")
		w.inStage(b.Number, domain.VerifyProduction)
		time.Sleep(15 * time.Second)
		if s := w.production(); s.Weight != 0 {
			t.Errorf("the checks go on, and next has traffic: %+v", s)
		}
		w.want("breach", w.await(b.Number), domain.RolledBackState, only("a", true))
	})
}

// The wish is stored, and the process dies before it moves anything: the next one obeys.
func TestStoredWishIsObeyed(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.Monitor)
		roll := w.lastRollout(domain.Production)
		fact := domain.Fact{App: "shop", Delivery: b.Number, Environment: domain.Production, Kind: "rollback", By: "ana", At: roll.Started.Add(time.Second)}
		w.life.end()
		w.begin()
		w.life.end()
		w.disk.facts = append(w.disk.facts, fact)
		w.begin()
		w.want("rolled back", w.await(b.Number), domain.RolledBackState, only("a", true))
	})
}

// A freeze that was set after the shift does not keep a restarted process from watching what has traffic.
func TestRestartInDeployProductionUnderFreeze(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		w.bad[sha("b")] = 0.5
		w.ship("b")
		w.until("the shift", func() bool { return w.production().Weight > 0 })
		if _, err := w.life.s.Freeze(t.Context(), "", "ops", "move", nil); err != nil {
			t.Fatal(err)
		}
		w.disk.mu.Lock() // the end of the stage did not reach the disk
		for key := range w.disk.journal {
			if strings.HasSuffix(key, "\x00"+string(domain.DeployProduction)) && !strings.Contains(key, w.disk.deliveries[0].ID) {
				delete(w.disk.journal, key)
			}
		}
		w.disk.mu.Unlock()
		w.restart()
		time.Sleep(20 * time.Second)
		if s := w.production(); s.Weight != 0 {
			t.Errorf("nobody watches: %+v", s)
		}
	})
}
