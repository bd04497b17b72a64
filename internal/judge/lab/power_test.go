package lab

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/judge"
)

// racer is one of those that are compared over the same traffic.
type racer struct {
	name string
	peer func() peer
}

// judged is the judge as a peer.
type judged struct{ *judge.Judge }

func (j judged) takesBack(t judge.Tick) bool {
	j.Tick(t)
	s := &t.Strata[0]
	return (s.Next.Failed > 0 || s.Next.Latency.Count() > 0) && j.blames()
}

func (j judged) blames() bool {
	d, _ := j.Decision()
	return d == judge.RollBack
}

// decided is the whole decision: the judge and the fixed triggers.
type decided struct {
	rules  *fixedRules
	judged judged
}

func (d decided) takesBack(t judge.Tick) bool {
	d.rules.see(t)
	blames := d.judged.takesBack(t)
	if !blames && !d.rules.sieve.mayFire() {
		return false
	}
	v := d.judged.Verdict()
	return d.rules.verdict(&v).Kind == guard.RollBack
}

// onlyErrors bets all on the errors of all requests: what the method can do where nothing else is promised.
type onlyErrors struct {
	*judge.Judge
	needed float64
}

func (j onlyErrors) takesBack(t judge.Tick) bool {
	j.Tick(t)
	if t.Strata[0].Next.Failed == 0 {
		return false
	}
	for _, m := range j.Verdict().Metrics {
		if m.Metric == "errors" {
			return m.Harm >= j.needed
		}
	}
	return false
}

// oracle knows beforehand how many times as often next fails, and bets on just that: Wald's sequential test, which no other is
// faster than.
type oracle struct{ times, needed, evidence float64 }

func (o *oracle) takesBack(t judge.Tick) bool {
	s := &t.Strata[0]
	w := float64(s.Weight) / full
	o.evidence += float64(s.Next.Failed)*math.Log(o.times) -
		float64(s.Next.Failed+s.Stable.Failed)*math.Log(1-w+w*o.times)
	return o.evidence >= o.needed
}

// racers are all of them; times is how many times as often next fails.
func racers(times float64, oracles bool) []racer {
	list := []racer{
		{"Belay", func() peer {
			l := limits
			l.Blame = defaults().Alpha / config.BlameLooks
			return decided{newFixedRules(l), judged{judge.New(defaults())}}
		}},
		{"its judge alone", func() peer { return judged{judge.New(defaults())} }},
		{"its fixed rules alone", func() peer { return newFixedRules(limits) }},
		{"Flagger-like", func() peer { return &flagger{} }},
		{"Argo-like", func() peer { return &argo{} }},
		{"Kayenta-like", func() peer { return &kayenta{} }},
	}
	if oracles {
		needed := 1 / bare().Alpha
		list = append(list, racer{"no margins, one metric", func() peer { return onlyErrors{judge.New(bare()), needed} }},
			racer{"oracle", func() peer { return &oracle{times: times, needed: math.Log(needed)} }})
	}
	return list
}

// race lets releases with an effect run against each of the racers, over the same traffic.
type race struct {
	world       World
	effect      Effect
	runs, ticks int
	seed        uint64
}

// finish is when each run was taken back, and how many requests had failed on next: +Inf when it never was.
type finish struct{ seconds, failed []float64 }

func (r race) run(list []racer) []finish {
	out := make([]finish, len(list))
	for i := range out {
		out[i] = finish{make([]float64, r.runs), make([]float64, r.runs)}
	}
	var next atomic.Int64
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= r.runs {
					return
				}
				r.one(n, list, out)
			}
		})
	}
	all.Wait()
	return out
}

func (r race) one(n int, list []racer, out []finish) {
	rollout := r.world.Begin(r.effect, r.seed, uint64(n))
	peers := make([]peer, len(list))
	for i := range list {
		peers[i] = list[i].peer()
		out[i].seconds[n], out[i].failed[n] = math.Inf(1), math.Inf(1)
	}
	running := len(peers)
	for second := 1; second <= r.ticks && running > 0; second++ {
		tick := rollout.Next()
		for i, p := range peers {
			if p != nil && p.takesBack(tick) {
				began := r.effect.After.Seconds()
				out[i].seconds[n], out[i].failed[n] = float64(second)-began, float64(rollout.Served().Errors)
				peers[i], running = nil, running-1
			}
		}
	}
}
