package guard

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// usualBlame is the chance, for each look, of blaming a release that is no worse than stable beside it: half of it is spent
// on all requests, half on their parts, divided over how many of them are looked at, and jobs have one of their own. A guard
// looks every second, at windows that overlap: about a hundred looks of an hour count as different ones. A release that is
// no worse must besides be above the limit in every part of the window before it is looked at at all.
const usualBlame = 1e-5

func (l Limits) blame() float64 {
	if l.Blame > 0 {
		return l.Blame
	}
	return usualBlame
}

// parts is into how many slices a window is cut to see whether a rate lasted through it.
const parts = 5

// fewest errors of a part before it is looked at, and fewest requests before the rollout that say what is usual.
const (
	fewest = 3
	usual  = 20
)

// tally is n of something, k of which failed.
type tally struct{ n, k int64 }

func (t tally) rate() float64 {
	if t.n == 0 {
		return 0
	}
	return float64(t.k) / float64(t.n)
}

func (t tally) plus(o tally) tally { return tally{t.n + o.n, t.k + o.k} }

func requests(s *Side) tally { return tally{s.Requests, s.Errors} }

// part picks one part's requests.
func part(which Part) func(*Side) tally {
	return func(s *Side) tally {
		for i := range s.Parts {
			if p := &s.Parts[i]; p.Name == which.Name && p.Segment == which.Segment {
				return tally{p.Requests, p.Errors}
			}
		}
		return tally{}
	}
}

// recent are the seconds of the last window.
func recent(h History, window time.Duration) []Second {
	from := h.Now.Add(-window)
	first, _ := slices.BinarySearchFunc(h.Seconds, from, func(s Second, t time.Time) int {
		if s.At.After(t) {
			return 1
		}
		return -1
	})
	end := len(h.Seconds)
	for end > first && h.Seconds[end-1].At.After(h.Now) {
		end--
	}
	return h.Seconds[first:end]
}

// lasted adds up next's counts of a window, and reports whether the rate was above the limit in every slice of it that
// had any, and most had.
func lasted(h History, window time.Duration, limit float64, of func(*Side) tally) (tally, bool) {
	var slice [parts]tally
	var all tally
	from, list := h.Now.Add(-window), recent(h, window)
	for i := range list {
		t := of(&list[i].Next)
		if t.n == 0 {
			continue
		}
		at := min(int(list[i].At.Sub(from)*parts/window), parts-1)
		slice[at], all = slice[at].plus(t), all.plus(t)
	}
	if all.k == 0 {
		return all, false
	}
	busy := 0
	for _, t := range slice {
		if t.n == 0 {
			continue
		}
		busy++
		if t.rate() <= limit {
			return all, false
		}
	}
	return all, 2*busy > parts
}

// errorRate: more than so many errors, for so long, and more than stable beside it.
func errorRate(l Limits, h History) Verdict {
	if h.Now.Sub(h.Since) < l.ErrorFor {
		return Verdict{Kind: Calm}
	}
	next, yes := lasted(h, l.ErrorFor, l.ErrorRate, requests)
	if !yes {
		return Verdict{Kind: Calm}
	}
	c := compare(h, l.ErrorFor, requests, true)
	c.next, c.limit, c.alpha, c.few = next, l.ErrorRate, l.blame()/2, fewVisitors(h)
	c.what = fmt.Sprintf("%d of %d requests to next failed in the last %s (limit %s)", next.k, next.n,
		domain.Span(l.ErrorFor), percent(l.ErrorRate))
	return c.verdict("errors", true)
}

// partRate is errorRate for each endpoint and each value of a segment. What fails on stable as well, now or before the
// rollout, is not next's; it holds nothing either: an endpoint that always fails would hold every release.
func partRate(l Limits, h History) Verdict {
	if h.Now.Sub(h.Since) < l.ErrorFor {
		return Verdict{Kind: Calm}
	}
	suspects, judged := suspected(recent(h, l.ErrorFor))
	for _, which := range suspects {
		next, yes := lasted(h, l.ErrorFor, l.ErrorRate, part(which))
		if !yes {
			continue
		}
		c := compare(h, l.ErrorFor, part(which), false)
		c.next, c.limit, c.alpha, c.few = next, l.ErrorRate, l.blame()/2/float64(judged), fewVisitors(h)
		for _, p := range h.BaselineParts {
			if p.Name == which.Name && p.Segment == which.Segment {
				c.before = tally{p.Requests, p.Errors}
			}
		}
		name := which.Name
		if which.Segment {
			name = "visitors with " + which.Name
		}
		c.what = fmt.Sprintf("errors of %s: %d of %d requests to next failed in the last %s (limit %s)", name, next.k, next.n,
			domain.Span(l.ErrorFor), percent(l.ErrorRate))
		if v := c.verdict("errors", false); v.Kind == RollBack {
			return v
		}
	}
	return Verdict{Kind: Calm}
}

// suspected lists the parts with a few errors of next's, the most first, and counts the parts that next served. Seconds
// without an error are only looked at when there is somebody to suspect.
func suspected(list []Second) (suspects []Part, judged int) {
	var failed map[Part]int64
	for i := range list {
		if list[i].Next.Errors == 0 {
			continue
		}
		for _, p := range list[i].Next.Parts {
			if p.Errors > 0 {
				if failed == nil {
					failed = map[Part]int64{}
				}
				failed[Part{Name: p.Name, Segment: p.Segment}] += p.Errors
			}
		}
	}
	maps.DeleteFunc(failed, func(_ Part, n int64) bool { return n < fewest })
	if len(failed) == 0 {
		return nil, 0
	}
	served := map[Part]bool{}
	for i := range list {
		for _, p := range list[i].Next.Parts {
			served[Part{Name: p.Name, Segment: p.Segment}] = true
		}
	}
	suspects = slices.SortedFunc(maps.Keys(failed), func(a, b Part) int {
		return cmp.Or(cmp.Compare(failed[b], failed[a]), cmp.Compare(a.Name, b.Name))
	})
	return suspects, len(served)
}

// comparison sets next beside stable.
type comparison struct {
	what         string
	unit         string // what is counted; "" for requests
	next, stable tally
	strata       []Stratum
	// alike is the rate that next would have if each of its endpoints failed as often as stable's.
	alike  float64
	before tally // stable's before the rollout, of a part
	limit  float64
	alpha  float64
	// few says that the judge, who counts each visitor once, sees next and stable beside each other and suspects nothing: a few
	// visitors make the difference, and chance gave them to next.
	few bool
}

// fewVisitors reports whether the judge compares next with stable and has less than a tenth of the evidence it needs.
func fewVisitors(h History) bool {
	v := h.Evidence
	return v != nil && !v.History && v.Next.Requests > 0 && v.Stable.Requests > 0 && v.Evidence < suspicion*v.Needed
}

// condition is what must be equal for two counts to be compared.
type condition struct {
	weight   int
	endpoint string
}

// compare adds up both sides in strata of one weight, and of one endpoint when that is asked for: under one weight it is
// chance which requests were next's.
func compare(h History, window time.Duration, of func(*Side) tally, endpoints bool) comparison {
	strata := map[condition]*Stratum{}
	at := func(weight int, endpoint string) *Stratum {
		s := strata[condition{weight, endpoint}]
		if s == nil {
			s = &Stratum{}
			strata[condition{weight, endpoint}] = s
		}
		return s
	}
	// each calls add for every endpoint of a side, and for the rest of it.
	each := func(s *Side, add func(endpoint string, t tally)) tally {
		all := of(s)
		rest := all
		for i := 0; endpoints && i < len(s.Parts); i++ {
			if p := &s.Parts[i]; !p.Segment {
				rest = rest.plus(tally{-p.Requests, -p.Errors})
				add(p.Name, tally{p.Requests, p.Errors})
			}
		}
		if rest.n > 0 {
			add("", tally{rest.n, min(max(rest.k, 0), rest.n)})
		}
		return all
	}
	var c comparison
	list := recent(h, window)
	for i := range list {
		sec := &list[i]
		each(&sec.Next, func(endpoint string, t tally) {
			s := at(sec.Weight, endpoint)
			s.Next, s.NextFailed = s.Next+t.n, s.NextFailed+t.k
		})
		c.stable = c.stable.plus(each(&sec.Stable, func(endpoint string, t tally) {
			s := at(sec.Weight, endpoint)
			s.Stable, s.StableFailed = s.Stable+t.n, s.StableFailed+t.k
		}))
	}
	keys := slices.SortedFunc(maps.Keys(strata), func(a, b condition) int {
		return cmp.Or(cmp.Compare(a.weight, b.weight), cmp.Compare(a.endpoint, b.endpoint))
	})
	for _, k := range keys {
		c.strata = append(c.strata, *strata[k])
	}
	c.alike = alike(keys, c.strata, h.BaselineParts)
	return c
}

// alike is the error rate of next's requests if every endpoint failed as often as on stable: in the same window, or
// before the rollout where stable had none of it since.
func alike(keys []condition, strata []Stratum, before []Part) float64 {
	stable, next := map[string]tally{}, map[string]tally{}
	for i, k := range keys {
		stable[k.endpoint] = stable[k.endpoint].plus(tally{strata[i].Stable, strata[i].StableFailed})
		next[k.endpoint] = next[k.endpoint].plus(tally{strata[i].Next, strata[i].NextFailed})
	}
	for _, p := range before {
		if !p.Segment && stable[p.Name].n == 0 && p.Requests >= usual {
			stable[p.Name] = tally{p.Requests, p.Errors}
		}
	}
	expected, all := 0.0, int64(0)
	for _, endpoint := range slices.Sorted(maps.Keys(next)) { // in one order: a sum of floats is to be the same again
		expected += float64(next[endpoint].n) * stable[endpoint].rate()
		all += next[endpoint].n
	}
	if all == 0 {
		return 0
	}
	return expected / float64(all)
}

// verdict says whether the excess is next's. Alone says that it may be blamed without anything to compare with.
func (c comparison) verdict(trigger string, alone bool) Verdict {
	unit := c.unit
	if unit == "" {
		unit = "requests"
	}
	say := func(kind Kind, format string, args ...any) Verdict {
		return Verdict{kind, trigger, c.what + "; " + fmt.Sprintf(format, args...)}
	}
	if c.stable.n == 0 {
		switch {
		case alone:
			return say(RollBack, "stable had no %s to compare with", without(unit))
		case c.before.n >= usual && Fisher(Stratum{c.next.n, c.next.k, c.before.n, c.before.k}) <= c.alpha:
			return say(RollBack, "stable has none now, and had %d of %d before the rollout", c.before.k, c.before.n)
		}
		return say(Hold, "stable had none to compare with")
	}
	switch {
	case c.stable.rate() > c.limit:
		return say(Hold, "so did %d of %d to stable: a common cause", c.stable.k, c.stable.n)
	case Excess(c.strata) <= c.alpha && c.few:
		return say(Hold, "stable had %d of %d, but few visitors make the difference", c.stable.k, c.stable.n)
	case Excess(c.strata) <= c.alpha:
		return say(RollBack, "stable had %d of %d", c.stable.k, c.stable.n)
	case c.alike > c.limit:
		return Verdict{Kind: Calm} // its endpoints fail as often on stable, which has fewer requests to them
	case alone && attainable(c.strata) > c.alpha && Binomial(c.next.k, c.next.n, c.limit) <= c.alpha:
		return say(RollBack, "stable had %d of %d, too few to compare with", c.stable.k, c.stable.n)
	}
	return say(Hold, "stable had %d of %d: too few to tell them apart", c.stable.k, c.stable.n)
}

func without(unit string) string {
	if unit == "requests" {
		return "traffic"
	}
	return unit
}
