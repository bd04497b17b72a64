package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// metricsShown is how many metrics of a verdict have a line: the guiltiest.
const metricsShown = 8

// judged draws the judge's word and what each metric says.
func (v view) judged(b *strings.Builder, e domain.Explanation) {
	j := e.Judged
	if j == nil {
		return
	}
	line := func(s string) { b.WriteString(strings.TrimRight("  "+clip(s, v.width-2), " ") + "\n") }
	facts := []string{fmt.Sprintf("evidence of harm %s", ofNeeded(j.Evidence, j.Needed))}
	if j.ProofNeeded > 0 {
		facts = append(facts, "proof of none "+ofNeeded(j.Proof, j.ProofNeeded))
	}
	if j.History {
		facts = append(facts, "compared with history: no guarantee")
	}
	line(pad("judge", clockColumn) + pad(decisionWord(j.Decision), 14) + strings.Join(facts, ", "))
	for _, l := range wrap(clean(j.Sentence), v.width-2-clockColumn) {
		line(pad("", clockColumn) + l)
	}
	if len(e.Metrics) > 0 {
		line(pad("", clockColumn) + v.paint.faint(pad("metric", 27)+"evidence × weight  "+pad("ratio", 20)+"next, stable"))
	}
	for i, m := range e.Metrics {
		if i == metricsShown {
			line(pad("", clockColumn) + v.paint.faint(plural(int64(len(e.Metrics)-i), "more metric", "more metrics")+" with less"))
			break
		}
		line(pad("", clockColumn) + metricText(m))
	}
}

// metricText says what one metric shows: its evidence, its share of the whole, the ratio with its band, and the counts.
func metricText(m domain.JudgedMetric) string {
	text := pad(clip(clean(m.Metric), 26), 27) + right(evidenceText(m.Harm), 8) + pad(" × "+strconv.FormatFloat(m.Weight, 'g', 2, 64), 9)
	ratio := ""
	if m.Ratio > 0 {
		ratio = "×" + ratioText(m.Ratio)
		if m.High > 0 {
			ratio += fmt.Sprintf(" (%s to %s)", ratioText(m.Low), ratioText(m.High))
		}
	}
	text += "  " + pad(ratio, 20)
	if m.Next.P95 > 0 || m.Stable.P95 > 0 {
		return text + fmt.Sprintf("p95 %s, %s", latency(m.Next.P95), latency(m.Stable.P95))
	}
	return text + fmt.Sprintf("%s of %s, %s of %s", count(m.Next.Errors), count(m.Next.Requests), count(m.Stable.Errors), count(m.Stable.Requests))
}

// ratioText writes a ratio with the digits that count: 0.4, 1.02, 26, 140.
func ratioText(f float64) string {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0) || f >= 1e6:
		return "many"
	case f >= 10:
		return count(int64(math.Round(f)))
	default:
		return trimZeros(strconv.FormatFloat(f, 'f', 2, 64))
	}
}

// ofNeeded writes evidence against what it takes: 1.4 of 1,111.
func ofNeeded(e, needed float64) string {
	return evidenceText(e) + " of " + count(int64(math.Round(min(needed, 1e15))))
}

// decisionWord is a decision as people read it.
func decisionWord(d string) string { return strings.ReplaceAll(clean(d), "_", " ") }

// barWidth is how many columns the bar of evidence has.
const barWidth = 38

// evidenceBar draws evidence against what it takes, by its logarithm: a factor of ten is a third of the way to 1,000.
func (v view) evidenceBar(evidence, needed float64) string {
	if needed <= 1 {
		return ""
	}
	full := 0
	if evidence > 1 {
		full = int(math.Round(barWidth * min(1, math.Log(evidence)/math.Log(needed))))
	}
	bar := strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full)
	text := pad("evidence of harm", 19) + "|" + bar + "|  " + ofNeeded(evidence, needed)
	if full == barWidth {
		return v.paint.red(text)
	}
	return text
}
