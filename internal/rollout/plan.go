// Package rollout moves traffic from the stable release of an environment to the next one, and back.
//
// A strategy is a pure function from what runs to a Plan, and a plan is data: it prints, it is stored with the rollout, it
// is drawn as the timeline. One Engine runs every plan. Rollback is no undo log but a plan of its own, computed from what
// must be true.
package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Verb is what a step does. There are six.
type Verb string

// The verbs of a plan.
const (
	Start   Verb = "start"   // run an instance, until it is healthy
	Check   Verb = "check"   // run the verifications
	Migrate Verb = "migrate" // change the schema
	Shift   Verb = "shift"   // give next exactly this share of the traffic
	Bake    Verb = "bake"    // hold, while the guard watches
	Retire  Verb = "retire"  // drain and stop an instance
)

// Step is absolute: done twice it is the same as done once.
type Step struct {
	Stage domain.Stage `json:"stage"` // whose slice of the plan it belongs to
	Verb  Verb         `json:"verb"`
	Side  domain.Side  `json:"side,omitempty"`
	Role  string       `json:"role,omitempty"`
	Index int          `json:"index,omitempty"`
	// Weight is what next gets, in hundredths of a percent.
	Weight int           `json:"weight,omitempty"`
	Hold   time.Duration `json:"hold,omitempty"`
	// Traffic says whether the checks of a check step run under traffic or at 0 %.
	Traffic bool `json:"traffic,omitempty"`
	// Proof says that a bake is followed by a higher weight: low traffic alone does not end it. Proved lets it end before its
	// hold, when next is proved no worse.
	Proof  bool `json:"proof,omitempty"`
	Proved bool `json:"proved,omitempty"`
}

func (s Step) String() string {
	switch s.Verb {
	case Shift:
		return fmt.Sprintf("shift   next %s", Percent(s.Weight))
	case Bake:
		if s.Proved {
			return fmt.Sprintf("bake    next %s until proved within %s", Percent(s.Weight), domain.Span(s.Hold))
		}
		return fmt.Sprintf("bake    next %s for %s", Percent(s.Weight), domain.Span(s.Hold))
	case Check:
		if s.Traffic {
			return "check   next under traffic"
		}
		return "check   next at 0 %"
	default:
		return fmt.Sprintf("%-7s %s", s.Verb, s.What())
	}
}

// What names the step's object: next/web/0.
func (s Step) What() string {
	if s.Role == "" {
		return string(s.Side)
	}
	return fmt.Sprintf("%s/%s/%d", s.Side, s.Role, s.Index)
}

// Percent prints a weight as people write it: 5 %, 12.5 %, and a third as 33 %.
func Percent(weight int) string {
	if weight > 1000 && weight%50 != 0 {
		return fmt.Sprintf("%.0f %%", float64(weight)/(domain.WeightAll/100))
	}
	return fmt.Sprintf("%g %%", float64(weight)/(domain.WeightAll/100))
}

// Plan is the list of steps of one rollout, over all of its stages.
type Plan []Step

// Settled returns the index of the step after which there is no warm way back: the last bake or shift, whichever comes
// later. When it is done, next is stable.
func (p Plan) Settled() int {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i].Verb == Bake || p[i].Verb == Shift {
			return i
		}
	}
	return len(p) - 1
}

// FirstShift returns the index of the first step that gives next traffic, len(p) when none does.
func (p Plan) FirstShift() int {
	for i, s := range p {
		if s.Verb == Shift && s.Weight > 0 {
			return i
		}
	}
	return len(p)
}

// Fleet is what a strategy plans for: the roles of both releases.
type Fleet struct {
	Environment domain.Environment
	Stable      []Role // empty in a first delivery
	Next        []Role
}

// Role is one role of a release, as far as plans care.
type Role struct {
	Name      string
	Kind      domain.RoleKind
	Instances int
}

// RolesOf lists the roles of a release that a plan moves. Jobs with a schedule are not among them: they are started by
// their ticks.
func RolesOf(r *domain.Release) []Role {
	if r == nil {
		return nil
	}
	roles := make([]Role, 0, len(r.Workloads))
	for _, w := range r.Workloads {
		switch w.Kind {
		case domain.Cron:
		case domain.Singleton:
			roles = append(roles, Role{Name: w.Role, Kind: w.Kind, Instances: 1})
		default:
			roles = append(roles, Role{Name: w.Role, Kind: w.Kind, Instances: w.Instances})
		}
	}
	return roles
}

// Strategy says how next replaces stable.
type Strategy string

// The strategies.
const (
	StrategyBlueGreen Strategy = "blue-green"
	StrategyCanary    Strategy = "canary"
	StrategyRolling   Strategy = "rolling"
)

// Settings are what a plan is made of beside the fleet.
type Settings struct {
	Strategy Strategy      `json:"strategy"`
	Steps    []Weight      `json:"steps,omitempty"`    // of a canary, rising
	Holdback int           `json:"holdback,omitempty"` // what stays on stable until the end of the hold, as a weight
	Soak     time.Duration `json:"soak,omitempty"`     // between two instances of a rolling
	Hold     time.Duration `json:"hold"`               // of the last bake: Monitor in production, the staging hold in staging
}

// String says it as people do: canary 5 %, 50 %, rest.
func (s Settings) String() string {
	if s.Strategy != StrategyCanary || len(s.Steps) == 0 {
		return string(s.Strategy)
	}
	words := make([]string, 0, len(s.Steps)+1)
	for _, step := range s.Steps {
		words = append(words, Percent(step.Weight))
	}
	return string(s.Strategy) + " " + strings.Join(append(words, "rest"), ", ")
}

// Surge is how many instances of a role the plan runs beside stable's at once; 0 is all of them.
func (s Settings) Surge() int {
	if s.Strategy == StrategyRolling {
		return 1
	}
	return 0
}

// Weight is one step of a canary.
type Weight struct {
	Weight int           `json:"weight"`
	Hold   time.Duration `json:"hold"`
	Proved bool          `json:"proved,omitempty"` // ends earlier when next is proved no worse
}

// New makes the plan of a strategy.
func New(f Fleet, s Settings) Plan {
	switch s.Strategy {
	case StrategyCanary:
		return Canary(f, s)
	case StrategyRolling:
		return Rolling(f, s)
	default:
		return BlueGreen(f, s)
	}
}

// stages names the three stages of an environment that a plan spans. In staging the bake belongs to Verify staging.
func stages(e domain.Environment) (deploy, verify, watch domain.Stage) {
	if e == domain.Staging {
		return domain.DeployStaging, domain.VerifyStaging, domain.VerifyStaging
	}
	return domain.DeployProduction, domain.VerifyProduction, domain.Monitor
}
