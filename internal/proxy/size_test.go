package proxy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// Two hours of ticks of a busy app fit into what is kept: 100 requests a second, on ten endpoints and two plans, by visitors who
// come back and by clients who keep no cookie.
func TestTwoHoursOfABusyAppAreKept(t *testing.T) {
	c := controlIn(t, t.TempDir()+"/table.json")
	r := routeTo(backendOn("aaaaaaa", "127.0.0.1:1"), backendOn("bbbbbbb", "127.0.0.1:2"), 500)
	r.Segments = map[string]domain.Segment{"plan": {Header: "X-Plan"}}
	if _, err := c.put(r); err != nil {
		t.Fatal(err)
	}
	rt := c.plane.table.Load().routes[r.Key()]
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same in every run
	var kept []string
	const ticks = 60
	for n := range ticks {
		for i := range 100 {
			req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("http://shop.example/%d/x", random.IntN(10)), nil)
			req.Header.Set("X-Plan", []string{"free", "pro"}[random.IntN(2)])
			if i%2 == 0 && len(kept) > 0 {
				req.Header.Set("Cookie", rt.cookie+"="+kept[random.IntN(len(kept))])
			}
			var u unit
			var side domain.Side
			if side, u.ticket = rt.choose(req); u.cookie != "" && len(kept) < 500 {
				kept = append(kept, u.cookie)
			}
			m := rt.meterOf(side)
			m.begin(req, &u)
			m.record(&u, measure.Served, time.Duration(20e6*math.Exp(random.NormFloat64())))
		}
		c.tick(time.Now().Add(time.Duration(n) * tickEvery))
	}
	each := c.ledger.size / ticks
	t.Logf("%d bytes for a tick", each)
	if each*ticksKept > bytesKept {
		t.Errorf("a tick takes %d bytes: %d of them are kept, not %d", each, bytesKept/each, ticksKept)
	}
}
