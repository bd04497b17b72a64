package rollout

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

func engineOf(w *world) *Engine {
	w.kill = func(error) {}
	return &Engine{Driver: w, Router: w, Guard: w, Gate: w, Checker: w, Ledger: w, Journal: w, Observer: w,
		Limits: Limits{Step: 10 * time.Minute, Rollback: time.Minute, PageEvery: 5 * time.Minute, RollbackDrain: 5 * time.Second}}
}

func runAll(ctx context.Context, e *Engine, r *Rollout) error {
	for _, stage := range productionStages {
		if err := e.Advance(ctx, r, stage); err != nil {
			return err
		}
	}
	return nil
}

// late is a ledger during whose last write somebody wants it back.
type late struct {
	*world
	r *Rollout
}

func (l late) Settle(ctx context.Context, rec domain.RolloutRecord) error {
	if err := l.world.Settle(ctx, rec); err != nil {
		return err
	}
	l.r.Interrupt(errors.New("ana wants it back"))
	return nil
}

// Half of the old side was gone when the new one was taken down: the point of no return is explicit, and what comes after it
// does not go back.
func TestScar_flyctl_3599(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		e := engineOf(w)
		r := &Rollout{Record: w.rollout, Stable: release("v1"), Next: *release("v2")}
		r.Plan = BlueGreen(r.Fleet(), Settings{Hold: time.Minute})
		e.Ledger = late{w, r}
		if err := runAll(t.Context(), e, r); err != nil || w.stable != "v2" || w.rollout.State != domain.RolloutDone ||
			len(w.running["v2"]) != 2 || len(w.running["v1"]) != 0 {
			t.Errorf("err=%v disk=%s", err, w.disk)
		}
		select {
		case <-r.Over():
		default:
			t.Error("whoever asked does not hear that it is over")
		}
	})
}

// slow is a journal whose disk takes long.
type slow struct{ *world }

func (s slow) Save(ctx context.Context, run, name string, rec []byte) error {
	if strings.Contains(string(rec), "failure") {
		time.Sleep(30 * time.Second)
	}
	return s.world.Save(ctx, run, name, rec)
}

// The health of the bad release was waited for before the fix: nothing comes before the traffic, not even the record.
func TestScar_kargo_3258(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		e := engineOf(w)
		e.Journal = slow{w}
		r := &Rollout{Record: w.rollout, Stable: release("v1"), Next: *release("v2")}
		r.Plan = BlueGreen(r.Fleet(), Settings{Hold: time.Hour})
		w.breach = time.Now().Add(time.Minute)
		time.AfterFunc(61*time.Second, func() {
			synctest.Wait()
			if now, _ := w.State(t.Context(), "shop", domain.Production); now.Weight != 0 {
				t.Errorf("a second after the breach next has %s", Percent(now.Weight))
			}
		})
		var back *RolledBack
		if err := runAll(t.Context(), e, r); !errors.As(err, &back) || w.stable != "v1" {
			t.Errorf("err=%v disk=%s", err, w.disk)
		}
	})
}
