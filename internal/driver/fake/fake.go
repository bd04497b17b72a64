// Package fake is a driver in memory: it runs nothing, keeps the contract, and takes its time from package time, so that
// it works in the bubbles of testing/synctest. It passes the conformance suite of drivers.
package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Script is how the app of an instance behaves. The zero value becomes healthy at once.
type Script struct {
	Ready   time.Duration // from the start of its process to its first good probe
	Never   bool          // its probe never passes
	Crashes bool          // it ends at once, each time
	Stop    time.Duration // from TERM to its end
	Message string        // of its failing probe, or of its crash
}

const (
	backoff     = time.Second // before the second start; doubled up to maxBackoff
	maxBackoff  = time.Minute
	crashLimit  = 3
	unhealthyAt = 2 // failed probes in a row
	backlog     = 4096
)

// Driver is the fake. Its fields are set before it is used.
type Driver struct {
	// Script returns how an instance behaves, each time its process starts. Nil: all are good.
	Script func(domain.Instance) Script
	// Prepared is called by Prepare. Nil: every artifact is there.
	Prepared func(ctx context.Context, digest string) error
	// Started, when set, is called with each id that Start was called for, in order.
	Started func(domain.InstanceID)

	mu        sync.Mutex
	instances map[domain.InstanceID]*instance
	pids      int
	probes    []chan domain.ProbeResult
	changes   []chan domain.InstanceStatus
}

type instance struct {
	inst    domain.Instance
	script  Script
	status  domain.InstanceStatus
	inARow  int
	broken  string        // why its probe fails, set from outside
	changed chan struct{} // closed and made anew at each change
	timers  []*time.Timer
}

// New returns a driver in which nothing runs.
func New() *Driver { return &Driver{instances: map[domain.InstanceID]*instance{}} }

// Prepare reports whether the artifact is there.
func (d *Driver) Prepare(ctx context.Context, digest string) error {
	if d.Prepared == nil {
		return ctx.Err()
	}
	return d.Prepared(ctx, digest)
}

// Start makes the instance run and returns when it is healthy.
func (d *Driver) Start(ctx context.Context, inst domain.Instance) (domain.InstanceStatus, error) {
	if ctx.Err() != nil {
		return domain.InstanceStatus{InstanceID: inst.InstanceID}, context.Cause(ctx)
	}
	d.mu.Lock()
	if d.Started != nil {
		d.Started(inst.InstanceID)
	}
	it, ok := d.instances[inst.InstanceID]
	if !ok {
		it = &instance{inst: inst, changed: make(chan struct{})}
		it.status = domain.InstanceStatus{InstanceID: inst.InstanceID, Addr: d.addr()}
		d.instances[inst.InstanceID] = it
		d.run(it)
	}
	d.mu.Unlock()
	return d.await(ctx, it)
}

// addr returns an address that no other instance has.
func (d *Driver) addr() string {
	taken := map[string]bool{}
	for _, it := range d.instances {
		taken[it.status.Addr] = true
	}
	for port := 20000; ; port++ {
		if a := fmt.Sprintf("127.0.0.1:%d", port); !taken[a] {
			return a
		}
	}
}

func (d *Driver) await(ctx context.Context, it *instance) (domain.InstanceStatus, error) {
	within := it.inst.Workload.Probe.StartWithin
	if within <= 0 {
		within = time.Minute
	}
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		d.mu.Lock()
		s, changed, inARow := it.status, it.changed, it.inARow
		d.mu.Unlock()
		switch {
		case s.State == domain.Healthy:
			return s, nil
		case s.State == domain.Stopping || s.State == domain.Stopped:
			return s, domain.Errorf(domain.Conflict, "start %s: it was stopped meanwhile", s.InstanceID)
		case s.State == domain.Crashed && inARow >= crashLimit:
			return s, domain.Errorf(domain.Failed, "start %s: crashed %d times: %s", s.InstanceID, inARow, s.Message)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, context.Cause(ctx)
		case <-deadline.C:
			return s, domain.Errorf(domain.Failed, "start %s: not healthy within %s: %s", s.InstanceID, within, s.Message)
		}
	}
}

// run starts the process of an instance. The lock is held.
func (d *Driver) run(it *instance) {
	it.script = Script{}
	if d.Script != nil {
		it.script = d.Script(it.inst)
	}
	d.pids++
	it.status.PID, it.status.Started, it.status.Failed = d.pids, time.Now(), 0
	it.status.Message = ""
	d.set(it, domain.Starting)
	switch {
	case it.script.Crashes:
		d.end(it, it.script.Message)
	case it.script.Never:
		it.status.Message = it.script.Message
		d.after(it, d.every(it), func() { d.probe(it) })
	default:
		d.after(it, it.script.Ready, func() { d.probe(it) })
	}
}

// after does something later, unless the instance is stopped by then. The lock is held, now and then.
func (d *Driver) after(it *instance, wait time.Duration, do func()) {
	pid := it.status.PID
	it.timers = append(it.timers[:0], time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.instances[it.inst.InstanceID] == it && it.status.PID == pid {
			do()
		}
	}))
}

func (d *Driver) every(it *instance) time.Duration {
	if e := it.inst.Workload.Probe.Every; e > 0 {
		return e
	}
	return 5 * time.Second
}

// probe answers the probe as the script says, and asks again later. The lock is held.
func (d *Driver) probe(it *instance) {
	if it.status.State == domain.Stopping {
		return
	}
	why := it.broken
	if it.script.Never && why == "" {
		why = "probe: " + it.script.Message
	}
	r := domain.ProbeResult{
		Instance: it.inst.InstanceID, At: time.Now(), OK: why == "", Took: time.Millisecond,
		Restarts: it.status.Restarts, Message: why,
	}
	state := it.status.State
	if r.OK {
		it.status.Failed, state = 0, domain.Healthy
	} else {
		it.status.Failed++
		if state == domain.Healthy && it.status.Failed >= unhealthyAt {
			state = domain.Unhealthy
		}
	}
	it.status.Message = why
	d.set(it, state)
	send(d.probes, r)
	d.after(it, d.every(it), func() { d.probe(it) })
}

// end is a crash: the process is gone and comes back later. The lock is held.
func (d *Driver) end(it *instance, why string) {
	if it.status.State == domain.Stopping || it.status.State == domain.Crashed {
		return
	}
	if why == "" {
		why = "it ended with exit code 1"
	}
	if time.Since(it.status.Started) >= maxBackoff {
		it.inARow = 0
	}
	it.inARow++
	wait := backoff
	for range it.inARow - 1 {
		wait = min(2*wait, maxBackoff)
	}
	it.status.Message = why
	d.set(it, domain.Crashed)
	d.after(it, wait, func() {
		it.status.Restarts++
		d.run(it)
	})
}

// set shows a state. The lock is held.
func (d *Driver) set(it *instance, s domain.InstanceState) {
	changed := it.status.State != s
	it.status.State = s
	close(it.changed)
	it.changed = make(chan struct{})
	if changed {
		send(d.changes, it.status)
	}
}

// Stop ends the instance. It takes as long as the script says, at most 10 s.
func (d *Driver) Stop(ctx context.Context, id domain.InstanceID) error {
	d.mu.Lock()
	it, ok := d.instances[id]
	if !ok {
		d.mu.Unlock()
		return nil
	}
	wait := min(it.script.Stop, 10*time.Second)
	if it.status.State == domain.Crashed {
		wait = 0
	}
	d.set(it, domain.Stopping)
	d.mu.Unlock()
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.instances[id] == it {
		d.forget(it)
	}
	return nil
}

// forget takes an instance away. The lock is held.
func (d *Driver) forget(it *instance) {
	for _, t := range it.timers {
		t.Stop()
	}
	delete(d.instances, it.inst.InstanceID)
	it.status.PID, it.status.Addr = 0, ""
	d.set(it, domain.Stopped)
}

// List returns what runs or should run, in the order of the names.
func (d *Driver) List(_ context.Context, app string, env domain.Environment) ([]domain.InstanceStatus, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []domain.InstanceStatus
	for id, it := range d.instances {
		if id.App == app && id.Environment == env {
			found = append(found, it.status)
		}
	}
	slices.SortFunc(found, func(a, b domain.InstanceStatus) int {
		return strings.Compare(a.InstanceID.String(), b.InstanceID.String())
	})
	return found, nil
}

// Adopt returns everything that runs.
func (d *Driver) Adopt(context.Context) ([]domain.InstanceStatus, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found []domain.InstanceStatus
	for _, it := range d.instances {
		found = append(found, it.status)
	}
	return found, nil
}

// Crash ends the process of an instance; it is started again after a pause.
func (d *Driver) Crash(id domain.InstanceID, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if it, ok := d.instances[id]; ok {
		d.end(it, why)
	}
}

// Break makes the probe of an instance fail from its next question on; an empty reason mends it.
func (d *Driver) Break(id domain.InstanceID, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if it, ok := d.instances[id]; ok {
		it.broken = why
	}
}

// Reboot ends all processes at once and starts those that should run again, as a machine does.
func (d *Driver) Reboot() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, it := range d.instances {
		if it.status.State != domain.Stopping {
			it.status.Restarts++
			d.run(it)
		}
	}
}

// Probes returns each answer of each probe until ctx ends.
func (d *Driver) Probes(ctx context.Context) <-chan domain.ProbeResult {
	return subscribe(ctx, d, &d.probes)
}

// Changes returns the status of an instance each time its state changed, until ctx ends.
func (d *Driver) Changes(ctx context.Context) <-chan domain.InstanceStatus {
	return subscribe(ctx, d, &d.changes)
}

func subscribe[T any](ctx context.Context, d *Driver, to *[]chan T) <-chan T {
	ch := make(chan T, backlog)
	d.mu.Lock()
	*to = append(*to, ch)
	d.mu.Unlock()
	context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		*to = slices.DeleteFunc(*to, func(c chan T) bool { return c == ch })
		close(ch)
	})
	return ch
}

// send never waits: who lags behind that far loses what is new.
func send[T any](to []chan T, v T) {
	for _, ch := range to {
		select {
		case ch <- v:
		default:
		}
	}
}
