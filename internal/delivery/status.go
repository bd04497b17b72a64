package delivery

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
)

// figuresOver is the span of the figures that status shows as now.
const figuresOver = 5 * time.Minute

// Status says what runs where, since when, and how it compares with before.
func (s *Service) Status(ctx context.Context, app string) (domain.AppStatus, error) {
	st := domain.AppStatus{App: app, InFlight: []domain.InFlight{}, Waits: []domain.Wait{}}
	if _, err := s.ports.Store.Delivery(ctx, app, 0); err != nil {
		return st, err
	}
	var err error
	if st.Hold, err = s.ports.Store.Hold(ctx, app); err != nil {
		return st, err
	}
	st.Held = st.Hold != nil
	if st.Freeze, err = s.frozen(ctx, app); err != nil {
		return st, err
	}
	for _, env := range domain.Environments {
		e, err := s.environment(ctx, app, env)
		if err != nil {
			return st, err
		}
		st.Environments = append(st.Environments, e)
	}
	active, err := s.ports.Store.ActiveDeliveries(ctx)
	for _, d := range active {
		if d.App != app {
			continue
		}
		st.InFlight = append(st.InFlight, inFlight(d))
		if d.Wait != nil {
			st.Waits = append(st.Waits, *d.Wait)
		}
	}
	return st, err
}

func inFlight(d domain.Delivery) domain.InFlight {
	f := domain.InFlight{Delivery: d.Number, Commit: d.Commit, State: d.State, Since: d.Created, Stage: domain.Build}
	for _, row := range d.Stages {
		if row.Started != nil && row.State != domain.PendingStage {
			f.Stage, f.Since = row.Name, *row.Started
		}
	}
	return f
}

func (s *Service) environment(ctx context.Context, app string, env domain.Environment) (domain.EnvironmentStatus, error) {
	e := domain.EnvironmentStatus{Name: env}
	slot, err := s.ports.Store.Slot(ctx, app, env)
	if err != nil {
		return e, err
	}
	if slot.Stable == "" {
		e.Rollback.Reason = "nothing runs here yet"
		return e, nil
	}
	rel, err := s.ports.Store.Release(ctx, slot.Stable)
	if err != nil {
		return e, err
	}
	if e.Detail, err = s.ports.Runner.List(ctx, app, env); err != nil {
		return e, err
	}
	if e.Instances.Healthy, e.Instances.Wanted, err = s.health(ctx, rel); err != nil {
		return e, err
	}
	e.Delivery, e.Since = rel.Delivery, &slot.Since
	now := time.Now()
	e.Now = s.ports.Measurements.Figures(app, env, rel.ID, domain.Period{From: now.Add(-figuresOver), To: now})
	if e.Before, err = s.beforeThat(ctx, *e.Release); err != nil {
		return e, err
	}
	for _, w := range rel.Workloads {
		for _, h := range w.Hosts {
			e.Routes = append(e.Routes, h+strings.Join(w.Paths, ","))
		}
	}
	e.Rollback, err = s.wayBack(ctx, slot)
	rel.Workloads = nil // they hold values of secrets
	e.Release = &rel
	return e, err
}

// wayBack says whether one can go back now, where to, and how fast.
func (s *Service) wayBack(ctx context.Context, slot domain.Slot) (domain.RollbackStatus, error) {
	target, warm := slot.Previous, false
	if _, roll := s.openRollout(slot.App, slot.Environment); roll != nil && roll.Stable != nil {
		target, warm = roll.Stable.ID, true
	}
	if target == "" {
		return domain.RollbackStatus{Reason: "there is no release before this one"}, nil
	}
	rel, err := s.ports.Store.Release(ctx, target)
	return domain.RollbackStatus{Possible: err == nil, To: target, Commit: rel.Commit, Warm: warm}, err
}

// Logs writes what stages or instances logged.
func (s *Service) Logs(ctx context.Context, q LogQuery, w io.Writer) error {
	if q.Role != "" {
		return s.ports.Runner.Logs(ctx, q, w)
	}
	d, err := s.ports.Store.Delivery(ctx, q.App, q.Delivery)
	if err != nil {
		return err
	}
	q.Delivery = d.Number
	return s.ports.Logs.Copy(ctx, q, w, func() bool {
		d, err := s.ports.Store.Delivery(ctx, q.App, q.Delivery)
		return err != nil || d.State.Final()
	})
}

// Exec runs a one-off command in the stable release.
func (s *Service) Exec(ctx context.Context, q ExecRequest, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	if !q.Environment.Valid() {
		return 0, domain.Errorf(domain.Invalid, "unknown environment %q: there are two, staging and production", q.Environment)
	}
	if len(q.Argv) == 0 {
		return 0, domain.Errorf(domain.Invalid, "no command").WithHint("belay exec %s -- COMMAND", q.Environment)
	}
	slot, err := s.ports.Store.Slot(ctx, q.App, q.Environment)
	if err != nil {
		return 0, err
	}
	if slot.Stable == "" {
		return 0, domain.Errorf(domain.NotFound, "nothing runs in %s of %s", q.Environment, q.App)
	}
	rel, err := s.ports.Store.Release(ctx, slot.Stable)
	if err != nil {
		return 0, err
	}
	inst := rollout.InstanceOf(&rel, rel.Workloads[0].Role, 0)
	s.emit(ctx, domain.Event{Type: "exec.started", App: q.App, Environment: q.Environment, By: q.By, Data: map[string]any{"command": q.Argv[0]}})
	return s.ports.Runner.Exec(ctx, inst, q.Argv, stdin, stdout, stderr)
}

// Plan says what would happen if the file were shipped now. Nothing is touched.
func (s *Service) Plan(ctx context.Context, q PlanRequest) (PlanView, error) {
	file, err := parse("belay.yaml", q.File, s.options.Demo)
	if err != nil {
		return PlanView{}, err
	}
	app := string(file.App)
	last, err := s.lastDone(ctx, app, int(^uint(0)>>1))
	if err != nil {
		return PlanView{}, err
	}
	set := newSettings(file, last)
	v := PlanView{App: app, Commit: q.Commit, Loosened: set.Loosened, NotInForce: notInForce(file)}
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
	return v, nil
}

func rolesOf(f *config.File) []rollout.Role {
	return rollout.RolesOf(&domain.Release{Workloads: workloads(f, domain.Production)})
}

// planRows prints the seven rows; the steps stand beneath Deploy production.
func planRows(f *config.File, set settings, fleet rollout.Fleet) ([]PlanRow, float64) {
	plan := rollout.New(fleet, set.plan(domain.Production))
	checks := plural(len(f.Verify.Checks), "check") + " beside the built-in ones"
	rows := make([]PlanRow, 0, len(Stages))
	for _, s := range Stages {
		row := PlanRow{Stage: s.Name}
		switch s.Name {
		case domain.Build:
			row.Summary = buildSummary(f)
		case domain.Test:
			row.Summary = levelsSummary(f)
		case domain.DeployStaging:
			row.Summary = "blue-green, the same steps"
		case domain.VerifyStaging:
			row.Summary = fmt.Sprintf("%s · bake %s", checks, domain.Span(set.StagingHold))
		case domain.DeployProduction:
			row.Summary = "gates: not held, no freeze, staging verified and healthy"
		case domain.VerifyProduction:
			row.Summary = fmt.Sprintf("error rate < %s, p95 < baseline + %s, %s", rate(set.VerifyErrorRate), rate(set.VerifyLatency), checks)
		case domain.Monitor:
			row.Summary = fmt.Sprintf("%s at 100 %%, stable stays warm", domain.Span(set.Rollout.Hold))
		}
		row.Steps = planSteps(plan, s.Name)
		rows = append(rows, row)
	}
	return rows, (set.Rollout.Hold + set.StagingHold).Seconds()
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
