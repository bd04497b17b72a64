package guard

import (
	"fmt"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// quantile is which latency is compared.
const quantile = 0.95

// warmth says when a side's instances were all warm.
type warmth struct {
	starts []time.Time // of those that can have been cold in the history
	warmUp time.Duration
}

func warmthOf(l Limits, h History, list []Instance) warmth {
	w := warmth{warmUp: l.WarmUp}
	if len(h.Seconds) == 0 {
		return w
	}
	told, oldest := false, h.Seconds[0].At
	keep := func(started time.Time) {
		if started.Add(l.WarmUp).After(oldest) {
			w.starts = append(w.starts, started)
		}
	}
	for _, i := range list {
		if i.Traffic && !i.Started.IsZero() {
			told = true
			keep(i.Started)
		}
	}
	if !told {
		keep(h.Started)
	}
	return w
}

// at reports whether no instance was in its first minute in the second that ended then.
func (w warmth) at(end time.Time) bool {
	for _, started := range w.starts {
		if end.After(started) && end.Before(started.Add(w.warmUp)) {
			return false
		}
	}
	return true
}

// stretch are the newest seconds that count, enough of them for a window, newest first.
type stretch struct {
	seconds      []*Second
	next, stable int64 // requests
}

// stretchOf collects the newest seconds since next had traffic that are warm; false when they are too few.
func stretchOf(l Limits, h History, warm func(time.Time) bool) (stretch, bool) {
	need := max(1, int(l.LatencyFor/time.Second))
	var s stretch
	for i := len(h.Seconds) - 1; i >= 0 && len(s.seconds) < need; i-- {
		sec := &h.Seconds[i]
		if !sec.At.After(h.Since) {
			break
		}
		if sec.At.After(h.Now) || !warm(sec.At) {
			continue
		}
		if s.seconds == nil {
			s.seconds = make([]*Second, 0, need)
		}
		s.seconds = append(s.seconds, sec)
		s.next += sec.Next.Requests
		s.stable += sec.Stable.Requests
	}
	return s, len(s.seconds) == need
}

// latency: next's p95 above so many times stable's in the same window, for so long, with enough requests. Without enough
// requests on stable the value before the rollout is compared with.
func latency(l Limits, h History) Verdict {
	if h.Now.Sub(h.Since) < l.LatencyFor {
		return Verdict{Kind: Calm}
	}
	next, stable := warmthOf(l, h, h.Next), warmthOf(l, h, h.Stable)
	both, enough := stretchOf(l, h, func(t time.Time) bool { return next.at(t) && stable.at(t) })
	if enough && both.stable >= l.LatencyLeast {
		return both.beside(l, fewVisitors(h))
	}
	alone, enough := stretchOf(l, h, next.at)
	if !enough || h.BaselineP95 <= 0 {
		return Verdict{Kind: Calm}
	}
	return alone.against(l, h.BaselineP95)
}

// beside compares next with stable in the same seconds.
func (s stretch) beside(l Limits, few bool) Verdict {
	if s.next < l.LatencyLeast {
		return Verdict{Kind: Calm}
	}
	_, base := s.p95(stableLatency)
	p95, slow := s.slow(l, base)
	if !slow {
		return Verdict{Kind: Calm}
	}
	over := time.Duration(l.Latency * float64(base))
	strata := map[int]*Stratum{}
	for _, sec := range s.seconds {
		t := strata[sec.Weight]
		if t == nil {
			t = &Stratum{}
			strata[sec.Weight] = t
		}
		t.Next, t.NextFailed = t.Next+sec.Next.Latency.Count(), t.NextFailed+sec.Next.Latency.CountAbove(over)
		t.Stable, t.StableFailed = t.Stable+sec.Stable.Latency.Count(), t.StableFailed+sec.Stable.Latency.CountAbove(over)
	}
	var list []Stratum
	for _, weight := range sortedKeys(strata) {
		list = append(list, *strata[weight])
	}
	if Excess(list) > l.blame() {
		return Verdict{Kind: Calm} // so few slow ones may be chance
	}
	if few {
		return Verdict{Hold, "latency", s.sentence(l, p95, base, "on stable") + ", but few visitors make the difference"}
	}
	return Verdict{RollBack, "latency", s.sentence(l, p95, base, "on stable")}
}

// against compares next with what was before the rollout. What stable serves meanwhile, however little, may tell of a
// common cause.
func (s stretch) against(l Limits, base time.Duration) Verdict {
	if s.next < l.LatencyLeast {
		return Verdict{Kind: Calm}
	}
	p95, slow := s.slow(l, base)
	if !slow {
		return Verdict{Kind: Calm}
	}
	if n, now := s.p95(stableLatency); n >= usual && float64(now) > l.Latency*float64(base) {
		return Verdict{Hold, "latency", s.sentence(l, p95, base, "before the rollout") +
			fmt.Sprintf("; stable had %s: a common cause", millis(now))}
	}
	return Verdict{RollBack, "latency", s.sentence(l, p95, base, "before the rollout; stable had no traffic to compare with")}
}

// slow reports whether next's p95 was above the limit, and lasted: in every slice of the time there were at least half as
// many requests beyond the limit as that takes.
func (s stretch) slow(l Limits, base time.Duration) (p95 time.Duration, slow bool) {
	if base <= 0 {
		return 0, false
	}
	limit := time.Duration(l.Latency * float64(base))
	var slice [parts]tally
	var all tally
	for i, sec := range s.seconds {
		t := tally{sec.Next.Latency.Count(), sec.Next.Latency.CountAbove(limit)}
		at := i * parts / len(s.seconds)
		slice[at], all = slice[at].plus(t), all.plus(t)
	}
	if all.n < l.LatencyLeast || all.rate() < 1-quantile {
		return 0, false // by far the usual case: no quantile is needed
	}
	if _, p95 = s.p95(nextLatency); p95 <= limit {
		return p95, false
	}
	busy := 0
	for _, t := range slice {
		if t.n == 0 {
			continue
		}
		busy++
		if t.rate() < (1-quantile)/2 {
			return p95, false
		}
	}
	return p95, 2*busy > parts
}

func stableLatency(s *Second) *measure.Histogram { return s.Stable.Latency }
func nextLatency(s *Second) *measure.Histogram   { return s.Next.Latency }

// p95 is the quantile of the latencies of all seconds together, and how many they are.
func (s stretch) p95(of func(*Second) *measure.Histogram) (int64, time.Duration) {
	return measure.QuantileOf(quantile, func(yield func(*measure.Histogram) bool) {
		for _, sec := range s.seconds {
			if !yield(of(sec)) {
				return
			}
		}
	})
}

func (s stretch) sentence(l Limits, p95, base time.Duration, against string) string {
	return fmt.Sprintf("p95 of next was %s over the last %s, %s %s (limit %g times)", millis(p95), domain.Span(l.LatencyFor),
		millis(base), against, l.Latency)
}
