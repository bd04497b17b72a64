package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/journal"
	"github.com/belay-cd/belay/internal/rollout"
)

// run is one delivery while it goes through the stages in this process.
type run struct {
	s        *Service
	life     context.Context         // of the process, or until a rollback after the end of the rollout stops the rest
	halt     context.CancelCauseFunc // ends life
	stop     context.CancelCauseFunc // ends it before production
	over     chan struct{}           // closed when nothing of it runs any more
	loaded   chan struct{}           // closed when the rollouts of an earlier life are known again
	artifact Artifact
	file     *config.File
	last     *config.File // of the delivery that it is judged by; nil: none was done before
	settings settings
	bare     bool           // a way back after done: it belongs to no delivery of its own
	keeping  sync.WaitGroup // of decisions that are being stored
	// An artifact that could not be made local for a rollback, and when that was tried.
	judge     int // number of the delivery whose file it is held to
	preparing sync.Mutex
	looking   sync.Mutex // one looks at the gates at a time: each change is told once
	missing   string
	missingAt time.Time
	begun     chan struct{}        // closed when what judges the delivery is known
	missed    time.Time            // since when staging misses an instance, as its gate saw it
	blind     map[string]time.Time // since when a gate cannot be looked at
	asked     map[string]patience  // by gate: how long people have been asked

	mu       sync.Mutex
	asks     bool           // somebody's word is waited for
	judged   *domain.Judged // what the judge said of production in the last second; nil before it said anything
	d        record
	rollouts map[domain.Environment]*rollout.Rollout
	leases   map[domain.Environment]func()
	back     chan struct{} // closed when a way back after done has moved the traffic
	backOnce sync.Once
	// loadedOnce closes loaded.
	loadedOnce sync.Once
	lowered    map[domain.Environment]chan struct{} // closed when a rollback has moved the traffic
	metrics    comparing                            // both releases' own numbers, side by side
}

type record struct{ domain.Delivery }

func (d record) short() string { return domain.ShortCommit(d.Commit) }

func (r *run) journal() journal.Run { return journal.Run{Store: r.s.ports.Store, ID: r.d.ID} }

// remember stores a value of the run under a name; recall reads it after a restart.
func (r *run) remember(ctx context.Context, name string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return r.s.ports.Store.Save(ctx, r.d.ID, name, raw)
}

func (r *run) recall(ctx context.Context, name string, v any) (bool, error) {
	raw, found, err := r.s.ports.Store.Lookup(ctx, r.d.ID, name)
	if err != nil || !found {
		return false, err
	}
	return true, json.Unmarshal(raw, v)
}

// begin reads what is stored of the delivery: its rollouts before all else, so that none is left alone. A store that does
// not answer is asked again.
func (r *run) begin() error {
	defer close(r.begun)
	for {
		err := r.reload(r.s.life)
		if err == nil {
			r.loadedOnce.Do(func() { close(r.loaded) })
			err = r.load(r.s.life)
		}
		if err == nil {
			err = r.takeOver(r.s.life)
		}
		if err == nil {
			err = r.s.wanted(r.s.life, r)
		}
		var known *domain.Error
		if err == nil || errors.As(err, &known) {
			return err
		}
		r.s.options.Log.Error("read the delivery", "delivery", r.d.Number, "error", err)
		select {
		case <-time.After(retryEvery):
		case <-r.s.life.Done():
			return context.Cause(r.s.life)
		}
	}
}

// retryEvery is the pause before the store is asked again.
const retryEvery = time.Second

// load reads what the delivery had fixed when it began: its file, and the limits that hold for it.
func (r *run) load(ctx context.Context) error {
	var text storedFile
	found, err := r.recall(ctx, "file", &text)
	if err != nil {
		return err
	}
	if !found {
		return domain.Errorf(domain.Failed, "the file of delivery #%d is not stored", r.d.Number)
	}
	own, err := parse(text.Name, []byte(text.Text), r.s.options.Demo)
	if err != nil {
		return err
	}
	if err := r.judgedBy(ctx, own); err != nil {
		return err
	}
	r.update(ctx, func(d *domain.Delivery) {
		d.Loosened = r.settings.Loosened
		d.NotInForce = notInForce(r.file)
	})
	_, err = r.recall(ctx, "artifact", &r.artifact)
	return err
}

// reload brings back the rollouts that an earlier life of the process began.
func (r *run) reload(ctx context.Context) error {
	past, err := r.s.ports.Store.RolloutsOf(ctx, r.d.App, r.d.Number)
	if err != nil {
		return err
	}
	for _, rec := range past {
		roll, err := r.s.loadRollout(ctx, rec.ID)
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.rollouts[rec.Environment] = roll // the newest of an environment comes last
		r.mu.Unlock()
	}
	for _, env := range domain.Environments {
		if roll := r.rolloutIn(env); roll != nil {
			r.showPlan(ctx, roll.Plan)
		}
	}
	return nil
}

type storedFile struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// update changes the stored delivery. What people see may be a moment old; it is never half.
func (r *run) update(ctx context.Context, change func(*domain.Delivery)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.d.Delivery)
	r.s.maskDelivery(&r.d.Delivery)
	if r.bare {
		return
	}
	if err := r.s.ports.Store.SaveDelivery(context.WithoutCancel(ctx), r.d.Delivery); err != nil {
		r.s.options.Log.Error("save the delivery", "delivery", r.d.Number, "error", err)
	}
}

// snapshot is a copy that no later update changes.
func (r *run) snapshot() domain.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return clone(r.d.Delivery)
}

func clone(d domain.Delivery) domain.Delivery {
	d.Stages = append([]domain.StageRecord(nil), d.Stages...)
	for i := range d.Stages {
		d.Stages[i].Steps = append([]domain.StepRecord(nil), d.Stages[i].Steps...)
		d.Stages[i].Levels = append([]domain.LevelRecord(nil), d.Stages[i].Levels...)
		d.Stages[i].Checks = append([]domain.CheckRecord(nil), d.Stages[i].Checks...)
	}
	return d
}

func (r *run) event(ctx context.Context, e domain.Event) {
	e.App, e.Delivery = r.d.App, r.d.Number
	r.s.emit(ctx, e)
}

// wait shows why the delivery does not go on, who can change that, and until when it waits.
func (r *run) wait(ctx context.Context, reason, owner string, deadline time.Time) {
	r.update(ctx, func(d *domain.Delivery) {
		d.State = domain.WaitingState
		d.Wait = &domain.Wait{Reason: reason, Owner: owner, Since: *now(), Deadline: deadline.UTC()}
		for i := range d.Stages {
			if d.Stages[i].State == domain.Running {
				d.Stages[i].State = domain.WaitingState
			}
		}
	})
	r.event(ctx, domain.Event{Type: "gate.waiting", Data: map[string]any{"reason": reason, "owner": owner, "deadline": deadline.UTC()}})
}

// ask says whether somebody's word is waited for; asking tells.
func (r *run) ask(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asks = on
}

func (r *run) asking() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asks
}

// instant returns the time at which it was first asked for, also after a restart.
func (r *run) instant(ctx context.Context, name string) (time.Time, error) {
	return journal.Instant(ctx, r.journal(), name)
}

// goOn ends a wait.
func (r *run) goOn(ctx context.Context) {
	r.update(ctx, func(d *domain.Delivery) {
		d.State, d.Wait = domain.Running, nil
		for i := range d.Stages {
			if d.Stages[i].State == domain.WaitingState {
				d.Stages[i].State = domain.Running
			}
		}
	})
}

// enter waits until no other delivery of the app is in the environment.
func (r *run) enter(ctx context.Context, env domain.Environment) error {
	r.mu.Lock()
	has := r.leases[env] != nil
	r.mu.Unlock()
	if has {
		return nil
	}
	var meanwhile func(context.Context) error
	if env == domain.Production && r.d.Urgent != "" {
		meanwhile = r.preempt
	}
	leave, err := r.s.environments[env].acquire(ctx, r, func(holder *run) string { return r.behind(holder, env) }, meanwhile)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.leases[env] = leave
	r.mu.Unlock()
	return nil
}

// behind says for whom the run waits, and until when.
func (r *run) behind(holder *run, env domain.Environment) string {
	text := fmt.Sprintf("#%d is in %s", holder.d.Number, env)
	if r.d.Urgent != "" && env == domain.Production {
		text += ": it goes back when this one is healthy at 0 %"
	}
	return text
}

func (r *run) leave(env domain.Environment) {
	r.mu.Lock()
	leave := r.leases[env]
	delete(r.leases, env)
	r.mu.Unlock()
	if leave != nil {
		leave()
	}
}

// release gives back whatever the run holds.
func (r *run) release() {
	for _, env := range domain.Environments {
		r.leave(env)
	}
}

// finish stores the end, and tries until it is stored: a delivery without an end would wait for ever.
func (r *run) finish(cause error) error {
	ctx := context.WithoutCancel(r.s.life)
	r.keeping.Wait()
	for {
		err := r.end(ctx, cause)
		if err == nil {
			return nil
		}
		r.s.options.Log.Error("store the end of the delivery", "delivery", r.d.Number, "error", err)
		select {
		case <-time.After(retryEvery):
		case <-r.s.life.Done():
			return context.Cause(r.s.life)
		}
	}
}

// end computes the end from what was observed, in one sentence, and stores it.
func (r *run) end(ctx context.Context, cause error) error {
	if cause == nil {
		serves, err := r.serves(ctx)
		if err != nil {
			return err
		}
		cause = serves
	}
	state := domain.DoneState
	if cause != nil {
		state = endState(domain.CodeOf(cause))
	}
	if state == domain.RolledBackState {
		if err := r.hold(ctx, cause); err != nil {
			return err
		}
	}
	outcome, err := r.outcome(ctx, state, cause)
	outcome.Hint = domain.HintOf(cause)
	outcome.Sentence += r.warnings()
	if err != nil {
		return err
	}
	traffic, ended := r.traffic(), now()
	over := func(d *domain.Delivery) {
		d.State, d.Wait, d.Outcome, d.Ended, d.Traffic = state, nil, &outcome, ended, traffic
	}
	d := r.snapshot()
	over(&d)
	r.s.maskDelivery(&d)
	if err := r.s.ports.Store.SaveDelivery(ctx, d); err != nil {
		return err
	}
	r.mu.Lock()
	over(&r.d.Delivery)
	r.s.maskDelivery(&r.d.Delivery)
	r.mu.Unlock()
	r.event(ctx, domain.Event{Type: "delivery." + string(state), Data: map[string]any{"sentence": outcome.Sentence}})
	return nil
}

func endState(c domain.Code) domain.DeliveryState {
	switch c {
	case domain.RolledBack:
		return domain.RolledBackState
	case domain.Rejected:
		return domain.RejectedState
	case domain.Superseded:
		return domain.SupersededState
	case domain.Expired:
		return domain.ExpiredState
	default:
		return domain.FailedState
	}
}

// obey reads what people wanted before this process ran: a stored wish is never lost by a restart.
func (r *run) obey(ctx context.Context, roll *rollout.Rollout) error {
	facts, err := r.s.ports.Store.Facts(ctx, r.d.App, r.d.Number)
	if err != nil {
		return err
	}
	for _, f := range facts {
		if f.Environment == roll.Record.Environment && f.Kind == "rollback" && f.At.After(roll.Record.Started) {
			roll.Interrupt(wish(f))
		}
	}
	return nil
}

// Wish is the cause of a rollout that goes back because a person wants it.
type Wish struct {
	By, Reason string
	Code       domain.Code
	verb       string
}

func wish(f domain.Fact) error {
	code := domain.RolledBack
	verb := "asked for by"
	switch f.Kind {
	case cancelFact:
		code, verb = domain.Rejected, "cancelled by"
	case rejectFact:
		code, verb = domain.Rejected, "rejected by"
	}
	return &Wish{By: f.By, Reason: f.Reason, Code: code, verb: verb}
}

func (w *Wish) Error() string {
	if w.Reason == "" {
		return w.verb + " " + w.By
	}
	return fmt.Sprintf("%s %s: %s", w.verb, w.By, w.Reason)
}

// AskedBy names the person.
func (w *Wish) AskedBy() string { return w.By }

// Unwrap carries the code.
func (w *Wish) Unwrap() error { return &domain.Error{Code: w.Code, Message: w.Error()} }
