package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/journal"
	"github.com/belay-cd/belay/internal/rollout"
)

// rollout returns the environment's rollout of this delivery: stored once, with its plan, and the same after a restart.
func (r *run) rollout(ctx context.Context, env domain.Environment) (*rollout.Rollout, error) {
	r.mu.Lock()
	known := r.rollouts[env]
	r.mu.Unlock()
	if known != nil {
		return known, nil
	}
	next, err := r.nextRelease(ctx, env)
	if err != nil {
		return nil, err
	}
	return r.openOnce(string(env)+" rollout", env, next, rollout.New)
}

// nextRelease returns the id of the delivery's release in an environment: made once.
func (r *run) nextRelease(ctx context.Context, env domain.Environment) (string, error) {
	return journal.Do(ctx, r.journal(), string(env)+" release", func(ctx context.Context) (string, error) {
		return r.makeRelease(ctx, env)
	})
}

// planner makes the plan of a rollout.
type planner func(rollout.Fleet, rollout.Settings) rollout.Plan

// openOnce opens the rollout of a name once, and takes it for the environment's from then on. A cancel does not cut in: a
// rollout that is stored must be known to whoever takes it back.
func (r *run) openOnce(name string, env domain.Environment, next string, plan planner) (*rollout.Rollout, error) {
	id, err := journal.Do(r.life, r.journal(), name, func(ctx context.Context) (string, error) {
		return r.open(ctx, env, next, plan)
	})
	if err != nil {
		return nil, err
	}
	roll, err := r.s.loadRollout(r.life, id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.rollouts[env]; known != nil && known.Record.ID == roll.Record.ID {
		return known, nil
	}
	r.rollouts[env], r.lowered[env] = roll, make(chan struct{})
	return roll, nil
}

// makeRelease resolves everything that the release needs, so that starting it later asks nobody.
func (r *run) makeRelease(ctx context.Context, env domain.Environment) (string, error) {
	if err := r.s.ports.Builder.Admit(ctx, r.d.App, r.d.Commit, r.artifact.Digest); err != nil {
		return "", err
	}
	values, versions, err := r.s.ports.Secrets.Resolve(ctx, r.d.App, r.file, env)
	if err != nil {
		return "", err
	}
	rel := domain.Release{
		ID: domain.NewID("rel_"), App: r.d.App, Environment: env, Delivery: r.d.Number, Commit: r.d.Commit,
		Digest: r.artifact.Digest, Config: config.HashOf(workloads(r.file, env)), Secrets: versions, Created: *now(),
		Workloads: workloads(r.file, env), Fixed: r.artifact.Fixed,
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	for i := range rel.Workloads {
		w := &rel.Workloads[i]
		w.Secrets = names
		if w.Env == nil {
			w.Env = map[string]string{}
		}
		for name, value := range values {
			w.Env[name] = value.Reveal()
		}
	}
	if err := r.s.ports.Runner.Prepare(ctx, rel.Digest); err != nil {
		return "", err
	}
	return rel.ID, r.s.ports.Store.SaveRelease(ctx, rel)
}

// splitRequest draws each request anew.
const splitRequest = "request"

// traffic copies how the data plane draws and measures a role.
func traffic(w *domain.Workload, f *config.File) {
	if w.Kind != domain.Web {
		return
	}
	w.Split = string(f.Rollout.Split)
	if f.Rollout.Strategy == config.Rolling {
		w.Split = splitRequest // nobody can be kept on a side whose instances are replaced
	}
	if v := f.Rollout.Sticky; v != nil {
		w.Sticky = &domain.Sticky{Cookie: string(v.Cookie), Header: string(v.Header)}
	}
	for _, e := range f.Guard.Endpoints {
		w.Endpoints = append(w.Endpoints, string(e))
	}
	for name, v := range f.Guard.Segments {
		if w.Segments == nil {
			w.Segments = map[string]domain.Segment{}
		}
		w.Segments[name] = domain.Segment{Cookie: string(v.Cookie), Header: string(v.Header)}
	}
}

// open plans the rollout and stores it. One rollout at a time is open in an environment.
func (r *run) open(ctx context.Context, env domain.Environment, next string, plan planner) (string, error) {
	if roll := r.rolloutIn(env); roll != nil && roll.Record.State == domain.RolloutOpen {
		return roll.Record.ID, nil // an earlier life of the process opened it, and could not note it down
	}
	slot, err := r.s.ports.Store.Slot(ctx, r.d.App, env)
	if err != nil {
		return "", err
	}
	rec := domain.RolloutRecord{
		ID: domain.NewID("rol_"), App: r.d.App, Environment: env, Delivery: r.d.Number, Stable: slot.Stable, Next: next,
		State: domain.RolloutOpen, Started: *now(),
	}
	fixed, err := r.s.fix(ctx, rec, r.settings)
	if err != nil {
		return "", err
	}
	if rec.Config, err = json.Marshal(fixed); err != nil {
		return "", err
	}
	roll, err := r.s.dress(ctx, rec)
	if err != nil {
		return "", err
	}
	if _, err := r.s.ports.Runner.Capacity(ctx, roll.Next, r.settings.Rollout.Surge()); err != nil {
		return "", err
	}
	roll.Plan = plan(roll.Fleet(), r.settings.plan(env))
	if rec.Plan, err = json.Marshal(roll.Plan); err != nil {
		return "", err
	}
	if err := r.enterOnce(ctx, rec); err != nil {
		return "", err
	}
	steps := make([]string, len(roll.Plan))
	for i, s := range roll.Plan {
		steps[i] = s.String()
	}
	r.showPlan(ctx, roll.Plan)
	r.event(ctx, domain.Event{Type: "rollout.planned", Environment: env, Data: map[string]any{"rollout": rec.ID, "steps": steps}})
	return rec.ID, nil
}

// enterOnce stores the rollout, unless somebody went back while its release was prepared: then the app is held, or is about
// to be.
func (r *run) enterOnce(ctx context.Context, rec domain.RolloutRecord) error {
	if rec.Environment == domain.Production {
		if _, err := r.heldGate(ctx); err != nil {
			return err
		}
	}
	_, err := r.s.ports.Store.OpenRollout(ctx, rec)
	if domain.CodeOf(err) == domain.Conflict {
		return domain.Errorf(domain.Refused, "%s of %s is being rolled back", rec.Environment, rec.App).
			WithHint("ship again when it is over: belay status")
	}
	return err
}

// showPlan puts the steps into the rows of their stages.
func (r *run) showPlan(ctx context.Context, p rollout.Plan) {
	r.update(ctx, func(d *domain.Delivery) {
		for i := range d.Stages {
			var steps []domain.StepRecord
			for _, s := range p {
				if s.Stage == d.Stages[i].Name {
					steps = append(steps, stepRecord(s))
				}
			}
			if len(steps) > 0 && !sameSteps(d.Stages[i].Steps, steps) {
				d.Stages[i].Steps = steps
			}
		}
	})
}

// sameSteps reports whether the rows show these steps already, however far they are.
func sameSteps(shown, steps []domain.StepRecord) bool {
	return slices.EqualFunc(shown, steps, func(a, b domain.StepRecord) bool {
		return a.Verb == b.Verb && a.Release == b.Release && a.Instance == b.Instance && a.Hold == b.Hold
	})
}

func stepRecord(s rollout.Step) domain.StepRecord {
	rec := domain.StepRecord{Verb: string(s.Verb), Release: s.Side, State: domain.PendingStage, Hold: s.Hold.Seconds(), Proved: s.Proved}
	if s.Role != "" {
		rec.Instance = fmt.Sprintf("%s/%d", s.Role, s.Index)
	}
	if s.Verb == rollout.Shift || s.Verb == rollout.Bake {
		w := float64(s.Weight) / domain.WeightAll
		rec.Weight = &w
	}
	return rec
}

// loadRollout reads a stored rollout with its plan.
func (s *Service) loadRollout(ctx context.Context, id string) (*rollout.Rollout, error) {
	rec, err := s.ports.Store.Rollout(ctx, id)
	if err != nil {
		return nil, err
	}
	roll, err := s.dress(ctx, rec)
	if err != nil {
		return nil, err
	}
	return roll, json.Unmarshal(rec.Plan, &roll.Plan)
}

// dress adds the releases to a record.
func (s *Service) dress(ctx context.Context, rec domain.RolloutRecord) (*rollout.Rollout, error) {
	roll := &rollout.Rollout{Record: rec}
	var err error
	if roll.Next, err = s.ports.Store.Release(ctx, rec.Next); err != nil {
		return nil, err
	}
	if rec.Stable != "" {
		stable, err := s.ports.Store.Release(ctx, rec.Stable)
		if err != nil {
			return nil, err
		}
		roll.Stable = &stable
	}
	return roll, nil
}

// SaveRollout stores how far a rollout is.
func (s *Service) SaveRollout(ctx context.Context, rec domain.RolloutRecord) error {
	return s.ports.Store.SaveRollout(ctx, rec)
}

// Settle stores the end of a rollout together with its slot.
func (s *Service) Settle(ctx context.Context, rec domain.RolloutRecord) error {
	slot, err := s.ports.Store.Slot(ctx, rec.App, rec.Environment)
	if err != nil {
		return err
	}
	if rec.State == domain.RolloutDone && slot.Stable != rec.Next {
		slot.Previous, slot.Stable, slot.Since = slot.Stable, rec.Next, time.Now().UTC()
		if rec.Delivery == 0 {
			slot.Previous = "" // a way back: what it left is no release to go back to
		}
		if early, err := s.endedEarly(rec); err != nil {
			return err
		} else if !early {
			slot.Done = rec.Next
		}
	}
	if err := s.ports.Store.FinishRollout(ctx, rec, slot); err != nil {
		return err
	}
	s.settled(rec)
	s.spare(ctx, rec)
	return nil
}

// spare lets the kernel take what is stable now as late as stable, no longer as early as next.
func (s *Service) spare(ctx context.Context, rec domain.RolloutRecord) {
	scores, ok := s.ports.Runner.(interface {
		Rescore(ctx context.Context, rel domain.Release, score int) error
	})
	if !ok || rec.State != domain.RolloutDone || rec.Environment != domain.Production {
		return
	}
	rel, err := s.ports.Store.Release(ctx, rec.Next)
	if err == nil {
		err = scores.Rescore(ctx, rel, 0)
	}
	if err != nil {
		s.options.Log.Error("spare the stable release when memory runs out", "release", rec.Next, "error", err)
	}
}

// endedEarly reports whether a rollout became stable without having been watched to the end.
func (s *Service) endedEarly(rec domain.RolloutRecord) (bool, error) {
	if rec.Delivery == 0 {
		return false, nil
	}
	r := s.find(rec.App, rec.Delivery)
	if rec.Reason != "" || r == nil || rec.Environment != domain.Production {
		return rec.Reason != "", nil
	}
	why := r.gaveWay()
	if domain.CodeOf(why) == domain.Superseded {
		return true, nil
	}
	return false, why
}

// settled lets whoever asked for a way back after done know that the traffic has moved.
func (s *Service) settled(rec domain.RolloutRecord) {
	s.mu.Lock()
	r := s.returns[rec.ID]
	s.mu.Unlock()
	if r == nil || rec.State != domain.RolloutDone {
		return
	}
	r.backOnce.Do(func() { close(r.back) })
}

// lastDone returns the file of the newest delivery of the app that was done before number; nil when there is none.
func (s *Service) lastDone(ctx context.Context, app string, before int) (*config.File, error) {
	number, err := s.lastDoneNumber(ctx, app, before)
	if err != nil {
		return nil, err
	}
	return s.fileOf(ctx, app, number)
}

// lastDoneNumber returns the newest delivery of the app that was done before number, 0 when there is none.
func (s *Service) lastDoneNumber(ctx context.Context, app string, before int) (int, error) {
	list, err := s.ports.Store.Deliveries(ctx, app, lastDoneDepth)
	if err != nil {
		return 0, err
	}
	for _, d := range list {
		if d.Number < before && d.State == domain.DoneState {
			return d.Number, nil
		}
	}
	if len(list) < lastDoneDepth {
		return 0, nil
	}
	// However many red ones came since: what serves says by what it is judged.
	slot, err := s.ports.Store.Slot(ctx, app, domain.Production)
	if err != nil || slot.Done == "" {
		return 0, err
	}
	rel, err := s.ports.Store.Release(ctx, slot.Done)
	if err != nil || rel.Delivery >= before {
		return 0, err
	}
	return rel.Delivery, nil
}

// fileOf returns the file of a delivery, nil for delivery 0.
func (s *Service) fileOf(ctx context.Context, app string, number int) (*config.File, error) {
	if number == 0 {
		return nil, nil
	}
	d, err := s.ports.Store.Delivery(ctx, app, number)
	if err != nil {
		return nil, err
	}
	var text storedFile
	if found, err := s.newRun(d).recall(ctx, "file", &text); err != nil {
		return nil, err
	} else if !found {
		return nil, domain.Errorf(domain.Failed, "the file of #%d, by which later deliveries are judged, is not stored", number)
	}
	return parse(text.Name, []byte(text.Text), true)
}

// lastDoneDepth is how many deliveries back the last one that was done is looked for.
const lastDoneDepth = 1000
