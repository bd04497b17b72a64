package cli

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// Columns of the pyramid, after an indent of six.
const (
	levelColumn  = 14
	timeColumn   = 9
	remarkColumn = 6 + levelColumn + 7 + 8 + 9 + timeColumn + 2
	shownTests   = 5 // slowest and flaky tests in detail
)

// pyramid draws the levels of the tests as a table, cheapest first, with what there is to say of each; then the slowest
// tests, those that are flaky, and what else is worth a warning.
func (v view) pyramid(levels []domain.LevelRecord) []string {
	if len(levels) == 0 {
		return nil
	}
	row := func(name string, cells [3]string, time string) string {
		text := pad(clip(clean(name), levelColumn-1), levelColumn)
		for i, columns := range [3]int{7, 8, 9} {
			text += right(cells[i], columns)
		}
		return "      " + text + right(time, timeColumn) + "  "
	}
	lines := []string{v.paint.faint(strings.TrimRight(row("level", [3]string{"tests", "failed", "skipped"}, "time"), " "))}
	for _, l := range levels {
		spent := ""
		if l.Took > 0 {
			spent = took(seconds(l.Took))
		}
		drawn := row(l.Level, cellsOf(l), spent)
		remarks := wrap(clean(remark(l)), v.width-remarkColumn)
		lines = append(lines, strings.TrimRight(v.paint.state(levelState(l.State), drawn[:6+levelColumn])+drawn[6+levelColumn:]+firstOf(remarks), " "))
		for _, more := range remarks[min(1, len(remarks)):] {
			lines = append(lines, strings.Repeat(" ", remarkColumn)+more)
		}
	}
	return append(lines, v.remarks(levels)...)
}

func firstOf(texts []string) string {
	if len(texts) == 0 {
		return ""
	}
	return texts[0]
}

// cellsOf are the counts of a level: a dash where nobody counted.
func cellsOf(l domain.LevelRecord) [3]string {
	if !l.Counted {
		return [3]string{absent, absent, absent}
	}
	return [3]string{count(int64(l.Passed + l.Failed)), count(int64(l.Failed)), count(int64(l.Skipped))}
}

// remark is what the numbers of a level do not say.
func remark(l domain.LevelRecord) string {
	var parts []string
	switch {
	case l.State == "none":
		return "none: " + l.Reason
	case l.State != "done":
		parts = append(parts, l.State)
	case !l.Counted:
		parts = append(parts, "uncounted")
	}
	if l.Reason != "" {
		parts = append(parts, l.Reason)
	}
	switch {
	case l.Cached > 0 && l.Cached >= l.Passed+l.Failed:
		parts = append(parts, "cached from "+l.CachedFrom)
	case l.Cached > 0:
		parts = append(parts, fmt.Sprintf("%s cached from %s", count(int64(l.Cached)), l.CachedFrom))
	case l.CachedFrom != "":
		parts = append(parts, "cached from "+l.CachedFrom)
	}
	if l.Trend != "" {
		parts = append(parts, l.Trend)
	}
	if n := len(l.Shards); n > 0 {
		parts = append(parts, fmt.Sprintf("%d parts of %s to %s", n, compact(seconds(slices.Min(l.Shards))), compact(seconds(slices.Max(l.Shards)))))
	}
	return strings.Join(append(parts, l.Services...), " · ")
}

// remarks are the lines beneath the table.
func (v view) remarks(levels []domain.LevelRecord) []string {
	var lines []string
	add := func(name string, texts []string, show func(string) string) {
		for _, text := range texts {
			for _, part := range wrap(clean(text), v.width-6-levelColumn) {
				lines = append(lines, "      "+pad(name, levelColumn)+show(part))
				name = ""
			}
		}
	}
	add("slowest", slowest(levels), func(s string) string { return s })
	add("flaky", flaky(levels), v.paint.yellow)
	for _, l := range levels {
		for _, w := range l.Warnings {
			add("warning", []string{l.Level + ": " + w}, v.paint.yellow)
		}
	}
	return lines
}

// slowest are the slowest tests of all levels, each with how it differs from what it usually takes.
func slowest(levels []domain.LevelRecord) []string {
	var all []domain.SlowTest
	for _, l := range levels {
		all = append(all, l.Slow...)
		if len(l.Slow) == 0 && l.Slowest != "" {
			all = append(all, domain.SlowTest{Name: l.Slowest, Took: l.SlowTook})
		}
	}
	slices.SortStableFunc(all, func(a, b domain.SlowTest) int { return cmp.Compare(b.Took, a.Took) })
	var texts []string
	for _, t := range all[:min(len(all), shownTests)] {
		text := t.Name + " " + took(seconds(t.Took))
		if part := (t.Took - t.Usual) / t.Usual; t.Usual > 0 && math.Abs(part) >= 0.05 && math.Abs(t.Took-t.Usual) >= 0.05 {
			text += fmt.Sprintf(", %+.0f %%", 100*part)
		}
		texts = append(texts, text)
	}
	return texts
}

// flaky are the flaky tests of all levels, each with in how many runs it was; the first few of many.
func flaky(levels []domain.LevelRecord) []string {
	var all []string
	for _, l := range levels {
		all = append(all, l.Flaky...)
	}
	if n := len(all); n > shownTests {
		all = append(all[:shownTests:shownTests], fmt.Sprintf("and %d more", n-shownTests))
	}
	return all
}
