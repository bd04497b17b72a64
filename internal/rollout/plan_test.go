package rollout

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

var update = flag.Bool("update", false, "rewrite golden files")

// roles reads "web:2 worker:3 scheduler!": a role that ends in an exclamation mark is a singleton, one named web… is web,
// all others are workers.
func roles(text string) []Role {
	var list []Role
	for _, word := range strings.Fields(text) {
		name, count, _ := strings.Cut(word, ":")
		r := Role{Name: strings.TrimSuffix(name, "!"), Kind: domain.Worker, Instances: 2}
		switch {
		case strings.HasSuffix(name, "!"):
			r.Kind, r.Instances = domain.Singleton, 1
		case strings.HasPrefix(name, "web"):
			r.Kind = domain.Web
		}
		if count != "" {
			_, _ = fmt.Sscan(count, &r.Instances)
		}
		list = append(list, r)
	}
	return list
}

var (
	webOnly    = roles("web:2")
	webAndWork = roles("web:2 worker:2")
)

func both(stable, next bool) map[Slot]bool {
	return map[Slot]bool{{"web", 0}: stable, {"web", 1}: next}
}

func printed(p Plan) string {
	var b strings.Builder
	for _, s := range p {
		fmt.Fprintf(&b, "%-18s %s\n", s.Stage, s)
	}
	return b.String()
}

// golden compares text with a file of testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != text {
		t.Errorf("%v\ngot:\n%s\nwant:\n%s", err, text, want)
	}
}

// TestPlans holds every plan against its golden file, and the rollback from each of its steps against another.
func TestPlans(t *testing.T) {
	hour := Settings{Hold: time.Hour}
	held := Settings{Hold: time.Hour, Holdback: 1000}
	steps := Settings{Hold: time.Hour, Holdback: 500, Steps: []Weight{{Weight: 500, Hold: 15 * time.Minute}, {Weight: 2500, Hold: 15 * time.Minute},
		{Weight: 5000, Hold: 30 * time.Minute, Proved: true}}}
	one := Settings{Hold: time.Hour, Holdback: 500, Steps: []Weight{{Weight: 1000, Hold: 30 * time.Minute}}}
	whole := steps
	whole.Holdback = 0
	brief := Settings{Hold: 30 * time.Second, Holdback: 500, Soak: 30 * time.Second,
		Steps: []Weight{{Weight: 500, Hold: 30 * time.Second, Proved: true}}} // in staging it is held
	soak := Settings{Hold: time.Hour, Soak: 2 * time.Minute}
	all := []struct {
		name         string
		strategy     Strategy
		settings     Settings
		stable, next string
	}{
		{"first", StrategyBlueGreen, hour, "", "web:2"},
		{"first-canary", StrategyCanary, steps, "", "web:2 worker:2 clock!"},
		{"first-rolling", StrategyRolling, soak, "", "web:2 worker:2"},
		{"bluegreen", StrategyBlueGreen, hour, "web:2", "web:2"},
		{"bluegreen-holdback", StrategyBlueGreen, held, "web:2 worker:2", "web:2 worker:2"},
		{"bluegreen-workers", StrategyBlueGreen, hour, "web:2 worker:2", "web:2 worker:2"},
		{"bluegreen-worker-only", StrategyBlueGreen, hour, "worker:2", "worker:2"},
		{"bluegreen-singleton", StrategyBlueGreen, hour, "web:2 clock!", "web:2 clock!"},
		{"bluegreen-all", StrategyBlueGreen, hour, "web:2 worker:2 clock!", "web:2 worker:2 clock!"},
		{"bluegreen-staging", StrategyBlueGreen, Settings{Hold: 30 * time.Second}, "web:2", "web:2"},
		{"canary", StrategyCanary, steps, "web:2", "web:2"},
		{"canary-one-step", StrategyCanary, one, "web:2", "web:2"},
		{"canary-no-holdback", StrategyCanary, whole, "web:2 worker:4", "web:2 worker:4"},
		{"canary-staging", StrategyCanary, brief, "web:2 worker:2", "web:2 worker:2"},
		{"canary-workers", StrategyCanary, steps, "web:2 worker:4", "web:2 worker:4"},
		{"canary-one-worker", StrategyCanary, one, "web:2 worker:1", "web:2 worker:1"},
		{"canary-worker-only", StrategyCanary, steps, "worker:4", "worker:4"},
		{"canary-singleton", StrategyCanary, one, "web:2 clock!", "web:2 clock!"},
		{"canary-all", StrategyCanary, one, "web:2 worker:3 clock!", "web:2 worker:3 clock!"},
		{"canary-role-added", StrategyCanary, one, "web:2", "web:2 worker:2 clock!"},
		{"canary-role-removed", StrategyCanary, one, "web:2 worker:2 clock!", "web:2"},
		{"canary-web-added", StrategyCanary, one, "web:2", "web:2 webadmin:1"},
		{"canary-to-singleton", StrategyCanary, one, "web:2 clock:3", "web:2 clock!"},
		{"canary-from-singleton", StrategyCanary, one, "web:2 clock!", "web:2 clock:3"},
		{"canary-counts", StrategyCanary, one, "web:2 worker:2", "web:4 worker:3"},
		{"rolling", StrategyRolling, soak, "web:2", "web:2"},
		{"rolling-3", StrategyRolling, soak, "web:3", "web:3"},
		{"rolling-4", StrategyRolling, soak, "web:4", "web:4"},
		{"rolling-more", StrategyRolling, soak, "web:2", "web:4"},
		{"rolling-fewer", StrategyRolling, soak, "web:4", "web:2"},
		{"rolling-workers", StrategyRolling, soak, "web:2 worker:3", "web:2 worker:3"},
		{"rolling-worker-only", StrategyRolling, soak, "worker:2", "worker:2"},
		{"rolling-all", StrategyRolling, soak, "web:2 worker:2 clock!", "web:2 worker:2 clock!"},
		{"rolling-role-added", StrategyRolling, soak, "web:2", "web:2 worker:2 clock!"},
		{"rolling-role-removed", StrategyRolling, soak, "web:2 worker:2 clock!", "web:2"},
		{"rolling-to-singleton", StrategyRolling, soak, "web:2 clock:2", "web:2 clock!"},
		{"rolling-from-singleton", StrategyRolling, soak, "web:2 clock!", "web:2 clock:2"},
		{"rolling-staging", StrategyRolling, brief, "web:2", "web:2"},
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			f := Fleet{Environment: domain.Production, Stable: roles(c.stable), Next: roles(c.next)}
			if strings.HasSuffix(c.name, "staging") {
				f.Environment = domain.Staging
			}
			s := c.settings
			s.Strategy = c.strategy
			p := New(f, s)
			golden(t, c.name, printed(p))
			golden(t, c.name+".rollbacks", rollbacks(f, p))
			sound(t, f, p)
		})
	}
}

// rollbacks prints the rollback from each step of a plan. A step that fails is taken for half done: what it started runs
// and is not healthy, what it retired is gone, and what it shifted has moved.
func rollbacks(f Fleet, p Plan) string {
	o := Observed{Stable: map[Slot]bool{}, Next: map[Slot]bool{}}
	for _, r := range f.Stable {
		for i := range r.Instances {
			o.Stable[Slot{r.Name, i}] = true
		}
	}
	var b strings.Builder
	last := ""
	for i, s := range p {
		slot := Slot{s.Role, s.Index}
		switch s.Verb {
		case Start:
			o.Next[slot] = false
		case Retire:
			delete(o.Stable, slot)
		case Shift:
			o.Weight = s.Weight
		}
		back := "\n    no way back: next is stable\n    "
		if i <= p.Settled() {
			back = strings.ReplaceAll(strings.ReplaceAll("\n"+printed(Rollback(f, o)), "\n", "\n    "), "    deploy production  ", "    ")
		}
		if i > 0 && back != last {
			b.WriteString(strings.TrimRight(last, " ")[1:])
		}
		last = back
		fmt.Fprintf(&b, "%02d %s\n", i, s)
		if s.Verb == Start {
			o.Next[slot] = true
		}
	}
	b.WriteString(strings.TrimRight(last, " ")[1:])
	return b.String()
}

// sound: whatever a plan looks like, each instance of next is started once and each of stable retired once, nobody takes more
// than it can carry, what is a singleton in either release never runs in both, and the end is next alone.
func sound(t *testing.T, f Fleet, p Plan) {
	t.Helper()
	up := map[domain.Side]map[Slot]bool{domain.Stable: {}, domain.Next: {}}
	single := map[string]bool{}
	for _, list := range [][]Role{f.Stable, f.Next} {
		for _, r := range list {
			single[r.Name] = single[r.Name] || r.Kind == domain.Singleton
		}
	}
	for _, r := range f.Stable {
		for i := range r.Instances {
			up[domain.Stable][Slot{r.Name, i}] = true
		}
	}
	weight := 0
	for i, s := range p {
		slot := Slot{s.Role, s.Index}
		switch s.Verb {
		case Start:
			if s.Side != domain.Next || up[domain.Next][slot] {
				t.Errorf("step %d: %s", i, s)
			}
			up[domain.Next][slot] = true
		case Retire:
			if s.Side != domain.Stable || !up[domain.Stable][slot] {
				t.Errorf("step %d: %s", i, s)
			}
			delete(up[domain.Stable], slot)
		case Shift:
			if s.Weight <= weight {
				t.Errorf("step %d: %s is no raise from %s", i, s, Percent(weight))
			}
			weight = s.Weight
		}
		if short := cannotCarry(f.Next, up[domain.Next]); domain.WeightAll-short < weight {
			t.Errorf("step %d %s: next has %s and cannot carry it", i, s, Percent(weight))
		}
		if short := cannotCarry(f.Stable, up[domain.Stable]); len(f.Stable) > 0 && domain.WeightAll-short < domain.WeightAll-weight-1 {
			t.Errorf("step %d %s: stable has %s and cannot carry it", i, s, Percent(domain.WeightAll-weight))
		}
		for side, slots := range up {
			for slot := range slots {
				if other := up[otherSide(side)]; single[slot.Role] && slices.ContainsFunc(slices.Collect(maps.Keys(other)), func(o Slot) bool { return o.Role == slot.Role }) {
					t.Errorf("step %d %s: %s runs in both releases", i, s, slot.Role)
				}
			}
		}
	}
	if len(up[domain.Stable]) != 0 || weight != domain.WeightAll {
		t.Errorf("at the end stable has %v, next has %s", up[domain.Stable], Percent(weight))
	}
	for _, r := range f.Next {
		for i := range r.Instances {
			if !up[domain.Next][Slot{r.Name, i}] {
				t.Errorf("at the end %s/%d of next does not run", r.Name, i)
			}
		}
	}
}

func otherSide(s domain.Side) domain.Side {
	if s == domain.Stable {
		return domain.Next
	}
	return domain.Stable
}

// TestWaysBack holds the plan of a way back after done, and of rollbacks in which instances are missing.
func TestWaysBack(t *testing.T) {
	running := Fleet{Environment: domain.Production, Stable: webOnly, Next: webOnly}
	workers := Fleet{Environment: domain.Production, Stable: webAndWork, Next: webAndWork}
	every := Fleet{Environment: domain.Production, Stable: roles("web:2 worker:2 clock!"), Next: roles("web:2 worker:2 clock!")}
	four := Fleet{Environment: domain.Production, Stable: roles("web:4"), Next: roles("web:4")}
	for name, plan := range map[string]Plan{
		"return":             Return(running),
		"return-all":         Return(every),
		"rollback-warm":      Rollback(running, Observed{Weight: domain.WeightAll, Stable: both(true, true), Next: both(true, true)}),
		"rollback-half":      Rollback(running, Observed{Weight: domain.WeightAll, Stable: both(true, false), Next: both(true, true)}),
		"rollback-gone":      Rollback(running, Observed{Weight: domain.WeightAll, Next: both(true, false)}),
		"rollback-sick":      Rollback(running, Observed{Weight: 500, Stable: both(false, false), Next: both(true, true)}),
		"rollback-at-0":      Rollback(running, Observed{Stable: both(true, true), Next: map[Slot]bool{{"web", 0}: true}}),
		"rollback-workers":   Rollback(workers, Observed{Weight: domain.WeightAll, Stable: both(true, true), Next: map[Slot]bool{{"web", 0}: true, {"web", 1}: true, {"worker", 0}: true, {"worker", 1}: false}}),
		"rollback-no-stable": Rollback(Fleet{Environment: domain.Production, Next: webOnly}, Observed{Next: both(true, true)}),
		"rollback-rolling-4": Rollback(four, Observed{Weight: 7500, Stable: map[Slot]bool{{"web", 3}: true}, Next: map[Slot]bool{{"web", 0}: true, {"web", 1}: true, {"web", 2}: true, {"web", 3}: false}}),
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, printed(plan)) })
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
