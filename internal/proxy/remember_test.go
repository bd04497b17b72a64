package proxy

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// series lists what the present worker has counted.
func (r *rig) series() []measure.Series {
	r.t.Helper()
	page, err := r.client.Ticks(r.t.Context(), "", 0, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	var list []measure.Series
	for _, tick := range page.Ticks {
		list = append(list, tick.Series...)
	}
	return list
}

// A worker that is killed leaves behind who has failed, and that an instance is cold.
func TestKilledWorkerIsRemembered(t *testing.T) {
	t.Parallel()
	p := startProxy(t)
	r := routeTo(backendOn("aaaaaaa", deadAddr(t)), backendOn("bbbbbbb", deadAddr(t)), 4_000)
	r.Stable.Instances[0].Warm = time.Now().Add(time.Hour)
	r.Next.Instances[0].Warm = time.Now().Add(-time.Hour)
	r.Sticky = &domain.Sticky{Header: "X-Customer"}
	p.put(r)
	const n = 40
	fail := func(what string, failed int64) {
		t.Helper()
		for i := range n {
			body(t, p.get("shop.example", "/", "X-Customer", fmt.Sprint(i)))
		}
		eventually(t, 3*time.Second, what, func() bool { return sumOf(p.series(), named("")).errors == n })
		list := p.series()
		for label, want := range map[string]int64{"": failed, "GET /": failed} {
			if got := sumOf(list, named(label)); got.failed != want {
				t.Errorf("%s: %q: %+v, want %d units", what, label, got, want)
			}
		}
		for _, s := range list {
			if cold := s.Side == domain.Stable && s.Endpoint == ""; s.Cold != cold {
				t.Errorf("%s: cold %t: %+v", what, !cold, s)
			}
		}
	}
	fail("before", n)
	folder := tableFile{p.config.Table}.seen()
	eventually(t, 5*time.Second, "it is written", func() bool {
		files, _ := os.ReadDir(folder)
		return len(files) == 1
	})
	time.Sleep(1_100 * time.Millisecond) // the last second's
	p.killWorker()
	fail("after", 0)
}

// All that was seen comes back, also from the larger layers, and of another rollout nothing does.
func TestSeenIsReadAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "seen")
	l := newLabel("GET /cart", "")
	s := newSeen()
	const n = 50_000 // the third layer begins
	for u := range uint32(n) {
		s.visits.add(hashUnit(u*2_654_435_761, &l))
	}
	s.errors.add(hashUnit(7, &l))
	for range 2 { // nothing has changed at the second time
		if err := s.write(path, true); err != nil {
			t.Fatal(err)
		}
	}
	again := newSeen()
	if err := again.read(path); err != nil {
		t.Fatal(err)
	}
	for u := range uint32(n) {
		if again.visits.add(hashUnit(u*2_654_435_761, &l)) {
			t.Fatalf("unit %d is new", u)
		}
	}
	if again.errors.add(hashUnit(7, &l)) || !again.errors.add(hashUnit(8, &l)) {
		t.Error("errors are mixed up")
	}
	for i := range s.visits.layers {
		a, b := s.visits.layers[i].Load(), again.visits.layers[i].Load()
		if (a == nil) != (b == nil) {
			t.Fatalf("layer %d: %t before, %t after", i, a != nil, b != nil)
		}
	}
	c := controlIn(t, filepath.Join(t.TempDir(), "table.json"))
	r := routeTo(backendOn("aaaaaaa", "127.0.0.1:1"), backendOn("bbbbbbb", "127.0.0.1:2"), 500)
	if _, err := c.put(r); err != nil {
		t.Fatal(err)
	}
	was := c.plane.table.Load().routes[r.Key()]
	was.seen.errors.add(1)
	if err := c.writeSeen(true); err != nil {
		t.Fatal(err)
	}
	restored := controlIn(t, c.file.path)
	if err := restored.restore(); err != nil || restored.plane.table.Load().routes[r.Key()].seen.errors.add(1) {
		t.Errorf("a new worker has not seen it: %v", err)
	}
	r.Rollout, r.Epoch = "rol_2", 2
	if _, err := restored.put(r); err != nil || !restored.plane.table.Load().routes[r.Key()].seen.errors.add(1) {
		t.Errorf("the next rollout does not begin anew: %v", err)
	}
	if err := restored.writeSeen(true); err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(c.file.seen()); err != nil || len(files) != 1 {
		t.Errorf("%d files, %v: what belongs to no rollout is to go", len(files), err)
	}
}

// A disk that takes nothing costs no tick and no request; what was not written is written later.
func TestSeenWaitsForTheDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seen", "file")
	if err := os.WriteFile(filepath.Join(dir, "seen"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSeen()
	s.errors.add(42)
	if err := s.write(path, true); err == nil {
		t.Fatal("it is written into a file that is no folder")
	}
	if err := os.Remove(filepath.Join(dir, "seen")); err != nil {
		t.Fatal(err)
	}
	again := newSeen()
	if err := s.write(path, true); err != nil || again.read(path) != nil || again.errors.add(42) {
		t.Errorf("not written later: %v", err)
	}
}

// An instance is cold until it is warm, and again when it starts anew; a change of the weight changes nothing of that.
func TestColdTicks(t *testing.T) {
	t.Parallel()
	b := newBooth(t, 5_000, func(r *domain.Route) { r.Split = splitRequest })
	cold := func(what string, stable, next bool) {
		t.Helper()
		for range 30 {
			b.visit("/")
		}
		b.settled()
		for _, s := range b.tick() {
			if want := s.Endpoint == "" && (s.Side == domain.Stable && stable || s.Side == domain.Next && next); s.Cold != want {
				t.Errorf("%s: cold is %t of %s %q", what, s.Cold, s.Side, s.Endpoint)
			}
		}
	}
	cold("warm", false, false)
	b.route.Next.Instances[0].Warm = b.now.Add(2500 * time.Millisecond)
	b.put()
	cold("next starts", false, true)
	b.weigh(2_500)
	cold("in the middle", false, true)
	cold("at the end of it", false, true) // it was cold for half of this tick
	cold("next is warm", false, false)
	b.route.Next.Instances[0].Warm = b.now.Add(1500 * time.Millisecond)
	b.route.Stable.Instances = append(b.route.Stable.Instances, b.route.Stable.Instances[0])
	b.route.Stable.Instances[1].Warm = b.now.Add(500 * time.Millisecond)
	b.put()
	cold("next starts again, and stable has another instance", true, true)
	cold("stable is warm", false, true)
	cold("both are", false, false)
}
