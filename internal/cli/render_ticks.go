package cli

import (
	"fmt"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/web"
)

// Columns of a tick.
const (
	clockColumn = 10
	countColumn = 16
)

// tickHead says whose ticks follow, and what they were held to.
func (v view) tickHead(d domain.Delivery, t web.Replayed) string {
	text := fmt.Sprintf("#%d %s in %s", d.Number, domain.ShortCommit(d.Commit), orElse(string(t.Environment), "its rollout"))
	if t.Held != nil {
		text += ", held to: " + harmText(*t.Held)
	}
	head := pad("utc", clockColumn) + right("weight", 6) + right("next failed", countColumn) + right("stable failed", countColumn+4) +
		right("evidence", 20) + "   judge"
	return strings.Join(wrap(clean(text), v.width), "\n") + "\n" + v.paint.faint("  "+head) + "\n"
}

// tick draws one stored second.
func (v view) tick(t web.Replayed) string {
	var next, stable judge.Total
	for i := range t.Strata {
		n, s := &t.Strata[i].Next, &t.Strata[i].Stable
		next.Requests, next.Errors = next.Requests+n.Requests, next.Errors+n.Errors
		stable.Requests, stable.Errors = stable.Requests+s.Requests, stable.Errors+s.Errors
	}
	_, weight := drawnIn(t.Tick)
	evidence := absent
	if t.Needed > 0 {
		evidence = ofNeeded(t.Evidence, t.Needed)
	}
	word := decisionWord(string(t.Decision))
	if t.Metric != "" && t.Decision != judge.Watch {
		word += ": " + clean(t.Metric)
	}
	row := pad(tickTime(t.At, t.N), clockColumn) + right(percent(weight), 6) + right(ofText(next), countColumn) + right(ofText(stable), countColumn+4) +
		right(evidence, 20) + "   " + word
	return strings.TrimRight("  "+clip(row, v.width-2), " ") + "\n"
}

// ofText writes errors and requests: 4 of 204.
func ofText(t judge.Total) string {
	if t.Requests == 0 && t.Errors == 0 {
		return absent
	}
	return count(t.Errors) + " of " + count(t.Requests)
}
