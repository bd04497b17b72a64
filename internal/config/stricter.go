package config

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Stricter returns the file that a delivery is held to: its own, with everything that judges it replaced by that of the
// last release that is done wherever that is stricter. loosened says, as sentences, what the delivery's own file would
// loosen; it counts from the next delivery on. Without a last file own is returned as it is.
func Stricter(own, last *File) (effective *File, loosened []string) {
	if last == nil {
		return own, nil
	}
	e := *own
	s := stricter{own: own, last: last, e: &e}
	s.tests()
	s.verify()
	s.checks()
	s.guard()
	s.times()
	s.gates()
	for _, id := range slices.Sorted(maps.Keys(own.Parity)) {
		if _, ok := last.Parity[id]; !ok {
			s.say("parity.%s: a difference is newly accepted: %s", id, own.Parity[id])
		}
	}
	return s.e, s.loosened
}

type stricter struct {
	own, last, e *File
	loosened     []string
}

func (s *stricter) say(format string, args ...any) {
	s.loosened = append(s.loosened, fmt.Sprintf(format, args...))
}

// keep compares a number of which the smaller is stricter.
func keep[T interface {
	~int | ~int64 | ~float64
	fmt.Stringer
}](s *stricter, path string, own, last T, effective *T) {
	if own > last {
		s.say("%s: %s, was %s", path, own, last)
		*effective = last
	}
}

// keepLonger compares a duration of which the longer is stricter.
func keepLonger(s *stricter, path string, own, last Duration, effective *Duration) {
	if own < last {
		s.say("%s: %s, was %s", path, own, last)
		*effective = last
	}
}

func (s *stricter) tests() {
	lastLevels, levels := s.last.Test.Level(), s.own.Test.Level()
	effective := []**Level{&s.e.Test.Unit, &s.e.Test.Integration, &s.e.Test.E2E}
	for i, l := range levels {
		before := lastLevels[i].Level
		if before == nil || before.Run.Zero() || l.Level == nil || !l.Level.Run.Zero() {
			continue
		}
		s.say("test.%s: it became none: %s", l.Name, l.Level.None)
		*effective[i] = before
	}
}

func (s *stricter) verify() {
	keep(s, "verify.error_rate", s.own.Verify.ErrorRate, s.last.Verify.ErrorRate, &s.e.Verify.ErrorRate)
	keep(s, "verify.latency", s.own.Verify.Latency, s.last.Verify.Latency, &s.e.Verify.Latency)
}

func (s *stricter) checks() {
	s.e.Verify.Checks = maps.Clone(s.own.Verify.Checks)
	if s.e.Verify.Checks == nil {
		s.e.Verify.Checks = map[string]*CheckSpec{}
	}
	for _, name := range slices.Sorted(maps.Keys(s.last.Verify.Checks)) {
		before, now := s.last.Verify.Checks[name], s.own.Verify.Checks[name]
		if now == nil {
			s.say("verify.checks.%s: it is removed", name)
			s.e.Verify.Checks[name] = before
			continue
		}
		c := *now
		if before.Only == "" && now.Only != "" || before.Only != "" && now.Only != "" && before.Only != now.Only {
			s.say("verify.checks.%s: it runs in %s only", name, now.Only)
			c.Only = before.Only
		}
		if bool(before.Critical) && !bool(now.Critical) {
			s.say("verify.checks.%s: it is no longer critical", name)
			c.Critical = Flag(now.HTTP != "" && now.Method.reads())
		}
		if before.Within > 0 && (now.Within == 0 || now.Within > before.Within) && now.HTTP != "" {
			s.say("verify.checks.%s: it may take longer than %s", name, before.Within)
			c.Within = before.Within
		}
		s.e.Verify.Checks[name] = &c
	}
}

func (s *stricter) guard() {
	own, last, e := s.own.Guard, s.last.Guard, &s.e.Guard
	if own.ErrorRate.Rate > last.ErrorRate.Rate || own.ErrorRate.For > last.ErrorRate.For {
		s.say("guard.error_rate: %s, was %s", own.ErrorRate, last.ErrorRate)
		e.ErrorRate = Limit{min(own.ErrorRate.Rate, last.ErrorRate.Rate), min(own.ErrorRate.For, last.ErrorRate.For)}
	}
	keep(s, "guard.latency", own.Latency, last.Latency, &e.Latency)
	keep(s, "guard.margin", own.Margin, last.Margin, &e.Margin)
	keep(s, "guard.error_floor", own.ErrorFloor, last.ErrorFloor, &e.ErrorFloor)
	if own.FailedProbes > last.FailedProbes {
		s.say("guard.failed_probes: %d, was %d", own.FailedProbes, last.FailedProbes)
		e.FailedProbes = last.FailedProbes
	}
	if own.FalseRollbacks < last.FalseRollbacks {
		s.say("guard.false_rollbacks: %s, was %s: harm is found later", own.FalseRollbacks, last.FalseRollbacks)
		e.FalseRollbacks = last.FalseRollbacks
	}
	if rank := func(u Undecided) int { return slices.Index([]string{"wait", "ask", "ladder", "promote"}, string(u)) }; rank(own.Undecided) > rank(last.Undecided) {
		s.say("guard.undecided: %s, was %s", own.Undecided, last.Undecided)
		e.Undecided = last.Undecided
	}
	e.Endpoints = slices.Clone(own.Endpoints)
	for _, endpoint := range last.Endpoints {
		if !slices.Contains(own.Endpoints, endpoint) {
			s.say("guard.endpoints: %s is no longer judged on its own", endpoint)
			e.Endpoints = append(e.Endpoints, endpoint)
		}
	}
	e.Segments = maps.Clone(own.Segments)
	for _, name := range slices.Sorted(maps.Keys(last.Segments)) {
		if own.Segments[name] == nil {
			s.say("guard.segments.%s: it is removed", name)
			if e.Segments == nil {
				e.Segments = map[string]*Visitors{}
			}
			e.Segments[name] = last.Segments[name]
		}
	}
}

// times holds the delivery to the longer watch.
func (s *stricter) times() {
	keepLonger(s, "monitor.for", s.own.Monitor.For, s.last.Monitor.For, &s.e.Monitor.For)
	keepLonger(s, "rollout.staging_hold", s.own.Rollout.StagingHold, s.last.Rollout.StagingHold, &s.e.Rollout.StagingHold)
	keepLonger(s, "rollout.min_soak", s.own.Rollout.MinSoak, s.last.Rollout.MinSoak, &s.e.Rollout.MinSoak)
	if own, last := s.own.Monitor.Holdback, s.last.Monitor.Holdback; own < last && s.own.Rollout.Strategy == s.last.Rollout.Strategy {
		s.say("monitor.holdback: %s, was %s", own, last)
		s.e.Monitor.Holdback = last
	}
	if s.own.Rollout.Strategy != Canary || s.last.Rollout.Strategy != Canary || slices.Equal(s.own.Rollout.Steps, s.last.Rollout.Steps) {
		return
	}
	if own, last := s.own.Rollout.Steps, s.last.Rollout.Steps; len(last) > 0 && looserSteps(own, last) {
		s.say("rollout.steps: %s, was %s", own, last)
		s.e.Rollout.Steps = last
	}
}

// looserSteps reports whether some weight is reached earlier, or with less proof, than by the last steps.
func looserSteps(own, last []Step) bool {
	if len(own) == 0 {
		return true
	}
	// Time under watch before a weight is exceeded.
	watched := func(steps []Step, w Percent) (total time.Duration) {
		for _, s := range steps {
			if s.Weight <= w && !s.Proved {
				total += s.For
			}
		}
		return total
	}
	for _, steps := range [][]Step{own, last} {
		for _, s := range steps {
			if watched(own, s.Weight) < watched(last, s.Weight) {
				return true
			}
		}
	}
	return own[0].Weight > last[0].Weight
}

func (s *stricter) gates() {
	own, last := s.own.Gates, s.last.Gates
	if !last.Window.Zero() && own.Window.String() != last.Window.String() {
		if own.Window.Zero() {
			s.say("gates.window: it is removed, was %s", last.Window)
			s.e.Gates.Window = last.Window
		} else {
			s.say("gates.window: %s, was %s: both hold", own.Window, last.Window)
			s.e.Gates.Window.and = &last.Window
		}
	}
	if last.Approvals == nil {
		return
	}
	if own.Approvals == nil {
		s.say("gates.approvals: they are removed, were %d of %s", last.Approvals.Need, last.Approvals.From)
		s.e.Gates.Approvals = last.Approvals
		return
	}
	a := *own.Approvals
	if a.Need < last.Approvals.Need {
		s.say("gates.approvals.need: %d, was %d", a.Need, last.Approvals.Need)
		a.Need = last.Approvals.Need
	}
	for _, who := range own.Approvals.From {
		if !slices.Contains(last.Approvals.From, who) {
			s.say("gates.approvals.from: %s is new", who)
			a.From, a.Need = last.Approvals.From, max(a.Need, last.Approvals.Need)
		}
	}
	keep(s, "gates.approvals.expire", own.Approvals.Expire, last.Approvals.Expire, &a.Expire)
	s.e.Gates.Approvals = &a
}
