package rollout

import (
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// draft is a plan while a strategy writes it. It remembers what was started and retired, so that a strategy says up to
// where, and every instance comes once.
type draft struct {
	fleet                 Fleet
	deploy, verify, watch domain.Stage
	stage                 domain.Stage // of what is appended
	weight                int
	plan                  Plan
	started, retired      map[string]int // by role
}

func newDraft(f Fleet) *draft {
	d := &draft{fleet: f.alone(), started: map[string]int{}, retired: map[string]int{}}
	d.deploy, d.verify, d.watch = stages(f.Environment)
	d.stage = d.deploy
	return d
}

// all takes every instance of a role.
func all(instances int) int { return instances }

// start starts the first instances of next's roles of a kind, as many as upTo says, that do not run yet.
func (d *draft) start(kind domain.RoleKind, upTo func(instances int) int) {
	d.each(d.fleet.Next, kind, upTo, d.started, Step{Verb: Start, Side: domain.Next})
}

// retire does the same with stable's.
func (d *draft) retire(kind domain.RoleKind, upTo func(instances int) int) {
	d.each(d.fleet.Stable, kind, upTo, d.retired, Step{Verb: Retire, Side: domain.Stable})
}

func (d *draft) each(roles []Role, kind domain.RoleKind, upTo func(int) int, done map[string]int, s Step) {
	for _, r := range roles {
		if r.Kind != kind {
			continue
		}
		for ; done[r.Name] < upTo(r.Instances); done[r.Name]++ {
			s.Stage, s.Role, s.Index = d.stage, r.Name, done[r.Name]
			d.plan = append(d.plan, s)
		}
	}
}

func (d *draft) check(stage domain.Stage, traffic bool) {
	d.plan = append(d.plan, Step{Stage: stage, Verb: Check, Side: domain.Next, Traffic: traffic})
}

func (d *draft) shift(weight int) {
	d.weight = weight
	d.plan = append(d.plan, Step{Stage: d.stage, Verb: Shift, Side: domain.Next, Weight: weight})
}

func (d *draft) bake(stage domain.Stage, hold time.Duration) *Step {
	d.plan = append(d.plan, Step{Stage: stage, Verb: Bake, Side: domain.Next, Weight: d.weight, Hold: hold})
	return &d.plan[len(d.plan)-1]
}

// consumers starts next's share of the consumers: at least one, and while stable has traffic too it keeps one.
func (d *draft) consumers(weight int) {
	d.start(domain.Worker, func(n int) int {
		if weight >= domain.WeightAll {
			return n
		}
		return min(max(1, share(weight, n)), max(1, n-1))
	})
}

// raise gives next a weight, and its share of the consumers: started before, those of stable retired after.
func (d *draft) raise(weight int) {
	d.consumers(weight)
	d.shift(weight)
	d.retire(domain.Worker, func(n int) int {
		if weight >= domain.WeightAll {
			return n
		}
		return min(share(weight, n), n-1)
	})
}

// share is the number of n instances that a weight comes to, rounded.
func share(weight, n int) int {
	return (weight*n + domain.WeightAll/2) / domain.WeightAll
}

// rounds is how many instances the largest role has that is replaced one by one.
func (d *draft) rounds() int {
	most := 1
	for _, r := range d.fleet.Next {
		if r.Kind != domain.Singleton {
			most = max(most, r.Instances)
		}
	}
	return most
}

// alone makes a role that is a singleton in either release one in both: it must not run twice while it changes.
func (f Fleet) alone() Fleet {
	single := map[string]bool{}
	for _, roles := range [][]Role{f.Stable, f.Next} {
		for _, r := range roles {
			single[r.Name] = single[r.Name] || r.Kind == domain.Singleton
		}
	}
	mark := func(roles []Role) []Role {
		marked := slices.Clone(roles) // no release stays none
		for i := range marked {
			if single[marked[i].Name] && marked[i].Kind == domain.Worker {
				marked[i].Kind = domain.Singleton
			}
		}
		return marked
	}
	f.Stable, f.Next = mark(f.Stable), mark(f.Next)
	return f
}
