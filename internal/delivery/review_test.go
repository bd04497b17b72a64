package delivery

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
)

// rolling and holdback are the other strategies of the shop.
const (
	rollingOne = "strategy: rolling, min_soak: 10s"
	blueGreen  = "strategy: blue-green, min_soak: 10s"
)

// crewed is the file of a shop with a consumer and a singleton beside its web role.
func crewed(rollout, monitor string) string {
	return strings.Replace(fileWith(rollout, monitor), "verify:", `  mail:
    run: bin/mail
    probe: { exec: 'exit 0' }
    instances: 2
  clock:
    run: bin/clock
    singleton: true
    probe: { exec: 'exit 0' }
verify:`, 1)
}

// revive begins a new process when the last one died.
func (w *world) revive() {
	select {
	case <-w.life.crashed:
		w.life.end()
		time.Sleep(3 * time.Second)
		w.begin()
	default:
	}
}

// hand hands a commit over, again and again until somebody answers.
func (w *world) hand(in Submission) domain.Delivery {
	w.t.Helper()
	in.App, in.By, in.Commit, in.Key = "shop", "ana", sha(in.Commit), in.Commit
	var err error
	for range 20 {
		var d domain.Delivery
		if d, err = w.life.s.Ship(w.t.Context(), in); err == nil {
			return d
		}
		w.revive()
	}
	w.t.Fatalf("ship %s: %v", in.Commit, err)
	return domain.Delivery{}
}

// till waits until something holds, whatever dies meanwhile.
func (w *world) till(what string, ok func() bool) {
	w.t.Helper()
	for range 20000 {
		w.revive()
		if ok() {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
	w.t.Fatalf("never: %s: %s", what, w.describe())
}

// reached waits until a delivery has begun a stage, or has an end.
func (w *world) reached(number int, stage domain.Stage) {
	w.t.Helper()
	w.till(fmt.Sprintf("#%d in %s", number, stage), func() bool {
		d := w.stored(number)
		for _, row := range d.Stages {
			if row.Name == stage && row.State != domain.PendingStage {
				return true
			}
		}
		return d.State.Final()
	})
}

// alone watches that no singleton runs twice, and that no instance of a release is left when all is over.
func (w *world) alone(ctx context.Context) {
	for ctx.Err() == nil {
		for _, env := range domain.Environments {
			list, err := w.driver.List(context.WithoutCancel(ctx), "shop", env)
			if err != nil {
				continue
			}
			n := 0
			for _, i := range list {
				if i.Role == "clock" && i.State != domain.Stopped {
					n++
				}
			}
			if n > 1 {
				w.t.Errorf("%d clocks run in %s: %+v", n, env, list)
				return
			}
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// left lists the instances of an environment by commit and role.
func (w *world) left(env domain.Environment) string {
	list, _ := w.driver.List(context.WithoutCancel(w.t.Context()), "shop", env)
	var names []string
	for _, i := range list {
		rel, _ := storeOf{w.disk, w.life}.Release(context.WithoutCancel(w.t.Context()), i.Release)
		names = append(names, fmt.Sprintf("%s/%s%d", rel.Commit[:1], i.Role, i.Index))
	}
	return strings.Join(names, " ")
}

// scene is a course of events with one end, whatever dies on the way and when.
type scene struct {
	name string
	file string
	// play begins after commit a is done; arm lets the process die.
	play func(t *testing.T, w *world, arm func())
	bare bool // nothing is done before
}

func (s scene) run(t *testing.T, crashAt int, hard bool) (effects int) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.file = s.file
		w.begin()
		defer func() { w.life.end() }()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.alone(ctx)
		if !s.bare {
			w.done("a")
		}
		began, first := w.life.ops.Load(), w.life
		s.play(t, w, func() { w.life.arm(crashAt, hard); began, first = w.life.ops.Load(), w.life })
		effects = int(first.ops.Load() - began)
		if t.Failed() {
			t.Logf("it died after %q", first.last)
		}
	})
	return effects
}

// everywhere plays a scene whole, and dying after many of its effects; all of them with BELAY_TEST_EVERYWHERE.
func everywhere(t *testing.T, scenes ...scene) {
	t.Helper()
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			effects := s.run(t, 0, false)
			step := max(1, effects/4)
			if os.Getenv("BELAY_TEST_EVERYWHERE") != "" {
				step = 1
			} else if stride > 1 || testing.Short() {
				step = max(1, effects/2)
			}
			for _, hard := range []bool{false, true} {
				for at := 1 + len(s.name)%step; at <= effects && !t.Failed(); at += step {
					t.Run(fmt.Sprintf("hard=%t/%d", hard, at), func(t *testing.T) { s.run(t, at, hard) })
				}
			}
		})
	}
}

// want checks the end of a scene; running lists the instances of the web role.
func (w *world) wantEnd(d domain.Delivery, state domain.DeliveryState, commit string, held bool) {
	w.t.Helper()
	got := w.production()
	if d.State != state || got.Commit != commit || got.Open != 0 || got.Weight != 0 || got.Slot != commit || got.Held != held || w.runs(commit, domain.Production) < 2 {
		w.t.Errorf("#%d is %s, production %+v, want %s on %s held=%t: %+v %s", d.Number, d.State, got, state, commit, held, d.Outcome, w.describe())
	}
	for _, name := range strings.Fields(w.left(domain.Production)) {
		if !strings.HasPrefix(name, commit+"/") {
			w.t.Errorf("#%d: %s runs still: %s", d.Number, name, w.left(domain.Production))
		}
	}
	if d.Wait != nil || d.Outcome == nil || d.Outcome.Sentence == "" {
		w.t.Errorf("#%d: wait %+v outcome %+v", d.Number, d.Wait, d.Outcome)
	}
}

// Every strategy, with consumers and a singleton, goes on after the process died, forward and back.
func TestStrategiesSurviveADeath(t *testing.T) {
	t.Parallel()
	var scenes []scene
	for name, strategy := range map[string]string{"canary": canary, "rolling": rollingOne, "blue-green": blueGreen} {
		for _, bad := range []bool{false, true} {
			file := crewed(strategy, "for: 60s")
			scenes = append(scenes, scene{name: fmt.Sprintf("%s bad=%t", name, bad), file: file, play: func(_ *testing.T, w *world, arm func()) {
				state, commit := domain.DoneState, "b"
				if bad {
					w.bad[sha("b")], state, commit = 0.5, domain.RolledBackState, "a"
				}
				arm()
				w.wantEnd(w.await(w.hand(Submission{Commit: "b"}).Number), state, commit, bad)
			}})
		}
		scenes = append(scenes, scene{name: name + " first", bare: true, file: crewed(strategy, "for: 60s"), play: func(_ *testing.T, w *world, arm func()) {
			arm()
			w.wantEnd(w.await(w.hand(Submission{Commit: "b"}).Number), domain.DoneState, "b", false)
		}})
	}
	everywhere(t, scenes...)
}

// An urgent delivery, a take-over of a Monitor, and one of a running app.
func TestOverlapsSurviveADeath(t *testing.T) {
	t.Parallel()
	everywhere(t,
		scene{name: "urgent", file: fileWith(canary, "for: 5m"), play: func(_ *testing.T, w *world, arm func()) {
			b := w.hand(Submission{Commit: "b"})
			w.reached(b.Number, domain.DeployProduction)
			arm()
			c := w.hand(Submission{Commit: "c", Urgent: "fire"})
			if d := w.await(b.Number); d.State != domain.RolledBackState {
				w.t.Errorf("#%d is %s: %+v", d.Number, d.State, d.Outcome)
			}
			w.wantEnd(w.await(c.Number), domain.DoneState, "c", false)
		}},
		scene{name: "take-over", file: fileWith(canary, "for: 10m"), play: func(_ *testing.T, w *world, arm func()) {
			b := w.hand(Submission{Commit: "b"})
			w.reached(b.Number, domain.Monitor)
			arm()
			c := w.hand(Submission{Commit: "c"})
			if d := w.await(b.Number); d.State != domain.SupersededState {
				w.t.Errorf("#%d is %s: %+v", d.Number, d.State, d.Outcome)
			}
			w.wantEnd(w.await(c.Number), domain.DoneState, "c", false)
		}},
		scene{name: "from", bare: true, file: fileWith(canary, "for: 60s"), play: func(_ *testing.T, w *world, arm func()) {
			arm()
			d := w.await(w.hand(Submission{Commit: "b", From: "127.0.0.1:3000"}).Number)
			w.external(d, domain.DoneState)
			if n := w.told("rollout.taken_over"); n > 1 {
				w.t.Errorf("the take-over is told %d times", n)
			}
		}},
		scene{name: "from bad", bare: true, file: fileWith(canary, "for: 60s"), play: func(_ *testing.T, w *world, arm func()) {
			w.bad[sha("b")] = 0.5
			arm()
			w.external(w.await(w.hand(Submission{Commit: "b", From: "127.0.0.1:3000"}).Number), domain.RolledBackState)
		}},
	)
}

// told counts the events of a type.
func (w *world) told(kind string) (n int) {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	for _, e := range w.disk.events {
		if e.Type == kind {
			n++
		}
	}
	return n
}

func (w *world) external(d domain.Delivery, state domain.DeliveryState) {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	slot, _ := w.life.s.ports.Store.Slot(ctx, "shop", domain.Production)
	rel, err := w.life.s.ports.Store.Release(ctx, slot.Stable)
	if err != nil || d.State != state || (rel.External != "") != (state == domain.RolledBackState) {
		w.t.Errorf("%s, stable %q %q: %+v %v %s", d.State, rel.Commit, rel.External, d.Outcome, err, w.describe())
	}
	if t, _ := w.life.s.ports.Traffic.State(ctx, "shop", domain.Production); t != (rollout.Traffic{Stable: slot.Stable}) {
		w.t.Errorf("traffic %+v, slot %+v", t, slot)
	}
}

// A wish or a cancel in any second of a delivery ends it as it should, also when the process dies right after it.
func wishes(t *testing.T, file string, step time.Duration, from domain.Stage) {
	t.Helper()
	for _, act := range []string{"cancel", "rollback", "rollback staging"} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s restart=%t", act, again), func(t *testing.T) {
				for after := time.Duration(0); !t.Failed(); after += step {
					over := false
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						w.file = file
						w.begin()
						defer func() { w.life.end() }()
						ctx, stop := context.WithCancel(t.Context())
						defer stop()
						go w.alone(ctx)
						w.done("a")
						b := w.ship("b")
						w.inStage(b.Number, from)
						time.Sleep(after)
						if over = w.stored(b.Number).State.Final() || act == "rollback staging" && w.stored(b.Number).Stages[3].State == domain.DoneState; over {
							w.await(b.Number)
							return
						}
						w.wish(t, act, b, again, after)
					})
					if over || after > 10*time.Minute {
						return
					}
				}
			})
		}
	}
}

func (w *world) wish(t *testing.T, act string, b domain.Delivery, again bool, after time.Duration) {
	t.Helper()
	roll := w.lastRollout(domain.Production)
	opened := roll.Delivery == b.Number
	var err error
	switch act {
	case "cancel":
		_, err = w.life.s.Cancel(t.Context(), "shop", b.Number, "ana", "no")
	case "rollback":
		if !opened { // it would go back behind what is stable
			return
		}
		_, err = w.rollback(t.Context(), RollbackRequest{App: "shop", By: "ana"})
	default:
		_, err = w.rollback(t.Context(), RollbackRequest{App: "shop", By: "ana", Environment: domain.Staging})
	}
	if again {
		w.restart()
	}
	d := w.await(b.Number)
	end := w.production()
	switch {
	case err != nil && d.State == domain.DoneState: // it was too late, and said so
		if domain.CodeOf(err) != domain.Refused && domain.CodeOf(err) != domain.Conflict && act != "rollback" {
			t.Errorf("%s after %s: %v", act, after, err)
		}
	case err != nil && act == "cancel":
		t.Errorf("%s after %s: %v: %s", act, after, err, w.describe())
	case act == "rollback" && (end.Commit != "a" || !end.Held):
		t.Errorf("%s after %s: %+v %s", act, after, end, w.describe())
	case act == "cancel" && (d.State != domain.RejectedState && d.State != domain.RolledBackState || end.Commit != "a"):
		t.Errorf("%s after %s: %s %+v %s", act, after, d.State, d.Outcome, w.describe())
	case act == "rollback staging" && err == nil && (d.State == domain.DoneState || end.Commit != "a" || end.Held):
		t.Errorf("%s after %s: %s %+v %s", act, after, d.State, end, w.describe())
	}
	if d.State != domain.DoneState && !strings.Contains(d.Outcome.Sentence, "ana") && (act == "cancel" || d.State != domain.SupersededState) {
		t.Errorf("%s after %s: %s: %q does not say who wanted it", act, after, d.State, d.Outcome.Sentence)
	}
	if end.Open != 0 || end.Commit != "a" && end.Commit != "b" {
		t.Errorf("%s after %s: %+v", act, after, end)
	}
	w.want2("then", w.await(w.ship("c").Number))
}

// want2 demands that an app can go forward.
func (w *world) want2(what string, d domain.Delivery) {
	w.t.Helper()
	if d.State != domain.DoneState || w.production().Commit != "c" {
		w.t.Errorf("%s: #%d is %s: %+v %s", what, d.Number, d.State, d.Outcome, w.describe())
	}
}

func wishStep() time.Duration {
	switch {
	case os.Getenv("BELAY_TEST_EVERYWHERE") != "":
		return 500 * time.Millisecond
	case stride > 1 || testing.Short():
		return 31 * time.Second
	}
	return 9700 * time.Millisecond
}

func TestWishesInVerifyStaging(t *testing.T) {
	t.Parallel()
	wishes(t, crewed(blueGreen, "for: 20s"), wishStep()/2, domain.VerifyStaging)
}

func TestWishesWhileRolling(t *testing.T) {
	t.Parallel()
	wishes(t, crewed(rollingOne, "for: 20s"), wishStep(), domain.DeployProduction)
}

func TestWishesInACanary(t *testing.T) {
	t.Parallel()
	wishes(t, crewed("strategy: canary, steps: [5% for 10s, 50% for 10s], min_soak: 5s", "for: 20s"), wishStep(), domain.DeployProduction)
}

// While one gives way to the next and retires what was before it, somebody takes it back: the one that waits began before
// that, and does not enter production.
func TestRollbackWhileANewerTakesOver(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"", "a"} {
		for after := time.Duration(0); after < 12*time.Second; after += rollbackStep() {
			t.Run(fmt.Sprintf("to %q after %s", to, after), func(t *testing.T) {
				canaries(t, func(t *testing.T, w *world) {
					w.done("a")
					b := w.ship("b")
					w.inStage(b.Number, domain.Monitor)
					c := w.ship("c")
					w.until("b is stable", func() bool { return w.production().Slot == "b" })
					time.Sleep(after)
					q := RollbackRequest{App: "shop", By: "ana", Reason: "it is slow"}
					if to != "" {
						q.To = sha(to)
					}
					_, err := w.rollback(t.Context(), q)
					opened := w.lastRollout(domain.Production).Delivery == c.Number
					d := w.await(c.Number)
					got := w.production()
					switch {
					case err != nil && !opened:
						t.Errorf("refused although the newer had not begun: %v %s", err, w.describe())
					case err != nil:
						if domain.CodeOf(err) != domain.Conflict || domain.HintOf(err) == "" {
							t.Errorf("it says no and no way out: %v", err)
						}
					case d.State == domain.DoneState:
						t.Errorf("%+v: the newer began before the rollback and is in production: %s", got, w.describe())
					case !got.Held:
						t.Errorf("%+v: not held: %s", got, w.describe())
					case d.State == domain.FailedState && !strings.Contains(d.Outcome.Sentence, "held") && !strings.Contains(d.Outcome.Sentence, "is being rolled back"):
						t.Errorf("%s", d.Outcome.Sentence)
					}
				})
			})
		}
	}
}

func rollbackStep() time.Duration {
	if os.Getenv("BELAY_TEST_EVERYWHERE") != "" {
		return 700 * time.Millisecond
	}
	return 2900 * time.Millisecond
}

// After a take-over one can go back to the release that was superseded, and with its name to the last one that was done.
func TestColdRollbackAfterATakeOver(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"", "a"} {
		canaries(t, func(t *testing.T, w *world) {
			w.done("a")
			b := w.ship("b")
			w.inStage(b.Number, domain.Monitor)
			c := w.ship("c")
			w.await(b.Number)
			if d := w.await(c.Number); d.State != domain.DoneState {
				t.Fatalf("%s %+v", d.State, d.Outcome)
			}
			q, want := RollbackRequest{App: "shop", By: "ana"}, "b"
			if to != "" {
				q.To, want = sha(to), to
			}
			res, err := w.rollback(t.Context(), q)
			if err != nil || res.To != sha(want) {
				t.Fatalf("%+v %v", res, err)
			}
			time.Sleep(time.Minute)
			if got := w.production(); got != only(want, true) {
				t.Errorf("%+v", got)
			}
			w.restart()
			w.want("then", w.done("d"), domain.DoneState, only("d", false))
		})
	}
}

// An urgent delivery goes before one that has the place and no rollout yet.
func TestUrgentBeforeOneAtAGate(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		if _, err := w.life.s.Freeze(t.Context(), "shop", "bo", "move", nil); err != nil {
			t.Fatal(err)
		}
		b := w.ship("b")
		w.until("b waits at the freeze", func() bool { d := w.stored(b.Number); return d.Wait != nil && d.Wait.Owner == "bo" })
		fix := w.urgent("c", "fire")
		w.inStage(fix.Number, domain.DeployProduction)
		time.Sleep(20 * time.Second)
		if err := w.life.s.Thaw(t.Context(), "shop", "bo", "over", false); err != nil {
			t.Fatal(err)
		}
		d := w.await(fix.Number)
		if w.stored(b.Number).State == domain.DoneState {
			t.Errorf("the urgent one waited for the whole of #%d", b.Number)
		}
		w.want("the fix", d, domain.DoneState, only("c", false))
	})
}

// An urgent delivery that is not let in has touched nothing.
func TestUrgentThatIsRefusedTakesNothingBack(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.DeployProduction)
		w.until("b has traffic", func() bool { return w.production().Weight > 0 })
		same := w.urgent("b", "the same again")
		d := w.await(same.Number)
		t.Logf("%s: %+v", d.State, d.Outcome)
		if got := w.await(b.Number); got.State != domain.DoneState {
			t.Errorf("#%d is %s because of an urgent delivery that is %s: %+v", b.Number, got.State, d.State, got.Outcome)
		}
	})
}

// A freeze at each shift upwards holds it where it is, also over a restart, and is over when it is lifted.
func TestFreezeAtEachShift(t *testing.T) {
	t.Parallel()
	for _, at := range []int{0, 500, 5000, 9500} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s restart=%t", rollout.Percent(at), again), func(t *testing.T) {
				canaries(t, func(t *testing.T, w *world) {
					w.done("a")
					b := w.ship("b")
					w.until("the weight", func() bool {
						s := w.production()
						return s.Open == 1 && s.Weight == at && (at > 0 || w.runs("b", domain.Production) > 0)
					})
					if _, err := w.life.s.Freeze(t.Context(), "shop", "bo", "move", nil); err != nil {
						t.Fatal(err)
					}
					time.Sleep(11 * time.Minute)
					if again {
						w.restart()
						time.Sleep(time.Minute)
					}
					d := w.stored(b.Number)
					if s := w.production(); s.Weight != at || s.Open != 1 || d.State != domain.WaitingState || d.Wait == nil || d.Wait.Owner != "bo" ||
						!d.Wait.Deadline.After(time.Now()) {
						t.Errorf("%+v: %s %+v", s, d.State, d.Wait)
					}
					if err := w.life.s.Thaw(t.Context(), "shop", "bo", "over", false); err != nil {
						t.Fatal(err)
					}
					w.want("thawed", w.await(b.Number), domain.DoneState, only("b", false))
				})
			})
		}
	}
}

// Two wait: the newest goes, the older ends superseded, and nobody waits without a reason, an owner and a deadline.
func TestTwoWait(t *testing.T) {
	t.Parallel()
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.VerifyProduction)
		c, e := w.ship("c"), w.ship("e")
		waits := 0
		for range 2000 {
			time.Sleep(2 * time.Second)
			over := true
			for _, n := range []int{b.Number, c.Number, e.Number} {
				d := w.stored(n)
				over = over && d.State.Final()
				if d.State != domain.WaitingState {
					continue
				}
				waits++
				if d.Wait == nil || d.Wait.Reason == "" || d.Wait.Owner == "" || d.Wait.Deadline.IsZero() {
					t.Errorf("#%d waits: %+v", n, d.Wait)
				}
			}
			if over {
				break
			}
		}
		if waits == 0 {
			t.Error("nobody waited")
		}
		if d := w.stored(c.Number); d.State != domain.SupersededState {
			t.Errorf("#%d is %s: %+v", c.Number, d.State, d.Outcome)
		}
		w.want("the newest", w.await(e.Number), domain.DoneState, only("e", false))
	})
}

// Who was to take over is gone before it did, and the process died in between: what was stored of it is no lie.
func TestWhoGaveWaySaysHow(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.Monitor)
		w.life.die("journal taken over", true)
		c := w.ship("c")
		w.until("it dies", func() bool { return w.life.dead.Load() })
		w.life.end()
		w.disk.facts = append(w.disk.facts, domain.Fact{App: "shop", Delivery: c.Number, Kind: "cancel", By: "ana", At: time.Now()})
		began := time.Now()
		w.begin()
		d := w.await(b.Number)
		if watched := time.Since(began) > 8*time.Minute; watched == (d.State == domain.SupersededState) {
			t.Errorf("watched for %s more, and %s: %+v", time.Since(began).Round(time.Second), d.State, d.Outcome)
		}
	})
}

// A rehearsal that a death cut off does not say 0 ms.
func TestRehearsalThatWasCutOff(t *testing.T) {
	for _, kill := range []string{"split staging 0", "drain staging", "stop staging", "finish rollout"} {
		t.Run(kill, func(t *testing.T) {
			canaries(t, func(t *testing.T, w *world) {
				w.done("a")
				b := w.ship("b")
				w.inStage(b.Number, domain.VerifyStaging)
				w.life.die(kill, true)
				d := w.await(b.Number)
				if h := d.Rehearsal; h == nil || h.None == "" && h.Moved == 0 && h.Whole == 0 {
					t.Errorf("%+v", h)
				}
				w.want("then", d, domain.DoneState, only("b", false))
			})
		})
	}
}

// What a delivery waits for is not shown while it goes back.
func TestNoWaitIsShownWhileItGoesBack(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.DeployProduction)
		w.until("it has traffic", func() bool { return w.production().Weight == 500 })
		if _, err := w.life.s.Freeze(t.Context(), "shop", "bo", "move", nil); err != nil {
			t.Fatal(err)
		}
		w.until("it waits", func() bool { return w.stored(b.Number).State == domain.WaitingState })
		go func() { _, _ = w.life.s.Rollback(t.Context(), RollbackRequest{App: "shop", By: "ana"}) }()
		w.until("the traffic is back", func() bool { return w.production().Weight == 0 })
		time.Sleep(500 * time.Millisecond) // it drains
		if d := w.stored(b.Number); d.Wait != nil {
			t.Errorf("%s, and waits: %+v", d.State, d.Wait)
		}
		w.await(b.Number)
	})
}

// A hold that comes and goes while somebody is asked does not hide the question.
func TestTheQuestionIsShownAgainAfterAHold(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		w.mu.Lock()
		w.idle = true
		w.mu.Unlock()
		b := w.ship("b")
		w.until("it asks", func() bool { r := w.life.s.find("shop", b.Number); return r != nil && r.asking() })
		w.silent.Store(true)
		w.until("it holds", func() bool {
			d := w.stored(b.Number)
			return d.Wait != nil && strings.Contains(d.Wait.Reason, "a rollback aside")
		})
		w.silent.Store(false)
		time.Sleep(time.Minute)
		if d := w.stored(b.Number); d.State != domain.WaitingState || d.Wait == nil || !strings.Contains(d.Wait.Reason, "may it go on?") {
			t.Errorf("it is %s and shows %+v", d.State, d.Wait)
		}
		if _, err := w.life.s.Reject(t.Context(), "shop", b.Number, "bo", "no"); err != nil {
			t.Error(err)
		}
		w.await(b.Number)
	})
}

// A delivery whose gates have passed prepares its release while somebody goes back: it began before that, and does not enter.
func TestRollbackWhileTheNextPreparesItsRelease(t *testing.T) {
	for _, after := range []time.Duration{time.Second, 5 * time.Second, 28 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			canaries(t, func(t *testing.T, w *world) {
				var prepares atomic.Bool
				w.driver.Prepared = func(ctx context.Context, digest string) error {
					if digest != "sha256:"+sha("c") || w.stored(3).Stages[3].State != domain.DoneState {
						return nil
					}
					prepares.Store(true)
					select {
					case <-time.After(30 * time.Second):
						return nil
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}
				w.done("a")
				w.done("b")
				c := w.ship("c")
				w.until("it prepares", prepares.Load)
				time.Sleep(after)
				if _, err := w.rollback(t.Context(), RollbackRequest{App: "shop", By: "ana", Reason: "slow"}); err != nil {
					t.Fatal(err)
				}
				d := w.await(c.Number)
				if got := w.production(); got != only("a", true) || d.State != domain.FailedState || !strings.Contains(d.Outcome.Sentence, "held") {
					t.Errorf("%+v: #%d is %s: %+v", got, d.Number, d.State, d.Outcome)
				}
			})
		})
	}
}

// An urgent delivery takes back what is in Monitor; it does not make it stable by taking over.
func TestUrgentTakesBackAMonitor(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.inStage(b.Number, domain.Monitor)
		time.Sleep(time.Minute) // quiet, and watched for longer than the least
		fix := w.urgent("c", "checkout is broken")
		d := w.await(b.Number)
		if d.State != domain.RolledBackState || !strings.Contains(d.Outcome.Sentence, "urgent #3") {
			t.Errorf("#%d is %s: %+v", d.Number, d.State, d.Outcome)
		}
		w.want("the fix", w.await(fix.Number), domain.DoneState, only("c", false))
	})
}
