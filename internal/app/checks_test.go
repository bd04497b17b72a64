package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// roles are one of each kind.
const roles = `roles:
  web:
    run: ./app
    hosts: { staging: [staging.shop.example], production: [shop.example] }
    probe: { http: /healthz }
  api:
    run: ./api
    hosts: { staging: [staging.shop.example], production: [shop.example] }
    paths: [/api]
    probe: { http: /api/healthz }
  worker:
    run: ./worker
    metrics: /metrics
    probe: { tcp: true }
    jobs: { done: jobs_done_total, failed: jobs_failed_total, lag: jobs_lag_seconds }
  mailer:
    run: ./mailer
    probe: { heartbeat: 30s }
  nightly:
    run: ./nightly
    schedule: "0 4 * * * UTC"
`

func TestEveryKindOfCheck(t *testing.T) {
	b := newBench(t)
	j := job(file(t, roles+`verify:
  checks:
    items:    { http: /items, body: tea }
    orders:   { http: /api/orders }
    database: { tcp: 127.0.0.1:1 }
    buy:      { run: 'test "$BELAY_ENV" = staging' }
    load:     { metric: error_rate < 1% }
    away:     { http: /nowhere, only: production }
`), domain.Staging)
	var done atomic.Int64
	web := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/items" {
			_, _ = io.WriteString(w, "tea")
		}
	}
	b.start(j.Rollout.Stable, "web", 0, fine)
	b.start(j.Rollout.Stable, "api", 0, fine)
	b.start(&j.Rollout.Next, "web", 0, web)
	b.start(&j.Rollout.Next, "api", 0, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/api") {
			http.NotFound(w, r)
		}
	})
	got, err := b.checks.Run(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range got {
		names = append(names, r.Name+": "+r.State)
	}
	want := []string{"buy: passed", "database: failed", "health api: passed", "health web: passed", "health worker: not checked",
		"heartbeat mailer: not checked", "items: passed", "orders: passed"}
	if !slices.Equal(names, want) {
		t.Errorf("at 0 %%:\n got %q\nwant %q", names, want)
	}
	expect(t, got, "database", "failed", "expected 127.0.0.1:1 to accept a connection", "refused")

	b.start(&j.Rollout.Next, "worker", 0, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, fmt.Sprintf("jobs_done_total %d\njobs_lag_seconds 4\n", done.Add(1)))
	})
	b.start(&j.Rollout.Next, "mailer", 0, fine)
	b.checks.jobs = func(context.Context, string, domain.Environment) ([]domain.JobStatus, error) {
		return []domain.JobStatus{{Role: "nightly", Last: &domain.JobRun{Release: "rel_next", State: domain.JobFailed, Code: 7, Message: "no disk"}}}, nil
	}
	j.Traffic = true
	b.shift(j, domain.WeightAll)
	if got, err = b.checks.Run(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(got, func(a, b domain.CheckRecord) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("not in order: %+v", got)
	}
	expect(t, got, "jobs progress worker", "passed", "jobs done in")
	expect(t, got, "heartbeat mailer", "passed", "1 of 1 healthy, their heartbeats at most 30s old")
	expect(t, got, "health worker", "passed")
	expect(t, got, "last run nightly", "failed", "exit 7: no disk")
	expect(t, got, "schema level", "not checked", "not checked: no source")
	expect(t, got, "database connections", "not checked", "not checked: no source", "hikaricp_connections_*")
	expect(t, got, "cache hit rate", "not checked", "not checked: no source", "*_cache_hits_total")
	expect(t, got, "error rate", "not checked", "no traffic")
	expect(t, got, "load", "not checked", "error_rate: no traffic")
}

// page serves metrics that a test changes while it runs.
func page(of func(scrapes int64) string) http.HandlerFunc {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			_, _ = io.WriteString(w, of(n.Add(1)))
		}
	}
}

// exposed is a pool of ten connections and a cache.
func exposed(used, waiting, hits, misses int64) string {
	return fmt.Sprintf("hikaricp_connections_active %d\nhikaricp_connections_max 10\nhikaricp_connections_pending %d\n"+
		"page_cache_hits_total %d\npage_cache_misses_total %d\n", used, waiting, hits, misses)
}

func TestDatabaseAndCacheByWhatTheAppExposes(t *testing.T) {
	good := func(n int64) string {
		return exposed(3, 0, n*90, n*10)
	}
	bad := func(n int64) string {
		return exposed(10, 4, n*50, n*50)
	}
	for name, c := range map[string]struct {
		next        func(int64) string
		state       string
		pool, cache string
	}{
		"good": {good, "passed", "has 30 % in use", "90.0 % of"},
		"bad":  {bad, "failed", "4 wait for one of 10 connections", "50.0 % of"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			j := job(file(t, "verify:\n  checks:\n    pool: { metric: db_connections < 5 and db_connections >= stable.db_connections, timeout: 2s }\n"), domain.Production)
			b.start(j.Rollout.Stable, "web", 0, page(good))
			cache := func(release string) bool {
				list := b.checks.numbers.samples.Points("page_cache_hits_total", nil, scrapeAll(), release)
				return len(list) > 0 && len(list[0].Points) > 8
			}
			eventually(t, "a baseline", func() bool { return cache("rel_stable") })
			j.Rollout.Record.Started = time.Now()
			b.start(&j.Rollout.Next, "web", 0, page(c.next))
			b.shift(j, domain.WeightAll)
			eventually(t, "samples of next", func() bool { return cache("rel_next") })
			j.Traffic = true
			pools, caches := b.checks.numbers.poolsNow(j.Rollout), b.checks.numbers.cachesNow(j.Rollout)
			if string(pools.State) != c.state || !strings.Contains(pools.Message, c.pool) {
				t.Errorf("pools: %+v", pools)
			}
			if string(caches.State) != c.state || !strings.Contains(caches.Message, c.cache) {
				t.Errorf("caches: %+v", caches)
			}
			if n, ok := b.checks.numbers.lookup(j.Rollout, j.File)("stable.db_connections"); !ok || n != 3 {
				t.Errorf("stable.db_connections: %v, %t", n, ok)
			}
		})
	}
}

// The app's own database is full for both: it is not next's doing.
func TestPoolsThatStableShowsTooBlameNobody(t *testing.T) {
	b := newBench(t)
	j := job(file(t, ""), domain.Production)
	full := page(func(int64) string { return "orders_db_pool_in_use 10\norders_db_pool_max 10\n" })
	b.start(j.Rollout.Stable, "web", 0, full)
	b.start(&j.Rollout.Next, "web", 0, full)
	b.shift(j, domain.WeightAll)
	eventually(t, "samples of both", func() bool {
		return len(b.checks.numbers.samples.Names("rel_next")) > 0 && len(b.checks.numbers.samples.Names("rel_stable")) > 0
	})
	eventually(t, "samples since the shift", func() bool { return len(b.checks.numbers.samples.Pools(scrapeSince(j), "rel_stable")) > 0 })
	eventually(t, "the same of next", func() bool { return len(b.checks.numbers.samples.Pools(scrapeSince(j), "rel_next")) > 0 })
	says(t, "both", b.checks.numbers.poolsNow(j.Rollout), "not_checked", false, "10 of 10 connections in use", "stable shows the same now")
}

// What the file promises and the app never exposes is red in its time, with the reason; it does not hang.
func TestMetricThatIsNotExposedIsRed(t *testing.T) {
	b := newBench(t)
	j := job(file(t, `metrics:
  orders: { query: sum(increase(orders_total)), good: up }
  queue:  { query: queue_length }
verify:
  checks:
    orders:   { metric: orders > 0, timeout: 1s }
    queue:    { metric: queue < 10, timeout: 1s }
    compared: { metric: p95 < 2 * baseline.p95, timeout: 1s }
`), domain.Production)
	j.Rollout.Stable = nil
	b.start(&j.Rollout.Next, "web", 0, page(func(int64) string { return "queue_length 3\n" }))
	b.shift(j, domain.WeightAll)
	j.Traffic = true
	lookup, absent := b.checks.numbers.lookup(j.Rollout, j.File), b.checks.numbers.absent(j.Rollout, j.File)
	eventually(t, "a scrape", func() bool { _, ok := lookup("queue"); return ok })
	target := b.checks.target(t.Context(), j, "web")
	for _, k := range b.checks.declared(j) {
		r := b.checks.checker(j).One(t.Context(), k, target)
		want := map[string][2]string{"orders": {"failed", "orders: not exposed: orders_total"}, "queue": {"passed", "queue = 3"},
			"compared": {"not_checked", "no traffic"}}[k.Name]
		if string(r.State) != want[0] || !strings.Contains(r.Message, want[1]) || r.Took > 3*time.Second {
			t.Errorf("%s: %s after %s: %s", k.Name, r.State, r.Took, r.Message)
		}
	}
	if a := absent("baseline.p95"); a.Red || !a.Final || !strings.Contains(a.Why, "no stable release") {
		t.Errorf("baseline without stable: %+v", a)
	}
}

// Staging has no visitors: the rates are those of the load that Belay sends, and they are judged the same.
func TestRatesOfStagingAreThoseOfTheLoad(t *testing.T) {
	for name, c := range map[string]struct {
		fail           int64 // every so many
		slow           time.Duration
		baseline       float64 // far from what the app takes, on a busy machine too
		errors, answer string
	}{
		"good":          {0, 0, 10, "passed", "not checked"},
		"10 % of fails": {10, 0, 10, "failed", "not checked"},
		"slow":          {0, 60 * time.Millisecond, 0.005, "passed", "not checked"}, // that is judged in production
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			j := job(file(t, "verify:\n  checks:\n    items: { http: /items }\n"), domain.Staging)
			var n atomic.Int64
			b.start(j.Rollout.Stable, "web", 0, fine)
			b.start(&j.Rollout.Next, "web", 0, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/items" {
					return
				}
				time.Sleep(c.slow)
				if i := n.Add(1); c.fail > 0 && i%c.fail == 0 {
					http.Error(w, "no rows", http.StatusInternalServerError)
				}
			})
			b.shift(j, domain.WeightAll)
			stop := b.synthetic.Load(t.Context(), j, 100)
			defer stop()
			j.Traffic, j.Baseline = true, &domain.Figures{P95: c.baseline}
			b.checks.numbers.settle(t.Context(), j)
			got, open := b.checks.numbers.limits(j)
			expect(t, got, "error rate", c.errors)
			expect(t, got, "response time", c.answer)
			if open {
				t.Errorf("undecided: %+v", got)
			}
		})
	}
}

// Without any traffic nothing is waited for.
func TestSettleDoesNotWaitForNobody(t *testing.T) {
	b := newBench(t)
	j := job(file(t, ""), domain.Staging)
	b.start(&j.Rollout.Next, "web", 0, fine)
	b.shift(j, domain.WeightAll)
	start := time.Now()
	b.checks.numbers.settle(t.Context(), j)
	if took := time.Since(start); took > time.Second {
		t.Errorf("it waited %s", took)
	}
}

// Checks of many roles run at once: eight that take 300 ms each do not take 2.4 s.
func TestChecksRunAtOnce(t *testing.T) {
	b := newBench(t)
	rest := "verify:\n  checks:\n"
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		rest += "    " + name + ": { http: /slow }\n"
	}
	j := job(file(t, rest), domain.Staging)
	b.start(&j.Rollout.Next, "web", 0, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			time.Sleep(300 * time.Millisecond)
		}
	})
	start := time.Now()
	got, err := b.checks.Run(t.Context(), j)
	if took := time.Since(start); err != nil || len(got) != 9 || took > 1500*time.Millisecond {
		t.Errorf("%d checks in %s, %v", len(got), took, err)
	}
}
