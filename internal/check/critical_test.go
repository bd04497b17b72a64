package check_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/check"
)

// scripted answers with a list of status codes, then with 200.
func scripted(codes ...int) func(context.Context, check.Check, check.Target) check.Result {
	var n atomic.Int32
	return func(context.Context, check.Check, check.Target) check.Result {
		i := int(n.Add(1)) - 1
		status := 200
		if i < len(codes) {
			status = codes[i]
		}
		res := check.Result{State: check.Passed, Status: status}
		if status != 200 {
			res.State, res.Message = check.Failed, http.StatusText(status)
		}
		return res
	}
}

var payments = check.Check{Name: "payments", Critical: true, HTTP: &check.HTTP{Path: "/v1/payments"}}

func TestLookConfirmsA5xxAtOnce(t *testing.T) {
	stable := func() (check.Target, bool) { return check.Target{}, true }
	for name, c := range map[string]struct {
		codes                     []int
		stable                    func() (check.Target, bool)
		breach, shared, confirmed bool
	}{
		"fine":                  {nil, stable, false, false, false},
		"once":                  {[]int{500, 200}, stable, false, false, true},
		"twice":                 {[]int{500, 503}, stable, true, false, true},
		"twice, stable too":     {[]int{500, 503, 502}, stable, false, true, true},
		"twice, stable has 404": {[]int{500, 503, 404}, stable, true, false, true},
		"twice, no stable":      {[]int{500, 500}, func() (check.Target, bool) { return check.Target{}, false }, true, false, true},
		"twice, no control":     {[]int{500, 500}, nil, true, false, true},
		"4xx":                   {[]int{404, 404}, stable, false, false, false},
		"no connection":         {[]int{0, 0}, stable, false, false, false},
	} {
		p := &check.Prober{Do: scripted(c.codes...)}
		o := p.Look(t.Context(), payments, check.Target{}, c.stable)
		if o.Breach != c.breach || o.Shared != c.shared || (o.Confirm != nil) != c.confirmed {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestWatchRepeatsEvery10sAndASlowCheckDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := check.Check{Name: "slow", Critical: true, HTTP: &check.HTTP{Path: "/slow"}}
		normal := check.Check{Name: "normal", HTTP: &check.HTTP{Path: "/"}}
		p := &check.Prober{Do: func(ctx context.Context, c check.Check, _ check.Target) check.Result {
			if c.Name == "slow" {
				select {
				case <-ctx.Done():
				case <-time.After(25 * time.Second):
				}
			}
			return check.Result{Name: c.Name, State: check.Passed, Status: 200}
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 65*time.Second)
		defer cancel()
		var mu sync.Mutex
		seen := map[string]int{}
		p.Watch(ctx, []check.Check{payments, slow, normal}, func() check.Target { return check.Target{} }, nil, func(o check.Observation) {
			mu.Lock()
			defer mu.Unlock()
			seen[o.Name]++
		})
		if seen["payments"] != 7 || seen["slow"] != 2 || seen["normal"] != 0 {
			t.Errorf("looks: %v", seen)
		}
	})
}

// Over real sockets: an endpoint that begins to fail is caught at the next look, and stable is asked too.
func TestWatchFindsABreach(t *testing.T) {
	var broken atomic.Bool
	next := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			http.Error(w, "no database", http.StatusInternalServerError)
		}
	}))
	defer next.Close()
	stable := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer stable.Close()
	p := &check.Prober{Do: (&check.Runner{}).One, Every: 10 * time.Millisecond}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	looks := 0
	var last check.Observation
	p.Watch(ctx, []check.Check{payments}, func() check.Target { return check.Target{URL: next.URL} },
		func() (check.Target, bool) { return check.Target{URL: stable.URL}, true },
		func(o check.Observation) {
			looks++
			if last = o; o.Breach {
				cancel()
			}
			if looks == 3 {
				broken.Store(true)
			}
		})
	if !last.Breach || last.Control == nil || last.Control.Status != 200 || looks < 4 {
		t.Fatalf("after %d looks: %+v", looks, last)
	}
	want := "critical endpoint payments answered 500 and 500 in a row: GET /v1/payments: expected 200, got 500; body: no database; stable: 200"
	if last.Sentence != want {
		t.Errorf("sentence %q, want %q", last.Sentence, want)
	}
}
