// Package delivery carries one commit through the seven mandatory stages. The stages are a table of seven rows, and one
// loop runs it.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/journal"
	"github.com/belay-cd/belay/internal/rollout"
)

// Stage is one row of the table.
type Stage struct {
	Name domain.Stage
	// Run does the work and returns the stage's one-line summary.
	Run func(*run, context.Context) (string, error)
}

// Stages are the seven mandatory stages, in order. There is no option to leave one out.
var Stages = [...]Stage{
	{domain.Build, (*run).build},
	{domain.Test, (*run).test},
	{domain.DeployStaging, (*run).deployStaging},
	{domain.VerifyStaging, (*run).verifyStaging},
	{domain.DeployProduction, (*run).deployProduction},
	{domain.VerifyProduction, (*run).verifyProduction},
	{domain.Monitor, (*run).monitor},
}

// Seven, no more and no less: the compiler counts.
var _ [7]struct{} = [len(Stages)]struct{}{}

// newStages returns the rows of a delivery that has not begun.
func newStages() []domain.StageRecord {
	rows := make([]domain.StageRecord, len(Stages))
	for i, s := range Stages {
		rows[i] = domain.StageRecord{Name: s.Name, State: domain.PendingStage}
	}
	return rows
}

// deliver runs every stage in order, takes back what is still open, and stores how the delivery ended. It returns without
// an end only when the process shuts down: whatever fails then is no outcome.
func (r *run) deliver(ctx context.Context) error {
	defer r.release()
	err := r.begin()
	for i := 0; err == nil && i < len(Stages); i++ {
		err = r.stage(ctx, i)
	}
	err = r.takeBack(err)
	if lerr := r.leaveNothing(); lerr != nil {
		r.s.options.Log.Error("stop what an urgent delivery started", "delivery", r.d.Number, "error", lerr)
	}
	if err == nil {
		err = r.gaveWay()
	}
	if r.s.life.Err() != nil {
		return context.Cause(r.s.life)
	}
	return r.finish(err)
}

// takeBack makes sure that no delivery ends while a rollout of its own is open: nobody would watch it any more.
func (r *run) takeBack(cause error) error {
	for _, env := range domain.Environments {
		roll := r.rolloutIn(env)
		if cause == nil || roll == nil || !roll.Open() || r.s.life.Err() != nil {
			continue
		}
		err := r.s.engine.Revert(r.s.life, roll, cause)
		var back *rollout.RolledBack
		if errors.As(err, &back) {
			cause = r.explainRollback(roll, back)
		}
	}
	return cause
}

// stage runs one row once.
func (r *run) stage(ctx context.Context, i int) error {
	s := Stages[i]
	summary, err := journal.Do(ctx, r.journal(), string(s.Name), func(ctx context.Context) (string, error) {
		r.update(ctx, func(d *domain.Delivery) {
			d.State, d.Wait = domain.Running, nil
			row := &d.Stages[i]
			row.State = domain.Running
			if row.Started == nil {
				row.Started = now()
			}
		})
		r.event(ctx, domain.Event{Type: "stage.started", Stage: s.Name})
		summary, err := r.contained(ctx, s)
		if err == nil {
			err = r.attest(ctx, i, summary, true)
		}
		return summary, err
	})
	if err != nil && r.s.life.Err() != nil {
		return context.Cause(r.s.life)
	}
	if errors.Is(err, errTakenBack) {
		summary, err = "done, and taken back while stable retired", nil
	}
	if s.Name == domain.VerifyStaging {
		r.leave(domain.Staging)
	}
	state, kind := domain.DoneState, "stage.done"
	if err != nil {
		summary, state, kind = err.Error(), domain.FailedState, "stage.failed"
		switch domain.CodeOf(err) { //nolint:exhaustive // the others need no word of their own
		case domain.RolledBack:
			state = domain.RolledBackState
		case domain.Superseded:
			summary = "superseded " + summary
		}
	}
	told := false
	r.update(ctx, func(d *domain.Delivery) {
		d.Wait = nil
		row := &d.Stages[i]
		told = row.State == state && row.Ended != nil // by an earlier life of the process
		row.State, row.Summary = state, summary
		if row.Ended == nil {
			row.Ended = now()
		}
	})
	if !told {
		r.event(ctx, domain.Event{Type: kind, Stage: s.Name, Data: map[string]any{"summary": summary}})
		if err != nil {
			_ = r.attest(ctx, i, summary, false) // it is told anyway
		}
	}
	return err
}

// contained turns a defect in a stage into its failure, so that what the delivery has open is taken back.
func (r *run) contained(ctx context.Context, s Stage) (summary string, err error) {
	defer func() {
		if why := recover(); why != nil {
			r.s.options.Log.Error("a defect stopped a stage", "delivery", r.d.Number, "stage", s.Name, "why", why, "stack", string(debug.Stack()))
			err = domain.Errorf(domain.Failed, "a defect of the server stopped %s: %v", s.Name, why)
		}
	}()
	summary, err = s.Run(r, ctx)
	return summary, r.s.maskError(r.d.App, err) // before the journal keeps it
}

func (r *run) build(ctx context.Context) (string, error) {
	release, err := r.s.builds.acquire(ctx, r, busyWith("one build runs at a time on this machine"), nil)
	if err != nil {
		return "", err
	}
	defer release()
	log, err := r.s.ports.Logs.Open(r.d.App, r.d.Number, domain.Build)
	if err != nil {
		return "", err
	}
	defer func() { _ = log.Close() }()
	r.artifact, err = r.s.ports.Builder.Build(ctx, Job{Delivery: r.snapshot(), File: r.file, Log: log})
	r.update(ctx, func(d *domain.Delivery) { d.Stages[0].Notes = r.artifact.Notes })
	if err != nil {
		return "", err
	}
	if err := r.remember(ctx, "artifact", r.artifact); err != nil {
		return "", err
	}
	r.update(ctx, func(d *domain.Delivery) { d.Digest = r.artifact.Digest })
	return r.artifact.summary(len(r.file.Build.Lint)), nil
}

func (r *run) test(ctx context.Context) (string, error) {
	release, err := r.s.builds.acquire(ctx, r, busyWith("one build or test runs at a time on this machine"), nil)
	if err != nil {
		return "", err
	}
	defer release()
	log, err := r.s.ports.Logs.Open(r.d.App, r.d.Number, domain.Test)
	if err != nil {
		return "", err
	}
	defer func() { _ = log.Close() }()
	job := Job{Delivery: r.snapshot(), File: r.file, Log: log, Level: func(l domain.LevelRecord) {
		r.update(ctx, func(d *domain.Delivery) { d.Stages[1].Levels = putLevel(d.Stages[1].Levels, l) })
	}}
	levels, notes, err := r.s.ports.Tester.Test(ctx, job, r.artifact)
	r.update(ctx, func(d *domain.Delivery) { d.Stages[1].Levels, d.Stages[1].Notes = levels, notes })
	if err == nil {
		err = r.countedLevels(levels)
	}
	if err != nil {
		return "", err
	}
	return testSummary(levels), nil
}

// busyWith says whose turn it is at a place of the machine.
func busyWith(rule string) func(*run) string {
	return func(holder *run) string { return rule + ": " + holder.name() }
}

func putLevel(levels []domain.LevelRecord, l domain.LevelRecord) []domain.LevelRecord {
	for i := range levels {
		if levels[i].Level == l.Level {
			levels[i] = l
			return levels
		}
	}
	return append(levels, l)
}

func testSummary(levels []domain.LevelRecord) string {
	total, gaps, uncounted, slowest := 0, 0, 0, domain.LevelRecord{}
	cached, silent, from := 0, 0, []string{}
	for _, l := range levels {
		total += l.Passed
		cached += l.Cached
		if l.CachedFrom != "" && !slices.Contains(from, l.CachedFrom) {
			from = append(from, l.CachedFrom)
		}
		if l.CachedFrom != "" && !l.Counted {
			silent++
		}
		switch {
		case l.State == "none":
			gaps++
		case !l.Counted:
			uncounted++
		}
		if l.SlowTook > slowest.SlowTook {
			slowest = l
		}
	}
	summary := plural(total, "test")
	switch {
	case cached > 0:
		summary += fmt.Sprintf(", %d cached", cached)
	case silent > 0:
		summary += fmt.Sprintf(", %s cached", plural(silent, "level"))
	}
	if len(from) > 0 {
		summary += " from " + strings.Join(from, " and ")
	}
	if uncounted > 0 {
		summary += fmt.Sprintf(" · %s uncounted", plural(uncounted, "level"))
	}
	if gaps > 0 {
		summary += fmt.Sprintf(" · %s without tests, declared", plural(gaps, "level"))
	}
	if slowest.Slowest != "" {
		summary += fmt.Sprintf(" · slowest %s %.1fs", slowest.Slowest, slowest.SlowTook)
	}
	return summary
}

func (r *run) deployStaging(ctx context.Context) (string, error) {
	if err := r.atPar(ctx); err != nil {
		return "", err
	}
	if err := r.advance(ctx, domain.Staging, domain.DeployStaging); err != nil {
		return "", err
	}
	return r.served(domain.Staging), nil
}

func (r *run) verifyStaging(ctx context.Context) (string, error) {
	if err := r.rehearsed(ctx); err != nil {
		return "", err
	}
	if err := r.liftHold(ctx); err != nil {
		return "", err
	}
	summary := r.checkSummary(domain.VerifyStaging)
	if text := rehearsalText(r.snapshot().Rehearsal); text != "" {
		summary += " · " + text
	}
	return summary, nil
}

func (r *run) deployProduction(ctx context.Context) (string, error) {
	if r.rolloutIn(domain.Production) == nil { // what is open already must be watched, whatever a gate would say now
		if err := r.admitted(ctx); err != nil {
			return "", err
		}
	}
	if err := r.advance(ctx, domain.Production, domain.DeployProduction); err != nil {
		return "", err
	}
	return r.weights(domain.Production) + " · " + r.served(domain.Production), nil
}

func (r *run) verifyProduction(ctx context.Context) (string, error) {
	if err := r.advance(ctx, domain.Production, domain.VerifyProduction); err != nil {
		return "", err
	}
	return r.checkSummary(domain.VerifyProduction), nil
}

func (r *run) monitor(ctx context.Context) (string, error) {
	if err := r.advance(ctx, domain.Production, domain.Monitor); err != nil {
		return "", err
	}
	summary := r.monitored()
	if why := r.gaveWay(); why != nil {
		summary = "superseded " + why.Error() + " · " + summary
	}
	return summary, nil
}

// advance runs the stage's slice of the environment's one stored plan.
func (r *run) advance(ctx context.Context, env domain.Environment, stage domain.Stage) error {
	if err := r.enter(ctx, env); err != nil {
		return err
	}
	roll, err := r.rollout(ctx, env)
	if err != nil {
		return err
	}
	if err := r.obey(ctx, roll); err != nil {
		return err
	}
	if ctx.Err() != nil { // it was cancelled while the rollout was opened
		roll.Interrupt(context.Cause(ctx))
	}
	err = r.s.engine.Advance(r.life, roll, stage)
	var back *rollout.RolledBack
	if !errors.As(err, &back) {
		return err
	}
	return r.explainRollback(roll, back)
}

// explainRollback turns the end of a rollout into the end of the stage.
func (r *run) explainRollback(roll *rollout.Rollout, back *rollout.RolledBack) error {
	cause := back.Cause
	production := roll.Record.Environment == domain.Production
	code := domain.CodeOf(cause)
	switch {
	case (code == domain.Rejected || code == domain.Superseded) && (!production || !back.Shifted):
		return cause
	case back.Left:
		return domain.Errorf(domain.Failed, "%w: the first delivery has nothing to go back to, traffic stays on %s", cause, r.d.short())
	case production && (back.Shifted || code == domain.RolledBack):
		return &domain.Error{Code: domain.RolledBack, Message: rolledBackPrefix + cause.Error(), Hint: domain.HintOf(cause), Cause: cause}
	default:
		return &domain.Error{Code: domain.Failed, Message: cause.Error(), Hint: domain.HintOf(cause), Cause: cause}
	}
}

// rolledBackPrefix begins the error of a stage whose rollout went back.
const rolledBackPrefix = "rolled back: "

func now() *time.Time {
	t := time.Now().UTC()
	return &t
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func shortDigest(digest string) string {
	if len(digest) < 20 {
		return digest
	}
	return digest[:11] + "…" + digest[len(digest)-3:]
}
