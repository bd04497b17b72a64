package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// The way back as a person takes it: a delivery is in Monitor, and somebody types the command.
func BenchmarkRollback(b *testing.B) {
	w := newWorld(b)
	p := w.newProject("bench", 2, "0s")
	p.commit()
	p.belay(0, "ship")
	p.describe(2, "10m")
	var typed, moved times
	for b.Loop() {
		for range *rollbacks {
			p.commit()
			p.belay(0, "ship", "--until", "verify-production")
			p.await("in Monitor", func(d domain.Delivery) bool { return d.Stages[6].State == domain.Running })
			took, answer := p.belay(0, "rollback", "--json")
			typed = append(typed, took)
			var result domain.RollbackResult
			if err := json.Unmarshal([]byte(answer), &result); err != nil {
				b.Fatalf("%v: %s", err, answer)
			}
			moved = append(moved, time.Duration(result.Moved*float64(time.Second)))
			p.await("rolled back", func(d domain.Delivery) bool { return d.State == domain.RolledBackState })
		}
	}
	typed.report(b, "cli-")
	moved.report(b, "moved-")
	figures.add("`belay rollback` in Monitor, from enter to its answer", typed.String(), "≤ 50 ms")
	figures.add("the same: p99", short(typed.quantile(0.99)), "≤ 50 ms")
	figures.add("of it, from the accepted command to the proxy's acknowledgement", moved.String(), "")
	figures.add("the same: p99", short(moved.quantile(0.99)), "≤ 10 ms")
}

// flips is how many times the data plane is asked for the way back.
const flips = 1000

// The flip alone: a latched route, from the call to the acknowledgement of a proxy that is a process of its own.
func BenchmarkFlip(b *testing.B) {
	f := newBelayFront(b, startApps(b))
	b.Cleanup(endDescendants)
	stable, next := startApps(b), startApps(b)
	ctx := context.Background()
	for b.Loop() {
		for _, load := range []bool{false, true} {
			what := "without traffic"
			var c *visitors
			if load {
				what = "at 500 requests a second"
				c = startClient(b, "-addr", f.addr(), "-conns", "50", "-pace", "100ms")
			}
			var down times
			for range flips {
				f.epoch += 2
				r := benchRoute(f.epoch, stable, next)
				r.Rollout, r.Weight = domain.NewID("rol_"), domain.WeightAll
				if _, err := f.client.Put(ctx, r); err != nil {
					b.Fatal(err)
				}
				r.Weight, r.Latched, r.Epoch = 0, true, r.Epoch+1
				began := time.Now()
				if _, err := f.client.Put(ctx, r); err != nil {
					b.Fatal(err)
				}
				down = append(down, time.Since(began))
			}
			if load {
				seen := c.stop(b)
				figures.add("requests that failed meanwhile", fmt.Sprintf("%d of %d", seen.Failed, seen.Failed+seen.Answered), "0")
			}
			figures.add("latched flip, call to acknowledgement, "+what, down.String(), "")
			figures.add("the same: p99", short(down.quantile(0.99)), "≤ 10 ms")
			down.report(b, map[bool]string{false: "idle-", true: "load-"}[load])
		}
	}
}

// benchRoute is a route to stable, and to next when there is one.
func benchRoute(epoch int, stable, next []string) domain.Route {
	r := domain.Route{
		App: "bench", Environment: domain.Production, Role: "web", Hosts: []string{"bench.localhost"}, Paths: []string{"/"}, TLS: "none",
		Split: "visitor", Epoch: int64(epoch), Drain: time.Second, Stable: backendOf("a", stable),
	}
	if next != nil {
		r.Next = backendOf("b", next)
	}
	return r
}

func backendOf(release string, addrs []string) *domain.Backend {
	back := &domain.Backend{Release: "rel_" + release, Commit: release}
	for i, addr := range addrs {
		back.Instances = append(back.Instances, domain.Endpoint{Index: i, Addr: addr})
	}
	return back
}
