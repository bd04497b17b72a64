package proxy

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/belay-cd/belay/internal/domain"
)

// drawn is a source of draws: the drawer, or the counter that must not pass for one.
type drawn interface{ draw() uint32 }

// counter deals its draws in order: exact, and known to every client with a rhythm.
type counter struct{ n uint32 }

func (c *counter) draw() uint32 {
	c.n++
	return (c.n % block) << 22
}

// rhythm reports the share of next among the draws of a client that sends every n-th request.
func rhythm(d drawn, every, weight int) float64 {
	next, mine := 0, 0
	for i := range 256 * block {
		u := d.draw()
		if i%every != 0 {
			continue
		}
		mine++
		if drawnNext(u, weight) {
			next++
		}
	}
	return float64(next) / float64(mine)
}

func TestDrawsAreExactPerBlock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var key [32]byte
		key[0] = rapid.Byte().Draw(t, "key")
		weight := rapid.IntRange(0, domain.WeightAll).Draw(t, "weight")
		d := newDrawer(key)
		for range 3 {
			next := 0
			for range block {
				if drawnNext(d.draw(), weight) {
					next++
				}
			}
			if want := float64(weight) / domain.WeightAll * block; math.Abs(float64(next)-want) >= 1 {
				t.Fatalf("%d of %d draws at weight %d, want %.1f", next, block, weight, want)
			}
		}
	})
}

func TestClientWithARhythmGetsTheSameShare(t *testing.T) {
	even := func(d drawn) bool {
		for _, weight := range []int{100, 2_500, 9_500} {
			p := float64(weight) / domain.WeightAll
			for _, every := range []int{2, 20, 512, 1024} {
				n := 256 * block / float64(every)
				if math.Abs(rhythm(d, every, weight)-p) > 5*math.Sqrt(p*(1-p)/n) {
					return false
				}
			}
		}
		return true
	}
	if !even(newDrawer([32]byte{1})) {
		t.Error("a client with a rhythm gets another share")
	}
	if even(&counter{}) {
		t.Error("a plain counter passes: the test cannot fail")
	}
}

func TestDrawsOfManyGoroutinesAreExact(t *testing.T) {
	d := newDrawer([32]byte{2})
	var mu sync.Mutex
	seen := map[uint32]int{}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range block {
				u := d.draw() >> 22
				mu.Lock()
				seen[u]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for u, n := range seen {
		if n != 8 {
			t.Fatalf("part %d was dealt %d times in 8 blocks", u, n)
		}
	}
}

// visit sends one request with the cookie and returns who answered and the cookie to keep.
func (r *rig) visit(cookie string) (answer, kept string) {
	r.t.Helper()
	var header []string
	if cookie != "" {
		header = []string{"Cookie", "other=1; " + cookie}
	}
	res := r.get("shop.example", "/", header...)
	for _, c := range res.Cookies() {
		if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
			r.t.Errorf("cookie %v", c)
		}
		cookie = c.Name + "=" + c.Value
	}
	return body(r.t, res), cookie
}

func TestVisitorsStayWhileTheWeightGrows(t *testing.T) {
	p := startProxy(t)
	stable, next := startBackend(t, "stable"), startBackend(t, "next")
	r := routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb", next.addr()), 2_000)
	p.put(r)
	const visitors = 60
	cookies, side := make([]string, visitors), make([]string, visitors)
	count := func() (n int) {
		for i := range cookies {
			was := side[i]
			before := cookies[i]
			side[i], cookies[i] = p.visit(cookies[i])
			if was == "next" && side[i] != "next" {
				t.Errorf("visitor %d went back to %s", i, side[i])
			}
			if before != "" && cookies[i] != before {
				t.Errorf("visitor %d got another cookie", i)
			}
			if side[i] == "next" {
				n++
			}
		}
		return n
	}
	low := count()
	if count() != low {
		t.Error("visitors changed sides at the same weight")
	}
	p.killWorker()
	if count() != low {
		t.Error("visitors changed sides in a restart")
	}
	r.Weight, r.Epoch = 6_000, 2
	p.put(r)
	high := count()
	if low < 3 || high <= low || high > 50 {
		t.Errorf("%d then %d of %d visitors on next", low, high, visitors)
	}
	for _, c := range cookies {
		if c == "" || !strings.HasPrefix(c, "belay_") {
			t.Fatalf("both sides get the cookie; one has %q", c)
		}
	}
	r.Rollout, r.Epoch = "rol_2", 3
	p.put(r)
	if _, c := p.visit(cookies[0]); c == cookies[0] {
		t.Error("a cookie of the last rollout is not replaced")
	}
}

func TestNoCookieWithoutASplit(t *testing.T) {
	p := startProxy(t)
	b := startBackend(t, "x")
	r := routeTo(backendOn("aaaaaaa", b.addr()), backendOn("bbbbbbb", b.addr()), 0)
	for _, change := range []func(){
		func() {},
		func() { r.Weight = domain.WeightAll },
		func() { r.Weight, r.Split = 5_000, "request" },
		func() { r.Split, r.Sticky = "visitor", &domain.Sticky{Header: "X-Customer"} },
	} {
		change()
		p.put(r)
		if c := p.get("shop.example", "/", "X-Customer", "17").Cookies(); len(c) > 0 {
			t.Errorf("weight %d, split %s: cookie %v", r.Weight, r.Split, c)
		}
		r.Epoch++
	}
}

func TestStickyIdStaysOnItsSide(t *testing.T) {
	p := startProxy(t)
	stable, next := startBackend(t, "stable"), startBackend(t, "next")
	r := routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb", next.addr()), 5_000)
	r.Sticky = &domain.Sticky{Cookie: "customer_id"}
	p.put(r)
	seen := map[string]int{}
	for i := range 30 {
		id := fmt.Sprintf("customer_id=%d", i)
		was := body(t, p.get("shop.example", "/", "Cookie", id))
		seen[was]++
		if got := body(t, p.get("shop.example", "/", "Cookie", id)); got != was {
			t.Errorf("%s went from %s to %s", id, was, got)
		}
	}
	if seen["stable"] < 5 || seen["next"] < 5 {
		t.Errorf("split of ids: %v", seen)
	}
}

func TestDrawsArePerRequestNotPerConnection(t *testing.T) {
	p := startProxy(t)
	stable, next := startBackend(t, "stable"), startBackend(t, "next")
	r := routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb", next.addr()), 2_500)
	r.Split = "request"
	p.put(r)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	for range block {
		req, _ := http.NewRequest(http.MethodGet, "http://"+p.addr+"/", nil)
		req.Host = "shop.example"
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body(t, res)
		_ = res.Body.Close()
	}
	if got := next.hits.Load(); got < 255 || got > 257 {
		t.Errorf("%d of %d requests of one connection on next, want 256", got, block)
	}
}
