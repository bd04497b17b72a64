package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// tried is a test run and what it told.
type tried struct {
	mu    sync.Mutex
	told  []TestEvent
	err   error
	over  chan struct{}
	leave context.CancelFunc
}

var errLeft = errors.New("the client left")

// try begins a test run of a commit that is named by one letter.
func (w *world) try(name string, change func(*TestRequest)) *tried {
	ctx, leave := context.WithCancelCause(context.WithoutCancel(w.t.Context()))
	r := &tried{over: make(chan struct{}), leave: func() { leave(errLeft) }}
	in := TestRequest{App: "shop", Commit: sha(name), By: "ben"}
	if change != nil {
		change(&in)
	}
	s := w.life.s
	go func() {
		defer close(r.over)
		r.err = s.Test(ctx, in, func(e TestEvent) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.told = append(r.told, e)
		})
	}()
	return r
}

func (r *tried) events() []TestEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told)
}

// kinds are the events in a word each; a stage tells its state, too.
func (r *tried) kinds() string {
	var words []string
	for _, e := range r.events() {
		word := string(e.Type)
		if e.Row != nil {
			word = fmt.Sprintf("%s:%s", e.Stage, e.Row.State)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func (r *tried) verdict(t *testing.T) *Verdict {
	t.Helper()
	<-r.over
	events := r.events()
	if r.err != nil || len(events) == 0 || events[len(events)-1].Verdict == nil {
		t.Fatalf("no verdict: %v, %s", r.err, r.kinds())
	}
	return events[len(events)-1].Verdict
}

// A test run tells what happens and leaves nothing: no delivery, no event, no app, no evidence.
func TestTestRunLeavesNothing(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.attest = func(stage domain.Stage) error {
			t.Errorf("a test run signed evidence of %s", stage)
			return nil
		}
		before, _ := w.life.s.LastEvent(t.Context())
		run := w.try("a", nil)
		v := run.verdict(t)
		if want := "accepted build:running build:done test:running level test:done verdict"; run.kinds() != want {
			t.Errorf("%s, want %s", run.kinds(), want)
		}
		if !v.Green || v.Commit != sha("a") || !strings.HasPrefix(v.ID, "tst_") || len(v.Stages) != 2 || !strings.HasPrefix(v.Sentence, "green: 3 tests") {
			t.Errorf("%+v", v)
		}
		after, _ := w.life.s.LastEvent(t.Context())
		apps, _ := w.life.s.Apps(t.Context())
		if after != before || len(apps) > 0 || len(w.disk.deliveries) > 0 {
			t.Errorf("left: %d events, apps %v, %d deliveries", after-before, apps, len(w.disk.deliveries))
		}
	})
}

func TestRedTestRuns(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.red[sha("b")], w.red[sha("c")] = "build", "test"
		if v := w.try("b", nil).verdict(t); v.Green || !strings.HasPrefix(v.Sentence, "red: build: build is red") || v.Stages[1].State != domain.PendingStage {
			t.Errorf("%+v", v)
		}
		if v := w.try("c", nil).verdict(t); v.Green || !strings.HasPrefix(v.Sentence, "red: test: test is red") {
			t.Errorf("%+v", v)
		}
		for _, c := range []struct {
			level, want string
			code        domain.Code
		}{{"integration", "there are no integration tests: nothing to integrate", domain.Invalid}, {"load", `"load" is no level`, domain.Invalid}} {
			run := w.try("a", func(r *TestRequest) { r.Level = c.level })
			<-run.over
			if run.err == nil || run.err.Error() != c.want || domain.CodeOf(run.err) != c.code || len(run.events()) > 0 {
				t.Errorf("%s: %v %s", c.level, run.err, run.kinds())
			}
		}
		if v := w.try("a", func(r *TestRequest) { r.Level = "unit" }).verdict(t); v.Only != "unit" || len(v.Stages[1].Levels) != 1 {
			t.Errorf("%+v", v)
		}
	})
}

// One at a time on a machine: a test run waits behind whatever builds, and a delivery goes before test runs that came first.
func TestDeliveriesGoBeforeTestRuns(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for _, name := range []string{"a", "b", "c", "d"} {
			w.slow[sha(name)] = time.Minute
		}
		first := w.try("a", nil)
		time.Sleep(time.Second)
		second := w.try("b", nil)
		time.Sleep(time.Second)
		d := w.ship("c")
		time.Sleep(time.Second)
		events := second.events()
		if len(events) != 2 || events[1].Wait == nil || events[1].Wait.Owner == "" || events[1].Wait.Deadline.Before(time.Now()) ||
			!strings.HasSuffix(events[1].Wait.Reason, ": a test run of shop") {
			t.Errorf("%+v", events)
		}
		if wait := w.stored(d.Number).Wait; wait == nil || !strings.HasSuffix(wait.Reason, ": a test run of shop") {
			t.Errorf("the delivery waits for %+v", wait)
		}
		if !first.verdict(t).Green || !second.verdict(t).Green {
			t.Error("red")
		}
		built := w.stored(d.Number).Stages[0].Ended
		begun := time.Time{}
		for _, e := range second.events() {
			if e.Type == TestStage && begun.IsZero() {
				begun = e.At
			}
		}
		if built == nil || begun.Before(*built) {
			t.Errorf("the test run began at %s, the delivery was built at %v", begun, built)
		}
		if got := w.await(d.Number); got.State != domain.DoneState {
			t.Errorf("%s", got.State)
		}
	})
}

// An urgent delivery does not wait for a test run.
func TestTestRunGivesWayToAnUrgentDelivery(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.slow[sha("a")] = time.Hour
		run := w.try("a", nil)
		time.Sleep(time.Second)
		d, err := w.life.s.Ship(t.Context(), Submission{App: "shop", Commit: sha("b"), By: "ana", Urgent: "it burns"})
		if err != nil {
			t.Fatal(err)
		}
		<-run.over
		if domain.CodeOf(run.err) != domain.Superseded || !strings.Contains(run.err.Error(), "urgent delivery #1") {
			t.Errorf("%v", run.err)
		}
		w.await(d.Number)
	})
}

// Who leaves gives back the place, in the line as at work; and the end of the process ends every run with a word.
func TestTestRunsEnd(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.slow[sha("a")] = time.Hour
		first := w.try("a", nil)
		time.Sleep(time.Second)
		second := w.try("b", nil)
		third := w.try("c", nil)
		time.Sleep(time.Second)
		second.leave()
		<-second.over
		first.leave()
		<-first.over
		if !errors.Is(first.err, errLeft) || !errors.Is(second.err, errLeft) {
			t.Errorf("%v, %v", first.err, second.err)
		}
		if !third.verdict(t).Green {
			t.Error("red")
		}
		last := w.try("a", nil)
		time.Sleep(time.Second)
		w.life.end()
		<-last.over
		if domain.CodeOf(last.err) != domain.Unavailable || !strings.Contains(last.err.Error(), "the server stops") {
			t.Errorf("%v", last.err)
		}
		late := w.try("a", nil)
		<-late.over
		if domain.CodeOf(late.err) != domain.Unavailable {
			t.Errorf("%v", late.err)
		}
		w.begin()
	})
}

func TestTestRunsAreBounded(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.slow[sha("a")] = time.Hour
		var runs []*tried
		for range testsAtOnce {
			runs = append(runs, w.try("a", nil))
		}
		time.Sleep(time.Second)
		more := w.try("b", nil)
		<-more.over
		if domain.CodeOf(more.err) != domain.Conflict {
			t.Errorf("%v", more.err)
		}
		for _, r := range runs {
			r.leave()
		}
		for _, r := range runs {
			<-r.over
		}
		if !w.try("b", nil).verdict(t).Green {
			t.Error("red")
		}
	})
}

// What a test run took of the machine is no time from which stable is judged.
func TestTestRunIsNoCalmTime(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.slow[sha("a")] = 5 * time.Minute
		from := time.Now()
		w.try("a", nil).verdict(t)
		busy, err := w.life.s.building(t.Context(), from, time.Now())
		if err != nil || len(busy) == 0 || busy[0].To.Sub(busy[0].From) < 5*time.Minute {
			t.Errorf("%v %v", busy, err)
		}
	})
}
