package proxy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// splits are the ways in which users come to a side. Each names the header that keeps a user there, after a first answer
// where it is Belay's cookie.
var splits = map[string]struct {
	split  string
	sticky *domain.Sticky
	header func(i int, first *http.Response) []string
}{
	"request": {splitRequest, nil, func(int, *http.Response) []string { return nil }},
	"cookie": {"visitor", nil, func(_ int, first *http.Response) []string {
		if c := first.Cookies(); len(c) == 1 {
			return []string{"Cookie", c[0].Name + "=" + c[0].Value}
		}
		return nil
	}},
	"sticky header": {"visitor", &domain.Sticky{Header: "X-Customer"}, func(i int, _ *http.Response) []string {
		return []string{"X-Customer", fmt.Sprint(i)}
	}},
	"sticky cookie": {"visitor", &domain.Sticky{Cookie: "customer"}, func(i int, _ *http.Response) []string {
		return []string{"Cookie", fmt.Sprintf("customer=%d", i)}
	}},
}

// crowd asks once for each of so many users, twice for those with Belay's cookie, and returns who answered the last time.
func (r *rig) crowd(kind string, users int) (by []string) {
	r.t.Helper()
	for i := range users {
		res := r.get("shop.example", "/")
		header := splits[kind].header(i, res)
		if header != nil {
			res = r.get("shop.example", "/", header...)
		}
		if res.StatusCode != http.StatusOK {
			r.t.Fatalf("%s: status %d", kind, res.StatusCode)
		}
		by = append(by, body(r.t, res))
	}
	return by
}

func count(list []string, s string) (n int) {
	for _, l := range list {
		if l == s {
			n++
		}
	}
	return n
}

// One of two instances of either release is dead: every request is answered by the release that it was drawn for.
func TestRetryStaysWithinItsReleaseWhileItHasAHealthyInstance(t *testing.T) {
	for kind, s := range splits {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t)
			stable, next := startBackend(t, "stable"), startBackend(t, "next")
			r := routeTo(backendOn("aaaaaaa", deadAddr(t), stable.addr()), backendOn("bbbbbbb", next.addr(), deadAddr(t)), 5_000)
			r.Split, r.Sticky = s.split, s.sticky
			p.put(r)
			by := p.crowd(kind, 40)
			if n := count(by, "next"); n < 5 || n > 35 {
				t.Errorf("next answered %d of 40", n)
			}
			asked, drawnNext := stable.hits.Load()+next.hits.Load(), next.hits.Load()
			eventually(t, 5*time.Second, "nothing failed, and each release answered what it was drawn for", func() bool {
				got := p.totals()
				a, b := got["rel_aaaaaaa"], got["rel_bbbbbbb"]
				return a.Requests+b.Requests == asked && b.Requests == drawnNext && a.Errors+b.Errors+a.Unserved+b.Unserved == 0
			})
		})
	}
}

// Next has lost every instance: stable serves, next is blamed, and its users are still its own when it is back.
func TestUsersOfNextAreServedByStableAndStayNexts(t *testing.T) {
	for kind, s := range splits {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t)
			stable, next := startBackend(t, "stable"), startBackend(t, "next")
			r := routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb"), 5_000)
			r.Split, r.Sticky = s.split, s.sticky
			p.put(r) // without any instance
			const users = 24
			header := make([][]string, users)
			ask := func(i int) string {
				res := p.get("shop.example", "/", header[i]...)
				if res.StatusCode != http.StatusOK {
					t.Fatalf("user %d: status %d", i, res.StatusCode)
				}
				if header[i] == nil {
					header[i] = s.header(i, res)
				}
				return body(t, res)
			}
			if s.sticky != nil {
				for i := range header {
					header[i] = s.header(i, nil)
				}
			}
			for i := range users {
				if by := ask(i); by != "stable" {
					t.Fatalf("user %d was answered by %q", i, by)
				}
			}
			r.Next, r.Epoch = backendOn("bbbbbbb", deadAddr(t)), 2
			p.put(r) // with one that is dead
			for i := range users {
				if by := ask(i); by != "stable" {
					t.Fatalf("user %d was answered by %q", i, by)
				}
			}
			var blamed int64
			eventually(t, 5*time.Second, "next is blamed", func() bool {
				got := p.totals()
				a, b := got["rel_aaaaaaa"], got["rel_bbbbbbb"]
				blamed = b.Requests
				return a.Requests+b.Requests == 2*users && b.Unserved == b.Requests && b.Errors == b.Requests && b.Requests > 4 && a.Errors == 0
			})
			r.Next, r.Epoch = backendOn("bbbbbbb", next.addr()), 3
			p.put(r)
			for i := range users {
				ask(i)
			}
			if n := next.hits.Load(); kind != "request" && 2*n != blamed {
				t.Errorf("next was blamed for %d requests of two rounds, and answers %d of one", blamed, n)
			}
		})
	}
}

// Stable's own failures are stable's: next never serves what was not drawn for it.
func TestStableIsNeverServedByNext(t *testing.T) {
	t.Parallel()
	p := startProxy(t)
	next := startBackend(t, "next")
	r := routeTo(backendOn("aaaaaaa", deadAddr(t)), backendOn("bbbbbbb", next.addr()), 2_500)
	r.Split = splitRequest
	p.put(r)
	failed := int64(0)
	for range 40 {
		if res := p.get("shop.example", "/"); res.StatusCode != http.StatusOK {
			failed++
		}
	}
	eventually(t, 3*time.Second, "stable is blamed", func() bool {
		got := p.totals()
		a, b := got["rel_aaaaaaa"], got["rel_bbbbbbb"]
		return a.Requests == failed && a.Unserved == failed && b.Requests == next.hits.Load() && b.Errors == 0 && failed > 20 && failed < 40
	})
}

// A POST that next may have seen is not sent again, neither to next nor to stable; the failure is next's.
func TestWrittenPostOfNextIsNotServedByStable(t *testing.T) {
	t.Parallel()
	p := startProxy(t)
	stable := startBackend(t, "stable", mixed)
	addr, seen := breaker(t, 9)
	r := routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb", addr), domain.WeightAll)
	p.put(r)
	req, _ := http.NewRequest(http.MethodPost, "http://"+p.addr+"/length", strings.NewReader("once"))
	req.Host = "shop.example"
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusBadGateway || seen.Load() != 1 {
		t.Errorf("status %d, sent %d times", res.StatusCode, seen.Load())
	}
	if by := body(t, p.get("shop.example", "/")); by != "stable" {
		t.Errorf("a GET is answered by %q", by)
	}
	eventually(t, 3*time.Second, "both are next's failures", func() bool {
		got := p.totals()
		return got["rel_bbbbbbb"].Requests == 2 && got["rel_bbbbbbb"].Unserved == 2 && got["rel_aaaaaaa"].Requests == 0
	})
}
