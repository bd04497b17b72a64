package proxy

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// watched is an instance that notes requests which come after it was said to be drained.
func (r *rig) watched(name string, late *atomic.Int64) (b *backendServer, drained *atomic.Bool) {
	drained = &atomic.Bool{}
	b = startBackend(r.t, name, mixed)
	inner := b.Config.Handler
	b.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if drained.Load() {
			late.Add(1)
		}
		inner.ServeHTTP(w, req)
	})
	return b, drained
}

// visitors keep their cookie or send their own id, and note when the side that answers them changes.
type visitors struct {
	stop   context.CancelFunc
	all    sync.WaitGroup
	asked  atomic.Int64
	failed atomic.Int64
	moved  atomic.Int64
}

func (r *rig) startVisitors(count int) *visitors {
	ctx, cancel := context.WithCancel(context.Background())
	v := &visitors{stop: cancel}
	for i := range count {
		v.all.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
			defer client.CloseIdleConnections()
			side, cookie := "", ""
			for ctx.Err() == nil {
				req, _ := http.NewRequest(http.MethodGet, "http://"+r.addr+"/", nil)
				req.Host = "shop.example"
				if cookie != "" {
					req.Header.Set("Cookie", cookie)
				}
				res, err := client.Do(req)
				v.asked.Add(1)
				if err != nil || res.StatusCode != http.StatusOK {
					v.failed.Add(1)
					continue
				}
				by := res.Header.Get(releaseHeader)
				if side != "" && by != side {
					v.moved.Add(1)
				}
				side = by
				for _, c := range res.Cookies() {
					cookie = c.Name + "=" + c.Value
				}
				_ = res.Body.Close()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return v
}

func (v *visitors) end() {
	v.stop()
	v.all.Wait()
}

// The instances of both releases are replaced one after the other, each stopped as soon as it is drained.
func TestRollingReplacementLosesNoRequest(t *testing.T) {
	t.Parallel()
	p := startProxy(t)
	var late atomic.Int64
	type member struct {
		*backendServer
		drained *atomic.Bool
	}
	start := func(name string) member {
		b, drained := p.watched(name, &late)
		return member{b, drained}
	}
	sides := [2][]member{{start("s0"), start("s1"), start("s2")}, {start("n0"), start("n1")}}
	names := [2]string{"aaaaaaa", "bbbbbbb"}
	epoch := int64(0)
	put := func() {
		t.Helper()
		var b [2]*domain.Backend
		for i, list := range sides {
			var addrs []string
			for _, m := range list {
				addrs = append(addrs, m.addr())
			}
			b[i] = backendOn(names[i], addrs...)
		}
		epoch++
		r := routeTo(b[0], b[1], 5_000)
		r.Epoch = epoch
		p.put(r)
	}
	put()
	load := startLoad(t, p.addr, "keep", "keep", "single", "single", "slow", "post", "events")
	people := p.startVisitors(6)
	for round := range 14 {
		time.Sleep(20 * time.Millisecond)
		i := round % 2
		leaving := sides[i][0]
		sides[i] = sides[i][1:]
		put()
		got, err := p.client.Drain(context.Background(), DrainRequest{
			App: "shop", Environment: domain.Production, Release: "rel_" + names[i], Addr: leaving.addr(),
			Within: time.Second, Streams: 400 * time.Millisecond,
		})
		if err != nil || got.Open != 0 {
			t.Fatalf("round %d: %+v, %v", round, got, err)
		}
		leaving.drained.Store(true)
		leaving.CloseClientConnections()
		leaving.Close()
		sides[i] = append(sides[i], start(fmt.Sprint(names[i], round)))
		put()
	}
	people.end()
	got := load.end()
	t.Logf("14 replacements: %v and %d of visitors, slowest %s", got.Done, people.asked.Load(), got.Slowest)
	if len(got.Failures) > 0 || people.failed.Load() > 0 {
		t.Errorf("%d of %d and %d of %d requests failed: %q", len(got.Failures), got.total(), people.failed.Load(), people.asked.Load(),
			got.Failures[:min(10, len(got.Failures))])
	}
	if people.moved.Load() > 0 {
		t.Errorf("visitors changed sides %d times", people.moved.Load())
	}
	if late.Load() > 0 {
		t.Errorf("%d requests came to an instance after its drain", late.Load())
	}
	if people.asked.Load() < 100 || got.total() < 100 {
		t.Error("hardly any traffic")
	}
}

// A request that was drawn before its instance left goes to another instance of the same release, of before or of now.
func TestRequestIsNotTakenToAnInstanceThatLeft(t *testing.T) {
	c := controlIn(t, filepath.Join(t.TempDir(), "table.json"))
	r := routeTo(backendOn("aaaaaaa", "127.0.0.1:1", "127.0.0.1:2"), nil, 0)
	put := func(r domain.Route) *route {
		t.Helper()
		if _, err := c.put(r); err != nil {
			t.Fatal(err)
		}
		return c.plane.table.Load().routes[r.Key()]
	}
	before := put(r)
	drawn := func() *exchange {
		return &exchange{plane: c.plane, route: before, side: domain.Stable, home: before.stable, on: before.stable}
	}
	r.Stable, r.Epoch = backendOn("aaaaaaa", "127.0.0.1:2"), 2
	put(r)
	for range 20 {
		if i := drawn().take(nil); i.addr != "127.0.0.1:2" || i.open.Load() != 1 {
			t.Fatalf("taken to %s, %d open", i.addr, i.open.Load())
		} else {
			i.open.Add(-1)
		}
	}
	if i := drawn().take([]*instance{before.stable.instances[1]}); i.addr != "127.0.0.1:2" {
		t.Errorf("a repeated request is taken to %s, which left", i.addr)
	}
	r.Stable, r.Epoch = backendOn("aaaaaaa", "127.0.0.1:3"), 3
	put(r)
	if i := drawn().take(nil); i.addr != "127.0.0.1:3" {
		t.Errorf("with all instances replaced: taken to %s", i.addr)
	}
	r.Stable, r.Epoch = backendOn("ccccccc", "127.0.0.1:4"), 4
	put(r)
	if i := drawn().take(nil); i == nil || i.addr == "127.0.0.1:4" {
		t.Errorf("a request of a release that left is taken to %+v", i)
	}
}
