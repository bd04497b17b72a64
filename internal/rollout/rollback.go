package rollout

import "github.com/belay-cd/belay/internal/domain"

// Observed is what a rollback is computed from: what really runs, and what next gets now.
type Observed struct {
	Weight int
	// Stable and Next hold the instances that exist, by role and index; true are those that are healthy.
	Stable map[Slot]bool
	Next   map[Slot]bool
}

// Slot is the place of one instance within a release.
type Slot struct {
	Role  string
	Index int
}

// Rollback is the same plan whichever strategy, whichever step failed, and whoever asks. Lowering next comes first and
// waits for nothing: at once to what the healthy instances of stable cannot carry, which is 0 when stable is whole. Then
// next's consumers stop, what stable misses is started, each one taking its part of the traffic as it is healthy, and next
// retires as far as it is no longer needed.
func Rollback(f Fleet, o Observed) Plan {
	if f.Stable == nil && o.Weight > 0 {
		return nil // a first delivery keeps the traffic that it has
	}
	f = f.alone()
	deploy, _, _ := stages(f.Environment)
	b := &back{stage: deploy, fleet: f, gone: map[Slot]bool{}, observed: o, healthy: map[Slot]bool{}}
	for slot, healthy := range o.Stable {
		b.healthy[slot] = healthy
	}
	b.weight = min(o.Weight, cannotCarry(f.Stable, b.healthy))
	b.shift()
	b.retire(0, false)
	b.retire(b.weight, true)
	b.restore(other)
	b.restore(web)
	if b.weight > 0 {
		b.weight = 0
		b.shift()
	}
	b.retire(0, true)
	return b.plan
}

// back is a rollback while it is written.
type back struct {
	stage    domain.Stage
	fleet    Fleet
	observed Observed
	healthy  map[Slot]bool // of stable, as far as the plan has come
	gone     map[Slot]bool // of next
	weight   int
	plan     Plan
}

func (b *back) shift() {
	b.plan = append(b.plan, Step{Stage: b.stage, Verb: Shift, Side: domain.Next, Weight: b.weight})
}

// restore starts what stable misses.
func (b *back) restore(take func(domain.RoleKind) bool) {
	for _, r := range b.fleet.Stable {
		for i := 0; take(r.Kind) && i < r.Instances; i++ {
			slot := Slot{r.Name, i}
			if b.healthy[slot] {
				continue
			}
			b.plan = append(b.plan, Step{Stage: b.stage, Verb: Start, Side: domain.Stable, Role: r.Name, Index: i})
			b.healthy[slot] = true
			if w := cannotCarry(b.fleet.Stable, b.healthy); w < b.weight {
				b.weight = w
				b.shift()
				b.retire(w, true)
			}
		}
	}
}

// retire stops those instances of next that exist and that a weight does not need, of web roles or of all others: those
// that are not healthy first.
func (b *back) retire(weight int, webs bool) {
	for _, r := range b.fleet.Next {
		if web(r.Kind) != webs {
			continue
		}
		needed := (weight*r.Instances + domain.WeightAll - 1) / domain.WeightAll
		var sick, healthy []int
		for i := range r.Instances {
			up, exists := b.observed.Next[Slot{r.Name, i}]
			switch {
			case !exists || b.gone[Slot{r.Name, i}]:
			case up:
				healthy = append(healthy, i)
			default:
				sick = append(sick, i)
			}
		}
		for _, i := range append(sick, healthy[min(needed, len(healthy)):]...) {
			b.gone[Slot{r.Name, i}] = true
			b.plan = append(b.plan, Step{Stage: b.stage, Verb: Retire, Side: domain.Next, Role: r.Name, Index: i})
		}
	}
}

// cannotCarry is the share of the traffic that the healthy instances of a release have no capacity for: that of the web
// role that misses most.
func cannotCarry(roles []Role, healthy map[Slot]bool) int {
	worst := 0
	for _, r := range roles {
		if r.Kind != domain.Web {
			continue
		}
		up := 0
		for i := range r.Instances {
			if healthy[Slot{r.Name, i}] {
				up++
			}
		}
		worst = max(worst, domain.WeightAll*(r.Instances-up)/r.Instances)
	}
	return worst
}

func web(k domain.RoleKind) bool   { return k == domain.Web }
func other(k domain.RoleKind) bool { return k != domain.Web }
