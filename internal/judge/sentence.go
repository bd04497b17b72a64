package judge

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// sentence says a verdict with its numbers.
func (j *Judge) sentence(v *Verdict, f finding) string {
	switch v.Decision {
	case RollBack:
		return j.sayRollBack(v, f)
	case Promote:
		return j.sayPromote(v)
	case Hold:
		return j.sayHold(v)
	case NoData:
		return "no data: next served no request yet, which neither passes nor blames it"
	case Watch:
	}
	return j.sayWatch(v, f)
}

func (j *Judge) sayRollBack(v *Verdict, f finding) string {
	if f.guilty == nil {
		return j.sayHistory(v)
	}
	r := *f.guilty
	text := fmt.Sprintf("%s. If next were no worse, evidence this strong would turn up in fewer than 1 of %s releases",
		j.sayHarm(r), number(math.Floor(1/j.config.Alpha)))
	if r.slow {
		return text
	}
	w := r.of.windows.best()
	because := int64(math.Round(w.excess() * float64(w.next.Requests)))
	switch because {
	case 0:
		return text
	case 1:
		return text + ". About 1 request failed because of it"
	}
	return fmt.Sprintf("%s. About %s requests failed because of it", text, count(because))
}

// sayHarm says what was seen of one metric.
func (j *Judge) sayHarm(r row) string {
	if r.slow {
		q, next, stable := r.of.latency.telling(j.config)
		return fmt.Sprintf("%s: p%s of next %s, stable %s", r.name(), percentile(q), span(next), span(stable))
	}
	w := r.of.windows.best()
	since := ""
	if !w.whole {
		since = " since " + time.Unix(w.since, 0).UTC().Format("15:04:05")
	}
	return fmt.Sprintf("%s: %s of %s requests to next failed%s, stable had %s of %s",
		r.name(), count(w.next.Errors), count(w.next.Requests), since, count(w.stable.Errors), count(w.stable.Requests))
}

func (j *Judge) sayHistory(v *Verdict) string {
	b := j.config.Before
	const none = "no guarantee: compared with history, since stable has no traffic"
	if v.Metric == "latency" {
		slow := max(time.Duration(j.config.Margin*float64(b.WorstLatency)), b.WorstLatency+j.config.Grain)
		return fmt.Sprintf("latency: %s of %s requests to next took longer than %s; 95 %% of stable's took less than %s in its slowest minute before (%s)",
			count(j.past.slowed), count(j.past.timed), span(slow.Seconds()), span(b.WorstLatency.Seconds()), none)
	}
	return fmt.Sprintf("errors: %s of %s requests to next failed; stable had %s in its worst minute before (%s)",
		count(j.past.next.Errors), count(j.past.next.Requests), share(b.WorstErrors), none)
}

func (j *Judge) sayPromote(v *Verdict) string {
	text := fmt.Sprintf("proved: errors of next are below %s times stable's or within %s of them", number(j.config.Ratio), points(j.config.Floor))
	if j.config.Margin > 0 {
		text += fmt.Sprintf(", and its latency is within +%s %%", number(100*(j.config.Margin-1)))
	}
	text += ": " + j.sayBoth(v)
	if j.config.Margin > 0 {
		text += "; " + j.sayP95()
	}
	return fmt.Sprintf("%s. A release that is worse would pass in fewer than 1 of %s", text, number(math.Floor(1/j.config.Beta)))
}

func (j *Judge) sayP95() string {
	next, stable := j.all.latency.seconds(.95)
	return fmt.Sprintf("p95 of next %s, stable %s", span(next), span(stable))
}

// sayBoth says what both sides served.
func (j *Judge) sayBoth(v *Verdict) string {
	return fmt.Sprintf("%s of %s requests to next failed, stable had %s of %s",
		count(v.Next.Errors), count(v.Next.Requests), count(v.Stable.Errors), count(v.Stable.Requests))
}

func (j *Judge) sayWatch(v *Verdict, f finding) string {
	text := "not proven yet: " + j.sayBoth(v)
	if v.Metric == "latency" && j.all.latency.next.total > 0 && j.all.latency.stable.total > 0 {
		text += "; " + j.sayP95()
	}
	switch {
	case j.alone && j.config.Before == nil:
		return text + "; stable has no traffic and there is no history, so nothing is watched but the limit"
	case j.alone:
		return fmt.Sprintf("compared with history, no guarantee: stable has no traffic; %s of %s requests to next failed, nothing is worse than before",
			count(j.past.next.Errors), count(j.past.next.Requests))
	case !f.control:
		return text + "; there is nothing to compare next with yet"
	case f.whole >= f.needed:
		return fmt.Sprintf("next is worse, but by less than what counts as harm: %s", j.sayHarm(f.doubted))
	case j.proved(f):
		return fmt.Sprintf("next was proved no worse, but evidence of harm has grown to %s of the %s that take it back: %s",
			number(math.Floor(v.Evidence)), number(math.Floor(v.Needed)), j.sayHarm(f.rows[0]))
	case v.Detectable > 0:
		return fmt.Sprintf("%s; errors of ×%s or worse would have been seen", text, factor(v.Detectable))
	case v.DetectableRate > 0:
		return fmt.Sprintf("%s; an error rate of %s or more would have been seen", text, share(v.DetectableRate))
	}
	return text + "; this is too little traffic for any harm to be seen: more weight, more time or synthetic requests would show it"
}

func (j *Judge) sayHold(v *Verdict) string {
	switch v.Metric {
	case metricNumbers:
		what := j.broken
		if j.faulty != "" {
			what = "the configuration: " + j.faulty
		}
		if what == "" {
			what = "evidence that is no number"
		}
		return fmt.Sprintf("the measurement cannot be trusted: %s; judge by hand, and report it", what)
	case metricSplit:
		return fmt.Sprintf("the measurement cannot be trusted: %s of %s draws fell on next, which is not what its weight says; something before Belay chooses who reaches which release",
			count(j.drawn[0]), count(j.drawn[0]+j.drawn[1]))
	case metricPlacebo:
		return fmt.Sprintf("the measurement cannot be trusted: two shares of the same stable release differ, %s of %s units failed in one and %s of %s in the other; look for few clients that make most of the traffic, and split by visitor",
			count(j.placebo.next.Errors), count(j.placebo.next.Requests), count(j.placebo.stable.Errors), count(j.placebo.stable.Requests))
	}
	return fmt.Sprintf("errors are above the limit of %s, and it is not proved that next is why: %s; look at what both share",
		share(j.config.most()), j.sayBoth(v))
}

// count writes 5698 as 5,698.
func count(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// number writes a number shortly: 1.25, 20, 1,000.
func number(x float64) string {
	if x >= 1000 && x < 1e15 {
		return count(int64(math.Round(x)))
	}
	return strconv.FormatFloat(math.Round(x*1000)/1000, 'f', -1, 64)
}

// factor writes a factor with two digits that matter.
func factor(x float64) string {
	if x >= 100 {
		return count(int64(math.Ceil(x)))
	}
	if x >= 10 {
		return strconv.FormatFloat(math.Ceil(x), 'f', 0, 64)
	}
	return strconv.FormatFloat(math.Ceil(x*10)/10, 'f', 1, 64)
}

// share writes a share as a percentage.
func share(x float64) string {
	percent := 100 * x
	digits := 1
	if percent > 0 && percent < 1 {
		digits = min(int(math.Ceil(-math.Log10(percent)))+1, 6)
	}
	return strconv.FormatFloat(percent, 'f', digits, 64) + " %"
}

// points writes a difference of shares.
func points(x float64) string { return number(100*x) + " percentage points" }

// percentile writes .95 as 95 and .995 as 99.5.
func percentile(q float64) string { return number(100 * q) }

// span writes seconds so that a person reads them: 240 ms, 1.2 s, 850 µs.
func span(seconds float64) string {
	scale, unit := 1.0, "s"
	switch {
	case seconds < 1e-3:
		scale, unit = 1e6, "µs"
	case seconds < 1:
		scale, unit = 1e3, "ms"
	}
	x := seconds * scale
	digits := 0
	if x < 10 {
		digits = 1
	}
	return strconv.FormatFloat(x, 'f', digits, 64) + " " + unit
}
