package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// tape notes what the engine does to stable and to the data plane, in order.
type tape struct {
	*world
	notes []string
}

func (p *tape) Start(ctx context.Context, i domain.Instance) (domain.InstanceStatus, error) {
	p.notes = append(p.notes, fmt.Sprintf("start %s/%d", i.Release, i.Index))
	return p.world.Start(ctx, i)
}

func (p *tape) Stop(ctx context.Context, i domain.InstanceID) error {
	p.notes = append(p.notes, fmt.Sprintf("stop %s/%d", i.Release, i.Index))
	return p.world.Stop(ctx, i)
}

func (p *tape) Split(ctx context.Context, s Split) error {
	err := p.world.Split(ctx, s)
	p.notes = append(p.notes, fmt.Sprintf("acknowledged %d", s.Weight))
	return err
}

func (p *tape) Drain(ctx context.Context, id domain.InstanceID, within time.Duration) error {
	p.notes = append(p.notes, "drained "+id.Release)
	return p.world.Drain(ctx, id, within)
}

// play runs a whole rollout of v2 over v1; a breach comes after the given time, 0 for none.
func play(t *testing.T, breach time.Duration) (*tape, error) {
	w := newWorld(t, false)
	if breach > 0 {
		w.breach = time.Now().Add(breach)
	}
	p := &tape{world: w}
	e := engineOf(w)
	e.Driver, e.Router = p, p
	r := &Rollout{Record: w.rollout, Stable: release("v1"), Next: *release("v2")}
	r.Plan = BlueGreen(r.Fleet(), Settings{Hold: time.Hour})
	return p, runAll(t.Context(), e, r)
}

// An aborted canary kept its weight for ever: after a rollback next has none, and is in no route.
func TestScar_argo_4841(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := play(t, 10*time.Minute)
		var back *RolledBack
		if !errors.As(err, &back) {
			t.Fatalf("err = %v", err)
		}
		if p.traffic.Weight != 0 || p.next != "" || p.stable != "v1" {
			t.Errorf("after the rollback: %s", p.disk)
		}
		time.Sleep(24 * time.Hour)
		if p.traffic.Weight != 0 || p.next != "" {
			t.Errorf("a day later: %s", p.disk)
		}
	})
}

// The old side was stopped before the data plane had moved: stable stops only after the acknowledgement and the drain.
func TestScar_argo_4834(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := play(t, 0)
		if err != nil {
			t.Fatal(err)
		}
		moved := slices.Index(p.notes, fmt.Sprintf("acknowledged %d", domain.WeightAll))
		drained := slices.Index(p.notes, "drained v1")
		stopped := slices.Index(p.notes, "stop v1/0")
		if moved < 0 || drained < moved || stopped < drained {
			t.Errorf("moved %d, drained %d, stopped %d of %q", moved, drained, stopped, p.notes)
		}
	})
}

// After full promotion a rollback was a slow new rollout: until Monitor ends stable is warm, and nothing has to start.
func TestScar_argo_574(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := play(t, 59*time.Minute)
		var back *RolledBack
		if !errors.As(err, &back) || back.Moved > time.Second {
			t.Fatalf("err = %v", err)
		}
		for _, note := range p.notes {
			if note == "start v1/0" || note == "start v1/1" || note == "stop v1/0" {
				t.Errorf("%s in %q", note, p.notes)
			}
		}
	})
}
