package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/source"
	"github.com/belay-cd/belay/internal/web"
)

// fake is a control plane that plays a delivery as its scenario says, behind the real API on a real socket.
type fake struct {
	web.Service // what no script asks for
	dir         string

	mu        sync.Mutex
	server    *web.Server
	scenario  string
	d         domain.Delivery
	events    []domain.Event
	played    int  // events that have happened
	restarted bool // the server went away once already
	keys      map[string]int
	said      []string                   // what people asked for
	shipped   map[string]domain.Delivery // newest of each app, in the scenario "several"
}

func (f *fake) socket() string { return filepath.Join(f.dir, "run", "belay.sock") }

// serve answers on the socket, as a started daemon does.
func (f *fake) serve() error {
	s := web.New(f, web.Options{Heartbeat: 50 * time.Millisecond})
	f.mu.Lock()
	f.server = s
	f.mu.Unlock()
	return s.ServeUnix(f.socket())
}

func (f *fake) stop() error {
	f.mu.Lock()
	s := f.server
	f.server = nil
	f.mu.Unlock()
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return s.Shutdown(ctx)
}

// restart lets the server be away for long enough to be noticed.
func (f *fake) restart() {
	if err := f.stop(); err != nil {
		panic(err)
	}
	time.Sleep(1500 * time.Millisecond) // the time a daemon takes to come back; nothing signals it
	if err := f.serve(); err != nil {
		panic(err)
	}
}

func (f *fake) plays(scenario string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.scenario == scenario
}

// play sets the delivery and what is going to happen to it.
func (f *fake) play(scenario string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scenario, f.played, f.restarted = scenario, 0, false
	if f.shipped == nil {
		f.shipped = map[string]domain.Delivery{}
	}
	f.keys = map[string]int{}
	f.d = testingSample()
	f.events = []domain.Event{
		{Type: "delivery.started", By: "ana"},
		{Type: "stage.done", Stage: domain.Build},
		{Type: "stage.done", Stage: domain.Test},
		{Type: "rollout.shifted", Stage: domain.DeployProduction, Data: map[string]any{"weight": 0.05}},
		{Type: "end"},
	}
	for i := range f.events {
		e := &f.events[i]
		e.Seq, e.At, e.App, e.Delivery = int64(i+1), begun.Add(time.Duration(i)*time.Minute), f.d.App, f.d.Number
		if e.Type == "end" {
			e.Type = "delivery." + string(f.end().State)
		}
	}
}

// end is the delivery as the scenario ends it.
func (f *fake) end() domain.Delivery {
	d := doneSample()
	switch f.scenario {
	case "rolled-back":
		d = rolledBackSample()
		d.Number = 142
	case "failed":
		d.State, d.Outcome.Sentence = domain.FailedState, "failed: unit: 2 of 353 failed"
	case "superseded":
		d.State, d.Outcome.Sentence = domain.SupersededState, "superseded by #143"
		d.Stages[len(d.Stages)-1].State = domain.PendingStage
	case "gave way":
		d.State, d.Outcome.Sentence = domain.SupersededState, "superseded by #143 after 22m of 1h"
	case "gate":
		d = waitingSample()
	}
	return d
}

// step lets the next event happen.
func (f *fake) step() {
	if f.played == len(f.events) {
		return
	}
	f.played++
	switch f.played {
	case 3, 4:
		id, by := f.d.Commit, f.d.Author
		f.d = bakingSample()
		f.d.Commit, f.d.Author = id, by
	case len(f.events):
		id := f.d.Commit
		f.d = f.end()
		f.d.Commit = id
	}
}

func (f *fake) Apps(context.Context) ([]string, error) { return []string{"shop-api"}, nil }

func (f *fake) known(app string) error {
	if app != "shop-api" {
		return domain.Errorf(domain.NotFound, "no app %s on this server", app)
	}
	return nil
}

func (f *fake) Have(ctx context.Context, app string) ([]string, error) {
	if err := f.known(app); err != nil {
		return nil, err
	}
	commits, err := source.Have(ctx, filepath.Join(f.dir, "repo.git"))
	if err != nil {
		return nil, nil // no repository yet
	}
	return commits, nil
}

func (f *fake) Ship(ctx context.Context, s web.Submission) (domain.Delivery, error) {
	f.mu.Lock()
	scenario := f.scenario
	f.keys[s.Key]++
	times := f.keys[s.Key]
	f.mu.Unlock()
	if scenario == "held" {
		return domain.Delivery{}, domain.Errorf(domain.Refused, "shop-api is held by guard since #141").WithHint("belay thaw --app shop-api --reason …")
	}
	if times == 1 {
		commit, err := source.Accept(ctx, filepath.Join(f.dir, "repo.git"), s.Bundle, s.Commit, source.DefaultLimits)
		if err != nil {
			return domain.Delivery{}, err
		}
		f.mu.Lock()
		f.d.Commit, f.d.Subject, f.d.Author = commit.SHA, commit.Subject, commit.Author
		f.mu.Unlock()
	}
	if scenario == "lost-answer" && times == 1 {
		panic("the connection breaks before the answer") // the HTTP server cuts it
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if scenario == "several" {
		d := f.shipped[s.App]
		d.App, d.Number, d.Commit, d.State = s.App, d.Number+1, s.Commit, domain.DoneState
		f.shipped[s.App] = d
		f.said = append(f.said, fmt.Sprintf("shipped %s #%d of %q", s.App, d.Number, s.Folder))
		return d, nil
	}
	f.said = append(f.said, fmt.Sprintf("ship folder=%q keys=%d times=%d", s.Folder, len(f.keys), times))
	if s.From != "" || s.Urgent != "" {
		f.said = append(f.said, fmt.Sprintf("ship from=%q urgent=%q", s.From, s.Urgent))
	}
	return f.d, nil
}

func (f *fake) Status(_ context.Context, app string) (domain.AppStatus, error) {
	if err := f.known(app); err != nil {
		return domain.AppStatus{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	release := &domain.Release{ID: "rel_2", Commit: f.d.Commit, Digest: f.d.Digest, Workloads: []domain.Workload{{Env: map[string]string{"TOKEN": "hush"}}}}
	serving := domain.EnvironmentStatus{Name: domain.Production, Release: release, Delivery: f.d.Number, Instances: domain.Instances{Healthy: 2, Wanted: 2}}
	switch f.scenario {
	case "wrong-digest":
		serving.Release = &domain.Release{ID: "rel_1", Commit: "9be1f02aaaa", Digest: "sha256:0000000000000000000000000000000000000000000000000000000000000bad"}
		serving.Delivery = 141
	case "newer":
		serving.Release, serving.Delivery = &domain.Release{ID: "rel_3", Digest: "sha256:newer", Commit: "fffffff"}, 150
	case "unhealthy":
		serving.Instances.Healthy = 0
	case "busy":
		serving.Now = &domain.Figures{ErrorRate: 0.0009, P50: 0.021, P95: 0.084, P99: 0.19, RPS: 301}
	}
	return domain.AppStatus{App: app, Held: f.scenario == "rolled-back",
		Environments: []domain.EnvironmentStatus{{Name: domain.Staging}, serving}}, nil
}

func (f *fake) Deliveries(_ context.Context, app string, _ int) ([]domain.Delivery, error) {
	waits := waitingSample()
	switch {
	case f.plays("several"):
		f.mu.Lock()
		defer f.mu.Unlock()
		if d, ok := f.shipped[app]; ok {
			return []domain.Delivery{d}, nil
		}
		return nil, nil
	case f.plays("asks"):
		return []domain.Delivery{f.d, waits}, nil
	case f.plays("two-wait"):
		older := waitingSample()
		older.Number--
		return []domain.Delivery{waits, older}, nil
	}
	return []domain.Delivery{f.d}, nil
}

func (f *fake) Delivery(_ context.Context, app string, n int) (domain.Delivery, error) {
	if f.plays("several") {
		f.mu.Lock()
		defer f.mu.Unlock()
		if d, ok := f.shipped[app]; ok {
			return d, nil
		}
	}
	if err := f.known(app); err != nil {
		return domain.Delivery{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n != 0 && n != f.d.Number {
		return domain.Delivery{}, domain.Errorf(domain.NotFound, "%s has no delivery #%d", app, n)
	}
	if strings.HasPrefix(f.scenario, "look") { // nobody reads events: each look is a step
		f.step()
		if f.scenario == "look-restart" && f.played == 3 && !f.restarted {
			f.restarted = true
			go f.restart()
		}
	}
	return f.d, nil
}

func (f *fake) Events(ctx context.Context, after int64, filter web.EventFilter, see func(domain.Event) error) error {
	if filter.App != "shop-api" || filter.Delivery != 142 {
		return errors.New("the client asked for every event there is")
	}
	for i := int(after); ; i++ {
		f.mu.Lock()
		if i >= len(f.events) || strings.HasPrefix(f.scenario, "look") || f.scenario == "stuck" && i == 2 {
			f.mu.Unlock()
			<-ctx.Done()
			return ctx.Err()
		}
		if i == f.played {
			f.step()
		}
		e := f.events[i]
		restart := f.scenario == "restart" && i == 2 && !f.restarted
		if restart {
			f.restarted = true
		}
		f.mu.Unlock()
		if err := see(e); err != nil {
			return err
		}
		if restart {
			go f.restart()
			<-ctx.Done()
			return ctx.Err()
		}
	}
}

func (f *fake) LastEvent(context.Context) (int64, error) { return int64(f.played), nil }

func (f *fake) record(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said, fmt.Sprintf(format, args...))
}

func (f *fake) Cancel(_ context.Context, _ string, n int, _, reason string) (domain.Delivery, error) {
	f.record("cancel %d %s", n, reason)
	d := f.d
	d.State = domain.RejectedState
	return d, nil
}

// takenBack makes the newest delivery of an app one that was rolled back.
func (f *fake) takenBack(app string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.shipped[app]
	d.State = domain.RolledBackState
	f.shipped[app] = d
}

func (f *fake) Approve(_ context.Context, a web.Answer) (domain.Delivery, error) {
	f.record("approve %d %q of %s%s", a.Number, a.Reason, shortDigest(a.Digest), prefixed(" at ", a.Gate))
	if f.plays("over") {
		return domain.Delivery{}, domain.Errorf(domain.Refused, "#%d asks nothing now", a.Number)
	}
	d := waitingSample()
	if !f.plays("two-needed") {
		d.State, d.Wait, d.Gates = domain.Running, nil, nil
	}
	return d, nil
}

func (f *fake) Reject(_ context.Context, _ string, n int, _, reason string) (domain.Delivery, error) {
	f.record("reject %d %q", n, reason)
	d := waitingSample()
	d.State, d.Wait = domain.RejectedState, nil
	return d, nil
}

func (f *fake) Rollback(_ context.Context, r web.RollbackRequest) (domain.RollbackResult, error) {
	f.record("rollback %s to=%q reason=%q", r.Environment, r.To, r.Reason)
	switch {
	case r.To == "nowhere":
		return domain.RollbackResult{}, domain.Errorf(domain.NotFound, "no release nowhere")
	case f.plays("floor"):
		return domain.RollbackResult{}, domain.Errorf(domain.Refused, "not rolled back: schema 27 dropped orders.legacy_ref, which 9be1f02 reads").
			WithHint("the oldest safe release is 4f2c81a: belay rollback --to 4f2c81a")
	}
	return domain.RollbackResult{App: r.App, Environment: r.Environment, From: "4f2c81a9d0c", To: "9be1f02aaaa", Warm: true, Moved: 0.029,
		LastRequest: 0.033, Open: 14, Sentence: "rolled back. shop-api is held until a newer digest passes"}, nil
}

func (f *fake) Changes(context.Context, string, int) (web.Changes, error) {
	return web.Changes{From: "9be1f02aaaa", Commits: 14, Subjects: []string{"search: rank by sales"}, Migrations: []string{"0024_rank.sql"},
		Secrets: []string{"PSP_API_KEY 3 -> 4"}}, nil
}

func (f *fake) Explain(_ context.Context, app string, n int) (domain.Explanation, error) {
	return domain.Explanation{App: app, Delivery: n, Sentence: "4f2c81a is done", Lines: []string{"16:52:07  shift next 5 %"}, Replayed: true,
		Same: !f.plays("another-verdict")}, nil
}

func (f *fake) Logs(ctx context.Context, q web.LogQuery, w io.Writer) error {
	_, err := fmt.Fprintf(w, "stage=%q role=%q since=%t\nlast line\n", q.Stage, q.Role, !q.Since.IsZero())
	if q.Follow && err == nil {
		<-ctx.Done()
	}
	return err
}

func (f *fake) Exec(_ context.Context, r web.ExecRequest, in io.Reader, out, errs io.Writer) (int, error) {
	if r.Environment == domain.Staging {
		return 0, domain.Errorf(domain.NotFound, "nothing runs in staging").WithHint("belay ship")
	}
	body, err := io.ReadAll(in)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(out, "%q read %q\n", r.Argv, body)
	fmt.Fprintln(errs, "on stderr")
	return 7, nil
}

func (f *fake) Plan(_ context.Context, r web.PlanRequest) (web.PlanView, error) {
	p := web.PlanView{App: r.App, Commit: r.Commit, Rows: []web.PlanRow{{Stage: domain.Build, Summary: fmt.Sprintf("%d bytes of file", len(r.File))}}}
	if f.plays("held") {
		p.Refused = "shop-api is held"
	}
	return p, nil
}

func (f *fake) Freeze(_ context.Context, app, _, reason string, until *time.Time) (domain.Frozen, error) {
	f.record("freeze %q %q until=%t", app, reason, until != nil)
	return domain.Frozen{Freeze: domain.Freeze{App: app, By: "ana", Reason: reason, Until: until}}, nil
}

func (f *fake) Thaw(_ context.Context, app, _, reason string, _ bool) error {
	f.record("thaw %q %q", app, reason)
	return nil
}
