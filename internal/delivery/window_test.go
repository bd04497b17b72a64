package delivery

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// open is a window of two openings on every day, in UTC: one from and for so long after now, and an hour's an hour later.
func open(from, length time.Duration) string {
	at := time.Now().UTC().Truncate(time.Minute).Add(from)
	end := at.Add(length)
	again := end.Add(time.Hour)
	return fmt.Sprintf("gates: { window: \"Mon-Sun %s-%s, Mon-Sun %s-%s UTC\" }\n", at.Format("15:04"), end.Format("15:04"),
		again.Format("15:04"), again.Add(length).Format("15:04"))
}

// inWindow plays a test over a canary of 5 % for 10 minutes and 50 % for 10 minutes; it begins at six in the morning.
func inWindow(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	in(t, func(t *testing.T, w *world) {
		time.Sleep(6 * time.Hour)
		w.file = fileWith("strategy: canary, steps: [5% for 10m, 50% for 10m]", "for: 5m, holdback: 5%")
		f(t, w)
	})
}

func (w *world) waits(number int, says string) {
	w.t.Helper()
	w.until("waits: "+says, func() bool {
		d := w.stored(number)
		return d.State == domain.WaitingState && strings.Contains(d.Wait.Reason, says)
	})
}

func (w *world) weight() int {
	w.t.Helper()
	st, err := w.life.s.ports.Traffic.State(w.t.Context(), "shop", domain.Production)
	if err != nil {
		w.t.Fatal(err)
	}
	return st.Weight
}

// It starts only in an opening that has room for all of its shifts up, and says which.
func TestWindowBeforeProduction(t *testing.T) {
	t.Parallel()
	inWindow(t, func(t *testing.T, w *world) {
		w.done("a")
		w.yaml[sha("b")] = w.file + open(2*time.Hour, time.Hour)
		b := w.ship("b")
		w.waits(b.Number, "outside of the window")
		d := w.stored(b.Number)
		if d.Wait.Owner != "the window" || !d.Wait.Deadline.Equal(time.Now().Truncate(time.Minute).Add(2*time.Hour).UTC()) && time.Until(d.Wait.Deadline) > 2*time.Hour {
			t.Errorf("%+v", d.Wait)
		}
		w.restart()
		w.waits(b.Number, "outside of the window")
		if w.production() != only("a", false) {
			t.Error(w.describe())
		}
		time.Sleep(100 * time.Minute)
		w.want("in the opening", w.await(b.Number), domain.DoneState, only("b", false))
		roll := w.lastRollout(domain.Production)
		if before := roll.Shifted.Sub(d.Wait.Deadline); before < 0 || before > time.Minute {
			t.Errorf("it shifted %s after the opening", before)
		}
	})
	t.Run("too little is left of the opening", func(t *testing.T) {
		inWindow(t, func(t *testing.T, w *world) {
			w.done("a")
			w.yaml[sha("b")] = w.file + open(-20*time.Minute, 35*time.Minute)
			b := w.ship("b")
			w.waits(b.Number, "the last shift comes 20m")
			if d := w.stored(b.Number); time.Until(d.Wait.Deadline) < time.Hour {
				t.Errorf("%+v", d.Wait)
			}
			time.Sleep(time.Hour)
			w.want("an hour later", w.await(b.Number), domain.DoneState, only("b", false))
		})
	})
	t.Run("no opening is long enough", func(t *testing.T) {
		inWindow(t, func(t *testing.T, w *world) {
			w.yaml[sha("b")] = w.file + open(time.Hour, 10*time.Minute)
			w.done("a")
			_, err := w.life.s.Ship(t.Context(), Submission{App: "shop", Commit: sha("b"), By: "ana"})
			if domain.CodeOf(err) != domain.Refused || !strings.Contains(err.Error(), "the last shift comes 20m after the first") || !strings.Contains(err.Error(), "lasts 10m") {
				t.Errorf("%v", err)
			}
			v, err := w.life.s.Plan(t.Context(), PlanRequest{App: "shop", Commit: sha("b"), File: []byte(w.yaml[sha("b")])})
			if err != nil || !strings.Contains(v.Refused, "no opening of the window is long enough") {
				t.Errorf("%q %v", v.Refused, err)
			}
		})
	})
}

// A shift that would fall outside of the window waits at its weight, over a restart; a rollback never waits.
func TestWindowShutsDuringACanary(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"opens", "rollback", "breach"} {
		t.Run(end, func(t *testing.T) {
			inWindow(t, func(t *testing.T, w *world) {
				w.done("a")
				w.yaml[sha("b")] = w.file + open(-time.Minute, 30*time.Minute)
				b := w.ship("b")
				w.inStage(b.Number, domain.DeployProduction)
				w.till("the first shift", func() bool { return w.weight() == 500 })
				if err := w.freezeFor(40 * time.Minute); err != nil { // nobody looked at the window meanwhile
					t.Fatal(err)
				}
				time.Sleep(45 * time.Minute)
				w.waits(b.Number, "the shift to 50 % waits, outside of the window")
				w.restart()
				time.Sleep(10 * time.Second)
				w.waits(b.Number, "the shift to 50 % waits, outside of the window")
				if d := w.stored(b.Number); w.weight() != 500 || time.Until(d.Wait.Deadline) < 20*time.Minute {
					t.Errorf("%d %+v", w.weight(), d.Wait)
				}
				switch end {
				case "rollback":
					began := time.Now()
					if _, err := w.rollback(t.Context(), RollbackRequest{App: "shop", By: "ana"}); err != nil || time.Since(began) > 10*time.Second {
						t.Errorf("%v after %s", err, time.Since(began))
					}
					w.want("back", w.await(b.Number), domain.RolledBackState, only("a", true))
				case "breach":
					w.mu.Lock()
					w.bad[sha("b")] = 0.5
					w.mu.Unlock()
					w.want("breach", w.await(b.Number), domain.RolledBackState, only("a", true))
				default:
					time.Sleep(30 * time.Minute)
					if w.weight() != 500 {
						t.Errorf("it went on outside of the window: %d", w.weight())
					}
					w.want("at the next opening", w.await(b.Number), domain.DoneState, only("b", false))
				}
			})
		})
	}
}

func (w *world) freezeFor(d time.Duration) error {
	until := time.Now().Add(d)
	_, err := w.life.s.Freeze(w.t.Context(), "", "bo", "a pause", &until)
	return err
}

// What Monitor has proven on almost all is not kept from the rest until the next opening.
func TestTheEndOfMonitorNeedsNoWindow(t *testing.T) {
	inWindow(t, func(t *testing.T, w *world) {
		w.done("a")
		w.yaml[sha("b")] = w.file + open(-time.Minute, 24*time.Minute)
		began := time.Now()
		b := w.await(w.ship("b").Number)
		w.want("done", b, domain.DoneState, only("b", false))
		if took := time.Since(began); took > time.Hour || took < 24*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

// The longer of two windows does not count at once: the commit that widens it is held to both.
func TestAWiderWindowCountsLater(t *testing.T) {
	t.Parallel()
	inWindow(t, func(t *testing.T, w *world) {
		plain := w.file
		w.file = plain + open(-time.Minute, 30*time.Minute)
		w.done("a")
		time.Sleep(50 * time.Minute)
		w.yaml[sha("b")] = plain
		b := w.ship("b")
		w.waits(b.Number, "outside of the window")
		if d := w.stored(b.Number); len(d.Loosened) != 1 || !strings.Contains(d.Loosened[0], "gates.window: it is removed") {
			t.Errorf("%q", d.Loosened)
		}
		time.Sleep(20 * time.Minute)
		w.want("within the last window", w.await(b.Number), domain.DoneState, only("b", false))
		w.yaml[sha("c")] = plain
		began := time.Now()
		w.want("free", w.await(w.ship("c").Number), domain.DoneState, only("c", false))
		if time.Since(began) > time.Hour {
			t.Errorf("the next one waits, too: %s", time.Since(began))
		}
	})
}

// What the window says depends on the clock on the wall at that moment, and on nothing that was seen before: a clock that is
// set back or ahead, or a machine that slept, lets nothing through.
func TestWindowAndAClockThatJumps(t *testing.T) {
	f, findings := config.Parse("belay.yaml", []byte(belayYAML+"gates: { window: Mon-Fri 09:00-16:00 Europe/Berlin }\n"), config.Options{Demo: true})
	if f == nil {
		t.Fatal(findings)
	}
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for _, c := range []struct{ now, state, says string }{
		{"2026-11-23T08:00:00Z", "passed", "open until Mon 23 Nov 16:00 Europe/Berlin (15:00 UTC)"},
		{"2026-11-23T07:59:59Z", "waiting", "opens Mon 23 Nov 09:00 Europe/Berlin (08:00 UTC)"}, // set back
		{"2026-11-23T08:00:01Z", "passed", "open until"},
		{"2026-11-23T14:29:59Z", "passed", "the last shift comes after 30m"},
		{"2026-11-23T14:30:00Z", "waiting", "shuts Mon 23 Nov 16:00 Europe/Berlin (15:00 UTC), and the last shift comes 30m after the first: it begins Tue 24 Nov 09:00"},
		{"2026-11-28T12:00:00Z", "waiting", "opens Mon 30 Nov 09:00"}, // slept over Friday's end
	} {
		g, err := windowAt(f.Gates.Window, at(c.now), 30*time.Minute, false)
		if err != nil || g.State != c.state || !strings.Contains(g.Detail, c.says) {
			t.Errorf("%s: %+v %v", c.now, g, err)
		}
	}
	if _, err := windowAt(f.Gates.Window, at("2026-11-23T08:00:00Z"), 8*time.Hour, false); domain.CodeOf(err) != domain.Refused {
		t.Errorf("%v", err)
	}
}

// An urgent delivery waits for the window like every other, and an approver lets it through: not the one who shipped it
// where approvers are named, and only for this artifact.
func TestUrgentIsLetThroughTheWindow(t *testing.T) {
	inWindow(t, func(t *testing.T, w *world) {
		w.done("a")
		w.yaml[sha("b")] = w.file + strings.Replace(open(5*time.Hour, time.Hour), "gates: { ", "gates: { approvals: { need: 1, from: [ana, ben] }, ", 1)
		b := w.urgent("b", "it burns")
		w.waits(b.Number, "outside of the window")
		d := w.stored(b.Number)
		if d.Wait.Owner != "an approver can waive it" {
			t.Errorf("%+v", d.Wait)
		}
		yes := func(by, gate string) error {
			_, err := w.life.s.Approve(t.Context(), Answer{App: "shop", Number: b.Number, Gate: gate, Digest: d.Digest, By: by})
			return err
		}
		if err := yes("ana", gateWindow); domain.CodeOf(err) != domain.Refused {
			t.Errorf("the author waives it: %v", err)
		}
		if err := yes("ben", gateApprovals); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if d := w.stored(b.Number); d.State != domain.WaitingState {
			t.Errorf("an approval waives the window: %+v", d.Gates)
		}
		if err := yes("ben", gateWindow); err != nil {
			t.Fatal(err)
		}
		done := w.await(b.Number)
		w.want("let through", done, domain.DoneState, only("b", false))
		for _, g := range done.Gates {
			if g.Name == gateWindow && (!strings.HasPrefix(g.Detail, "waived by ben ") || !strings.HasSuffix(g.Detail, ": urgent: it burns")) {
				t.Errorf("%+v", g)
			}
		}
	})
}
