package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/schedule"
	"github.com/belay-cd/belay/internal/store"
)

// openJobs starts the scheduled jobs: what runs goes on, what came due meanwhile is made up for. It ends with the server,
// the jobs do not.
func (s *Server) openJobs() *schedule.Runner {
	ctx, cancel := context.WithCancel(s.work)
	runner := schedule.New(schedule.Ports{
		Store: jobStore{s.store}, Driver: s.runner.Driver, Instance: rollout.InstanceOf,
		Releases: &jobReleases{store: s.store, router: s.router, known: map[string]domain.Release{}},
		Emit: func(ctx context.Context, e domain.Event) {
			if _, err := s.store.AppendEvents(ctx, e); err != nil && ctx.Err() == nil {
				s.log.Error("store an event of a job", "app", e.App, "type", e.Type, "error", err)
			}
		},
		Failed: func(what string, err error) { s.log.Error(what, "error", err) },
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runner.Run(ctx)
	}()
	s.later("jobs", func(stop context.Context) error {
		cancel()
		select {
		case <-ended:
			return nil
		case <-stop.Done():
			return context.Cause(stop)
		}
	})
	return runner
}

// jobStore gives the scheduled jobs the store in their own words.
type jobStore struct{ *store.Store }

// JobMarks lists the marks of all jobs.
func (s jobStore) JobMarks(ctx context.Context) ([]schedule.Mark, error) {
	list, err := s.Store.JobMarks(ctx)
	marks := make([]schedule.Mark, len(list))
	for i, m := range list {
		marks[i] = schedule.Mark(m)
	}
	return marks, err
}

// ClaimJobs moves a mark and stores the runs that nobody had claimed.
func (s jobStore) ClaimJobs(ctx context.Context, m schedule.Mark, runs ...domain.JobRun) ([]domain.JobRun, error) {
	return s.Store.ClaimJobs(ctx, store.JobMark(m), runs...)
}

// jobReleases says which release jobs run on.
type jobReleases struct {
	store  *store.Store
	router *router

	mu    sync.Mutex
	known map[string]domain.Release // by id; those without scheduled roles without their workloads
}

// Owners lists the releases with most of the traffic that have scheduled roles. It is asked all the time, so it believes
// what the router remembers: whoever starts a job asks for its Owner again.
func (j *jobReleases) Owners(ctx context.Context) ([]domain.Release, error) {
	slots, err := j.store.Slots(ctx)
	if err != nil {
		return nil, err
	}
	next := j.router.majorities()
	var owners []domain.Release
	used := map[string]bool{}
	for _, slot := range slots {
		if slot.Stable == "" {
			continue
		}
		id := slot.Stable
		if other := next[environment{slot.App, slot.Environment}]; other != "" {
			id = other
		}
		used[id] = true
		rel, err := j.remembered(ctx, id)
		if err != nil {
			return nil, err
		}
		if len(rel.Workloads) > 0 {
			owners = append(owners, rel)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for id := range j.known {
		if !used[id] {
			delete(j.known, id)
		}
	}
	return owners, nil
}

// remembered returns a release; releases do not change.
func (j *jobReleases) remembered(ctx context.Context, id string) (domain.Release, error) {
	j.mu.Lock()
	rel, ok := j.known[id]
	j.mu.Unlock()
	if ok {
		return rel, nil
	}
	rel, err := j.store.Release(ctx, id)
	if err != nil {
		return rel, err
	}
	if !hasJobs(rel) {
		rel.Workloads = nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.known[id] = rel
	return rel, nil
}

func hasJobs(rel domain.Release) bool {
	for _, w := range rel.Workloads {
		if w.Kind == domain.Cron {
			return true
		}
	}
	return false
}

// Owner returns the release with the majority of an environment's traffic, as the data plane answers now: next while more
// than half of it goes there, else stable. Before the first release is stable there is none.
func (j *jobReleases) Owner(ctx context.Context, app string, env domain.Environment) (domain.Release, bool, error) {
	traffic, err := j.router.State(ctx, app, env)
	if err != nil {
		return domain.Release{}, false, err
	}
	slot, err := j.store.Slot(ctx, app, env)
	if err != nil || slot.Stable == "" {
		return domain.Release{}, false, err
	}
	id := slot.Stable
	switch {
	case traffic.Rollout == "" && traffic.Stable != "":
		id = traffic.Stable // the slot follows in a moment
	case traffic.Rollout != "" && !traffic.Latched && isMajority(traffic.Weight):
		r, err := j.store.Rollout(ctx, traffic.Rollout)
		if err != nil {
			return domain.Release{}, false, err
		}
		if r.State == domain.RolloutOpen || r.State == domain.RolloutDone {
			id = r.Next
		}
	}
	rel, err := j.store.Release(ctx, id)
	return rel, err == nil, err
}

// Release returns one release.
func (j *jobReleases) Release(ctx context.Context, id string) (domain.Release, error) {
	return j.store.Release(ctx, id)
}

// TakenBack reports whether a rollout of the release was rolled back, or is being.
func (j *jobReleases) TakenBack(ctx context.Context, id string) (bool, error) {
	rel, err := j.store.Release(ctx, id)
	if domain.CodeOf(err) == domain.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	rollouts, err := j.store.RolloutsOf(ctx, rel.App, rel.Delivery)
	for _, r := range rollouts {
		if r.Next == id && (r.State == domain.RolloutReverting || r.State == domain.RolloutRolledBack) {
			return true, nil
		}
	}
	return false, err
}

func isMajority(weight int) bool { return 2*weight > domain.WeightAll }

// environment is one environment of one app.
type environment struct {
	app string
	env domain.Environment
}

// majorities returns, by environment, the next releases that more than half of the traffic goes to, as far as the router
// knows.
func (r *router) majorities() map[environment]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := map[environment]string{}
	for _, route := range r.routes {
		if route.Rollout != "" && route.Next != nil && !route.Latched && isMajority(route.Weight) {
			next[environment{route.App, route.Environment}] = route.Next.Release
		}
	}
	return next
}

// shownJobs is how many runs of a scheduled role the logs show.
const shownJobs = 5

// jobLogs names the logs of the newest runs of a scheduled role: path to what stands before each line.
func (r *runner) jobLogs(app string, env domain.Environment, role string) (map[string]string, error) {
	ids, err := r.JobsOf(app, env, role)
	if err != nil {
		return nil, err
	}
	logs := map[string]string{}
	for _, id := range ids[:min(shownJobs, len(ids))] {
		tick := time.Unix(int64(id.Index), 0).UTC().Format("2006-01-02 15:04:05")
		logs[r.Driver.Logs(id)] = fmt.Sprintf("%s %s %s", env, role, tick)
	}
	return logs, nil
}
