package delivery

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/journal"
	"github.com/belay-cd/belay/internal/rollout"
)

// Ports are what the deliveries need of the world.
type Ports struct {
	Store        Store
	Source       Source
	Builder      Builder
	Tester       Tester
	Secrets      Secrets
	Checks       Checks
	Measurements Measurements
	// Comparisons compares the metrics of both releases; nil: none are.
	Comparisons Comparisons
	Runner      Runner
	Traffic     Traffic
	Logs        StageLogs
	Synthetic   Synthetic
	Jobs        Jobs
	Takeover    Takeover
	// Databases asks what a database is; nil: none is asked, which parity says.
	Databases Databases
	// Policy is the administrator's, nil for none; People are the users of the machine, nil when nobody knows them.
	Policy Policy
	People People
	// Safe is the store of secrets; nil: there is none. Mask takes the values of an app's secrets out of a text; nil: there
	// are none.
	Safe Safe
	Mask func(app, text string) string
	// Notifications tells people; nil: nobody is told.
	Notifications Notifications
	Health        func(context.Context) (Health, error)
}

// Options are the settings of the service.
type Options struct {
	Log  *slog.Logger
	Demo bool   // short times are allowed in belay.yaml
	URL  string // of the dashboard, without a slash at the end
}

// Service is the control plane: it takes commits in, runs their deliveries, and answers what is asked about them.
type Service struct {
	ports        Ports
	options      Options
	engine       *rollout.Engine
	builds       *queue
	trials       trials
	environments map[domain.Environment]*queue

	life context.Context // of the process: deliveries outlive the request that began them
	end  context.CancelCauseFunc
	wg   sync.WaitGroup

	answering sync.Mutex // one answer of a person at a time

	freezing sync.Mutex // while a freeze is set or lifted

	mu   sync.Mutex
	runs map[string]*run // by delivery id
	// returns holds the rollouts that go back after a delivery was done, by app and environment.
	returns map[string]*run
}

// New makes a service. Start begins its work.
func New(p Ports, o Options) *Service {
	s := &Service{ports: p, options: o, runs: map[string]*run{}, returns: map[string]*run{}}
	s.builds = newQueue(false, func(*run) string { return "" })
	byApp := func(r *run) string { return r.d.App }
	s.environments = map[domain.Environment]*queue{
		domain.Staging:    newQueue(false, byApp),
		domain.Production: newQueue(true, byApp),
	}
	s.engine = &rollout.Engine{
		Driver: p.Runner, Router: p.Traffic, Guard: s, Gate: s, Checker: s, Ledger: s, Journal: p.Store, Observer: s,
		Limits: rollout.Limits{
			Step: config.StepSlack, Gate: openingWait, Proof: proofWait, Rollback: config.RollbackDeadline, PageEvery: config.RollbackPageEvery,
			RollbackDrain: config.RollbackWebSocketDrain,
		},
	}
	s.life, s.end = context.WithCancelCause(context.Background())
	return s
}

// Start goes on with every delivery and every rollback that the last process left open. A delivery has its places again
// before any other can join: first where its rollout is open, then where what is left of it has to be done.
func (s *Service) Start(ctx context.Context) error {
	open, err := s.ports.Store.OpenRollouts(ctx)
	if err != nil {
		return err
	}
	active, err := s.ports.Store.ActiveDeliveries(ctx)
	if err != nil {
		return err
	}
	runs := map[string]*run{}
	for _, d := range active {
		runs[d.App+"/"+itoa(d.Number)] = s.newRun(d)
	}
	for _, rec := range open {
		if r := runs[rec.App+"/"+itoa(rec.Delivery)]; r != nil {
			s.claim(r, rec.Environment)
		} else if err := s.resumeReturn(ctx, rec); err != nil {
			s.options.Log.Error("go on with a rollout", "rollout", rec.ID, "error", err)
		}
	}
	if err := s.resumeReturns(ctx); err != nil {
		return err
	}
	for _, d := range active {
		past, err := s.ports.Store.RolloutsOf(ctx, d.App, d.Number)
		if err != nil {
			return err
		}
		for _, rec := range past {
			s.claim(runs[d.App+"/"+itoa(d.Number)], rec.Environment)
		}
	}
	for _, d := range active {
		s.launch(runs[d.App+"/"+itoa(d.Number)])
	}
	s.spawn(s.keepSecrets)
	s.spawn(s.thaws)
	return nil
}

// claim gives a run its place in an environment, unless another has it.
func (s *Service) claim(r *run, env domain.Environment) {
	if r.leases[env] != nil {
		return
	}
	if leave, ok := s.environments[env].claim(r); ok {
		r.leases[env] = leave
	}
}

// Stop ends the work of this process. Deliveries go on at the next start.
func (s *Service) Stop(ctx context.Context) error {
	s.mu.Lock() // nothing is spawned from here on
	s.end(journal.ErrSuspended)
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// spawn runs f in the background, and says no when the process shuts down: what is stored goes on at the next start.
func (s *Service) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return false
	}
	s.wg.Go(f)
	return true
}

// launch runs a delivery in the background.
func (s *Service) launch(r *run) {
	d := r.snapshot()
	r.life, r.halt = context.WithCancelCause(s.life)
	ctx, stop := context.WithCancelCause(r.life)
	r.stop = stop
	s.mu.Lock()
	s.runs[d.ID] = r
	s.mu.Unlock()
	s.spawn(func() {
		defer close(r.over)
		defer r.halt(nil)
		defer s.contain(d)
		err := r.deliver(ctx)
		if err != nil && !errors.Is(err, journal.ErrSuspended) {
			s.options.Log.Error("delivery ended without an end", "app", d.App, "delivery", d.Number, "error", err)
		}
	})
}

// contain keeps a defect in one delivery from ending the others. The delivery stays as it is stored, and goes on at the next
// start of the server.
func (s *Service) contain(d domain.Delivery) {
	if why := recover(); why != nil {
		s.options.Log.Error("a defect stopped a delivery", "app", d.App, "delivery", d.Number, "why", why, "stack", string(debug.Stack()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.runs, d.ID)
}

// wanted applies a cancel that was stored before this process began.
func (s *Service) wanted(ctx context.Context, r *run) error {
	facts, err := s.ports.Store.Facts(ctx, r.d.App, r.d.Number)
	if err != nil {
		return err
	}
	for _, f := range facts {
		if f.Kind == cancelFact || f.Kind == rejectFact {
			_ = r.cancel(wish(f)) // too late is too late after a restart, too
		}
	}
	return nil
}

func (s *Service) newRun(d domain.Delivery) *run {
	return &run{
		s: s, d: record{d}, blind: map[string]time.Time{}, rollouts: map[domain.Environment]*rollout.Rollout{}, leases: map[domain.Environment]func(){},
		back:    make(chan struct{}),
		lowered: map[domain.Environment]chan struct{}{domain.Staging: make(chan struct{}), domain.Production: make(chan struct{})},
		life:    s.life, halt: func(error) {}, stop: func(error) {}, over: make(chan struct{}), loaded: make(chan struct{}), begun: make(chan struct{}),
	}
}

func (s *Service) find(app string, number int) *run {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		if r.d.App == app && r.d.Number == number {
			return r
		}
	}
	return nil
}

// emit stores an event. What cannot be stored is logged: an event is told, never waited for.
func (s *Service) emit(ctx context.Context, e domain.Event) {
	if e.At.IsZero() {
		e.At = time.Now().UTC()
	}
	s.maskEvent(&e)
	if _, err := s.ports.Store.AppendEvents(context.WithoutCancel(ctx), e); err != nil {
		s.options.Log.Error("store an event", "type", e.Type, "error", err)
	}
}

// Cancel ends a delivery: before production it is rejected, during a rollout of production it is rolled back.
func (s *Service) Cancel(ctx context.Context, app string, number int, by, reason string) (domain.Delivery, error) {
	return s.endNow(ctx, domain.Fact{App: app, Delivery: number, Kind: cancelFact, By: by, Reason: reason})
}

// The kinds of the facts that end a delivery.
const (
	cancelFact = "cancel"
	rejectFact = "reject"
)

func (s *Service) endNow(ctx context.Context, f domain.Fact) (domain.Delivery, error) {
	app, number := f.App, f.Delivery
	d, err := s.ports.Store.Delivery(ctx, app, number)
	if err != nil {
		return d, err
	}
	if d.State.Final() {
		return d, hasEnded(d)
	}
	r := s.find(app, d.Number)
	if r != nil && r.settled() {
		return d, tooLate(d.Number)
	}
	f.Delivery, f.At = d.Number, *now()
	if err := s.ports.Store.PutFact(ctx, f); err != nil {
		return d, err
	}
	if r != nil {
		if err := r.cancel(wish(f)); err != nil {
			return d, err
		}
	}
	return s.ports.Store.Delivery(ctx, app, d.Number)
}

func tooLate(number int) error {
	return domain.Errorf(domain.Refused, "#%d is past the point of no return: its release is stable in production", number).
		WithHint("belay rollback goes back to the release before")
}

// settled reports whether the release of the run is stable in production, or was taken back.
func (r *run) settled() bool {
	roll := r.rolloutIn(domain.Production)
	return roll != nil && !roll.Open()
}

// cancel interrupts whatever the run does: an open rollout goes back, anything before it just ends.
func (r *run) cancel(cause error) error {
	if r.settled() {
		return tooLate(r.d.Number)
	}
	open := false
	for _, env := range domain.Environments {
		if roll := r.rolloutIn(env); roll != nil && roll.Open() {
			roll.Interrupt(cause)
			open = true
		}
	}
	if !open {
		r.stop(cause)
	}
	return nil
}

// Have lists the commits that the server holds.
func (s *Service) Have(ctx context.Context, app string) ([]string, error) {
	return s.ports.Source.Have(ctx, app)
}

// Apps lists the names of all apps.
func (s *Service) Apps(ctx context.Context) ([]string, error) { return s.ports.Store.Apps(ctx) }

// Deliveries lists the newest first.
func (s *Service) Deliveries(ctx context.Context, app string, limit int) ([]domain.Delivery, error) {
	return s.ports.Store.Deliveries(ctx, app, limit)
}

// Delivery returns one, with the traffic of its open rollout as it is now.
func (s *Service) Delivery(ctx context.Context, app string, number int) (domain.Delivery, error) {
	d, err := s.ports.Store.Delivery(ctx, app, number)
	if err != nil {
		return d, err
	}
	if r := s.find(app, d.Number); r != nil {
		d = r.snapshot()
		if t := r.traffic(); t != nil {
			d.Traffic = t
		}
	}
	return d, nil
}

// Health says what runs.
func (s *Service) Health(ctx context.Context) (Health, error) { return s.ports.Health(ctx) }

// LastEvent returns the number of the newest event.
func (s *Service) LastEvent(ctx context.Context) (int64, error) { return s.ports.Store.LastEvent(ctx) }

// Events calls f for each event after seq, in order, and goes on with new ones.
func (s *Service) Events(ctx context.Context, after int64, filter EventFilter, f func(domain.Event) error) error {
	wake, cancel := s.ports.Store.Subscribe()
	defer cancel()
	for {
		batch, err := s.ports.Store.Events(ctx, after, filter, eventBatch)
		if err != nil {
			return err
		}
		for _, e := range batch {
			if err := f(e); err != nil {
				return err
			}
			after = e.Seq
		}
		if len(batch) == eventBatch {
			continue
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

const eventBatch = 200
