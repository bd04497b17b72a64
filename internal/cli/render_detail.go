package cli

import (
	"fmt"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// details draws all that is known of one stage, beneath its row.
func (v view) details(s domain.StageRecord) []string {
	var lines []string
	column := nameColumn - 4
	for _, c := range s.Checks {
		column = min(40, max(column, size(c.Name)+2))
	}
	add := func(state domain.DeliveryState, name, text string) {
		row := "      " + v.paint.state(state, pad(clean(name), column)) + strings.TrimSpace(clean(text))
		lines = append(lines, row)
	}
	lines = append(lines, v.pyramid(s.Levels)...)
	for _, step := range s.Steps {
		text := words(step.State)
		if step.Started != nil && step.Ended != nil {
			text += "  " + took(max(0, step.Ended.Sub(*step.Started)))
		}
		name := stepText(step)
		if step.Verdict != "" || step.Message != "" {
			text += "  " + told(strings.ReplaceAll(step.Verdict, "_", " "), step.Message)
		}
		for i, l := range wrap(clean(text), v.width-34) {
			if i > 0 {
				name = ""
			}
			lines = append(lines, "      "+v.paint.state(step.State, pad(name, 26))+"  "+l)
		}
	}
	for _, c := range s.Checks {
		text := c.State
		if c.Took > 0 {
			text += "  " + took(seconds(c.Took))
		}
		if c.Message != "" {
			text += "  " + c.Message
		}
		add(checkState(c.State), c.Name, text)
	}
	for _, n := range s.Notes {
		for i, l := range wrap(clean(n), v.width-12) {
			if i == 0 {
				l = "note  " + l
			} else {
				l = "      " + l
			}
			lines = append(lines, "      "+v.paint.faint(l))
		}
	}
	return lines
}

func levelState(s string) domain.DeliveryState {
	switch s {
	case "done":
		return domain.DoneState
	case "failed":
		return domain.FailedState
	default:
		return domain.WaitingState
	}
}

func checkState(s string) domain.DeliveryState {
	switch s {
	case "passed":
		return domain.DoneState
	case "failed":
		return domain.FailedState
	default:
		return domain.WaitingState
	}
}

// lists draws gates, checklist, what the commit loosened, and what is not in force.
func (v view) lists(d domain.Delivery) []string {
	var lines []string
	for _, g := range d.Gates {
		lines = append(lines, "  "+pad("gate "+g.Name, nameColumn+8)+g.State+prefixed("  ", clean(g.Detail)))
	}
	for _, c := range d.Checklist {
		ok := v.paint.green("ok")
		if !c.OK {
			ok = v.paint.red("no")
		}
		lines = append(lines, "  "+pad("checklist", nameColumn)+ok+"  "+clean(c.Item)+prefixed(": ", clean(c.Detail)))
	}
	if back := rehearsed(d.Rehearsal); back != "" {
		lines = append(lines, "  "+pad("rollback", nameColumn)+back)
	}
	loosened := "nothing"
	if len(d.Loosened) > 0 {
		loosened = clean(strings.Join(d.Loosened, "; "))
	}
	lines = append(lines, "  "+pad("loosened", nameColumn)+loosened)
	for _, n := range d.NotInForce {
		lines = append(lines, "  "+pad("not in force yet", nameColumn)+clean(n))
	}
	if d.Digest != "" {
		lines = append(lines, "  "+pad("artifact", nameColumn)+d.Digest)
	}
	if d.URL != "" {
		lines = append(lines, "  "+pad("url", nameColumn)+clean(d.URL))
	}
	return lines
}

// rehearsed tells the rollback as staging did it; "" when there was none yet.
func rehearsed(h *domain.Rehearsal) string {
	switch {
	case h == nil:
		return ""
	case h.None != "":
		return "not rehearsed: " + clean(h.None)
	}
	text := fmt.Sprintf("rehearsed: %s · %s of %s requests failed", took(seconds(h.Moved)), count(h.Failed), count(h.Requests))
	if h.Start > 0 {
		text += " · cold it starts first, " + took(seconds(h.Start))
	}
	return text
}

// prefixed is text after a prefix, or nothing.
func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
