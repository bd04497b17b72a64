package delivery

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
)

// in plays a test over a world, in fake time, from a process that runs to one that is stopped.
func in(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.begin()
		defer func() { w.life.end() }()
		f(t, w)
	})
}

// done delivers a commit, which must succeed.
func (w *world) done(name string) domain.Delivery {
	w.t.Helper()
	d := w.await(w.ship(name).Number)
	if d.State != domain.DoneState {
		w.t.Fatalf("%s is %s: %+v %s", name, d.State, d.Outcome, w.describe())
	}
	return d
}

func (w *world) want(what string, d domain.Delivery, state domain.DeliveryState, s serving) {
	w.t.Helper()
	if got := w.production(); d.State != state || got != s {
		w.t.Errorf("%s: #%d is %s, production %+v, want %s and %+v: %v %s", what, d.Number, d.State, got, state, s, d.Outcome, w.describe())
	}
}

// restart ends the process as a shutdown does and begins another.
func (w *world) restart() {
	w.t.Helper()
	w.life.end()
	time.Sleep(2 * time.Second)
	w.begin()
}

func TestTwoGoodDeliveries(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.base = 0.04 // users of both releases meet the same errors
		for _, name := range []string{"a", "b"} {
			d := w.done(name)
			if d.Outcome.FailedBecause != 0 && name == "b" || d.Outcome.Requests == 0 {
				t.Errorf("%s: %+v", name, d.Outcome)
			}
			for _, row := range d.Stages {
				if row.State != domain.DoneState || row.Started == nil || row.Ended == nil {
					t.Errorf("stage %s: %+v", row.Name, row)
				}
			}
			w.want(name, d, domain.DoneState, only(name, false))
		}
	})
}

func TestRedBeforeProduction(t *testing.T) {
	for _, red := range []string{"build", "test", "staging check", "staging check under traffic"} {
		t.Run(red, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.done("a")
				w.red[sha("b")] = red
				d := w.await(w.ship("b").Number)
				w.want(red, d, domain.FailedState, only("a", false))
				if !strings.Contains(d.Outcome.Sentence, "Production was not touched") || d.Outcome.FailedBecause != 0 {
					t.Errorf("%+v", d.Outcome)
				}
				w.want("then", w.done("c"), domain.DoneState, only("c", false))
			})
		})
	}
}

// After a rollback the app is held: what began before does not enter production, nor the same release, and a newer one
// lifts it in staging.
func TestScar_argo_9570(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		w.bad[sha("b")] = 0.5
		bad := w.ship("b")
		w.inStage(bad.Number, domain.VerifyProduction)
		older := w.ship("c")
		d := w.await(bad.Number)
		if d.State != domain.RolledBackState || d.Outcome.FailedBecause == 0 || d.Outcome.RollbackSeconds == nil || d.Outcome.HarmToRollback == nil {
			t.Fatalf("%s %+v", d.State, d.Outcome)
		}
		d = w.await(older.Number)
		w.want("began before", d, domain.FailedState, only("a", true))
		if !strings.Contains(d.Outcome.Sentence, "held") {
			t.Errorf("%s", d.Outcome.Sentence)
		}
		w.restart()
		w.want("same release", w.await(w.ship("b").Number), domain.FailedState, only("a", true))
		fix := w.ship("d")
		w.inStage(fix.Number, domain.DeployProduction)
		if h, _ := (storeOf{w.disk, w.life}).Hold(t.Context(), "shop"); h != nil {
			t.Errorf("still held after Verify staging: %+v", h)
		}
		w.want("newer", w.await(fix.Number), domain.DoneState, only("d", false))
	})
}

// The rate of errors that users had before is not blamed on the delivery.
func TestOutcomeLeavesOutTheBaseline(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.base = 0.02
		w.done("a")
		w.bad[sha("b")] = 0.3
		d := w.await(w.ship("b").Number)
		next := d.Traffic.Next
		if want := int64(float64(next.Requests)*0.3 + 0.5); d.State != domain.RolledBackState || d.Outcome.FailedBecause < want-1 || d.Outcome.FailedBecause > want+1 {
			t.Errorf("%s: %d failed because of it, %d of %d requests failed", d.State, d.Outcome.FailedBecause, next.Errors, next.Requests)
		}
	})
}

// A cancel ends a delivery in every stage, and leaves stable as it was.
func TestCancelInEveryStage(t *testing.T) {
	t.Parallel()
	for i, s := range Stages {
		for _, again := range []bool{false, true} { // again: the process dies right after the wish
			t.Run(string(s.Name)+map[bool]string{true: " and restart"}[again], func(t *testing.T) {
				in(t, func(t *testing.T, w *world) {
					w.done("a")
					b := w.ship("b")
					w.inStage(b.Number, s.Name)
					time.Sleep(1500 * time.Millisecond)
					if _, err := w.life.s.Cancel(t.Context(), "shop", b.Number, "ana", "no"); err != nil {
						t.Fatal(err)
					}
					if again {
						w.restart()
					}
					began := time.Now()
					d := w.await(b.Number)
					if took := time.Since(began); took > 20*time.Second {
						t.Errorf("took %s", took)
					}
					state, held := domain.RejectedState, false
					if i > 4 { // it had traffic
						state, held = domain.RolledBackState, true
					}
					w.want("cancelled", d, state, only("a", held))
					w.want("then", w.done("c"), domain.DoneState, only("c", false))
				})
			})
		}
	}
}

// A cancel at any instant, one second after the other through the whole of a delivery.
func TestCancelAtEverySecond(t *testing.T) {
	t.Parallel()
	for after := 0; after < 105; after += 2 * stride {
		in(t, func(t *testing.T, w *world) {
			w.done("a")
			b := w.ship("b")
			time.Sleep(time.Duration(after)*time.Second + 10*time.Millisecond)
			_, err := w.life.s.Cancel(t.Context(), "shop", b.Number, "ana", "no")
			d := w.await(b.Number)
			roll := w.lastRollout(domain.Production)
			switch {
			case err != nil:
				w.want("too late", d, domain.DoneState, only("b", false))
			case roll.Delivery == b.Number && roll.Shifted != nil:
				w.want("cancelled", d, domain.RolledBackState, only("a", true))
			default:
				w.want("cancelled", d, domain.RejectedState, only("a", false))
			}
		})
	}
}

func (w *world) lastRollout(env domain.Environment) (last domain.RolloutRecord) {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	for _, r := range w.disk.rollouts {
		if r.Environment == env {
			last = r
		}
	}
	return last
}

// A person may go back at every second from the first step in production on: warm at once, cold after the end.
func TestRollbackAtEverySecond(t *testing.T) {
	t.Parallel()
	for after := 0; after < 100; after += 2 * stride {
		in(t, func(t *testing.T, w *world) {
			w.done("a")
			w.done("b")
			c := w.ship("c")
			w.inStage(c.Number, domain.DeployProduction)
			time.Sleep(time.Duration(after)*time.Second + 10*time.Millisecond)
			_, roll := w.life.s.openRollout("shop", domain.Production)
			res, err := w.rollback(t.Context(), RollbackRequest{App: "shop", By: "ana", Reason: "ugly"})
			d := w.await(c.Number)
			if err != nil {
				t.Fatalf("after %d s: %v %s", after, err, w.describe())
			}
			if res.Warm != (roll != nil) || res.Warm && res.Moved > 0.05 {
				t.Errorf("after %d s: %+v", after, res)
			}
			state := domain.RolledBackState
			if !res.Warm {
				state = domain.DoneState
			}
			w.want("rolled back", d, state, only("b", true))
			if h, _ := (storeOf{w.disk, w.life}).Hold(t.Context(), "shop"); h == nil || h.Owner != "ana" || h.Bad.Commit != sha("c") {
				t.Errorf("after %d s: hold %+v", after, h)
			}
			w.want("then", w.done("d"), domain.DoneState, only("d", false))
		})
	}
}

func TestRollbackIsRefusedOnTheFirstRelease(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		a := w.ship("a")
		w.inStage(a.Number, domain.Monitor)
		for _, when := range []string{"during", "after"} {
			_, err := w.rollback(t.Context(), RollbackRequest{App: "shop", By: "ana"})
			if domain.CodeOf(err) != domain.Refused {
				t.Errorf("%s: %v", when, err)
			}
			w.want(when, w.await(a.Number), domain.DoneState, only("a", false))
		}
	})
}

// Staging can be rolled back, too, and the caller hears of it at once.
func TestRollbackOfStaging(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.VerifyStaging)
		began := time.Now()
		res, err := w.rollback(t.Context(), RollbackRequest{App: "shop", Environment: domain.Staging, By: "ana"})
		if err != nil || !res.Warm || time.Since(began) > time.Second {
			t.Errorf("%+v %v after %s", res, err, time.Since(began))
		}
		w.want("staging", w.await(b.Number), domain.FailedState, only("a", false)) // rehearsals never hold
	})
}

// A cold rollback that dies half-way goes on; one whose target does not start leaves what serves.
func TestColdRollback(t *testing.T) {
	t.Parallel()
	t.Run("crash everywhere", func(t *testing.T) {
		for at := 1; at <= 24; at += stride {
			for _, hard := range []bool{false, true} {
				in(t, func(t *testing.T, w *world) {
					w.done("a")
					w.done("b")
					w.life.arm(at, hard)
					crashed := w.life
					ended := make(chan error, 1)
					go func() {
						_, err := crashed.s.Rollback(t.Context(), RollbackRequest{App: "shop", By: "ana", Reason: "ugly"})
						ended <- err
					}()
					select {
					case <-crashed.crashed:
						w.life.end()
						time.Sleep(time.Second)
						w.begin()
					case <-time.After(5 * time.Minute):
					}
					<-ended
					time.Sleep(time.Minute)
					if s := w.production(); s != only("a", true) {
						if !hard || at > 1 { // the wish itself was lost
							t.Errorf("crash %d hard=%t after %q: %+v %s", at, hard, crashed.last, s, w.describe())
						}
					}
					w.want("then", w.done("c"), domain.DoneState, only("c", false))
				})
			}
		}
	})
	t.Run("the target does not start", func(t *testing.T) {
		in(t, func(t *testing.T, w *world) {
			w.done("a")
			w.done("b")
			w.red[sha("a")] = "start"
			if _, err := w.rollback(t.Context(), RollbackRequest{App: "shop", By: "ana"}); err == nil {
				t.Error("no error")
			}
			if s := w.production(); s.Commit != "b" || s.Running != "b0 b1" || s.Open != 0 || s.Slot != "b" {
				t.Errorf("%+v", s)
			}
			w.want("then", w.done("c"), domain.DoneState, only("c", false))
		})
	})
}

// Two deliveries at once: the third release waits, takes nothing down, and the newest goes first.
func TestScar_argo_3617(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.Monitor)
		c := w.ship("c")
		w.until("c waits", func() bool { return w.stored(c.Number).State == domain.WaitingState })
		if s := w.production(); s.Commit != "next b" || s.Open != 1 || s.Running != "a0 a1 b0 b1" {
			t.Errorf("while c waits: %+v", s)
		}
		d := w.stored(c.Number)
		if d.State != domain.WaitingState || d.Wait == nil || d.Wait.Reason == "" || d.Wait.Owner == "" || d.Wait.Deadline.IsZero() {
			t.Errorf("c waits silently: %s %+v", d.State, d.Wait)
		}
		e := w.ship("e")
		if d := w.await(c.Number); d.State != domain.SupersededState {
			t.Errorf("c is %s", d.State)
		}
		w.want("b", w.await(b.Number), domain.DoneState, w.production())
		w.want("e", w.await(e.Number), domain.DoneState, only("e", false))
	})
}

// An older delivery that waits for a thaw gives way to a newer one that has passed Verify staging.
func TestOlderDeliveryGivesWay(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		if _, err := w.life.s.Freeze(t.Context(), "shop", "ops", "move", nil); err != nil {
			t.Fatal(err)
		}
		b := w.ship("b")
		w.inStage(b.Number, domain.DeployProduction)
		c := w.ship("c")
		if d := w.await(b.Number); d.State != domain.SupersededState {
			t.Errorf("b is %s: %v", d.State, d.Outcome)
		}
		w.restart()
		if err := w.life.s.Thaw(t.Context(), "shop", "ops", "moved", false); err != nil {
			t.Fatal(err)
		}
		w.want("c", w.await(c.Number), domain.DoneState, only("c", false))
	})
}

// A restart gives each delivery its place again: the one with the rollout goes on, the one that waited waits.
func TestRestartKeepsTheOrder(t *testing.T) {
	t.Parallel()
	for after := 0; after < 80; after += 4 {
		in(t, func(t *testing.T, w *world) {
			w.done("a")
			b := w.ship("b")
			w.inStage(b.Number, domain.DeployProduction)
			c := w.ship("c")
			time.Sleep(time.Duration(after) * time.Second)
			w.restart()
			if d := w.await(b.Number); d.State != domain.DoneState && d.State != domain.SupersededState {
				t.Errorf("after %d s: b is %s %v", after, d.State, d.Outcome)
			}
			w.want("c", w.await(c.Number), domain.DoneState, only("c", false))
		})
	}
}

// A freeze holds what has not begun, says so, and a thaw lets it go on; a rollback never waits for it.
func TestFreeze(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		if _, err := w.life.s.Freeze(t.Context(), "", "ops", "database move", nil); err != nil {
			t.Fatal(err)
		}
		b := w.ship("b")
		w.until("waits", func() bool {
			return w.stored(b.Number).State == domain.WaitingState && w.stored(b.Number).Wait.Owner == "ops"
		})
		time.Sleep(5 * time.Minute)
		w.restart()
		w.until("waits again", func() bool {
			return w.stored(b.Number).State == domain.WaitingState && w.stored(b.Number).Wait.Owner == "ops"
		})
		if s := w.production(); s != only("a", false) {
			t.Errorf("%+v", s)
		}
		if _, err := w.rollback(t.Context(), RollbackRequest{App: "shop", By: "ana"}); domain.CodeOf(err) != domain.Refused {
			t.Errorf("%v", err) // there is none before a, and the freeze is not why
		}
		if err := w.life.s.Thaw(t.Context(), "", "ops", "moved", false); err != nil {
			t.Fatal(err)
		}
		w.want("thawed", w.await(b.Number), domain.DoneState, only("b", false))
	})
	t.Run("does not stop a rollback", func(t *testing.T) {
		in(t, func(t *testing.T, w *world) {
			w.done("a")
			w.bad[sha("b")] = 0.5
			b := w.ship("b")
			w.inStage(b.Number, domain.VerifyProduction)
			if _, err := w.life.s.Freeze(t.Context(), "", "ops", "move", nil); err != nil {
				t.Fatal(err)
			}
			w.restart() // whoever has traffic is watched, freeze or not
			w.want("breach", w.await(b.Number), domain.RolledBackState, only("a", true))
		})
	})
	t.Run("expires", func(t *testing.T) {
		if stride > 1 {
			t.Skip("a day of fake time: run without the race detector")
		}
		in(t, func(t *testing.T, w *world) {
			w.done("a")
			if _, err := w.life.s.Freeze(t.Context(), "", "ops", "move", nil); err != nil {
				t.Fatal(err)
			}
			b := w.ship("b")
			time.Sleep(queueWait + time.Hour)
			w.want("expired", w.await(b.Number), domain.ExpiredState, only("a", false))
		})
	})
}

// A defect in one part ends one delivery, takes back what it has open, and leaves the others alone.
func TestPanicIsContained(t *testing.T) {
	for where, held := range map[string]bool{"build": false, "test": false, "production check": false, "production check under traffic": true, "guard": true} {
		t.Run(where, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.done("a")
				w.panics = where
				state := domain.FailedState
				if held {
					state = domain.RolledBackState
				}
				if where == "guard" {
					state, held = domain.FailedState, false // staging has a guard, too
				}
				d := w.await(w.ship("b").Number)
				w.want(where, d, state, only("a", held))
				w.panics = ""
				w.want("then", w.done("c"), domain.DoneState, only("c", false))
			})
		})
	}
}

// Each stage is signed once it is over, the red one too. Before production nothing goes on without that; later the loss is
// told, and takes nothing back.
func TestEvidenceOfEachStage(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		for i, s := range Stages {
			if want := fmt.Sprintf("#1 %s done: ", s.Name); i >= len(w.attested) || !strings.HasPrefix(w.attested[i], want) {
				t.Fatalf("%q is not signed: %q", want, w.attested)
			}
		}
		w.bad[sha("b")] = 1
		w.await(w.ship("b").Number)
		if last := w.attested[len(w.attested)-1]; !strings.HasPrefix(last, "#2 ") || !strings.Contains(last, " failed: ") {
			t.Errorf("the red stage is signed as %q", last)
		}
	})
	for _, s := range Stages {
		in(t, func(t *testing.T, w *world) {
			w.done("a")
			w.attest = func(at domain.Stage) error {
				if at == s.Name {
					return errors.New("no key")
				}
				return nil
			}
			d := w.await(w.ship("b").Number)
			want := only("b", false)
			if slices.Index(stageNames(), s.Name) < productionStage {
				want = only("a", false)
			}
			if got := w.production(); got != want {
				t.Errorf("%s: %s %+v %s", s.Name, d.State, got, w.describe())
			}
		})
	}
}

func stageNames() (names []domain.Stage) {
	for _, s := range Stages {
		names = append(names, s.Name)
	}
	return names
}

// A store that fails for a while ends nothing: the end is stored when it is back.
func TestStoreThatFails(t *testing.T) {
	for _, what := range []string{"hold", "rollout", "finish rollout", "delivery", "event", "journal rollback", "journal 05 bake", "journal moved production", "journal decision"} {
		t.Run(what, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.done("a")
				w.bad[sha("b")] = 0.5
				b := w.ship("b")
				w.inStage(b.Number, domain.VerifyProduction)
				until := time.Now().Add(40 * time.Second)
				w.disk.mu.Lock()
				w.disk.fail = func(op string) error {
					if op == what && time.Now().Before(until) {
						return errors.New("disk full")
					}
					return nil
				}
				w.disk.mu.Unlock()
				time.Sleep(15 * time.Second)
				if s := w.production(); s.Weight != 0 {
					t.Errorf("next still has traffic: %+v", s)
				}
				w.want(what, w.await(b.Number), domain.RolledBackState, only("a", true))
			})
		})
	}
}

// The data plane does not answer for a while: the rollback is tried again, and who asked hears of it.
func TestScar_pipecd_1134(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.Monitor)
		until := time.Now().Add(20 * time.Second)
		w.mu.Lock()
		w.splitErr = func(rollout.Split) error {
			if time.Now().Before(until) {
				return errors.New("the data plane does not answer")
			}
			return nil
		}
		w.mu.Unlock()
		if _, err := w.life.s.Cancel(t.Context(), "shop", b.Number, "ana", "no"); err != nil {
			t.Fatal(err)
		}
		res, err := w.rollback(t.Context(), RollbackRequest{App: "shop", By: "eve"})
		if err != nil || !res.Warm || res.Moved < 15 {
			t.Errorf("%+v %v", res, err)
		}
		w.want("cancelled", w.await(b.Number), domain.RolledBackState, only("a", true))
	})
}

// Nothing waits silently: while the measurements are gone the delivery says so, and until when.
func TestScar_nomad_8150(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.Monitor)
		w.mu.Lock()
		w.silent.Store(true)
		w.mu.Unlock()
		time.Sleep(45 * time.Second)
		d := w.stored(b.Number)
		if d.Wait == nil || d.Wait.Reason == "" || d.Wait.Owner == "" || d.Wait.Deadline.Before(time.Now()) {
			t.Errorf("%s, wait %+v", d.State, d.Wait)
		}
		w.mu.Lock()
		w.silent.Store(false)
		w.mu.Unlock()
		if d = w.await(b.Number); d.State != domain.DoneState || d.Wait != nil {
			t.Errorf("%s %+v", d.State, d.Wait)
		}
	})
}
