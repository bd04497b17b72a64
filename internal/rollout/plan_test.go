package rollout

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

var update = flag.Bool("update", false, "rewrite golden files")

var (
	webOnly    = []Role{{Name: "web", Kind: domain.Web, Instances: 2}}
	webAndWork = []Role{{Name: "web", Kind: domain.Web, Instances: 2}, {Name: "worker", Kind: domain.Worker, Instances: 2}}
)

func both(stable, next bool) map[Slot]bool {
	m := map[Slot]bool{}
	m[Slot{"web", 0}], m[Slot{"web", 1}] = stable, next
	return m
}

// TestPlans holds every plan against its golden file.
func TestPlans(t *testing.T) {
	hour := Settings{Hold: time.Hour}
	running := Fleet{Environment: domain.Production, Stable: webOnly, Next: webOnly}
	workers := Fleet{Environment: domain.Production, Stable: webAndWork, Next: webAndWork}
	plans := map[string]Plan{
		"first":              BlueGreen(Fleet{Environment: domain.Production, Next: webOnly}, hour),
		"bluegreen":          BlueGreen(running, hour),
		"bluegreen-workers":  BlueGreen(workers, hour),
		"bluegreen-staging":  BlueGreen(Fleet{Environment: domain.Staging, Stable: webOnly, Next: webOnly}, Settings{Hold: 30 * time.Second}),
		"return":             Return(running),
		"rollback-warm":      Rollback(running, Observed{Weight: domain.WeightAll, Stable: both(true, true), Next: both(true, true)}),
		"rollback-half":      Rollback(running, Observed{Weight: domain.WeightAll, Stable: both(true, false), Next: both(true, true)}),
		"rollback-gone":      Rollback(running, Observed{Weight: domain.WeightAll, Next: both(true, false)}),
		"rollback-at-0":      Rollback(running, Observed{Stable: both(true, true), Next: map[Slot]bool{{"web", 0}: true}}),
		"rollback-workers":   Rollback(workers, Observed{Weight: domain.WeightAll, Stable: both(true, true), Next: map[Slot]bool{{"web", 0}: true, {"web", 1}: true, {"worker", 0}: true, {"worker", 1}: false}}),
		"rollback-no-stable": Rollback(Fleet{Environment: domain.Production, Next: webOnly}, Observed{Next: both(true, true)}),
	}
	for name, plan := range plans {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for _, s := range plan {
				fmt.Fprintf(&b, "%-18s %s\n", s.Stage, s)
			}
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || string(want) != b.String() {
				t.Errorf("%v\ngot:\n%s\nwant:\n%s", err, b.String(), want)
			}
		})
	}
}

// TestRollbackLowersFirst: whatever is observed, the first step takes traffic from next, and none ever gives it any.
func TestRollbackLowersFirst(t *testing.T) {
	f := Fleet{Environment: domain.Production, Stable: webAndWork, Next: webAndWork}
	for weight := 0; weight <= domain.WeightAll; weight += 500 {
		for mask := range 16 {
			o := Observed{Weight: weight, Stable: map[Slot]bool{}, Next: map[Slot]bool{}}
			for i := range 2 {
				o.Stable[Slot{"web", i}] = mask&(1<<i) != 0
				o.Next[Slot{"web", i}] = mask&(4<<i) != 0
			}
			p, now := Rollback(f, o), weight
			if p[0].Verb != Shift {
				t.Fatalf("weight %d mask %b: first step is %s", weight, mask, p[0])
			}
			for _, s := range p {
				if s.Verb != Shift {
					continue
				}
				if s.Weight > now {
					t.Fatalf("weight %d mask %b: %s raises next from %s", weight, mask, s, Percent(now))
				}
				now = s.Weight
			}
			if now != 0 {
				t.Fatalf("weight %d mask %b: ends at %s", weight, mask, Percent(now))
			}
		}
	}
}
