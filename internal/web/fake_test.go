package web_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/web"
)

const sha = "0123456789abcdef0123456789abcdef01234567"

// fake is a control plane that remembers what it was asked.
type fake struct {
	mu       sync.Mutex
	asked    []string
	events   []domain.Event
	grown    chan struct{} // closed and replaced when an event comes
	rollback func(ctx context.Context) error
	logs     func(ctx context.Context, q web.LogQuery, w io.Writer) error
	ended    chan string // says when something long has ended
}

func newFake() *fake { return &fake{grown: make(chan struct{}), ended: make(chan string, 1000)} }

func (f *fake) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
}

func (f *fake) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) == 0 {
		return ""
	}
	return f.asked[len(f.asked)-1]
}

func (f *fake) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

func (f *fake) add(e domain.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e.Seq = int64(len(f.events) + 1)
	e.At = time.Now()
	f.events = append(f.events, e)
	close(f.grown)
	f.grown = make(chan struct{})
}

func (f *fake) Have(_ context.Context, app string) ([]string, error) { return []string{sha, app}, nil }

func (f *fake) Ship(ctx context.Context, s web.Submission) (domain.Delivery, error) {
	size := int64(-1)
	if s.Bundle != nil {
		n, err := io.Copy(io.Discard, s.Bundle)
		if err != nil {
			return domain.Delivery{}, domain.Errorf(domain.Failed, "read bundle: %v", err)
		}
		size = n
		_, _ = s.Bundle.Read(make([]byte, 1)) // beyond the end
	}
	if f.rollback != nil { // takes its time
		if err := f.rollback(ctx); err != nil {
			return domain.Delivery{}, err
		}
	}
	if s.From != "" || s.Urgent != "" {
		f.note("ship %s from %q urgent %q by %s", s.App, s.From, s.Urgent, s.By)
		return domain.Delivery{App: s.App, Number: 7, Commit: s.Commit}, nil
	}
	f.note("ship %s %s %q %s %s %d", s.App, s.Commit, s.Folder, s.By, s.Key, size)
	return domain.Delivery{App: s.App, Number: 7, Commit: s.Commit}, nil
}

func (f *fake) Apps(context.Context) ([]string, error) { return []string{"shop"}, nil }

func (f *fake) Status(_ context.Context, app string) (domain.AppStatus, error) {
	if app != "shop" {
		return domain.AppStatus{}, domain.Errorf(domain.NotFound, "app %s: not found", app).WithHint("belay ship makes it")
	}
	release := domain.Release{ID: "rel_1", Commit: sha, Workloads: []domain.Workload{{Role: "web", Env: map[string]string{"KEY": "s3cr3t"}}}}
	return domain.AppStatus{
		App: app, Hold: &domain.Hold{Reason: "<script>alert(1)</script>", Bad: release},
		Environments: []domain.EnvironmentStatus{{
			Name: domain.Production, Release: &release, Instances: domain.Instances{Healthy: 2, Wanted: 2},
			Rollback: domain.RollbackStatus{Possible: true, Commit: "9be1f02aaaa", Warm: true, Seconds: new(float64)},
			Jobs:     []domain.JobStatus{{Role: "nightly", Last: &domain.JobRun{State: domain.JobMissed, Message: "nobody was there"}}},
		}},
	}, nil
}

func (f *fake) Deliveries(_ context.Context, app string, limit int) ([]domain.Delivery, error) {
	f.note("deliveries %s %d", app, limit)
	return []domain.Delivery{{App: app, Number: 2, State: domain.DoneState}}, nil
}

func (f *fake) Delivery(_ context.Context, app string, number int) (domain.Delivery, error) {
	f.note("delivery %s %d", app, number)
	weight, until := 0.05, time.Date(2026, 11, 23, 14, 31, 0, 0, time.UTC)
	return domain.Delivery{
		App: app, Number: 2, Commit: sha, State: domain.Running,
		Urgent: "it burns", From: "http://127.0.0.1:3000",
		Traffic: &domain.Traffic{Next: &domain.SideTraffic{Commit: sha, Requests: 4529, Errors: 4}},
		Stages: []domain.StageRecord{
			{Name: domain.Build, State: domain.DoneState},
			{Name: domain.DeployProduction, State: domain.Running, Steps: []domain.StepRecord{
				{Verb: "shift", Weight: &weight, State: domain.DoneState}, {Verb: "bake", State: domain.Running, Until: &until}, {Verb: "shift", State: domain.PendingStage},
			}},
			{Name: domain.Monitor, State: domain.PendingStage},
		},
	}, nil
}

func (f *fake) Cancel(_ context.Context, app string, number int, by, reason string) (domain.Delivery, error) {
	f.note("cancel %s %d %s %s", app, number, by, reason)
	return domain.Delivery{}, nil
}

func (f *fake) Approve(_ context.Context, a web.Answer) (domain.Delivery, error) {
	f.note("approve %s %d %s %s%s%s", a.App, a.Number, a.By, a.Reason, before(a.Gate), before(a.Digest))
	return domain.Delivery{}, nil
}

func (f *fake) Reject(_ context.Context, app string, number int, by, reason string) (domain.Delivery, error) {
	f.note("reject %s %d %s %s", app, number, by, reason)
	return domain.Delivery{}, domain.Errorf(domain.Refused, "#%d waits for nobody", number)
}

func (f *fake) Rollback(ctx context.Context, r web.RollbackRequest) (domain.RollbackResult, error) {
	f.note("rollback %s %s %s %s %v", r.App, r.Environment, r.To, r.By, time.Since(r.Accepted) < time.Second)
	if f.rollback != nil {
		return domain.RollbackResult{}, f.rollback(ctx)
	}
	return domain.RollbackResult{App: r.App}, nil
}

func (f *fake) Evidence(_ context.Context, app string, number int) (domain.Evidence, error) {
	return domain.Evidence{App: app, Delivery: number, Envelopes: []string{"{}"}}, nil
}

func (f *fake) Changes(_ context.Context, app string, number int) (web.Changes, error) {
	f.note("changes %s %d", app, number)
	return web.Changes{Commits: 3}, nil
}

func (f *fake) Explain(context.Context, string, int) (domain.Explanation, error) {
	return domain.Explanation{}, fmt.Errorf("disk at /var/secret/place broke")
}

// Ticks are two; of the deliveries 6 and 7 the disk breaks, after two lines and after many.
func (f *fake) Ticks(_ context.Context, _ string, number int, see func(web.Replayed) error) error {
	n := int64(2)
	if number == 7 {
		n = 2000
	}
	for i := range n {
		t := web.Replayed{Rollout: "rol_1", Environment: domain.Production, Tick: judge.Tick{Boot: "b", N: i + 1}, Decision: judge.Watch, Evidence: 1.4}
		if err := see(t); err != nil {
			return err
		}
	}
	if number == 6 || number == 7 {
		return fmt.Errorf("disk at /var/secret/place broke")
	}
	return nil
}

func (f *fake) Logs(ctx context.Context, q web.LogQuery, w io.Writer) error {
	if f.logs != nil {
		return f.logs(ctx, q, w)
	}
	_, err := fmt.Fprintf(w, "%s %d %s %s\n", q.App, q.Delivery, q.Stage, q.Role)
	return err
}

func (f *fake) Exec(ctx context.Context, r web.ExecRequest, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	f.note("exec %s %s %q %s", r.App, r.Environment, r.Argv, r.By)
	switch r.Argv[0] {
	case "cat":
		if _, err := io.Copy(stdout, stdin); err != nil {
			return 0, err
		}
		_, err := io.WriteString(stderr, "bye")
		return 3, err
	case "hang":
		<-ctx.Done()
		f.ended <- "hang"
		return 0, ctx.Err()
	}
	return 0, domain.Errorf(domain.Refused, "nothing runs").WithHint("ship first")
}

func (f *fake) Plan(_ context.Context, r web.PlanRequest) (web.PlanView, error) {
	return web.PlanView{App: r.App, Commit: string(r.File)}, nil
}

func (f *fake) Events(ctx context.Context, after int64, filter web.EventFilter, send func(domain.Event) error) error {
	for {
		f.mu.Lock()
		grown, list := f.grown, f.events[min(int(after), len(f.events)):]
		f.mu.Unlock()
		for _, e := range list {
			after = e.Seq
			if filter.App != "" && e.App != filter.App {
				continue
			}
			if err := send(e); err != nil {
				f.ended <- "events"
				return err
			}
		}
		select {
		case <-grown:
		case <-ctx.Done():
			f.ended <- "events"
			return ctx.Err()
		}
	}
}

func (f *fake) LastEvent(context.Context) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.events)), nil
}

func (f *fake) Freeze(_ context.Context, app, by, reason string, until *time.Time) (domain.Frozen, error) {
	f.note("freeze %s %s %s %v", app, by, reason, until != nil)
	return domain.Frozen{Freeze: domain.Freeze{App: app, By: "ana", Reason: reason, Until: until}}, nil
}

func (f *fake) Thaw(_ context.Context, app, by, reason string, _ bool) error {
	f.note("thaw %s %s %s", app, by, reason)
	return nil
}

func (f *fake) Health(context.Context) (web.Health, error) { return web.Health{Version: "1.2.3"}, nil }

// running is a server on real sockets, and clients of it.
type running struct {
	*fake
	server       *web.Server
	base, socket string
	token        string
	unix         *http.Client
}

func start(t *testing.T, change func(*web.Options)) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{fake: newFake(), socket: filepath.Join(dir, "belay.sock")}
	options := web.Options{Tokens: web.NewTokens(filepath.Join(dir, "tokens.json")), Hosts: []string{"belay.example.com"}, Version: "1.2.3"}
	if change != nil {
		change(&options)
	}
	var err error
	if r.token, err = options.Tokens.Create("ci"); err != nil {
		t.Fatal(err)
	}
	r.server = web.New(r.fake, options)
	if err := r.server.ServeUnix(r.socket); err != nil {
		t.Fatal(err)
	}
	addr, err := r.server.ServeTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.base = "http://" + addr.String()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.socket)
	}}
	r.unix = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.server.Shutdown(ctx); err != nil {
			t.Errorf("shut down: %v", err)
		}
	})
	return r
}

// tcp asks over TCP with the token, unless change takes it away.
func (r *running) tcp(t *testing.T, method, path, body string, change func(*http.Request)) (status int, answer string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.base+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if change != nil {
		change(req)
	}
	return do(t, http.DefaultClient, req)
}

func (r *running) local(t *testing.T, method, path, body string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://belay"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return do(t, r.unix, req)
}

func do(t *testing.T, client *http.Client, req *http.Request) (int, string, http.Header) {
	t.Helper()
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(answer), res.Header
}

// stop shuts the server down, which must not wait for streams.
func (r *running) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := r.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

func (f *fake) SetSecret(_ context.Context, q web.SecretRequest) (domain.SecretSet, error) {
	f.note("set %s by %s from %s: %d bytes", q.SecretPlace, q.By, q.From, len(q.Value.Reveal()))
	return domain.SecretSet{SecretVersion: domain.SecretVersion{SecretPlace: q.SecretPlace, Version: 1}}, nil
}

func (f *fake) RotateSecret(_ context.Context, q web.SecretRequest) (web.RotationResult, error) {
	f.note("rotate %s by %s, value %t, revoke %t", q.SecretPlace, q.By, q.Value != nil, q.Revoke)
	return web.RotationResult{}, nil
}

func (f *fake) Secrets(_ context.Context, app string) (domain.SecretReport, error) {
	return domain.SecretReport{App: app, Secrets: []domain.SecretStatus{}, Findings: []domain.SecretFinding{}}, nil
}

func (f *fake) SecretHistory(_ context.Context, app, name string) ([]domain.SecretVersion, error) {
	return []domain.SecretVersion{{SecretPlace: domain.SecretPlace{App: app, Name: name}, Version: 1}}, nil
}

// before puts a space before what is there.
func before(text string) string {
	if text == "" {
		return ""
	}
	return " " + text
}
