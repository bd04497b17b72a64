package delivery

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/rollout"
)

// Plan says what would happen if the file were shipped now. Nothing is touched.
func (s *Service) Plan(ctx context.Context, q PlanRequest) (PlanView, error) {
	file, err := parse(planned, q.File, s.options.Demo)
	if err != nil {
		return PlanView{}, err
	}
	app := string(file.App)
	last, err := s.lastDone(ctx, app, int(^uint(0)>>1))
	if err != nil {
		return PlanView{}, err
	}
	set, file := newSettings(file, last, s.policy().Floors(app))
	v := PlanView{App: app, Commit: q.Commit, Loosened: set.Loosened, Policy: set.Raised, NotInForce: notInForce(file)}
	if err := s.taken(ctx, file); domain.CodeOf(err) == domain.Conflict {
		v.Refused = err.Error()
	} else if err != nil {
		return v, err
	}
	fleet := rollout.Fleet{Environment: domain.Production, Next: rolesOf(file)}
	slot, err := s.ports.Store.Slot(ctx, app, domain.Production)
	if err != nil {
		return v, err
	}
	v.Rollback = "the first delivery: there is no release to go back to"
	if slot.Stable != "" {
		stable, err := s.ports.Store.Release(ctx, slot.Stable)
		if err != nil {
			return v, err
		}
		fleet.Stable = rollout.RolesOf(&stable)
		v.Stable, v.Delivery = stable.Commit, stable.Delivery
		v.Rollback = "rollback at any time to " + stable.Short()
	}
	if h, err := s.ports.Store.Hold(ctx, app); err != nil {
		return v, err
	} else if h != nil {
		v.Rollback += fmt.Sprintf(" · %s is held since #%d was rolled back; a new release that passes Verify staging lifts it", app, h.Delivery)
	}
	v.Rows, v.Earliest = planRows(file, set, fleet)
	if v.Rows[productionStage].Summary, err = s.gatesNow(ctx, app, file, set, fleet); err != nil {
		return v, err
	}
	if err := s.fitsWindow(ctx, app, file, set); domain.CodeOf(err) == domain.Refused {
		v.Refused = err.Error()
	} else if err != nil {
		return v, err
	}
	if err := s.planParity(ctx, &v, file, last); err != nil {
		return v, err
	}
	return v, s.prospects(ctx, &v, file, set, fleet)
}

func rolesOf(f *config.File) []rollout.Role {
	return rollout.RolesOf(&domain.Release{Workloads: workloads(f, domain.Production)})
}

// planRows prints the seven rows; the steps stand beneath Deploy production.
func planRows(f *config.File, set settings, fleet rollout.Fleet) ([]PlanRow, float64) {
	plan := rollout.New(fleet, set.plan(domain.Production))
	checks := "the built-in checks"
	if n := len(f.Verify.Checks); n > 0 {
		checks = plural(n, "check") + " beside the built-in ones"
	}
	rows := make([]PlanRow, 0, len(Stages))
	for _, s := range Stages {
		row := PlanRow{Stage: s.Name}
		switch s.Name {
		case domain.Build:
			row.Summary = buildSummary(f)
		case domain.Test:
			row.Summary = levelsSummary(f)
		case domain.DeployStaging:
			row.Summary = fmt.Sprintf("%s, each %s", set.plan(domain.Staging), domain.Span(set.StagingHold))
			if fleet.Stable == nil {
				row.Summary = "no stable yet: checks at 0 %, then all traffic at once"
			}
		case domain.VerifyStaging:
			row.Summary = fmt.Sprintf("%s · rollback rehearsed under %d requests/s", checks, config.RehearsalLoad)
			if fleet.Stable == nil {
				row.Summary = checks + " · no rollback to rehearse yet"
			}
		case domain.VerifyProduction:
			row.Summary = fmt.Sprintf("error rate < %s, p95 < baseline + %s, %s", rate(set.VerifyErrorRate), rate(set.VerifyLatency), checks)
		case domain.Monitor:
			row.Summary = monitorSummary(set, fleet)
		}
		row.Steps = planSteps(plan, s.Name)
		rows = append(rows, row)
	}
	return rows, holds(fleet, set).Seconds()
}

// monitorSummary says what Monitor watches and what stays on stable meanwhile.
func monitorSummary(set settings, fleet rollout.Fleet) string {
	text := domain.Span(set.Rollout.Hold)
	switch {
	case fleet.Stable == nil:
		return text + " at 100 %, fixed limits only: there is nothing to compare with"
	case set.Rollout.Strategy == rollout.StrategyRolling:
		return text + " at 100 %, stable's instances are stopped and stay unpacked: no guarantee, compared with history"
	case set.Rollout.Holdback == 0:
		return text + " at 100 %, stable stays warm: no guarantee, compared with history"
	default:
		return fmt.Sprintf("%s, %s stays on stable for the comparison; then shift 100 %%", text, rollout.Percent(set.Rollout.Holdback))
	}
}

// holds is the time that the bakes of both environments take, and the second way forward in staging.
func holds(fleet rollout.Fleet, set settings) (sum time.Duration) {
	staging := rollout.Fleet{Environment: domain.Staging, Stable: fleet.Stable, Next: fleet.Next}
	plans := []rollout.Plan{rollout.New(fleet, set.plan(domain.Production)), rollout.New(staging, set.plan(domain.Staging))}
	if staging.Stable != nil {
		plans[1] = plans[1][:plans[1].Settled()] // its last bake is that of the second way
		plans = append(plans, again(staging, set.plan(domain.Staging)))
	}
	for _, p := range plans {
		for _, step := range p {
			sum += step.Hold
		}
	}
	return sum
}

// prospects says what can be known beforehand of a delivery: whether there is room for it, what its traffic can show, and how
// long its rollback would take.
func (s *Service) prospects(ctx context.Context, v *PlanView, f *config.File, set settings, fleet rollout.Fleet) error {
	next := domain.Release{App: v.App, Environment: domain.Production, Commit: v.Commit, Workloads: workloads(f, domain.Production)}
	sum, err := s.ports.Runner.Capacity(ctx, next, set.Rollout.Surge())
	switch {
	case err != nil && domain.CodeOf(err) != domain.Refused:
		return err
	case err != nil:
		v.Refused = err.Error()
	default:
		v.Capacity = sum
	}
	if fleet.Stable == nil {
		return nil
	}
	slot, err := s.ports.Store.Slot(ctx, v.App, domain.Production)
	if err != nil {
		return err
	}
	now := time.Now()
	figures := s.ports.Measurements.Figures(v.App, domain.Production, slot.Stable, domain.Period{From: now.Add(-config.BaselineFor), To: now})
	v.LowTraffic = lowTraffic(f, set, rollout.New(fleet, set.plan(domain.Production)), figures)
	seconds, err := s.rehearsedSeconds(ctx, v.App, v.Delivery)
	if err != nil || seconds == nil {
		return err
	}
	v.RollbackSeconds = moment(*seconds) + " when it was last rehearsed in staging"
	return nil
}

// lowTraffic says what the first hold that ends upwards will see at the traffic of now, and what happens when that is not
// enough. A plan without such a hold never asks.
func lowTraffic(f *config.File, set settings, plan rollout.Plan, now *domain.Figures) string {
	i := slices.IndexFunc(plan, func(s rollout.Step) bool { return s.Proof })
	if i < 0 {
		return ""
	}
	first, rps, usual := plan[i], 0.0, 0.0
	if now != nil {
		rps, usual = now.RPS, now.ErrorRate
	}
	seen := int64(rps * first.Hold.Seconds() * float64(first.Weight) / domain.WeightAll)
	text := fmt.Sprintf("at %.1f requests/s %s for %s sees about %s", rps, rollout.Percent(first.Weight), domain.Span(first.Hold), requests(seen))
	if seen > 0 {
		text += ", which show " + shows(set, first, rps, usual)
	}
	flows := 0
	for _, c := range f.Verify.Checks {
		if c.HTTP != "" || !c.Run.Zero() {
			flows++
		}
	}
	switch {
	case seen >= config.LadderRequests:
		return text + fmt.Sprintf(": enough to go on without harm (%d)", config.LadderRequests)
	case flows > 0:
		return text + fmt.Sprintf(": the app's own flows (%d) are sent to next, %d times each", flows, config.LadderFlows)
	default:
		return text + fmt.Sprintf(": no flows are declared, so somebody is asked, and after %s without an answer it goes back", domain.Span(config.AskExpire))
	}
}

// shows says what a hold lets the judge see at a rate of requests of which so many usually fail.
func shows(set settings, step rollout.Step, rps, usual float64) string {
	side := func(weight int) (judge.Side, guard.Side) {
		n := int64(rps * step.Hold.Seconds() * float64(weight) / domain.WeightAll)
		k := int64(math.Round(usual * float64(n)))
		return judge.Side{Requests: n, Errors: k, Drawn: n, Failed: k}, guard.Side{Requests: n, Errors: k}
	}
	stratum, report := judge.Stratum{Weight: step.Weight}, guard.Report{}
	stratum.Next, report.Next = side(step.Weight)
	stratum.Stable, report.Stable = side(domain.WeightAll - step.Weight)
	j := judge.New(set.judge(domain.Production))
	j.Tick(judge.Tick{Boot: "plan", N: 1, Strata: []judge.Stratum{stratum}})
	said := j.Verdict()
	report.Judge = &said
	return report.Seen()
}

// planSteps joins neighbours of one verb into one line: start next/web/0 next/web/1.
func planSteps(plan rollout.Plan, stage domain.Stage) []PlanStep {
	var steps []PlanStep
	for _, s := range plan {
		if s.Stage != stage {
			continue
		}
		text := PlanStep{Verb: string(s.Verb), What: s.What()}
		switch s.Verb {
		case rollout.Shift:
			text.What = "next " + rollout.Percent(s.Weight)
		case rollout.Bake:
			text.What, text.Detail = "next "+rollout.Percent(s.Weight), "for "+domain.Span(s.Hold)
			if s.Proved {
				text.Detail = "until proved within " + domain.Span(s.Hold)
			}
		case rollout.Check:
			text.Detail = "at 0 %"
			if s.Traffic {
				text.Detail = "under traffic"
			}
		}
		if n := len(steps); n > 0 && steps[n-1].Verb == text.Verb && (s.Verb == rollout.Start || s.Verb == rollout.Retire) {
			steps[n-1].What += " " + text.What
			continue
		}
		steps = append(steps, text)
	}
	return steps
}

func buildSummary(f *config.File) string {
	var parts []string
	if text := strings.Join(strings.Fields(f.Build.Run.Text), " "); text != "" {
		parts = append(parts, text)
	}
	if n := len(f.Build.Lint); n > 0 {
		parts = append(parts, plural(n, "linter")+" beside it")
	}
	files := make([]string, len(f.Build.Files))
	for i, p := range f.Build.Files {
		files[i] = string(p)
	}
	return strings.Join(append(parts, "files "+strings.Join(files, ", ")), "; ")
}

func levelsSummary(f *config.File) string {
	var parts []string
	for _, l := range f.Test.Level() {
		text := l.Name + " " + l.Level.Run.Text
		if l.Level.None != "" {
			text = l.Name + " none: " + string(l.Level.None)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, " · ")
}
