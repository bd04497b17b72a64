package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/journal"
)

// Driver runs instances. All methods are absolute and may be called again at any time, also by a new process.
type Driver interface {
	// Start returns when the instance is healthy. It returns at once when ctx ends, whatever the instance does.
	Start(ctx context.Context, inst domain.Instance) (domain.InstanceStatus, error)
	// Stop ends the instance and everything it started. An unknown instance is no error.
	Stop(ctx context.Context, id domain.InstanceID) error
	// List says what really runs. It does not block on any instance.
	List(ctx context.Context, app string, env domain.Environment) ([]domain.InstanceStatus, error)
}

// Router splits the traffic of one environment. Split returns after the data plane's acknowledgement.
type Router interface {
	Split(ctx context.Context, s Split) error
	// State returns what the data plane does now, from the data plane itself.
	State(ctx context.Context, app string, env domain.Environment) (Traffic, error)
	// Drain takes one instance out of the traffic and returns when it has no open request, at the latest after within; its
	// streams are then ended properly. An instance that gets no traffic is no error.
	Drain(ctx context.Context, id domain.InstanceID, within time.Duration) error
}

// Split is the whole of what the traffic of one environment should do.
type Split struct {
	App         string
	Environment domain.Environment
	Rollout     string // "" when none is open
	Weight      int
	Latched     bool // a rollback: from now on the data plane refuses every raise of this rollout's next
	Stable      *domain.Release
	Next        *domain.Release
}

// Traffic is what the data plane does.
type Traffic struct {
	Rollout string
	Weight  int
	Latched bool
	// Stable is the release that gets what next does not; "" when the environment takes no traffic.
	Stable string
}

// Watch says for how long the guard watches.
type Watch struct {
	From time.Time
	// Hold is how long it lasts; 0 is until ctx ends. It ends only when at least 95 % of its ticks were observed.
	Hold time.Duration
	// Proof says that the hold ends upwards: it needs evidence, or somebody's word, before it ends.
	Proof bool
	// Proved lets it end earlier when next is proved no worse.
	Proved bool
}

// Guard watches next. A nil error means that the hold is over and was seen, and the finding says what was seen; any error
// but the cause of ctx is a breach.
type Guard interface {
	Watch(ctx context.Context, r *Rollout, w Watch) (Finding, error)
}

// Finding is how a hold ended well: a word for programs and a sentence with its numbers for people.
type Finding struct {
	Verdict  string
	Sentence string
	// Judged is what the judge said last; nil where nobody judged.
	Judged *domain.Judged
}

// Gate is asked before next gets more traffic. It returns when that may be, however long it takes; it is never asked
// before a rollback.
type Gate interface {
	Raise(ctx context.Context, r *Rollout, weight int) error
}

// Checker runs the verifications: at 0 % through the rollout's own listener, or under traffic.
type Checker interface {
	Check(ctx context.Context, r *Rollout, traffic bool) error
}

// Ledger stores how far a rollout is.
type Ledger interface {
	SaveRollout(ctx context.Context, r domain.RolloutRecord) error
	// Settle stores the final record together with the slot: with state done, next is stable from now on.
	Settle(ctx context.Context, r domain.RolloutRecord) error
}

// Observer is told what happens, so that people can see it. It must not block.
type Observer interface {
	Step(ctx context.Context, r *Rollout, index int, p Progress)
	// Lowered is called when the data plane has acknowledged that next lost its traffic; RolledBack when all is done.
	Lowered(ctx context.Context, r *Rollout, moved time.Duration)
	RolledBack(ctx context.Context, r *Rollout, b *RolledBack)
	// Page is called when a person is needed now.
	Page(ctx context.Context, r *Rollout, sentence string)
}

// Progress is how far one step is.
type Progress struct {
	State   domain.DeliveryState
	At      time.Time
	Until   time.Time // end of a bake
	Message string
	Verdict string // of a bake that ended well
	Judged  *domain.Judged
	By      string // who ended it early: the guard, or a person
}

// RolledBack is the error of a rollout that went back.
type RolledBack struct {
	Cause   error
	Shifted bool          // next had traffic
	Left    bool          // there was nothing to go back to: the traffic stays on next
	Moved   time.Duration // from the decision to the data plane's acknowledgement

	recorded bool // the decision is on the disk
}

func (b *RolledBack) Error() string { return b.Cause.Error() }

// Unwrap returns why.
func (b *RolledBack) Unwrap() error { return b.Cause }

// Limits are the deadlines of the engine.
type Limits struct {
	Step          time.Duration // of a step, beyond its hold
	Gate          time.Duration // longest wait before next gets more traffic
	Proof         time.Duration // longest wait for evidence, or for somebody's word, when a hold ended without enough traffic
	Rollback      time.Duration // then a person is paged
	PageEvery     time.Duration
	RollbackDrain time.Duration
}

// Engine runs plans. It is the only executor there is.
type Engine struct {
	Driver   Driver
	Router   Router
	Guard    Guard
	Gate     Gate
	Checker  Checker
	Ledger   Ledger
	Journal  journal.Store
	Observer Observer
	Limits   Limits
}

// Advance runs the slice of the plan that belongs to stage. When a step fails, the guard finds harm or somebody interrupts,
// it goes back and returns *RolledBack. When ctx ends with journal.ErrSuspended it returns that: the rollout goes on at the
// next start. Once next is stable there is no warm way back any more: what is left to do is tried to its end, and the
// errors of all of it are returned.
func (e *Engine) Advance(ctx context.Context, r *Rollout, stage domain.Stage) error {
	if err := e.unfinishedRollback(ctx, r); err != nil {
		return err
	}
	work, done := r.work(ctx)
	defer done()
	var left error
	for i := 0; i < len(r.Plan); {
		end := r.Plan.together(i)
		if r.Plan[i].Stage != stage {
			i = end
			continue
		}
		settled := i > r.Plan.Settled() || r.Record.State == domain.RolloutDone
		live := work
		if settled {
			live = ctx
		}
		err := e.steps(live, r, i, end)
		for settled && unrecorded(err) && ctx.Err() == nil {
			pause(ctx)
			err = e.steps(live, r, i, end)
		}
		if err == nil && end-1 == r.Plan.Settled() {
			err = e.settle(ctx, r)
			for err != nil && r.Record.State == domain.RolloutDone && ctx.Err() == nil {
				pause(ctx)
				err = e.settle(ctx, r)
			}
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case settled:
			left = errors.Join(left, err)
		case r.Record.State == domain.RolloutDone:
			return err
		default:
			return e.Revert(ctx, r, err)
		}
		i = end
	}
	return left
}

// unrecorded reports whether a step has no outcome because it could not be written down.
func unrecorded(err error) bool {
	var outcome *journal.Failure
	return err != nil && !errors.As(err, &outcome)
}

// together returns the end of the steps from i on that are done at the same time: once next is stable, instances that retire
// one after the other in the plan wait for nothing but themselves. Everything else is done in its turn.
func (p Plan) together(i int) int {
	end := i + 1
	for i > p.Settled() && p[i].Verb == Retire && end < len(p) && p[end].Verb == Retire && p[end].Stage == p[i].Stage {
		end++
	}
	return end
}

// steps runs the steps from i to end at the same time, and returns when all are over.
func (e *Engine) steps(ctx context.Context, r *Rollout, i, end int) error {
	if end == i+1 {
		return e.step(ctx, r, i)
	}
	errs := make([]error, end-i)
	var group sync.WaitGroup
	for n := i; n < end; n++ {
		group.Go(func() { errs[n-i] = e.step(ctx, r, n) })
	}
	group.Wait()
	told := map[string]bool{} // what ended all of them is said once
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool {
		known := err == nil || told[err.Error()]
		if !known {
			told[err.Error()] = true
		}
		return known
	})...)
}

// unfinishedRollback goes on with a rollback that a crash cut off. The data plane is asked before the journal: its latch
// may be all that is left of the decision; where there is no route, the journal's record is. Neither may stay unanswered.
func (e *Engine) unfinishedRollback(ctx context.Context, r *Rollout) error {
	switch r.Record.State {
	case domain.RolloutReverting, domain.RolloutRolledBack:
		return e.Revert(ctx, r, errors.New(r.Record.Reason))
	case domain.RolloutDone:
		if r.Stable == nil && r.Record.Reason != "" {
			return e.Revert(ctx, r, errors.New(r.Record.Reason))
		}
	case domain.RolloutOpen:
		begun := false
		err := e.insist(ctx, r, "ask whether a rollback had begun", func(ctx context.Context) error {
			t, err := e.Router.State(ctx, r.Record.App, r.Record.Environment)
			if err != nil {
				return err
			}
			_, known, err := e.Journal.Lookup(ctx, r.Record.ID, causeRecord)
			begun = known || t.Latched && t.Rollout == r.Record.ID
			return err
		})
		if err != nil {
			return err
		}
		if begun {
			return e.Revert(ctx, r, r.wanted(errors.New("a rollback had begun before the restart")))
		}
	}
	return nil
}

// step runs one step once, within its deadline, and under the guard from the first traffic on.
func (e *Engine) step(ctx context.Context, r *Rollout, i int) error {
	s := r.Plan[i]
	run := journal.Run{Store: e.Journal, ID: r.Record.ID}
	name := fmt.Sprintf("%02d %s", i, s.Verb) // no wording in it: a newer version goes on with the plan of an older one
	began, err := journal.Instant(ctx, run, name+" began")
	if err != nil {
		return err
	}
	return journal.Exec(ctx, run, name, func(ctx context.Context) error {
		p := Progress{State: domain.Running, At: began}
		if s.Verb == Bake {
			p.Until = began.Add(s.Hold)
		}
		e.Observer.Step(ctx, r, i, p)
		within := e.within(s)
		late := domain.Errorf(domain.Failed, "%s: not done within %s", s, domain.Span(within))
		from := began
		if i > r.Plan.Settled() {
			from = time.Now() // there is no way back: a restart begins anew
		}
		limited, cancel := context.WithDeadlineCause(ctx, from.Add(within), late)
		defer cancel()
		found, err := e.guarded(limited, r, i, began)
		if err != nil && limited.Err() != nil {
			err = context.Cause(limited)
		}
		e.lowerBefore(ctx, r, i, err)
		if err == nil || ctx.Err() == nil { // an interrupted step has no outcome
			p = Progress{State: domain.DoneState, At: time.Now().UTC(), Verdict: found.Verdict, Message: found.Sentence, Judged: found.Judged}
			if err != nil {
				p.State, p.Message, p.By = domain.FailedState, err.Error(), askedBy(err)
			}
			e.Observer.Step(ctx, r, i, p)
		}
		return err
	})
}

// within is the hard deadline of a step, from its beginning.
func (e *Engine) within(s Step) time.Duration {
	within := s.Hold + e.Limits.Step
	switch {
	case s.Verb == Shift:
		within += e.Limits.Gate
	case s.Proof:
		within += e.Limits.Proof
	}
	return within
}

// lowerBefore takes the traffic from next when a step of the guarded part has failed, before anything is written down: a
// full or slow disk must not delay it. Revert does it again, and reports.
func (e *Engine) lowerBefore(ctx context.Context, r *Rollout, i int, err error) {
	if err == nil || i <= r.Plan.FirstShift() || i > r.Plan.Settled() || errors.Is(context.Cause(ctx), journal.ErrSuspended) {
		return
	}
	_, _ = e.lower(context.WithoutCancel(ctx), r)
	_ = e.recordCause(ctx, r, err)
}

// guarded runs the effect of a step with the guard beside it, while next has traffic. The end of a bake and a breach in
// it are one decision: the guard's. Whatever ends the step early lowers next before the step itself is waited for.
func (e *Engine) guarded(ctx context.Context, r *Rollout, i int, began time.Time) (Finding, error) {
	s := r.Plan[i]
	if s.Verb == Bake && s.Hold == 0 {
		return Finding{}, nil // to the guard 0 is no end at all
	}
	if s.Verb == Bake {
		return e.Guard.Watch(ctx, r, Watch{From: began, Hold: s.Hold, Proof: s.Proof, Proved: s.Proved})
	}
	if i > r.Plan.Settled() {
		return Finding{}, again(ctx, func() error { return e.effect(ctx, r, s) })
	}
	if i <= r.Plan.FirstShift() {
		return Finding{}, e.effect(ctx, r, s)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := make(chan error, 1)
	effect := make(chan error, 1)
	go func() {
		watch <- contain(func() error { _, err := e.Guard.Watch(ctx, r, Watch{From: began}); return err })
	}()
	go func() { effect <- contain(func() error { return e.effect(ctx, r, s) }) }()
	select {
	case err := <-effect:
		cancel(errOver)
		if breach := <-watch; breach != nil && !errors.Is(breach, errOver) && !errors.Is(breach, context.Cause(ctx)) {
			return Finding{}, breach
		}
		return Finding{}, err
	case err := <-watch:
		cancel(err)
		if !errors.Is(err, journal.ErrSuspended) {
			_, _ = e.lower(context.WithoutCancel(ctx), r) // Revert does it again, and reports
		}
		<-effect //nolint:errcheck // it ends with its context; its own outcome no longer matters
		return Finding{}, err
	}
}

// contain turns a defect in a guard or an effect into its failure: the process goes on, and next loses its traffic.
func contain(f func() error) (err error) {
	defer func() {
		if why := recover(); why != nil {
			err = domain.Errorf(domain.Failed, "a defect: %v", why)
		}
	}()
	return f()
}

// errOver ends the guard beside a step that is done.
var errOver = errors.New("the step is over")

func (e *Engine) effect(ctx context.Context, r *Rollout, s Step) error {
	switch s.Verb {
	case Start:
		_, err := e.Driver.Start(ctx, r.instance(s))
		return err
	case Check:
		return e.Checker.Check(ctx, r, s.Traffic)
	case Shift:
		if err := e.Gate.Raise(ctx, r, s.Weight); err != nil {
			return err
		}
		late := domain.Errorf(domain.Failed, "%s: not done within %s of the permission", s, domain.Span(e.Limits.Step))
		ctx, cancel := context.WithTimeoutCause(ctx, e.Limits.Step, late)
		defer cancel()
		return e.shift(ctx, r, s.Weight)
	case Retire:
		return e.retire(ctx, r, s)
	default:
		return domain.Errorf(domain.Failed, "this version cannot run the step %q", s)
	}
}

// shift raises next as far as its healthy instances carry. The record comes before the data plane, so that a crash in
// between is known to have given next traffic.
func (e *Engine) shift(ctx context.Context, r *Rollout, weight int) error {
	up, err := e.observe(ctx, r, 0)
	if err != nil {
		return err
	}
	if short := cannotCarry(RolesOf(&r.Next), up.Next); domain.WeightAll-short < weight {
		return domain.Errorf(domain.Failed, "next has healthy instances for %s of the traffic, %s was planned",
			Percent(domain.WeightAll-short), Percent(weight))
	}
	if r.Record.Shifted == nil {
		now := time.Now().UTC()
		r.change(func(rec *domain.RolloutRecord) { rec.Shifted = &now })
		if err := e.Ledger.SaveRollout(ctx, r.Record); err != nil {
			return err
		}
	}
	return e.Router.Split(ctx, r.split(weight, false))
}

// retire takes an instance out of the traffic and drains it before it is stopped.
func (e *Engine) retire(ctx context.Context, r *Rollout, s Step) error {
	inst, within := r.instance(s), e.Limits.RollbackDrain
	if s.Side == domain.Stable {
		within = inst.Workload.Drain
		if err := e.spare(ctx, r, s); err != nil {
			return err
		}
	}
	if err := e.Router.Drain(ctx, inst.InstanceID, within); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return e.Driver.Stop(ctx, inst.InstanceID)
}

// spare refuses to retire an instance of stable while the others cannot carry what stable still gets.
func (e *Engine) spare(ctx context.Context, r *Rollout, s Step) error {
	t, err := e.Router.State(ctx, r.Record.App, r.Record.Environment)
	if err != nil || t.Rollout != r.Record.ID || r.instance(s).Workload.Kind != domain.Web {
		return err
	}
	up, err := e.observe(ctx, r, t.Weight)
	if err != nil {
		return err
	}
	delete(up.Stable, Slot{s.Role, s.Index})
	var role []Role
	for _, known := range RolesOf(r.Stable) {
		if known.Name == s.Role {
			role = append(role, known)
		}
	}
	if left := domain.WeightAll - cannotCarry(role, up.Stable); left < domain.WeightAll-t.Weight {
		return domain.Errorf(domain.Failed, "without %s stable has healthy instances for %s of the traffic, and gets %s", s.What(),
			Percent(left), Percent(domain.WeightAll-t.Weight))
	}
	return nil
}
