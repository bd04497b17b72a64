package rollout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/journal"
)

// disk is what survives a crash: journal, ledger, data plane and instances. dead loses journal writes, as a power cut would.
type disk struct {
	mu      sync.Mutex // the guard, a step and a rollback come at the same time
	records map[string][]byte
	rollout domain.RolloutRecord
	settled bool
	running map[string]map[Slot]bool
	traffic Traffic
	stable  string // release that the route's stable side names
	next    string
}

func (d *disk) String() string {
	return fmt.Sprintf("state %s, stable %s, next %s, running %v, traffic %+v", d.rollout.State, d.stable, d.next, d.running, d.traffic)
}

// world is everything outside, for one life of the process. It checks at each effect what must always hold.
type world struct {
	t *testing.T
	*disk
	ops     int
	crashAt int
	hard    bool
	dead    bool
	kill    context.CancelCauseFunc
	breach  time.Time
	failing Verb // a step of this verb on next fails
	pages   int
	seen    map[string]int
}

func (w *world) op(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ops++
	w.check()
	if w.ops == w.crashAt {
		w.dead = w.hard
		w.kill(journal.ErrSuspended)
		if w.hard {
			return nil
		}
	}
	return ctx.Err()
}

// check: traffic only where the instances for it run.
func (w *world) check() {
	w.t.Helper()
	carry := func(release string) int { return domain.WeightAll / 2 * len(w.running[release]) }
	if w.traffic.Weight > 0 && carry(w.next) < w.traffic.Weight {
		w.t.Errorf("op %d: next has %s of the traffic with %d instances", w.ops, Percent(w.traffic.Weight), len(w.running[w.next]))
	}
	if w.stable != "" && carry(w.stable) < domain.WeightAll-w.traffic.Weight {
		w.t.Errorf("op %d: stable %s has %s of the traffic with %d instances", w.ops, w.stable,
			Percent(domain.WeightAll-w.traffic.Weight), len(w.running[w.stable]))
	}
}

func (w *world) Lookup(_ context.Context, run, name string) ([]byte, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.records[run+name]
	return r, ok, nil
}

func (w *world) Save(_ context.Context, run, name string, rec []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.dead {
		w.records[run+name] = rec
	}
	return nil
}

func (w *world) SaveRollout(_ context.Context, r domain.RolloutRecord) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.dead {
		w.rollout = r
	}
	return nil
}

func (w *world) Settle(ctx context.Context, r domain.RolloutRecord) error {
	w.mu.Lock()
	if !w.dead {
		w.rollout, w.settled = r, true
	}
	w.mu.Unlock()
	return w.op(ctx)
}

func (w *world) Start(ctx context.Context, i domain.Instance) (domain.InstanceStatus, error) {
	if w.failing == Start && i.Release == "v2" {
		return domain.InstanceStatus{}, errors.New("never healthy")
	}
	w.set(i.InstanceID, true)
	return domain.InstanceStatus{InstanceID: i.InstanceID, State: domain.Healthy}, w.op(ctx)
}

func (w *world) Stop(ctx context.Context, i domain.InstanceID) error {
	w.set(i, false)
	return w.op(ctx)
}

func (w *world) set(i domain.InstanceID, up bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i.Role != "web" {
		return
	}
	if w.running[i.Release] == nil {
		w.running[i.Release] = map[Slot]bool{}
	}
	if up {
		w.running[i.Release][Slot{i.Role, i.Index}] = true
	} else {
		delete(w.running[i.Release], Slot{i.Role, i.Index})
	}
}

func (w *world) List(context.Context, string, domain.Environment) ([]domain.InstanceStatus, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []domain.InstanceStatus
	for release, slots := range w.running {
		for s := range slots {
			list = append(list, domain.InstanceStatus{InstanceID: domain.InstanceID{Release: release, Role: s.Role, Index: s.Index}, State: domain.Healthy})
		}
	}
	return list, nil
}

func (w *world) Split(ctx context.Context, s Split) error {
	w.mu.Lock()
	if w.traffic.Latched && w.traffic.Rollout == s.Rollout && s.Weight > w.traffic.Weight {
		w.t.Errorf("op %d: a latched rollout was raised", w.ops)
	}
	w.traffic = Traffic{Rollout: s.Rollout, Weight: s.Weight, Latched: s.Latched}
	w.stable, w.next = "", ""
	if s.Stable != nil {
		w.stable = s.Stable.ID
	}
	if s.Next != nil {
		w.next = s.Next.ID
	}
	w.mu.Unlock()
	return w.op(ctx)
}

func (w *world) State(context.Context, string, domain.Environment) (Traffic, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.traffic, nil
}

func (w *world) Drain(context.Context, domain.InstanceID, time.Duration) error { return nil }

func (w *world) Raise(context.Context, *Rollout, int) error { return nil }

func (w *world) Check(ctx context.Context, _ *Rollout, _ bool) error {
	if w.failing == Check {
		return errors.New("a check is red")
	}
	return w.op(ctx)
}

// Watch finds harm at the instant breach, and, as the real guard, also when it looks later.
func (w *world) Watch(ctx context.Context, _ *Rollout, watch Watch) (Finding, error) {
	end := make(<-chan time.Time)
	if watch.Hold > 0 {
		end = time.After(time.Until(watch.From.Add(watch.Hold)))
	}
	harm := make(<-chan time.Time)
	if !w.breach.IsZero() && (watch.Hold == 0 || !w.breach.After(watch.From.Add(watch.Hold))) {
		harm = time.After(time.Until(w.breach))
	}
	select {
	case <-harm:
		return Finding{}, errors.New("error rate 7 % for 3 min")
	default:
	}
	select {
	case <-harm:
		return Finding{}, errors.New("error rate 7 % for 3 min")
	case <-end:
		if !w.breach.IsZero() && !w.breach.After(watch.From.Add(watch.Hold)) {
			return Finding{}, errors.New("error rate 7 % for 3 min")
		}
		return Finding{}, nil
	case <-ctx.Done():
		return Finding{}, context.Cause(ctx)
	}
}

func (w *world) Step(_ context.Context, _ *Rollout, i int, p Progress) {
	if p.State == domain.DoneState {
		w.seen[fmt.Sprint(i)]++
	}
}
func (w *world) Lowered(context.Context, *Rollout, time.Duration)  {}
func (w *world) RolledBack(context.Context, *Rollout, *RolledBack) {}
func (w *world) Page(context.Context, *Rollout, string)            { w.pages++ }

func release(id string) *domain.Release {
	return &domain.Release{ID: id, App: "shop", Environment: domain.Production,
		Workloads: []domain.Workload{{Role: "web", Kind: domain.Web, Instances: 2, Drain: time.Second}}}
}

var productionStages = []domain.Stage{domain.DeployProduction, domain.VerifyProduction, domain.Monitor}

func newWorld(t *testing.T, first bool) *world {
	d := &disk{records: map[string][]byte{}, running: map[string]map[Slot]bool{},
		rollout: domain.RolloutRecord{ID: "rol_1", App: "shop", Environment: domain.Production, State: domain.RolloutOpen}}
	if !first {
		d.running["v1"] = both(true, true)
		d.stable = "v1"
	}
	return &world{t: t, disk: d, seen: map[string]int{}}
}

// TestInterrupt: a person may take it back at any moment up to the end of the hold.
func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		e := &Engine{Driver: w, Router: w, Guard: w, Gate: w, Checker: w, Ledger: w, Journal: w, Observer: w, Limits: Limits{Step: time.Hour, Rollback: time.Minute}}
		r := &Rollout{Record: w.rollout, Stable: release("v1"), Next: *release("v2")}
		r.Plan = BlueGreen(r.Fleet(), Settings{Hold: time.Hour})
		time.AfterFunc(20*time.Minute, func() { r.Interrupt(errors.New("ana wants it back")) })
		w.kill = func(error) {}
		var err error
		for _, stage := range productionStages {
			if err = e.Advance(t.Context(), r, stage); err != nil {
				break
			}
		}
		var back *RolledBack
		if !errors.As(err, &back) || back.Error() != "ana wants it back" || !back.Shifted || w.stable != "v1" || len(w.running["v2"]) != 0 {
			t.Errorf("err=%v disk=%s", err, w.disk)
		}
	})
}

// broken is a world whose data plane fails for a while.
type broken struct {
	*world
	until time.Time
}

func (b broken) Split(ctx context.Context, s Split) error {
	if s.Latched && time.Now().Before(b.until) {
		return errors.New("the data plane does not answer")
	}
	return b.world.Split(ctx, s)
}

// A failed rollback stayed RUNNING for ever: it must be retried, page, and end.
func TestScar_pipecd_3468(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, false)
		w.kill = func(error) {}
		w.breach = time.Now().Add(time.Minute)
		b := broken{w, time.Now().Add(12 * time.Minute)}
		e := &Engine{Driver: w, Router: b, Guard: w, Gate: w, Checker: w, Ledger: w, Journal: w, Observer: w,
			Limits: Limits{Step: 10 * time.Minute, Rollback: time.Minute, PageEvery: 5 * time.Minute}}
		r := &Rollout{Record: w.rollout, Stable: release("v1"), Next: *release("v2")}
		r.Plan = BlueGreen(r.Fleet(), Settings{Hold: time.Hour})
		var err error
		for _, stage := range productionStages {
			if err = e.Advance(t.Context(), r, stage); err != nil {
				break
			}
		}
		var back *RolledBack
		if !errors.As(err, &back) || w.stable != "v1" || w.pages != 2 {
			t.Errorf("err=%v pages=%d disk=%s", err, w.pages, w.disk)
		}
	})
}
