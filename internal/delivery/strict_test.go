package delivery

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// A delivery that began before its gates became stricter does not get around them.
func TestGatesThatBecameStricterMeanwhile(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		w.yaml[sha("b")] = gated("{ approvals: { need: 1, from: [bo] } }")
		b := w.ship("b")
		w.waitsFor(b.Number, gateApprovals)
		if _, err := w.life.s.Approve(t.Context(), Answer{App: "shop", Number: b.Number, Digest: w.stored(b.Number).Digest, By: "bo"}); err != nil {
			t.Fatal(err)
		}
		w.inStage(b.Number, domain.Monitor)
		freeze(t, w)
		c := w.ship("c") // its file asks nobody
		w.waitsFor(c.Number, "freeze")
		if d := w.await(b.Number); d.State != domain.DoneState {
			t.Fatalf("b is %s: %+v", d.State, d.Outcome)
		}
		d := w.await(c.Number)
		if d.State != domain.FailedState || !strings.Contains(d.Outcome.Sentence, "#2 was done meanwhile, and its gates are stricter: gates.approvals") {
			t.Errorf("%s: %+v", d.State, d.Outcome)
		}
		if s := w.production(); s.Commit != "b" {
			t.Errorf("%+v", s)
		}
	})
}

func freeze(t *testing.T, w *world) {
	t.Helper()
	if _, err := w.life.s.Freeze(t.Context(), "shop", "ops", "move", nil); err != nil {
		t.Fatal(err)
	}
}

// A store that does not answer for a while holds a shift; it takes nothing back.
func TestShiftWaitsForTheStore(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.until("next starts", func() bool { return strings.Contains(w.production().Running, "b0") })
		until := time.Now().Add(3 * time.Minute)
		failed := 0
		w.disk.mu.Lock()
		w.disk.fail = func(op string) error {
			if op == "freezes" && time.Now().Before(until) {
				failed++
				return errors.New("disk busy")
			}
			return nil
		}
		w.disk.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if s := w.production(); s.Weight != 0 || s.Open != 1 {
			t.Errorf("%+v", s)
		}
		w.want("b", w.await(b.Number), domain.DoneState, only("b", false))
		if failed == 0 {
			t.Error("the store was not asked")
		}
	})
}

// What was seen at a time that the clock has not reached yet is as old as can be.
func TestAgeByBothClocks(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		at   time.Time
		want time.Duration
	}{
		{now.Add(-time.Hour), time.Hour},
		{now.Round(0).Add(-48 * time.Hour), 48 * time.Hour},
		{now.Round(0).Add(24 * time.Hour), math.MaxInt64},
	} {
		if got := ageOf(c.at); got < c.want || got > c.want && got-c.want > time.Minute {
			t.Errorf("%s is %s old, want %s", c.at, got, c.want)
		}
	}
}
