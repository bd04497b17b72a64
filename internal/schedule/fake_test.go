package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

var errCrashed = errors.New("the process is gone")

// world is what survives a process: the store, the machine's processes, and who has the traffic. It can end the process
// after any effect.
type world struct {
	t  *testing.T
	mu sync.Mutex

	effects, crashAt int
	crash            func() // ends the process that runs now; nil: there is none
	down             bool

	marks    map[key]Mark
	rows     map[key]map[int64]domain.JobRun
	procs    map[domain.InstanceID]*proc
	releases map[string]domain.Release
	taken    map[string]bool
	owner    string // id of the release with the majority, "" for none
	takes    time.Duration
	code     int
	refuse   error // of StartJob
	blind    error // of Owners
	events   []string
	retained int
	ownerAsk func() // runs after an owner was found, before it is told
}

type proc struct {
	starts int
	end    domain.JobRun
	over   chan struct{}
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, marks: map[key]Mark{}, rows: map[key]map[int64]domain.JobRun{}, procs: map[domain.InstanceID]*proc{},
		releases: map[string]domain.Release{}, takes: time.Second,
	}
}

var tidy = key{"shop", domain.Production, "tidy"}

// release adds a release with one job.
func (w *world) release(id, schedule string, change func(*domain.Workload)) {
	job := domain.Workload{Role: "tidy", Kind: domain.Cron, Schedule: schedule, Overlap: "skip", Timeout: time.Hour}
	if change != nil {
		change(&job)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.releases[id] = domain.Release{ID: id, App: "shop", Environment: domain.Production, Workloads: []domain.Workload{
		{Role: "web", Kind: domain.Web, Instances: 2}, job,
	}}
}

func (w *world) own(id string) { w.set(func() { w.owner = id }) }

// set changes the world while a process may look at it.
func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// effect does something that lasts, and may be the last thing that the process does.
func (w *world) effect(ctx context.Context, f func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down || ctx.Err() != nil {
		return errCrashed
	}
	f()
	w.effects++
	if w.effects == w.crashAt {
		w.down = true
		w.crash()
		return errCrashed
	}
	return nil
}

func (w *world) JobMarks(context.Context) ([]Mark, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []Mark
	for _, m := range w.marks {
		all = append(all, m)
	}
	return all, nil
}

func (w *world) ClaimJobs(ctx context.Context, m Mark, runs ...domain.JobRun) (claimed []domain.JobRun, err error) {
	err = w.effect(ctx, func() {
		w.marks[key{m.App, m.Environment, m.Role}] = m
		for _, r := range runs {
			k := keyOf(r)
			if w.rows[k] == nil {
				w.rows[k] = map[int64]domain.JobRun{}
			}
			if _, there := w.rows[k][r.Tick.Unix()]; !there {
				w.rows[k][r.Tick.Unix()] = r
				claimed = append(claimed, r)
			}
		}
	})
	return claimed, err
}

func (w *world) DropJobMark(ctx context.Context, app string, env domain.Environment, role string) error {
	return w.effect(ctx, func() { delete(w.marks, key{app, env, role}) })
}

func (w *world) SaveJobRun(ctx context.Context, r domain.JobRun) error {
	return w.effect(ctx, func() {
		if before, ok := w.rows[keyOf(r)][r.Tick.Unix()]; !ok || final(before) {
			w.t.Errorf("stored over %+v: %+v", before, r)
		}
		w.rows[keyOf(r)][r.Tick.Unix()] = r
	})
}

func final(r domain.JobRun) bool {
	return r.State != domain.JobClaimed && r.State != domain.JobQueued && r.State != domain.JobRunning
}

func (w *world) OpenJobRuns(context.Context) ([]domain.JobRun, error) {
	return slices.DeleteFunc(w.runs(tidy), final), nil
}

func (w *world) JobRuns(_ context.Context, app string, env domain.Environment, role string, limit int) ([]domain.JobRun, error) {
	all := w.runs(key{app, env, role})
	slices.Reverse(all)
	return all[:min(limit, len(all))], nil
}

func (w *world) PruneJobRuns(context.Context, string, domain.Environment, string, int) error {
	return nil
}

// runs lists the rows of a job in the order of their ticks.
func (w *world) runs(k key) []domain.JobRun {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []domain.JobRun
	for _, r := range w.rows[k] {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b domain.JobRun) int { return a.Tick.Compare(b.Tick) })
	return all
}

func (w *world) StartJob(ctx context.Context, inst domain.Instance) error {
	var refuse error
	w.set(func() { refuse = w.refuse })
	if refuse != nil {
		return refuse
	}
	return w.effect(ctx, func() {
		if w.procs[inst.InstanceID] != nil {
			return
		}
		if inst.Workload.Role != inst.Role {
			w.t.Errorf("started without a workload: %+v", inst)
		}
		now, p := time.Now(), &proc{starts: 1, over: make(chan struct{})}
		p.end.Started = &now
		w.procs[inst.InstanceID] = p
		code := w.code
		time.AfterFunc(w.takes, func() { w.ended(p, code, "") })
	})
}

func (w *world) ended(p *proc, code int, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.end.Ended != nil {
		return
	}
	now := time.Now()
	p.end.Ended, p.end.Code, p.end.State, p.end.Message = &now, code, domain.JobDone, why
	if code != 0 {
		p.end.State, p.end.Message = domain.JobFailed, fmt.Sprintf("it ended with exit code %d", code)
	}
	close(p.over)
}

func (w *world) KnowsJob(id domain.InstanceID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.procs[id] != nil
}

func (w *world) AwaitJob(ctx context.Context, id domain.InstanceID) (domain.JobRun, error) {
	w.mu.Lock()
	p := w.procs[id]
	w.mu.Unlock()
	if p == nil {
		return domain.JobRun{}, domain.Errorf(domain.NotFound, "%s: never begun", id)
	}
	select {
	case <-p.over:
		return p.end, nil
	case <-ctx.Done():
		return domain.JobRun{}, context.Cause(ctx)
	}
}

func (w *world) StopJob(ctx context.Context, id domain.InstanceID) error {
	var p *proc
	err := w.effect(ctx, func() { p = w.procs[id] })
	if p != nil {
		w.ended(p, -1, "")
	}
	return err
}

func (w *world) RetainJobs(context.Context, string, domain.Environment, string, int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.retained++
	return nil
}

func (w *world) Owners(ctx context.Context) ([]domain.Release, error) {
	var blind error
	w.set(func() { blind = w.blind })
	if blind != nil {
		return nil, blind
	}
	rel, ok, err := w.Owner(ctx, "shop", domain.Production)
	if !ok {
		return nil, err
	}
	return []domain.Release{rel}, err
}

func (w *world) Owner(ctx context.Context, _ string, _ domain.Environment) (domain.Release, bool, error) {
	w.mu.Lock()
	rel, ok := w.releases[w.owner]
	ask := w.ownerAsk
	w.mu.Unlock()
	if ask != nil {
		ask()
	}
	return rel, ok, ctx.Err()
}

func (w *world) Release(_ context.Context, id string) (domain.Release, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if rel, ok := w.releases[id]; ok {
		return rel, nil
	}
	return domain.Release{}, domain.Errorf(domain.NotFound, "release %s: not found", id)
}

func (w *world) ports() Ports {
	return Ports{
		Store: w, Driver: w, Releases: w,
		Instance: func(rel *domain.Release, role string, index int) domain.Instance {
			inst := domain.Instance{InstanceID: domain.InstanceID{App: rel.App, Environment: rel.Environment, Release: rel.ID, Role: role, Index: index}}
			for _, load := range rel.Workloads {
				if load.Role == role {
					inst.Workload = load
				}
			}
			return inst
		},
		Emit: func(_ context.Context, e domain.Event) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, fmt.Sprint(e.Type, " ", e.Data["tick"]))
		},
		Failed: func(what string, err error) { w.t.Logf("%s: %v", what, err) },
	}
}

func (w *world) TakenBack(ctx context.Context, id string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.taken[id], ctx.Err()
}

// process is one life of the daemon.
type process struct {
	*Runner
	stop  func()
	ended chan struct{}
}

// serve starts the daemon. The caller, or a crash, ends it.
func (w *world) serve() *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{Runner: New(w.ports()), ended: make(chan struct{})}
	w.mu.Lock()
	w.down, w.crash = false, cancel
	w.mu.Unlock()
	go func() {
		defer close(p.ended)
		p.Run(ctx)
	}()
	p.stop = func() { cancel(); <-p.ended }
	return p
}

// starts returns how often the process of a tick was started, on whatever release.
func (w *world) starts(tick time.Time) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, p := range w.procs {
		if id.Index == int(tick.Unix()) {
			n += p.starts
		}
	}
	return n
}
