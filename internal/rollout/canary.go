package rollout

import "github.com/belay-cd/belay/internal/domain"

// Canary gives next a growing share of the traffic, each for a while under watch, then all but the holdback until the end
// of the hold, then all. Stable stays complete and warm until then. A first delivery has nobody to compare with and takes
// all traffic at once.
//
// Consumers follow the weight: next has its share of them, at least one, and stable the rest. A singleton is handed over
// at the last shift: stopped, then started.
func Canary(f Fleet, s Settings) Plan {
	if len(f.Stable) == 0 {
		s.Steps, s.Holdback = nil, 0
	}
	d := newDraft(f)
	d.start(domain.Web, all)
	d.check(d.deploy, false)
	for _, step := range s.Steps {
		d.raise(step.Weight)
		bake := d.bake(d.deploy, step.Hold)
		up := d.deploy == domain.DeployProduction // staging only holds
		bake.Proof, bake.Proved = up, up && step.Proved
	}
	last := domain.WeightAll - s.Holdback
	d.consumers(last)
	d.retire(domain.Singleton, all)
	d.start(domain.Singleton, all)
	d.raise(last)
	d.check(d.verify, true)
	d.bake(d.watch, s.Hold)
	d.stage = d.watch
	if last < domain.WeightAll {
		d.raise(domain.WeightAll)
	}
	d.retire(domain.Web, all)
	return d.plan
}
