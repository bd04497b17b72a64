package lab

import (
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
)

// limits are the defaults of the fixed triggers.
var limits = guard.Limits{ErrorRate: 0.05, ErrorFor: 3 * time.Minute, Latency: 2, LatencyFor: time.Minute, LatencyLeast: 100,
	FailedProbes: 2, WarmUp: time.Minute, CrashLoop: 3, Silence: 30 * time.Second}

// fixedRules are the guard with its fixed triggers. It is asked every second, for millions of hours: sieve says when there is
// no need to ask.
type fixedRules struct {
	limits  guard.Limits
	history guard.History
	sieve   sieve
}

func newFixedRules(l guard.Limits) *fixedRules {
	h := guard.History{Since: Start, Started: Start.Add(-time.Hour)}
	for _, side := range []*[]guard.Instance{&h.Stable, &h.Next} {
		*side = []guard.Instance{{Name: "web/0", Traffic: true, Started: Start.Add(-time.Hour)}}
	}
	return &fixedRules{limits: l, history: h}
}

func (f *fixedRules) see(t judge.Tick) {
	h := &f.history
	h.Now, h.Last = t.At, t.At
	h.Seconds = append(h.Seconds, Seen(t))
	f.sieve.see(&h.Seconds[len(h.Seconds)-1])
	if window := int(f.limits.ErrorFor / time.Second); len(h.Seconds) > window {
		h.Seconds = h.Seconds[1:]
	}
}

// verdict asks all triggers, the judge's word among them.
func (f *fixedRules) verdict(v *judge.Verdict) guard.Verdict {
	f.history.Evidence = v
	return guard.Judge(f.limits, f.history)
}

func (f *fixedRules) takesBack(t judge.Tick) bool {
	f.see(t)
	return f.sieve.mayFire() && f.verdict(nil).Kind == guard.RollBack
}

// sieve keeps sums from which follows, at little cost, that no fixed trigger can fire: each wants the error rate above the limit
// in every fifth of three minutes, or next's p95 of a minute above twice stable's.
type sieve struct {
	parts map[string]*sums // by name, the sums of that part
	list  []*sums
	ring  [60][2]*measure.Histogram
	width [2][measure.Buckets]int64
	count [2]int64
	now   int
}

// sums are next's requests and errors up to each second.
type sums struct{ requests, errors []int64 }

func (s *sums) add(requests, errors int64) {
	if len(s.requests) == 0 {
		s.requests, s.errors = []int64{0}, []int64{0}
	}
	last := len(s.requests) - 1
	s.requests, s.errors = append(s.requests, s.requests[last]+requests), append(s.errors, s.errors[last]+errors)
}

// lasted says that every fifth of the last 180 seconds that had requests was above the limit.
func (s *sums) lasted(limit float64) bool {
	now := len(s.requests) - 1
	if now < 180 {
		return false
	}
	edges := [...]int{180, 145, 109, 73, 37, 0} // the last fifth has 37 seconds, the first 35
	for i := range 5 {
		from, to := now-edges[i], now-edges[i+1]
		n, k := s.requests[to]-s.requests[from], s.errors[to]-s.errors[from]
		if n > 0 && float64(k) <= limit*float64(n) {
			return false
		}
	}
	return s.errors[now] > s.errors[now-180]
}

func (s *sieve) see(sec *guard.Second) {
	if s.parts == nil {
		s.parts, s.list = map[string]*sums{}, []*sums{{}}
	}
	s.list[0].add(sec.Next.Requests, sec.Next.Errors)
	for _, p := range sec.Next.Parts {
		one := s.parts[p.Name]
		if one == nil {
			one = &sums{}
			for range len(s.list[0].requests) - 2 {
				one.add(0, 0)
			}
			s.parts[p.Name], s.list = one, append(s.list, one)
		}
		one.add(p.Requests, p.Errors)
	}
	for side, h := range []*measure.Histogram{sec.Next.Latency, sec.Stable.Latency} {
		s.slide(side, s.ring[s.now%len(s.ring)][side], -1)
		s.slide(side, h, 1)
		s.ring[s.now%len(s.ring)][side] = h
	}
	s.now++
}

func (s *sieve) slide(side int, h *measure.Histogram, sign int64) {
	for _, p := range h.Pairs() {
		s.width[side][p.Bucket] += sign * p.Count
		s.count[side] += sign * p.Count
	}
}

// p95 is the bucket of the p95 of the last minute.
func (s *sieve) p95(side int) int {
	above := s.count[side] / 20
	for b := measure.Buckets - 1; b >= 0; b-- {
		if above -= s.width[side][b]; above < 0 {
			return b
		}
	}
	return 0
}

// twice is a little less than a factor of 2 in buckets.
const twice = 65

func (s *sieve) mayFire() bool {
	for _, one := range s.list {
		if one.lasted(limits.ErrorRate) {
			return true
		}
	}
	return s.now >= 60 && s.count[0] >= limits.LatencyLeast && s.p95(0) > s.p95(1)+twice
}

// The sieve lets through whatever fires.
func TestTheSieveMissesNothing(t *testing.T) {
	fired := 0
	for i, one := range []struct {
		world  World
		effect Effect
	}{
		{World{Rate: 40, Errors: 0.04, Weight: 5000, Latency: wideLatency}, Effect{Errors: 1.5}},
		{World{Rate: 40, Errors: 0.01, Weight: 5000, Latency: wideLatency}, Effect{Latency: 2.1}},
		{World{Rate: 60, Weight: 2000, Weather: storms, Parts: endpoints}, Effect{Fail: 0.05}},
		{World{Rate: 60, Errors: 0.01, Weight: 2000, Parts: endpoints}, Effect{Fail: 0.3, Share: 0.1, After: 5 * time.Minute}},
	} {
		r := one.world.Begin(one.effect, 5, uint64(i))
		rules := newFixedRules(limits)
		for range 700 {
			rules.see(r.Next())
			if rules.verdict(nil).Kind != guard.RollBack {
				continue
			}
			fired++
			if !rules.sieve.mayFire() {
				t.Fatalf("case %d: the sieve holds back at %s: %+v", i, rules.history.Now, rules.verdict(nil))
			}
		}
	}
	if fired < 100 {
		t.Errorf("fired in %d seconds only: nothing was tried", fired)
	}
}
