package delivery

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
)

// fileWith is the file of the shop with another rollout and Monitor.
func fileWith(rollout, monitor string) string {
	text := belayYAML[:strings.Index(belayYAML, "rollout:")]
	return text + "rollout: { " + rollout + ", staging_hold: 5s }\nguard: { error_rate: 5% for 10s }\nmonitor: { " + monitor + " }\n"
}

const canary = "strategy: canary, steps: [5% for 60s, 50% for 60s], min_soak: 20s"

// canaries plays a test over a world whose apps are delivered as canaries.
func canaries(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	in(t, func(t *testing.T, w *world) {
		w.file = fileWith(canary, "for: 10m")
		f(t, w)
	})
}

// A newer delivery takes over in a quiet Monitor: the one that runs ends superseded, its release is stable, and the last one
// that was done stays as a second way back. Whatever dies in between.
func TestNewerTakesOverInMonitor(t *testing.T) {
	t.Parallel()
	for _, kill := range []string{"", "journal taken over", "finish rollout", "split production", "stop production"} {
		t.Run("killed at "+kill, func(t *testing.T) {
			canaries(t, func(t *testing.T, w *world) {
				a := w.done("a")
				first := w.lastRollout(domain.Production).Next
				b := w.ship("b")
				w.inStage(b.Number, domain.Monitor)
				c := w.ship("c")
				w.inStage(c.Number, domain.VerifyStaging)
				w.life.die(kill, false)
				d := w.await(b.Number)
				second := d.Number
				if d.State != domain.SupersededState || !strings.Contains(d.Outcome.Sentence, "superseded by #3 after") || !strings.Contains(d.Outcome.Sentence, "of 10m") {
					t.Errorf("%s: %+v", d.State, d.Outcome)
				}
				slot, err := w.life.s.ports.Store.Slot(t.Context(), "shop", domain.Production)
				if err != nil || slot.Done != first || slot.Previous != first {
					t.Errorf("slot %+v: the last done release %s is gone: %v", slot, first, err)
				}
				w.want("the newer", w.await(c.Number), domain.DoneState, only("c", false))
				_, _ = a, second
			})
		})
	}
}

// A Monitor in which the guard holds, or that was not seen, is not taken over.
func TestNobodyTakesOverWhatIsNotQuiet(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.Monitor)
		w.silent.Store(true)
		c := w.ship("c")
		w.inStage(c.Number, domain.DeployProduction)
		time.Sleep(3 * time.Minute)
		if d := w.stored(b.Number); d.State.Final() {
			t.Errorf("#%d ended unseen: %s", d.Number, d.State)
		}
		w.silent.Store(false)
		if d := w.await(b.Number); d.State != domain.DoneState && d.State != domain.SupersededState {
			t.Errorf("%s: %+v", d.State, d.Outcome)
		}
		w.want("then", w.await(c.Number), domain.DoneState, only("c", false))
	})
}

// An urgent delivery is healthy at 0 % before the rollout that runs is rolled back, and goes in although the app is held by
// that rollback.
func TestUrgent(t *testing.T) {
	t.Parallel()
	for _, kill := range []string{"", "start production", "store fact", "split production", "finish rollout"} {
		t.Run("killed at "+kill, func(t *testing.T) {
			canaries(t, func(t *testing.T, w *world) {
				w.done("a")
				b := w.ship("b")
				w.inStage(b.Number, domain.DeployProduction)
				fix := w.urgent("c", "checkout is broken")
				healthy := false
				w.splitErr = func(s rollout.Split) error {
					if s.Latched && s.Environment == domain.Production && !healthy {
						healthy = w.runs("c", domain.Production) == 2
						if !healthy {
							t.Error("the rollout was rolled back before the fix was healthy")
						}
					}
					return nil
				}
				w.inStage(fix.Number, domain.VerifyStaging)
				w.life.die(kill, false)
				d := w.await(b.Number)
				if d.State != domain.RolledBackState || !strings.Contains(d.Outcome.Sentence, "urgent #3: checkout is broken") {
					t.Errorf("%s: %+v", d.State, d.Outcome)
				}
				w.want("the fix", w.await(fix.Number), domain.DoneState, only("c", false))
			})
		})
	}
}

func (w *world) urgent(name, why string) domain.Delivery {
	w.t.Helper()
	d, err := w.life.s.Ship(w.t.Context(), Submission{App: "shop", Commit: sha(name), By: "ana", Urgent: why})
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// runs counts the healthy instances of a commit.
func (w *world) runs(name string, env domain.Environment) (n int) {
	list, err := w.driver.List(context.WithoutCancel(w.t.Context()), "shop", env)
	if err != nil {
		w.t.Error(err)
	}
	for _, i := range list {
		rel, err := storeOf{w.disk, w.life}.Release(context.WithoutCancel(w.t.Context()), i.Release)
		if err == nil && rel.Commit == sha(name) && i.State == domain.Healthy {
			n++
		}
	}
	return n
}

// A cancelled urgent delivery leaves nothing behind of what it had started before its rollout.
func TestUrgentIsCancelled(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.DeployProduction)
		w.mu.Lock()
		w.red[sha("c")] = "start"
		w.mu.Unlock()
		fix := w.urgent("c", "now")
		d := w.await(fix.Number)
		if d.State != domain.FailedState || w.runs("c", domain.Production) != 0 {
			t.Errorf("%s: %+v", d.State, d.Outcome)
		}
		if got := w.stored(b.Number); got.State.Final() {
			t.Errorf("a fix that does not start took back #%d: %+v", b.Number, got.Outcome)
		}
		w.want("what ran", w.await(b.Number), domain.DoneState, only("b", false))
	})
}

// An urgent one goes before those that wait, also newer ones.
func TestUrgentGoesFirst(t *testing.T) {
	q := newQueue(true, func(*run) string { return "" })
	named := func(n int, urgent string) *run {
		r := &run{}
		r.d.Number, r.d.Urgent = n, urgent
		return r
	}
	hold := named(1, "")
	q.join(hold, true)
	older, _ := q.join(named(2, ""), true)
	urgent, _ := q.join(named(3, "fire"), true)
	newer, _ := q.join(named(4, ""), true)
	if n := <-older.gone; n != 4 && n != 3 {
		t.Errorf("the older gave way to #%d", n)
	}
	if next, first := q.next(hold); next != 3 || !first {
		t.Errorf("next is #%d", next)
	}
	q.free(hold)
	<-urgent.ready
	select {
	case n := <-newer.gone:
		t.Errorf("the newer gave way to #%d", n)
	case n := <-urgent.gone:
		t.Errorf("the urgent gave way to #%d", n)
	default:
	}
}

// With little traffic the app's own flows are sent to next; without any somebody is asked; nobody's answer is a rollback.
func TestLowTraffic(t *testing.T) {
	t.Parallel()
	well := []Flow{{Name: "page", Critical: true}}
	for _, c := range []struct {
		name  string
		flows []Flow
		state domain.DeliveryState
		says  string
		act   func(t *testing.T, w *world, b domain.Delivery)
	}{
		{name: "flows", flows: well, state: domain.DoneState, says: "was answered well 30 times"},
		{name: "a red flow", flows: []Flow{{Name: "page", Failed: true, Message: "503"}}, state: domain.RolledBackState, says: "the flow page failed twice on next: 503"},
		{name: "asked and approved", state: domain.DoneState, says: "bo said that it may go on", act: func(t *testing.T, w *world, b domain.Delivery) {
			for range 2 { // each step asks
				w.until("it asks", func() bool { return w.life.s.find("shop", b.Number).asking() })
				d := w.stored(b.Number)
				if d.State != domain.WaitingState || d.Wait.Owner != "ana" || time.Until(d.Wait.Deadline) > 4*time.Hour+time.Minute || !strings.Contains(d.Wait.Reason, "belay approve 2") {
					t.Errorf("%s %+v", d.State, d.Wait)
				}
				w.restart() // who is asked is asked still
				w.until("it asks again", func() bool { r := w.life.s.find("shop", b.Number); return r != nil && r.asking() })
				if _, err := w.life.s.Approve(t.Context(), Answer{App: "shop", Number: b.Number, By: "bo"}); err != nil {
					t.Error(err)
				}
				w.until("it goes on", func() bool { return !w.life.s.find("shop", b.Number).asking() })
			}
		}},
		{name: "asked and rejected", state: domain.RolledBackState, says: "rejected by bo", act: func(t *testing.T, w *world, b domain.Delivery) {
			w.until("it asks", func() bool { return w.life.s.find("shop", b.Number).asking() })
			if _, err := w.life.s.Reject(t.Context(), "shop", b.Number, "bo", "no"); err != nil {
				t.Error(err)
			}
		}},
		{name: "asked and nobody answers", state: domain.RolledBackState, says: "nobody said within 4h", act: func(t *testing.T, w *world, b domain.Delivery) {
			if _, err := w.life.s.Approve(t.Context(), Answer{App: "shop", Number: b.Number, By: "bo"}); domain.CodeOf(err) != domain.Refused {
				t.Errorf("approved before it asked: %v", err)
			}
			time.Sleep(4 * time.Hour)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.act != nil && stride > 1 {
				t.Skip("hours of fake time: run without the race detector")
			}
			canaries(t, func(t *testing.T, w *world) {
				w.done("a")
				w.idle, w.flows = true, c.flows
				b := w.ship("b")
				w.inStage(b.Number, domain.DeployProduction)
				if c.act != nil {
					c.act(t, w, b)
				}
				d := w.await(b.Number)
				text := d.Outcome.Sentence
				for _, row := range d.Stages {
					for _, s := range row.Steps {
						text += "\n" + s.Message
					}
				}
				if d.State != c.state || !strings.Contains(text, c.says) {
					t.Errorf("%s: %s %s", d.State, text, w.describe())
				}
			})
		})
	}
}

// A freeze stops the upward shifts of a running rollout, and never a rollback.
func TestFreezeStopsShifts(t *testing.T) {
	for _, back := range []bool{false, true} {
		canaries(t, func(t *testing.T, w *world) {
			w.done("a")
			b := w.ship("b")
			w.inStage(b.Number, domain.DeployProduction)
			time.Sleep(20 * time.Second) // at 5 %
			if _, err := w.life.s.Freeze(t.Context(), "", "bo", "database move", nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Minute)
			if d := w.stored(b.Number); d.State != domain.WaitingState || d.Wait.Owner != "bo" || !strings.Contains(d.Wait.Reason, "the shift to 50 %") {
				t.Fatalf("%s %+v", d.State, d.Wait)
			}
			if st, _ := w.life.s.ports.Traffic.State(t.Context(), "shop", domain.Production); st.Weight != 500 {
				t.Errorf("next has %d", st.Weight)
			}
			if back {
				if _, err := w.rollback(t.Context(), RollbackRequest{App: "shop", By: "ana"}); err != nil {
					t.Error(err)
				}
				w.want("back", w.await(b.Number), domain.RolledBackState, only("a", true))
				return
			}
			if err := w.life.s.Thaw(t.Context(), "", "bo", "over", false); err != nil {
				t.Fatal(err)
			}
			w.want("thawed", w.await(b.Number), domain.DoneState, only("b", false))
		})
	}
}

// Staging is rolled back and forward in each delivery but the first; production never notices, and nothing is held.
func TestRehearsal(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		a := w.done("a")
		if a.Rehearsal == nil || a.Rehearsal.None == "" {
			t.Errorf("the first: %+v", a.Rehearsal)
		}
		b := w.done("b")
		if h := b.Rehearsal; h == nil || h.None != "" || h.Requests == 0 || h.Failed != 0 || h.Start <= 0 || h.Whole <= 0 {
			t.Errorf("%+v", h)
		}
		var back, forward int
		for _, r := range w.disk.rollouts {
			if r.Environment == domain.Staging && r.Delivery == b.Number {
				if r.State == domain.RolloutRolledBack && r.By == rehearser {
					back++
				}
				if r.State == domain.RolloutDone {
					forward++
				}
			}
		}
		if back != 1 || forward != 1 {
			t.Errorf("%d ways back, %d forward: %s", back, forward, w.describe())
		}
	})
}

// A running app is taken over as stable before anything is built, replaced like any, and taken back when next is bad.
func TestTakeOverOfARunningApp(t *testing.T) {
	for _, bad := range []float64{0, 0.5} {
		canaries(t, func(t *testing.T, w *world) {
			w.bad[sha("a")] = bad
			d, err := w.life.s.Ship(t.Context(), Submission{App: "shop", Commit: sha("a"), By: "ana", From: "127.0.0.1:3000"})
			if err != nil {
				t.Fatal(err)
			}
			w.inStage(d.Number, domain.Build)
			slot, _ := w.life.s.ports.Store.Slot(t.Context(), "shop", domain.Production)
			st, _ := w.life.s.ports.Traffic.State(t.Context(), "shop", domain.Production)
			if slot.Stable == "" || st.Stable != slot.Stable {
				t.Errorf("slot %+v traffic %+v", slot, st)
			}
			d = w.await(d.Number)
			want := domain.DoneState
			if bad > 0 {
				want = domain.RolledBackState
			}
			after, _ := w.life.s.ports.Store.Slot(t.Context(), "shop", domain.Production)
			if d.State != want || (after.Stable == slot.Stable) != (bad > 0) {
				t.Errorf("%s %+v slot %+v", d.State, d.Outcome, after)
			}
			if _, err := w.life.s.Ship(t.Context(), Submission{App: "shop", Commit: sha("b"), By: "ana", From: "127.0.0.1:4000"}); domain.CodeOf(err) != domain.Invalid {
				t.Errorf("taken over twice: %v", err)
			}
		})
	}
}

func TestCalmBefore(t *testing.T) {
	at := func(minute int) time.Time { return time.Unix(0, 0).Add(time.Duration(minute) * time.Minute) }
	span := func(from, to int) domain.Period { return domain.Period{From: at(from), To: at(to)} }
	for _, c := range []struct {
		name string
		busy []domain.Period
		want []domain.Period
	}{
		{"nothing built", nil, []domain.Period{span(105, 120)}},
		{"its own build", []domain.Period{span(115, 120)}, []domain.Period{span(100, 115)}},
		{"two builds", []domain.Period{span(115, 118), span(105, 110)}, []domain.Period{span(118, 120), span(110, 115), span(97, 105)}},
		{"overlapping builds", []domain.Period{span(100, 118), span(90, 119)}, []domain.Period{span(119, 120), span(76, 90)}},
		{"always", []domain.Period{span(-10, 130)}, nil},
		{"as far as it reaches", []domain.Period{span(10, 120)}, []domain.Period{span(0, 10)}},
		{"a build in a build", []domain.Period{span(80, 118), span(90, 95)}, []domain.Period{span(118, 120), span(67, 80)}},
	} {
		got := calmBefore(at(120), c.busy, 15*time.Minute, 2*time.Hour)
		same := len(got) == len(c.want)
		for i := range got {
			same = same && got[i].From.Equal(c.want[i].From) && got[i].To.Equal(c.want[i].To)
		}
		if !same {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Whoever goes back right after a restart finds the rollout that is open: what an earlier life left is waited for.
func TestRollbackRightAfterARestart(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.Monitor)
		w.life.end()
		w.begin()
		res, err := w.life.s.Rollback(t.Context(), RollbackRequest{App: "shop", By: "ana"})
		if err != nil || !res.Warm {
			t.Errorf("%+v, %v", res, err)
		}
		w.want("back", w.await(b.Number), domain.RolledBackState, only("a", true))
	})
}
