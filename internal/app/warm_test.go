package app

import (
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
)

// The data plane is told when each instance is warm, and again when one starts anew; without a warm-up it is told nothing.
func TestRoutesSayWhenInstancesAreWarm(t *testing.T) {
	b := newBench(t)
	b.router.warmUp = time.Minute
	stable := released("stable", map[string]domain.RoleKind{"web": domain.Web})
	b.crew(stable)
	began := time.Now().Add(-time.Hour)
	b.mu.Lock()
	b.list[0].Started, b.list[1].Started = began, began
	b.mu.Unlock()
	b.split(rollout.Split{Stable: stable})
	warm := func(i int) time.Time { return b.route("web").Stable.Instances[i].Warm }
	if want := began.Add(time.Minute); !warm(0).Equal(want) || !warm(1).Equal(want) {
		t.Errorf("warm at %s and %s, want %s", warm(0), warm(1), want)
	}
	epoch := b.route("web").Epoch
	if err := b.router.refresh(t.Context(), "shop", domain.Production); err != nil || b.route("web").Epoch != epoch {
		t.Errorf("a route that did not change is put again: epoch %d after %d, %v", b.route("web").Epoch, epoch, err)
	}
	again := time.Now()
	b.mu.Lock()
	b.list[1].Started = again
	b.mu.Unlock()
	if err := b.router.refresh(t.Context(), "shop", domain.Production); err != nil {
		t.Fatal(err)
	}
	if !warm(0).Equal(began.Add(time.Minute)) || !warm(1).Equal(again.Add(time.Minute)) {
		t.Errorf("after a restart: warm at %s and %s", warm(0), warm(1))
	}
	b.router.warmUp = 0
	if err := b.router.refresh(t.Context(), "shop", domain.Production); err != nil || !warm(0).IsZero() || !warm(1).IsZero() {
		t.Errorf("without a warm-up: %s and %s, %v", warm(0), warm(1), err)
	}
}
