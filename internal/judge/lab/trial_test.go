package lab

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/judge"
)

// defaults are what a release is held to when its owner says nothing.
func defaults() judge.Config {
	return judge.Config{Alpha: config.DefaultFalseRollbacks, Beta: config.JudgeBeta, Ratio: config.JudgeRatio, Floor: config.DefaultErrorFloor,
		Margin: 1 + config.DefaultMargin, Grain: config.JudgeGrain, Limit: 0.01, Minutes: 80}
}

// bare has neither margins nor floors: next that is exactly as good as stable lies on the edge of what is no worse, where
// chance blames most often.
func bare() judge.Config {
	return judge.Config{Alpha: 0.001, Beta: 0.05, Ratio: 1, Margin: 1, Minutes: 30}
}

// alphas are the bounds that one run is held against at once.
var alphas = [...]float64{0.05, 0.01, 0.001}

// trial is many rollouts of one kind.
type trial struct {
	world       World
	effect      Effect
	config      judge.Config
	runs, ticks int
	seed        uint64
	whole       bool // with the fixed triggers
}

// counts are what became of them.
type counts struct {
	runs int
	// crossed is how many rollouts had evidence beyond each of alphas, whatever the floors say; whole how many of those and of
	// the ones that a fixed trigger would have taken back.
	crossed, whole [len(alphas)]int
	// back, promoted and held are what the judge decided, at the alpha of its configuration; decided is the decision of the
	// guard, with all its triggers.
	back, promoted, held, decided int
	metric                        map[string]int
}

func (t trial) run() counts {
	var next atomic.Int64
	var mu sync.Mutex
	var all sync.WaitGroup
	sum := counts{metric: map[string]int{}}
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= t.runs {
					return
				}
				one := t.one(uint64(n))
				mu.Lock()
				sum.add(one)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return sum
}

func (c *counts) add(o single) {
	c.runs++
	for i, a := range alphas {
		crossed := o.evidence >= 1/(0.9*a)
		c.crossed[i] += count(crossed)
		c.whole[i] += count(crossed || o.fixed[i])
	}
	c.back += count(o.back)
	c.promoted += count(o.promoted)
	c.held += count(o.held)
	c.decided += count(o.decided)
	if o.metric != "" {
		c.metric[o.metric]++
	}
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// single is what became of one rollout.
type single struct {
	evidence                      float64
	fixed                         [len(alphas)]bool
	back, promoted, held, decided bool
	metric                        string
}

// one plays one rollout to its end, whatever is decided on the way.
func (t trial) one(stream uint64) single {
	var o single
	j, r := judge.New(t.config), t.world.Begin(t.effect, t.seed, stream)
	var rules *fixedRules
	if t.whole {
		rules = newFixedRules(limits)
	}
	for n := range t.ticks {
		tick := r.Next()
		j.Tick(tick)
		// Evidence of harm by errors grows only when a request of next fails, and that of latency only with requests of next.
		s := &tick.Strata[0]
		if s.Next.Failed > 0 || s.Next.Latency.Count() > 0 {
			o.evidence = max(o.evidence, j.Evidence())
		}
		if n%60 == 59 || o.evidence >= 1/(0.9*t.config.Alpha) {
			o.hear(j)
		}
		if rules != nil {
			rules.see(tick)
			t.fixed(rules, j, &o)
		}
	}
	return o
}

// hear notes what the judge says.
func (o *single) hear(j *judge.Judge) {
	said, metric := j.Decision()
	if said == judge.RollBack && !o.back {
		o.back, o.metric = true, metric
	}
	o.promoted = o.promoted || said == judge.Promote
	o.held = o.held || said == judge.Hold
}

// fixed asks the fixed triggers at each of alphas, and the guard with all it has.
func (t trial) fixed(rules *fixedRules, j *judge.Judge, o *single) {
	may := rules.sieve.mayFire()
	if !may && o.evidence < 1/(0.9*t.config.Alpha) {
		return
	}
	v := j.Verdict()
	for i, a := range alphas {
		if may && !o.fixed[i] {
			silent := v // he says nothing himself, and is asked what he suspects
			silent.Decision, silent.Needed = judge.Watch, 1/(0.9*a)
			rules.limits.Blame = a / 1000
			o.fixed[i] = rules.verdict(&silent).Kind == guard.RollBack
		}
	}
	if !o.decided {
		rules.limits.Blame = t.config.Alpha / 1000
		o.decided = rules.verdict(&v).Kind == guard.RollBack
	}
}
