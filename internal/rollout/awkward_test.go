package rollout

import (
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

const threeOfAll = 14 // the mix with three web instances, four workers and a singleton

// TestAwkwardMoments plays courses that chance seldom finds. The machine judges each effect; what has to come out is said here.
func TestAwkwardMoments(t *testing.T) {
	end := lasts(t, StrategyRolling)
	for name, c := range map[string]course{
		"the weight is not known while half of stable is gone": {strategy: StrategyCanary, wish: 12, states: span{10, 20},
			deaths: []death{{at: 11, of: instanceID("v1", "web", 0)}}},
		"the record fails through a whole rollback, and a restart":    {strategy: StrategyBlueGreen, harm: 10, store: span{18, 30}, crashes: []crash{{at: 25 * time.Second}}},
		"harm while the gate is shut":                                 {strategy: StrategyCanary, gate: span{22, 100}, harm: 30},
		"an instance of next is gone before the end":                  {strategy: StrategyRolling, deaths: []death{{at: 20, of: instanceID("v2", "web", 0), gone: true}}},
		"stable would lose one more than its share allows":            {strategy: StrategyRolling, deaths: []death{{at: 1, of: instanceID("v1", "web", 1)}}},
		"a consumer of next is gone before the end":                   {strategy: StrategyBlueGreen, mix: allRoles, deaths: []death{{at: 30, of: instanceID("v2", "worker", 0), gone: true}}},
		"next dies while stable is half gone":                         {strategy: StrategyRolling, harm: end - 20, starts: failing{span: span{end - 25, 60}, release: "v1"}},
		"the data plane hangs at the end, and somebody wants it back": {strategy: StrategyBlueGreen, wish: 20, splits: span{19, 120}, states: span{19, 120}},
	} {
		t.Run(name, func(t *testing.T) {
			if m, wrong := crashed(t, c); wrong != nil || m.rollout.State != domain.RolloutRolledBack {
				t.Errorf("%v: %s", wrong, m)
			}
		})
	}
}

// TestStableDiesWhileItComesBack: each instance of stable in turn dies again at each second of the rollback of a rolling update.
func TestStableDiesWhileItComesBack(t *testing.T) {
	calm, _ := crashed(t, course{strategy: StrategyRolling, mix: threeOfAll})
	wish := int(calm.watched.Sub(calm.began)/time.Second) - 15
	for index := range 3 {
		for at := wish; at < wish+6; at++ {
			c := course{strategy: StrategyRolling, mix: threeOfAll, wish: wish, deaths: []death{{at: at, of: instanceID("v1", "web", index)}}}
			if m, wrong := crashed(t, c); wrong != nil || m.rollout.State != domain.RolloutRolledBack {
				t.Errorf("web/%d at %d: %v: %s", index, at-wish, wrong, m)
			}
		}
	}
}

// TestWishWhileTheEndIsWritten: the process dies around the point of no return, and while it is away somebody wants it back:
// next stays stable or stable has everything, whichever was reached, and nobody is sent where nothing runs.
func TestWishWhileTheEndIsWritten(t *testing.T) {
	for _, strategy := range strategies {
		calm, _ := crashed(t, course{strategy: strategy, holdback: true})
		wish := int(calm.watched.Sub(calm.began)/time.Second) + 2
		for _, hard := range []bool{false, true} {
			for after, lives := 15, 2; lives == 2; after++ {
				m, wrong := crashed(t, course{strategy: strategy, holdback: true, wish: wish, crashes: []crash{{after: after, down: 4, hard: hard}}})
				if wrong != nil {
					t.Errorf("%s, effect %d, hard %t: %v: %s", strategy, after, hard, wrong, m)
				}
				lives = m.lives
			}
		}
	}
}

// TestNextIsGoneWhileTheEndIsWritten: the same, and an instance of next is gone when the process is back.
func TestNextIsGoneWhileTheEndIsWritten(t *testing.T) {
	calm, _ := crashed(t, course{strategy: StrategyRolling})
	lost := []death{{at: int(calm.watched.Sub(calm.began)/time.Second) + 2, of: instanceID("v2", "web", 0), gone: true}}
	for after, lives := 15, 2; lives == 2; after++ {
		m, _ := crashed(t, course{strategy: StrategyRolling, deaths: lost, crashes: []crash{{after: after, down: 4, hard: true}}})
		if m.wrong != nil {
			t.Errorf("effect %d: %v: %s", after, m.wrong, m)
		}
		lives = m.lives
	}
}
