package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Columns of a delivery's block.
const (
	nameColumn    = 19 // name of a stage, after the indent of two
	stateColumn   = 15 // state and how long it took, flush right
	summaryColumn = 2 + nameColumn + stateColumn + 3
)

// view is how a delivery is drawn.
type view struct {
	paint paint
	now   time.Time
	width int
	all   bool // steps, checks and notes too
	// away says that the server does not answer at the moment.
	away bool
	// attached adds the line that says how to leave.
	attached bool
}

// words says a state as people read it.
func words(s domain.DeliveryState) string {
	switch s {
	case domain.Running:
		return "now"
	case domain.RolledBackState:
		return "rolled back"
	default:
		return string(s)
	}
}

// delivery draws d as a block of lines, each at most v.width columns, with a line end after each.
func (v view) delivery(d domain.Delivery) string {
	var b strings.Builder
	line := func(s string) { b.WriteString(strings.TrimRight(s, " ") + "\n") }
	line(v.header(d))
	for _, l := range v.special(d) {
		line(l)
	}
	var then []string
	for _, s := range d.Stages {
		if s.State == domain.PendingStage {
			then = append(then, string(s.Name))
			continue
		}
		line(v.stage(d, s))
		if !v.all {
			for _, text := range flaky(s.Levels) {
				line("  " + strings.Repeat(" ", nameColumn) + v.paint.yellow(clip("flaky: "+text, v.width-2-nameColumn)))
			}
		}
		if v.all {
			for _, detail := range v.details(s) {
				line(detail)
			}
		}
	}
	if len(then) > 0 && !d.State.Final() {
		for i, l := range wrap(strings.Join(then, ", "), v.width-2-nameColumn) {
			name := ""
			if i == 0 {
				name = "then"
			}
			line("  " + v.paint.faint(pad(name, nameColumn)+l))
		}
	}
	for _, l := range v.wait(d) {
		line(l)
	}
	for _, l := range v.traffic(d) {
		line(l)
	}
	if v.all {
		for _, l := range v.lists(d) {
			line(l)
		}
	}
	for _, l := range v.end(d) {
		line(l)
	}
	if v.away {
		line(v.paint.yellow("server away, the delivery goes on"))
	}
	if v.attached && !d.State.Final() {
		line(v.paint.faint(fmt.Sprintf("ctrl-c leaves; the delivery goes on: belay show %d --follow", d.Number)))
	}
	return b.String()
}

func (v view) header(d domain.Delivery) string {
	end := v.now
	if d.Ended != nil {
		end = *d.Ended
	}
	spent := elapsed(end.Sub(d.Created))
	start := fmt.Sprintf("%s #%d  %s", d.App, d.Number, domain.ShortCommit(d.Commit))
	author := "  " + clean(d.Author)
	if subject := clean(d.Subject); subject != "" {
		room := v.width - size(start) - size(author) - size(spent) - 6
		start += fmt.Sprintf(" %q", clip(subject, max(room, 8)))
	}
	return v.paint.bold(ends(start+author, spent, v.width))
}

// special says what is not as in every other delivery.
func (v view) special(d domain.Delivery) []string {
	var lines []string
	if d.Urgent != "" {
		lines = append(lines, "  "+v.paint.yellow(pad("urgent", nameColumn)+clip(clean(d.Urgent), v.width-2-nameColumn)))
	}
	if d.From != "" {
		lines = append(lines, "  "+pad("taken over", nameColumn)+clip(clean(d.From), v.width-2-nameColumn-11)+", as stable")
	}
	return lines
}

// stage draws one row: name, state, how long it took, and what came of it.
func (v view) stage(d domain.Delivery, s domain.StageRecord) string {
	state := words(s.State)
	past := ""
	if s.State.Final() && s.State != domain.RolledBackState {
		past = v.spent(s)
	}
	if size(state)+size(past) >= stateColumn {
		past = "" // a long word leaves no room for it
	}
	row := "  " + v.paint.state(s.State, pad(string(s.Name), nameColumn)+state) +
		right(past, stateColumn-size(state)) + "   "
	if size(state) > stateColumn {
		row = "  " + v.paint.state(s.State, pad(string(s.Name), nameColumn)+state) + "   "
	}
	return row + clip(clean(v.summary(d, s)), v.width-summaryColumn)
}

func (v view) spent(s domain.StageRecord) string {
	if s.Started == nil {
		return ""
	}
	if s.Ended == nil {
		return elapsed(v.now.Sub(*s.Started))
	}
	return took(max(0, s.Ended.Sub(*s.Started)))
}

// summary says in a few words what came of a stage, or how far it is.
func (v view) summary(d domain.Delivery, s domain.StageRecord) string {
	if s.State.Final() && s.Summary != "" {
		if s.State == domain.RolledBackState {
			return strings.TrimPrefix(s.Summary, "rolled back: ") // the state says it
		}
		return s.Summary
	}
	if s.State == domain.WaitingState && d.Wait != nil {
		return d.Wait.Reason
	}
	if s.State == domain.Running || s.State == domain.WaitingState {
		for _, progress := range []string{v.rolling(s), levels(s), s.Summary, working(s)} {
			if progress != "" {
				return progress
			}
		}
		return v.spent(s)
	}
	if s.Summary == "" && s.Name == domain.Build && s.State == domain.DoneState {
		return shortDigest(d.Digest)
	}
	return s.Summary
}

// rolling says where the traffic is: 5 % since 5m 02s, then 50 % at 14:31.
func (v view) rolling(s domain.StageRecord) string {
	var last, next *domain.StepRecord
	var until *time.Time
	for i, step := range s.Steps {
		switch {
		case step.Verb == "shift" && step.State == domain.DoneState:
			last, next, until = &s.Steps[i], nil, nil
		case step.Verb == "bake" && next == nil && last != nil && step.State != domain.DoneState:
			until = step.Until
		case step.Verb == "shift" && next == nil:
			next = &s.Steps[i]
		}
	}
	if last == nil || last.Weight == nil {
		return v.watched(s)
	}
	text := percent(*last.Weight)
	if last.Ended != nil {
		text += " since " + elapsed(v.now.Sub(*last.Ended))
	}
	switch {
	case next != nil && next.Weight != nil && until != nil:
		text += fmt.Sprintf(", then %s at %s", percent(*next.Weight), clock(*until, v.now))
	case until != nil:
		text += ", until " + clock(*until, v.now)
	}
	return text
}

// watched says how much of a hold is over: 22m 10s of 1h00m, until 15:46.
func (v view) watched(s domain.StageRecord) string {
	for _, step := range s.Steps {
		if step.Verb == "bake" && step.State != domain.DoneState && step.Started != nil && step.Until != nil && step.Hold > 0 {
			return fmt.Sprintf("%s of %s, until %s", elapsed(v.now.Sub(*step.Started)), compact(seconds(step.Hold)), clock(*step.Until, v.now))
		}
	}
	return ""
}

// levels says how far the pyramid is: unit 353 · integration none · e2e now.
func levels(s domain.StageRecord) string {
	parts := make([]string, 0, len(s.Levels))
	for _, l := range s.Levels {
		part := l.Level + " "
		switch {
		case l.State == "done" && l.Counted:
			part += count(int64(l.Passed))
		case l.State == "failed" && l.Counted:
			part += plural(int64(l.Failed), "failed", "failed")
		default:
			part += l.State
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " · ")
}

// working names the step that runs: start next web/0.
func working(s domain.StageRecord) string {
	for _, step := range s.Steps {
		if step.State == domain.Running {
			return clean(stepText(step))
		}
	}
	return ""
}

func stepText(step domain.StepRecord) string {
	parts := []string{step.Verb}
	if step.Release != "" {
		parts = append(parts, string(step.Release))
	}
	if step.Instance != "" {
		parts = append(parts, step.Instance)
	}
	if step.Weight != nil {
		parts = append(parts, percent(*step.Weight))
	}
	switch {
	case step.Hold > 0 && step.Proved:
		parts = append(parts, "until proved within", compact(seconds(step.Hold)))
	case step.Hold > 0:
		parts = append(parts, "for", compact(seconds(step.Hold)))
	}
	return strings.Join(parts, " ")
}

// traffic draws the table of stable and next while there is something to compare, and what the last bake said of it.
func (v view) traffic(d domain.Delivery) []string {
	t := d.Traffic
	if t == nil || t.Next == nil || d.State == domain.DoneState {
		return nil
	}
	row := func(name string, cell func(domain.SideTraffic) string, unit string) string {
		first := absent
		if t.Stable != nil {
			first = cell(*t.Stable)
		}
		return "  " + pad(name, 17) + right(first, 19) + right(cell(*t.Next), 19) + unit
	}
	lines := []string{
		row("", func(s domain.SideTraffic) string { return domain.ShortCommit(s.Commit) }, ""),
		row("requests", func(s domain.SideTraffic) string { return count(s.Requests) }, ""),
		row("errors", func(s domain.SideTraffic) string { return share(s.Errors, s.Requests) }, ""),
		row("p50 / p95 / p99", func(s domain.SideTraffic) string {
			if s.P50 <= 0 && s.P95 <= 0 && s.P99 <= 0 {
				return absent
			}
			return milliseconds(s.P50) + " / " + milliseconds(s.P95) + " / " + milliseconds(s.P99)
		}, "  ms"),
	}
	stable := absent
	if t.Stable != nil {
		stable = domain.ShortCommit(t.Stable.Commit)
	}
	lines[0] = v.paint.faint("  " + strings.Repeat(" ", 17) + right("stable "+stable, 19) +
		right("next "+domain.ShortCommit(t.Next.Commit), 19))
	evidence, said := heard(d)
	if bar := v.evidenceBar(evidence.Evidence, evidence.Needed); bar != "" {
		lines = append(lines, "  "+bar)
	}
	if d.Outcome != nil && d.Outcome.Sentence != "" {
		said = "" // the last line says it
	}
	for _, l := range wrap(clean(said), v.width-2) {
		lines = append(lines, "  "+l)
	}
	return lines
}

// heard is the judge's word, as of now while production's bake runs, and what is said of it.
func heard(d domain.Delivery) (j domain.Judged, said string) {
	running := false
	for _, step := range bakes(d) {
		running = step.State == domain.Running
		if step.Needed > 0 {
			j.Evidence, j.Needed = step.Evidence, step.Needed
		}
		if step.Message != "" || running {
			said = step.Message
		}
	}
	if t := d.Traffic; t != nil && t.Judged != nil && (running || j.Needed == 0) {
		j, said = *t.Judged, orElse(said, t.Judged.Sentence)
	}
	return j, said
}

// bakes are production's bakes that have begun, in their order.
func bakes(d domain.Delivery) []*domain.StepRecord {
	var list []*domain.StepRecord
	for _, s := range d.Stages {
		if s.Name == domain.DeployStaging || s.Name == domain.VerifyStaging {
			continue
		}
		for i, step := range s.Steps {
			if step.Verb == "bake" && step.Started != nil {
				list = append(list, &s.Steps[i])
			}
		}
	}
	return list
}

// wait draws what a delivery waits for. Every wait has an owner and an end.
func (v view) wait(d domain.Delivery) []string {
	if d.Wait == nil || d.State.Final() {
		return nil
	}
	w := *d.Wait
	reason, _, asks := strings.Cut(clean(w.Reason), " belay approve ") // the commands stand in a line of their own
	text := "waits: " + reason
	if size(clean(w.Reason)) <= v.width-summaryColumn &&
		slices.ContainsFunc(d.Stages, func(s domain.StageRecord) bool { return s.State == domain.WaitingState }) {
		text = "waits" // the row says for what
	}
	if w.Owner != "" {
		text += " · " + clean(w.Owner) + " can end it"
	}
	if !w.Deadline.IsZero() {
		text += " · expires " + clock(w.Deadline, v.now)
	}
	var lines []string
	for _, l := range wrap(text, v.width-6) {
		lines = append(lines, "      "+v.paint.yellow(l))
	}
	if asks || openApprovals(d) != nil {
		lines = append(lines, fmt.Sprintf("      yes: belay approve %d      no: belay reject %d --reason …", d.Number, d.Number))
	}
	for _, g := range d.Gates {
		if g.State != "passed" {
			lines = append(lines, "      "+clip(strings.TrimRight(pad(g.Name, 12)+pad(g.State, 10)+clean(g.Detail), " "), v.width-6))
		}
	}
	return lines
}

// end says how a delivery ended.
func (v view) end(d domain.Delivery) []string {
	if !d.State.Final() {
		return nil
	}
	var lines []string
	for _, l := range wrap(clean(sentence(d)), v.width) {
		lines = append(lines, v.paint.state(d.State, l))
	}
	return lines
}

// sentence is the end of a delivery, beginning with its state.
func sentence(d domain.Delivery) string {
	state := words(d.State)
	said := ""
	if d.Outcome != nil {
		said = d.Outcome.Sentence
		if d.Outcome.Hint != "" {
			said += " · " + d.Outcome.Hint
		}
	}
	if said == "" {
		for _, s := range d.Stages {
			if s.State == domain.FailedState {
				said = strings.TrimSuffix(string(s.Name)+": "+s.Summary, ": ")
			}
		}
	}
	switch {
	case said == "":
		return state
	case strings.HasPrefix(strings.ToLower(said), state):
		return said
	default:
		return state + ": " + said
	}
}
