package app

import (
	"fmt"
	"math"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/scrape"
)

// consumers counts what a release's instances got done, from the metrics that its roles name.
type consumers struct {
	scrape  *scrape.Samples
	release *domain.Release
	looked  time.Time
	last    map[string]scrape.Point // newest sample of each counter
	sum     guard.Jobs
	ever    bool
}

// look returns what was done since the look before, nil when nothing new was collected. It looks as often as metrics are
// collected, however often it is asked. The first sample of a counter is what the next one is compared with.
func (c *consumers) look(now time.Time) *guard.Jobs {
	if c.scrape == nil || c.release == nil || now.Sub(c.looked) < config.MetricsEvery && !now.Before(c.looked) {
		return nil
	}
	var done, failed, lag float64
	fresh := false
	for _, w := range c.release.Workloads {
		if w.Jobs == nil {
			continue
		}
		fresh = c.grown(w.Jobs.Done, now, &done) || fresh
		fresh = c.grown(w.Jobs.Failed, now, &failed) || fresh
		for _, s := range c.points(w.Jobs.Lag, now.Add(-freshFor), now) {
			if v := s.Points[len(s.Points)-1].Value; finite(v) {
				lag = max(lag, v)
			}
		}
	}
	c.looked = now
	if !fresh {
		return nil
	}
	j := &guard.Jobs{Done: int64(math.Round(done)), Failed: int64(math.Round(failed)), Lag: lag}
	c.sum.Done, c.sum.Failed, c.sum.Lag, c.ever = c.sum.Done+j.Done, c.sum.Failed+j.Failed, lag, true
	return j
}

// freshFor is how old a sample may be to say something about now.
const freshFor = 3 * config.MetricsEvery

// grown adds to sum what a counter grew by, and reports whether there was a new sample. A counter that fell has begun again.
func (c *consumers) grown(metric string, now time.Time, sum *float64) (fresh bool) {
	for _, s := range c.points(metric, now.Add(-freshFor), now) {
		point := s.Points[len(s.Points)-1]
		if !finite(point.Value) {
			continue
		}
		key := fmt.Sprint(metric, s.Instance, s.Labels)
		before, known := c.last[key]
		if known && !point.At.After(before.At) {
			continue
		}
		if c.last == nil {
			c.last = map[string]scrape.Point{}
		}
		c.last[key], fresh = point, true
		switch {
		case !known:
		case point.Value >= before.Value:
			*sum += point.Value - before.Value
		default:
			*sum += max(0, point.Value)
		}
	}
	return fresh
}

func (c *consumers) points(metric string, from, to time.Time) []scrape.Series {
	if metric == "" {
		return nil
	}
	return c.scrape.Points(metric, nil, scrape.Window{From: from, To: to}, c.release.ID)
}

// longest is the greatest lag of a span in seconds.
func (c *consumers) longest(from, to time.Time) float64 {
	lag := 0.0
	if c.scrape == nil {
		return lag
	}
	for _, w := range c.release.Workloads {
		if w.Jobs == nil {
			continue
		}
		for _, s := range c.points(w.Jobs.Lag, from, to) {
			for _, p := range s.Points {
				if finite(p.Value) {
					lag = max(lag, p.Value)
				}
			}
		}
	}
	return lag
}

// total is everything since the first look; nil when nothing was ever collected.
func (c *consumers) total() *guard.Jobs {
	if !c.ever {
		return nil
	}
	sum := c.sum
	return &sum
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }
