package guard

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// leastJobs is how many jobs stable must have finished before next is blamed for finishing none.
const leastJobs = 20

// longLag is the lag in seconds below which a queue is short, whatever it was before.
const longLag = 60

func jobs(s *Side) tally {
	if s.Jobs == nil {
		return tally{}
	}
	return tally{s.Jobs.Done + s.Jobs.Failed, s.Jobs.Failed}
}

// jobRate is errorRate in words of jobs.
func jobRate(l Limits, h History) Verdict {
	if h.Now.Sub(h.Since) < l.ErrorFor {
		return Verdict{Kind: Calm}
	}
	next, yes := lasted(h, l.ErrorFor, l.ErrorRate, jobs)
	if !yes {
		return Verdict{Kind: Calm}
	}
	c := compare(h, l.ErrorFor, jobs, false)
	c.next, c.limit, c.alpha, c.unit = next, l.ErrorRate, l.blame(), "jobs"
	c.what = fmt.Sprintf("%d of %d jobs of next failed in the last %s (limit %s)", next.k, next.n,
		domain.Span(l.ErrorFor), percent(l.ErrorRate))
	return c.verdict("jobs", true)
}

// jobStall: next's consumers were asked all the time and finished nothing, while stable's finished so many that next's
// share of the consumers would have got some. Without a stable that consumes there is nothing to say: the queue may be empty.
func jobStall(l Limits, h History) Verdict {
	if h.Now.Sub(h.Since) < l.ErrorFor {
		return Verdict{Kind: Calm}
	}
	var asked [parts]bool
	var stable tally
	from, list := h.Now.Add(-l.ErrorFor), recent(h, l.ErrorFor)
	for i := range list {
		stable = stable.plus(jobs(&list[i].Stable))
		if list[i].Next.Jobs == nil {
			continue
		}
		asked[min(int(list[i].At.Sub(from)*parts/l.ErrorFor), parts-1)] = true
		if jobs(&list[i].Next).n > 0 {
			return Verdict{Kind: Calm}
		}
	}
	if stable.n < leastJobs || slices.Contains(asked[:], false) {
		return Verdict{Kind: Calm}
	}
	mine, others := consumers(h.Next, from), max(1, consumers(h.Stable, h.Now))
	if mine == 0 || math.Pow(float64(others)/float64(others+mine), float64(stable.n)) > l.blame() {
		return Verdict{Kind: Calm}
	}
	return Verdict{RollBack, "jobs", fmt.Sprintf("next finished no job in the last %s, with %d of %d consumers; stable finished %d",
		domain.Span(l.ErrorFor), mine, mine+others, stable.n)}
}

// consumers counts the instances that consume jobs and were started before a time.
func consumers(list []Instance, before time.Time) int {
	n := 0
	for _, i := range list {
		if i.Jobs && !i.Started.After(before) {
			n++
		}
	}
	return n
}

// jobLag: the queue is older than a minute, and older by the factor of latency than before the rollout, all the time. The
// queue is shared: that holds and blames nobody.
func jobLag(l Limits, h History) Verdict {
	if l.Latency <= 0 || h.Now.Sub(h.Since) < l.ErrorFor {
		return Verdict{Kind: Calm}
	}
	limit := max(longLag, l.Latency*h.BaselineLag)
	var asked [parts]bool
	lag := 0.0
	from, list := h.Now.Add(-l.ErrorFor), recent(h, l.ErrorFor)
	for i := range list {
		for _, s := range []*Side{&list[i].Next, &list[i].Stable} {
			if s.Jobs == nil {
				continue
			}
			if s.Jobs.Lag <= limit {
				return Verdict{Kind: Calm}
			}
			lag = s.Jobs.Lag
			asked[min(int(list[i].At.Sub(from)*parts/l.ErrorFor), parts-1)] = true
		}
	}
	if slices.Contains(asked[:], false) {
		return Verdict{Kind: Calm}
	}
	return Verdict{Hold, "jobs", fmt.Sprintf("the oldest job waits for %.0f s, at most %.0f s before the rollout (limit %.0f s); both releases share the queue",
		lag, h.BaselineLag, limit)}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
