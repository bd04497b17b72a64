package torture

import (
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// scenario is one release and what must become of it.
type scenario struct {
	name, mode string
	ends       []end
	// breaks says that the release itself cuts or hangs requests, so that not each failure is an answer of the app.
	breaks bool
	// taints says that what comes next must not be compared with this release, should it be done.
	taints bool
	// needs names a part of the app without which the scenario makes no sense.
	needs string
}

// end is one way in which a delivery may end, and by what: the first words of the reason in the outcome, or any of them.
type end struct {
	state domain.DeliveryState
	by    []string
}

var (
	done     = []end{{domain.DoneState, nil}}
	inStage3 = []end{{domain.FailedState, []string{"start in staging", "check in staging", "staging"}}}
	atZero   = []end{{domain.FailedState, []string{"start in production", "check at 0 %", "capacity"}}}
)

func back(by ...string) []end { return []end{{domain.RolledBackState, by}} }

// production keeps a behaviour from staging, so that it is production that has to catch it.
const production = " only=production"

// scenarios are all that are played. A release that fails in staging never touches production; one that only shows in
// production fails before it gets traffic, or is taken back.
var scenarios = []scenario{
	{name: "good", mode: "do=good", ends: done},
	{name: "crash at start", mode: "do=crash", ends: inStage3},
	{name: "crash at start, in production only", mode: "do=crash" + production, ends: atZero},
	{name: "never ready", mode: "do=unready", ends: inStage3},
	{name: "never ready, in production only", mode: "do=unready" + production, ends: atZero},
	{name: "ready, then dies", mode: "do=die after=2s" + production, breaks: true,
		ends: append(back("health", "crash loop", "errors", "check", "capacity"), atZero...)},
	{name: "2 % errors", mode: "do=errors rate=0.02", ends: back("check error rate")},
	{name: "30 % errors", mode: "do=errors rate=0.3", ends: back("errors", "check error rate")},
	{name: "100 % errors", mode: "do=errors rate=1", ends: back("errors", "check error rate")},
	{name: "100 % errors, for checks too", mode: "do=errors rate=1 checks=yes", ends: inStage3},
	{name: "100 % errors, for checks too, in production only", mode: "do=errors rate=1 checks=yes" + production, ends: atZero},
	{name: "one endpoint only", mode: "do=errors rate=1 path=/api/pay", ends: back("errors", "check error rate")},
	{name: "one segment only, by header", mode: "do=errors rate=1 plan=gold", ends: back("errors", "check error rate")},
	{name: "one segment only, by cookie", mode: "do=errors rate=1 country=nl", ends: back("errors", "check error rate")},
	{name: "a critical endpoint that nobody visits", mode: "do=errors rate=1 path=/api/deep after=4s" + production,
		ends: back("critical", "check deep")},
	{name: "slow", mode: "do=slow rate=1 ms=600", ends: back("check response time")},
	{name: "slow tail, 5 % of the requests", mode: "do=slow rate=0.05 ms=600", taints: true, // p95 is just where it bends
		ends: append(back("check response time"), done...)},
	{name: "slow tail, 10 % of the requests", mode: "do=slow rate=0.1 ms=600", ends: back("check response time")},
	{name: "leak: errors after 8 s", mode: "do=errors rate=0.5 after=8s" + production, ends: back("errors", "check error rate")},
	{name: "leak: memory after 2 s", mode: "do=eat after=2s" + production, breaks: true, needs: "memory",
		ends: append(back("health", "crash loop", "errors", "check", "capacity"), atZero...)},
	{name: "eats memory", mode: "do=eat", needs: "memory", breaks: true, ends: inStage3},
	{name: "wrong port", mode: "do=port", ends: inStage3},
	{name: "wrong port, in production only", mode: "do=port" + production, ends: atZero},
	{name: "ignores TERM", mode: "do=good ignoreterm", ends: done},
	{name: "ignores TERM and fails", mode: "do=errors rate=1 ignoreterm", ends: back("errors", "check error rate")},
	{name: "forks away", mode: "do=fork", ends: inStage3},
	{name: "forks away, in production only", mode: "do=fork" + production, breaks: true, // what it left serves for a moment
		ends: append(back("capacity", "health", "crash loop", "errors", "check"), atZero...)},
	{name: "floods its log", mode: "do=flood mb=120" + production, ends: done},
	{name: "hangs after 5 s", mode: "do=hang after=5s" + production, breaks: true, ends: back("health", "errors", "check", "capacity")},
	{name: "worker cannot start", mode: "do=good worker=crash", needs: "worker", ends: inStage3},
	{name: "worker cannot start, in production only", mode: "do=good worker=crash" + production, needs: "worker",
		ends: append(back("start in production"), atZero...)},
	{name: "worker dies after 2 s", mode: "do=good worker=die after=2s" + production, needs: "worker",
		ends: append(back("health", "crash loop", "check"), atZero...)},
	{name: "worker stalls after 1 s", mode: "do=good worker=stall after=1s" + production, needs: "worker",
		ends: back("health", "crash loop", "check")},
}

// named returns the scenarios with these names, or all.
func named(names ...string) []scenario {
	if len(names) == 0 {
		return scenarios
	}
	var list []scenario
	for _, name := range names {
		list = append(list, scenarios[slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })])
	}
	return list
}

// allows reports whether a delivery may end like this. Whatever limit a release breaks, the judge may see it first.
func (s scenario) allows(state domain.DeliveryState, by string) bool {
	return slices.ContainsFunc(s.ends, func(e end) bool {
		return e.state == state && (len(e.by) == 0 || slices.ContainsFunc(e.by, func(b string) bool {
			compared := b == "errors" || b == "latency" || b == "check error rate" || b == "check response time"
			return strings.HasPrefix(by, b) || by == "judge" && compared
		}))
	})
}

// why names what ended a delivery in one or two words, from its outcome: the trigger, the check, or the step and where.
func why(d domain.Delivery) string {
	if d.State == domain.DoneState || d.Outcome == nil {
		return ""
	}
	s, at := d.Outcome.Sentence, stageOf(d)
	for _, known := range []struct{ text, name string }{
		{"If next were no worse, evidence this strong", "judge"},
		{"no guarantee: compared with history", "judge"},
		{"health checks in a row", "health"},
		{"times by itself", "crash loop"},
		{"requests to next failed in the last", "errors"},
		{"more than chance explains", "errors"},
		{"p95 of next was", "latency"},
		{"the critical check", "critical"},
	} {
		if d.State == domain.RolledBackState && strings.Contains(s, known.text) {
			return known.name
		}
	}
	_, check, isCheck := strings.Cut(s, "check ")
	check, _, _ = strings.Cut(check, ":")
	staging := at == domain.DeployStaging || at == domain.VerifyStaging
	switch {
	case strings.Contains(s, "next has healthy instances for") && !staging:
		return "capacity"
	case isCheck && d.State == domain.RolledBackState:
		return "check " + check
	case isCheck && staging:
		return "check in staging"
	case isCheck:
		return "check at 0 %"
	case staging && failedStep(d) == "start":
		return "start in staging"
	case failedStep(d) == "start":
		return "start in production"
	case staging:
		return "staging"
	}
	return "other: " + s
}

// stageOf is the stage in which a delivery ended.
func stageOf(d domain.Delivery) domain.Stage {
	at := domain.Build
	for _, s := range d.Stages {
		if s.State != domain.PendingStage {
			at = s.Name
		}
	}
	return at
}

// failedStep is the verb of the step that failed first.
func failedStep(d domain.Delivery) string {
	for _, s := range d.Stages {
		for _, step := range s.Steps {
			if step.State == domain.FailedState {
				return step.Verb
			}
		}
	}
	return ""
}
