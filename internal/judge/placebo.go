package judge

import "github.com/belay-cd/belay/internal/measure"

// placebo is the judge's test of itself: a slice of stable that was drawn like a canary is bet against the rest of stable in
// both directions. They are the same release, so only a draw that is not random, or units that are not independent (visitors
// counted once per request, say), can make it fire.
type placebo struct {
	worse, better  capital // errors
	slower, faster capital // latency
	next, stable   Total   // the slice and the rest, in units
}

func newPlacebo() placebo {
	return placebo{
		worse: newCapital(len(worse)), better: newCapital(len(worse)),
		slower: newCapital(len(harmMenu.prior)), faster: newCapital(len(harmMenu.prior)),
	}
}

// failed adds a stratum's failures.
func (p *placebo) failed(j *Judge, s *Stratum) {
	slice, rest := s.Placebo.Failed, max(s.Stable.Failed-s.Placebo.Failed, 0)
	p.next.Errors += slice
	p.next.Requests += s.Placebo.Drawn
	p.stable.Errors += rest
	p.stable.Requests += max(s.Stable.Drawn-s.Placebo.Drawn, 0)
	p.worse.begin(j.clock.minute(), j.config.Minutes, worsePrior)
	p.better.begin(j.clock.minute(), j.config.Minutes, worsePrior)
	if s.Placebo.Drawn == 0 && slice == 0 && p.next.Requests == 0 {
		return // no placebo is drawn here
	}
	share := int(whole * measure.PlaceboShare)
	p.worse.errorsHarm(j.design(share), slice, rest)
	p.better.errorsHarm(j.design(whole-share), rest, slice)
}

// add adds a stratum's failures and latencies.
func (p *placebo) add(j *Judge, s *Stratum) {
	p.failed(j, s)
	l := &j.all.latency
	p.slower.begin(j.clock.minute(), j.config.Minutes, harmMenu.prior)
	p.faster.begin(j.clock.minute(), j.config.Minutes, harmMenu.prior)
	if l.stable.total < enough || len(s.Placebo.Latency.Pairs()) == 0 {
		return
	}
	j.scratch.cut = l.stable.cut(j.scratch.cut)
	var slice, slow, rest, restSlow tally
	l.rank(s.Placebo.Latency, nil, j.scratch.cut, &slice)
	l.rank(s.Placebo.Latency, j.shift, j.scratch.cut, &slow)
	l.rank(s.Stable.Latency, nil, j.scratch.cut, &rest)
	l.rank(s.Stable.Latency, j.shift, j.scratch.cut, &restSlow)
	for g := range rest {
		rest[g] = max(rest[g]-slice[g], 0)
		restSlow[g] = max(restSlow[g]-slow[g], 0)
	}
	harmMenu.scores(p.slower.logs, &slow, &rest)
	harmMenu.scores(p.faster.logs, &restSlow, &slice)
}

// total is ln E of the placebo: a quarter of the stake on each bet.
func (p *placebo) total(planned int) float64 {
	four := [...]float64{p.worse.total(planned), p.better.total(planned), p.slower.total(planned), p.faster.total(planned)}
	return sumLog(four[:]) - log4
}

const log4 = 1.3862943611198906
