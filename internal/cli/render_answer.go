package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/web"
)

// whatColumn is the widest column of what a step of a plan is about.
const whatColumn = 40

// plan draws what would happen if a commit were shipped now.
func (v view) plan(p web.PlanView) string {
	var b strings.Builder
	stable := "no stable in production yet: a first delivery"
	if p.Stable != "" {
		stable = "stable in production: " + domain.ShortCommit(p.Stable)
		if p.Delivery != 0 {
			stable += fmt.Sprintf(" #%d", p.Delivery)
		}
	}
	b.WriteString(ends(fmt.Sprintf("%s %s, if it were shipped now", p.App, domain.ShortCommit(p.Commit)), stable, v.width) + "\n")
	what := 20 // columns of what a step is about, the same in all rows
	rows := slices.Clone(p.Rows)
	for i := range rows {
		rows[i].Steps = joined(rows[i].Steps)
		for _, s := range rows[i].Steps {
			what = min(whatColumn, max(what, size(s.What)))
		}
	}
	for _, row := range rows {
		for i, l := range wrap(clean(row.Summary), v.width-2-nameColumn) {
			name := ""
			if i == 0 {
				name = string(row.Stage)
			}
			b.WriteString(strings.TrimRight("  "+pad(name, nameColumn)+l, " ") + "\n")
		}
		planSteps(&b, row.Steps, what)
	}
	if p.Earliest > 0 {
		fmt.Fprintf(&b, "at the earliest done in %s%s\n", took(seconds(p.Earliest)), prefixed(" · ", clean(p.Rollback)))
	} else if p.Rollback != "" {
		b.WriteString(clean(p.Rollback) + "\n")
	}
	for _, r := range []struct{ name, text string }{{"rollback", p.RollbackSeconds}, {"capacity", p.Capacity}, {"traffic", p.LowTraffic}} {
		for _, l := range wrap(printable(r.text), v.width-9) { // a sum has a line per part
			b.WriteString(strings.TrimRight(pad(r.name, 9)+l, " ") + "\n")
			r.name = ""
		}
	}
	loosened := "nothing"
	if len(p.Loosened) > 0 {
		loosened = clean(strings.Join(p.Loosened, "; "))
	}
	if p.Parity != "" {
		fmt.Fprintf(&b, "parity   %s    ", clean(p.Parity))
	}
	fmt.Fprintf(&b, "loosened by this commit: %s\n", loosened)
	if len(p.Policy) > 0 {
		fmt.Fprintf(&b, "the server's policy: %s\n", clean(strings.Join(p.Policy, "; ")))
	}
	for _, n := range p.NotInForce {
		b.WriteString(v.paint.yellow("not in force yet: ") + clean(n) + "\n")
	}
	if p.Refused != "" {
		for _, l := range wrap("it would be refused: "+clean(p.Refused), v.width) {
			b.WriteString(v.paint.red(l) + "\n")
		}
	}
	b.WriteString("nothing was touched\n")
	return b.String()
}

// joined puts a hold into the line of the shift that it follows.
func joined(steps []web.PlanStep) []web.PlanStep {
	var out []web.PlanStep
	for _, s := range steps {
		if n := len(out); s.Verb == "bake" && n > 0 && out[n-1].Verb == "shift" && out[n-1].What == s.What && out[n-1].Detail == "" {
			out[n-1].Detail = "bake " + strings.TrimPrefix(s.Detail, "for ")
			continue
		}
		if names := strings.Fields(s.What); (s.Verb == "start" || s.Verb == "retire") && len(names) > 3 && size(s.What) > whatColumn {
			s.What = fmt.Sprintf("%s … %s (%d)", names[0], names[len(names)-1], len(names))
		}
		out = append(out, s)
	}
	return out
}

// planSteps draws the numbered steps of a rollout.
func planSteps(b *strings.Builder, steps []web.PlanStep, what int) {
	for i, s := range steps {
		row := strings.Repeat(" ", 2+nameColumn) + pad(strconv.Itoa(i+1), 3) + pad(s.Verb, 8) + pad(clean(s.What), what+3) + clean(s.Detail)
		b.WriteString(strings.TrimRight(row, " ") + "\n")
	}
}

// rollback draws what a rollback did.
func (v view) rollback(r domain.RollbackResult) string {
	var b strings.Builder
	from, to := domain.ShortCommit(r.From), domain.ShortCommit(r.To)
	fmt.Fprintf(&b, "%s %s: %s -> %s\n", r.App, r.Environment, from, to)
	if !r.Warm && r.To == outside {
		fmt.Fprintf(&b, "  the app that was taken over still runs: it was asked first\n")
	} else if !r.Warm {
		fmt.Fprintf(&b, "  %s was not warm: it was started first\n", to)
	}
	facts := []string{"traffic moved in " + took(seconds(r.Moved))}
	if r.LastRequest > 0 {
		facts = append(facts, fmt.Sprintf("last request on %s after %s", from, took(seconds(r.LastRequest))))
	}
	facts = append(facts, plural(r.Failed, "request", "requests")+" failed")
	b.WriteString("  " + strings.Join(facts, " · ") + "\n")
	open := ""
	if r.Open > 0 {
		open = fmt.Sprintf(" (%s)", plural(int64(r.Open), "open request", "open requests"))
	}
	fmt.Fprintf(&b, "  %s drains%s, then retires\n", from, open)
	said := clean(r.Sentence)
	switch {
	case said == "":
		said = "rolled back"
	case !strings.HasPrefix(strings.ToLower(said), "rolled back"):
		said = "rolled back. " + said
	}
	for _, l := range wrap(said, v.width) {
		b.WriteString(l + "\n")
	}
	return b.String()
}

// explanation draws why a delivery ended as it did.
func (v view) explanation(e domain.Explanation) string {
	var b strings.Builder
	number := fmt.Sprintf("#%d", e.Delivery)
	said := clean(e.Sentence)
	if !strings.HasPrefix(said, number) {
		said = number + " " + said
	}
	for _, l := range wrap(said, v.width) {
		b.WriteString(l + "\n")
	}
	for _, l := range e.Lines {
		for _, part := range hanging(cleanIndented(l), v.width-2) {
			b.WriteString(strings.TrimRight("  "+part, " ") + "\n")
		}
	}
	v.judged(&b, e)
	switch {
	case e.Replayed && e.Same:
		b.WriteString(orElse(clean(e.Detail), "replayed: the same verdict") + "\n")
	case e.Replayed:
		b.WriteString(v.paint.red(orElse(clean(e.Detail), "replayed: another verdict")) + "\n")
	default:
		b.WriteString(orElse(clean(e.Detail), "not replayed: there were no ticks to replay") + "\n")
	}
	return b.String()
}

// decisionColumn is where the text of a decision begins: after its time and its word.
const decisionColumn = 23

// hanging breaks a decision into lines of at most n columns; what follows stands beneath its text.
func hanging(l string, n int) []string {
	if size(l) <= n {
		return []string{l}
	}
	head := min(decisionColumn, len(l)-len(strings.TrimLeft(l, " ")))
	if head == 0 {
		head = decisionColumn
	}
	runes := []rune(l)
	lines := wrap(string(runes[head:]), n-head)
	for i := range lines {
		if i == 0 {
			lines[i] = string(runes[:head]) + lines[i]
		} else {
			lines[i] = strings.Repeat(" ", head) + lines[i]
		}
	}
	return lines
}

// cleanIndented cleans a line whose leading spaces matter.
func cleanIndented(l string) string {
	trimmed := strings.TrimLeft(l, " ")
	return l[:len(l)-len(trimmed)] + clean(trimmed)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
