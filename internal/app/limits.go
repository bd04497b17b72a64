package app

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/sample"
)

// How long Verify waits for requests, and how many are enough.
const (
	verifyFor     = 10 * time.Second
	verifyEnough  = 200
	verifyLeast   = 20  // below it, rates say nothing
	quantileLeast = 100 // below it, p95 is a handful of requests
)

// chance is how likely a release that is no worse may look as bad as what is called red. normalErrors is what a release
// may have of errors while it is called good, quantileSure the normal quantile that belongs to chance.
const (
	chance       = 0.001
	normalErrors = 0.001
	quantileSure = 3.09
)

// latencyGrain is what p95 may differ by in any case: below it the machine itself is measured.
const latencyGrain = 25 * time.Millisecond

// settle waits until next has served enough to be judged, where there is traffic at all. It goes on while more requests
// could decide what is undecided.
func (n *numbers) settle(ctx context.Context, j delivery.CheckJob) {
	rec := j.Rollout.Record
	if rec.Shifted == nil || !n.busy(rec.App, rec.Environment) {
		return
	}
	select {
	case <-time.After(time.Until(n.warmAt(ctx, j))):
	case <-ctx.Done():
		return
	}
	end := time.NewTimer(verifyFor)
	defer end.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if n.book.Sum(rec.App, rec.Environment, j.Rollout.Next.ID, *rec.Shifted, time.Now()).Requests >= verifyEnough {
			if _, open := n.limits(j); !open {
				return
			}
		}
		select {
		case <-tick.C:
		case <-end.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// warmAt is from when on the latency of next says something about the release: its youngest instance has warmed up.
func (n *numbers) warmAt(ctx context.Context, j delivery.CheckJob) time.Time {
	next := j.Rollout.Next
	from := *j.Rollout.Record.Shifted
	if j.WarmUp == 0 || next.Environment == domain.Staging {
		return from
	}
	list, err := n.list(ctx, next.App, next.Environment)
	if err != nil {
		return from
	}
	for _, i := range list {
		if at := i.Started.Add(j.WarmUp); i.Release == next.ID && i.Addr != "" && at.After(from) {
			from = at
		}
	}
	return from
}

// limits are the two built-in verifications of rates: errors, and p95 against the baseline. open says that more requests
// could still decide one.
func (n *numbers) limits(j delivery.CheckJob) (records []domain.CheckRecord, open bool) {
	rec := j.Rollout.Record
	if rec.Shifted == nil {
		return nil, false
	}
	now := time.Now()
	next := n.book.Sum(rec.App, rec.Environment, j.Rollout.Next.ID, *rec.Shifted, now)
	var beside, before sample.Sum
	if stable := j.Rollout.Stable; stable != nil {
		beside = n.book.Sum(rec.App, rec.Environment, stable.ID, *rec.Shifted, now)
		before = n.book.Sum(rec.App, rec.Environment, stable.ID, rec.Started.Add(-baselineSpan), rec.Started)
		if before.Requests < quantileLeast { // all that is known of stable: its own part of this rollout
			before = n.book.Sum(rec.App, rec.Environment, stable.ID, rec.Started.Add(-baselineSpan), now)
		}
	}
	baseline := j.Baseline
	if baseline == nil && before.Requests >= quantileLeast {
		baseline = before.Figures()
	}
	errors, unsure := errorLimit(next, beside, baseline, j.ErrorRate)
	if j.Rollout.Next.Environment == domain.Staging {
		return []domain.CheckRecord{errors, {Name: "response time", State: "not checked",
			Message: "staging has no traffic of its own to compare with: it is judged in production"}}, unsure
	}
	if warm := n.warmAt(context.Background(), j); warm.After(*rec.Shifted) {
		next = n.book.Sum(rec.App, rec.Environment, j.Rollout.Next.ID, warm, now)
	}
	latency, slow := latencyLimit(next, beside, baseline, j.Latency)
	return []domain.CheckRecord{errors, latency}, unsure || slow
}

// errorLimit judges the share of failed requests. Above the limit it is red, unless stable has as many at the same time
// or had them before, or they are so few that a good release shows them by chance.
func errorLimit(next, beside sample.Sum, baseline *domain.Figures, limit float64) (rec domain.CheckRecord, open bool) {
	rec = domain.CheckRecord{Name: "error rate", State: "not checked"}
	if next.Requests < verifyLeast {
		rec.Message = few(next.Requests)
		return rec, true
	}
	share := float64(next.Errors) / float64(next.Requests)
	rec.Message = fmt.Sprintf("%.2f %% of %d requests failed (limit %g %%)", share*100, next.Requests, limit*100)
	if share < limit {
		rec.State = "passed"
		return rec, false
	}
	normal, whose := normalErrors, ""
	switch {
	case beside.Requests >= verifyLeast:
		normal = max(normal, float64(beside.Errors)/float64(beside.Requests))
		whose = fmt.Sprintf("stable: %.2f %% of %d at the same time", normal*100, beside.Requests)
	case baseline != nil:
		normal = max(normal, baseline.ErrorRate)
		whose = fmt.Sprintf("stable: %.2f %% before", normal*100)
	}
	switch {
	case guard.Binomial(next.Errors, next.Requests, normal) < chance:
		rec.State = "failed"
		if whose != "" {
			rec.Message += "; " + whose
		}
		return rec, false
	case normal >= limit:
		rec.Message += ", and no more than without next; " + whose
		return rec, false
	default:
		rec.Message += ", too few to tell from chance"
		return rec, true
	}
}

// latencyLimit judges p95 against the baseline. Above the limit it is red, unless stable is as slow at the same time, or
// so few requests are slow that it may be chance.
func latencyLimit(next, beside sample.Sum, baseline *domain.Figures, growth float64) (rec domain.CheckRecord, open bool) {
	rec = domain.CheckRecord{Name: "response time", State: "not checked"}
	switch {
	case next.Requests < quantileLeast:
		rec.Message = few(next.Requests)
		return rec, true
	case baseline == nil || baseline.P95 <= 0:
		rec.Message = fmt.Sprintf("no baseline; p95 is %s", millis(next.Latency.Quantile(0.95)))
		return rec, false
	}
	allowed := func(p95 time.Duration) time.Duration { return time.Duration(float64(p95)*(1+growth)) + latencyGrain }
	base := time.Duration(baseline.P95 * float64(time.Second))
	now, limit := next.Latency.Quantile(0.95), allowed(base)
	rec.Message = fmt.Sprintf("p95 %s of %d requests (limit %s, baseline %s)", millis(now), next.Requests, millis(limit), millis(base))
	sure := next.Latency.Quantile(0.95 - quantileSure*math.Sqrt(0.95*0.05/float64(next.Requests)))
	switch {
	case now < limit:
		rec.State = "passed"
		return rec, false
	case beside.Requests >= quantileLeast && now < allowed(beside.Latency.Quantile(0.95)):
		rec.Message += fmt.Sprintf(", and stable has %s at the same time", millis(beside.Latency.Quantile(0.95)))
		return rec, false
	case sure < limit:
		rec.Message += ", too few to tell from chance"
		return rec, true
	default:
		rec.State = "failed"
		return rec, false
	}
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
