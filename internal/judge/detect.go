package judge

import "math"

// detectable is the smallest factor on stable's error rate that the ticks so far would have shown with 95 %, and the same as
// an error rate. It reckons with what the bet costs: the prior over alternatives and beginnings and the stake of errors.
// The factor is 0 where stable had no errors, both are 0 where nothing could have been shown.
func (j *Judge) detectable() (factor, errorRate float64) {
	if min(j.drawn[0], j.drawn[1]) == 0 || j.faulty != "" {
		return 0, 0
	}
	nNext, nStable := float64(j.drawn[0]), float64(j.drawn[1])
	kStable := 0.0
	for _, s := range j.all.splits {
		kStable += float64(s.stable)
	}
	d := newDesign(min(max(nNext/(nNext+nStable), 1e-6), 1-1e-6), j.config.Ratio, j.config.Floor)
	stake := errorsStake
	if j.config.Margin == 0 {
		stake += latencyStake
	}
	shown := func(k float64) bool {
		var logs [len(worse)]float64
		for i := range logs {
			logs[i] = worsePrior[i] + k*lnWorse[i] - (k+kStable)*d.harm[i]
		}
		return sumLog(logs[:])+math.Log(begun(0, j.config.Minutes)*stake) >= j.needed()
	}
	low, high := 0.0, nNext // failures that are too few, and enough
	if !shown(high) {
		return 0, 0
	}
	for high-low > 1 {
		if middle := math.Floor((low + high) / 2); shown(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	errorRate = max(atLeast(high)/nNext, kStable/nStable+j.config.Floor)
	if errorRate >= 1 {
		return 0, 0
	}
	if kStable > 0 {
		factor = errorRate / (kStable / nStable)
	}
	return factor, errorRate
}

// atLeast is the mean at which a Poisson count is at least k with 95 %, by the approximation of Wilson and Hilferty, which is
// right to 1 % from k = 2 on.
func atLeast(k float64) float64 {
	if k <= 0 {
		return 0
	}
	const z = 1.6448536269514722
	t := 1 - 1/(9*k) + z/(3*math.Sqrt(k))
	return k * t * t * t
}
