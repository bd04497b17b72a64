package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/supervise"
)

const (
	// outcomeFile says how a job ended. From then on nothing else in its folder decides anything.
	outcomeFile = "job.json"
	// settle is how long a shim may take to say what it found, before it is asked again.
	settle = 20 * time.Millisecond
)

// What is said of a job that nobody saw ending.
const (
	endedByRestart = "ended by a restart of the machine"
	endedUnseen    = "it ended while nobody watched"
)

// StartJob makes a job run once: a process under a shim of its own, as an instance has, that is never started again. Of a
// job that was begun before, whatever became of it, nothing is started. The calls for one job come one after the other.
func (d *Driver) StartJob(ctx context.Context, inst domain.Instance) error {
	if err := checkNames(inst.InstanceID); err != nil {
		return err
	}
	dir := d.folder(inst.InstanceID)
	if jobBegun(dir) {
		return nil
	}
	if err := d.beginJob(ctx, dir, inst); err != nil && !jobBegun(dir) {
		return domain.Errorf(domain.Failed, "start %s: %w", inst.InstanceID, err)
	}
	return nil
}

// jobBegun reports whether a shim has the job or had it.
func jobBegun(dir string) bool {
	if supervise.HasShim(dir) {
		return true
	}
	_, err := supervise.ReadState(dir)
	return err == nil
}

func (d *Driver) beginJob(ctx context.Context, dir string, inst domain.Instance) error {
	c, err := d.confinement(ctx, inst)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	if err := d.writeRecord(filepath.Join(dir, recordFile), record{Wanted: true, Instance: inst}); err != nil {
		return err
	}
	command, err := c.command(dir, 0, inst.Workload.Run, nil)
	if err != nil {
		return err
	}
	var secret []string
	command.Env, secret = apart(command.Env, inst.Workload)
	return supervise.StartOnce(ctx, d.cfg.Self, dir, supervise.Spec{
		Command: command, Secret: secret, Mode: c.mode, Group: d.groupOf(inst.InstanceID), Limits: limitsOf(inst, weightOf(inst.Environment)),
		Grace: supervise.Duration(d.cfg.Grace), Log: d.cfg.Log,
	})
}

// KnowsJob reports whether StartJob of this job went far enough to have left something.
func (d *Driver) KnowsJob(id domain.InstanceID) bool {
	_, err := os.Stat(filepath.Join(d.folder(id), recordFile))
	return err == nil
}

// AwaitJob returns how a job ended, when it has: when it started and ended, its exit code (-1 where there is none) and why
// it failed. A process whose shim died is adopted. A job that was never begun is NotFound.
func (d *Driver) AwaitJob(ctx context.Context, id domain.InstanceID) (domain.JobRun, error) {
	dir := d.folder(id)
	for {
		var end domain.JobRun
		if supervise.ReadJSON(filepath.Join(dir, outcomeFile), &end) == nil {
			return end, nil
		}
		shim := supervise.HasShim(dir) // asked first: without one, nobody writes the state that is read next
		state, err := supervise.ReadState(dir)
		switch {
		case err == nil && (state.Phase == supervise.Ended || !shim && !state.Child.Alive()):
			return d.concludeJob(ctx, id, state)
		case errors.Is(err, os.ErrNotExist) && !shim:
			return end, domain.Errorf(domain.NotFound, "job %s: it was never begun", id)
		case err == nil && shim:
			err = state.Shim.Wait(ctx)
		case err == nil:
			err = supervise.Launch(ctx, d.cfg.Self, dir)
		}
		if ctx.Err() != nil {
			return end, context.Cause(ctx)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return end, domain.Errorf(domain.Failed, "watch job %s: %w", id, err)
		}
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return end, context.Cause(ctx)
		}
	}
}

// concludeJob writes down how a job ended, and deletes what it ran with, because that may hold secrets.
func (d *Driver) concludeJob(ctx context.Context, id domain.InstanceID, state supervise.State) (domain.JobRun, error) {
	dir := d.folder(id)
	var r record
	if err := supervise.ReadJSON(filepath.Join(dir, recordFile), &r); err != nil {
		return domain.JobRun{}, domain.Errorf(domain.Failed, "job %s: %w", id, err)
	}
	end := d.jobEnd(r.Instance, state)
	if err := supervise.WriteJSON(filepath.Join(dir, outcomeFile), end); err != nil {
		return end, domain.Errorf(domain.Failed, "job %s: %w", id, err)
	}
	r.Wanted, r.Instance.Workload.Env = false, nil
	err := supervise.WriteJSON(filepath.Join(dir, recordFile), r)
	if err = errors.Join(supervise.Stop(ctx, dir), err); err != nil {
		d.cfg.Logger.Warn("clean up after a job", "job", id.String(), "error", err) // it has ended all the same
	}
	return end, nil
}

// jobEnd reads the end of a job from what its shim knew.
func (d *Driver) jobEnd(inst domain.Instance, s supervise.State) domain.JobRun {
	end := domain.JobRun{
		App: inst.App, Environment: inst.Environment, Role: inst.Role, Release: inst.Release, State: domain.JobFailed, Code: -1,
	}
	now := time.Now()
	end.Ended = &now
	if !s.Started.IsZero() {
		end.Started = &s.Started
	}
	switch exit := s.Last; {
	case exit != nil && !exit.Unseen && exit.Signal == "" && exit.Code == 0 && !exit.OOM:
		end.State, end.Code, end.Ended = domain.JobDone, 0, &exit.At
		return end
	case exit != nil && !exit.Unseen:
		s.PortTaken = false
		end.Code, end.Message, end.Ended = exit.Code, crashMessage(s, inst.Workload.Memory), &exit.At
	case s.Phase == supervise.Ended && exit == nil:
		end.Message = "it was killed"
	case restarted(s):
		end.Message = endedByRestart
	default:
		end.Message = endedUnseen
	}
	if said := lastLines(d.Logs(inst.InstanceID), inst.Workload, 2, 300); said != "" {
		end.Message += "; its log ends with: " + said
	}
	return end
}

// restarted reports whether the machine was started again since the shim wrote its state.
func restarted(s supervise.State) bool {
	self, err := supervise.Identify(os.Getpid())
	return err == nil && s.Shim.Boot != "" && s.Shim.Boot != self.Boot
}

// StopJob ends a job for good: TERM to its processes, KILL after the grace. One that does not run is no error.
func (d *Driver) StopJob(ctx context.Context, id domain.InstanceID) error {
	if err := checkNames(id); err != nil {
		return err
	}
	if err := supervise.Stop(ctx, d.folder(id)); err != nil {
		return domain.Errorf(domain.Failed, "stop %s: %w", id, err)
	}
	return nil
}

// JobsOf lists the jobs of a role whose folders are there, those with the highest index first.
func (d *Driver) JobsOf(app string, env domain.Environment, role string) ([]domain.InstanceID, error) {
	if err := checkNames(domain.InstanceID{App: app, Environment: env, Release: "any", Role: role}); err != nil {
		return nil, err
	}
	parent := filepath.Join(d.cfg.Data, "instances", app, string(env))
	releases, err := os.ReadDir(parent)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var found []domain.InstanceID
	for _, release := range releases {
		folders, err := os.ReadDir(filepath.Join(parent, release.Name()))
		if err != nil {
			continue // removed meanwhile
		}
		for _, folder := range folders {
			number, ok := strings.CutPrefix(folder.Name(), role+"-")
			index, err := strconv.Atoi(number)
			if !ok || err != nil {
				continue
			}
			var r record
			id := domain.InstanceID{App: app, Environment: env, Release: release.Name(), Role: role, Index: index}
			if supervise.ReadJSON(filepath.Join(d.folder(id), recordFile), &r) == nil && r.Instance.Workload.Kind == domain.Cron {
				found = append(found, id)
			}
		}
	}
	slices.SortFunc(found, func(a, b domain.InstanceID) int { return b.Index - a.Index })
	return found, nil
}

// RetainJobs removes the folders of the jobs of a role, their logs among them, but the newest keep and those that run.
func (d *Driver) RetainJobs(ctx context.Context, app string, env domain.Environment, role string, keep int) error {
	jobs, err := d.JobsOf(app, env, role)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range jobs[min(keep, len(jobs)):] {
		if _, err := os.Stat(filepath.Join(d.folder(id), outcomeFile)); err != nil {
			continue
		}
		if err := d.Remove(ctx, id); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", id, err))
		}
	}
	return errors.Join(errs...)
}
