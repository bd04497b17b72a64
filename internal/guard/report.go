package guard

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
)

// Report is what a watch saw when it ended well.
type Report struct {
	From, To     time.Time
	Stable, Next Side
	// Judge is the last word of the judge, over the whole rollout; nil where nobody judged.
	Judge *judge.Verdict
}

// The words of a report.
const (
	NoHarm    = "no_harm"    // and harm would have been seen
	NotProven = "not_proven" // none was seen, of little
	NoData    = "no_data"    // nothing was there to be seen
)

// What would have been seen for a report to say that there was no harm: errors this many times as frequent, or so much
// more of them that it would be harm at all.
const (
	provenFactor = 3
	provenExcess = 0.001
)

// counts are what the report is about: requests, or jobs where there were none.
func (r Report) counts() (next, stable tally, unit string) {
	if r.Next.Requests == 0 && jobs(&r.Next).n > 0 {
		return jobs(&r.Next), jobs(&r.Stable), "jobs"
	}
	return requests(&r.Next), requests(&r.Stable), "requests"
}

// told are the counts that the sentence tells: where it judged those of the judge, whose word is on the whole rollout.
func (r Report) told() (next, stable tally, unit string) {
	if v := r.judged(); v != nil && v.Next.Requests > 0 {
		return tally{v.Next.Requests, v.Next.Errors}, tally{v.Stable.Requests, v.Stable.Errors}, "requests"
	}
	return r.counts()
}

// usualRate is the error rate that next is compared with: stable's, or its own where stable served nothing.
func usualRate(next, stable tally) float64 {
	if stable.n == 0 {
		return next.rate()
	}
	return stable.rate()
}

// worse reports whether next failed more than chance explains, though no trigger acted.
func worse(next, stable tally) bool {
	return Fisher(Stratum{next.n, next.k, stable.n, stable.k}) <= reportAlpha
}

// suspicion is the share of the evidence needed to take next back with which it does not go up.
const suspicion = 0.1

// judged returns the judge's word where it saw something: requests, not jobs.
func (r Report) judged() *judge.Verdict {
	if r.Judge == nil || r.Next.Requests == 0 || r.Judge.Decision == judge.NoData {
		return nil
	}
	return r.Judge
}

// Judged reports whether the report rests on the judge's word.
func (r Report) Judged() bool { return r.judged() != nil }

// Proved reports whether the judge calls next proved no worse.
func (r Report) Proved() bool { v := r.judged(); return v != nil && v.Decision == judge.Promote }

// Suspects reports whether the judge's evidence is close to what takes next back.
func Suspects(v judge.Verdict) bool {
	// With all that is needed, and not taken back, it is below the floor: no harm.
	return v.Decision != judge.Promote && v.Evidence >= suspicion*v.Needed && v.Evidence < v.Needed
}

// Worse reports whether next is suspected to be worse, though no trigger acted: by the judge's evidence, which is close to
// what takes next back, or where nobody judged because it failed more often than chance explains.
func (r Report) Worse() bool {
	if v := r.judged(); v != nil {
		return Suspects(*v)
	}
	next, stable, _ := r.counts()
	return next.n > 0 && stable.n > 0 && worse(next, stable)
}

// ErrorRate is the share of next's requests (or jobs, where there were none) that failed; 0 without any.
func (r Report) ErrorRate() float64 {
	next, _, _ := r.counts()
	return next.rate()
}

// Verdict is one of no_harm, not_proven and no_data.
func (r Report) Verdict() string {
	if served, _, _ := r.counts(); served.n == 0 {
		return NoData
	}
	switch {
	case r.Proved():
		return NoHarm
	case r.Worse():
		return NotProven
	}
	next, stable, _ := r.told()
	if k, rate := r.detectable(); rate-usualRate(next, stable) <= provenExcess || k <= provenFactor {
		return NoHarm
	}
	return NotProven
}

// detectable is the smallest factor on the error rate, and the smallest error rate, that would have been seen. The factor
// is infinite where there is nothing to multiply.
func (r Report) detectable() (factor, rate float64) {
	if v := r.judged(); v != nil && !v.History {
		factor, rate = v.Detectable, v.DetectableRate
		if factor <= 0 {
			factor = math.Inf(1)
		}
		if rate <= 0 {
			rate = 1 // so little was seen that nothing would have shown
		}
		return factor, rate
	}
	next, stable, _ := r.told()
	p0 := usualRate(next, stable)
	return Detectable(next.n, p0), DetectableRate(next.n, p0)
}

// Sentence tells what was seen, or what would have been.
func (r Report) Sentence() string {
	if v := r.judged(); v != nil && v.History {
		return r.sentence() + "; no guarantee: compared with history"
	}
	return r.sentence()
}

func (r Report) sentence() string {
	next, stable, unit := r.told()
	if next.n == 1 {
		unit = strings.TrimSuffix(unit, "s")
	}
	switch r.Verdict() {
	case NoData:
		return "no requests: nothing could be seen"
	case NoHarm:
		text := "no harm"
		if r.Proved() {
			text = "proved no worse"
		}
		text = fmt.Sprintf("%s in %s %s, errors %s", text, domain.Thousands(next.n), unit, share(next.rate()))
		if stable.n == 0 {
			return text + " (stable had none to compare with)"
		}
		return text + fmt.Sprintf(" (stable %s)", share(stable.rate()))
	}
	if r.Worse() {
		why := "more than chance explains"
		if v := r.judged(); v != nil {
			why = fmt.Sprintf("evidence of harm %s, with %s it goes back", domain.Thousands(int64(v.Evidence)), domain.Thousands(int64(v.Needed)))
		}
		return fmt.Sprintf("not proven: errors %s in %s %s (stable %s), %s", share(next.rate()), domain.Thousands(next.n), unit, share(stable.rate()), why)
	}
	return fmt.Sprintf("not proven: %s %s; would have seen %s", domain.Thousands(next.n), unit, r.Seen())
}

// Seen says what would have been seen: errors of ×8 or worse.
func (r Report) Seen() string {
	k, rate := r.detectable()
	if math.IsInf(k, 1) {
		return fmt.Sprintf("an error rate of %s or worse", share(rate))
	}
	return fmt.Sprintf("errors of ×%s or worse", factor(k))
}

// factor rounds up: never better than it is.
func factor(k float64) string {
	if k < 10 {
		return strings.TrimSuffix(fmt.Sprintf("%.1f", math.Ceil(k*10)/10), ".0")
	}
	return domain.Thousands(int64(math.Ceil(k)))
}

// share prints a fraction as people write it: two digits that say something.
func share(f float64) string {
	digits := 2
	switch {
	case f >= 0.1:
		digits = 0
	case f >= 0.01:
		digits = 1
	case f > 0 && f < 0.0001:
		digits = 3
	}
	text := strconv.FormatFloat(f*100, 'f', digits, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + " %"
}
