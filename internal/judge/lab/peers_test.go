package lab

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
)

// peer is another way to judge a release. It is asked after every tick, and says whether the release is taken back.
type peer interface{ takesBack(t judge.Tick) bool }

// widths counts latencies by bucket: quicker than a histogram where there are many.
type widths struct {
	of    [measure.Buckets]int64
	count int64
}

func (w *widths) add(h *measure.Histogram) {
	for _, p := range h.Pairs() {
		w.of[p.Bucket] += p.Count
		w.count += p.Count
	}
}

// quantile is the upper bound of the quantile q, 0 when nothing was counted.
func (w *widths) quantile(q float64) time.Duration {
	above := int64((1 - q) * float64(w.count))
	for b := measure.Buckets - 1; b >= 0 && w.count > 0; b-- {
		if above -= w.of[b]; above < 0 {
			return measure.Upper(b)
		}
	}
	return 0
}

// flagger is like Flagger (docs.flagger.app, How it works): "schedule interval (default 60s)", "max number of failed metric
// checks before rollback" threshold: 5, "minimum req success rate (non 5xx responses)" min: 99, "maximum req duration P99" max:
// 500 ms, each over interval: 1m. The threshold is looked at when the next check is due.
type flagger struct {
	seconds, requests, errors int64
	latency                   widths
	failedChecks              int
}

func (f *flagger) takesBack(t judge.Tick) bool {
	for i := range t.Strata {
		n := &t.Strata[i].Next
		f.requests, f.errors = f.requests+n.Requests, f.errors+n.Errors
		f.latency.add(n.Latency)
	}
	if f.seconds++; f.seconds%60 != 0 {
		return false
	}
	if f.failedChecks >= 5 {
		return true
	}
	if f.requests > 0 && (float64(f.errors) > 0.01*float64(f.requests) || f.latency.quantile(0.99) > 500*time.Millisecond) {
		f.failedChecks++
	}
	f.requests, f.errors, f.latency = 0, 0, widths{}
	return false
}

// argo is like Argo Rollouts (Analysis & Progressive Delivery, Background Analysis): "interval: 5m, successCondition: result >=
// 0.95, failureLimit: 3"; "If the metric is measured to be less than 95%, and there are three such measurements, the analysis
// is considered Failed". The query is an irate, so that what counts is the last minute.
type argo struct {
	seconds, requests, errors int64
	failed                    int
}

func (a *argo) takesBack(t judge.Tick) bool {
	if a.seconds++; a.seconds%300 > 240 || a.seconds%300 == 0 {
		for i := range t.Strata {
			a.requests, a.errors = a.requests+t.Strata[i].Next.Requests, a.errors+t.Strata[i].Next.Errors
		}
	}
	if a.seconds%300 != 0 {
		return false
	}
	if a.requests > 0 && float64(a.errors) > 0.05*float64(a.requests) {
		a.failed++
	}
	a.requests, a.errors = 0, 0
	return a.failed >= 3
}

// kayenta is like Kayenta's NetflixACAJudge: Mann-Whitney U of a point a minute, "fraction = 0.25, confLevel = 0.98"; High when
// the lower end of the interval is above the fraction of the Hodges-Lehmann estimate. Spinnaker's documents ask for 50 points
// and start with an interval of an hour: here it is asked every 5 minutes from ten points on, which is kinder to it.
type kayenta struct {
	seconds            int64
	now                [2]judge.Side // next, stable, of this minute
	latency            [2]widths
	errors, slow       [2][]float64
	measuresLatencyToo bool
}

func (k *kayenta) takesBack(t judge.Tick) bool {
	for i := range t.Strata {
		for side, s := range []*judge.Side{&t.Strata[i].Next, &t.Strata[i].Stable} {
			k.now[side].Requests += s.Requests
			k.now[side].Errors += s.Errors
			k.latency[side].add(s.Latency)
			k.measuresLatencyToo = k.measuresLatencyToo || s.Latency != nil
		}
	}
	if k.seconds++; k.seconds%60 != 0 {
		return false
	}
	for side, s := range k.now {
		if s.Requests > 0 {
			k.errors[side] = append(k.errors[side], float64(s.Errors)/float64(s.Requests))
			k.slow[side] = append(k.slow[side], k.latency[side].quantile(0.95).Seconds())
		}
	}
	k.now, k.latency = [2]judge.Side{}, [2]widths{}
	if k.seconds%300 != 0 || len(k.errors[0]) < 10 {
		return false
	}
	return high(k.errors[0], k.errors[1]) || k.measuresLatencyToo && high(k.slow[0], k.slow[1])
}

func high(next, stable []float64) bool {
	low, _, estimate := mannWhitney(next, stable, 0.98)
	return low > 0.25*math.Abs(estimate)
}

// mannWhitney is the confidence interval of the shift between two samples, by the normal approximation with ties, and the
// Hodges-Lehmann estimate: the median of all differences.
func mannWhitney(next, stable []float64, confidence float64) (low, high, estimate float64) {
	n, m := float64(len(next)), float64(len(stable))
	differences := make([]float64, 0, len(next)*len(stable))
	for _, x := range next {
		for _, y := range stable {
			differences = append(differences, x-y)
		}
	}
	slices.Sort(differences)
	all := len(differences)
	estimate = (differences[(all-1)/2] + differences[all/2]) / 2
	ties, pooled := 0.0, slices.Sorted(slices.Values(append(slices.Clone(next), stable...)))
	for i := 0; i < len(pooled); {
		same := 0.0
		for first := pooled[i]; i < len(pooled) && pooled[i] == first; i++ {
			same++
		}
		ties += same*same*same - same
	}
	sigma := math.Sqrt(n * m / 12 * (n + m + 1 - ties/((n+m)*(n+m-1))))
	z := math.Sqrt2 * math.Erfinv(confidence)
	rank := int(math.Max(0, math.Round(n*m/2-z*sigma)))
	return differences[min(rank, all-1)], differences[max(0, all-1-rank)], estimate
}

// Kayenta's own example: {10,20,30,40} against {1,2,3,4}.
func TestKayentaLikeIsLikeKayenta(t *testing.T) {
	low, up, estimate := mannWhitney([]float64{10, 20, 30, 40}, []float64{1, 2, 3, 4}, 0.98)
	if low != 6 || up != 39 || estimate != 22.5 {
		t.Errorf("interval (%g, %g), estimate %g", low, up, estimate)
	}
	if !high([]float64{10, 20, 30, 40}, []float64{1, 2, 3, 4}) || high([]float64{1, 2, 3, 4}, []float64{1, 2, 4, 3}) {
		t.Error("what is high is not seen, or what is not is")
	}
}
