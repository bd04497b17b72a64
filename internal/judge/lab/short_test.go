package lab

import "testing"

// unraced leaves out under the race detector what only plays many rollouts.
func unraced(t *testing.T) {
	t.Helper()
	if raced {
		t.Skip("thousands of rollouts, and nothing that races")
	}
}

// The long benchmark in small, with fixed seeds.

func TestNoWorldBlamesMoreOftenThanPromised(t *testing.T) {
	unraced(t)
	for i, w := range errorWorlds() {
		got := trial{world: w, config: bare(), runs: 40, ticks: 600, seed: uint64(i + 1), whole: true}.run()
		for j, a := range alphas {
			if upperTail(got.whole[j], got.runs, a) < 1e-4 {
				t.Errorf("%s: %d of %d blamed, the bound is %g", w.Name, got.whole[j], got.runs, a)
			}
		}
	}
	for i, w := range latencyWorlds() {
		got := trial{world: w, config: bare(), runs: 10, ticks: 600, seed: uint64(i + 1)}.run()
		for j, a := range alphas {
			if upperTail(got.crossed[j], got.runs, a) < 1e-4 {
				t.Errorf("%s, latency: %d of %d blamed, the bound is %g", w.Name, got.crossed[j], got.runs, a)
			}
		}
	}
}

func TestWrongModesAreCaught(t *testing.T) {
	unraced(t)
	for _, m := range wrongModes(40) {
		m.wrong.ticks, m.right.ticks = 900, 900
		wrong, right := m.wrong.run(), m.right.run()
		if upperTail(wrong.crossed[1], wrong.runs, alphas[1]) > 0.01 {
			t.Errorf("%s: only %d of %d blamed: the simulation does not bite", m.name, wrong.crossed[1], wrong.runs)
		}
		if upperTail(right.crossed[1], right.runs, alphas[1]) < 1e-4 {
			t.Errorf("%s, done right: %d of %d blamed", m.name, right.crossed[1], right.runs)
		}
	}
}

func TestHarmIsSeenInTime(t *testing.T) {
	unraced(t)
	for i, g := range errorGoals[1:] {
		all := racers(g.times, true)
		few := append(all[:1:1], all[len(all)-2:]...)
		g.check(t, race{canary, g.effect, 61, 2400, uint64(i + 1)}.run(few))
	}
	for i, g := range latencyGoals[:1] {
		g.check(t, race{g.world, g.effect, 31, 600, uint64(i + 1)}.run(racers(1, false)[:1]))
	}
}

// A release that is exactly as bad as what is harm is hardly ever called proved.
func TestTheEdgeIsNotProved(t *testing.T) {
	unraced(t)
	for i, one := range edgeReleases() {
		one.runs, one.ticks, one.seed = 30, 600, uint64(i+1)
		got := one.run()
		if upperTail(got.promoted, got.runs, one.config.Beta) < 1e-3 {
			t.Errorf("%s: %d of %d called proved", one.effect.Name, got.promoted, got.runs)
		}
	}
}
