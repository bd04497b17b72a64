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

// Rollback is the same plan whichever step failed, and whoever asks. Lowering next comes first and waits for nothing: at
// once to what the healthy instances of stable cannot carry, which is 0 when stable is whole. Then next's consumers stop,
// what stable misses is started, the rest of the traffic moves, and next retires.
func Rollback(f Fleet, o Observed) Plan {
	deploy, _, _ := stages(f.Environment)
	var p Plan
	keep := min(o.Weight, cannotCarry(f.Stable, o.Stable))
	p = append(p, Step{Stage: deploy, Verb: Shift, Side: domain.Next, Weight: keep})
	p = present(p, f.Next, o.Next, other)
	for _, take := range []func(domain.RoleKind) bool{web, other} {
		for _, s := range each(nil, f.Stable, Step{Stage: deploy, Verb: Start, Side: domain.Stable}, take) {
			if !o.Stable[Slot{s.Role, s.Index}] {
				p = append(p, s)
			}
		}
	}
	if keep > 0 {
		p = append(p, Step{Stage: deploy, Verb: Shift, Side: domain.Next, Weight: 0})
	}
	return present(p, f.Next, o.Next, web)
}

// cannotCarry is the share of the traffic that the healthy instances of stable have no capacity for: that of the web role
// that misses most.
func cannotCarry(stable []Role, healthy map[Slot]bool) int {
	worst := 0
	for _, r := range stable {
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

// present retires those instances of next that exist.
func present(p Plan, next []Role, up map[Slot]bool, take func(domain.RoleKind) bool) Plan {
	deploy := p[0].Stage
	for _, s := range each(nil, next, Step{Stage: deploy, Verb: Retire, Side: domain.Next}, take) {
		if _, exists := up[Slot{s.Role, s.Index}]; exists {
			p = append(p, s)
		}
	}
	return p
}
