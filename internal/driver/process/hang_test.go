package process_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/process"
)

// changes are those of the next 15 seconds.
func (b *bench) changes() <-chan domain.InstanceStatus {
	ctx, cancel := context.WithTimeout(b.t.Context(), 15*time.Second)
	b.t.Cleanup(cancel)
	return b.Changes(ctx)
}

// An instance that lives but no longer answers is started again, though it ignores TERM, and the one beside it goes on.
func TestHungInstanceIsStartedAgain(t *testing.T) {
	b := newBench(t, nil)
	hangs, other := b.instance("rel_1", 0, "stubborn", 10*time.Second), b.instance("rel_1", 1, "good", 10*time.Second)
	before, beside := b.start(hangs), b.start(other)
	changes := b.changes()
	b.get(before, "/break")
	ended := false
	for c := range changes {
		if c.InstanceID == hangs.InstanceID && c.State == domain.Crashed {
			for _, want := range []string{"started again", "3 times", "503", "a lock is held"} {
				if !strings.Contains(c.Message, want) {
					t.Errorf("%q is missing in %q", want, c.Message)
				}
			}
			ended = true
			break
		}
	}
	if !ended {
		t.Fatal("nobody ended it")
	}
	b.await("healed", func() bool { return b.status(hangs.InstanceID).State == domain.Healthy })
	if after := b.status(hangs.InstanceID); after.Restarts != 1 || after.PID == before.PID {
		t.Errorf("after it: %+v", after)
	}
	if after := b.status(other.InstanceID); after.Restarts != 0 || after.PID != beside.PID {
		t.Errorf("the one beside it: %+v", after)
	}
}

// When all instances fail at once, what they have in common is broken: none is started again, in either release.
func TestCommonCauseRestartsNothing(t *testing.T) {
	b := newBench(t, nil)
	all := []domain.Instance{
		b.instance("rel_1", 0, "good", 10*time.Second), b.instance("rel_1", 1, "good", 10*time.Second),
		b.instance("rel_2", 0, "good", 10*time.Second),
	}
	for _, inst := range all {
		b.start(inst)
	}
	for _, inst := range all {
		b.get(b.status(inst.InstanceID), "/break")
	}
	for _, inst := range all {
		b.await("ten probes failed", func() bool { return b.status(inst.InstanceID).Failed >= 10 })
	}
	for _, inst := range all {
		if s := b.status(inst.InstanceID); s.Restarts != 0 || s.State != domain.Unhealthy {
			t.Errorf("%+v", s)
		}
	}
}

// Two of three hang: they are started again one after the other, never both at once.
func TestOneRestartAtATime(t *testing.T) {
	b := newBench(t, nil)
	var all []domain.InstanceStatus
	for i := range 3 {
		all = append(all, b.start(b.instance("rel_1", i, "good", 10*time.Second)))
	}
	changes := b.changes()
	b.get(all[0], "/break")
	b.get(all[1], "/break")
	away := map[int]bool{} // no process, or none that is healthy yet
	var healed int
	for c := range changes {
		switch {
		case c.State == domain.Crashed || c.State == domain.Starting:
			away[c.Index] = true
		case c.State == domain.Healthy && away[c.Index]:
			delete(away, c.Index)
			healed++
		}
		if len(away) > 1 {
			t.Fatalf("started again at once: %v", away)
		}
		if healed == 2 {
			break
		}
	}
	if healed != 2 {
		t.Errorf("%d are healthy again, want 2", healed)
	}
	if s := b.status(all[2].InstanceID); s.Restarts != 0 {
		t.Errorf("the healthy one: %+v", s)
	}
}

// A role of one instance has nobody to compare with: it is started again.
func TestLoneInstanceIsStartedAgain(t *testing.T) {
	b := newBench(t, nil)
	inst := b.instance("rel_1", 0, "good", 10*time.Second)
	b.get(b.start(inst), "/break")
	b.await("started again", func() bool { s := b.status(inst.InstanceID); return s.Restarts == 1 && s.State == domain.Healthy })
}

func TestRestartOfTheHungCanBeTurnedOff(t *testing.T) {
	b := newBench(t, func(c *process.Config) { c.Hung = -1 })
	inst := b.instance("rel_1", 0, "good", 10*time.Second)
	b.get(b.start(inst), "/break")
	b.await("ten probes failed", func() bool { return b.status(inst.InstanceID).Failed >= 10 })
	if s := b.status(inst.InstanceID); s.Restarts != 0 {
		t.Errorf("%+v", s)
	}
}
