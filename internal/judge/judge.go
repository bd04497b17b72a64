// Package judge decides whether the next release is worse than the stable one beside it, from what the proxy counts every
// second, and says how sure that is. It is pure: ticks in, a verdict out; it reads no clock, draws no numbers and does no
// input or output, so that the same ticks lead to the same verdict, bit for bit.
//
// It may be asked after every tick, for hours, and still blames a release that is no worse in at most the share Alpha of all
// rollouts: its evidence is a product of bets that are fair while next is no worse (an e-process), and Ville's inequality
// bounds how often a fair bet ever multiplies its stake by 1/Alpha.
//
// All it assumes is that chance decided which release a visitor (or a request, where requests are split) was given, with the
// weight that the tick carries. Load that rises and falls, bursts, outages that both releases share and changes of the weight
// do not matter, because next is only ever compared with stable in the same tick.
package judge

import (
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

// Config is what a release is held to. It is fixed when its rollout begins.
type Config struct {
	// Alpha is the share of releases that are no worse and are taken back all the same; Beta the share of worse ones that
	// are called proved.
	Alpha float64 `json:"alpha"`
	Beta  float64 `json:"beta"`
	// Ratio is how many times as frequent errors of next may be without being harm, at least 1. Floor is an excess of errors,
	// as a fraction of requests, below which nothing is harm.
	Ratio float64 `json:"ratio"`
	Floor float64 `json:"floor"`
	// Margin is how many times as long next may take without being harm, at least 1. Grain is a difference of latency below
	// which nothing is harm: it is the machine's, not the release's. Margin 0 leaves latency out.
	Margin float64       `json:"margin"`
	Grain  time.Duration `json:"grain"`
	// Limit is an error rate that holds a release, whatever stable does now, without blaming it; 0 is none. It gives way to what
	// stable had before.
	Limit float64 `json:"limit"`
	// Minutes is how long the rollout is planned to be watched: harm may begin in any of them.
	Minutes int `json:"minutes"`
	// Before is what stable served before the rollout: what next is compared with while stable has no traffic. nil when
	// there is none.
	Before *Before `json:"before,omitempty"`
}

// Before is what a release served before the rollout.
type Before struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`
	// WorstErrors is the error rate of its worst minute, WorstLatency the p95 of its slowest one.
	WorstErrors  float64       `json:"worst_errors"`
	WorstLatency time.Duration `json:"worst_latency"`
}

// Tick is what one proxy counted of one rollout in one second.
type Tick struct {
	Boot   string    `json:"boot"` // names one life of one proxy
	N      int64     `json:"n"`    // its number in that life; a number that came already, or is older, is dropped
	At     time.Time `json:"at"`   // its end, for display only
	Strata []Stratum `json:"strata,omitempty"`
}

// Stratum is what was drawn on one route under one weight. Within it, chance alone decided which of the draws were next's.
type Stratum struct {
	Role string `json:"role,omitempty"`
	// Weight is the design weight of next, in hundredths of a percent.
	Weight int `json:"weight"`
	// Cold says that an instance of either side was in its warm-up: latencies are left out.
	Cold   bool `json:"cold,omitempty"`
	Next   Side `json:"next"`
	Stable Side `json:"stable"`
	// Placebo is a slice of Stable, of measure.PlaceboShare of its draws, that is treated as if it were a canary. It is contained in
	// Stable.
	Placebo Side `json:"placebo,omitzero"`
}

// Side is what one release served. The judge's unit is the draw: a visitor who keeps the cookie, or a request of a client
// that keeps none.
type Side struct {
	// Requests and Errors count every request: they are for people, rates and absolute limits.
	Requests int64 `json:"requests,omitempty"`
	Errors   int64 `json:"errors,omitempty"`
	// Drawn counts the draws when they were made, Failed the units whose first error came in this tick.
	Drawn  int64 `json:"drawn,omitempty"`
	Failed int64 `json:"failed,omitempty"`
	// Latency is of the first request of each unit.
	Latency *measure.Histogram `json:"latency,omitempty"`
	// Parts are the same by endpoint, and once more by each segment's values.
	Parts []Part `json:"parts,omitempty"`
}

// Part is one endpoint, METHOD /pattern, or one value of a segment, name=value.
type Part struct {
	Name     string             `json:"name"`
	Segment  bool               `json:"segment,omitempty"`
	Requests int64              `json:"requests,omitempty"`
	Errors   int64              `json:"errors,omitempty"`
	Failed   int64              `json:"failed,omitempty"` // units whose first error of this part came in this tick
	Latency  *measure.Histogram `json:"latency,omitempty"`
}

// Decision is what a verdict says.
type Decision string

// The decisions.
const (
	Watch    Decision = "watch"     // nothing is proved either way
	RollBack Decision = "roll_back" // next is worse
	Promote  Decision = "promote"   // next is proved no worse in all that must pass
	Hold     Decision = "hold"      // the measurement cannot be trusted, or next is beyond an absolute limit and stable as well
	NoData   Decision = "no_data"   // next served nothing: it neither passes nor is blamed
)

// Method numbers the bets and how they are put together. Whoever changes what the same ticks come to raises it.
const Method = 1

// Verdict is a decision with its numbers.
type Verdict struct {
	Method   int      `json:"method"`
	Decision Decision `json:"decision"`
	// Metric names what decided: errors, latency, errors of GET /checkout, latency of plan=pro, split, placebo, limit, numbers.
	Metric string `json:"metric,omitempty"`
	// Sentence says it with its numbers, for people.
	Sentence string `json:"sentence"`
	// Evidence is how many times the stake of a bet on harm has grown, over all metrics; Needed is when next is taken back.
	// Both are at most 1e300.
	Evidence float64 `json:"evidence"`
	Needed   float64 `json:"needed"`
	// Proof and ProofNeeded are the same of the bet that next is no worse: of the must-pass metric with the least.
	Proof       float64 `json:"proof"`
	ProofNeeded float64 `json:"proof_needed"`
	// Detectable is the smallest factor on the error rate that what was seen would have shown with 95 %, DetectableRate the
	// same as an error rate; 0 when that is not known.
	Detectable     float64 `json:"detectable,omitempty"`
	DetectableRate float64 `json:"detectable_rate,omitempty"`
	// History says that there was no concurrent control for the metric that decided: no guarantee, compared with history.
	History bool `json:"history,omitempty"`
	// Next and Stable are what both served since next had traffic; Ticks counts the ticks in which next was drawn.
	Next   Total `json:"next"`
	Stable Total `json:"stable"`
	Ticks  int64 `json:"ticks"`
	// Boot and N name the last tick that is in this verdict: a replay stops after it.
	Boot string `json:"boot,omitempty"`
	N    int64  `json:"n,omitempty"`
	// Metrics are all metrics with any evidence, the guiltiest first.
	Metrics []Evidence `json:"metrics,omitempty"`
}

// Total is what one release served.
type Total struct {
	Requests int64 `json:"requests"`
	Errors   int64 `json:"errors"`
}

// Evidence is one metric's part of a verdict.
type Evidence struct {
	Metric string `json:"metric"`
	// Harm is its own evidence of harm, Weight its share of the whole: the whole is the sum of Weight times Harm.
	Harm   float64 `json:"harm"`
	Weight float64 `json:"weight"`
	// Ratio is next's rate, or p95, divided by stable's; Low and High are its 95 % confidence sequence. 0 when not known.
	Ratio float64 `json:"ratio,omitempty"`
	Low   float64 `json:"low,omitempty"`
	High  float64 `json:"high,omitempty"`
	// Next and Stable are the counts, and for latency the p95 in seconds.
	Next      Total   `json:"next"`
	Stable    Total   `json:"stable"`
	NextP95   float64 `json:"next_p95,omitempty"`
	StableP95 float64 `json:"stable_p95,omitempty"`
}
