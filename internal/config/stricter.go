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
	s.notify()
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

// tell says what a commit changes of what judges it where the last file cannot stand in: it is in force at once, and seen.
func (s *stricter) tell(format string, args ...any) {
	s.say(format+": in force at once", args...)
}

func (s *stricter) tests() {
	last := s.last.Test.Level()
	effective := []**Level{&s.e.Test.Unit, &s.e.Test.Integration, &s.e.Test.E2E}
	for i, l := range s.own.Test.Level() {
		*effective[i] = s.level(l.Name, l.Level, last[i].Level)
	}
	for _, lint := range s.last.Build.Lint {
		if !slices.ContainsFunc(s.own.Build.Lint, func(c Command) bool { return c.Text == lint.Text }) {
			s.tell("build.lint: %s is no longer run", lint.Text)
		}
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
			s.e.Verify.Checks[name] = s.asked(before)
			continue
		}
		s.check(name, now, before)
	}
	for _, name := range slices.Sorted(maps.Keys(s.own.Metrics)) {
		if before := s.last.Metrics[name]; before != nil && before.Query.Text != s.own.Metrics[name].Query.Text {
			s.tell("metrics.%s: %s, was %s", name, s.own.Metrics[name].Query, before.Query)
		}
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
	s.rollout()
}

// rollout holds the delivery to the last strategy and its steps where its own would show next to more people sooner. What
// a strategy shows is compared, not its name: a step is a share of the traffic and the time for which it is watched.
func (s *stricter) rollout() {
	own, last, e := s.own.Rollout, s.last.Rollout, &s.e.Rollout
	soak := max(own.MinSoak, last.MinSoak) // loosened or not, this much holds
	shown, before := shownSteps(s.own, soak), shownSteps(s.last, soak)
	kept := s.own.Monitor.Holdback >= s.last.Monitor.Holdback
	switch looser := looserSteps(shown, before, soak.D()); {
	case own.Strategy != last.Strategy && (looser || !kept && own.Strategy == Rolling):
		s.say("rollout.strategy: %s, was %s: %s", own.Strategy, last.Strategy, watchedLess(shown, before))
		e.Strategy, e.Steps, e.Split, e.Sticky = last.Strategy, last.Steps, last.Split, last.Sticky
	case looser && own.Strategy == Canary:
		s.say("rollout.steps: %s, was %s", own.Steps, last.Steps)
		e.Steps = last.Steps
	}
	switch {
	case e.Strategy == Rolling:
		s.e.Monitor.Holdback = 0
	case !kept:
		s.say("monitor.holdback: %s, was %s", s.own.Monitor.Holdback, s.last.Monitor.Holdback)
		s.e.Monitor.Holdback = s.last.Monitor.Holdback
	}
}

// shownSteps are the shares of the traffic that next has before it has all of it, and for how long.
func shownSteps(f *File, soak Duration) []Step {
	switch f.Rollout.Strategy {
	case Canary:
		return f.Rollout.Steps
	case Rolling:
		rounds := 1
		for _, r := range f.Roles {
			rounds = max(rounds, int(r.Instances.Production))
		}
		steps := make([]Step, 0, rounds)
		for i := 1; i < rounds; i++ {
			steps = append(steps, Step{Weight: Percent(float64(i) / float64(rounds)), For: soak.D()})
		}
		return steps
	default: // blue-green: everybody at once
		return nil
	}
}

// watchedLess says what a change of strategy takes away.
func watchedLess(own, last []Step) string {
	total := func(steps []Step) (t time.Duration) {
		for _, s := range steps {
			t += s.For
		}
		return t
	}
	if a, b := total(own), total(last); a < b {
		return fmt.Sprintf("all traffic is on next after %s instead of %s", formatDuration(a), formatDuration(b))
	}
	if len(own) > 0 && len(last) > 0 && own[0].Weight > last[0].Weight {
		return fmt.Sprintf("it begins with %s instead of %s", own[0].Weight, last[0].Weight)
	}
	return "less of it is watched beside stable"
}

// looserSteps reports whether some weight is passed earlier than by the last steps: at the latest, or at the earliest,
// which for a step that may be proved is after the soak.
func looserSteps(own, last []Step, soak time.Duration) bool {
	if len(last) == 0 {
		return false
	}
	if len(own) == 0 {
		return true
	}
	latest := func(s Step) time.Duration { return s.For }
	earliest := func(s Step) time.Duration {
		if s.Proved {
			return min(soak, s.For)
		}
		return s.For
	}
	for _, long := range []func(Step) time.Duration{latest, earliest} {
		watched := func(steps []Step, w Percent) (total time.Duration) {
			for _, s := range steps {
				if s.Weight <= w {
					total += long(s)
				}
			}
			return total
		}
		for _, s := range slices.Concat(own, last) {
			if watched(own, s.Weight) < watched(last, s.Weight) {
				return true
			}
		}
	}
	return false
}

// LooserGates says what of the last file's window and approvals a delivery would get around that is held to own.
func LooserGates(own, last *File) []string {
	e := *own
	s := stricter{own: own, last: last, e: &e}
	s.gates()
	return s.loosened
}

func (s *stricter) gates() {
	own, last := s.own.Gates, s.last.Gates
	if !last.Window.Zero() && !own.Window.Within(last.Window) {
		if own.Window.Zero() {
			s.say("gates.window: it is removed, was %s", last.Window)
			s.e.Gates.Window = last.Window
		} else {
			s.say("gates.window: %s, was %s: both hold", own.Window, last.Window)
			s.e.Gates.Window = own.Window.With(last.Window)
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
	if len(a.From) == 0 && len(last.Approvals.From) > 0 {
		s.say("gates.approvals.from: nobody is named, was %s", last.Approvals.From)
		a.From = last.Approvals.From
	}
	if a.Need < last.Approvals.Need {
		s.say("gates.approvals.need: %d, was %d", a.Need, last.Approvals.Need)
		a.Need = last.Approvals.Need
	}
	for _, who := range own.Approvals.From {
		if !slices.Contains(last.Approvals.From, who) {
			s.say("gates.approvals.from: %s is new", who)
			a.From = last.Approvals.From
		}
	}
	if len(a.From) > 1 && int(a.Need) > len(a.From) || len(a.From) == 1 && len(last.Approvals.From) > 1 && a.Need > 1 {
		a.From = last.Approvals.From // what stays of both must be possible
	}
	if int(a.Need) > len(a.From) && len(a.From) > 1 {
		a.Need = last.Approvals.Need
	}
	keep(s, "gates.approvals.expire", own.Approvals.Expire, last.Approvals.Expire, &a.Expire)
	s.e.Gates.Approvals = &a
}
