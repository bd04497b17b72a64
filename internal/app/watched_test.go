package app

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/sample"
	"github.com/belay-cd/belay/internal/scrape"
)

// guarded is a rollout of an app with a web role, a worker and a scheduled role, and what the driver says of it.
type guarded struct {
	book      *sample.Book
	roll      *rollout.Rollout
	instances []domain.InstanceStatus
	m         *measurements
	n         int64
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	began := time.Now().Add(-10 * time.Minute)
	release := func(id string) domain.Release {
		return domain.Release{ID: id, App: "shop", Environment: domain.Production, Workloads: []domain.Workload{
			{Role: "web", Kind: domain.Web, Probe: domain.Probe{Every: time.Second}},
			{Role: "mailer", Kind: domain.Worker, Jobs: &domain.Jobs{Done: "done_total", Failed: "failed_total", Lag: "lag_seconds"}},
			{Role: "nightly", Kind: domain.Cron},
		}}
	}
	stable := release("rel_stable")
	g := &guarded{book: sample.NewBook(), roll: &rollout.Rollout{Stable: &stable, Next: release("rel_next"),
		Record: domain.RolloutRecord{App: "shop", Environment: domain.Production, Started: began, Shifted: &began}}}
	g.m = &measurements{book: g.book, scrape: scrape.NewSamples(scrape.Limits{}),
		list: func(context.Context, string, domain.Environment) ([]domain.InstanceStatus, error) {
			return g.instances, nil
		}}
	return g
}

// tick adds a second at a time, in which each release answered so many.
func (g *guarded) tick(at time.Time, requests int64) {
	g.n++
	t := measure.Tick{Boot: "one", N: g.n, At: at}
	for _, release := range []string{"rel_stable", "rel_next"} {
		latency := &measure.Histogram{}
		latency.AddN(20*time.Millisecond, requests)
		s := measure.Series{App: "shop", Environment: domain.Production, Release: release, Requests: requests, Latency: latency}
		part := s
		part.Endpoint = "GET /"
		t.Series = append(t.Series, s, part)
	}
	g.book.Add(t)
}

func (g *guarded) history(t *testing.T, s guard.Samples, now time.Time) guard.History {
	t.Helper()
	h, err := s.History(t.Context(), now, 3*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestScheduledInstancesAreNoPartOfHealth(t *testing.T) {
	g := newGuarded(t)
	started := time.Now().Add(-5 * time.Minute)
	for _, release := range []string{"rel_stable", "rel_next", "rel_other"} {
		for _, role := range []string{"web", "mailer", "nightly"} {
			g.instances = append(g.instances, domain.InstanceStatus{
				InstanceID: domain.InstanceID{App: "shop", Environment: domain.Production, Release: release, Role: role},
				State:      domain.Crashed, Restarts: 7, Started: started})
		}
	}
	s := g.m.watched(g.roll.View(), g.roll)
	g.history(t, s, time.Now())
	g.instances[0].Restarts++
	h := g.history(t, s, time.Now())
	if len(h.Next) != 2 || h.Next[0].Name != "web/0" || h.Next[1].Name != "mailer/0" {
		t.Fatalf("%+v", h.Next)
	}
	if web, mailer := h.Next[0], h.Next[1]; !web.Traffic || web.Jobs || mailer.Traffic || !mailer.Jobs || !web.Started.Equal(started) || web.Restarts != 7 {
		t.Errorf("%+v", h.Next)
	}
	if h.Stable[0].Restarts != 1 || h.Stable[1].Restarts != 0 {
		t.Errorf("of stable only what happens meanwhile counts: %+v", h.Stable)
	}
}

// When the wall clock jumps, what was noted before is dated as if it had always been what it is now.
func TestTheGuardsClockDoesNotJump(t *testing.T) {
	g := newGuarded(t)
	began := *g.roll.Record.Shifted
	g.instances = []domain.InstanceStatus{{InstanceID: domain.InstanceID{Release: "rel_next", Role: "web"}, State: domain.Healthy, Started: began.Add(30 * time.Second)}}
	s := g.m.watched(g.roll.View(), g.roll)
	for i := 1; i <= 100; i++ {
		g.tick(began.Add(time.Duration(i)*time.Second), 10)
	}
	if n, err := s.Observed(t.Context(), began); n != 100 || err != nil {
		t.Fatalf("%d observed, %v", n, err)
	}
	h := g.history(t, s, began.Add(100*time.Second))
	if len(h.Seconds) != 100 || !h.Since.Equal(began) || h.Seconds[0].Next.Parts[0].Name != "GET /" {
		t.Fatalf("%d seconds since %s", len(h.Seconds), h.Since)
	}
	for i := 101; i <= 110; i++ {
		g.tick(began.Add(time.Duration(i)*time.Second-time.Hour), 10)
	}
	now := began.Add(110*time.Second - time.Hour)
	h = g.history(t, s, now)
	if !h.Since.Equal(began.Add(-time.Hour)) || len(h.Seconds) != 110 || !h.Seconds[0].At.Equal(h.Since.Add(time.Second)) {
		t.Errorf("%d seconds since %s, the first at %s", len(h.Seconds), h.Since, h.Seconds[0].At)
	}
	h = g.history(t, s, now) // an instance is looked at before the jump is known
	if !h.Next[0].Started.Equal(h.Since.Add(30 * time.Second)) {
		t.Errorf("started %s, since %s", h.Next[0].Started, h.Since)
	}
	if n, _ := s.Observed(t.Context(), began); n != 110 {
		t.Errorf("%d observed", n)
	}
}

// A worker's counters become jobs done and failed, whatever begins again at 0.
func TestConsumersAreCounted(t *testing.T) {
	g := newGuarded(t)
	var done, failed atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "done_total %d\nfailed_total %d\nlag_seconds 12\n", done.Load(), failed.Load())
	}))
	defer server.Close()
	done.Store(1000)
	scraper := scrape.New(g.m.scrape, 10*time.Millisecond)
	scraper.Set([]scrape.Source{{Instance: domain.InstanceID{App: "shop", Environment: domain.Production, Release: "rel_next", Role: "mailer"}, URL: server.URL}})
	go scraper.Run(t.Context())
	next := func(at time.Time) bool { // a scrape that began after at is in
		for _, s := range g.m.scrape.Points("done_total", nil, scrape.Window{From: at}, "rel_next") {
			return s.Points[len(s.Points)-1].Value == float64(done.Load())
		}
		return false
	}
	await := func() {
		t.Helper()
		at := time.Now()
		for end := at.Add(5 * time.Second); !next(at.Add(time.Millisecond)); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nothing was scraped")
			}
		}
	}
	await()
	c := consumers{scrape: g.m.scrape, release: &g.roll.Next}
	now := time.Now()
	if j := c.look(now); j == nil || j.Done != 0 || j.Lag != 12 {
		t.Errorf("the first look: %+v", j)
	}
	if j := c.look(now.Add(time.Second)); j != nil {
		t.Errorf("too soon: %+v", j)
	}
	failed.Store(3)
	done.Store(1040)
	await()
	if j := c.look(now.Add(6 * time.Second)); j == nil || j.Done != 40 || j.Failed != 3 {
		t.Errorf("%+v", j)
	}
	failed.Store(0)
	done.Store(5) // it was started again
	await()
	if j := c.look(now.Add(12 * time.Second)); j == nil || j.Done != 5 || j.Failed != 0 {
		t.Errorf("%+v", j)
	}
	if j := c.total(); j.Done != 45 || j.Failed != 3 {
		t.Errorf("%+v", j)
	}
	if j := (&consumers{scrape: g.m.scrape, release: g.roll.Stable}).look(now); j != nil {
		t.Errorf("nobody told anything: %+v", j)
	}
}
