package rollout

import "github.com/belay-cd/belay/internal/domain"

// BlueGreen starts next beside stable, checks it at 0 %, gives it all traffic but the holdback at once, and keeps stable
// warm until the end of the hold. It is a canary without steps.
func BlueGreen(f Fleet, s Settings) Plan {
	s.Steps = nil
	return Canary(f, s)
}

// Return goes back to a release that is no longer warm: its instances start from what is local, are checked, and take all
// traffic at once. It has no hold: this release was done once. Consumers of the release that is left stop before those of
// the target start.
func Return(f Fleet) Plan {
	d := newDraft(f)
	d.start(domain.Web, all)
	d.check(d.deploy, false)
	d.retire(domain.Singleton, all)
	d.start(domain.Singleton, all)
	d.shift(domain.WeightAll)
	d.retire(domain.Worker, all)
	d.start(domain.Worker, all)
	d.retire(domain.Web, all)
	return d.plan
}
