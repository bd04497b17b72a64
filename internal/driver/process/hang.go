package process

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/supervise"
)

// hung is how many probes in a row a healthy instance must fail before it is started again. It lies above the two after
// which a guard acts, so that a release that fails as a whole is taken back and not patched up.
const hung = 3

// place is where instances stand in for each other: a role of an environment, whatever their release.
type place struct {
	app  string
	env  domain.Environment
	role string
}

func placeOf(id domain.InstanceID) place { return place{id.App, id.Environment, id.Role} }

// turn is the right to start an instance of a place again. There is one for each place, so that the others go on serving.
type turn struct {
	of    *instance
	until time.Time // it is taken away then, whatever became of the instance
}

// end is the end of a process that the driver itself asked for, and why.
type end struct {
	proc supervise.Proc
	why  string
}

// restartWhenHung ends the process of an instance that was healthy once and fails its probes one after the other: TERM, and
// KILL after the grace. One that was never healthy is the business of whoever starts it. Its shim starts it again, with the pauses of any other restart. It is left alone when
//   - another instance of its place is being started again,
//   - it has others beside it and they all fail, too: what they have in common is broken, and a restart would only take away
//     what still works.
func (it *instance) restartWhenHung(ctx context.Context) {
	child, why, hangs := it.hangs()
	if !hangs || !it.d.takeTurn(it) {
		return
	}
	it.d.cfg.Logger.Warn("start an instance again that fails its probes", "instance", it.id.String(), "reason", why)
	it.mu.Lock()
	it.ended = end{child, why}
	it.mu.Unlock()
	if err := child.Group(unix.SIGTERM); err != nil {
		it.d.cfg.Logger.Error("end an instance that fails its probes", "instance", it.id.String(), "error", err)
	}
	grace, cancel := context.WithTimeout(ctx, it.d.cfg.Grace)
	defer cancel()
	if child.Wait(grace) != nil && ctx.Err() == nil {
		_ = child.Group(unix.SIGKILL) // one that has ended meanwhile needs none
	}
}

// hangs reports whether the instance should be started again, which process that is, and why.
func (it *instance) hangs() (supervise.Proc, string, bool) {
	it.mu.Lock()
	defer it.mu.Unlock()
	n := it.d.cfg.Hung
	ending := it.ended.proc == it.sup.Child // its shim has not said so yet
	if n < 0 || !it.watched || it.failed < n || ending || it.sup.Phase != supervise.Running {
		return supervise.Proc{}, "", false
	}
	slow := time.Since(it.sup.Started) > probeOf(it.inst.Workload).StartWithin
	if !it.healthy && (!it.proven || !slow) {
		return supervise.Proc{}, "", false
	}
	return it.sup.Child, fmt.Sprintf("its probe failed %d times in a row: %s", it.failed, it.why), true
}

// takeTurn reports whether the instance may be started again now.
func (d *Driver) takeTurn(it *instance) bool {
	at, alone, wellBeside := placeOf(it.id), true, false
	for _, other := range d.in(it.id.App, it.id.Environment) {
		if other != it && placeOf(other.id) == at && other.running() {
			alone = false
			wellBeside = wellBeside || other.well()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t, taken := d.turns[at]
	if taken && t.of != it && time.Now().Before(t.until) && !t.of.well() && t.of.running() || !alone && !wellBeside {
		return false
	}
	within := probeOf(it.asked().Workload).StartWithin
	d.turns[at] = turn{of: it, until: time.Now().Add(d.cfg.Grace + time.Duration(d.cfg.Backoff.Longest) + within)}
	return true
}

// well reports whether the last probe of the process that runs was answered.
func (it *instance) well() bool {
	it.mu.Lock()
	defer it.mu.Unlock()
	return it.watched && it.healthy && it.failed == 0 && it.sup.Phase == supervise.Running
}
