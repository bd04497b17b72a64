package rollout

import (
	"errors"
	"fmt"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// judge says what is wrong with the end.
func (m *machine) judge(end error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var back *RolledBack
	serves, leaves := m.stable, m.next
	state := domain.RolloutRolledBack
	switch {
	case m.wrong != nil:
		return m.wrong
	case time.Since(m.began) > time.Hour:
		return fmt.Errorf("it took %s", time.Since(m.began))
	case end == nil, errors.As(end, &back) && back.Left:
		serves, leaves, state = m.next, m.stable, domain.RolloutDone
	case m.rollout.State == domain.RolloutDone && (m.course.stops.long > 0 || m.course.starts.long > 0 || m.course.states.long > 0):
		return nil // next is stable, and what could not be done after that is in the error
	case back == nil:
		return fmt.Errorf("no end: %w: %s", end, m)
	}
	switch {
	case m.rollout.State != state || m.rollout.Ended == nil:
		return fmt.Errorf("the record says %s, not %s (%w)", m.rollout.State, state, errors.Join(end, nil))
	case m.asked.Rollout != "" && m.asked.Weight != 0, m.asked.Next != nil && m.asked.Stable != nil:
		return fmt.Errorf("at the end %+v is left of the rollout", m.asked)
	case serves != nil && (m.asked.Stable == nil || m.asked.Stable.ID != serves.ID):
		return fmt.Errorf("at the end %s does not serve", serves.ID)
	}
	for _, rel := range []*domain.Release{serves, leaves} {
		if rel == nil {
			continue
		}
		for _, w := range rel.Workloads {
			want := w.Instances
			if rel == leaves {
				want = 0
			}
			// What does not start, or dies again while it is started, is its supervisor's: it keeps no rollback open.
			short := rel == serves && back != nil && m.course.starts.long+len(m.course.deaths) > 0
			if got := m.count(rel.ID, w.Role); got > want || got < want && !short {
				return fmt.Errorf("at the end %d of %d %s/%s run (end: %w)", got, want, rel.ID, w.Role, end)
			}
		}
	}
	return m.judgeWill(end == nil)
}

// judgeWill: harm, and what a person wants, takes next back, at once, and the rest does not take long.
func (m *machine) judgeWill(done bool) error {
	if m.stable == nil || m.course.back { // nothing to go back to; no bake
		return nil
	}
	wish := m.began.Add(time.Duration(m.course.wish) * time.Second)
	wished := m.course.wish > 0 && m.watched.Sub(wish) > time.Second
	if done && wished {
		return fmt.Errorf("done, though a person wanted it back %s before the end of the bake", m.watched.Sub(wish))
	}
	if done && m.course.harm > 0 {
		from := m.began.Add(time.Duration(m.course.harm) * time.Second)
		if from.Before(*m.rollout.Shifted) {
			from = *m.rollout.Shifted
		}
		harmed := 0
		for _, second := range m.seconds(from, m.watched) {
			if second.Stable.Errors == 0 {
				harmed++
			}
		}
		if harmed > 12 {
			return fmt.Errorf("done after %d s of harm", harmed)
		}
	}
	c := m.course
	if done || len(c.crashes) > 0 || c.splits.long+c.states.long+c.store.long > 0 {
		return nil
	}
	if took := m.lowered.Sub(wish); c.wish > 0 && took > time.Second {
		return fmt.Errorf("%s passed from a wish to the first step back", took)
	}
	if harm := m.began.Add(time.Duration(c.harm) * time.Second); c.harm > 0 && m.rollout.Shifted != nil && c.blind.long+c.common.long == 0 {
		if harm.Before(*m.rollout.Shifted) {
			harm = *m.rollout.Shifted
		}
		if took := m.lowered.Sub(harm); took > 13*time.Second {
			return fmt.Errorf("%s passed from the first harm to the first step back", took)
		}
	}
	if took := m.rollout.Ended.Sub(m.lowered); c.starts.long+c.stops.long == 0 && took > time.Minute {
		return fmt.Errorf("the rollback took %s", took)
	}
	return nil
}
