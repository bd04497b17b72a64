package store_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/store"
)

func series(app, role, rollout string, side domain.Side, requests int64) measure.Series {
	return measure.Series{App: app, Environment: domain.Production, Role: role, Rollout: rollout, Side: side, Requests: requests}
}

func TestTicks(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	var ticks []measure.Tick
	for n := int64(1); n <= 10; n++ {
		tick := measure.Tick{Boot: "boot1", N: n, At: start.Add(time.Duration(n) * time.Second)}
		if n != 5 { // a second without any request
			tick.Series = []measure.Series{
				series("shop", "web", "rol_1", domain.Stable, n), series("shop", "web", "rol_1", domain.Next, 1),
				series("shop", "api", "", domain.Stable, 7), series("blog", "web", "", domain.Stable, 100),
			}
		}
		ticks = append(ticks, tick)
	}
	ok(t, save(s, ticks[:6]))
	changed := ticks[2]
	changed.Series = nil
	ok(t, save(s, []measure.Tick{changed}))
	ok(t, save(s, ticks[3:])) // pulled again after a crash
	if n := must(s.LastTick(ctx, "boot1"))(t); n != 10 {
		t.Errorf("last: %d", n)
	}
	list := must(all(s, store.TickFilter{App: "shop", Environment: domain.Production, Role: "web", Rollout: "rol_1"}))(t)
	var requests int64
	for _, tick := range list {
		for _, one := range tick.Series {
			if one.App != "shop" || one.Role != "web" {
				t.Fatalf("a stranger: %+v", one)
			}
			requests += one.Requests
		}
	}
	if len(list) != 10 || requests != 50+9 {
		t.Errorf("%d ticks, %d requests; want 10 and 59", len(list), requests)
	}
	window := must(all(s, store.TickFilter{App: "shop", Environment: domain.Production, From: ticks[3].At, To: ticks[5].At}))(t)
	if len(window) != 3 || len(window[0].Series) != 3 || len(window[1].Series) != 0 {
		t.Errorf("by time: %+v", window)
	}
}

func TestPruneKeepsDecisiveTicks(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	var ticks []measure.Tick
	for n := int64(1); n <= 9; n++ { // 1-3 rol_1, 4-6 rol_2 with an empty one, 7-9 none
		tick := measure.Tick{Boot: "b", N: n, At: start.Add(time.Duration(n) * time.Second)}
		if n != 5 {
			rollout := []string{"rol_1", "rol_2", ""}[(n-1)/3]
			tick.Series = []measure.Series{series("shop", "web", rollout, domain.Next, n), series("blog", "web", "", domain.Stable, 1)}
		}
		ticks = append(ticks, tick)
	}
	ok(t, save(s, ticks))
	ok(t, s.MarkDecisive(ctx, "rol_2"))
	long := measure.Tick{Boot: "long", N: 1, At: start, Series: []measure.Series{series("slow", "web", "rol_open", domain.Next, 1)}}
	ok(t, save(s, []measure.Tick{long}))
	open := must(s.OpenRollout(ctx, domain.RolloutRecord{ID: "rol_open", App: "slow", Environment: domain.Production, State: domain.RolloutOpen}))(t)
	if pruned := must(s.PruneTicks(ctx, ticks[7].At))(t); pruned != 4 { // 1, 2, 3, 7
		t.Errorf("pruned %d, want 4", pruned)
	}
	left := ""
	for _, app := range []string{"shop", "blog"} {
		for _, tick := range must(all(s, store.TickFilter{App: app, Environment: domain.Production}))(t) {
			if tick.Boot == "long" {
				continue
			}
			left += fmt.Sprintf("%d:%d ", tick.N, len(tick.Series))
		}
	}
	kept := func() int {
		return len(must(all(s, store.TickFilter{App: "slow", Environment: domain.Production, Rollout: open.ID}))(t))
	}
	if kept() != 1 {
		t.Error("an open rollout cannot be judged again from its first tick")
	}
	open.State = domain.RolloutDone
	ok(t, s.FinishRollout(ctx, open, domain.Slot{App: "slow", Environment: domain.Production}))
	if must(s.PruneTicks(ctx, ticks[7].At))(t); kept() != 0 {
		t.Error("nothing is kept for ever of a rollout that ended well")
	}
	if left != "4:1 5:0 6:1 8:1 9:1 4:0 5:0 6:0 8:1 9:1 " {
		t.Errorf("left: %s", left)
	}
}

// What a judge knows is stored with the ticks that he heard, all of it or nothing, while his rollout is open.
func TestCheckpointIsAllOrNothing(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	open := func(app string) domain.RolloutRecord {
		return must(s.OpenRollout(ctx, domain.RolloutRecord{App: app, Environment: domain.Production, State: domain.RolloutOpen}))(t)
	}
	shop, blog := open("shop"), open("blog")
	tick := func(n int64) measure.Tick {
		return measure.Tick{Boot: "b", N: n, Series: []measure.Series{series("shop", "web", shop.ID, domain.Next, n)}}
	}
	ok(t, s.SaveCheckpoint(ctx, store.Checkpoint{Ticks: []measure.Tick{tick(1)},
		Judges: map[string][]byte{shop.ID: {1}, blog.ID: {2}, "rol_over": {3}}}))
	ok(t, s.SaveCheckpoint(ctx, store.Checkpoint{Ticks: []measure.Tick{tick(2), tick(3)}}))
	known, after, err := s.JudgeOf(ctx, shop.ID)
	if err != nil || string(known) != "\x01" {
		t.Fatalf("%v %v", known, err)
	}
	if later := must(all(s, store.TickFilter{App: "shop", Environment: domain.Production, Rollout: shop.ID, After: after}))(t); len(later) != 2 || later[0].N != 2 {
		t.Errorf("what came later: %+v", later)
	}
	if known, _, err := s.JudgeOf(ctx, "rol_over"); known != nil || err != nil {
		t.Errorf("of a rollout that is over: %v %v", known, err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.SaveCheckpoint(canceled, store.Checkpoint{Ticks: []measure.Tick{tick(4)}, Judges: map[string][]byte{shop.ID: {4}}}); err == nil {
		t.Fatal("stored without anybody who waits")
	}
	if known, _, _ := s.JudgeOf(ctx, shop.ID); string(known) != "\x01" || must(s.LastTick(ctx, "b"))(t) != 3 {
		t.Errorf("half a checkpoint: %v", known)
	}
	shop.State = domain.RolloutDone
	ok(t, s.FinishRollout(ctx, shop, domain.Slot{App: "shop", Environment: domain.Production}))
	if known, _, err := s.JudgeOf(ctx, shop.ID); known != nil || err != nil {
		t.Errorf("after its end: %v %v", known, err)
	}
	if known, _, err := s.JudgeOf(ctx, blog.ID); string(known) != "\x02" || err != nil {
		t.Errorf("the other one: %v %v", known, err)
	}
}

// All that the proxy counts comes back as it was.
func TestSeriesRoundTrip(t *testing.T) {
	s := fresh(t)
	latency, first := &measure.Histogram{}, &measure.Histogram{}
	latency.AddN(20*time.Millisecond, 7)
	first.Add(time.Second)
	whole := series("shop", "web", "rol_1", domain.Stable, 12)
	whole.Release, whole.Weight, whole.Errors, whole.Unserved, whole.Latency = "rel_1", 500, 3, 1, latency
	whole.Drawn, whole.Cold = 9, true
	whole.Units = &measure.Units{Errors: 2, Latency: first}
	whole.Placebo = &measure.Units{Drawn: 1, Errors: 1, Latency: first}
	quiet := whole
	quiet.Endpoint, quiet.Units, quiet.Placebo, quiet.Latency = "GET /", &measure.Units{}, nil, nil // visitors who came before
	want := measure.Tick{Boot: "b", N: 1, At: time.UnixMilli(1_800_000_000_123).UTC(), Series: []measure.Series{whole, quiet}}
	ok(t, save(s, []measure.Tick{want}))
	got := must(all(s, store.TickFilter{App: "shop", Environment: domain.Production}))(t)
	if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// save stores ticks alone.
func save(s *store.Store, ticks []measure.Tick) error {
	return s.SaveCheckpoint(context.Background(), store.Checkpoint{Ticks: ticks})
}

// all reads ticks into a list.
func all(s *store.Store, f store.TickFilter) (list []measure.Tick, err error) {
	err = s.EachTick(context.Background(), f, func(t measure.Tick) error { list = append(list, t); return nil })
	return list, err
}

// BenchmarkCheckpoint is the one transaction of a second: so many open rollouts with 4 endpoints on both sides, and what
// their judges know every so many seconds, or never.
func BenchmarkCheckpoint(b *testing.B) {
	for _, rollouts := range []int{1, 50, 1000} {
		for _, every := range []int{0, 1, 10} {
			b.Run(fmt.Sprintf("%d_every_%d", rollouts, every), func(b *testing.B) { benchmarkCheckpoint(b, rollouts, every) })
		}
	}
}

func benchmarkCheckpoint(b *testing.B, rollouts, every int) {
	s := open(b, filepath.Join(b.TempDir(), "belay.db"))
	tick, ids := measure.Tick{Boot: "b"}, []string{}
	latency := &measure.Histogram{}
	for i := range 40 {
		latency.AddN(time.Duration(i+1)*time.Millisecond, 3)
	}
	for i := range rollouts {
		app := fmt.Sprintf("app%d", i)
		record, err := s.OpenRollout(b.Context(), domain.RolloutRecord{App: app, Environment: domain.Production, State: domain.RolloutOpen})
		ok(b, err)
		ids = append(ids, record.ID)
		for range 5 {
			for _, side := range []domain.Side{domain.Stable, domain.Next} {
				one := series(app, "web", record.ID, side, 120)
				one.Latency = latency
				tick.Series = append(tick.Series, one)
			}
		}
	}
	known := bytes.Repeat([]byte{7}, judgeSize)
	began := cpu()
	for b.Loop() {
		tick.N++
		tick.At = time.Now()
		c := store.Checkpoint{Ticks: []measure.Tick{tick}, Judges: map[string][]byte{}}
		for i := range rollouts {
			if every > 0 && (i+int(tick.N))%every == 0 {
				c.Judges[ids[i]] = known
			}
		}
		ok(b, s.SaveCheckpoint(b.Context(), c))
	}
	b.ReportMetric(float64(cpu()-began)/1e6/float64(b.N), "cpu-ms/op")
}

// cpu is what this process has used of the processors: on a busy machine the time that passes says little.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// judgeSize is about what a judge with 20 parts knows.
const judgeSize = 14 << 10
