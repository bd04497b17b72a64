package judge

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

// whole is the weight, in hundredths of a percent, at which all draws are next's.
const whole = 10_000

// How the stake is shared out between the metrics. A metric's stake lies still until the metric begins.
const (
	errorsStake  = 0.5
	latencyStake = 0.25
	maxParts     = 20 // of endpoints, and as many of segments' values
	partStake    = 0.25 / (2 * maxParts)
)

// blamed is the share of Alpha that bets on harm use. Half of the rest is for the fixed triggers beside the judge, since the
// promise is made for the whole decision, and half for what distrusts the measurement.
const blamed = 0.9

// ripe is how many seconds draws and failures of stable wait before they speak for next's safety: failures of next that were
// drawn with them may be requests that still wait for the proxy to give up after a minute. Next's failures count at once.
const ripe = 65

// Judge is the evidence on one rollout. It is not safe for concurrent use.
type Judge struct {
	config  Config
	faulty  string // why the configuration cannot be used
	designs map[tilted]*design
	shift   []int16
	scratch scratch
	order   []*Stratum

	clock   clock
	at      int64 // seconds of the wall clock at the last tick
	boot    string
	n       int64
	ticks   int64
	broken  string // the first thing that was no count
	served  bool   // next had traffic
	alone   bool   // all of its last traffic was without a control
	next    Total
	stable  Total
	drawn   [2]int64 // of next and stable where there was a control
	unripe  []draws
	safety  safety
	swift   []float64 // ln of the bets that next is no slower
	all     *metric
	parts   []*metric // in the order of their appearance
	byName  map[partName]*metric
	split   capital
	placebo placebo
	limit   limit
	past    past
}

// draws are draws of stable, and units of it that failed, that are not ripe.
type draws struct {
	clock        int64
	weight       int
	made, failed int64
}

// partName names a part among endpoints and segments' values.
type partName struct {
	segment bool
	name    string
}

// metric is what is known of all requests, or of one part of them: its errors and its latency.
type metric struct {
	partName
	windows windows
	spent   spent
	splits  []byWeight
	harm    capital
	latency latency
	now     [2]*Part // of next and stable in the stratum that is being added
	part    bool
}

// byWeight counts failed units by the weight they were drawn with.
type byWeight struct {
	weight       int
	next, stable int64
}

// New begins without any evidence.
func New(c Config) *Judge {
	j := &Judge{config: c, faulty: c.fault(), designs: map[tilted]*design{}, byName: map[partName]*metric{}}
	j.all = newMetric(partName{}, false)
	j.safety = newSafety()
	j.swift = slices.Clone(safeMenu.prior)
	j.split = newCapital(len(skew))
	j.placebo = newPlacebo()
	if j.faulty != "" {
		return j
	}
	if c.Margin > 0 {
		j.shift = shifts(c.Margin, c.Grain)
	}
	j.limit.bernoulli = newBernoulli(c.most())
	j.past = newPast(c)
	return j
}

func newMetric(name partName, part bool) *metric {
	m := &metric{partName: name, harm: newCapital(len(worse)), part: part}
	if part {
		m.windows.limit, m.latency = 8, newLatency(partMenu, 4, 4000)
	} else {
		m.windows.limit, m.latency = 24, newLatency(harmMenu, 1, 20_000)
	}
	return m
}

// fault says what of a configuration cannot be reckoned with.
func (c Config) fault() string {
	switch {
	case !(c.Alpha > 0 && c.Alpha < 1), !(c.Beta > 0 && c.Beta < 1):
		return "alpha and beta lie between 0 and 1"
	case !(c.Ratio >= 1 && c.Ratio <= 1000), !(c.Floor >= 0 && c.Floor < 1):
		return "the ratio of errors is at least 1, and their floor a fraction"
	case c.Margin != 0 && !(c.Margin >= 1 && c.Margin <= 1000), c.Grain < 0:
		return "the margin of latency is at least 1, and its grain not negative"
	case !(c.Limit >= 0 && c.Limit < 1):
		return "the limit of errors is a fraction"
	case c.Before != nil && !(c.Before.WorstErrors >= 0 && c.Before.WorstErrors <= 1):
		return "the error rate of the past is a fraction"
	}
	return ""
}

// Hash names a configuration: the same settings have the same hash.
func (c Config) Hash() string {
	text, err := json.Marshal(c)
	if err != nil { // a number that JSON does not have
		text = fmt.Appendf(nil, "%v %v", c, c.Before)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// needed is ln of what the evidence of harm must reach.
func (j *Judge) needed() float64 { return -math.Log(blamed * j.config.Alpha) }

// Tick adds what one proxy counted in one second. It reports false for a tick that came already or is older than one of the
// same proxy that came: such a tick changes nothing.
func (j *Judge) Tick(t Tick) bool {
	if !j.clock.tick(t.Boot, t.N) {
		return false
	}
	j.boot, j.n, j.at = t.Boot, t.N, t.At.Unix()
	if j.faulty != "" {
		return true
	}
	j.order = j.order[:0]
	for i := range t.Strata {
		j.order = append(j.order, &t.Strata[i])
	}
	slices.SortStableFunc(j.order, compareStrata)
	var served, alone Total
	drawn := false
	for _, s := range j.order {
		if what := s.fault(); what != "" {
			if j.broken == "" {
				j.broken = what
			}
			continue
		}
		if s.Weight <= 0 {
			continue
		}
		drawn = drawn || s.Next.Drawn > 0
		served.Requests += s.Next.Requests
		served.Errors += s.Next.Errors
		if s.Weight == whole {
			alone.Requests += s.Next.Requests
		}
		j.stratum(s)
	}
	if served.Requests > 0 {
		j.alone = alone.Requests == served.Requests
	}
	if drawn {
		j.ticks++
	}
	if j.config.Limit > 0 {
		j.limit.add(served, -math.Log(j.config.Alpha))
	}
	j.ripen()
	return true
}

// compareStrata puts strata in an order that does not depend on the one they came in, so that sums are the same to the bit.
func compareStrata(a, b *Stratum) int {
	return cmp.Or(strings.Compare(a.Role, b.Role), a.Weight-b.Weight,
		cmp.Compare(a.Next.Drawn, b.Next.Drawn), cmp.Compare(a.Stable.Drawn, b.Stable.Drawn),
		cmp.Compare(a.Next.Failed, b.Next.Failed), cmp.Compare(a.Stable.Failed, b.Stable.Failed))
}

// most is more than any count can be.
const most = int64(1) << 50

// fault says what in a stratum is no count.
func (s *Stratum) fault() string {
	if s.Weight < 0 || s.Weight > whole {
		return fmt.Sprintf("a weight of %d", s.Weight)
	}
	for _, side := range []*Side{&s.Next, &s.Stable, &s.Placebo} {
		for _, n := range []int64{side.Requests, side.Errors, side.Drawn, side.Failed} {
			if n < 0 || n > most {
				return fmt.Sprintf("a count of %d", n)
			}
		}
		for i := range side.Parts {
			p := &side.Parts[i]
			if min(p.Requests, p.Errors, p.Failed) < 0 || max(p.Requests, p.Errors, p.Failed) > most {
				return "a count of " + p.Name + " that is none"
			}
		}
	}
	return ""
}

// stratum adds one stratum with a weight above 0.
func (j *Judge) stratum(s *Stratum) {
	j.served = j.served || s.Next.Requests > 0 || s.Next.Drawn > 0
	if j.served {
		j.next.Requests += s.Next.Requests
		j.next.Errors += s.Next.Errors
		j.stable.Requests += s.Stable.Requests
		j.stable.Errors += s.Stable.Errors
	}
	if s.Weight == whole {
		j.past.add(&s.Next, s.Cold, j.clock.minute(), j.config.Minutes)
		return
	}
	d := j.design(s.Weight)
	minute := j.clock.minute()
	j.drawn[0] += s.Next.Drawn
	j.drawn[1] += s.Stable.Drawn
	j.split.begin(minute, j.config.Minutes, evenSkew)
	j.split.split(d, s.Next.Drawn, s.Stable.Drawn)
	j.safety.next(j.tilt(s.Weight, -j.all.spent.lead(1)), s.Next.Failed)
	j.unripe = append(j.unripe, draws{j.clock.now, s.Weight, s.Stable.Drawn, s.Stable.Failed})
	if measured := j.config.Margin > 0 && !s.Cold; measured && s.Placebo.Drawn+s.Placebo.Failed+s.Placebo.Requests > 0 {
		j.placebo.add(j, s)
	} else {
		j.placebo.failed(j, s)
	}
	total := [2]Part{asPart(&s.Next), asPart(&s.Stable)}
	j.all.now = [2]*Part{&total[0], &total[1]}
	j.add(j.all, s)
	j.all.spent.units = j.drawn
	j.all.now = [2]*Part{} // a tick is not kept
	j.addParts(s)
}

func asPart(s *Side) Part {
	return Part{Requests: s.Requests, Errors: s.Errors, Failed: s.Failed, Latency: s.Latency}
}

// tilted is a weight, and by how many thousandths the logarithm of its odds is raised.
type tilted struct{ weight, raised int }

// design returns the constants of a weight. They are kept, but they are no state: the same weight has the same.
func (j *Judge) design(weight int) *design { return j.tilt(weight, 0) }

// maxDesigns bounds how many are kept.
const maxDesigns = 64

// tilt returns the constants of a weight whose odds are raised, or lowered when that is negative.
func (j *Judge) tilt(weight, raised int) *design {
	at := tilted{weight, raised}
	d := j.designs[at]
	if d == nil {
		if len(j.designs) >= maxDesigns {
			clear(j.designs)
		}
		odds := float64(weight) / (whole - float64(weight)) * math.Exp(float64(raised)/1000)
		d = newDesign(odds/(1+odds), j.config.Ratio, j.config.Floor)
		j.designs[at] = d
	}
	return d
}

// ripen counts what of stable is old enough for safety.
func (j *Judge) ripen() {
	kept := j.unripe[:0]
	for _, u := range j.unripe {
		if u.clock+ripe <= j.clock.now {
			j.safety.stable(j.tilt(u.weight, -j.all.spent.lead(1)), u.made, u.failed)
			continue
		}
		if n := len(kept); n > 0 && kept[n-1].clock == u.clock && kept[n-1].weight == u.weight {
			kept[n-1].made += u.made
			kept[n-1].failed += u.failed
			continue
		}
		kept = append(kept, u)
	}
	j.unripe = kept
}

var nothing Part

// add adds a stratum to a metric.
func (j *Judge) add(m *metric, s *Stratum) {
	next, stable := m.now[0], m.now[1]
	if next == nil {
		next = &nothing
	}
	if stable == nil {
		stable = &nothing
	}
	minute := j.clock.minute()
	m.windows.note(j.clock.now, j.at)
	m.windows.add(s.Weight, Total{next.Requests, next.Errors}, Total{stable.Requests, stable.Errors}, next.Failed, stable.Failed)
	m.harm.begin(minute, j.config.Minutes, worsePrior)
	if next.Failed+stable.Failed > 0 {
		m.count(s.Weight, next.Failed, stable.Failed)
		m.harm.errorsHarm(j.tilt(s.Weight, m.spent.lead(0)), next.Failed, stable.Failed)
	}
	m.spent.add(next, stable)
	if j.config.Margin == 0 || s.Cold {
		return
	}
	j.time(m, s, next.Latency, stable.Latency)
}

// maxWeights bounds how many weights failures are told apart by.
const maxWeights = 16

// count keeps failed units by their weight, for the confidence sequence. Of more weights than are kept the last takes all.
func (m *metric) count(weight int, next, stable int64) {
	i := slices.IndexFunc(m.splits, func(b byWeight) bool { return b.weight == weight })
	if i < 0 && len(m.splits) < maxWeights {
		i = len(m.splits)
		m.splits = append(m.splits, byWeight{weight: weight})
	} else if i < 0 {
		i = maxWeights - 1
		m.splits[i].weight = 0 // of several weights: no confidence sequence
	}
	m.splits[i].next += next
	m.splits[i].stable += stable
}

// newPast prepares the comparison with history.
func newPast(c Config) past {
	p := past{errors: newCapital(len(moreOdds)), latency: newCapital(len(moreOdds)), latencyBet: newBernoulli(usual)}
	if c.Before == nil {
		return p
	}
	worst := c.Before.WorstErrors
	p.errorsBet = newBernoulli(max(c.Ratio*worst, worst+c.Floor))
	if c.Margin > 0 && c.Before.WorstLatency > 0 {
		slow := max(time.Duration(c.Margin*float64(c.Before.WorstLatency)), c.Before.WorstLatency+c.Grain)
		p.slow = measure.Bucket(slow)
	}
	return p
}
