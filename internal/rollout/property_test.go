package rollout

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/journal"
)

// storm is a world in which anything happens at any second, guarded by the real guard over what was really observed.
type storm struct {
	*world
	blind  map[int]bool // seconds, from the beginning, that were not measured
	began  time.Time
	harm   time.Time // from then on every second request to next fails
	lowest int       // weight of the rollout since it was latched
	latch  bool
	raised error
}

var stormLimits = guard.Limits{ErrorRate: 0.05, ErrorFor: 10 * time.Second, Latency: 2, LatencyFor: 10 * time.Second, LatencyLeast: 100,
	FailedProbes: 2, CrashLoop: 3, Silence: 30 * time.Second}

// Split checks at each move that a side whose share grows has the healthy instances for it, and that a latch holds.
func (s *storm) Split(ctx context.Context, sp Split) error {
	s.mu.Lock()
	if s.dead {
		s.mu.Unlock()
		return errGone
	}
	carry := func(release string) int { return domain.WeightAll / 2 * len(s.running[release]) }
	before := s.traffic.Weight
	if sp.Rollout == "" && sp.Stable.ID == "v2" {
		before, sp.Weight = domain.WeightAll-before, 0
	}
	switch {
	case s.latch && sp.Rollout != "" && sp.Weight > s.lowest:
		s.raised = fmt.Errorf("raised to %s after a rollback", Percent(sp.Weight))
	case sp.Weight > before && carry("v2") < sp.Weight:
		s.raised = fmt.Errorf("next gets %s with %d of 2 instances", Percent(sp.Weight), len(s.running["v2"]))
	case sp.Weight < before && sp.Rollout != "" && carry("v1") < domain.WeightAll-sp.Weight:
		s.raised = fmt.Errorf("stable gets %s with %d of 2 instances", Percent(domain.WeightAll-sp.Weight), len(s.running["v1"]))
	}
	if sp.Latched {
		s.latch, s.lowest = true, sp.Weight
	}
	s.traffic = Traffic{Rollout: sp.Rollout, Weight: sp.Weight, Latched: sp.Latched}
	s.stable, s.next = sp.Stable.ID, ""
	if sp.Next != nil {
		s.next = sp.Next.ID
	}
	s.mu.Unlock()
	return s.op(ctx)
}

// errGone is what a dead process would have got for an answer; nothing that it does has an effect any more.
var errGone = errors.New("the process is dead")

func (s *storm) op(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops++
	if s.ops == s.crashAt {
		s.dead = s.hard
		s.kill(journal.ErrSuspended)
	}
	if s.dead {
		return errGone
	}
	return ctx.Err()
}

func (s *storm) gone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

func (s *storm) up(release string, index int) (up bool, all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[release][Slot{"web", index}], len(s.running[release])
}

func (s *storm) Start(ctx context.Context, i domain.Instance) (domain.InstanceStatus, error) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return domain.InstanceStatus{}, context.Cause(ctx)
	}
	if s.gone() {
		return domain.InstanceStatus{}, errGone
	}
	s.set(i.InstanceID, true)
	return domain.InstanceStatus{InstanceID: i.InstanceID, State: domain.Healthy}, s.op(ctx)
}

func (s *storm) Stop(ctx context.Context, i domain.InstanceID) error {
	if s.gone() {
		return errGone
	}
	s.set(i, false)
	return s.op(ctx)
}

func (s *storm) Check(ctx context.Context, _ *Rollout, _ bool) error { return s.op(ctx) }

func (s *storm) Settle(ctx context.Context, r domain.RolloutRecord) error {
	s.mu.Lock()
	if !s.dead {
		s.rollout, s.settled = r, true
	}
	s.mu.Unlock()
	return s.op(ctx)
}

func (s *storm) Watch(ctx context.Context, r *Rollout, w Watch) (Finding, error) {
	_, err := guard.Watcher{Limits: stormLimits, Samples: stormSamples{s, r}}.Watch(ctx, w.From, w.Hold)
	return Finding{}, err
}

type stormSamples struct {
	s *storm
	r *Rollout
}

func (s stormSamples) seconds(from, to time.Time) (list []guard.Second) {
	for i := max(0, int(from.Sub(s.s.began)/time.Second)); ; i++ {
		at := s.s.began.Add(time.Duration(i) * time.Second)
		if at.After(to) {
			return list
		}
		if at.After(from) && !s.s.blind[i] {
			side := guard.Side{Requests: 50}
			if !s.s.harm.IsZero() && at.After(s.s.harm) {
				side.Errors = 25
			}
			list = append(list, guard.Second{At: at, Next: side})
		}
	}
}

func (s stormSamples) History(_ context.Context, now time.Time, window time.Duration) (guard.History, error) {
	h := guard.History{Now: now, Since: *s.r.Record.Shifted, Started: s.s.began, Last: *s.r.Record.Shifted}
	from := now.Add(-window)
	if from.Before(h.Since) {
		from = h.Since
	}
	h.Seconds = s.seconds(from, now)
	if n := len(h.Seconds); n > 0 {
		h.Last = h.Seconds[n-1].At
	}
	for i := range 2 {
		inst := guard.Instance{Name: fmt.Sprintf("web/%d", i)}
		if up, _ := s.s.up("v2", i); !up {
			inst.Failed, inst.Message = 2, "refused"
		}
		h.Next = append(h.Next, inst)
	}
	return h, nil
}

func (s stormSamples) Totals(context.Context, time.Time) (stable, next guard.Side, err error) {
	return stable, next, nil
}

func (s stormSamples) Observed(_ context.Context, from time.Time) (int, error) {
	return len(s.seconds(from, time.Now())), nil
}

// course is what happens, and when: at a second from the beginning.
type course struct {
	harm, interrupt int // 0: never
	crashes         []int
	hard            []bool
	deaths          []death
	blind           [2]int // from, for
}

type death struct {
	at      int
	release string
	index   int
}

const stormHold = 60 * time.Second

func courses(t *rapid.T) course {
	var c course
	if rapid.Bool().Draw(t, "bad") {
		c.harm = rapid.IntRange(1, 90).Draw(t, "harm")
	}
	if rapid.IntRange(0, 3).Draw(t, "wish") == 0 {
		c.interrupt = rapid.IntRange(1, 80).Draw(t, "interrupt")
	}
	for range rapid.IntRange(0, 3).Draw(t, "crashes") {
		c.crashes = append(c.crashes, rapid.IntRange(1, 12).Draw(t, "after effects"))
		c.hard = append(c.hard, rapid.Bool().Draw(t, "hard"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "deaths") {
		c.deaths = append(c.deaths, death{rapid.IntRange(1, 80).Draw(t, "at"), rapid.SampledFrom([]string{"v1", "v2"}).Draw(t, "of"), rapid.IntRange(0, 1).Draw(t, "index")})
	}
	c.blind = [2]int{rapid.IntRange(0, 80).Draw(t, "blind from"), rapid.SampledFrom([]int{0, 0, 2, 20, 100}).Draw(t, "blind for")}
	return c
}

func (c course) play(t *testing.T) (s *storm, end error) {
	s = &storm{world: newWorld(t, false), blind: map[int]bool{}, began: time.Now()}
	for i := range c.blind[1] {
		s.blind[c.blind[0]+i] = true
	}
	if c.harm > 0 {
		s.harm = s.began.Add(time.Duration(c.harm) * time.Second)
	}
	for _, d := range c.deaths {
		time.AfterFunc(time.Duration(d.at)*time.Second+time.Millisecond, func() {
			if _, all := s.up(d.release, 0); all == 2 { // the supervisor brings one back; both at once are a test of their own
				s.set(domain.InstanceID{Release: d.release, Role: "web", Index: d.index}, false)
			}
		})
	}
	wish := make(chan struct{})
	if c.interrupt > 0 {
		time.AfterFunc(time.Duration(c.interrupt)*time.Second+2*time.Millisecond, func() { close(wish) })
	}
	for life := range 5 {
		s.ops, s.crashAt, s.dead = 0, 0, false
		if life < len(c.crashes) {
			s.crashAt, s.hard = c.crashes[life], c.hard[life]
		}
		if end = s.life(t, wish); !s.dead && !errors.Is(end, journal.ErrSuspended) {
			return s, end
		}
		time.Sleep(3 * time.Second)
	}
	return s, end
}

func (s *storm) life(t *testing.T, wish <-chan struct{}) error {
	ctx, kill := context.WithCancelCause(t.Context())
	s.kill = kill
	defer kill(nil)
	e := &Engine{Driver: s, Router: s, Guard: s, Gate: s, Checker: s, Ledger: s, Journal: s, Observer: s,
		Limits: Limits{Step: 10 * time.Minute, Rollback: time.Minute, PageEvery: 5 * time.Minute, RollbackDrain: 5 * time.Second}}
	r := &Rollout{Record: s.rollout, Stable: release("v1"), Next: *release("v2")}
	r.Plan = BlueGreen(r.Fleet(), Settings{Hold: stormHold})
	over := make(chan struct{})
	defer func() { <-over }()
	ended, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		defer close(over)
		select {
		case <-wish:
			r.Interrupt(errors.New("ana wants it back"))
		case <-ended.Done():
		}
	}()
	for _, stage := range productionStages {
		if err := e.Advance(ctx, r, stage); err != nil {
			return err
		}
	}
	return nil
}

// TestStorm: whatever happens in whatever order, traffic goes only where the healthy instances for it are, a rollback ends at
// 0 % and stays there, and no bake ends that was not seen.
func TestStorm(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := courses(rt)
		var failure error
		synctest.Test(t, func(t *testing.T) {
			s, end := c.play(t)
			failure = s.judge(c, end)
		})
		if failure != nil {
			rt.Fatalf("%+v: %v", c, failure)
		}
	})
}

func (s *storm) judge(c course, end error) error {
	var back *RolledBack
	switch {
	case s.raised != nil:
		return s.raised
	case end == nil:
		if s.stable != "v2" || s.traffic.Weight != 0 || s.rollout.State != domain.RolloutDone || len(s.running["v1"]) != 0 {
			return fmt.Errorf("done: %s", s.disk)
		}
		seen := len(stormSamples{s, nil}.seconds(*s.rollout.Shifted, *s.rollout.Ended))
		if float64(seen) < 0.95*stormHold.Seconds() {
			return fmt.Errorf("done after %d of %s", seen, stormHold)
		}
		if s.harm.IsZero() || s.harm.Before(*s.rollout.Shifted) {
			return nil
		}
		if harmed := len(stormSamples{s, nil}.seconds(s.harm, *s.rollout.Ended)); harmed > 12 {
			return fmt.Errorf("done after %d s of harm", harmed)
		}
	case errors.As(end, &back):
		if s.stable != "v1" || s.traffic.Weight != 0 || s.rollout.State != domain.RolloutRolledBack || len(s.running["v2"]) != 0 {
			return fmt.Errorf("rolled back: %w %s", end, s.disk)
		}
	default:
		return fmt.Errorf("no end: %w %s", end, s.disk)
	}
	return nil
}
