//go:build torture

package proxy

import (
	"context"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// TestTortureCutovers takes about ten minutes; give go test a timeout that fits.
func TestTortureCutovers(t *testing.T) { cutovers(t, 1000) }

// A real worker that nobody watches takes back a next that fails, after half a minute and not before.
func TestTortureDeadMan(t *testing.T) {
	p := startProxy(t)
	stable := startBackend(t, "stable", mixed)
	r := routeTo(backendOn("aaaaaaa", stable.addr()), backendOn("bbbbbbb", deadAddr(t)), 5_000)
	r.Split = splitRequest
	p.put(r)
	if _, err := p.client.Ticks(context.Background(), "", 0, 0); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	load := startLoad(t, p.addr, "keep", "single")
	latched := func() domain.Route {
		s, err := p.client.Routes(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return s.Routes[0]
	}
	eventually(t, deadManAfter+5*time.Second, "the worker latches", func() bool { return latched().Latched })
	took := time.Since(start)
	t.Logf("latched after %s", took)
	if took < deadManAfter-tickEvery {
		t.Errorf("latched after %s", took)
	}
	p.killWorker()
	if got := latched(); got.LatchedBy != "proxy" || got.Weight != 0 || !got.Latched {
		t.Errorf("after a restart: %+v", got)
	}
	r.Epoch = 2
	if _, err := p.client.Put(context.Background(), r); domain.CodeOf(err) != domain.Conflict {
		t.Errorf("raise: %v", err)
	}
	load.end()
}
