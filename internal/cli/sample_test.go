package cli

import (
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// begun is when the sample delivery was created.
var begun = time.Date(2026, 11, 23, 14, 10, 2, 0, time.UTC)

func after(d time.Duration) *time.Time {
	t := begun.Add(d)
	return &t
}

func ptr[T any](v T) *T { return &v }

// sample is a delivery of which nothing has happened yet.
func sample() domain.Delivery {
	d := domain.Delivery{
		ID: "dly_01", Number: 142, App: "shop-api", Commit: "4f2c81a9d0c4e1f2a3b4c5d6e7f8091a2b3c4d5e", Subject: "search: rank by sales",
		Author: "ana", ShippedBy: "ana", State: domain.Running, Created: begun, URL: "https://belay.shop.example/shop-api/142",
		Loosened: []string{},
	}
	for _, s := range stages {
		d.Stages = append(d.Stages, domain.StageRecord{Name: s, State: domain.PendingStage})
	}
	return d
}

const sampleDigest = "sha256:8c1d00000000000000000000000000000000000000000000000000000000ae07"

// stageDone ends a stage of d after the time it took.
func stageDone(d *domain.Delivery, i int, began, lasted time.Duration, summary string) {
	d.Stages[i].State, d.Stages[i].Summary = domain.DoneState, summary
	d.Stages[i].Started, d.Stages[i].Ended = after(began), after(began+lasted)
}

// testingSample is the first moment: the tests run.
func testingSample() domain.Delivery {
	d := sample()
	d.Digest = sampleDigest
	stageDone(&d, 0, 0, 41*time.Second, "sha256:8c1d…e07  lint 2 of 2")
	d.Stages[1].State, d.Stages[1].Started = domain.Running, after(41*time.Second)
	d.Stages[1].Levels = []domain.LevelRecord{
		{Level: "unit", State: "done", Counted: true, Passed: 353, Took: 12.5, Slowest: "TestImport", SlowTook: 9.1},
		{Level: "integration", State: "running"},
		{Level: "e2e", State: "none", Reason: "the API's own pipeline tests the contract"},
	}
	return d
}

// bakingSample is the second: 5 % of the traffic is on next.
func bakingSample() domain.Delivery {
	d := testingSample()
	stageDone(&d, 1, 41*time.Second, 132*time.Second, "420 tests, 353 cached · slowest TestImport 9.1s")
	stageDone(&d, 2, 173*time.Second, 118*time.Second, "schema 24 · 0 of 5,904 requests failed")
	stageDone(&d, 3, 291*time.Second, 69*time.Second, "6 of 6 checks · rollback rehearsed: 38 ms")
	s := &d.Stages[4]
	s.State, s.Started = domain.Running, after(360*time.Second)
	s.Steps = []domain.StepRecord{
		{Verb: "start", Release: domain.Next, Instance: "web/0", State: domain.DoneState, Started: after(360 * time.Second), Ended: after(368 * time.Second)},
		{Verb: "check", Release: domain.Next, State: domain.DoneState},
		{Verb: "shift", Release: domain.Next, Weight: ptr(0.05), State: domain.DoneState, Ended: after(376 * time.Second)},
		{Verb: "bake", Release: domain.Next, Hold: 900, Until: after(1276 * time.Second), State: domain.Running, Started: after(376 * time.Second),
			Verdict: "no_harm", Message: "no harm found. It could show a tripling of the errors by now, a doubling needs about 20 min more",
			Evidence: 1.4, Needed: 1111.1, Proof: 2.2, ProofNeeded: 20},
		{Verb: "shift", Release: domain.Next, Weight: ptr(0.5), State: domain.PendingStage},
		{Verb: "bake", Release: domain.Next, Hold: 900, State: domain.PendingStage},
		{Verb: "shift", Release: domain.Next, Weight: ptr(0.95), State: domain.PendingStage},
	}
	d.Traffic = &domain.Traffic{
		Stable: &domain.SideTraffic{Commit: "9be1f02aaaa", Requests: 86012, Errors: 77, P50: 0.0214, P95: 0.083, P99: 0.19},
		Next:   &domain.SideTraffic{Commit: "4f2c81a9d0c", Requests: 4529, Errors: 4, P50: 0.021, P95: 0.082, P99: 0.188},
	}
	return d
}

// doneSample is the last: all seven stages are done.
func doneSample() domain.Delivery {
	d := bakingSample()
	d.Traffic.Next.Requests = 1650204
	stageDone(&d, 4, 360*time.Second, 1816*time.Second, "5 %, 50 %, 95 %")
	stageDone(&d, 5, 2176*time.Second, 12*time.Second, "p95 84 ms (limit 99) · errors 0.09 % (limit 1 %)")
	stageDone(&d, 6, 2188*time.Second, time.Hour, "errors 0.09 % (0.09 % before) · p95 84 ms (83 before)")
	d.State, d.Ended = domain.DoneState, after(5788*time.Second)
	d.Outcome = &domain.Outcome{Requests: 1650204,
		Sentence: "4f2c81a serves production. 0 of 1,650,204 requests failed because of this delivery"}
	return d
}

// rolledBackSample was taken back after 12 s.
func rolledBackSample() domain.Delivery {
	d := bakingSample()
	d.Number, d.Commit = 143, "77ab310c0ffee"
	d.State, d.Ended = domain.RolledBackState, after(388*time.Second)
	d.Stages[4].State, d.Stages[4].Ended = domain.RolledBackState, d.Ended
	d.Rehearsal = &domain.Rehearsal{At: *after(300 * time.Second), Moved: 0.038, Whole: 1.2, Start: 8.04, Requests: 512}
	d.Stages[4].Summary = "after 12s at 5 %, back on 9be1f02 in 31 ms"
	d.Stages[4].Steps[3].Evidence = 1904
	d.Stages[4].Steps[3].Message = ""
	d.Traffic = &domain.Traffic{
		Stable: &domain.SideTraffic{Commit: "9be1f02aaaa", Requests: 5698, Errors: 5},
		Next:   &domain.SideTraffic{Commit: "77ab310c0ffee", Requests: 302, Errors: 7, P50: 0.0042, P95: 0.082, P99: 1.5},
	}
	d.Outcome = &domain.Outcome{RollbackSeconds: ptr(0.031), FailedBecause: 6,
		Sentence: "rolled back after 12 s. 7 of 302 requests to 77ab310 failed; 9be1f02 had 5 of 5,698. About 6 requests failed because of it, all on GET /v1/search"}
	return d
}

// waitingSample waits for an approval.
func waitingSample() domain.Delivery {
	d := bakingSample()
	d.Traffic, d.State = nil, domain.WaitingState
	d.Stages[4] = domain.StageRecord{Name: domain.DeployProduction, State: domain.WaitingState, Started: after(360 * time.Second), Summary: "1 of 2 approvals"}
	d.Wait = &domain.Wait{Reason: "1 of 2 approvals", Owner: "channel approvers", Since: begun, Deadline: begun.Add(8 * time.Hour)}
	d.Gates = []domain.Gate{{Name: "window", State: "passed"}, {Name: "approvals", State: "waiting", Detail: "ben approved; ana is the author and does not count alone"}}
	d.Checklist = []domain.CheckItem{{Item: "rollback rehearsed", OK: true, Detail: "38 ms"}, {Item: "channel oncall", Detail: "none"}}
	d.NotInForce = []string{"notify: nobody is told yet"}
	d.Rehearsal = &domain.Rehearsal{At: *after(300 * time.Second), Moved: 0.038, Whole: 1.2, Start: 8.04, Requests: 512}
	return d
}

// askingSample waits for somebody's word in the middle of a rollout.
func askingSample() domain.Delivery {
	d := bakingSample()
	d.State, d.Stages[4].State = domain.WaitingState, domain.WaitingState
	d.Wait = &domain.Wait{Owner: "ana", Since: begun.Add(1276 * time.Second), Deadline: begun.Add(1276*time.Second + 4*time.Hour),
		Reason: "5 % had only 12 requests, and the file declares no flows to send: may it go on? belay approve 142, or belay reject 142"}
	d.Traffic.Stable.Requests, d.Traffic.Next.Requests, d.Traffic.Stable.Errors, d.Traffic.Next.Errors = 228, 12, 0, 0
	d.Stages[4].Steps[3].Message = ""
	return d
}

// urgentSample goes before all others, as the first delivery of an app that ran already.
func urgentSample() domain.Delivery {
	d := bakingSample()
	d.Urgent, d.From = "payments fail since 14:02", "http://127.0.0.1:3000"
	d.Stages[4].Steps[3].Hold, d.Stages[4].Steps[5].Hold = 120, 120
	return d
}

// monitoringSample is in the last of the seven stages.
func monitoringSample() domain.Delivery {
	d := doneSample()
	d.State, d.Ended, d.Outcome, d.Traffic = domain.Running, nil, nil, nil
	m := &d.Stages[6]
	m.State, m.Ended, m.Summary = domain.Running, nil, ""
	m.Steps = []domain.StepRecord{
		{Verb: "bake", Release: domain.Next, Hold: 3600, State: domain.Running, Started: after(2188 * time.Second), Until: after(5788 * time.Second)},
		{Verb: "shift", Release: domain.Next, Weight: ptr(1.0), State: domain.PendingStage},
	}
	return d
}

// supersededSample gave way to a newer delivery in its Monitor.
func supersededSample() domain.Delivery {
	d := monitoringSample()
	d.State, d.Ended = domain.SupersededState, after(3518*time.Second)
	d.Stages[6].State, d.Stages[6].Ended = domain.SupersededState, d.Ended
	d.Stages[6].Summary = "22m of 60m"
	d.Outcome = &domain.Outcome{Sentence: "superseded by #143 after 22m of 60m: 4f2c81a is stable, and was not watched to the end"}
	return d
}
