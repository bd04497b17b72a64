package judge

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

// defaults is what a release is held to where nobody said otherwise.
func defaults() Config {
	return Config{Alpha: .001, Beta: .05, Ratio: 1.25, Floor: .001, Margin: 1.2, Grain: 2 * time.Millisecond, Limit: .01, Minutes: 60}
}

// noLatency is the same where only errors are judged.
func noLatency() Config {
	c := defaults()
	c.Margin = 0
	return c
}

// moment is when the ticks of the tests begin.
var moment = time.Date(2026, 11, 23, 14, 3, 0, 0, time.UTC)

// second is the n-th tick of one proxy.
func second(n int64, strata ...Stratum) Tick {
	return Tick{Boot: "a", N: n, At: moment.Add(time.Duration(n) * time.Second), Strata: strata}
}

// requests is a side where each request is a draw.
func requests(n, failed int64) Side {
	return Side{Requests: n, Errors: failed, Drawn: n, Failed: failed}
}

// pair is a stratum at a weight.
func pair(weight int, next, stable Side) Stratum {
	return Stratum{Weight: weight, Next: next, Stable: stable}
}

// dice draws what a tick is made of.
type dice struct{ *rand.Rand }

func newDice(seed uint64) dice { return dice{rand.New(rand.NewPCG(seed, 42))} }

func (d dice) poisson(mean float64) int64 {
	if mean > 1000 {
		return int64(math.Max(0, math.Round(mean+math.Sqrt(mean)*d.NormFloat64())))
	}
	n, left := int64(0), mean
	for left -= d.ExpFloat64(); left > 0; left -= d.ExpFloat64() {
		n++
	}
	return n
}

// side serves so many requests a second, of which a share fails, with log-normal latencies around middle (0 for none).
func (d dice) side(rate, fails float64, middle time.Duration) Side {
	n := d.poisson(rate)
	s := requests(n, 0)
	for range n {
		if d.Float64() < fails {
			s.Errors++
		}
	}
	s.Failed = s.Errors
	if middle > 0 {
		s.Latency = d.latencies(n, middle)
	}
	return s
}

func (d dice) latencies(n int64, middle time.Duration) *measure.Histogram {
	h := &measure.Histogram{}
	for range n {
		h.Add(time.Duration(float64(middle) * math.Exp(0.5*d.NormFloat64())))
	}
	return h
}

// text is all that a verdict says.
func text(t testing.TB, v Verdict) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// must says that a verdict is as expected, with the metric where one is named.
func must(t *testing.T, v Verdict, d Decision, metric string) {
	t.Helper()
	if v.Decision != d || metric != "" && v.Metric != metric {
		t.Fatalf("%s %s (%s), want %s %s", v.Decision, v.Metric, v.Sentence, d, metric)
	}
}
