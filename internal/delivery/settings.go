package delivery

import (
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
)

// settings are the limits that hold for one delivery, fixed when it begins: the stricter of its own file and the file of
// the last delivery that was done. A commit does not judge itself.
type settings struct {
	Guard           guard.Limits  `json:"guard"`
	VerifyErrorRate float64       `json:"verify_error_rate"`
	VerifyLatency   float64       `json:"verify_latency"`
	Monitor         time.Duration `json:"monitor"`
	StagingHold     time.Duration `json:"staging_hold"`
	Loosened        []string      `json:"loosened"`
}

// crashLoop is how often an instance of next may end by itself before it is taken for broken.
const crashLoop = 3

func newSettings(own, last *config.File) settings {
	effective, loosened := config.Stricter(own, last)
	if loosened == nil {
		loosened = []string{}
	}
	return settings{
		Guard: guard.Limits{
			ErrorRate: float64(effective.Guard.ErrorRate.Rate), ErrorFor: time.Duration(effective.Guard.ErrorRate.For),
			Latency: float64(effective.Guard.Latency), LatencyFor: config.GuardLatencyFor,
			LatencyLeast: config.GuardLatencyRequests, FailedProbes: int(effective.Guard.FailedProbes),
			WarmUp: config.WarmUp, CrashLoop: crashLoop, Silence: config.NoTicksHold,
		},
		VerifyErrorRate: float64(effective.Verify.ErrorRate),
		VerifyLatency:   float64(effective.Verify.Latency),
		Monitor:         time.Duration(effective.Monitor.For),
		StagingHold:     time.Duration(effective.Rollout.StagingHold),
		Loosened:        loosened,
	}
}

// hold is how long the last bake of an environment takes.
func (s settings) hold(env domain.Environment) time.Duration {
	if env == domain.Staging {
		return s.StagingHold
	}
	return s.Monitor
}

// parse reads belay.yaml; any error in it is one refusal with every finding.
func parse(name string, text []byte, demo bool) (*config.File, error) {
	file, findings := config.Parse(name, text, config.Options{Demo: demo})
	if !config.Failed(findings, false) {
		return file, nil
	}
	var report strings.Builder
	if err := config.Format(&report, findings, false); err != nil {
		return nil, err
	}
	return nil, domain.Errorf(domain.Invalid, "%s", strings.TrimSpace(report.String()))
}

// workloads are the roles that this version runs, resolved for an environment. Roles with a schedule and singletons are
// accepted in the file and listed as not in force.
func workloads(f *config.File, env domain.Environment) []domain.Workload {
	var list []domain.Workload
	for _, w := range config.Workloads(f, env) {
		if w.Kind == domain.Web || w.Kind == domain.Worker {
			traffic(&w, f)
			list = append(list, w)
		}
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
