// Package schedule starts scheduled jobs: each of their ticks once.
//
// A tick is claimed in the store before anything starts, and the process of its run is named by the release and the tick.
// So the daemon may die between any two effects: what is claimed is started, what was started is found again by its name,
// and what ended is recorded as its shim saw it.
package schedule

import (
	"context"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Mark says up to which moment the ticks of a job are accounted for, and by which schedule.
type Mark struct {
	App         string
	Environment domain.Environment
	Role        string
	Schedule    string
	At          time.Time
}

// Store keeps the marks and the runs. Every write is durable when it returns.
type Store interface {
	JobMarks(ctx context.Context) ([]Mark, error)
	// ClaimJobs moves a mark and stores runs, all or nothing, and returns those whose ticks nobody had claimed before.
	ClaimJobs(ctx context.Context, m Mark, runs ...domain.JobRun) ([]domain.JobRun, error)
	DropJobMark(ctx context.Context, app string, env domain.Environment, role string) error
	SaveJobRun(ctx context.Context, r domain.JobRun) error
	// OpenJobRuns lists what is not over, by tick.
	OpenJobRuns(ctx context.Context) ([]domain.JobRun, error)
	// JobRuns lists the newest runs of a job first.
	JobRuns(ctx context.Context, app string, env domain.Environment, role string, limit int) ([]domain.JobRun, error)
	PruneJobRuns(ctx context.Context, app string, env domain.Environment, role string, keep int) error
}

// Driver runs processes that run once.
type Driver interface {
	// StartJob begins a job unless it was begun before, however it ended then.
	StartJob(ctx context.Context, inst domain.Instance) error
	// KnowsJob reports whether StartJob has left something of this job.
	KnowsJob(id domain.InstanceID) bool
	// AwaitJob returns how it ended, when it has: times, exit code, and why it failed. It is NotFound when nothing was begun.
	AwaitJob(ctx context.Context, id domain.InstanceID) (domain.JobRun, error)
	// StopJob ends it: TERM, KILL after the grace.
	StopJob(ctx context.Context, id domain.InstanceID) error
	// RetainJobs removes what is left of all but the newest keep of a role.
	RetainJobs(ctx context.Context, app string, env domain.Environment, role string, keep int) error
}

// Releases knows which release jobs run on: the one with the majority of its environment's traffic.
type Releases interface {
	// Owners lists these releases, at least those that have scheduled roles.
	Owners(ctx context.Context) ([]domain.Release, error)
	// Owner returns that of one environment; false before there is one.
	Owner(ctx context.Context, app string, env domain.Environment) (domain.Release, bool, error)
	Release(ctx context.Context, id string) (domain.Release, error)
	// TakenBack reports whether a release was rolled back, or is being: who said so may have died before End.
	TakenBack(ctx context.Context, id string) (bool, error)
}

// Ports are what a Runner works with. All are needed.
type Ports struct {
	Store    Store
	Driver   Driver
	Releases Releases
	// Instance describes what the driver starts.
	Instance func(rel *domain.Release, role string, index int) domain.Instance
	// Emit tells what happened: job.started, job.done, job.failed, job.skipped, job.missed.
	Emit func(ctx context.Context, e domain.Event)
	// Failed is told what did not succeed and is tried again.
	Failed func(what string, err error)
}
