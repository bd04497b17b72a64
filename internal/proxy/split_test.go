package proxy

import (
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/belay-cd/belay/internal/domain"
)

// ids are the kinds of ids by which apps tell their visitors apart.
var ids = map[string]func(int) string{
	"sequential": func(i int) string { return fmt.Sprint(i) },
	"padded":     func(i int) string { return fmt.Sprintf("%012d", i) },
	"hex":        func(i int) string { return fmt.Sprintf("%08x", i) },
	"uuid":       func(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", i) },
}

// growth is how the weight of a canary grows, with its holdback of 5 % and without.
var growth = []int{100, 500, 5_000, 9_500, domain.WeightAll}

// splitter is the routes of one rollout as its weight grows.
type splitter struct {
	t   *testing.T
	ctl *control
	r   domain.Route
}

func newSplitter(t *testing.T, split string, sticky *domain.Sticky) *splitter {
	t.Helper()
	s := &splitter{t: t, ctl: controlIn(t, filepath.Join(t.TempDir(), "table.json"))}
	s.r = routeTo(backendOn("aaaaaaa", "127.0.0.1:1"), backendOn("bbbbbbb", "127.0.0.1:2"), 0)
	s.r.Split, s.r.Sticky = split, sticky
	return s
}

// at is the route at a weight.
func (s *splitter) at(weight int) *route {
	s.t.Helper()
	s.r.Weight, s.r.Epoch = weight, s.r.Epoch+1
	if _, err := s.ctl.put(s.r); err != nil {
		s.t.Fatal(err)
	}
	return s.ctl.plane.table.Load().routes[s.r.Key()]
}

// withSalt is the route at a weight under a key that is the same in every run.
func (s *splitter) withSalt(weight int) *route {
	t := s.at(weight)
	t.salt = [32]byte{7}
	return t
}

func request(header, value string) *http.Request {
	r, _ := http.NewRequest(http.MethodGet, "http://shop.example/", nil)
	if header != "" {
		r.Header.Set(header, value)
	}
	return r
}

// Requests that are drawn, in either kind of split, come out exact in every block.
func TestEveryBlockOfRequestsIsExact(t *testing.T) {
	for _, split := range []string{"visitor", splitRequest} {
		s := newSplitter(t, split, nil)
		for _, weight := range growth {
			rt := s.at(weight)
			want := float64(weight) / domain.WeightAll * block
			for range 3 {
				next := 0
				for range block {
					if side, _ := rt.choose(request("", "")); side == domain.Next {
						next++
					}
				}
				if math.Abs(float64(next)-want) >= 1 {
					t.Errorf("split by %s at weight %d: %d of %d are next's, want %.1f", split, weight, next, block, want)
				}
			}
		}
	}
}

// Visitors with an id of the app's own are split within what 99.9 % of fair draws give, and nobody goes back as the weight
// grows.
func TestVisitorsWithAnIdAreSplitFairlyAndNeverGoBack(t *testing.T) {
	const visitors = 2_500
	worst := 0.0
	defer func() { t.Logf("the farthest of all splits is %.2f standard deviations off, 3.29 are allowed", worst) }()
	for kind, id := range ids {
		for _, by := range []*domain.Sticky{{Header: "X-Customer"}, {Cookie: "customer"}} {
			s := newSplitter(t, "visitor", by)
			ask := func(rt *route, i int) bool {
				r := request(by.Header, id(i))
				if by.Cookie != "" {
					r = request("Cookie", by.Cookie+"="+id(i))
				}
				side, k := rt.choose(r)
				if k.cookie != "" {
					t.Fatalf("%s id in %+v: gets Belay's cookie too", kind, *by)
				}
				return side == domain.Next
			}
			moved := make([]bool, visitors)
			for _, weight := range growth {
				rt := s.withSalt(weight)
				p, next := float64(weight)/domain.WeightAll, 0
				for i := range visitors {
					on := ask(rt, i)
					if moved[i] && !on {
						t.Fatalf("%s id %s went back at weight %d", kind, id(i), weight)
					}
					if moved[i] = on; on {
						next++
					}
				}
				const z = 3.2905 // two-sided 99.9 %
				bound := z * math.Sqrt(visitors*p*(1-p))
				if bound > 0 {
					worst = max(worst, z*math.Abs(float64(next)-visitors*p)/bound)
				}
				if math.Abs(float64(next)-visitors*p) > bound {
					t.Errorf("%s ids in %+v at weight %d: %d of %d are next's, want %.0f ± %.0f", kind, *by, weight, next, visitors, visitors*p, bound)
				}
			}
		}
	}
}

// Visitors with Belay's own cookie stay where they are as the weight grows, also those who come later.
func TestVisitorsWithACookieNeverGoBack(t *testing.T) {
	s := newSplitter(t, "visitor", nil)
	var cookies []string
	var moved []bool
	for _, weight := range growth[:len(growth)-1] {
		rt := s.at(weight)
		for range 1_000 {
			_, k := rt.choose(request("", ""))
			c := k.cookie
			if c == "" {
				t.Fatal("a visitor who is drawn gets no cookie")
			}
			cookies, moved = append(cookies, c), append(moved, false)
		}
		next := 0
		for i, c := range cookies {
			side, again := rt.choose(request("Cookie", rt.cookie+"="+c))
			if again.cookie != "" {
				t.Fatal("a visitor with a cookie gets another one")
			}
			if moved[i] && side != domain.Next {
				t.Fatalf("visitor %d went back at weight %d", i, weight)
			}
			if moved[i] = side == domain.Next; moved[i] {
				next++
			}
		}
		// Draws are exact in each block of 1,024; 1,000 of them miss at most the 24 others.
		if want := float64(weight) / domain.WeightAll * float64(len(cookies)); math.Abs(float64(next)-want) > 25*float64(len(cookies))/1000 {
			t.Errorf("at weight %d %d of %d are next's, want %.0f", weight, next, len(cookies), want)
		}
	}
	rt := s.at(domain.WeightAll)
	for _, c := range cookies {
		if side, _ := rt.choose(request("Cookie", rt.cookie+"="+c)); side != domain.Next {
			t.Fatal("somebody is left behind at 100 %")
		}
	}
}

// A client that keeps no cookies is drawn each time, and one with a rhythm gets no other share than everybody.
func TestClientWithoutCookiesCannotChooseASide(t *testing.T) {
	const every = 512
	for _, c := range []struct {
		split          string
		weight, blocks int
	}{{"visitor", 500, 64}, {splitRequest, 500, 64}, {splitRequest, 9_500, 320}} {
		rt := newSplitter(t, c.split, nil).at(c.weight)
		p, next, mine := float64(c.weight)/domain.WeightAll, 0, 0
		r := request("", "")
		for i := range c.blocks * block {
			side, _ := rt.choose(r)
			if i%every != 0 {
				continue
			}
			mine++
			if side == domain.Next {
				next++
			}
		}
		if math.Abs(float64(next)-p*float64(mine)) > 5*math.Sqrt(float64(mine)*p*(1-p)) {
			t.Errorf("split by %s at weight %d: %d of %d requests of a client with a rhythm are next's", c.split, c.weight, next, mine)
		}
	}
}
