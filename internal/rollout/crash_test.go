package rollout

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// TestCrashEverywhere kills the process after every single effect of a rollout, of every strategy and with every kind of
// role, while it goes well, under harm early, in between and late, with a failing start, a red check and a person's wish,
// softly and with the last write lost: the end is the same as without the crash.
func TestCrashEverywhere(t *testing.T) {
	for _, strategy := range []Strategy{StrategyBlueGreen, StrategyCanary, StrategyRolling} {
		for _, mix := range []int{allRoles, consumersOnly} {
			c := course{strategy: strategy, mix: mix, holdback: mix == allRoles}
			good, _ := crashed(t, c)
			took := int(good.rollout.Ended.Sub(good.began).Seconds())
			for name, trouble := range map[string]func(*course){
				"good":         func(*course) {},
				"harm early":   func(c *course) { c.harm = 6 },
				"harm late":    func(c *course) { c.harm = took - 25 },
				"start fails":  func(c *course) { c.starts = failing{span: span{0, 3600}, release: "v2"} },
				"check is red": func(c *course) { c.red = "under traffic" },
				"wish":         func(c *course) { c.wish = took / 2 },
			} {
				t.Run(fmt.Sprintf("%s/%s/%s", strategy, mixes[mix][0]+" to "+mixes[mix][1], name), func(t *testing.T) {
					c := c
					trouble(&c)
					everyCrash(t, c, name == "good")
				})
			}
		}
	}
}

// everyCrash plays a course without a crash, and with one after each of its effects.
func everyCrash(t *testing.T, c course, good bool) {
	calm, wrong := crashed(t, c)
	if wrong != nil || (calm.rollout.State == domain.RolloutDone) != good {
		t.Fatalf("without a crash: %v: %s", wrong, calm)
	}
	for _, hard := range []bool{false, true} {
		for after, lives := 1, 2; lives == 2; after++ {
			c.crashes = []crash{{after: after, down: 3, hard: hard}}
			m, wrong := crashed(t, c)
			if wrong != nil || m.rollout.State != calm.rollout.State {
				t.Errorf("crash after effect %d, hard %t: %v: %s", after, hard, wrong, m)
			}
			if m.pages > 0 {
				t.Errorf("crash after effect %d, hard %t: paged %d times", after, hard, m.pages)
			}
			lives = m.lives
		}
	}
}

func crashed(t *testing.T, c course) (m *machine, wrong error) {
	synctest.Test(t, func(t *testing.T) {
		m = newMachine(c)
		wrong = m.judge(m.play(t))
	})
	return m, wrong
}

// TestCrashInFirstDelivery: with nothing to go back to, a crash changes nothing either.
func TestCrashInFirstDelivery(t *testing.T) {
	for _, mix := range []int{allRoles} {
		for _, harm := range []int{0, 20} {
			c := course{strategy: StrategyCanary, mix: mix, first: true, harm: harm}
			everyCrash(t, c, true)
		}
	}
}

// TestCrashOnTheWayBack: a way back after done has no bake, and ends where it should.
func TestCrashOnTheWayBack(t *testing.T) {
	for _, mix := range []int{allRoles, 11} {
		everyCrash(t, course{strategy: StrategyBlueGreen, mix: mix, back: true}, true)
		everyCrash(t, course{strategy: StrategyBlueGreen, mix: mix, back: true, starts: failing{span: span{0, 3600}, release: "v2"}}, false)
	}
}

// TestBakeSpansRestart: a restart neither prolongs nor shortens a bake.
func TestBakeSpansRestart(t *testing.T) {
	for _, strategy := range []Strategy{StrategyBlueGreen, StrategyCanary, StrategyRolling} {
		synctest.Test(t, func(t *testing.T) {
			whole := newMachine(course{strategy: strategy})
			if wrong := whole.judge(whole.play(t)); wrong != nil {
				t.Fatal(wrong)
			}
			first := 0
			for i, s := range whole.plan {
				if s.Verb == Bake && first == 0 {
					first = i
				}
			}
			cut := newMachine(course{strategy: strategy, crashes: []crash{{at: 10 * time.Second, down: 5}}})
			if wrong := cut.judge(cut.play(t)); wrong != nil || cut.lives != 2 {
				t.Fatal(wrong, cut.lives)
			}
			if a, b := whole.rollout.Ended.Sub(whole.began), cut.rollout.Ended.Sub(cut.began); b-a >= 2*time.Second || a-b >= 2*time.Second {
				t.Errorf("%s: %s without a restart, %s with one", strategy, a, b)
			}
		})
	}
}
