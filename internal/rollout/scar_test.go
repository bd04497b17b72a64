package rollout

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

var strategies = []Strategy{StrategyBlueGreen, StrategyCanary, StrategyRolling}

// each plays a course with every strategy, with all kinds of roles, and shows how it ended.
func each(t *testing.T, c course, look func(t *testing.T, m *machine)) {
	for _, strategy := range strategies {
		t.Run(string(strategy), func(t *testing.T) {
			c := c
			c.strategy, c.mix = strategy, allRoles
			synctest.Test(t, func(t *testing.T) {
				m := newMachine(c)
				if wrong := m.judge(m.play(t)); wrong != nil {
					t.Fatal(wrong)
				}
				look(t, m)
			})
		})
	}
}

// lasts is how long a rollout with all kinds of roles takes when nothing happens, in seconds.
func lasts(t *testing.T, strategy Strategy) (seconds int) {
	m, wrong := crashed(t, course{strategy: strategy, mix: allRoles})
	if wrong != nil {
		t.Fatal(wrong)
	}
	return int(m.rollout.Ended.Sub(m.began) / time.Second)
}

// Instances of next were never ready, and the deadline did nothing.
func TestScar_argo_4128(t *testing.T) {
	never := failing{span: span{0, 24 * 3600}, release: "v2", hangs: true, silent: true}
	each(t, course{starts: never}, func(t *testing.T, m *machine) {
		if took := m.rollout.Ended.Sub(m.began); m.rollout.State != domain.RolloutRolledBack || took < modelSlack || took > modelSlack+10*time.Second {
			t.Errorf("%s after %s", m.rollout.State, took)
		}
	})
	t.Run("abort", func(t *testing.T) {
		each(t, course{starts: never, wish: 5}, func(t *testing.T, m *machine) {
			if took := m.rollout.Ended.Sub(m.began); m.rollout.State != domain.RolloutRolledBack || took > 10*time.Second {
				t.Errorf("%s after %s", m.rollout.State, took)
			}
		})
	})
}

// An abort was ignored after the full promotion: it wins at every second until next is stable, and after that nothing is torn
// down for it.
func TestScar_argo_4461(t *testing.T) {
	for _, strategy := range strategies {
		calm, _ := crashed(t, course{strategy: strategy, mix: allRoles})
		settled := calm.watched.Sub(calm.began)
		for wish := 1; wish <= int(settled/time.Second)+2; wish++ {
			m, wrong := crashed(t, course{strategy: strategy, mix: allRoles, wish: wish})
			at := time.Duration(wish) * time.Second
			if wrong != nil || at != settled && at > settled != (m.rollout.State == domain.RolloutDone) { // at one instant either is first
				t.Errorf("%s, wish after %d s: %v: %s", strategy, wish, wrong, m.rollout.State)
			}
		}
	}
}

// An aborted canary kept its weight for ever: after a rollback next has none, and is in no route.
func TestScar_argo_4841(t *testing.T) {
	each(t, course{harm: 30}, func(t *testing.T, m *machine) {
		for _, later := range []time.Duration{0, 24 * time.Hour} {
			time.Sleep(later)
			if m.rollout.State != domain.RolloutRolledBack || m.table.Weight != 0 || m.table.Next != nil || m.table.Stable.ID != "v1" {
				t.Errorf("%s after the rollback: %s %+v", later, m, m.table)
			}
		}
	})
}

// Traffic moved to a side without the capacity for it: next, that lost an instance before its shift, does not get it.
func TestScar_argo_3941(t *testing.T) {
	for _, strategy := range strategies {
		at := 3 // beside the check at 0 %
		if strategy == StrategyRolling {
			at = 2
		}
		c := course{strategy: strategy, mix: 0, deaths: []death{{at: at - 1, of: instanceID("v2", "web", 0)}}, starts: failing{span: span{at, 3600}, release: "v2", hangs: true}}
		m, wrong := crashed(t, c)
		if wrong != nil || m.rollout.State != domain.RolloutRolledBack {
			t.Errorf("%s: %v: %s", strategy, wrong, m)
		}
		if strategy != StrategyCanary && slices.ContainsFunc(m.notes, func(n string) bool { return strings.HasPrefix(n, "split") && n != "split 0 %" }) {
			t.Errorf("%s: next got traffic: %q", strategy, m.notes)
		}
	}
}

// The other side of it: a rollback while half of stable is gone leaves next what stable cannot carry, until it can.
func TestScar_argo_3888(t *testing.T) {
	m, wrong := crashed(t, course{strategy: StrategyRolling, mix: 0, wish: 10})
	want := []string{"split 50 %", "start v1/web/0", "split 0 %", "drain v2/web/0", "stop v2/web/0", "split 0 %"}
	if back := slices.Index(m.notes, "stop v1/web/0"); wrong != nil || back < 0 || !slices.Equal(slices.Compact(m.notes[back+1:]), want) {
		t.Errorf("%v: %q", wrong, m.notes)
	}
}

// The old side was stopped before the data plane had moved: stable leaves after the acknowledgement, and stops after its drain.
func TestScar_argo_4834(t *testing.T) {
	each(t, course{drains: span{0, 3600}}, func(t *testing.T, m *machine) {
		for _, inst := range []string{"v1/web/0", "v1/web/1"} {
			drained, stopped := slices.Index(m.notes, "drain "+inst), slices.Index(m.notes, "stop "+inst)
			moved := slices.IndexFunc(m.notes, func(n string) bool { return strings.HasPrefix(n, "split") })
			if moved < 0 || drained < moved || stopped < drained {
				t.Errorf("moved %d, drained %d, stopped %d of %q", moved, drained, stopped, m.notes)
			}
		}
	})
}

// After full promotion a rollback was a slow new rollout: until the last hold ends stable's web is warm and takes its traffic
// at once. A rolling update cannot do that, and says how long it took.
func TestScar_argo_574(t *testing.T) {
	for _, strategy := range strategies {
		t.Run(string(strategy), func(t *testing.T) {
			m, wrong := crashed(t, course{strategy: strategy, mix: 0, wish: lasts(t, strategy) - 12})
			if wrong != nil || m.told == nil || !m.told.Shifted {
				t.Fatalf("%v: %+v", wrong, m.told)
			}
			started := slices.Contains(m.notes, "start v1/web/0") || slices.Contains(m.notes, "start v1/web/1")
			if rolling := strategy == StrategyRolling; started != rolling || m.told.Moved > time.Second != rolling {
				t.Errorf("moved within %s: %q", m.told.Moved, m.notes)
			}
		})
	}
}

// Queue workers had no canary: next has its share of the consumers, at least one, and stable the rest.
func TestScar_argo_438(t *testing.T) {
	for i, mix := range mixes {
		if mix[0] != "web:3 worker:4 clock!" {
			continue
		}
		m, wrong := crashed(t, course{strategy: StrategyCanary, mix: i})
		if wrong != nil {
			t.Fatal(wrong)
		}
		var moves []string
		for _, n := range m.notes {
			if strings.Contains(n, "split") || strings.HasSuffix(n[:len(n)-1], "worker/") && !strings.HasPrefix(n, "drain") {
				moves = append(moves, n)
			}
		}
		want := []string{"start v2/worker/0", "split 5 %", "start v2/worker/1", "split 50 %", "stop v1/worker/0", "stop v1/worker/1",
			"start v2/worker/2", "start v2/worker/3", "split 100 %", "stop v1/worker/2", "stop v1/worker/3"}
		if len(moves) < len(want) || !slices.Equal(sortedStops(moves[:len(want)]), want) {
			t.Errorf("%q", moves)
		}
	}
}

// sortedStops brings what happens at the same time into one order.
func sortedStops(notes []string) []string {
	for i := 1; i < len(notes); i++ {
		for j := i; j > 0 && strings.HasPrefix(notes[j], "stop") && strings.HasPrefix(notes[j-1], "stop") && notes[j] < notes[j-1]; j-- {
			notes[j], notes[j-1] = notes[j-1], notes[j]
		}
	}
	return notes
}

// And nothing took them back: in a rollback next's consumers stop before those of stable start, and all of stable's come back.
func TestScar_argo_1707(t *testing.T) {
	for _, strategy := range strategies {
		m, wrong := crashed(t, course{strategy: strategy, mix: allRoles, wish: lasts(t, strategy) - 12})
		lastStop, firstStart, back := -1, len(m.notes), 0
		for i, n := range m.notes {
			consumer := strings.Contains(n, "worker") || strings.Contains(n, "clock")
			switch {
			case consumer && strings.HasPrefix(n, "stop v2"):
				lastStop = i
			case consumer && strings.HasPrefix(n, "start v1"):
				firstStart, back = min(firstStart, i), back+1
			}
		}
		if wrong != nil || lastStop < 0 || lastStop > firstStart || back != 3 {
			t.Errorf("%s: %v: %d came back: %q", strategy, wrong, back, m.notes)
		}
	}
}

// A revert ran the canary again: a rollback has no bakes and no steps, and neither has the way back after done.
func TestScar_nomad_10882(t *testing.T) {
	f := Fleet{Environment: domain.Production, Stable: roles("web:4 worker:2 clock!"), Next: roles("web:4 worker:2 clock!")}
	full := Observed{Weight: domain.WeightAll, Next: map[Slot]bool{}, Stable: map[Slot]bool{}}
	shifts := 0
	for _, s := range append(Return(f), Rollback(f, full)...) {
		if s.Verb == Bake || s.Verb == Check && s.Traffic {
			t.Errorf("%s", s)
		}
	}
	for _, s := range Return(f) {
		if s.Verb == Shift {
			shifts++
		}
	}
	if shifts != 1 {
		t.Errorf("%d shifts in %s", shifts, printed(Return(f)))
	}
	each(t, course{harm: 30}, func(t *testing.T, m *machine) {
		if took := m.rollout.Ended.Sub(m.lowered); took > 10*time.Second {
			t.Errorf("the rollback took %s", took)
		}
	})
}

// Restarting the tool was an event for the apps: through a restart every five seconds nothing starts or stops that would not
// have without, and the traffic moves the same way.
func TestScar_kamal_1055_ARestartIsNoEventForARollout(t *testing.T) {
	for _, strategy := range strategies {
		c := course{strategy: strategy, mix: allRoles}
		calm, _ := crashed(t, c)
		for range 20 {
			c.crashes = append(c.crashes, crash{at: 5 * time.Second})
		}
		m, wrong := crashed(t, c)
		if wrong != nil || m.lives < 10 {
			t.Fatalf("%s: %v after %d lives", strategy, wrong, m.lives)
		}
		for _, verb := range []string{"start", "stop", "split"} {
			of := func(notes []string) (list []string) {
				for _, n := range notes {
					if strings.HasPrefix(n, verb) && !slices.Contains(list, n) {
						list = append(list, n)
					}
				}
				slices.Sort(list)
				return list
			}
			if !slices.Equal(of(calm.notes), of(m.notes)) {
				t.Errorf("%s:\n%q without,\n%q with %d restarts", strategy, of(calm.notes), of(m.notes), m.lives-1)
			}
		}
	}
}
