package store_test

import (
	"fmt"
	"path/filepath"
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
	ok(t, s.SaveTicks(ctx, ticks[:6]))
	changed := ticks[2]
	changed.Series = nil
	ok(t, s.SaveTicks(ctx, []measure.Tick{changed}))
	ok(t, s.SaveTicks(ctx, ticks[3:])) // pulled again after a crash
	if n := must(s.LastTick(ctx, "boot1"))(t); n != 10 {
		t.Errorf("last: %d", n)
	}
	all := must(s.Ticks(ctx, "boot1", 3, 6))(t)
	if len(all) != 4 || len(all[0].Series) != 4 || len(all[2].Series) != 0 || !all[0].At.Equal(ticks[2].At) {
		t.Errorf("by number: %+v", all)
	}
	list := must(s.TicksOf(ctx, store.TickFilter{App: "shop", Environment: domain.Production, Role: "web", Rollout: "rol_1"}))(t)
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
	window := must(s.TicksOf(ctx, store.TickFilter{App: "shop", Environment: domain.Production, From: ticks[3].At, To: ticks[5].At}))(t)
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
	ok(t, s.SaveTicks(ctx, ticks))
	ok(t, s.MarkDecisive(ctx, "rol_2"))
	if pruned := must(s.PruneTicks(ctx, ticks[7].At))(t); pruned != 4 { // 1, 2, 3, 7
		t.Errorf("pruned %d, want 4", pruned)
	}
	left := ""
	for _, tick := range must(s.Ticks(ctx, "b", 1, 100))(t) {
		left += fmt.Sprintf("%d:%d ", tick.N, len(tick.Series))
	}
	if left != "4:1 5:0 6:1 8:2 9:2 " {
		t.Errorf("left: %s", left)
	}
}

func TestCheckpointIsAllOrNothing(t *testing.T) {
	ctx, s := t.Context(), fresh(t)
	d := create(t, s, "shop", "")
	c := store.Checkpoint{
		Ticks:      []measure.Tick{{Boot: "b", N: 1}},
		Deliveries: []domain.Delivery{d, {App: "shop", Number: 9}},
		Events:     []domain.Event{{Type: "rollout.baking"}},
	}
	wantCode(t, s.SaveCheckpoint(ctx, c), domain.NotFound)
	if n := must(s.LastTick(ctx, "b"))(t); n != 0 {
		t.Error("half a checkpoint")
	}
	wake, cancel := s.Subscribe()
	defer cancel()
	c.Deliveries = c.Deliveries[:1]
	ok(t, s.SaveCheckpoint(ctx, c))
	<-wake
	if seq := must(s.LastEvent(ctx))(t); seq != 1 {
		t.Errorf("event %d", seq)
	}
}

// BenchmarkCheckpoint is the one transaction per second: 10 open rollouts with 4 endpoints on both sides.
func BenchmarkCheckpoint(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "belay.db"))
	var c store.Checkpoint
	tick := measure.Tick{Boot: "b"}
	for i := range 10 {
		app := fmt.Sprintf("app%d", i)
		c.Deliveries = append(c.Deliveries, create(b, s, app, ""))
		record, err := s.OpenRollout(b.Context(), domain.RolloutRecord{App: app, Environment: domain.Production, State: domain.RolloutOpen})
		ok(b, err)
		c.Rollouts = append(c.Rollouts, record)
		c.Events = append(c.Events, domain.Event{App: app, Type: "rollout.baking"})
		for range 4 {
			tick.Series = append(tick.Series, series(app, "web", record.ID, domain.Stable, 95), series(app, "web", record.ID, domain.Next, 5))
		}
	}
	for b.Loop() {
		tick.N++
		tick.At = time.Now()
		c.Ticks = []measure.Tick{tick}
		ok(b, s.SaveCheckpoint(b.Context(), c))
	}
}
