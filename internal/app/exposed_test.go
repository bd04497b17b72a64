package app

import (
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/check"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/scrape"
)

func says(t *testing.T, name string, got check.Verdict, state check.State, again bool, parts ...string) {
	t.Helper()
	if got.State != state || got.Again != again {
		t.Errorf("%s: %s, again %t; want %s, %t: %s", name, got.State, got.Again, state, again, got.Message)
	}
	for _, p := range parts {
		if !strings.Contains(got.Message, p) {
			t.Errorf("%s: %q lacks %q", name, got.Message, p)
		}
	}
}

func TestJudgePools(t *testing.T) {
	pool := func(used, most, waiting, errors float64) scrape.Pool {
		return scrape.Pool{Name: "pool", Instance: domain.InstanceID{Role: "web", Index: 1}, Used: used, Max: most, Waiting: waiting, Errors: errors, Judged: true}
	}
	says(t, "room", judgePools([]scrape.Pool{pool(1, 10, 0, 0), pool(8, 10, 0, 0)}), check.Passed, false, "web/1 pool, has 80 % in use")
	says(t, "full", judgePools([]scrape.Pool{pool(1, 10, 0, 0), pool(9, 10, 0, 0)}), check.Failed, false, "9 of 10 connections in use (limit 90 %)")
	says(t, "waiting", judgePools([]scrape.Pool{pool(1, 10, 2, 0)}), check.Failed, false, "2 wait for one of 10 connections")
	says(t, "a moment", judgePools([]scrape.Pool{pool(1, 10, 0.05, 0)}), check.Passed, false)
	says(t, "errors", judgePools([]scrape.Pool{pool(1, 10, 0, 3)}), check.Failed, false, "3 connections could not be had")
	says(t, "no limit", judgePools([]scrape.Pool{pool(50, 0, 0, 0)}), check.Passed, false, "nobody waits")
	blind := pool(50, 0, 0, 0)
	blind.Judged = false
	says(t, "blind", judgePools([]scrape.Pool{blind}), check.NotChecked, false, "neither a limit")
}

func TestJudgeCaches(t *testing.T) {
	cache := func(hits, misses float64) []scrape.Cache {
		return []scrape.Cache{{Name: "c", Hits: hits, Misses: misses}}
	}
	says(t, "as before", judgeCaches(cache(850, 150), cache(900, 100), nil), check.Passed, false, "c: 85.0 % of 1000 (90.0 % before)")
	says(t, "lost", judgeCaches(cache(790, 210), cache(900, 100), nil), check.Failed, false, "79.0 % of 1000 (90.0 % before, 10 points may be lost)")
	says(t, "better", judgeCaches(cache(990, 10), cache(500, 500), nil), check.Passed, false)
	says(t, "few", judgeCaches(cache(1, 11), cache(900, 100), nil), check.NotChecked, false, "only 12 look-ups")
	says(t, "no baseline", judgeCaches(cache(1, 999), nil, nil), check.NotChecked, false, "0.1 % of 1000, no baseline")
	says(t, "few before", judgeCaches(cache(1, 999), cache(9, 1), nil), check.NotChecked, false, "no baseline")
	says(t, "stable lost it, too", judgeCaches(cache(500, 500), cache(900, 100), cache(510, 490)), check.NotChecked, false, "but stable has 51.0 % at the same time")
	says(t, "stable did not", judgeCaches(cache(500, 500), cache(900, 100), cache(890, 110)), check.Failed, false)
}

func TestJobsVerdict(t *testing.T) {
	const s = time.Second
	says(t, "works", jobsSeen{done: 14, doneKnown: true, failed: 2, lagKnown: true, lag: 99, all: 12 * s}.verdict(), check.Passed, false, "14 jobs done in 12s, 2 failed")
	says(t, "idle", jobsSeen{doneKnown: true, lagKnown: true}.verdict(), check.Passed, false, "nothing waits")
	says(t, "idle, only the lag is known", jobsSeen{lagKnown: true}.verdict(), check.Passed, false)
	stuck := jobsSeen{doneKnown: true, lagKnown: true, lagBefore: 3, lag: 31, lagSpan: 28 * s, all: 30 * s}
	says(t, "stuck", stuck.verdict(), check.Failed, true, "no job was done in 30s, and the lag grew from 3 s to 31 s")
	steady := jobsSeen{doneKnown: true, lagKnown: true, lagBefore: 9, lag: 9, lagSpan: 5 * s}
	says(t, "steady, briefly", steady.verdict(), check.Passed, true)
	steady.lagSpan = 16 * s
	says(t, "steady", steady.verdict(), check.Passed, false, "did not grow: 9 s and 9 s")
	says(t, "one look at the lag", jobsSeen{lagKnown: true, lag: 9, lagBefore: 9}.verdict(), check.Failed, true)
	says(t, "idle or stuck", jobsSeen{doneKnown: true, all: 30 * s}.verdict(), check.NotChecked, true, "an idle queue looks the same")
	says(t, "not exposed yet", jobsSeen{missing: "not exposed: done_total", watched: 3 * s}.verdict(), check.Failed, true)
	says(t, "not exposed", jobsSeen{missing: "not exposed: done_total", watched: 15 * s}.verdict(), check.Failed, false, "not exposed: done_total")
}

func TestLastRun(t *testing.T) {
	tick := time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)
	run := func(release string, state domain.JobState, code int) domain.JobStatus {
		return domain.JobStatus{Role: "nightly", Next: tick.Add(24 * time.Hour), Last: &domain.JobRun{Tick: tick, Release: release, State: state, Code: code, Message: "no disk"}}
	}
	says(t, "never", runVerdict(domain.JobStatus{Next: tick}, "rel_next"), check.NotChecked, false, "has not run yet", "2026-11-23T04:00:00Z")
	says(t, "done", runVerdict(run("rel_next", domain.JobDone, 0), "rel_next"), check.Passed, false, "is done")
	says(t, "failed", runVerdict(run("rel_next", domain.JobFailed, 3), "rel_next"), check.Failed, false, "failed with exit 3: no disk")
	says(t, "another's", runVerdict(run("rel_stable", domain.JobFailed, 3), "rel_next"), check.NotChecked, false, "this release has not run it yet", "failed with exit 3")
	says(t, "runs", runVerdict(run("rel_next", domain.JobRunning, 0), "rel_next"), check.NotChecked, false, "is running")
}

func TestHealthOf(t *testing.T) {
	one := func(index int, state domain.InstanceState, failed int) domain.InstanceStatus {
		return domain.InstanceStatus{InstanceID: domain.InstanceID{Release: "rel_next", Role: "worker", Index: index}, State: state, Failed: failed, Message: "heartbeat: the last was 40s ago"}
	}
	other := domain.InstanceStatus{InstanceID: domain.InstanceID{Release: "rel_stable", Role: "worker"}, State: domain.Crashed}
	judge := func(traffic bool, list ...domain.InstanceStatus) check.Verdict {
		return healthOf(append(list, other), "rel_next", "worker", traffic, ", their heartbeats at most 30s old")
	}
	says(t, "well", judge(true, one(0, domain.Healthy, 0), one(1, domain.Healthy, 0)), check.Passed, false, "2 of 2 healthy, their heartbeats at most 30s old")
	says(t, "one is not", judge(true, one(0, domain.Healthy, 0), one(1, domain.Unhealthy, 3)), check.Failed, true, "1 of 2 healthy: worker/1 is unhealthy, 3 probes in a row failed: heartbeat: the last was 40s ago")
	says(t, "one failed once", judge(true, one(0, domain.Healthy, 1)), check.Failed, true)
	says(t, "none at 0 %", judge(false), check.NotChecked, false, "it starts with the first traffic")
	says(t, "none", judge(true), check.Failed, true, "no instance runs")
}
