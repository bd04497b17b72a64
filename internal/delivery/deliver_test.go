package delivery

import (
	"testing"
	"testing/synctest"

	"github.com/belay-cd/belay/internal/domain"
)

func TestTwoGoodDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.begin()
		defer func() { w.life.end() }()
		for _, name := range []string{"a", "b"} {
			d := w.await(w.ship(name).Number)
			if d.State != domain.DoneState || d.Outcome == nil || d.Outcome.FailedBecause != 0 {
				t.Fatalf("%s: %+v %s", name, d.Outcome, w.describe())
			}
			for _, row := range d.Stages {
				if row.State != domain.DoneState || row.Started == nil || row.Ended == nil {
					t.Errorf("stage %s: %+v", row.Name, row)
				}
			}
			if got := w.production(); got != only(name, false) {
				t.Errorf("%s: %+v", name, got)
			}
		}
		t.Log(l.ops.Load(), "effects")
	})
}
