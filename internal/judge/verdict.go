package judge

import (
	"cmp"
	"math"
	"slices"
)

// row is one metric's evidence of harm.
type row struct {
	of    *metric
	slow  bool    // of its latency, not its errors
	log   float64 // ln E
	stake float64
}

// weighed is ln of what the row brings to the whole.
func (r row) weighed() float64 { return math.Log(r.stake) + r.log }

// name is the metric as a verdict names it.
func (r row) name() string {
	what := "errors"
	if r.slow {
		what = "latency"
	}
	if r.of.name != "" {
		what += " of " + r.of.name
	}
	return what
}

// rows returns the evidence of every metric, the guiltiest first.
func (j *Judge) rows() []row {
	errors, latency, part := errorsStake, latencyStake, partStake/2
	if j.config.Margin == 0 {
		errors, latency, part = errorsStake+latencyStake, 0, partStake
	}
	planned := j.config.Minutes
	list := make([]row, 0, 2*(1+len(j.parts)))
	add := func(m *metric, forErrors, forLatency float64) {
		list = append(list, row{of: m, log: m.harm.total(planned), stake: forErrors})
		if j.config.Margin > 0 {
			list = append(list, row{of: m, slow: true, log: m.latency.harm.total(planned), stake: forLatency})
		}
	}
	add(j.all, errors, latency)
	for _, m := range j.parts {
		add(m, part, part)
	}
	slices.SortStableFunc(list, func(a, b row) int {
		return cmp.Or(cmp.Compare(b.weighed(), a.weighed()), a.of.compare(b.of.partName))
	})
	return list
}

// evidence is ln of the whole: the sum of every metric's E times its stake, and the stakes that lie still. A mean of bets is a
// bet, whatever they have to do with each other.
func evidence(rows []row) float64 {
	still := 1.0
	terms := make([]float64, 0, len(rows)+1)
	for _, r := range rows {
		terms = append(terms, r.weighed())
		still -= r.stake
	}
	if still > 1e-12 {
		terms = append(terms, math.Log(still))
	}
	slices.Sort(terms) // the same sum in whatever order the parts came
	return sumLog(terms)
}

// finding is a verdict in the making.
type finding struct {
	rows    []row
	whole   float64 // ln E of harm
	needed  float64
	guilty  *row // what is blamed: over what is needed and over the floor
	doubted row  // what would be, were it over the floor
	past    float64
	proofs  [2]float64 // ln E of safety: errors, latency
	control bool       // both sides were drawn
}

func (j *Judge) find() finding {
	f := finding{rows: j.rows(), needed: j.needed(), past: j.past.total(j.config.Minutes)}
	f.whole = evidence(f.rows)
	f.control = min(j.drawn[0], j.drawn[1], j.next.Requests, j.stable.Requests) > 0
	f.proofs = [2]float64{j.safety.total(), j.swiftness()}
	if f.control && f.whole >= f.needed {
		f.guilty, f.doubted = j.blame(f)
	}
	return f
}

// swiftness is ln E of the bet that next is no slower, at the quantile up to the p95 where it is proved least: a release is
// proved no slower where its middle and its slow ones are. Each quantile has a null of its own, and a release that is slower at
// any of them is proved only if that one is rejected, so that no stake has to be shared (Berger 1982, intersection-union).
// Betting on all of them together would let a quick majority prove a slow tail.
func (j *Judge) swiftness() float64 {
	least, per := math.Inf(1), len(safeMenu.steps)/len(safeTails)
	for i := range safeTails {
		one := sumLog(j.swift[i*per:(i+1)*per]) + math.Log(2*float64(len(safeTails)))
		if !finite(one) {
			return one // so that it is seen
		}
		least = math.Min(least, one)
	}
	return least
}

// blame names the metric that did it: of those that would have been enough alone, and else the one that brings the most, the
// first that is over its floor. A part is named instead of the whole where the whole is bad because of it.
func (j *Judge) blame(f finding) (guilty *row, doubted row) {
	for i, r := range f.rows {
		alone := r.weighed() >= f.needed
		if i > 0 && !alone {
			break
		}
		if !j.overFloor(r) {
			continue
		}
		if part := j.because(f, r); part != nil {
			return part, r
		}
		return &f.rows[i], r
	}
	return nil, f.rows[0]
}

// because finds the part that explains what is wrong with the whole: its own evidence is no less, and of the errors it has
// most, and more than chance would give a part of its traffic. It is for people: that something is wrong is proved already.
func (j *Judge) because(f finding, total row) *row {
	if total.of != j.all {
		return nil
	}
	w := j.all.windows.best()
	var found *row
	most := 3.0 // ln of 20: how much likelier the errors are in the part than by its traffic
	for i, r := range f.rows {
		if r.of == j.all || r.slow != total.slow || r.log < total.log || !j.overFloor(r) {
			continue
		}
		if r.slow {
			if found == nil || r.log > found.log {
				found = &f.rows[i]
			}
			continue
		}
		p := r.of.windows.best()
		errors, traffic := ofAll(p.next.Errors, w.next.Errors), ofAll(p.next.Requests, w.next.Requests)
		if score := float64(p.next.Errors) * math.Log(errors/traffic); errors >= .8 && score > most {
			found, most = &f.rows[i], score
		}
	}
	return found
}

// ofAll is the share that a is of b, at most all of it.
func ofAll(a, b int64) float64 { return min(max(float64(a), 1e-9)/max(float64(b), 1e-9), 1) }

// overFloor says that what was seen of a metric is more than the floor below which nothing is harm.
func (j *Judge) overFloor(r row) bool {
	if r.slow {
		_, next, stable := r.of.latency.telling(j.config)
		return next-stable > j.config.Grain.Seconds()
	}
	w := r.of.windows.best()
	return w.excess() > j.config.Floor && rate(w.next) > j.config.Ratio*rate(w.stable)
}

// telling is the quantile that shows the slowness, the p95 and the latest first, and both sides' latencies there in seconds.
func (l *latency) telling(c Config) (q, next, stable float64) {
	for _, q := range []float64{.95, .5, .75, .9, .99, .995, .999} {
		for _, of := range []func(float64) (float64, float64){l.lately, l.seconds} {
			next, stable = of(q)
			if next > c.Margin*stable && next-stable > c.Grain.Seconds() {
				return q, next, stable
			}
		}
	}
	next, stable = l.seconds(.95)
	return .95, next, stable
}

// Verdict says what the ticks so far prove.
func (j *Judge) Verdict() Verdict {
	f := j.find()
	v := Verdict{
		Method: Method,
		Next:   j.next, Stable: j.stable, Ticks: j.ticks, Boot: j.boot, N: j.n,
		Evidence: grown(f.whole), Needed: grown(f.needed),
		ProofNeeded: 1 / j.config.Beta, Proof: grown(j.proof(f)),
	}
	if !f.control {
		v.Evidence, v.Proof = 1, 1
		if j.compares() {
			v.Evidence = grown(f.past)
		}
	}
	v.History = j.alone
	v.Decision, v.Metric = j.decide(f)
	if v.Decision == RollBack && f.guilty == nil {
		v.History, v.Evidence = true, grown(f.past)
	} else if v.Decision == RollBack || v.Decision == Promote {
		v.History = false
	}
	v.Detectable, v.DetectableRate = j.detectable()
	v.Metrics = j.metrics(f)
	v.Sentence = j.sentence(&v, f)
	if v.Metric == metricNumbers {
		v.Evidence, v.Needed, v.Proof, v.ProofNeeded = tame(v.Evidence), tame(v.Needed), tame(v.Proof), tame(v.ProofNeeded)
	}
	return v
}

// Same reports whether another verdict says the same: the decision, all counts, and the evidence but for the last digits, in
// which processors differ. How it is worded does not matter.
func (v Verdict) Same(other Verdict) bool {
	same := v.Method == other.Method && v.Decision == other.Decision && v.Metric == other.Metric && v.History == other.History &&
		v.Next == other.Next && v.Stable == other.Stable && v.Ticks == other.Ticks && v.Boot == other.Boot && v.N == other.N &&
		alike(v.Evidence, other.Evidence) && alike(v.Needed, other.Needed) &&
		alike(v.Proof, other.Proof) && alike(v.ProofNeeded, other.ProofNeeded)
	return same && slices.EqualFunc(v.Metrics, other.Metrics, func(a, b Evidence) bool {
		return a.Metric == b.Metric && a.Next == b.Next && a.Stable == b.Stable && alike(a.Harm, b.Harm) && alike(a.Weight, b.Weight)
	})
}

// alike compares two numbers but for their last digits.
func alike(a, b float64) bool { return a == b || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b)) }

// tame makes a number of what is none: JSON has no others.
func tame(x float64) float64 {
	if !finite(x) {
		return 0
	}
	return x
}

// proof is ln E of the must-pass metric with the least.
func (j *Judge) proof(f finding) float64 {
	if j.config.Margin > 0 {
		return min(f.proofs[0], f.proofs[1])
	}
	return f.proofs[0]
}

// The names of what holds a release.
const (
	metricNumbers = "numbers"
	metricSplit   = "split"
	metricPlacebo = "placebo"
	metricLimit   = "limit"
)

// distrusted is the share of Alpha that each of the two tests of the measurement itself has: what they hold goes back when its
// time is over, so they are part of the promise.
const distrusted = 0.025

// beyondDoubt is how many times the evidence of harm, in logarithms, must be above that of a doubt to take next back all the
// same. A draw that is not fair makes both grow alike; visitors who make stable's slice look bad must not protect next.
const beyondDoubt = 10

// doubt is what of the measurement cannot be trusted, and ln E of that.
func (j *Judge) doubt() (metric string, log float64) {
	suspect, planned := -math.Log(distrusted*j.config.Alpha), j.config.Minutes
	if log = j.split.total(planned); log >= suspect {
		return metricSplit, log
	}
	if log = j.placebo.total(planned); log >= suspect {
		return metricPlacebo, log
	}
	return "", 0
}

// decide takes the decisions in their order: what cannot be trusted comes first, harm before safety.
func (j *Judge) decide(f finding) (d Decision, metric string) {
	if j.faulty != "" || j.broken != "" || !j.sound(f) {
		return Hold, metricNumbers
	}
	doubt, doubts := j.doubt()
	past := j.historyHarm(f)
	switch {
	case doubt != "" && (f.guilty == nil || f.whole < f.needed+beyondDoubt*doubts):
		return Hold, doubt
	case f.guilty != nil:
		return RollBack, f.guilty.name()
	case past != "":
		return RollBack, past
	case j.config.Limit > 0 && j.limit.total() >= -math.Log(j.config.Alpha):
		return Hold, metricLimit
	case j.next.Requests == 0:
		return NoData, ""
	case f.control && j.proved(f) && f.whole < f.needed-wary:
		return Promote, j.least(f)
	}
	return Watch, j.least(f)
}

// wary is how far below what takes next back, as a logarithm, evidence of harm must be for a promotion: next may have been proved
// before it began to do harm.
const wary = math.Ln10

// proved says that next is proved no worse in all that must pass.
func (j *Judge) proved(f finding) bool { return j.proof(f) >= -math.Log(j.config.Beta) }

// least is the must-pass metric that is proved least.
func (j *Judge) least(f finding) string {
	if j.config.Margin > 0 && f.proofs[1] < f.proofs[0] {
		return "latency"
	}
	return "errors"
}

// sound says that all that is reckoned with are numbers.
func (j *Judge) sound(f finding) bool {
	for _, x := range []float64{f.whole, f.past, f.proofs[0], f.proofs[1], j.split.total(j.config.Minutes), j.placebo.total(j.config.Minutes)} {
		if !finite(x) {
			return false
		}
	}
	return true
}

// compares says that there is a history and traffic that only it can be compared with.
func (j *Judge) compares() bool { return j.config.Before != nil && j.past.next.Requests > 0 }

// historyHarm names what is worse than history, over its floor.
func (j *Judge) historyHarm(f finding) string {
	if !j.compares() || f.past < f.needed {
		return ""
	}
	planned := j.config.Minutes
	if j.past.errors.total(planned) >= j.past.latency.total(planned) {
		if rate(j.past.next)-j.config.Before.WorstErrors > j.config.Floor {
			return "errors"
		}
		return ""
	}
	return "latency"
}

// metrics are the rows for people.
func (j *Judge) metrics(f finding) []Evidence {
	list := make([]Evidence, 0, len(f.rows))
	for _, r := range f.rows {
		now := &r.of.windows.now
		if r.slow && r.of.latency.next.total == 0 || !r.slow && now.next.Requests == 0 {
			continue
		}
		e := Evidence{Metric: r.name(), Harm: tame(grown(r.log)), Weight: r.stake, Next: now.next, Stable: now.stable}
		if r.slow {
			l := &r.of.latency
			e.NextP95, e.StableP95 = l.seconds(.95)
			if e.StableP95 > 0 {
				e.Ratio = e.NextP95 / e.StableP95
			}
		} else {
			if stable := rate(now.stable); stable > 0 {
				e.Ratio = rate(now.next) / stable
			}
			e.Low, e.High = j.band(r.of.splits)
		}
		list = append(list, e)
	}
	if j.alone && j.compares() {
		list = append(list, j.pastMetrics()...)
	}
	return list
}

// pastMetrics are the rows of the comparison with history.
func (j *Judge) pastMetrics() []Evidence {
	p, b := &j.past, j.config.Before
	stable := Total{b.Requests, b.Errors}
	list := []Evidence{{Metric: "errors", Harm: tame(grown(p.errors.total(j.config.Minutes))), Weight: 0.5, Next: p.next, Stable: stable}}
	if before := rate(stable); before > 0 {
		list[0].Ratio = rate(p.next) / before
	}
	if p.slow > 0 {
		list = append(list, Evidence{Metric: "latency", Harm: tame(grown(p.latency.total(j.config.Minutes))), Weight: 0.5,
			Next: p.next, Stable: stable, StableP95: b.WorstLatency.Seconds()})
	}
	return list
}
