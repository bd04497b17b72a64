package delivery

import (
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/rollout"
)

// settings are the limits that hold for one delivery, fixed when it begins: the stricter of its own file and the file of
// the last delivery that was done. A commit does not judge itself.
type settings struct {
	Guard guard.Limits `json:"guard"`
	// Judge is what production's release is held to, without what was before it; staging is compared without its latency.
	Judge           judge.Config `json:"judge"`
	VerifyErrorRate float64      `json:"verify_error_rate"`
	VerifyLatency   float64      `json:"verify_latency"`
	// Rollout is how production's plan is made; staging's holds are all StagingHold.
	Rollout     rollout.Settings `json:"rollout"`
	StagingHold time.Duration    `json:"staging_hold"`
	Undecided   config.Undecided `json:"undecided"`
	Loosened    []string         `json:"loosened"`
	// Raised is what the server's policy changed.
	Raised []string `json:"raised,omitempty"`
}

// crashLoop is how often an instance of next may end by itself before it is taken for broken.
const crashLoop = 3

// newSettings returns the limits, and the file that a delivery is held to.
func newSettings(own, last *config.File, floors domain.Floors) (settings, *config.File) {
	effective, loosened, raised := effective(own, last, floors)
	return settings{
		Guard: guard.Limits{
			ErrorRate: float64(effective.Guard.ErrorRate.Rate), ErrorFor: time.Duration(effective.Guard.ErrorRate.For),
			Latency: float64(effective.Guard.Latency), LatencyFor: config.GuardLatencyFor,
			LatencyLeast: config.GuardLatencyRequests, FailedProbes: int(effective.Guard.FailedProbes),
			WarmUp: config.WarmUp, CrashLoop: crashLoop, Silence: config.NoTicksHold,
			Blame: float64(effective.Guard.FalseRollbacks) / config.BlameLooks,
		},
		Judge:           effective.Judge(),
		VerifyErrorRate: float64(effective.Verify.ErrorRate),
		VerifyLatency:   float64(effective.Verify.Latency),
		Rollout:         rolloutSettings(effective),
		StagingHold:     time.Duration(effective.Rollout.StagingHold),
		Undecided:       effective.Guard.Undecided,
		Loosened:        loosened,
		Raised:          raised,
	}, effective
}

// urgent shortens the holds of the steps, but not below the floor of the server's policy; Monitor stays as long as it is.
func (s settings) urgent(floor time.Duration) settings {
	bake := max(config.UrgentBake, floor)
	s.Rollout.Soak = min(s.Rollout.Soak, bake)
	s.Rollout.Steps = slices.Clone(s.Rollout.Steps)
	for i := range s.Rollout.Steps {
		s.Rollout.Steps[i].Hold = min(s.Rollout.Steps[i].Hold, bake)
	}
	return s
}

// rolloutSettings are what the file says about the plan.
func rolloutSettings(f *config.File) rollout.Settings {
	s := rollout.Settings{
		Strategy: rollout.Strategy(f.Rollout.Strategy), Holdback: weightOf(f.Monitor.Holdback), Soak: f.Rollout.MinSoak.D(),
		Hold: f.Monitor.For.D(),
	}
	for _, step := range f.Rollout.Steps {
		s.Steps = append(s.Steps, rollout.Weight{Weight: weightOf(step.Weight), Hold: step.For, Proved: step.Proved})
	}
	return s
}

// weightOf is a percentage in the unit of weights.
func weightOf(p config.Percent) int { return int(math.Round(float64(p) * domain.WeightAll)) }

// plan is what an environment's plan is made of. Staging moves the same way and only holds shorter.
func (s settings) plan(env domain.Environment) rollout.Settings {
	p := s.Rollout
	if env != domain.Staging {
		return p
	}
	p.Hold, p.Soak = s.StagingHold, min(p.Soak, s.StagingHold)
	p.Steps = slices.Clone(p.Steps)
	for i := range p.Steps {
		p.Steps[i].Hold = min(p.Steps[i].Hold, s.StagingHold)
	}
	return p
}

// judge is what an environment's release is held to.
func (s settings) judge(env domain.Environment) judge.Config {
	c, p := s.Judge, s.plan(env)
	if env == domain.Staging {
		c.Margin = 0 // its latency under synthetic load says nothing
	}
	watched := p.Hold
	for _, step := range p.Steps {
		watched += step.Hold
	}
	c.Minutes = max(1, int(math.Ceil(watched.Minutes())))
	return c
}

// planned is the name of a file that comes without its folder.
const planned = "belay.yaml of the plan"

// parse reads belay.yaml; any error in it is one refusal with every finding.
func parse(name string, text []byte, demo bool) (*config.File, error) {
	options := config.Options{Demo: demo}
	if name != planned {
		options.Folder = path.Dir(name)
	}
	file, findings := config.Parse(name, text, options)
	if !config.Failed(findings, false) {
		return file, nil
	}
	var report strings.Builder
	if err := config.Format(&report, findings, false); err != nil {
		return nil, err
	}
	return nil, domain.Errorf(domain.Invalid, "%s", strings.TrimSpace(report.String()))
}

// workloads are the roles of a file, resolved for an environment.
func workloads(f *config.File, env domain.Environment) []domain.Workload {
	list := config.Workloads(f, env)
	for i := range list {
		traffic(&list[i], f)
	}
	return list
}

func notInForce(f *config.File) []string {
	var list []string
	for _, n := range config.NotInForce(f) {
		list = append(list, n.Message)
	}
	return list
}

func itoa(n int) string { return strconv.Itoa(n) }
