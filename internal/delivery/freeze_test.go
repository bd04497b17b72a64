package delivery

import (
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Several freezes hold at once, each with its owner; each is lifted by its owner or an operator, and one of the same reach
// is replaced.
func TestSeveralFreezes(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		s := w.life.s
		w.done("a")
		if _, err := s.Freeze(t.Context(), "", "ana", "database move", nil); err != nil {
			t.Fatal(err)
		}
		set, err := s.Freeze(t.Context(), "shop", "ben", "trade fair", nil)
		if err != nil || len(set.Beside) != 1 || set.Beside[0].By != "ana" || set.Replaced != nil {
			t.Fatalf("%+v %v", set, err)
		}
		b := w.ship("b")
		w.waits(b.Number, "frozen: database move (the whole server, by ana); trade fair (shop, by ben)")
		if d := w.stored(b.Number); d.Wait.Owner != "ana, ben" {
			t.Errorf("%+v", d.Wait)
		}
		set, err = s.Freeze(t.Context(), "shop", "cem", "two fairs", nil)
		if err != nil || set.Replaced == nil || set.Replaced.By != "ben" || strings.Join(set.Waits, " ") != "shop #2" || set.Keeps != nil {
			t.Errorf("%+v %v", set, err)
		}
		if err := s.Thaw(t.Context(), "", "ben", "enough", false); domain.CodeOf(err) != domain.Refused || !strings.Contains(err.Error(), "ana froze the whole server: database move") {
			t.Errorf("%v", err)
		}
		if err := s.Thaw(t.Context(), "", "ana", "moved", false); err != nil {
			t.Error(err)
		}
		w.waits(b.Number, "frozen: two fairs")
		if err := s.Thaw(t.Context(), "", "ana", "moved", false); domain.CodeOf(err) != domain.NotFound {
			t.Errorf("%v", err)
		}
		if err := s.Thaw(t.Context(), "shop", "root", "over", true); err != nil {
			t.Error(err)
		}
		w.want("thawed", w.await(b.Number), domain.DoneState, only("b", false))
	})
}

// A freeze ends by itself at its time: what waits goes on, and it is told once.
func TestFreezeRunsOut(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.done("a")
		past := time.Now().Add(-time.Second)
		for until, app := range map[*time.Time]string{&past: "", nil: "nobody"} {
			if _, err := w.life.s.Freeze(t.Context(), app, "bo", "a pause", until); domain.CodeOf(err) != domain.Invalid && domain.CodeOf(err) != domain.NotFound {
				t.Errorf("%v %s: %v", until, app, err)
			}
		}
		if err := w.freezeFor(10 * time.Minute); err != nil {
			t.Fatal(err)
		}
		ends := time.Now().Add(10 * time.Minute)
		b := w.ship("b")
		w.waits(b.Number, "frozen: a pause")
		if d := w.stored(b.Number); !d.Wait.Deadline.Equal(ends) {
			t.Errorf("%+v, it ends at %s", d.Wait, ends)
		}
		w.restart()
		time.Sleep(time.Until(ends) + 10*time.Second)
		if w.told("freeze.lifted") != 1 {
			t.Errorf("told %d times", w.told("freeze.lifted"))
		}
		w.want("over", w.await(b.Number), domain.DoneState, only("b", false))
		if list, _ := w.life.s.ports.Store.Freezes(t.Context()); len(list) != 0 {
			t.Errorf("%+v", list)
		}
	})
}

// Whoever freezes during a rollout learns that it keeps its weight. A freeze with a time is waited out, however long.
func TestFreezeDuringACanary(t *testing.T) {
	canaries(t, func(t *testing.T, w *world) {
		w.done("a")
		b := w.ship("b")
		w.till("the first shift", func() bool { return w.weight() == 500 })
		until := time.Now().Add(26 * time.Hour)
		set, err := w.life.s.Freeze(t.Context(), "", "bo", "the weekend", &until)
		if err != nil || strings.Join(set.Keeps, " ") != "shop #2" || set.Waits != nil {
			t.Errorf("%+v %v", set, err)
		}
		w.waits(b.Number, "the shift to 50 % waits, frozen: the weekend")
		if d := w.stored(b.Number); !d.Wait.Deadline.Equal(until) || w.weight() != 500 {
			t.Errorf("%d %+v", w.weight(), d.Wait)
		}
		if err := w.life.s.Thaw(t.Context(), "", "bo", "a short one", false); err != nil {
			t.Error(err)
		}
		w.want("after the weekend", w.await(b.Number), domain.DoneState, only("b", false))
	})
}
