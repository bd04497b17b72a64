package rollout

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
)

// process is one life of the engine on a machine: all of its ports. Once it is dead nothing that it does has an effect.
type process struct {
	*machine
	t     *testing.T
	end   context.CancelCauseFunc
	crash crash
	ops   int
	dead  bool
}

// op counts an effect that was done, and dies where the course says so.
func (p *process) op(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ops++
	if p.ops == p.crash.after {
		p.dead = p.crash.hard
		p.end(errSuspended)
	}
	if p.dead {
		return errGone
	}
	return context.Cause(ctx)
}

// enter locks the machine, unless the process may do nothing any more or nobody waits for what it asks.
func (p *process) enter(ctx context.Context) error {
	p.mu.Lock()
	err := context.Cause(ctx)
	if p.dead {
		err = errGone
	}
	if err != nil {
		p.mu.Unlock()
	}
	return err
}

// limited: whatever is waited for has a deadline.
func (p *process) limited(ctx context.Context, what string) {
	if _, ok := ctx.Deadline(); !ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.fail("%s has no deadline", what)
	}
}

func (p *process) Start(ctx context.Context, i domain.Instance) (domain.InstanceStatus, error) {
	none := domain.InstanceStatus{InstanceID: i.InstanceID}
	p.limited(ctx, "a start")
	if err := p.enter(ctx); err != nil {
		return none, err
	}
	pr := p.procs[i.InstanceID]
	if p.back && i.Release == "v2" && p.rollout.State != domain.RolloutDone {
		p.fail("next's %s/%d starts after a rollback began", i.Role, i.Index)
	}
	if pr == nil {
		pr = &proc{inst: i}
		p.procs[i.InstanceID] = pr
		p.note("start %s/%s/%d", i.Release, i.Role, i.Index)
		p.boot(pr)
	}
	p.mu.Unlock()
	if err := p.op(ctx); err != nil {
		return none, err
	}
	for late := time.Now().Add(startsIn); time.Now().Before(late) || p.course.starts.silent; {
		p.mu.Lock()
		state, known := pr.state, p.procs[i.InstanceID] == pr
		p.mu.Unlock()
		switch {
		case !known || state == domain.Stopping:
			return none, errors.New("it was stopped meanwhile")
		case state == domain.Healthy:
			return domain.InstanceStatus{InstanceID: i.InstanceID, State: state}, p.op(ctx)
		}
		select {
		case <-time.After(tick):
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
	}
	return none, errors.New("never healthy")
}

func (p *process) Stop(ctx context.Context, id domain.InstanceID) error {
	p.limited(ctx, "a stop")
	if p.in(p.course.stops) {
		return errors.New("it does not stop")
	}
	if err := p.enter(ctx); err != nil {
		return err
	}
	pr := p.procs[id]
	if pr == nil {
		p.mu.Unlock()
		return p.op(ctx)
	}
	if id.Release == "v1" && p.back {
		p.fail("stable's %s/%d is stopped after a rollback began", id.Role, id.Index)
	}
	if pr.inst.Workload.Kind == domain.Web && !p.left[id] {
		p.fail("%s/%s/%d is stopped and was not drained", id.Release, id.Role, id.Index)
	}
	p.note("stop %s/%s/%d", id.Release, id.Role, id.Index)
	pr.state = domain.Stopping
	p.mu.Unlock()
	gone := make(chan struct{})
	time.AfterFunc(stopTakes, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.procs[id] == pr {
			delete(p.procs, id)
			delete(p.left, id)
		}
		close(gone)
	})
	select {
	case <-gone:
		return p.op(ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *process) List(context.Context, string, domain.Environment) (list []domain.InstanceStatus, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, pr := range p.procs {
		list = append(list, domain.InstanceStatus{InstanceID: id, State: pr.state})
	}
	return list, nil
}

func (p *process) Split(ctx context.Context, s Split) error {
	if s.Rollout != "" && !s.Latched {
		p.limited(ctx, "a raise")
	}
	if p.in(p.course.splits) {
		return errors.New("the data plane does not answer")
	}
	if err := p.enter(ctx); err != nil {
		return err
	}
	if p.table.Latched && s.Rollout == p.table.Rollout && s.Weight > p.table.Weight {
		p.fail("a raise to %s of a rollout that is latched", Percent(s.Weight))
		p.mu.Unlock()
		return domain.Errorf(domain.Conflict, "it was rolled back")
	}
	for id := range p.left {
		if (s.Latched || s.Rollout == "") && s.Stable != nil && id.Release == s.Stable.ID {
			delete(p.left, id)
		}
	}
	p.judgeSplit(s)
	p.note("split %s", Percent(s.Weight))
	p.asked = s
	if s.Latched && !p.back {
		p.back, p.lowered = true, time.Now()
	}
	if p.routed(s) {
		p.table = s
	}
	p.mu.Unlock()
	return p.op(ctx)
}

// routed reports whether there is a web role whose route carries a split.
func (p *process) routed(s Split) bool {
	for _, rel := range []*domain.Release{s.Stable, s.Next} {
		if rel == nil {
			continue
		}
		for _, w := range rel.Workloads {
			if w.Kind == domain.Web {
				return true
			}
		}
	}
	return false
}

func (p *process) State(context.Context, string, domain.Environment) (Traffic, error) {
	if p.in(p.course.states) {
		return Traffic{}, errors.New("the data plane does not answer")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := Traffic{Rollout: p.table.Rollout, Weight: p.table.Weight, Latched: p.table.Latched}
	if p.table.Stable != nil {
		t.Stable = p.table.Stable.ID
	}
	return t, nil
}

// Drain takes an instance out of the traffic. Only a split that goes back, or has no rollout, lets those of stable in again.
func (p *process) Drain(ctx context.Context, id domain.InstanceID, within time.Duration) error {
	p.limited(ctx, "a drain")
	if err := p.enter(ctx); err != nil {
		return err
	}
	p.judgeDrain(id)
	p.note("drain %s/%s/%d", id.Release, id.Role, id.Index)
	p.mu.Unlock()
	if p.in(p.course.drains) {
		select {
		case <-time.After(within):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return p.op(ctx)
}

func (p *process) Raise(ctx context.Context, _ *Rollout, _ int) error {
	p.limited(ctx, "a gate")
	for p.in(p.course.gate) {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return ctx.Err()
}

func (p *process) Check(ctx context.Context, _ *Rollout, traffic bool) error {
	p.limited(ctx, "a check")
	if p.course.red == map[bool]string{false: "at 0 %", true: "under traffic"}[traffic] {
		return errors.New("a check is red")
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return p.op(ctx)
}

func (p *process) Watch(ctx context.Context, r *Rollout, w Watch) (Finding, error) {
	_, err := guard.Watcher{Limits: modelLimits, Samples: samples{p.machine, *r.View().Record.Shifted}}.Watch(ctx, w.From, w.Hold)
	return Finding{}, err
}

func (p *process) store(f func()) error {
	if p.in(p.course.store) {
		return errors.New("the disk is full")
	}
	if err := p.enter(context.Background()); err != nil {
		return err
	}
	f()
	p.mu.Unlock()
	return nil
}

func (p *process) Lookup(_ context.Context, run, name string) (rec []byte, found bool, err error) {
	err = p.store(func() { rec, found = p.records[run+name] })
	return rec, found, err
}

func (p *process) Save(ctx context.Context, run, name string, rec []byte) error {
	if err := p.store(func() { p.records[run+name] = rec }); err != nil {
		return err
	}
	if p.op(ctx) != nil && p.dead {
		return errGone
	}
	return nil
}

func (p *process) SaveRollout(ctx context.Context, rec domain.RolloutRecord) error {
	if err := p.store(func() { p.rollout = rec }); err != nil {
		return err
	}
	return p.op(ctx)
}

func (p *process) Settle(ctx context.Context, rec domain.RolloutRecord) error {
	err := p.store(func() {
		if rec.State == domain.RolloutDone && rec.Reason == "" { // with a reason it was left where it is
			p.judgeDone()
		}
		p.rollout = rec
	})
	if err != nil {
		return err
	}
	return p.op(ctx)
}

func (p *process) Step(_ context.Context, r *Rollout, i int, now Progress) {
	if p.enter(context.Background()) != nil {
		return
	}
	defer p.mu.Unlock()
	s := r.Plan[i]
	switch {
	case now.State == domain.Running && p.back && s.Verb != Retire && i <= r.Plan.Settled(): // a stop is judged itself
		p.fail("step %d %q begins after a rollback", i, s)
	case now.State == domain.Running && s.Verb == Bake:
		if from, known := p.bakes[i]; known && !from.Equal(now.At) {
			p.fail("the bake %d began at %s, and now at %s", i, from.Sub(p.began), now.At.Sub(p.began))
		}
		p.bakes[i] = now.At
		p.judgeConsumers(s.Weight)
	case now.State == domain.DoneState && s.Verb == Bake:
		p.judgeBake(i)
		p.baked[i], p.watched = true, time.Now()
	}
}

func (p *process) Lowered(context.Context, *Rollout, time.Duration) {}

func (p *process) RolledBack(_ context.Context, _ *Rollout, b *RolledBack) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = b
}
func (p *process) Page(context.Context, *Rollout, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pages++
}

// live runs the rollout until it ends or the process does.
func (p *process) live() error {
	ctx, end := context.WithCancelCause(p.t.Context())
	p.end = end
	defer end(nil)
	e := &Engine{Driver: p, Router: p, Guard: p, Gate: p, Checker: p, Ledger: p, Journal: p, Observer: p,
		Limits: Limits{Step: modelSlack, Gate: modelGate, Rollback: time.Minute, PageEvery: 5 * time.Minute, RollbackDrain: 5 * time.Second}}
	r := &Rollout{Record: p.rollout, Plan: p.plan, Stable: p.machine.stable, Next: *p.next}
	wanted := errors.New("ana wants it back")
	select {
	case <-p.wish: // what was wanted while nobody lived is read first
		r.Interrupt(wanted)
	default:
	}
	heard, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(heard)
		select {
		case <-p.wish:
			r.Interrupt(wanted)
		case <-over:
		}
	}()
	defer func() { close(over); <-heard }()
	for _, stage := range productionStages {
		if err := e.Advance(ctx, r, stage); err != nil {
			return err
		}
	}
	return nil
}

// play lives until the rollout has an end.
func (m *machine) play(t *testing.T) error {
	for _, d := range m.course.deaths {
		time.AfterFunc(time.Duration(d.at)*time.Second+time.Millisecond, func() {
			if d.gone {
				m.mu.Lock()
				defer m.mu.Unlock()
				delete(m.procs, d.of)
				return
			}
			m.kill(d.of)
		})
	}
	if m.course.wish > 0 {
		time.AfterFunc(time.Duration(m.course.wish)*time.Second+2*time.Millisecond, func() { close(m.wish) })
	}
	for life := 0; ; life++ {
		p := &process{machine: m, t: t}
		if life < len(m.course.crashes) {
			p.crash = m.course.crashes[life]
		}
		m.lives++
		if p.crash.at > 0 {
			time.AfterFunc(p.crash.at, func() { p.end(errSuspended) })
		}
		err := p.live()
		if !p.dead && !errors.Is(err, errSuspended) {
			return err
		}
		if life >= len(m.course.crashes) {
			return fmt.Errorf("suspended by nobody: %w", err)
		}
		p.dead = true
		m.forget()
		if p.crash.reboot {
			m.reboot()
		}
		if p.crash.deadMan {
			m.deadMan()
		}
		time.Sleep(time.Duration(p.crash.down)*time.Second + 3*time.Millisecond)
	}
}

func (m *machine) String() string {
	s := fmt.Sprintf("record %s, table %s", m.rollout.State, Percent(m.table.Weight))
	for id, p := range m.procs {
		s += fmt.Sprintf(", %s/%s/%d %s", id.Release, id.Role, id.Index, p.state)
	}
	return s
}
