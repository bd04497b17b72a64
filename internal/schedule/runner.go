package schedule

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

const (
	// lookEvery is how often the jobs are looked up, between ticks.
	lookEvery = 2 * time.Second
	// tryAgain is the pause after something that did not succeed.
	tryAgain = time.Second
	// lateAfter is from when on a run says that it is late.
	lateAfter = 5 * time.Second
	// clockBack is how far the clock must have been set back before the marks of the future are given up. Until then ticks
	// that were accounted for do not come again.
	clockBack = 24 * time.Hour
	// endWithin is how long End waits: TERM, KILL 10 s later, and what that takes on a busy machine.
	endWithin = 30 * time.Second
	// keepRuns and keepFolders are how many runs of a job are remembered, and of how many of them the log.
	keepRuns    = 20
	keepFolders = 5
	queue       = "queue" // of Workload.Overlap
)

// key names a job.
type key struct {
	app  string
	env  domain.Environment
	role string
}

func keyOf(r domain.JobRun) key { return key{r.App, r.Environment, r.Role} }

// Runner starts what is due. Its methods may be called at the same time; Run runs once.
type Runner struct {
	ports   Ports
	ready   chan struct{} // closed when Run knows what an earlier process left
	stopped chan struct{} // closed when Run has ended
	workers sync.WaitGroup

	// Of Run only.
	since     time.Time // when it began to look
	schedules map[string]Schedule
	marks     map[key]Mark

	mu   sync.Mutex
	jobs map[key]*job
	ends int // how often End was called
}

// job is one scheduled role at work.
type job struct {
	line    []*turn // not over, in the order in which they run; the first one is at work when working
	working bool
}

// turn is one run on its way.
type turn struct {
	run    domain.JobRun
	begun  time.Time     // when it was its turn; zero before
	ending string        // why it must end, "" when it need not
	cancel func()        // wakes up whoever waits for its end; nil before
	done   chan struct{} // closed when it is over
}

// New returns a runner that does nothing until Run.
func New(p Ports) *Runner {
	return &Runner{ports: p, ready: make(chan struct{}), stopped: make(chan struct{}), schedules: map[string]Schedule{}, marks: map[key]Mark{}, jobs: map[key]*job{}}
}

// Run goes on with what an earlier process left, and then starts every job at each of its ticks, until ctx ends. What runs
// then goes on without it.
func (r *Runner) Run(ctx context.Context) {
	defer close(r.stopped)
	defer r.workers.Wait()
	if !r.insist(ctx, "find the jobs that run", r.resume) {
		return
	}
	close(r.ready)
	r.since = time.Now()
	for {
		next := r.look(ctx, time.Now())
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return
		}
	}
}

// insist tries until it succeeds, and reports whether it did before ctx ended.
func (r *Runner) insist(ctx context.Context, what string, f func(context.Context) error) bool {
	for {
		err := f(ctx)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		r.ports.Failed(what, err)
		select {
		case <-time.After(tryAgain):
		case <-ctx.Done():
			return false
		}
	}
}

func (r *Runner) resume(ctx context.Context) error {
	marks, err := r.ports.Store.JobMarks(ctx)
	if err != nil {
		return err
	}
	open, err := r.ports.Store.OpenJobRuns(ctx)
	if err != nil {
		return err
	}
	for _, m := range marks {
		r.marks[key{m.App, m.Environment, m.Role}] = m
	}
	taken := map[string]bool{}
	for _, run := range open {
		if _, asked := taken[run.Release]; !asked && run.Release != "" {
			if taken[run.Release], err = r.ports.Releases.TakenBack(ctx, run.Release); err != nil {
				return err
			}
		}
	}
	// What runs already comes before what was made up for meanwhile.
	slices.SortStableFunc(open, func(a, b domain.JobRun) int { return rank(a) - rank(b) })
	r.enqueue(ctx, open, taken)
	return nil
}

func rank(r domain.JobRun) int {
	if r.State == domain.JobRunning {
		return 0
	}
	return 1
}

// look starts what is due and returns when to look again.
func (r *Runner) look(ctx context.Context, now time.Time) time.Time {
	owners, err := r.ports.Releases.Owners(ctx)
	if err != nil {
		r.failed(ctx, "find the releases that jobs run on", err)
		return now.Add(tryAgain)
	}
	next := now.Add(lookEvery)
	there := map[key]bool{}
	for _, rel := range owners {
		for _, w := range rel.Workloads {
			if w.Kind != domain.Cron || w.Schedule == "" {
				continue
			}
			k := key{rel.App, rel.Environment, w.Role}
			there[k] = true
			tick, err := r.claim(ctx, k, w, now)
			if err != nil {
				r.failed(ctx, "claim the ticks of "+k.role+" of "+k.app, err)
				tick = now.Add(tryAgain)
			}
			if !tick.IsZero() && tick.Before(next) {
				next = tick
			}
		}
	}
	for k := range r.marks {
		if there[k] {
			continue
		}
		if err := r.ports.Store.DropJobMark(ctx, k.app, k.env, k.role); err != nil {
			r.failed(ctx, "forget the ticks of "+k.role+" of "+k.app, err)
			continue
		}
		delete(r.marks, k)
	}
	return next
}

func (r *Runner) failed(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		r.ports.Failed(what, err)
	}
}

// claim stores a run for each tick of a job that has come due, hands them to its worker, and returns its next tick.
func (r *Runner) claim(ctx context.Context, k key, w domain.Workload, now time.Time) (time.Time, error) {
	s, ok := r.schedules[w.Schedule]
	if !ok {
		c, err := Parse(w.Schedule)
		if err != nil {
			return time.Time{}, err
		}
		s, r.schedules[w.Schedule] = c, c
	}
	mark, known := r.marks[k]
	if !known || mark.Schedule != w.Schedule || mark.At.After(now.Add(clockBack)) {
		// Its ticks count from now on: those of another schedule say nothing about this one.
		mark = Mark{App: k.app, Environment: k.env, Role: k.role, Schedule: w.Schedule, At: now.Truncate(time.Second)}
		if _, err := r.ports.Store.ClaimJobs(ctx, mark); err != nil {
			return time.Time{}, err
		}
		r.marks[k] = mark
	}
	p := passedSince(s, mark.At, now)
	if p.empty() {
		return s.Next(latest(now, mark.At)), nil
	}
	mark.At = p.last()
	claimed, err := r.ports.Store.ClaimJobs(ctx, mark, r.decide(k, w, p, now)...)
	if err != nil {
		return time.Time{}, err
	}
	r.marks[k] = mark
	r.enqueue(ctx, claimed, nil)
	return s.Next(now), nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// decide says what becomes of each tick.
func (r *Runner) decide(k key, w domain.Workload, p passed, now time.Time) []domain.JobRun {
	r.mu.Lock()
	defer r.mu.Unlock()
	var line []*turn
	if j := r.jobs[k]; j != nil {
		line = j.line
	}
	var runs []domain.JobRun
	add := func(tick time.Time, state domain.JobState, message string) {
		runs = append(runs, domain.JobRun{App: k.app, Environment: k.env, Role: k.role, Tick: tick, State: state, Message: message})
	}
	for i, tick := range p.missed {
		message := "nobody was there to start it"
		if i == 0 && p.before > 0 {
			message += fmt.Sprintf(", nor the %s ticks before it since %s", atMost(p.before), clock(p.since))
		}
		add(tick, domain.JobMissed, message)
	}
	waits := slices.ContainsFunc(line, func(t *turn) bool { return t.run.State == domain.JobQueued })
	for _, tick := range p.due {
		late := ""
		if by := now.Sub(tick); by >= lateAfter {
			late = fmt.Sprintf("late by %s: nobody was there at its time", by.Round(time.Second))
		}
		// A tick that nobody was there for, or that came before the run that is at work, is made up for in its turn.
		busy := len(line) > 0 && !line[0].begun.IsZero() && !line[0].begun.After(tick) && !tick.Before(r.since)
		switch {
		case !busy:
			add(tick, domain.JobClaimed, late)
		case w.Overlap == queue && !waits:
			waits = true
			add(tick, domain.JobQueued, late)
		case w.Overlap == queue:
			add(tick, domain.JobSkipped, fmt.Sprintf("the run of %s was not over, and another one waits for it", clock(line[0].run.Tick)))
		default:
			add(tick, domain.JobSkipped, fmt.Sprintf("the run of %s was not over", clock(line[0].run.Tick)))
		}
	}
	return runs
}

func atMost(n int) string {
	if n >= counted {
		return fmt.Sprintf("more than %d", counted)
	}
	return strconv.Itoa(n)
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// enqueue hands runs that are not over to the workers of their jobs, and tells of those that are. Those of the releases that
// were taken back are to be ended.
func (r *Runner) enqueue(ctx context.Context, runs []domain.JobRun, taken map[string]bool) {
	for _, run := range runs {
		switch run.State {
		case domain.JobSkipped, domain.JobMissed:
			r.emit(ctx, run)
			continue
		}
		t := &turn{run: run, done: make(chan struct{})}
		if taken[run.Release] {
			t.ending = endedByRollback
		}
		if run.State == domain.JobRunning {
			if t.begun = run.Tick; run.Started != nil {
				t.begun = *run.Started
			}
			if run.Ended != nil { // it was being ended
				t.ending = run.Message
			}
		}
		r.mu.Lock()
		k := keyOf(run)
		j := r.jobs[k]
		if j == nil {
			j = &job{}
			r.jobs[k] = j
		}
		j.line = append(j.line, t)
		if !j.working {
			j.working = true
			r.workers.Go(func() { r.work(ctx, k, j) })
		}
		r.mu.Unlock()
	}
}

// work carries the runs of one job, one after the other.
func (r *Runner) work(ctx context.Context, k key, j *job) {
	for {
		r.mu.Lock()
		if len(j.line) == 0 {
			j.working = false
			delete(r.jobs, k)
			r.mu.Unlock()
			return
		}
		t := j.line[0]
		if t.begun.IsZero() {
			t.begun = time.Now()
		}
		r.mu.Unlock()
		if !r.carry(ctx, t) {
			return
		}
		r.mu.Lock()
		j.line = j.line[1:]
		close(t.done)
		r.mu.Unlock()
	}
}

// End ends what still runs of a release that was taken back, and returns when that is over and recorded. Runs of it that
// have not begun begin on the release that has the traffic then. When it takes too long it goes on without the caller, who
// gets an error.
func (r *Runner) End(ctx context.Context, app string, env domain.Environment, release string) error {
	ctx, cancel := context.WithTimeout(ctx, endWithin)
	defer cancel()
	if err := r.await(ctx, r.ready, app); err != nil {
		return err
	}
	r.mu.Lock()
	r.ends++
	var ending []chan struct{}
	for k, j := range r.jobs {
		if k.app != app || k.env != env {
			continue
		}
		for _, t := range j.line {
			if t.run.Release != release {
				continue
			}
			ending = append(ending, t.done)
			if t.ending == "" {
				t.ending = endedByRollback
			}
			if t.cancel != nil {
				t.cancel()
			}
		}
	}
	r.mu.Unlock()
	for _, done := range ending {
		if err := r.await(ctx, done, app); err != nil {
			return err
		}
	}
	return nil
}

// await waits for a step of End.
func (r *Runner) await(ctx context.Context, done <-chan struct{}, app string) error {
	select {
	case <-done:
		return nil
	case <-r.stopped:
		return domain.Errorf(domain.Unavailable, "end the jobs of %s: the server stops", app)
	case <-ctx.Done():
		return domain.Errorf(domain.Failed, "end the jobs of %s: %w", app, context.Cause(ctx))
	}
}

// Status lists the jobs of an environment, each with its next tick and what became of the last one.
func (r *Runner) Status(ctx context.Context, app string, env domain.Environment) ([]domain.JobStatus, error) {
	rel, ok, err := r.ports.Releases.Owner(ctx, app, env)
	if err != nil || !ok {
		return nil, err
	}
	var list []domain.JobStatus
	for _, w := range rel.Workloads {
		if w.Kind != domain.Cron || w.Schedule == "" {
			continue
		}
		s, err := Parse(w.Schedule)
		if err != nil {
			return nil, err
		}
		status := domain.JobStatus{Role: w.Role, Next: s.Next(time.Now())}
		runs, err := r.ports.Store.JobRuns(ctx, app, env, w.Role, 1)
		if err != nil {
			return nil, err
		}
		if len(runs) > 0 {
			status.Last = &runs[0]
		}
		list = append(list, status)
	}
	return list, nil
}
