package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/web"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { testMain(m) }

// golden compares got with a file of testdata/golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew)\n--- got\n%s--- want\n%s", file, got, want)
	}
}

// local makes the local zone UTC while a test draws times of day.
func local(t *testing.T) {
	before := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = before })
}

func at(d time.Duration) view { return view{now: begun.Add(d), width: width} }

func TestDeliveryIsDrawn(t *testing.T) {
	local(t)
	attached := at(678 * time.Second)
	attached.attached = true
	live := bakingSample()
	live.Stages[4].Steps[3].Message = ""
	live.Traffic.Judged = &domain.Judged{Decision: "watch", Evidence: 212, Needed: 1111.1,
		Sentence: "not proven yet: 4 of 4,529 requests to next failed, stable had 77 of 86,012; errors of ×3.1 or worse would have been seen"}
	away := attached
	away.away = true
	all := at(678 * time.Second)
	all.all = true
	failed := testingSample()
	failed.State, failed.Ended = domain.FailedState, after(70*time.Second)
	failed.Stages[1].State, failed.Stages[1].Ended = domain.FailedState, after(70*time.Second)
	failed.Stages[1].Summary = "unit: 2 of 353 failed: TestRank, TestSales"
	first := bakingSample()
	first.Traffic.Stable = nil
	for _, c := range []struct {
		name string
		view view
		d    domain.Delivery
	}{
		{"queued", at(0), sample()},
		{"testing", attachedAt(110 * time.Second), testingSample()},
		{"baking", attached, bakingSample()},
		{"judged", attached, live},
		{"baking_all", all, bakingSample()},
		{"away", away, bakingSample()},
		{"first", attached, first},
		{"done", at(9000 * time.Second), doneSample()},
		{"rolled_back", at(9000 * time.Second), rolledBackSample()},
		{"failed", at(9000 * time.Second), failed},
		{"asking", at(1400 * time.Second), askingSample()},
		{"urgent", attachedAt(678 * time.Second), urgentSample()},
		{"monitoring", attachedAt(3518 * time.Second), monitoringSample()},
		{"superseded", at(9000 * time.Second), supersededSample()},
		{"waiting", attached, waitingSample()},
		{"waiting_all", all, waitingSample()},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.view.delivery(c.d)
			golden(t, "delivery_"+c.name, got)
			narrow(t, got)
			// Colours only repeat what the words say.
			c.view.paint.on = true
			if coloured := c.view.delivery(c.d); ansi.Strip(coloured) != got || coloured == got {
				t.Errorf("with colours it says something else:\n%s", coloured)
			}
		})
	}
}

func attachedAt(d time.Duration) view {
	v := at(d)
	v.attached = true
	return v
}

// narrow fails for lines of more than 100 columns.
func narrow(t *testing.T, text string) {
	t.Helper()
	for l := range strings.Lines(text) {
		if n := ansi.StringWidth(strings.TrimSuffix(l, "\n")); n > width {
			t.Errorf("%d columns: %s", n, l)
		}
	}
}

func TestStatusIsDrawn(t *testing.T) {
	local(t)
	release := &domain.Release{ID: "rel_2", Commit: "4f2c81a9d0c", Digest: sampleDigest}
	full := domain.AppStatus{App: "shop-api",
		Environments: []domain.EnvironmentStatus{
			{Name: domain.Staging, Release: release, Delivery: 142, Since: after(0), Instances: domain.Instances{Healthy: 2, Wanted: 2}},
			{Name: domain.Production, Release: release, Delivery: 142, Since: after(31 * time.Minute), Instances: domain.Instances{Healthy: 2, Wanted: 2},
				Now:      &domain.Figures{ErrorRate: 0.0009, P50: 0.021, P95: 0.084, P99: 0.19, RPS: 301},
				Before:   &domain.Figures{ErrorRate: 0.0009, P95: 0.083},
				Rollback: domain.RollbackStatus{Possible: true, To: "rel_1", Commit: "9be1f02aaaa", Warm: true, Seconds: ptr(0.038)},
				Jobs: []domain.JobStatus{
					{Role: "nightly", Next: begun.Add(13*time.Hour - 10*time.Minute - 2*time.Second), Last: &domain.JobRun{Tick: begun.Add(-11 * time.Hour),
						State: domain.JobDone, Started: after(0), Ended: after(41 * time.Second)}},
					{Role: "tidy", Next: begun.Add(95 * time.Minute)},
					{Role: "report", Next: begun.Add(2 * time.Hour), Last: &domain.JobRun{Tick: begun, State: domain.JobFailed, Code: 3, Started: after(0),
						Ended: after(1200 * time.Millisecond), Message: "no such table"}},
					{Role: "sync", Next: begun.Add(2 * time.Hour), Last: &domain.JobRun{Tick: begun, State: domain.JobSkipped, Message: "the run before it was not over"}},
				},
				Routes: []string{"api.shop.example/"},
				Detail: []domain.InstanceStatus{{InstanceID: domain.InstanceID{Role: "web", Index: 0}, State: domain.Healthy, PID: 812, Addr: "127.0.0.1:41001"},
					{InstanceID: domain.InstanceID{Role: "web", Index: 1}, State: domain.Unhealthy, PID: 813, Restarts: 1, Message: "probe: 503"}}},
		},
		InFlight: []domain.InFlight{{Delivery: 143, Commit: "77ab310c0ffee", Stage: domain.Test, State: domain.Running, Since: begun.Add(92*time.Minute - 40*time.Second)}},
	}
	full.InFlight = append(full.InFlight, domain.InFlight{Delivery: 142, Commit: "4f2c81a9d0c", Stage: domain.Monitor, State: domain.Running,
		Since: begun.Add(61 * time.Minute), Judged: &domain.Judged{Evidence: 1.4, Needed: 1111.1}})
	stopped := full
	stopped.InFlight, stopped.Held = nil, true
	stopped.Hold = &domain.Hold{Reason: "errors of GET /v1/search", Owner: "guard", Delivery: 143, WayOut: "the next commit with another digest may pass"}
	stopped.Freeze = &domain.Freeze{Reason: "database move", By: "ana", Until: after(4 * time.Hour)}
	stopped.Waits = []domain.Wait{{Reason: "frozen", Owner: "ana", Deadline: begun.Add(4 * time.Hour)}}
	empty := domain.AppStatus{App: "mailer", Environments: []domain.EnvironmentStatus{{Name: domain.Staging}, {Name: domain.Production}}}
	golden(t, "status", at(92*time.Minute).status(full))
	golden(t, "status_stopped", at(92*time.Minute).status(stopped))
	cold := full
	cold.InFlight, cold.Environments = nil, slices.Clone(full.Environments)
	cold.Environments[1].Jobs, cold.Environments[1].Rollback.Warm, cold.Environments[1].Rollback.Seconds = nil, false, ptr(8.04)
	golden(t, "status_cold", at(92*time.Minute).status(cold))
	cold.Environments[1].Rollback = domain.RollbackStatus{Possible: true, Commit: "outside"}
	golden(t, "status_taken_over", at(92*time.Minute).status(cold))
	golden(t, "status_empty", at(0).status(empty))
	all := at(92 * time.Minute)
	all.all = true
	golden(t, "status_all", all.status(full))
}

func TestPlanIsDrawn(t *testing.T) {
	p := web.PlanView{App: "shop-api", Commit: "4f2c81a9d0c", Stable: "9be1f02aaaa", Delivery: 141, Earliest: 5760,
		Rollback: "rollback at any time to 9be1f02, which is proven on schema 24", Parity: "1 declared: env.LOG_LEVEL, 0 undeclared",
		Rows: []web.PlanRow{
			{Stage: domain.Build, Summary: "go build; 2 linters beside it; files bin/api, migrations"},
			{Stage: domain.Test, Summary: "unit 353, integration 61 (postgres 17, as in production), e2e 6"},
			{Stage: domain.DeployProduction, Summary: "gates: staging verified and healthy, parity; no approval, window or freeze", Steps: []web.PlanStep{
				{Verb: "migrate", What: "00024_add_rank_index", Detail: "expand, concurrently"},
				{Verb: "start", What: "next/0 next/1", Detail: "checks at 0 %"},
				{Verb: "shift", What: "next 5 %"}, {Verb: "bake", What: "next 5 %", Detail: "for 15m"},
				{Verb: "shift", What: "next 50 %"}, {Verb: "retire", What: "stable/worker/0"}, {Verb: "bake", What: "next 50 %", Detail: "for 15m"},
				{Verb: "start", What: "next/worker/0 next/worker/1 next/worker/2 next/worker/3 next/worker/4"}, {Verb: "shift", What: "next 95 %"},
			}},
			{Stage: domain.Monitor, Summary: "1h, then shift 100 %, retire stable/0 stable/1"},
		}}
	p.RollbackSeconds = "38 ms when it was last rehearsed in staging"
	p.Capacity = "memory 2 × 512 MiB and a fifth to spare are 1.2 GiB, 2.4 GiB free\ndisk 61.0 GiB free, 256.0 MiB of it kept free"
	p.LowTraffic = "at 0.1 requests/s 5 % for 15m sees about 4 requests: no flows are declared, so somebody is asked, and after 4h without an answer it goes back"
	golden(t, "plan", at(0).plan(p))
	p.Stable, p.Delivery, p.Earliest, p.Parity, p.Rollback = "", 0, 0, "", ""
	p.Refused, p.NotInForce, p.Loosened = "there is no room: 4 instances of 512 MiB and a fifth more are 2.4 GiB, and 1.9 GiB of 3.9 GiB are free", []string{"gates.approvals"}, []string{"guard.error_rate 5 % to 10 %"}
	golden(t, "plan_refused", at(0).plan(p))
}

func TestRollbackIsDrawn(t *testing.T) {
	r := domain.RollbackResult{App: "shop-api", Environment: domain.Production, From: "4f2c81a9d0c", To: "9be1f02aaaa", Warm: true,
		Moved: 0.029, LastRequest: 0.033, Open: 14, Sentence: "rolled back. shop-api is held until a newer digest passes"}
	golden(t, "rollback", at(0).rollback(r))
	r.Warm, r.Moved, r.Open, r.Failed, r.Sentence = false, 8.21, 0, 1, ""
	golden(t, "rollback_cold", at(0).rollback(r))
}

func TestExplanationIsDrawn(t *testing.T) {
	e := domain.Explanation{Delivery: 143, App: "shop-api", Sentence: "77ab310 rolled back at 5 % after 12 s, by the guard",
		Lines:    []string{"16:52:07  shift next 5 %", "16:52:15  next 4 of 204, stable 3 of 3,806", "          placebo quiet"},
		Replayed: true, Same: true, Detail: "replayed from 12 stored ticks: the same verdict"}
	golden(t, "explain", at(0).explanation(e))
	e.Judged = &domain.Judged{Decision: "roll_back", Metric: "errors of GET /v1/search", Evidence: 1904, Needed: 1111.1, Proof: 0.02, ProofNeeded: 20,
		Sentence: "errors of GET /v1/search: 7 of 302 requests to next failed since 16:52:07, stable had 5 of 5,698. If next were no worse, evidence this strong would turn up in fewer than 1 of 1,000 releases"}
	e.Metrics = []domain.JudgedMetric{
		{Metric: "errors of GET /v1/search", Harm: 22100, Weight: 0.08, Ratio: 26.4, Low: 9.1, High: 74,
			Next: domain.JudgedSide{Requests: 302, Errors: 7}, Stable: domain.JudgedSide{Requests: 5698, Errors: 5}},
		{Metric: "latency", Harm: 0.4, Weight: 0.25, Ratio: 1.02, Low: 0.9, High: 1.1, Next: domain.JudgedSide{Requests: 302, P95: 0.085}, Stable: domain.JudgedSide{Requests: 5698, P95: 0.083}},
	}
	for i := range 8 {
		e.Metrics = append(e.Metrics, domain.JudgedMetric{Metric: fmt.Sprintf("errors of plan=%d", i), Harm: 1, Weight: 0.01})
	}
	e.Lines = append(e.Lines, "16:52:19  rolled back  "+e.Judged.Sentence, strings.Repeat(" ", 23)+e.Judged.Sentence)
	judged := at(0).explanation(e)
	narrow(t, judged)
	golden(t, "explain_judged", judged)
}

func TestPlainLines(t *testing.T) {
	d := doneSample()
	var out strings.Builder
	event := func(offset time.Duration, kind string, stage domain.Stage, data map[string]any) {
		out.WriteString(plain(domain.Event{At: *after(offset), Type: kind, App: d.App, Delivery: d.Number, Stage: stage, Data: data}, d))
	}
	event(0, "delivery.started", "", nil)
	event(0, "stage.started", domain.Build, nil)
	event(41*time.Second, "stage.done", domain.Build, nil)
	event(173*time.Second, "stage.done", domain.Test, nil)
	event(376*time.Second, "rollout.shifted", domain.DeployProduction, map[string]any{"step": "shift next 5 %", "state": "done", "weight": 0.05})
	event(1276*time.Second, "rollout.shifted", domain.DeployProduction, map[string]any{"sentence": "50 % for 15m: no harm in 13,504 requests"})
	event(1280*time.Second, "check.failed", domain.VerifyProduction, map[string]any{"step": "check next", "message": "check search: 503 after 12 ms"})
	event(1280*time.Second, "rollout.verdict", domain.VerifyProduction, map[string]any{"step": "bake    next 100 % for 30s"})
	event(1281*time.Second, "check.passed", domain.VerifyProduction, map[string]any{"name": "search"})
	event(1282*time.Second, "gate.waiting", "", map[string]any{"reason": "frozen: database move", "owner": "ana"})
	event(1283*time.Second, "rollout.shifted", domain.DeployProduction, map[string]any{"weight": 0.95, "state": "failed", "message": "no acknowledgement"})
	event(1290*time.Second, "rollout.rolled_back", domain.DeployProduction, map[string]any{"sentence": "back on 9be1f02 in 31 ms"})
	event(1290*time.Second, "rollout.rehearsed", "", map[string]any{"to": "9be1f02aaaa", "took": 0.038})
	event(1290*time.Second, "gate.passed", "", map[string]any{"gate": "held", "detail": "not held"})
	out.WriteString(plain(domain.Event{At: *after(1290 * time.Second), Type: "gate.passed", Stage: domain.DeployProduction, By: "ben",
		Data: map[string]any{"gate": "evidence", "detail": "approved by ben: nobody is awake"}}, d))
	event(1291*time.Second, "log", domain.Build, map[string]any{"line": "never"})
	event(5788*time.Second, "delivery.done", "", nil)
	out.WriteString(plainEnd(d, begun))
	golden(t, "plain", out.String())
}

// Text from a commit must not act on the terminal of whoever looks at the delivery.
func TestTextFromElsewhereCannotActOnTheTerminal(t *testing.T) {
	d := rolledBackSample()
	const evil = "x\x1b[2J\x1b]0;title\a\r\n\u202eevil"
	d.Subject, d.Author, d.Stages[4].Summary, d.Outcome.Sentence = evil, evil, evil, evil
	d.Stages[4].Notes, d.Loosened, d.URL = []string{evil}, []string{evil}, evil
	d.Checklist = []domain.CheckItem{{Item: evil, Detail: evil}}
	v := at(0)
	v.all = true
	if got := v.delivery(d); strings.ContainsAny(got, "\x1b\a\r\u202e") {
		t.Errorf("control characters came through: %q", got)
	}
}
