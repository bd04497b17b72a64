package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// booth is a proxy in this process, with real sockets on both sides and ticks that end when the test says so.
type booth struct {
	t     testing.TB
	ctl   *control
	front *httptest.Server
	route domain.Route
	now   time.Time
	last  int64
}

// newBooth stands before an instance for both releases that fails whatever is below /fail.
func newBooth(t testing.TB, weight int, change ...func(*domain.Route)) *booth {
	t.Helper()
	up := startBackend(t, "x", func(m *http.ServeMux) {
		m.HandleFunc("/fail/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	})
	b := &booth{t: t, ctl: controlIn(t, filepath.Join(t.TempDir(), "table.json")), now: time.Now()}
	b.front = httptest.NewUnstartedServer(b.ctl.plane.users(false))
	b.front.Listener = &strictListener{b.front.Listener}
	b.front.Start()
	t.Cleanup(b.front.Close)
	b.route = routeTo(backendOn("aaaaaaa", up.addr()), backendOn("bbbbbbb", up.addr()), weight)
	b.route.Hosts = []string{"127.0.0.1"}
	b.route.Segments = map[string]domain.Segment{"plan": {Header: "X-Plan"}}
	for _, f := range change {
		f(&b.route)
	}
	b.put()
	return b
}

func (b *booth) put() {
	b.t.Helper()
	if _, err := b.ctl.put(b.route); err != nil {
		b.t.Fatal(err)
	}
	b.route.Epoch++
}

func (b *booth) weigh(weight int) {
	b.t.Helper()
	b.route.Weight = weight
	b.put()
}

// visit sends a GET with the headers and returns the cookie that the answer sets, "" for none.
func (b *booth) visit(path string, header ...string) string {
	req, err := http.NewRequest(http.MethodGet, b.front.URL+path, nil)
	if err != nil {
		b.t.Error(err)
		return ""
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := b.front.Client().Do(req)
	if err != nil {
		b.t.Error(err)
		return ""
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	for _, c := range res.Cookies() {
		return c.Name + "=" + c.Value
	}
	return ""
}

// settled waits until nothing is open: what was asked is counted.
func (b *booth) settled() {
	b.t.Helper()
	eventually(b.t, 5*time.Second, "all requests are counted", func() bool {
		b.ctl.mu.Lock()
		defer b.ctl.mu.Unlock()
		for _, r := range b.ctl.releases {
			if r.open.Load() > 0 {
				return false
			}
		}
		return true
	})
}

// tick ends a tick and returns its series as a puller reads them.
func (b *booth) tick() []measure.Series {
	b.t.Helper()
	b.now = b.now.Add(tickEvery)
	b.ctl.tick(b.now)
	page, err := b.ctl.ledger.pull(b.t.Context(), "boot", b.last, 0)
	if err != nil || len(page.Ticks) != 1 {
		b.t.Fatalf("%d ticks, %v", len(page.Ticks), err)
	}
	var tick measure.Tick
	if err := json.Unmarshal(page.Ticks[0], &tick); err != nil {
		b.t.Fatal(err)
	}
	b.last = tick.N
	return tick.Series
}

// tallied is a sum of series in which histograms are counts.
type tallied struct {
	requests, errors, drawn int64
	failed, first           int64 // units
	placebo, placeboFailed  int64
}

func sumOf(list []measure.Series, match func(measure.Series) bool) (sum tallied) {
	for _, s := range list {
		if !match(s) {
			continue
		}
		sum.requests += s.Requests
		sum.errors += s.Errors
		sum.drawn += s.Drawn
		if s.Units != nil {
			sum.failed += s.Units.Errors
			sum.first += s.Units.Latency.Count()
		}
		if s.Placebo != nil {
			sum.placebo += s.Placebo.Drawn
			sum.placeboFailed += s.Placebo.Errors
		}
	}
	return sum
}

func named(name string) func(measure.Series) bool {
	return func(s measure.Series) bool { return s.Endpoint+s.Segment == name }
}

func of(side domain.Side) func(measure.Series) bool {
	return func(s measure.Series) bool { return s.Endpoint+s.Segment == "" && s.Side == side }
}

func TestHeavyVisitorIsOneUnitUnderEachLabel(t *testing.T) {
	t.Parallel()
	n := int64(fewer(1_000)) / 4 * 4
	for name, c := range map[string]struct {
		sticky *domain.Sticky
		header []string
	}{
		"Belay's cookie":  {},
		"an id in header": {&domain.Sticky{Header: "X-Customer"}, []string{"X-Customer", "17"}},
		"an id in cookie": {&domain.Sticky{Cookie: "customer"}, []string{"Cookie", "customer=17"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBooth(t, 5_000, func(r *domain.Route) { r.Sticky = c.sticky })
			header := append([]string{"X-Plan", "pro"}, c.header...)
			if kept := b.visit("/", header...); kept != "" {
				header = append(header, "Cookie", kept)
			}
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range n / 4 {
						b.visit("/fail/x", header...)
					}
				})
			}
			all.Wait()
			b.settled()
			list := b.tick()
			for label, want := range map[string]tallied{
				"":          {requests: n + 1, errors: n, drawn: 1, failed: 1, first: 1},
				"GET /":     {requests: 1, first: 1},
				"GET /fail": {requests: n, errors: n, failed: 1, first: 1},
				"plan=pro":  {requests: n + 1, errors: n, failed: 1, first: 1},
			} {
				got := sumOf(list, named(label))
				got.placebo, got.placeboFailed = 0, 0
				if got != want {
					t.Errorf("%q: %+v, want %+v", label, got, want)
				}
			}
		})
	}
}

// Whoever failed on stable and moves to next as the weight grows has had their first error.
func TestUnitsSurviveAChangeOfTheWeight(t *testing.T) {
	t.Parallel()
	b := newBooth(t, 500)
	const visitors = 60
	cookies := make([]string, visitors)
	for i := range cookies {
		cookies[i] = b.visit("/fail/x")
	}
	var all []measure.Series
	sides := map[domain.Side]int64{}
	for _, weight := range []int{500, 2_500, 9_000} {
		b.weigh(weight)
		for _, c := range cookies {
			b.visit("/fail/x", "Cookie", c)
		}
		b.settled()
		list := b.tick()
		all = append(all, list...)
		sides[domain.Next] += sumOf(list, of(domain.Next)).requests
	}
	for _, label := range []string{"", "GET /fail"} {
		got := sumOf(all, named(label))
		if got.requests != 4*visitors || got.failed != visitors || got.first != visitors {
			t.Errorf("%q: %+v", label, got)
		}
	}
	if got := sumOf(all, named("")).drawn; got != visitors {
		t.Errorf("%d visitors were drawn, want %d", got, visitors)
	}
	if sides[domain.Next] < visitors/2 {
		t.Errorf("nobody moved: %v", sides)
	}
	b.route.Rollout, b.route.Epoch = "rol_2", b.route.Epoch+1
	b.put()
	for _, c := range cookies {
		b.visit("/fail/x", "Cookie", c)
	}
	b.settled()
	if got := sumOf(b.tick(), named("")); got.failed != visitors || got.drawn != visitors {
		t.Errorf("in the next rollout: %+v", got)
	}
}

func TestClientWithoutCookiesIsAUnitEachTime(t *testing.T) {
	t.Parallel()
	const n = 200
	for _, split := range []string{"visitor", splitRequest} {
		b := newBooth(t, 2_500, func(r *domain.Route) { r.Split = split })
		for range n {
			b.visit("/fail/x", "X-Plan", "pro")
		}
		b.settled()
		list := b.tick()
		want := tallied{requests: n, errors: n, drawn: n}
		if split == "visitor" {
			want.failed, want.first = n, n
		}
		got := sumOf(list, named(""))
		got.placebo, got.placeboFailed = 0, 0
		if got != want {
			t.Errorf("split by %s: %+v, want %+v", split, got, want)
		}
		want.drawn = 0
		if got := sumOf(list, named("plan=pro")); got != want {
			t.Errorf("split by %s, plan=pro: %+v, want %+v", split, got, want)
		}
		for _, s := range list {
			if (s.Units != nil) != (split == "visitor") {
				t.Errorf("split by %s: units %+v", split, s.Units)
			}
		}
	}
}

func TestOwnIDsAreDrawnOnce(t *testing.T) {
	t.Parallel()
	b := newBooth(t, 3_000, func(r *domain.Route) { r.Sticky = &domain.Sticky{Header: "X-Customer"} })
	const n = 40
	var list []measure.Series
	for round := range 3 {
		for i := range n {
			b.visit(fmt.Sprintf("/fail/%d", round), "X-Customer", fmt.Sprint(i))
		}
		b.settled()
		list = append(list, b.tick()...)
	}
	got := sumOf(list, named(""))
	got.placebo, got.placeboFailed = 0, 0
	if want := (tallied{requests: 3 * n, errors: 3 * n, drawn: n, failed: n, first: n}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Without a split nobody is drawn: requests are all there is.
func TestNoDrawsWithoutASplit(t *testing.T) {
	t.Parallel()
	for _, weight := range []int{0, domain.WeightAll} {
		b := newBooth(t, weight)
		b.visit("/fail/x")
		b.visit("/")
		b.settled()
		for _, s := range b.tick() {
			if s.Drawn != 0 || s.Units != nil || s.Placebo != nil || s.Requests == 0 {
				t.Errorf("weight %d: %+v", weight, s)
			}
		}
	}
}

// A change of what a unit is begins new counts.
func TestUnitsFollowTheSplit(t *testing.T) {
	t.Parallel()
	b := newBooth(t, 5_000)
	stable := b.route.Stable
	for name, c := range map[string]struct {
		change func(r *domain.Route)
		units  bool
	}{
		"by request":     {func(r *domain.Route) { r.Split = splitRequest }, false},
		"by visitor":     {func(r *domain.Route) { r.Split = "visitor" }, true},
		"without stable": {func(r *domain.Route) { r.Stable = nil }, false},
	} {
		b.route.Split, b.route.Stable = "visitor", stable
		b.put()
		b.visit("/")
		b.settled()
		b.tick()
		c.change(&b.route)
		b.put()
		for range 8 {
			b.visit("/")
		}
		b.settled()
		for _, s := range b.tick() {
			if (s.Units != nil) != c.units {
				t.Errorf("%s: %+v", name, s)
			}
		}
	}
}

// What is drawn is told in the tick of the draw, also where the request goes on.
func TestDrawsAreToldBeforeTheRequestEnds(t *testing.T) {
	t.Parallel()
	begun, end := make(chan struct{}), make(chan struct{})
	up := startBackend(t, "slow", func(m *http.ServeMux) {
		m.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { begun <- struct{}{}; <-end })
	})
	for _, split := range []string{"visitor", splitRequest} {
		b := newBooth(t, 5_000, func(r *domain.Route) {
			r.Split, r.Stable, r.Next = split, backendOn("aaaaaaa", up.addr()), backendOn("bbbbbbb", up.addr())
		})
		done := make(chan struct{})
		go func() { b.visit("/slow"); close(done) }()
		<-begun
		list := b.tick()
		if got := sumOf(list, named("")); got.drawn != 1 || got.requests != 0 || len(list) != 1 {
			t.Errorf("split by %s: %+v", split, list)
		}
		b.weigh(9_000) // it was drawn under the weight before
		end <- struct{}{}
		<-done
		b.settled()
		for _, s := range b.tick() {
			if s.Weight != 5_000 || s.Requests != 1 || s.Drawn != 0 {
				t.Errorf("split by %s, at its end: %+v", split, s)
			}
		}
	}
}

// At each weight a block's draws for next and for the placebo are exact, and never the same ones.
func TestTickCountsExactDraws(t *testing.T) {
	t.Parallel()
	b := newBooth(t, 0, func(r *domain.Route) { r.Split = splitRequest })
	for _, weight := range []int{100, 500, 5_000, 9_500} {
		b.weigh(weight)
		rt := b.ctl.plane.table.Load().routes[b.route.Key()]
		rt.draws.next.Store(rt.draws.next.Load() / block * block) // a block begins
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range block / 4 {
					b.visit("/fail/x")
				}
			})
		}
		all.Wait()
		b.settled()
		list := b.tick()
		next, stable := sumOf(list, of(domain.Next)), sumOf(list, of(domain.Stable))
		share := float64(weight) / domain.WeightAll
		if d := float64(next.drawn) - share*block; next.drawn+stable.drawn != block || d <= -1 || d >= 1 {
			t.Errorf("weight %d: %d of %d drawn for next", weight, next.drawn, next.drawn+stable.drawn)
		}
		if d := float64(stable.placebo) - measure.PlaceboShare*(1-share)*block; d <= -1.0001 || d >= 1.0001 || next.placebo > 0 {
			t.Errorf("weight %d: %d placebos", weight, stable.placebo)
		}
		if stable.placeboFailed != stable.placebo || stable.errors != stable.drawn {
			t.Errorf("weight %d: %+v", weight, stable)
		}
	}
}

// While the weight changes, ticks end and clients with and without cookies come, every draw and every request is counted
// once, and no tick has a placebo that is not in its total.
func TestEveryDrawIsCountedOnceWhileTheWeightChanges(t *testing.T) {
	t.Parallel()
	b := newBooth(t, 500)
	const visitors, each, strangers = 8, 40, 200
	var all sync.WaitGroup
	for range visitors {
		all.Go(func() {
			kept := b.visit("/fail/x")
			for range each - 1 {
				b.visit("/fail/x", "Cookie", kept)
			}
		})
	}
	for range 2 {
		all.Go(func() {
			for range strangers / 2 {
				b.visit("/fail/x")
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	var list []measure.Series
	for round, running := 0, true; running; round++ {
		select {
		case <-done:
			running = false
		default:
		}
		b.weigh([]int{500, 5_000, 9_000, 3_000}[round%4])
		list = append(list, b.tick()...)
	}
	b.settled()
	list = append(list, b.tick()...)
	got := sumOf(list, named(""))
	got.placebo, got.placeboFailed = 0, 0
	const requests, units = visitors*each + strangers, visitors + strangers
	if want := (tallied{requests: requests, errors: requests, drawn: units, failed: units, first: units}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, s := range list {
		p := s.Placebo
		if p == nil {
			continue
		}
		rest := s.Units.Latency.Clone()
		rest.Sub(p.Latency)
		if s.Side != domain.Stable || p.Drawn > s.Drawn || p.Errors > s.Units.Errors || rest.Count()+p.Latency.Count() != s.Units.Latency.Count() {
			t.Errorf("placebo %+v of %+v", *p, s)
		}
	}
}
