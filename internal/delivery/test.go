package delivery

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// TestRequest is a commit handed over to be built and tested before its merge.
type TestRequest struct {
	App    string
	Commit string // full SHA
	Folder string // of belay.yaml within the repository, "" for its root
	By     string
	// Level is the only level that runs; "" is all of them.
	Level string
	// All runs what the change does not touch, too: no result of an earlier run is taken.
	All    bool
	Bundle io.Reader // git bundle that holds the commit; nil when the server holds it already
}

// TestEventType says what a test run tells.
type TestEventType string

// What a test run tells, in this order but for the log.
const (
	TestAccepted TestEventType = "accepted" // the commit is proven, its file is right
	TestWaits    TestEventType = "wait"     // for its turn on the machine
	TestStage    TestEventType = "stage"    // build or test begins, or has ended
	TestLevel    TestEventType = "level"    // a level has ended
	TestFailed   TestEventType = "failure"  // one test that failed
	TestLog      TestEventType = "log"      // whole lines of what the commands say
	TestVerdict  TestEventType = "verdict"  // the last event of a run that came to its end
)

// TestEvent is one fact about a test run.
type TestEvent struct {
	Type    TestEventType       `json:"type" enum:"accepted,wait,stage,level,failure,log,verdict,error"`
	At      time.Time           `json:"at"`
	Commit  string              `json:"commit,omitempty"`
	Stage   domain.Stage        `json:"stage,omitempty"`
	Wait    *domain.Wait        `json:"wait,omitempty"`
	Row     *domain.StageRecord `json:"row,omitempty"`
	Level   *domain.LevelRecord `json:"level,omitempty"`
	Failure *Failure            `json:"failure,omitempty"`
	Text    string              `json:"text,omitempty"` // of a log: one line or more
	Verdict *Verdict            `json:"verdict,omitempty"`
}

// Failure is one test that failed.
type Failure struct {
	Level   string `json:"level"`
	Name    string `json:"name"`
	Message string `json:"message,omitempty"`
	Output  string `json:"output,omitempty"` // its end
}

// Verdict is what a test run came to. It is no evidence: a delivery of the same commit runs all seven stages.
type Verdict struct {
	ID       string `json:"id"` // tst_…
	App      string `json:"app"`
	Commit   string `json:"commit"`
	Subject  string `json:"subject"`
	Folder   string `json:"folder,omitempty"` // of belay.yaml within the repository
	Green    bool   `json:"green"`
	Sentence string `json:"sentence"`
	Hint     string `json:"hint,omitempty"`
	// Only is the one level that ran; "" is all of them.
	Only     string               `json:"only,omitempty"`
	Stages   []domain.StageRecord `json:"stages"` // build and test
	Failures []Failure            `json:"failures,omitempty"`
	Loosened []string             `json:"loosened"` // what the commit loosens for the deliveries after its own
	Took     float64              `json:"took"`     // seconds, with the time in the line
}

// Limits of test runs.
const (
	// testsAtOnce is how many test runs may stand in the line of the machine.
	testsAtOnce = 20
	// preemptEvery is how often a test run looks whether an urgent delivery waits for it.
	preemptEvery = time.Second
	// keptFailures is how many failed tests a verdict names.
	keptFailures = 50
)

// testPrefix begins the id of a test run.
const testPrefix = "tst_"

// IsTest reports whether a job's delivery is none, but a test before a merge: nothing that it leaves may meet a delivery, but
// for the artifact and the results that it really made.
func IsTest(d domain.Delivery) bool { return strings.HasPrefix(d.ID, testPrefix) }

// notAsked stands for the levels that were not asked for.
const notAsked = "not asked for"

// errStops is the cause of a test run that the end of the process ends.
var errStops = domain.Errorf(domain.Unavailable, "the server stops: the test run ended with it, and left nothing").
	WithHint("belay test again, when it is back")

// trial is one test run. It is never stored.
type trial struct {
	s     *Service
	run   *run
	in    TestRequest
	began time.Time

	mu      sync.Mutex
	emit    func(TestEvent)
	verdict Verdict
}

// trials remembers which test runs there are, and when they kept the machine busy.
type trials struct {
	mu    sync.Mutex
	count int
	busy  []domain.Period
}

// Test builds and tests a commit, and touches nothing else: no delivery, no release, no evidence comes of it. It tells emit
// each fact in its order, never two at once. An error means that there is no verdict; a red verdict is none. When ctx ends,
// everything that was started is ended.
func (s *Service) Test(ctx context.Context, in TestRequest, emit func(TestEvent)) (err error) {
	leave, err := s.joinTests()
	if err != nil {
		return err
	}
	defer leave()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(s.life, func() { stop(errStops) })()
	defer func() {
		if why := recover(); why != nil {
			s.options.Log.Error("a defect stopped a test run", "app", in.App, "why", why, "stack", string(debug.Stack()))
			err = domain.Errorf(domain.Failed, "a defect of the server stopped the test run: %v", why)
		}
	}()
	t, job, err := s.newTrial(ctx, in, emit)
	if err != nil {
		return err
	}
	t.tell(TestEvent{Type: TestAccepted, Commit: job.Delivery.Commit})
	go t.giveWay(ctx, stop)
	artifact, err := t.build(ctx, job)
	if err == nil {
		err = t.test(ctx, job, artifact)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.end(err)
	return nil
}

// joinTests counts a test run, and keeps the process from ending before it.
func (s *Service) joinTests() (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life.Err() != nil {
		return nil, errStops
	}
	s.trials.mu.Lock()
	defer s.trials.mu.Unlock()
	if s.trials.count == testsAtOnce {
		return nil, domain.Errorf(domain.Conflict, "%d test runs wait already: this machine builds one thing at a time", testsAtOnce).
			WithHint("try again in some minutes")
	}
	s.trials.count++
	s.wg.Add(1)
	return func() {
		s.trials.mu.Lock()
		s.trials.count--
		s.trials.mu.Unlock()
		s.wg.Done()
	}, nil
}

// newTrial proves the commit and reads its file.
func (s *Service) newTrial(ctx context.Context, in TestRequest, emit func(TestEvent)) (*trial, Job, error) {
	if !appName.MatchString(in.App) {
		return nil, Job{}, domain.Errorf(domain.Invalid, "app %q: not a name", in.App).WithHint("[a-z][a-z0-9-]*, at most 40")
	}
	began := time.Now()
	commit, err := s.ports.Source.Accept(ctx, in.App, in.Commit, in.Bundle)
	if err != nil {
		return nil, Job{}, err
	}
	if in.Bundle != nil { // whoever listens for the end of the connection must have read what came
		if _, err := io.Copy(io.Discard, in.Bundle); err != nil {
			return nil, Job{}, err
		}
	}
	if err := s.sameRepository(ctx, in, commit); err != nil {
		return nil, Job{}, err
	}
	file, _, err := s.fileAt(ctx, in.App, in.Folder, commit.SHA)
	if err != nil {
		return nil, Job{}, err
	}
	if file, err = onlyLevel(file, in.Level); err != nil {
		return nil, Job{}, err
	}
	last, err := s.lastDone(ctx, in.App, int(^uint(0)>>1))
	if err != nil {
		return nil, Job{}, err
	}
	d := domain.Delivery{
		ID: domain.NewID(testPrefix), App: in.App, Commit: commit.SHA, Subject: commit.Subject, Author: commit.Author, ShippedBy: in.By,
		Folder: in.Folder, State: domain.Running, Created: began.UTC(), Stages: newStages(), Loosened: []string{},
	}
	r := s.newRun(d)
	r.bare, r.file = true, file
	t := &trial{s: s, run: r, in: in, began: began, emit: emit, verdict: Verdict{
		ID: d.ID, App: d.App, Commit: d.Commit, Subject: d.Subject, Folder: d.Folder, Only: in.Level, Stages: slices.Clone(d.Stages[:2]),
		Loosened: loosenedBy(file, last),
	}}
	return t, Job{Delivery: d, File: file, Fresh: in.All, Level: t.level, Failure: t.failure}, nil
}

// sameRepository refuses a commit of another repository under the name of an app that there is.
func (s *Service) sameRepository(ctx context.Context, in TestRequest, c Commit) error {
	apps, err := s.ports.Store.Apps(ctx)
	if err != nil || !slices.Contains(apps, in.App) {
		return err
	}
	return s.ports.Store.EnsureApp(ctx, in.App, c.Repository+":"+in.Folder)
}

// onlyLevel returns a file of which one level runs.
func onlyLevel(f *config.File, level string) (*config.File, error) {
	if level == "" {
		return f, nil
	}
	only := *f
	found := false
	for _, l := range []struct {
		name  string
		level **config.Level
	}{{"unit", &only.Test.Unit}, {"integration", &only.Test.Integration}, {"e2e", &only.Test.E2E}} {
		if l.name != level {
			*l.level = &config.Level{None: notAsked}
			continue
		}
		found = true
		if why := (*l.level).None; why != "" {
			return nil, domain.Errorf(domain.Invalid, "there are no %s tests: %s", level, why)
		}
	}
	if !found {
		return nil, domain.Errorf(domain.Invalid, "%q is no level", level).WithHint("unit, integration or e2e")
	}
	return &only, nil
}

// tell passes one event on.
func (t *trial) tell(e TestEvent) {
	e.At = time.Now().UTC()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.emit(e)
}

// giveWay ends the run when an urgent delivery waits for the machine.
func (t *trial) giveWay(ctx context.Context, stop context.CancelCauseFunc) {
	ticker := time.NewTicker(preemptEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if number, urgent := t.s.builds.next(t.run); urgent {
			stop(domain.Errorf(domain.Superseded, "the test run gave way to the urgent delivery #%d", number).WithHint("belay test again"))
			return
		}
	}
}

// turn waits until nothing else is built or tested on this machine.
func (t *trial) turn(ctx context.Context) (leave func(), err error) {
	q := t.s.builds
	w, holder := q.join(t.run, true)
	if holder != nil {
		deadline := time.Now().Add(queueWait)
		why := busyWith("one build or test runs at a time on this machine")(holder)
		t.tell(TestEvent{Type: TestWaits, Wait: &domain.Wait{Reason: why, Owner: "belay", Since: *now(), Deadline: deadline.UTC()}})
		timeout := time.NewTimer(queueWait)
		defer timeout.Stop()
		select {
		case <-w.ready:
		case <-ctx.Done():
			q.quit(t.run, w)
			return nil, context.Cause(ctx)
		case <-timeout.C:
			q.quit(t.run, w)
			return nil, domain.Errorf(domain.Expired, "%s for more than %s", why, queueWait)
		}
	}
	began := time.Now()
	return func() {
		q.free(t.run)
		t.s.trials.wasBusy(domain.Period{From: began, To: time.Now()})
	}, nil
}

// stage runs one of the two stages, between two events.
func (t *trial) stage(ctx context.Context, i int, work func(log io.Writer, row *domain.StageRecord) (string, error)) error {
	leave, err := t.turn(ctx)
	if err != nil {
		return err
	}
	defer leave()
	row := t.verdict.Stages[i]
	row.State, row.Started = domain.Running, now()
	t.show(i, row)
	log := &logLines{tell: func(text string) { t.tell(TestEvent{Type: TestLog, Stage: row.Name, Text: text}) }}
	row.Summary, err = work(log, &row)
	log.flush()
	row.State, row.Ended = domain.DoneState, now()
	if err != nil {
		row.State, row.Summary = domain.FailedState, err.Error()
	}
	t.show(i, row)
	return err
}

func (t *trial) show(i int, row domain.StageRecord) {
	t.verdict.Stages[i] = row
	t.tell(TestEvent{Type: TestStage, Stage: row.Name, Row: &row})
}

func (t *trial) build(ctx context.Context, job Job) (artifact Artifact, err error) {
	err = t.stage(ctx, 0, func(log io.Writer, row *domain.StageRecord) (string, error) {
		job.Log = log
		artifact, err = t.s.ports.Builder.Build(ctx, job)
		row.Notes = artifact.Notes
		return artifact.summary(len(job.File.Build.Lint)), err
	})
	return artifact, err
}

// summary is the line about an artifact that so many linters saw.
func (a Artifact) summary(linters int) string {
	text := shortDigest(a.Digest)
	if linters > 0 {
		text += fmt.Sprintf("  lint %d of %d", a.Linted, linters)
	}
	if a.Reused > 0 {
		text += fmt.Sprintf("  reused from #%d", a.Reused)
	}
	return text
}

func (t *trial) test(ctx context.Context, job Job, artifact Artifact) error {
	return t.stage(ctx, 1, func(log io.Writer, row *domain.StageRecord) (string, error) {
		job.Log = log
		levels, notes, err := t.s.ports.Tester.Test(ctx, job, artifact)
		row.Levels = slices.DeleteFunc(slices.Clone(levels), unasked)
		row.Notes = slices.DeleteFunc(slices.Clone(notes), func(n string) bool { return strings.HasSuffix(n, ": "+notAsked) })
		return testSummary(row.Levels), err
	})
}

func unasked(l domain.LevelRecord) bool { return l.State == "none" && l.Reason == notAsked }

func (t *trial) level(l domain.LevelRecord) {
	if !unasked(l) {
		t.tell(TestEvent{Type: TestLevel, Stage: domain.Test, Level: &l})
	}
}

func (t *trial) failure(f Failure) {
	t.mu.Lock()
	kept := len(t.verdict.Failures) < keptFailures
	if kept {
		t.verdict.Failures = append(t.verdict.Failures, f)
	}
	t.mu.Unlock()
	if kept {
		t.tell(TestEvent{Type: TestFailed, Stage: domain.Test, Failure: &f})
	}
}

// end says how it went.
func (t *trial) end(red error) {
	v := t.verdict
	v.Green, v.Took = red == nil, time.Since(t.began).Seconds()
	v.Sentence = "green: " + v.Stages[1].Summary
	if red != nil {
		stage := domain.Build
		if v.Stages[1].State == domain.FailedState {
			stage = domain.Test
		}
		v.Sentence, v.Hint = "red: "+string(stage)+": "+red.Error(), domain.HintOf(red)
		if stage == domain.Test {
			v.Hint = "what the tests said stands above"
		}
	}
	t.tell(TestEvent{Type: TestVerdict, Verdict: &v})
}

// wasBusy remembers when the machine was busy, as long as a baseline reaches back.
func (t *trials) wasBusy(p domain.Period) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy = append(slices.DeleteFunc(t.busy, func(b domain.Period) bool { return p.To.Sub(b.To) > config.BaselineReach }), p)
}

// during lists when test runs kept the machine busy between from and to.
func (t *trials) during(from, to time.Time) []domain.Period {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(t.busy), func(b domain.Period) bool { return b.To.Before(from) || b.From.After(to) })
}

// logLines passes whole lines on, as many as come at once.
type logLines struct {
	mu   sync.Mutex
	part []byte
	tell func(text string)
}

// longestLine is where a line without an end is cut, in bytes.
const longestLine = 64 << 10

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	if i := bytes.LastIndexByte(l.part, '\n'); i >= 0 {
		l.tell(strings.ToValidUTF8(string(l.part[:i]), "?"))
		l.part = append([]byte(nil), l.part[i+1:]...)
	}
	if len(l.part) > longestLine {
		l.tell(strings.ToValidUTF8(string(l.part), "?"))
		l.part = nil
	}
	return len(p), nil
}

// flush passes on a last line that has no end.
func (l *logLines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.part) > 0 {
		l.tell(strings.ToValidUTF8(string(l.part), "?"))
		l.part = nil
	}
}
