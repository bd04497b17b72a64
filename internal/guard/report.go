package guard

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Report is what a watch saw when it ended well.
type Report struct {
	From, To     time.Time
	Stable, Next Side
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

// Worse reports whether next failed more often than chance explains, though no trigger acted.
func (r Report) Worse() bool {
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
	next, stable, _ := r.counts()
	if next.n == 0 {
		return NoData
	}
	p0 := usualRate(next, stable)
	if worse(next, stable) {
		return NotProven
	}
	if DetectableRate(next.n, p0)-p0 <= provenExcess || Detectable(next.n, p0) <= provenFactor {
		return NoHarm
	}
	return NotProven
}

// Sentence tells what was seen, or what would have been.
func (r Report) Sentence() string {
	next, stable, unit := r.counts()
	if next.n == 1 {
		unit = strings.TrimSuffix(unit, "s")
	}
	p0 := usualRate(next, stable)
	switch r.Verdict() {
	case NoData:
		return "no requests: nothing could be seen"
	case NoHarm:
		text := fmt.Sprintf("no harm in %s %s, errors %s", domain.Thousands(next.n), unit, share(next.rate()))
		if stable.n == 0 {
			return text + " (stable had none to compare with)"
		}
		return text + fmt.Sprintf(" (stable %s)", share(stable.rate()))
	}
	if worse(next, stable) {
		return fmt.Sprintf("not proven: errors %s in %s %s (stable %s), more than chance explains",
			share(next.rate()), domain.Thousands(next.n), unit, share(stable.rate()))
	}
	would := fmt.Sprintf("an error rate of %s or worse", share(DetectableRate(next.n, p0)))
	if k := Detectable(next.n, p0); !math.IsInf(k, 1) {
		would = fmt.Sprintf("errors of ×%s or worse", factor(k))
	}
	return fmt.Sprintf("not proven: %s %s; would have seen %s", domain.Thousands(next.n), unit, would)
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
