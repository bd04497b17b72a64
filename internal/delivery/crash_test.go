package delivery

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/belay-cd/belay/internal/domain"
)

// ending is how a delivery and production look when all is over.
type ending struct {
	state   domain.DeliveryState
	serving serving
	owner   string // of the hold
}

// plot is a course of events with one end, whatever dies on the way.
type plot struct {
	name  string
	first string       // commit that is done before
	setup func(*world) // of the world, before the delivery under test begins
	end   ending
}

func plots() []plot {
	return []plot{
		{name: "first", end: ending{domain.DoneState, only("b", false), ""}},
		{name: "good", first: "a", end: ending{domain.DoneState, only("b", false), ""}},
		{name: "breach", first: "a", setup: func(w *world) { w.bad[sha("b")] = 0.5 },
			end: ending{domain.RolledBackState, only("a", true), "guard"}},
		{name: "first breach", setup: func(w *world) { w.bad[sha("b")] = 0.5 },
			end: ending{domain.FailedState, only("b", false), ""}},
		{name: "red check", first: "a", setup: func(w *world) { w.red[sha("b")] = "production check" },
			end: ending{domain.FailedState, only("a", false), ""}},
		{name: "red under traffic", first: "a", setup: func(w *world) { w.red[sha("b")] = "production check under traffic" },
			end: ending{domain.RolledBackState, only("a", true), "belay"}},
		{name: "red in staging", first: "a", setup: func(w *world) { w.red[sha("b")] = "staging check under traffic" },
			end: ending{domain.FailedState, only("a", false), ""}},
		{name: "no start", first: "a", setup: func(w *world) { w.red[sha("b")] = "start" },
			end: ending{domain.FailedState, only("a", false), ""}},
	}
}

// play delivers once, and dies after the crashAt-th effect; 0 is never. It says how many effects there were.
func (p plot) play1(t *testing.T, crashAt int, hard bool) int {
	effects := 0
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.begin()
		defer func() { w.life.end() }()
		if p.first != "" {
			w.await(w.ship(p.first).Number)
		}
		if p.setup != nil {
			p.setup(w)
		}
		w.life.arm(crashAt, hard)
		began := w.life.ops.Load()
		crashed := w.life
		again := Submission{App: "shop", Commit: sha("b"), By: "ana", Key: "b"}
		b, err := w.life.s.Ship(t.Context(), again)
		if err != nil { // the process died before it answered: whoever shipped tries again
			w.life.end()
			w.begin()
			if b, err = w.life.s.Ship(t.Context(), again); err != nil {
				t.Fatal(err)
			}
		}
		d := w.await(b.Number)
		effects = int(w.life.ops.Load() - began)
		got := ending{d.State, w.production(), ""}
		if h, _ := (storeOf{w.disk, w.life}).Hold(t.Context(), "shop"); h != nil {
			got.owner = h.Owner
		}
		if hard && strings.Contains(crashed.last, "latched=true") && got.owner == "belay" {
			got.owner = p.end.owner // between flip and record the latch is all that is left of the decision
		}
		if got != p.end {
			t.Errorf("after %q:\ngot  %+v\nwant %+v %s", crashed.last, got, p.end, w.describe())
		}
		if d.Outcome == nil || d.Ended == nil || d.Wait != nil {
			t.Errorf("after %q: outcome %+v ended %v wait %v", crashed.last, d.Outcome, d.Ended, d.Wait)
		}
		for _, row := range d.Stages {
			for _, s := range row.Steps {
				if row.State == domain.DoneState && s.State != domain.DoneState {
					t.Errorf("after %q: %s is done, its step %s %s is %s", crashed.last, row.Name, s.Verb, s.Instance, s.State)
				}
			}
		}
		if crashAt%5 != 0 {
			return
		}
		// The app can go forward.
		w.yaml[sha("c")] = ""
		next := w.await(w.ship("c").Number)
		if next.State != domain.DoneState {
			t.Errorf("after %q: the next delivery is %s: %v %s", crashed.last, next.State, next.Outcome, w.describe())
		} else if s := w.production(); s != only("c", false) {
			t.Errorf("after %q: the next delivery left %+v", crashed.last, s)
		}
	})
	return effects
}

// TestCrashEverywhere kills the process after every single effect and write of whole deliveries, softly (it may finish what
// it does) and hard (nothing of it happens any more), and demands the end that there is without the crash.
func TestCrashEverywhere(t *testing.T) {
	t.Parallel()
	for _, p := range plots() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			effects := p.play1(t, 0, false)
			for _, hard := range []bool{false, true} {
				for at := 1; at <= effects; at += stride {
					t.Run(fmt.Sprintf("hard=%t/%d", hard, at), func(t *testing.T) { p.play1(t, at, hard) })
				}
			}
		})
	}
}
