// Package drivertest is the conformance suite of drivers: what the executor of a rollout relies on, whatever runs the
// instances. The in-memory driver of tests passes it too.
package drivertest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Driver is what the suite tests.
type Driver interface {
	Start(ctx context.Context, inst domain.Instance) (domain.InstanceStatus, error)
	Stop(ctx context.Context, id domain.InstanceID) error
	List(ctx context.Context, app string, env domain.Environment) ([]domain.InstanceStatus, error)
}

// Behaviour is what the app of an instance does.
type Behaviour int

// The behaviours that a subject must be able to make.
const (
	Good       Behaviour = iota // becomes healthy and stays so
	NeverReady                  // runs, and its probe fails
	Crashes                     // ends at once with an error
	Stubborn                    // becomes healthy, and ignores TERM
)

// Subject is a driver under test.
type Subject struct {
	Driver Driver
	// Instance returns the n-th web instance of a release whose app behaves so. StartWithin is as given.
	Instance func(release string, index int, b Behaviour, startWithin time.Duration) domain.Instance
	// Crash ends the instance's process as a crash would.
	Crash func(t *testing.T, id domain.InstanceID)
}

// Run holds a driver against the contract. Each case gets a subject of its own.
func Run(t *testing.T, subject func(t *testing.T) Subject) {
	t.Helper()
	RunIn(t, func(t *testing.T, run func(*testing.T)) { t.Helper(); run(t) }, subject)
}

// RunIn is Run with each case inside of around, such as synctest.Test.
func RunIn(t *testing.T, around func(*testing.T, func(*testing.T)), subject func(t *testing.T) Subject) {
	t.Helper()
	cases := []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"start returns when it is healthy", startHealthy},
		{"start is idempotent", startTwice},
		{"starts at the same time are one", startTogether},
		{"instances have addresses of their own", addresses},
		{"start fails when the probe never passes", neverReady},
		{"start fails when it crashes again and again", crashLoop},
		{"start ends at once with its context", startCancelled},
		{"stop is idempotent and knows no unknown", stopTwice},
		{"stop ends what ignores it", stopStubborn},
		{"stop ends a start that waits", stopWhileStarting},
		{"a stopped instance starts again", restartStopped},
		{"a crash is healed", crashHealed},
		{"a stopped instance stays away", stoppedStays},
		{"list keeps apps and environments apart", listApart},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			around(t, func(t *testing.T) { c.run(t, subject(t)) })
		})
	}
}

func context30(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func mustStart(t *testing.T, s Subject, inst domain.Instance) domain.InstanceStatus {
	t.Helper()
	status, err := s.Driver.Start(context30(t), inst)
	if err != nil {
		t.Fatalf("start %s: %v", inst.InstanceID, err)
	}
	if status.State != domain.Healthy || status.InstanceID != inst.InstanceID || status.Addr == "" {
		t.Fatalf("start %s returned %+v", inst.InstanceID, status)
	}
	return status
}

func mustStop(t *testing.T, s Subject, id domain.InstanceID) {
	t.Helper()
	if err := s.Driver.Stop(context30(t), id); err != nil {
		t.Fatalf("stop %s: %v", id, err)
	}
}

func list(t *testing.T, s Subject, of domain.InstanceID) map[domain.InstanceID]domain.InstanceStatus {
	t.Helper()
	found, err := s.Driver.List(context30(t), of.App, of.Environment)
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	by := map[domain.InstanceID]domain.InstanceStatus{}
	for _, f := range found {
		if _, twice := by[f.InstanceID]; twice {
			t.Fatalf("list names %s twice", f.InstanceID)
		}
		by[f.InstanceID] = f
	}
	return by
}

// await polls List until ok, because a driver need not tell of changes.
func await(t *testing.T, s Subject, id domain.InstanceID, what string, ok func(domain.InstanceStatus) bool) domain.InstanceStatus {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last domain.InstanceStatus
	for ctx := context30(t); ; {
		if last = list(t, s, id)[id]; ok(last) {
			return last
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not %s, but %+v", id, what, last)
		case <-tick.C:
		}
	}
}

func startHealthy(t *testing.T, s Subject) {
	inst := s.Instance("rel_1", 0, Good, 10*time.Second)
	status := mustStart(t, s, inst)
	if got := list(t, s, inst.InstanceID)[inst.InstanceID]; got.State != domain.Healthy || got.Addr != status.Addr {
		t.Errorf("list says %+v, start said %+v", got, status)
	}
}

func startTwice(t *testing.T, s Subject) {
	inst := s.Instance("rel_1", 0, Good, 10*time.Second)
	first := mustStart(t, s, inst)
	second := mustStart(t, s, inst)
	if first.PID != second.PID || first.Addr != second.Addr || second.Restarts != 0 {
		t.Errorf("the second start changed %+v to %+v", first, second)
	}
}

func startTogether(t *testing.T, s Subject) {
	inst := s.Instance("rel_1", 0, Good, 10*time.Second)
	var wg sync.WaitGroup
	got := make([]domain.InstanceStatus, 4)
	for i := range got {
		wg.Go(func() {
			status, err := s.Driver.Start(context30(t), inst)
			if err != nil {
				t.Errorf("start: %v", err)
			}
			got[i] = status
		})
	}
	wg.Wait()
	for _, g := range got {
		if g.PID != got[0].PID || g.Addr != got[0].Addr {
			t.Errorf("two processes: %+v and %+v", got[0], g)
		}
	}
	if n := len(list(t, s, inst.InstanceID)); n != 1 {
		t.Errorf("%d instances run, want 1", n)
	}
}

func addresses(t *testing.T, s Subject) {
	seen := map[string]bool{}
	for _, release := range []string{"rel_1", "rel_2"} {
		for i := range 2 {
			seen[mustStart(t, s, s.Instance(release, i, Good, 10*time.Second)).Addr] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("4 instances have %d addresses", len(seen))
	}
}

func neverReady(t *testing.T, s Subject) {
	inst := s.Instance("rel_1", 0, NeverReady, 700*time.Millisecond)
	began := time.Now()
	_, err := s.Driver.Start(context30(t), inst)
	if domain.CodeOf(err) != domain.Failed || err == nil {
		t.Fatalf("start returned %v, want a failure", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("start took %s, its limit was 700 ms", took)
	}
	if got := list(t, s, inst.InstanceID)[inst.InstanceID]; got.State == domain.Healthy || got.State == "" {
		t.Errorf("list says %+v: it is the caller's to stop it", got)
	}
}

func crashLoop(t *testing.T, s Subject) {
	inst := s.Instance("rel_1", 0, Crashes, 20*time.Second)
	_, err := s.Driver.Start(context30(t), inst)
	if domain.CodeOf(err) != domain.Failed || err == nil {
		t.Fatalf("start returned %v, want a failure", err)
	}
	await(t, s, inst.InstanceID, "crashed and restarted", func(st domain.InstanceStatus) bool {
		return st.Restarts >= 2 && st.State == domain.Crashed
	})
}

func startCancelled(t *testing.T, s Subject) {
	inst := s.Instance("rel_1", 0, NeverReady, time.Minute)
	reason := errors.New("a rollback came")
	ctx, cancel := context.WithCancelCause(t.Context())
	returned := make(chan error, 1)
	go func() {
		_, err := s.Driver.Start(ctx, inst)
		returned <- err
	}()
	await(t, s, inst.InstanceID, "starting", func(st domain.InstanceStatus) bool { return st.State == domain.Starting })
	began := time.Now()
	cancel(reason)
	if err := <-returned; !errors.Is(err, reason) {
		t.Errorf("start returned %v, want %v", err, reason)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("start took %s after its context ended", took)
	}
}

func stopTwice(t *testing.T, s Subject) {
	inst := s.Instance("rel_1", 0, Good, 10*time.Second)
	mustStop(t, s, inst.InstanceID)
	mustStart(t, s, inst)
	mustStop(t, s, inst.InstanceID)
	mustStop(t, s, inst.InstanceID)
	if got := list(t, s, inst.InstanceID); len(got) != 0 {
		t.Errorf("after stop there is still %+v", got)
	}
}

func stopStubborn(t *testing.T, s Subject) {
	inst := s.Instance("rel_1", 0, Stubborn, 10*time.Second)
	mustStart(t, s, inst)
	mustStop(t, s, inst.InstanceID)
	if got := list(t, s, inst.InstanceID); len(got) != 0 {
		t.Errorf("after stop there is still %+v", got)
	}
}

func stopWhileStarting(t *testing.T, s Subject) {
	inst := s.Instance("rel_1", 0, NeverReady, time.Minute)
	returned := make(chan error, 1)
	go func() {
		_, err := s.Driver.Start(context30(t), inst)
		returned <- err
	}()
	await(t, s, inst.InstanceID, "starting", func(st domain.InstanceStatus) bool { return st.State == domain.Starting })
	mustStop(t, s, inst.InstanceID)
	if err := <-returned; err == nil {
		t.Error("start of a stopped instance said that it is healthy")
	}
	if got := list(t, s, inst.InstanceID); len(got) != 0 {
		t.Errorf("after stop there is still %+v", got)
	}
}

func restartStopped(t *testing.T, s Subject) {
	inst := s.Instance("rel_1", 0, Good, 10*time.Second)
	mustStart(t, s, inst)
	mustStop(t, s, inst.InstanceID)
	if again := mustStart(t, s, inst); again.Restarts != 0 {
		t.Errorf("a start after a stop counts %d restarts", again.Restarts)
	}
}

func crashHealed(t *testing.T, s Subject) {
	inst := s.Instance("rel_1", 0, Good, 10*time.Second)
	before := mustStart(t, s, inst)
	s.Crash(t, inst.InstanceID)
	after := await(t, s, inst.InstanceID, "healthy again", func(st domain.InstanceStatus) bool {
		return st.State == domain.Healthy && st.Restarts == 1
	})
	if after.Addr != before.Addr {
		t.Errorf("it moved from %s to %s", before.Addr, after.Addr)
	}
}

func stoppedStays(t *testing.T, s Subject) {
	stays, goes := s.Instance("rel_1", 0, Good, 10*time.Second), s.Instance("rel_2", 0, Good, 10*time.Second)
	mustStart(t, s, stays)
	mustStart(t, s, goes)
	s.Crash(t, goes.InstanceID)
	mustStop(t, s, goes.InstanceID)
	// The other one crashes and is healed; by then the stopped one would have been too.
	s.Crash(t, stays.InstanceID)
	await(t, s, stays.InstanceID, "healthy again", func(st domain.InstanceStatus) bool {
		return st.State == domain.Healthy && st.Restarts == 1
	})
	if got, ok := list(t, s, goes.InstanceID)[goes.InstanceID]; ok {
		t.Errorf("a stopped instance came back: %+v", got)
	}
}

func listApart(t *testing.T, s Subject) {
	inst := s.Instance("rel_1", 0, Good, 10*time.Second)
	other := inst
	other.Environment = domain.Staging
	if inst.Environment == domain.Staging {
		other.Environment = domain.Production
	}
	mustStart(t, s, inst)
	mustStart(t, s, other)
	for _, id := range []domain.InstanceID{inst.InstanceID, other.InstanceID} {
		if got := list(t, s, id); len(got) != 1 || got[id].State != domain.Healthy {
			t.Errorf("%s: list says %+v", id, got)
		}
	}
	mustStop(t, s, other.InstanceID)
	if got := list(t, s, inst.InstanceID); len(got) != 1 {
		t.Errorf("stopping staging left %d in production", len(got))
	}
}
