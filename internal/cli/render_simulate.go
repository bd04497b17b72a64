package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/judge/lab"
)

// Columns of a forecast.
const (
	releaseColumn = 24
	figureColumn  = 10
	weightColumn  = 7
	weightsShown  = 4 // the rest of a long rollout is left out
)

// simulation draws a forecast.
func (v view) simulation(q simulation, out simulationJSON) string {
	var b strings.Builder
	fact := func(name, text string) {
		for i, l := range wrap(clean(text), v.width-9) {
			if i > 0 {
				name = ""
			}
			b.WriteString(pad(name, 9) + l + "\n")
		}
	}
	fact("traffic", trafficText(out.Traffic))
	fact("rollout", rolloutText(q.plan)+", as "+q.planFrom+" it")
	fact("harm", harmText(out.Held))
	for _, n := range []string{q.note, q.drawnNote()} {
		if n != "" {
			fact("", n)
		}
	}
	v.answers(&b, out)
	b.WriteString(v.paint.faint("  "+pad("one step alone", 26)+right("requests of next", 18)+right("shows errors of", 20)) + "\n")
	for i, s := range q.plan {
		shows := absent
		if p := out.Plan[i]; p.DetectableRate > 0 {
			shows = showsText(p.Detectable, p.DetectableRate)
		}
		b.WriteString("  " + pad(stepName(s), 26) + right(count(out.Plan[i].Requests), 18) + right(shows, 20) + "\n")
	}
	for _, text := range []string{q.good(out), out.Wish.Sentence} {
		for _, l := range wrap(text, v.width) {
			b.WriteString(l + "\n")
		}
	}
	fmt.Fprintf(&b, "%s · seed %d · %s\n", runsText(out), out.Seed, took(seconds(out.Took)))
	return b.String()
}

// showsText is from where on errors are seen: ×9.1 (0.92 %), and the rate alone where no error was there to be multiplied.
func showsText(factor, rate float64) string {
	if factor <= 0 {
		return percent(rate)
	}
	return fmt.Sprintf("×%s (%s)", factorText(factor), percent(rate))
}

func trafficText(t trafficJSON) string {
	text := fmt.Sprintf("%s requests/s, %s of them fail anyway", rateText(t.Rate), percent(t.Errors))
	if t.P95 > 0 {
		text += fmt.Sprintf(", p50 %s, p95 %s", latency(t.P50), latency(t.P95))
	}
	return text + ": " + t.Source
}

// rateText writes requests per second with the digits that count: 0.25, 50, 1,200.
func rateText(r float64) string {
	switch {
	case r >= 100:
		return count(int64(math.Round(r)))
	case r >= 1:
		return trimZeros(strconv.FormatFloat(r, 'f', 1, 64))
	default:
		return strconv.FormatFloat(r, 'g', 2, 64)
	}
}

func rolloutText(plan []lab.Step) string {
	names := make([]string, len(plan))
	for i, s := range plan {
		names[i] = stepName(s)
	}
	if len(names) > 6 {
		names = append(append(names[:3:3], "…"), names[len(names)-1])
	}
	return strings.Join(names, ", ")
}

func stepName(s lab.Step) string {
	return percent(float64(s.Weight)/weightAll) + " for " + compact(s.Hold)
}

// harmText says from where on something is harm, and how often that is a mistake.
func harmText(c judge.Config) string {
	text := fmt.Sprintf("errors above ×%s and %s points more", trimZeros(strconv.FormatFloat(c.Ratio, 'f', 2, 64)),
		points(c.Floor))
	if c.Margin > 0 {
		text += ", latency above +" + percent(c.Margin-1)
	}
	return text + fmt.Sprintf("; at most %s of the releases that are no worse are taken back", percent(c.Alpha))
}

// drawnNote says what a visitor counts for.
func (q simulation) drawnNote() string {
	if q.held.visitor && q.traffic.PerVisitor <= 1 {
		return "visitors are drawn, and here each makes one request: --per-visitor says how many they make"
	}
	return ""
}

// answers draws a row per release.
func (v view) answers(b *strings.Builder, out simulationJSON) {
	places := shownSteps(len(out.Plan))
	head := pad("taken back by the end of", releaseColumn)
	for _, i := range places {
		head += right(percent(out.Plan[i].Weight), weightColumn)
	}
	head += right("after", figureColumn) + right("9 of 10", figureColumn) + right("failed", figureColumn) + right("9 of 10", figureColumn)
	b.WriteString(v.paint.faint("  "+head) + "\n")
	after := func(s float64) string {
		if s <= 0 {
			return absent
		}
		return compact(seconds(s))
	}
	for _, a := range out.Answers {
		if a.Tolerated != "" {
			b.WriteString("  " + pad(a.Release, releaseColumn) + "   " + a.Tolerated + "\n")
			continue
		}
		failed := func(n float64) string {
			if n <= 0 || strings.HasPrefix(a.Release, "latency") {
				return absent
			}
			return count(int64(math.Round(n)))
		}
		row := pad(a.Release, releaseColumn)
		for _, i := range places {
			row += right(percent(a.Steps[i]), weightColumn)
		}
		row += right(after(a.Seconds.Median), figureColumn) + right(after(a.Seconds.P90), figureColumn) +
			right(failed(a.Failed.Median), figureColumn) + right(failed(a.Failed.P90), figureColumn)
		b.WriteString("  " + row + "\n")
	}
}

// shownSteps are the places of the steps that have a column: all, or the first and the last.
func shownSteps(n int) []int {
	var list []int
	for i := range n {
		if n <= weightsShown || i < weightsShown-1 || i == n-1 {
			list = append(list, i)
		}
	}
	return list
}

// good says when a release that is no worse is proved.
func (q simulation) good(out simulationJSON) string {
	switch p := out.Answers[0].Proved; {
	case p.Median <= 0 && !q.timed() && q.held.judge.Margin > 0:
		return "no worse: nothing is proved of latencies that are not known: --p50 and --p95"
	case p.Median <= 0:
		return "no worse: in most rollouts of this length that cannot be proved; what is not proved goes by guard.undecided"
	case p.P90 <= 0:
		return fmt.Sprintf("no worse: proved after %s in half of the rollouts, and not in every one", compact(seconds(p.Median)))
	default:
		return fmt.Sprintf("no worse: proved after %s, in 9 of 10 after %s", compact(seconds(p.Median)), compact(seconds(p.P90)))
	}
}

func runsText(out simulationJSON) string {
	least := out.Runs
	for _, a := range out.Answers {
		if a.Tolerated == "" {
			least = min(least, a.Runs)
		}
	}
	if least < out.Runs {
		return fmt.Sprintf("%s rollouts of each release, %s of those that take long", count(int64(out.Runs)), count(int64(least)))
	}
	return plural(int64(least), "rollout of each release", "rollouts of each release")
}

// wishSentence says whether what somebody would like to see can be seen, and what it would take.
func (q simulation) wishSentence(w wishJSON) string {
	h, first := q.wish.harm, q.plan[0]
	what := h.String()
	if h.errors > 0 {
		what += " of " + percent(q.base())
	}
	if why := q.tolerated(h); why != "" {
		return what + ": " + why
	}
	how := fmt.Sprintf("%s requests/s × %s × %s", rateText(q.rate()), percent(w.Weight), compact(q.wish.within))
	floor := ""
	if w.Floor > 0 {
		floor = fmt.Sprintf(", with guard.error_floor: %s%%; it is %s%% now, and no excess below it is harm", points(w.Floor), points(q.held.judge.Floor))
	}
	if w.Found >= enough {
		return fmt.Sprintf("%s: %s is seen in %s of the rollouts%s", how, what, percent(w.Found), floor)
	}
	cannot := fmt.Sprintf("%s cannot be relied on to show %s (seen in %s of the rollouts)", how, what, percent(w.Found))
	if q.hopeless(h, first.Weight, q.wish.within) {
		cannot = fmt.Sprintf("%s cannot show %s to anyone", how, what)
	}
	switch {
	case w.NeededWeight > 0 && w.NeededTime > 0:
		cannot += fmt.Sprintf(": %s would, or %s", percent(w.NeededWeight), about(w.NeededTime))
	case w.NeededWeight > 0:
		cannot += fmt.Sprintf(": %s would, and no day at %s", percent(w.NeededWeight), percent(w.Weight))
	case w.NeededTime > 0:
		cannot += fmt.Sprintf(": %s would, and no weight up to 50 %% within %s", about(w.NeededTime), compact(q.wish.within))
	default:
		cannot += ": no weight up to 50 % would, and no day"
	}
	return cannot + floor
}

// points writes a fraction as points of a percentage: 0.1.
func points(f float64) string { return trimZeros(strconv.FormatFloat(f*100, 'f', 3, 64)) }

// about writes a time as advice: 4h, 25m.
func about(s float64) string {
	d := seconds(s)
	if d >= time.Hour {
		return compact((d + 30*time.Minute - 1).Truncate(30 * time.Minute))
	}
	return compact((d + time.Minute - 1).Truncate(time.Minute))
}

// excess is how many more of all requests fail.
func (q simulation) excess(h harm) float64 {
	if h.rate > 0 {
		return h.rate - q.base()
	}
	return q.base() * max(0, h.errors-1)
}

// tolerated says why h is no harm; "" when it is.
func (q simulation) tolerated(h harm) string {
	c := q.held.judge
	switch {
	case h.latency > 0 && c.Margin == 0:
		return "not looked at"
	case h.latency > 0 && h.latency <= c.Margin:
		return "no harm: guard.margin allows +" + percent(c.Margin-1)
	case h.latency > 0:
		return ""
	case q.excess(h) < c.Floor*0.999:
		return fmt.Sprintf("no harm: %s points more, guard.error_floor allows %s", points(q.excess(h)), points(c.Floor))
	case h.errors > 0 && h.errors <= c.Ratio:
		return "no harm: errors may be ×" + trimZeros(strconv.FormatFloat(c.Ratio, 'f', 2, 64))
	}
	return ""
}

// hopeless reports whether even who knows beforehand how much worse a release is could not tell it in that time: the
// expected logarithm of the best bet on which release a failed request was on stays below half of what is needed.
func (q simulation) hopeless(h harm, weight int, within time.Duration) bool {
	base, w := q.base(), float64(weight)/weightAll
	if h.latency > 0 || base <= 0 {
		return false
	}
	psi := h.errors
	if h.rate > 0 {
		psi = h.rate / base
	}
	each := w*psi*math.Log(psi) - (1-w+w*psi)*math.Log(1-w+w*psi)
	return q.rate()*within.Seconds()*base*each < math.Log(1/q.held.judge.Alpha)/2
}

// replay draws what the judge says of a recording.
func (v view) replay(r *replay) string {
	var b strings.Builder
	span := ""
	if !r.from.IsZero() {
		span = ", " + r.from.UTC().Format("15:04:05") + " to " + r.to.UTC().Format("15:04:05Z")
	}
	fmt.Fprintf(&b, "%s: %s%s\n", clean(r.name), plural(int64(r.ticks), "tick", "ticks"), span)
	for i, l := range wrap(r.settings()+": "+harmText(r.held.judge), v.width-9) {
		name := "settings"
		if i > 0 {
			name = ""
		}
		b.WriteString(pad(name, 9) + l + "\n")
	}
	for _, l := range r.lines {
		b.WriteString(strings.TrimRight("  "+v.replayed(l, r.verdict.Needed), " ") + "\n")
	}
	for _, l := range wrap(clean(r.verdict.Sentence), v.width) {
		b.WriteString(l + "\n")
	}
	if r.verdict.Decision == judge.RollBack {
		b.WriteString("it is taken back here: what follows in the recording was not looked at\n")
	}
	return b.String()
}

// replayed is one line of it: when, the word, the evidence, and what both served so far.
func (v view) replayed(l replayLine, needed float64) string {
	word := pad(decisionWord(string(l.Decision)), 10)
	rest := right(percent(l.Weight), 6) + "  evidence " + pad(ofNeeded(l.Evidence, needed), 18) +
		fmt.Sprintf("next %s, stable %s", ofText(l.Next), ofText(l.Stable))
	room := v.width - 2 - clockColumn - size(word)
	if l.Metric != "" && l.Decision != judge.Watch && size(rest)+10 < room { // the sentence at the end has it too
		rest += ": " + clean(l.Metric)
	}
	rest = clip(rest, room)
	switch l.Decision {
	case judge.RollBack:
		word = v.paint.red(word)
	case judge.Promote:
		word = v.paint.green(word)
	case judge.Hold, judge.NoData:
		word = v.paint.yellow(word)
	}
	return pad(tickTime(l.At, l.N), clockColumn) + word + rest
}

// tickTime is when a tick ended, and its number where nobody wrote that down.
func tickTime(at time.Time, n int64) string {
	if at.IsZero() {
		return "#" + strconv.FormatInt(n, 10)
	}
	return at.UTC().Format("15:04:05")
}

// evidenceText writes a factor of evidence: 0, 0.8, 1.4, 212, 1,904, 10^30.
func evidenceText(e float64) string {
	switch {
	case math.IsNaN(e) || e < 0:
		return absent
	case e >= 1e9:
		return "10^" + strconv.Itoa(int(math.Log10(min(e, 1e300))))
	case e >= 10:
		return count(int64(math.Round(e)))
	case e > 0 && e < 0.1:
		return "< 0.1"
	default:
		return trimZeros(strconv.FormatFloat(e, 'f', 1, 64))
	}
}
