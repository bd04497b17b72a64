package rollout

import "github.com/belay-cd/belay/internal/domain"

// BlueGreen starts next beside stable, checks it at 0 %, flips all traffic at once, and keeps stable warm until the end of
// the hold. Consumers of next start once the web roles are checked, and those of stable stop at the flip.
func BlueGreen(f Fleet, s Settings) Plan {
	deploy, verify, watch := stages(f.Environment)
	var p Plan
	p = each(p, f.Next, Step{Stage: deploy, Verb: Start, Side: domain.Next}, web)
	p = append(p, Step{Stage: deploy, Verb: Check, Side: domain.Next})
	p = each(p, f.Next, Step{Stage: deploy, Verb: Start, Side: domain.Next}, other)
	p = append(p, Step{Stage: deploy, Verb: Shift, Side: domain.Next, Weight: domain.WeightAll})
	p = each(p, f.Stable, Step{Stage: deploy, Verb: Retire, Side: domain.Stable}, other)
	p = append(p,
		Step{Stage: verify, Verb: Check, Side: domain.Next, Traffic: true},
		Step{Stage: watch, Verb: Bake, Side: domain.Next, Weight: domain.WeightAll, Hold: s.Hold})
	return each(p, f.Stable, Step{Stage: watch, Verb: Retire, Side: domain.Stable}, web)
}

// Return goes back to a release that is no longer warm: its instances start from what is local, are checked, and take all
// traffic at once. It has no hold: this release was done once.
func Return(f Fleet) Plan {
	deploy, _, _ := stages(f.Environment)
	var p Plan
	p = each(p, f.Next, Step{Stage: deploy, Verb: Start, Side: domain.Next}, web)
	p = append(p, Step{Stage: deploy, Verb: Check, Side: domain.Next})
	p = append(p, Step{Stage: deploy, Verb: Shift, Side: domain.Next, Weight: domain.WeightAll})
	p = each(p, f.Stable, Step{Stage: deploy, Verb: Retire, Side: domain.Stable}, other)
	p = each(p, f.Next, Step{Stage: deploy, Verb: Start, Side: domain.Next}, other)
	return each(p, f.Stable, Step{Stage: deploy, Verb: Retire, Side: domain.Stable}, web)
}
