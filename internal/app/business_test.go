package app

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/scrape"
)

// sideBySide plays stable with 95 % and next with 5 % of 2,000 requests a second, one instance of next for two of stable, and
// compares the file's metrics over a second.
func sideBySide(t *testing.T, rest string, next, stable func(requests float64) string) (map[string]delivery.Compared, *rollout.Rollout) {
	t.Helper()
	b := newBench(t)
	f := file(t, rest)
	j := job(f, domain.Production)
	began := time.Now()
	requests := func(perSecond float64) float64 { return perSecond * time.Since(began).Seconds() }
	exposes := func(of func(float64) string, perSecond float64) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, of(requests(perSecond))) }
	}
	role := j.Rollout.Next.Workloads[0].Role
	b.start(&j.Rollout.Next, role, 0, exposes(next, 100))
	for i := range 2 {
		b.start(j.Rollout.Stable, role, i, exposes(stable, 950))
	}
	for n := int64(1); n <= 40; n++ {
		time.Sleep(time.Until(began.Add(time.Duration(n) * 50 * time.Millisecond)))
		series := func(rel *domain.Release, count int64) measure.Series {
			return measure.Series{App: rel.App, Environment: rel.Environment, Role: role, Release: rel.ID, Requests: count}
		}
		b.book.Add(measure.Tick{Boot: "played", N: n, At: time.Now(), Series: []measure.Series{series(&j.Rollout.Next, 5), series(j.Rollout.Stable, 95)}})
	}
	c := &business{book: b.book, samples: b.checks.numbers.samples, scrapes: b.scraper.Status}
	list, enough := c.Compare(t.Context(), j.Rollout, f, began.Add(settled+500*time.Millisecond), began.Add(settled+1900*time.Millisecond))
	if !enough {
		t.Fatal("not enough requests")
	}
	out := map[string]delivery.Compared{}
	for _, k := range list {
		out[k.Name] = k
	}
	return out, j.Rollout
}

func TestMetricsAreComparedPerShareOfTheTraffic(t *testing.T) {
	const declared = `metrics:
  orders:      { query: 60 * rate(orders_total), good: up, unit: orders }
  all_orders:  { query: increase(orders_total), good: up }
  queue:       { query: queue_length, good: down }
  deepest:     { query: max(queue_length), good: down }
  conversion:  { query: rate(orders_total) / rate(visits_total), good: up }
  captured:    { query: 'rate(payments_total{state="captured"})', good: up }
  only_grows:  { query: orders_total, good: up }
  gone:        { query: rate(nobody_total), good: up }
`
	tells := func(orders float64, queue int, more string) func(float64) string {
		return func(requests float64) string {
			return fmt.Sprintf("orders_total %f\nvisits_total %f\nqueue_length %d\n", orders*requests, requests, queue) +
				strings.ReplaceAll(more, "REQUESTS", fmt.Sprint(requests))
		}
	}
	got, _ := sideBySide(t, declared, tells(0.5, 8, ""), tells(1, 4, "payments_total{state=\"captured\"} REQUESTS\n"))
	near := func(name string, next, stable, within float64) {
		t.Helper()
		k := got[name]
		if k.Why != "" || math.Abs(k.Next-next) > within || math.Abs(k.Stable-stable) > within {
			t.Errorf("%s: %+v, not %v and %v", name, k, next, stable)
		}
	}
	near("orders", 30, 60, 5) // orders a minute, for each request a second
	if k := got["orders"]; k.Per != "at equal traffic" || k.NextOf == 0 || math.Abs(k.Factor*k.Stable/60-2000) > 400 {
		t.Errorf("orders at equal traffic: %+v", k)
	}
	near("all_orders", 0.5, 1, 0.08)
	near("queue", 8, 4, 0.01) // of an instance
	near("deepest", 8, 4, 0.01)
	near("conversion", 0.5, 1, 0.01)
	near("captured", 0, 1, 0.08) // a counter that next does not expose counts nothing
	if got["captured"].Next != 0 {
		t.Errorf("next captured %v", got["captured"].Next)
	}
	if !strings.Contains(got["only_grows"].Why, "rate(orders_total) can be compared") {
		t.Errorf("a plain counter: %+v", got["only_grows"])
	}
	if k, known := got["gone"]; known {
		t.Errorf("what nobody exposes: %+v", k)
	}
}

func TestMetricsOfWorkersAreComparedPerInstance(t *testing.T) {
	rest := `roles:
  mailer:
    run: ./mailer
    probe: { heartbeat: 30s }
    metrics: /metrics
metrics:
  mails: { query: rate(mails_total), good: up }
`
	tells := func(perSecond float64) func(float64) string {
		return func(seconds float64) string { return fmt.Sprintf("mails_total %f\n", perSecond*seconds) }
	}
	got, _ := sideBySide(t, rest, tells(0.1), tells(0.02)) // 10 and 19 mails a second of an instance
	k := got["mails"]
	if k.Per != "an instance" || math.Abs(k.Next-10) > 1 || math.Abs(k.Stable-19) > 2 || k.NextOf != 0 {
		t.Errorf("mails: %+v", k)
	}
}

func TestFewRequestsAreComparedLater(t *testing.T) {
	b := newBench(t)
	j := job(file(t, ""), domain.Production)
	c := &business{book: b.book, samples: b.checks.numbers.samples}
	if list, enough := c.Compare(t.Context(), j.Rollout, nil, time.Now().Add(-time.Minute), time.Now()); enough || list != nil {
		t.Errorf("nobody came, and there is %v", list)
	}
	j.Rollout.Stable = nil
	if _, enough := c.Compare(t.Context(), j.Rollout, nil, time.Now().Add(-time.Minute), time.Now()); !enough {
		t.Error("what has no stable is asked again and again")
	}
}

func TestResourcesAreGenerousToTheSmallerShare(t *testing.T) {
	rel := func(id string) *domain.Release {
		return &domain.Release{ID: id, Workloads: []domain.Workload{{Role: "web", Kind: domain.Web}}}
	}
	point := func(value float64, second int64) scrape.Point {
		return scrape.Point{At: time.Unix(second, 0), Value: value}
	}
	if v, ok := averaged([]scrape.Point{point(2, 1), point(4, 2)}); !ok || v != 3 {
		t.Errorf("the mean is %v", v)
	}
	if _, ok := averaged(nil); ok {
		t.Error("nothing has a mean")
	}
	c := both{b: &business{samples: scrape.NewSamples(scrape.Limits{})}, next: rel("a"), stable: rel("b"), to: time.Now(), nextRequests: 5, stableRequests: 95}
	if list := c.resources(nil); len(list) != 0 {
		t.Errorf("of no samples: %v", list)
	}
	for _, k := range []struct{ n, m, next, stable, want float64 }{
		{1, 1, 5, 95, 1},          // 5 % of the requests on as many instances may cost as much: what it does without requests is not known
		{1, 2, 5, 95, 0.5},        // on half of the instances
		{2, 2, 95, 5, 19},         // nineteen times the requests may cost nineteen times as much
		{2, 2, 50, 50, 1},         // equal
		{2, 2, 0, 0, math.NaN()},  // no requests at all: the point is ignored
		{3, 1, 50, 50, 3},         // more instances
		{1, 1, 60, 50, 60. / 50},  // a little more traffic
		{1, 1, 20, 80, 1},         // less
		{2, 10, 20, 80, 20. / 80}, // fewer instances than requests
	} {
		got := shareOf(k.n, k.m, k.next, k.stable)
		if got != k.want && !(math.IsNaN(got) && math.IsNaN(k.want)) {
			t.Errorf("%+v: %v", k, got)
		}
	}
}
