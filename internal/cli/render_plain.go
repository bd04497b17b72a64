package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// utc writes the time of a plain line.
func utc(t time.Time) string { return t.UTC().Format("15:04:05Z") }

// changesRow reports whether an event of this type changes what the rows of a delivery say for good.
func changesRow(kind string) bool {
	switch kind {
	case "stage.done", "stage.failed", "gate.waiting", "gate.refused":
		return true
	}
	return strings.HasPrefix(kind, "delivery.") && kind != "delivery.started"
}

// plain writes an event as one line, "" when it is no fact for people. The end of a delivery is not among them: it is told
// from what was observed.
func plain(e domain.Event, d domain.Delivery) string {
	said, _ := e.Data["sentence"].(string)
	said = clean(said)
	switch e.Type {
	case "delivery.started":
		return fmt.Sprintf("%s %s #%d %s started by %s%s\n", utc(e.At), d.App, d.Number, domain.ShortCommit(d.Commit),
			clean(orElse(d.ShippedBy, orElse(d.Author, "nobody known"))), prefixed(": ", clean(d.URL)))
	case "stage.done", "stage.failed":
		return plainStage(e, d, orElse(said, text(e, "summary")))
	case "gate.waiting", "gate.refused", "rollout.breach", "rollout.held", "rollout.resumed", "rollout.warning", "check.failed", "instance.unhealthy":
		_, word, _ := strings.Cut(e.Type, ".")
		return plainRow(e, d, told(word, orElse(said, fact(e))))
	case "rollout.verdict":
		if verdict := orElse(said, fact(e)); verdict != "" {
			return plainRow(e, d, verdict)
		}
	case "rollout.page":
		return plainRow(e, d, told("a person is needed", said))
	case "gate.passed":
		if e.By != "" { // somebody's word: every other gate is told by what comes behind it
			return plainRow(e, d, orElse(said, text(e, "detail")))
		}
	case "rollout.crowded":
		return plainRow(e, d, said)
	case "hold.lifted":
		return plainRow(e, d, "hold lifted: "+text(e, "reason"))
	case "rollout.rehearsed":
		e.Stage = domain.VerifyStaging
		return plainRow(e, d, "rollback rehearsed: "+wentBack(e, said))
	case "rollout.rolled_back":
		return plainRow(e, d, wentBack(e, said))
	case "rollout.shifted":
		return plainRow(e, d, orElse(said, shifted(e, d)))
	}
	return ""
}

// wentBack says where the traffic is again, and how fast it moved. Why it went back is told by the breach.
func wentBack(e domain.Event, said string) string {
	to := text(e, "to")
	took, ok := number(e, "took")
	if to == "" || !ok {
		return told("rolled back", said)
	}
	return fmt.Sprintf("back on %s in %s", domain.ShortCommit(to), within(took))
}

// told is a word and what was said, without saying the word twice.
func told(word, said string) string {
	switch {
	case said == "" || word == "":
		return word + said
	case strings.HasPrefix(strings.ToLower(said), word):
		return said
	default:
		return word + ": " + said
	}
}

// fact makes a sentence of the data of an event that has none.
func fact(e domain.Event) string {
	who, what := text(e, "name", "check", "step", "instance", "gate"), text(e, "message", "reason", "detail", "verdict")
	who = strings.Join(strings.Fields(who), " ") // steps are padded, to stand in columns
	switch {
	case e.Type == "rollout.verdict": // the step is the bake that the row is about
		return what
	case who == "" || what == "":
		return who + what
	default:
		return who + ": " + what
	}
}

// text returns the first of the keys that an event's data has a text under.
func text(e domain.Event, keys ...string) string {
	for _, key := range keys {
		if said, ok := e.Data[key].(string); ok && said != "" {
			return clean(said)
		}
	}
	return ""
}

// shifted says where the traffic went, and how long it stays there.
func shifted(e domain.Event, d domain.Delivery) string {
	weight, ok := number(e, "weight")
	if text(e, "state") == string(domain.FailedState) {
		return told("shift failed", text(e, "message"))
	}
	if !ok {
		return "shifted"
	}
	said := percent(weight)
	if hold := holdAt(d, e.Stage, weight); hold > 0 {
		said += " for " + compact(seconds(hold))
	}
	return said
}

// holdAt returns how long the plan keeps a weight, in seconds, 0 when it does not say.
func holdAt(d domain.Delivery, stage domain.Stage, weight float64) float64 {
	for _, s := range d.Stages {
		for i, step := range s.Steps {
			if s.Name == stage && step.Verb == "shift" && step.Weight != nil && *step.Weight == weight && i+1 < len(s.Steps) && s.Steps[i+1].Verb == "bake" {
				return s.Steps[i+1].Hold
			}
		}
	}
	return 0
}

func number(e domain.Event, key string) (float64, bool) {
	f, ok := e.Data[key].(float64)
	return f, ok
}

func plainRow(e domain.Event, d domain.Delivery, text string) string {
	where := string(e.Stage)
	for _, s := range d.Stages {
		if where == "" && s.State != domain.PendingStage && s.State != domain.DoneState {
			where = string(s.Name) // the stage in which it happened
		}
	}
	if where == "" {
		where = orElse(string(e.Environment), d.App)
	}
	return fmt.Sprintf("%s %s%s\n", utc(e.At), pad(where, nameColumn), text)
}

// plainStage writes the row of a stage that ended: its state, how long it took, and what came of it.
func plainStage(e domain.Event, d domain.Delivery, said string) string {
	state := "done"
	if e.Type == "stage.failed" {
		state = "failed"
	}
	for _, s := range d.Stages {
		if s.Name != e.Stage || !s.State.Final() {
			continue
		}
		state = words(s.State)
		if s.Started != nil && s.Ended != nil {
			state += " " + compact(max(0, s.Ended.Sub(*s.Started)))
		}
		said = orElse(clean(s.Summary), said)
		if s.State == domain.RolledBackState {
			said = "" // the breach and the way back were told
		}
		if s.Name == domain.Build && s.State == domain.DoneState && said == "" {
			said = shortDigest(d.Digest)
		}
		if list := flaky(s.Levels); len(list) > 0 {
			said += prefixed(" · flaky: ", strings.Join(list, ", "))
		}
		break
	}
	return plainRow(e, d, strings.TrimSpace(state+" "+said))
}

// plainEnd writes the last line of a delivery.
func plainEnd(d domain.Delivery, now time.Time) string {
	if d.Ended != nil {
		now = *d.Ended
	}
	return fmt.Sprintf("%s %s\n", utc(now), clean(sentence(d)))
}
