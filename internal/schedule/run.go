package schedule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// endedByRollback is why a run was ended when its release was taken back.
const endedByRollback = "ended by the rollback"

// errOver wakes up whoever waits for a run that must end.
var errOver = errors.New("it must end")

// carry takes one run from wherever it is to its end. It returns false when ctx ended before: another process goes on.
func (r *Runner) carry(ctx context.Context, t *turn) bool {
	w, begun := domain.Workload{}, t.run.State == domain.JobRunning
	if !begun {
		inst, ok := r.choose(ctx, t)
		if !ok {
			return ctx.Err() == nil
		}
		if !r.start(ctx, t, inst) {
			return ctx.Err() == nil
		}
		w = inst.Workload
	} else if rel, err := r.ports.Releases.Release(ctx, t.run.Release); err == nil {
		w = r.ports.Instance(&rel, t.run.Role, index(t.run)).Workload
	}
	return r.attend(ctx, t, w.Timeout)
}

// index names the process of a run: there is one for each tick.
func index(run domain.JobRun) int { return int(run.Tick.Unix()) }

func idOf(run domain.JobRun) domain.InstanceID {
	return domain.InstanceID{App: run.App, Environment: run.Environment, Release: run.Release, Role: run.Role, Index: index(run)}
}

// choose decides which release a run is started on, and records it before anything starts: that of a start that an earlier
// process began, or else the one that has the traffic now. False says that the run is over.
func (r *Runner) choose(ctx context.Context, t *turn) (inst domain.Instance, ok bool) {
	run := t.run
	if run.Release != "" && r.ports.Driver.KnowsJob(idOf(run)) {
		rel, err := r.ports.Releases.Release(ctx, run.Release)
		if ctx.Err() != nil {
			return inst, false
		}
		r.mu.Lock()
		taken := t.ending != ""
		r.mu.Unlock()
		switch {
		case taken: // its release was taken back before it was known whether it runs
			if r.enforce(ctx, t) {
				r.over(ctx, t, domain.JobFailed, "")
			}
			return inst, false
		case err == nil:
			return r.ports.Instance(&rel, run.Role, index(run)), true
		}
		r.over(ctx, t, domain.JobFailed, "its release is gone: "+err.Error())
		return inst, false
	}
	for {
		r.mu.Lock()
		ends := r.ends
		r.mu.Unlock()
		var rel domain.Release
		var found bool
		if !r.insist(ctx, "find the release for "+run.Role+" of "+run.App, func(ctx context.Context) (err error) {
			rel, found, err = r.ports.Releases.Owner(ctx, run.App, run.Environment)
			return err
		}) {
			return inst, false
		}
		if inst = r.ports.Instance(&rel, run.Role, index(run)); !found || inst.Workload.Kind != domain.Cron {
			r.over(ctx, t, domain.JobSkipped, "the release that has the traffic now has no such job")
			return inst, false
		}
		run.Release, run.State = rel.ID, domain.JobClaimed
		if !r.save(ctx, run) {
			return inst, false
		}
		r.mu.Lock()
		// A release that was taken back meanwhile is not the one that has the traffic.
		same := r.ends == ends
		if same {
			t.run, t.ending = run, ""
			close(t.done) // on the release that it had before, if any, it is over
			t.done = make(chan struct{})
		}
		r.mu.Unlock()
		if same {
			return inst, true
		}
	}
}

// start begins the process of a run, or finds the one that was begun. False says that the run is over.
func (r *Runner) start(ctx context.Context, t *turn, inst domain.Instance) bool {
	if err := r.ports.Driver.StartJob(ctx, inst); err != nil {
		if ctx.Err() != nil || !r.stop(ctx, t) { // nothing of it may be left
			return false
		}
		r.over(ctx, t, domain.JobFailed, err.Error())
		return false
	}
	now := time.Now()
	r.mu.Lock()
	t.run.State, t.run.Started = domain.JobRunning, &now
	run := t.run
	r.mu.Unlock()
	if !r.save(ctx, run) {
		return false
	}
	r.emit(ctx, run)
	return true
}

// attend waits for the end of a run that was begun, or brings it about.
func (r *Runner) attend(ctx context.Context, t *turn, timeout time.Duration) bool {
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mu.Lock()
	t.cancel = func() { cancel(errOver) }
	if t.ending != "" {
		t.cancel()
	}
	id, started := idOf(t.run), t.run.Started
	r.mu.Unlock()
	if timeout > 0 && started != nil {
		alarm := time.AfterFunc(time.Until(started.Add(timeout)), func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if t.ending == "" {
				t.ending = fmt.Sprintf("ended after its timeout of %s", timeout)
			}
			t.cancel()
		})
		defer alarm.Stop()
	}
	end, err := r.endOf(waiting, id)
	if errors.Is(err, errOver) {
		if !r.enforce(ctx, t) {
			return false
		}
		end, err = r.endOf(ctx, id)
	}
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		return r.over(ctx, t, domain.JobFailed, "nothing is known of it any more")
	default:
		return r.finish(ctx, t, end)
	}
}

// endOf returns how a job ended. The error is the cause of the end of ctx, or NotFound; whatever else is in the way is
// waited out.
func (r *Runner) endOf(ctx context.Context, id domain.InstanceID) (end domain.JobRun, err error) {
	found := r.insist(ctx, "watch "+id.String(), func(ctx context.Context) error {
		end, err = r.ports.Driver.AwaitJob(ctx, id)
		if domain.CodeOf(err) == domain.NotFound {
			return nil
		}
		return err
	})
	if !found {
		err = context.Cause(ctx)
	}
	return end, err
}

// enforce records why a run must end, and ends it.
func (r *Runner) enforce(ctx context.Context, t *turn) bool {
	now := time.Now()
	r.mu.Lock()
	if t.run.Ended == nil {
		t.run.Ended, t.run.Message = &now, joined(t.run.Message, t.ending)
		t.ending = t.run.Message
	}
	run := t.run
	r.mu.Unlock()
	return r.save(ctx, run) && r.stop(ctx, t)
}

func (r *Runner) stop(ctx context.Context, t *turn) bool {
	id := idOf(t.run)
	return r.insist(ctx, "stop "+id.String(), func(ctx context.Context) error { return r.ports.Driver.StopJob(ctx, id) })
}

// finish records how a process ended. One that was ended has failed, whatever it made of it.
func (r *Runner) finish(ctx context.Context, t *turn, end domain.JobRun) bool {
	r.mu.Lock()
	ended := t.run.Ended != nil
	if end.Started != nil {
		t.run.Started = end.Started
	}
	t.run.Code = end.Code
	if end.Ended != nil {
		t.run.Ended = end.Ended
	}
	r.mu.Unlock()
	if ended {
		return r.over(ctx, t, domain.JobFailed, "")
	}
	return r.over(ctx, t, end.State, end.Message)
}

// over stores the last state of a run, tells it, and removes what is too old to keep.
func (r *Runner) over(ctx context.Context, t *turn, state domain.JobState, why string) bool {
	now := time.Now()
	r.mu.Lock()
	t.run.State, t.run.Message = state, joined(t.run.Message, why)
	if t.run.Ended == nil {
		t.run.Ended = &now
	}
	run := t.run
	r.mu.Unlock()
	if !r.save(ctx, run) {
		return false
	}
	r.emit(ctx, run)
	if err := r.ports.Store.PruneJobRuns(ctx, run.App, run.Environment, run.Role, keepRuns); err != nil {
		r.failed(ctx, "forget old runs of "+run.Role+" of "+run.App, err)
	}
	if err := r.ports.Driver.RetainJobs(ctx, run.App, run.Environment, run.Role, keepFolders); err != nil {
		r.failed(ctx, "remove old runs of "+run.Role+" of "+run.App, err)
	}
	return ctx.Err() == nil
}

func joined(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

func (r *Runner) save(ctx context.Context, run domain.JobRun) bool {
	return r.insist(ctx, "record a run of "+run.Role+" of "+run.App, func(ctx context.Context) error {
		return r.ports.Store.SaveJobRun(ctx, run)
	})
}

// emit tells what became of a run.
func (r *Runner) emit(ctx context.Context, run domain.JobRun) {
	kind := map[domain.JobState]string{
		domain.JobRunning: "job.started", domain.JobDone: "job.done", domain.JobFailed: "job.failed",
		domain.JobSkipped: "job.skipped", domain.JobMissed: "job.missed",
	}[run.State]
	data := map[string]any{"role": run.Role, "tick": run.Tick.UTC().Format(time.RFC3339)}
	if run.Release != "" {
		data["release"] = run.Release
	}
	if run.Message != "" {
		data["message"] = run.Message
	}
	if run.State == domain.JobDone || run.State == domain.JobFailed {
		data["code"] = run.Code
		if run.Started != nil && run.Ended != nil {
			data["took"] = run.Ended.Sub(*run.Started).Seconds()
		}
	}
	r.ports.Emit(ctx, domain.Event{At: time.Now().UTC(), Type: kind, App: run.App, Environment: run.Environment, Data: data})
}
