package delivery

import (
	"context"
	"io"
	"strings"
	"time"

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
		f := inFlight(d)
		if r := s.find(app, d.Number); r != nil {
			f.Judged = r.heard()
		}
		st.InFlight = append(st.InFlight, f)
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
	if e.Before, err = s.beforeThat(ctx, rel); err != nil {
		return e, err
	}
	for _, w := range rel.Workloads {
		for _, h := range w.Hosts {
			e.Routes = append(e.Routes, h+strings.Join(w.Paths, ","))
		}
	}
	if e.Rollback, err = s.wayBack(ctx, slot); err != nil {
		return e, err
	}
	e.Jobs, err = s.ports.Jobs.Status(ctx, app, env)
	rel.Workloads = nil // they hold values of secrets
	e.Release = &rel
	return e, err
}

// wayBack says whether one can go back now, where to, and how fast.
func (s *Service) wayBack(ctx context.Context, slot domain.Slot) (domain.RollbackStatus, error) {
	target, warm := slot.Previous, false
	_, roll := s.openRollout(slot.App, slot.Environment)
	if roll != nil && roll.Stable != nil {
		target, warm = roll.Stable.ID, roll.Warm()
	}
	if target == "" {
		return domain.RollbackStatus{Reason: "there is no release before this one"}, nil
	}
	rel, err := s.ports.Store.Release(ctx, target)
	if err != nil {
		return domain.RollbackStatus{}, err
	}
	st := domain.RollbackStatus{Possible: true, To: target, Commit: rel.Commit, Warm: warm}
	if roll != nil {
		st.Seconds, err = s.rehearsedSeconds(ctx, slot.App, roll.Record.Delivery)
	} else {
		st.Seconds, err = s.startedSeconds(ctx, rel)
	}
	return st, err
}

// rehearsedSeconds is how long the rollback of a delivery took in staging; nil when it was not rehearsed.
func (s *Service) rehearsedSeconds(ctx context.Context, app string, number int) (*float64, error) {
	if number == 0 {
		return nil, nil
	}
	d, err := s.ports.Store.Delivery(ctx, app, number)
	if err != nil || d.Rehearsal == nil || d.Rehearsal.None != "" {
		return nil, err
	}
	return &d.Rehearsal.Moved, nil
}

// startedSeconds is how long the instances of a release took to start in its own delivery; nil when nobody knows.
func (s *Service) startedSeconds(ctx context.Context, rel domain.Release) (*float64, error) {
	if rel.Delivery == 0 {
		return nil, nil
	}
	d, err := s.ports.Store.Delivery(ctx, rel.App, rel.Delivery)
	if err != nil {
		return nil, err
	}
	deploy := domain.DeployProduction
	if rel.Environment == domain.Staging {
		deploy = domain.DeployStaging
	}
	if seconds := startSeconds(d, deploy); seconds > 0 {
		return &seconds, nil
	}
	return nil, nil
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
