package rollout

import "github.com/belay-cd/belay/internal/domain"

// Rolling replaces one instance after the other: the next one starts and is healthy before it takes its share, then the
// one that it replaces drains and stops, and the guard watches for a while. It needs room for one instance more, and in
// return its rollback cannot flip: what stable has left carries its part at once, the rest follows as instances start.
func Rolling(f Fleet, s Settings) Plan {
	if len(f.Stable) == 0 {
		return BlueGreen(f, s)
	}
	d := newDraft(f)
	rounds := d.rounds()
	for i := 1; i <= rounds; i++ {
		upTo := func(instances int) int { return (instances*i + rounds - 1) / rounds }
		weight := domain.WeightAll * i / rounds
		d.start(domain.Web, upTo)
		if i == 1 {
			d.check(d.deploy, false)
		}
		d.start(domain.Worker, upTo)
		if i == rounds {
			d.retire(domain.Singleton, all)
			d.start(domain.Singleton, all)
		}
		d.shift(weight)
		left := func(instances int) int { return instances * i / rounds } // stable keeps what its share needs
		d.retire(domain.Web, left)
		d.retire(domain.Worker, left)
		if i < rounds {
			d.bake(d.deploy, s.Soak).Proof = d.deploy == domain.DeployProduction
		}
	}
	d.check(d.verify, true)
	d.bake(d.watch, s.Hold)
	return d.plan
}
