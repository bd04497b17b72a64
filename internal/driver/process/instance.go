package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/secrets"
	"github.com/belay-cd/belay/internal/supervise"
)

const (
	recordFile = "instance.json"
	// failures in a row make a healthy instance unhealthy; a single one is noise.
	failures = 2
	// crashes in a row while an instance starts mean that it never will.
	crashes = 3
)

// record is what was asked for, in the instance's folder. Wanted is the durable intent: only what is wanted is ever
// started again.
type record struct {
	Wanted   bool            `json:"wanted"`
	Port     int             `json:"port,omitempty"`
	Instance domain.Instance `json:"instance"`
}

// instance is one instance as this driver knows it.
type instance struct {
	d   *Driver
	id  domain.InstanceID
	dir string
	op  chan struct{} // holds a token while the instance is being launched or stopped

	mu       sync.Mutex
	inst     domain.Instance
	port     int
	watched  bool // its watchers run: it should run
	stopping bool
	sup      supervise.State
	healthy  bool // its probe passed since this process was started
	proven   bool // the probe of some process of it passed
	failed   int  // probes in a row
	why      string
	ended    end // what the driver itself ended last
	shown    domain.InstanceStatus
	changed  chan struct{} // closed and made anew at each change
	cancel   context.CancelFunc
	watchers sync.WaitGroup
}

func newInstance(d *Driver, id domain.InstanceID) *instance {
	return &instance{
		d: d, id: id, dir: d.folder(id), op: make(chan struct{}, 1), changed: make(chan struct{}),
		shown: domain.InstanceStatus{InstanceID: id, State: domain.Stopped},
	}
}

func (it *instance) acquire(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case it.op <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (it *instance) release() { <-it.op }

func (it *instance) running() bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.watched
}

// asked returns what was asked for.
func (it *instance) asked() domain.Instance {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.inst
}

// current returns the status as it is now.
func (it *instance) current() domain.InstanceStatus {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.shown
}

// launch makes the instance run and watched; it does nothing when it is. What is found running is adopted as it is.
func (it *instance) launch(ctx context.Context, inst domain.Instance) error {
	if err := checkNames(inst.InstanceID); err != nil {
		return err
	}
	if err := it.acquire(ctx); err != nil {
		return err
	}
	defer it.release()
	if it.running() {
		return nil
	}
	var r record
	err := it.d.readRecord(filepath.Join(it.dir, recordFile), &r)
	if err == nil && r.Wanted && it.adoptable(r) {
		it.d.claim(r.Port, it.id)
		it.begin(r)
		err = supervise.Launch(ctx, it.d.cfg.Self, it.dir, secretsOf(r.Instance.Workload)...)
	} else {
		r, err = it.setUp(ctx, inst)
	}
	if err != nil {
		it.abandon()
		return domain.Errorf(domain.Failed, "start %s: %w", it.id, err)
	}
	return it.follow()
}

// checkNames refuses names that would lead out of the instances' folder.
func checkNames(id domain.InstanceID) error {
	for _, name := range []string{id.App, string(id.Environment), id.Release, id.Role} {
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return domain.Errorf(domain.Invalid, "instance %s: %q is no name", id, name)
		}
	}
	return nil
}

// adoptable reports whether the shim, one that runs or a new one, can go on with what stands in the folder.
func (it *instance) adoptable(r record) bool {
	if !supervise.HasSpec(it.dir) {
		return false
	}
	state, err := supervise.ReadState(it.dir)
	if err != nil {
		return false
	}
	return supervise.HasShim(it.dir) || state.Child.Alive() || r.Port == 0 || portFree(r.Port)
}

// begin notes what runs, before anybody asks.
func (it *instance) begin(r record) {
	it.mu.Lock()
	defer it.mu.Unlock()
	it.inst, it.port, it.stopping = r.Instance, r.Port, false
	it.sup, it.healthy, it.failed, it.why = supervise.State{}, false, 0, ""
}

// abandon forgets what begin noted when the launch failed. The record stays: the next Adopt tries again, Stop ends it.
func (it *instance) abandon() {
	it.d.unclaim(it.id)
}

// follow starts the watchers.
func (it *instance) follow() error {
	bell, remove, err := it.d.watch.add(it.dir)
	if err != nil {
		return fmt.Errorf("watch %s: %w", it.id, err)
	}
	ctx, cancel := context.WithCancel(it.d.life)
	it.mu.Lock()
	it.watched, it.cancel = true, cancel
	it.mu.Unlock()
	it.refresh()
	it.watchers.Add(2)
	it.d.wg.Go(func() {
		defer it.watchers.Done()
		defer remove()
		it.watchFiles(ctx, bell)
	})
	it.d.wg.Go(func() {
		defer it.watchers.Done()
		it.probeForLife(ctx)
	})
	return nil
}

// watchFiles follows the shim's state, and gives the instance a new shim when it died.
func (it *instance) watchFiles(ctx context.Context, bell <-chan struct{}) {
	for ctx.Err() == nil {
		shim := it.refresh()
		gone := make(chan struct{})
		waiting, stop := context.WithCancel(ctx)
		it.d.wg.Go(func() {
			defer close(gone)
			_ = shim.Wait(waiting)
		})
		it.hear(ctx, bell, gone, shim)
		stop()
		<-gone
	}
}

// hear returns when the instance has another shim than before, having launched it if need be.
func (it *instance) hear(ctx context.Context, bell, gone <-chan struct{}, shim supervise.Proc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-bell:
			if it.refresh() != shim {
				return
			}
			if it.portTaken() {
				it.logged(ctx, "move to another port", it.move(ctx))
				return
			}
		case <-gone:
			it.logged(ctx, "give it a new shim", it.revive(ctx))
			return
		}
	}
}

// logged writes a failure of the supervisor itself to the log, and waits a little before it is tried again.
func (it *instance) logged(ctx context.Context, what string, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	it.d.cfg.Logger.Error(what, "instance", it.id.String(), "error", err)
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
}

func (it *instance) portTaken() bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.sup.PortTaken && it.inst.Workload.Port == 0
}

// move starts the instance on another port, because somebody took its own while it was down.
func (it *instance) move(ctx context.Context) error {
	if err := it.acquire(ctx); err != nil {
		return err
	}
	defer it.release()
	if err := supervise.Stop(ctx, it.dir); err != nil {
		return err
	}
	_, err := it.setUp(ctx, it.asked())
	return err
}

// revive gives the instance a new shim, which adopts its process.
func (it *instance) revive(ctx context.Context) error {
	if err := it.acquire(ctx); err != nil {
		return err
	}
	defer it.release()
	if supervise.Stopping(it.dir) {
		return errors.New("it was stopped by another")
	}
	return supervise.Launch(ctx, it.d.cfg.Self, it.dir, secretsOf(it.asked().Workload)...)
}

// refresh reads the shim's state, shows it, and returns the shim.
func (it *instance) refresh() supervise.Proc {
	state, err := supervise.ReadState(it.dir)
	it.mu.Lock()
	defer it.mu.Unlock()
	if err != nil {
		return it.sup.Shim // being replaced: the bell rings again
	}
	if state.Child != it.sup.Child {
		var ready supervise.Proc
		it.proven = supervise.ReadJSON(filepath.Join(it.dir, readyFile), &ready) == nil
		it.healthy = it.proven && ready == state.Child
		it.failed, it.why = 0, ""
	}
	it.sup = state
	it.show()
	return state.Shim
}

// show publishes the status if it changed. The lock is held.
func (it *instance) show() {
	s := domain.InstanceStatus{
		InstanceID: it.id, State: it.stateNow(), PID: it.sup.Child.PID, Started: it.sup.Started,
		Restarts: it.sup.Restarts, Failed: it.failed, Message: it.why,
	}
	if it.port > 0 {
		s.Addr = addr(it.port)
	}
	switch s.State {
	case domain.Crashed:
		s.PID, s.Message = 0, masked(it.inst.Workload, it.howItEnded())
	case domain.Stopped:
		s.PID, s.Addr = 0, ""
	}
	if s == it.shown {
		return
	}
	before := it.shown
	it.shown = s
	close(it.changed)
	it.changed = make(chan struct{})
	// A count of failed probes is no change of the instance.
	before.Failed, before.Message, s.Failed, s.Message = 0, "", 0, ""
	if s != before {
		it.d.status.send(it.shown)
	}
}

func (it *instance) stateNow() domain.InstanceState {
	switch {
	case !it.watched && !it.stopping:
		return domain.Stopped
	case it.stopping:
		return domain.Stopping
	case it.sup.Phase == supervise.Pausing:
		return domain.Crashed
	case !it.healthy && it.failed > 0 && time.Since(it.sup.Started) > probeOf(it.inst.Workload).StartWithin:
		return domain.Unhealthy
	case !it.healthy:
		return domain.Starting
	case it.failed >= failures:
		return domain.Unhealthy
	default:
		return domain.Healthy
	}
}

// howItEnded says why there is no process. The lock is held.
func (it *instance) howItEnded() string {
	if e := it.sup.Last; e != nil && e.Proc == it.ended.proc && e.Proc.PID > 0 {
		return "it is started again: " + it.ended.why
	}
	return crashMessage(it.sup, it.inst.Workload.Memory)
}

// crashMessage says how the last process ended.
func crashMessage(s supervise.State, memory int64) string {
	switch e := s.Last; {
	case s.PortTaken || e != nil && e.Proc.PID == 0 && e.Code == -1 && e.Signal != "":
		return e.Signal
	case e == nil:
		return "it ended"
	case e.OOM && memory > 0:
		return fmt.Sprintf("it ended: it used more than its %d MiB of memory", memory>>20)
	case e.OOM:
		return "it ended: memory ran out"
	case e.Unseen:
		return "it ended while nobody watched"
	case e.Signal != "":
		return "it ended by " + e.Signal
	case e.Code == 0 && e.Left > 0:
		return "it went into the background: it must stay in the foreground, because its end is how belay learns that it ended"
	default:
		return fmt.Sprintf("it ended with exit code %d", e.Code)
	}
}

// awaitHealthy returns when the instance is healthy or will not be.
func (it *instance) awaitHealthy(ctx context.Context) (domain.InstanceStatus, error) {
	within := probeOf(it.asked().Workload).StartWithin
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		it.mu.Lock()
		s, changed, inARow := it.shown, it.changed, it.sup.InARow
		it.mu.Unlock()
		switch {
		case s.State == domain.Healthy:
			return s, nil
		case s.State == domain.Stopped || s.State == domain.Stopping:
			return s, domain.Errorf(domain.Conflict, "start %s: it was stopped meanwhile", it.id)
		case s.State == domain.Crashed && inARow >= crashes:
			return s, it.failure("crashed %d times: %s", inARow, s.Message)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, context.Cause(ctx)
		case <-deadline.C:
			why := s.Message
			if why == "" {
				why = "its probe has not answered"
			}
			return s, it.failure("not healthy within %s: %s%s", within, why, it.elsewhere())
		}
	}
}

// elsewhere says where the process listens when it is not where it was told to.
func (it *instance) elsewhere() string {
	it.mu.Lock()
	port, pid := it.port, it.sup.Child.PID
	it.mu.Unlock()
	if port == 0 || pid == 0 {
		return ""
	}
	ports := listening(pid)
	switch {
	case slices.Contains(ports, port):
		return ""
	case len(ports) == 0:
		return "; it listens on no port: it must listen on $PORT"
	}
	return fmt.Sprintf("; it listens on %s: it must listen on $PORT, which is %d", strings.Trim(fmt.Sprint(ports), "[]"), port)
}

// failure is an error with the end of the log, which mostly says why.
func (it *instance) failure(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if end := lastLines(it.d.Logs(it.id), it.asked().Workload, 3, 400); end != "" {
		text += "; its log ends with: " + end
	}
	return domain.Errorf(domain.Failed, "%s/%d: %s", it.id.Role, it.id.Index, text).WithHint("see its log: belay logs --app %s --role %s", it.id.App, it.id.Role)
}

// stop ends the instance for good.
func (it *instance) stop(ctx context.Context) error {
	if err := checkNames(it.id); err != nil {
		return err
	}
	if err := it.acquire(ctx); err != nil {
		return err
	}
	defer it.release()
	if _, err := os.Stat(it.dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := it.unwant(); err != nil {
		return domain.Errorf(domain.Failed, "stop %s: %w", it.id, err)
	}
	it.mu.Lock()
	if it.cancel != nil {
		it.cancel()
	}
	it.stopping = it.watched
	it.watched = false
	it.show()
	it.mu.Unlock()
	it.watchers.Wait()
	if err := supervise.Stop(ctx, it.dir); err != nil {
		return domain.Errorf(domain.Failed, "stop %s: %w", it.id, err)
	}
	it.d.unclaim(it.id)
	it.mu.Lock()
	defer it.mu.Unlock()
	it.stopping, it.port = false, 0
	it.show()
	return nil
}

// unwant records that the instance must not run, without the variables that may be secret.
func (it *instance) unwant() error {
	path := filepath.Join(it.dir, recordFile)
	var r record
	err := supervise.ReadJSON(path, &r)
	if errors.Is(err, os.ErrNotExist) || err == nil && !r.Wanted && r.Instance.Workload.Env == nil {
		return nil
	}
	r.Wanted, r.Instance.Workload.Env = false, nil
	if err != nil { // a record that cannot be read must not keep anything running
		r = record{Instance: domain.Instance{InstanceID: it.id}}
	}
	return supervise.WriteJSON(path, r)
}

// masked takes the values of secrets out of what people will read, in all the forms in which they are looked for.
func masked(w domain.Workload, text string) string {
	if text == "" || len(w.Secrets) == 0 {
		return text
	}
	values := make([]domain.Secret, 0, len(w.Secrets))
	for _, name := range w.Secrets {
		values = append(values, domain.NewSecret(w.Env[name]))
	}
	return secrets.NewMasker(values...).String(text)
}
