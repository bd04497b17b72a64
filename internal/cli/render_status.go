package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// status draws what runs where. Now is the moment it was asked.
func (v view) status(s domain.AppStatus) string {
	var b strings.Builder
	cells := func(name, release, number, since, healthy, errors, p95 string) {
		row := pad(name, 21) + pad(release, 9) + pad(number, 6) + pad(since, 10) + pad(healthy, 9) + pad(errors, 18) + p95
		b.WriteString(strings.TrimRight(row, " ") + "\n")
	}
	cells(s.App, "release", "#", "since", "healthy", "errors (before)", "p95 (before)")
	for _, e := range s.Environments {
		if e.Release == nil {
			cells("  "+string(e.Name), "none", absent, absent, absent, absent, absent)
			continue
		}
		since := absent
		if e.Since != nil {
			since = age(v.now.Sub(*e.Since))
		}
		errors, p95 := figures(e.Now, e.Before)
		cells("  "+string(e.Name), e.Release.Short(), delivered(e.Delivery), since,
			fmt.Sprintf("%d/%d", e.Instances.Healthy, e.Instances.Wanted), errors, p95)
		if v.all {
			v.environment(&b, e)
		}
	}
	for _, e := range s.Environments {
		if e.Name != domain.Production || v.all {
			continue // with --all each environment has said it
		}
		v.jobs(&b, e, 2, nameColumn)
		if e.Release != nil {
			fmt.Fprintf(&b, "  %s%s\n", pad("rollback", nameColumn), back(e.Rollback))
		}
	}
	for i, f := range s.InFlight {
		name := ""
		if i == 0 {
			name = "in flight"
		}
		state := ""
		if f.State != domain.Running && f.State != "" {
			state = words(f.State) + ", "
		}
		evidence := ""
		if f.Judged != nil && f.Judged.Needed > 0 {
			evidence = ": evidence of harm " + ofNeeded(f.Judged.Evidence, f.Judged.Needed)
		}
		fmt.Fprintf(&b, "  %s#%d %s  %s, %s%s%s\n", pad(name, nameColumn), f.Delivery, domain.ShortCommit(f.Commit), f.Stage, state,
			elapsed(v.now.Sub(f.Since)), evidence)
	}
	v.stops(&b, s)
	return b.String()
}

// jobs writes a line per cron role: when it runs next, and what became of its last tick.
func (v view) jobs(b *strings.Builder, e domain.EnvironmentStatus, indent, column int) {
	for _, j := range e.Jobs {
		text := "next " + clock(j.Next, v.now)
		if wait := j.Next.Sub(v.now); wait > 0 {
			text += " in " + took(wait.Truncate(time.Second))
		}
		if j.Last == nil {
			text += " · never ran here"
		} else {
			text += " · last " + clock(j.Last.Tick, v.now) + " " + v.paint.state(jobState(j.Last.State), jobRun(*j.Last))
		}
		b.WriteString(strings.Repeat(" ", indent) + pad("job "+j.Role, column) + text + "\n")
	}
}

// jobRun says what became of a tick.
func jobRun(r domain.JobRun) string {
	text := string(r.State)
	if r.State == domain.JobFailed && r.Code != 0 {
		text += fmt.Sprintf(" with %d", r.Code)
	}
	if r.Started != nil && r.Ended != nil {
		text += " after " + took(max(0, r.Ended.Sub(*r.Started)))
	}
	return text + prefixed(": ", clean(r.Message))
}

func jobState(s domain.JobState) domain.DeliveryState {
	switch s {
	case domain.JobDone:
		return domain.DoneState
	case domain.JobFailed, domain.JobMissed:
		return domain.FailedState
	case domain.JobSkipped, domain.JobQueued:
		return domain.WaitingState
	default:
		return domain.Running
	}
}

// delivered writes the number of a delivery; - for a release that came without one.
func delivered(n int) string {
	if n == 0 {
		return absent
	}
	return strconv.Itoa(n)
}

// outside stands where the release of a taken-over app would have its commit.
const outside = "outside"

// back says whether one can go back, where to, and how fast.
func back(r domain.RollbackStatus) string {
	if !r.Possible {
		return "not possible" + prefixed(": ", clean(r.Reason))
	}
	text := "to " + domain.ShortCommit(r.Commit)
	switch {
	case r.Commit == outside:
		text = "to the app that was taken over, where it still answers"
	case r.Warm && r.Seconds != nil:
		text += ", warm, " + took(seconds(*r.Seconds)) + " in its rehearsal"
	case r.Warm:
		text += ", warm"
	case r.Seconds != nil:
		text += ", cold: it starts first, " + took(seconds(*r.Seconds))
	default:
		text += ", cold: it starts first"
	}
	return text + prefixed(" · ", clean(r.Reason))
}

// figures writes the error rate and the p95, each with what it was before.
func figures(now, before *domain.Figures) (errors, p95 string) {
	if now == nil {
		return absent, absent
	}
	errors, p95 = percent(now.ErrorRate), latency(now.P95)
	if before != nil {
		errors += " (" + percent(before.ErrorRate) + ")"
		p95 += " (" + latency(before.P95) + ")"
	}
	return errors, p95
}

// stops writes what keeps deliveries from going on: waits, freeze, hold.
func (v view) stops(b *strings.Builder, s domain.AppStatus) {
	waits := "nothing"
	if len(s.Waits) > 0 {
		waits = strconv.Itoa(len(s.Waits))
	}
	freeze, held := "none", "no"
	if s.Freeze != nil {
		freeze = v.paint.yellow("yes")
	}
	if s.Held {
		held = v.paint.red("yes")
	}
	fmt.Fprintf(b, "  %s%sfreeze  %s        held  %s\n", pad("waits", nameColumn), pad(waits, 15), freeze, held)
	for _, w := range s.Waits {
		for _, l := range wrap(fmt.Sprintf("waits: %s · %s · expires %s", clean(w.Reason), clean(w.Owner), clock(w.Deadline, v.now)), v.width-4) {
			b.WriteString("    " + l + "\n")
		}
	}
	if f := s.Freeze; f != nil {
		until := "until somebody thaws it"
		if f.Until != nil {
			until = "until " + stamp(*f.Until)
		}
		fmt.Fprintf(b, "    frozen by %s %s: %s\n", clean(f.By), until, clean(f.Reason))
	}
	if h := s.Hold; h != nil {
		text := "held"
		if h.Delivery != 0 {
			text += fmt.Sprintf(" since #%d", h.Delivery)
		}
		for _, l := range wrap(fmt.Sprintf("%s by %s: %s%s", text, clean(h.Owner), clean(h.Reason), prefixed(" · ", clean(h.WayOut))), v.width-4) {
			b.WriteString("    " + strings.TrimRight(l, " ") + "\n")
		}
	}
}

// environment draws the instances, routes and way back of one environment.
func (v view) environment(b *strings.Builder, e domain.EnvironmentStatus) {
	for _, i := range e.Detail {
		text := fmt.Sprintf("%s/%d", i.Role, i.Index)
		row := "      " + pad(text, 15) + pad(string(i.State), 11)
		if i.PID != 0 {
			row += pad("pid "+strconv.Itoa(i.PID), 13)
		}
		row += pad(plural(int64(i.Restarts), "restart", "restarts"), 13) + i.Addr + prefixed("  ", clean(i.Message))
		b.WriteString(strings.TrimRight(row, " ") + "\n")
	}
	for _, r := range e.Routes {
		b.WriteString("      " + pad("route", 15) + clean(r) + "\n")
	}
	if f := e.Now; f != nil {
		fmt.Fprintf(b, "      %s%s requests/s · p50 / p95 / p99  %s / %s / %s ms\n", pad("traffic", 15),
			trimZeros(strconv.FormatFloat(f.RPS, 'f', 1, 64)), milliseconds(f.P50), milliseconds(f.P95), milliseconds(f.P99))
	}
	v.jobs(b, e, 6, 15)
	b.WriteString("      " + pad("rollback", 15) + back(e.Rollback) + "\n")
}

// stamp writes a moment with its day and zone.
func stamp(t time.Time) string {
	t = t.Local()
	zone := t.Location().String()
	if zone == "Local" {
		zone, _ = t.Zone()
	}
	return t.Format("2 Jan 15:04 ") + zone
}
