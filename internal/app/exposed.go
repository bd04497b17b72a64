package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/check"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/scrape"
)

// How long jobs are watched: for the first one that is done, and for a lag that does not grow.
const (
	jobsWithin = 30 * time.Second
	lagWatched = 15 * time.Second
)

// jobsCheck checks that the jobs of a role make progress. A heartbeat tells the same, and is checked on its own.
func (n *numbers) jobsCheck(r *rollout.Rollout, w domain.Workload) []check.Check {
	k := check.Check{Name: "jobs progress " + w.Role, Role: w.Role, Timeout: jobsWithin}
	switch {
	case w.Jobs != nil && (w.Jobs.Done != "" || w.Jobs.Lag != ""):
		began := time.Now()
		k.Look = func(context.Context) check.Verdict { return n.jobsSeen(r, w, time.Since(began)).verdict() }
	case w.Kind == domain.Worker && w.Probe.Heartbeat == 0:
		k.NoSource = "no source: name the counter of finished jobs in jobs.done, their lag in jobs.lag, or touch $BELAY_HEARTBEAT"
	default:
		return nil
	}
	return []check.Check{k}
}

// jobsSeen is what a role's metrics say about its jobs since it began.
type jobsSeen struct {
	done, failed          float64
	doneKnown, lagKnown   bool
	lagBefore, lag        float64
	missing               string // why a metric is not there
	watched, lagSpan, all time.Duration
}

func (n *numbers) jobsSeen(r *rollout.Rollout, w domain.Workload, watched time.Duration) jobsSeen {
	s := spanOfNext(r)
	seen := jobsSeen{watched: watched, all: s.to.Sub(s.from)}
	seen.done, seen.doneKnown = n.total(s, w.Role, w.Jobs.Done, scrape.Increase)
	seen.failed, _ = n.total(s, w.Role, w.Jobs.Failed, scrape.Increase)
	seen.lag, seen.lagKnown = n.total(s, w.Role, w.Jobs.Lag, last)
	seen.lagBefore, _ = n.total(s, w.Role, w.Jobs.Lag, first)
	for _, series := range n.samples.Points(w.Jobs.Lag, nil, scrape.Window{From: s.from, To: s.to}, s.release.ID) {
		seen.lagSpan = max(seen.lagSpan, series.Points[len(series.Points)-1].At.Sub(series.Points[0].At))
	}
	if !seen.doneKnown && !seen.lagKnown {
		seen.missing = n.unexposed(s.release, w.Jobs.Done, w.Jobs.Lag)
	}
	return seen
}

// verdict is what the numbers say now. Who is idle is told from who is stuck by the lag only.
func (s jobsSeen) verdict() check.Verdict {
	failed := ""
	if s.failed > 0 {
		failed = fmt.Sprintf(", %.0f failed", s.failed)
	}
	switch {
	case s.done > 0:
		return check.Verdict{State: check.Passed, Message: fmt.Sprintf("%.0f jobs done in %s%s", s.done, s.all.Round(time.Second), failed)}
	case s.lagKnown && s.lag == 0:
		return check.Verdict{State: check.Passed, Message: "nothing waits to be done" + failed}
	case s.lagKnown && s.lag <= s.lagBefore && s.lagSpan > 0:
		return check.Verdict{State: check.Passed, Again: s.lagSpan < lagWatched,
			Message: fmt.Sprintf("no job was done, but the lag did not grow: %.0f s and %.0f s%s", s.lagBefore, s.lag, failed)}
	case s.lagKnown:
		return check.Verdict{State: check.Failed, Again: true,
			Message: fmt.Sprintf("no job was done in %s, and the lag grew from %.0f s to %.0f s%s", s.all.Round(time.Second), s.lagBefore, s.lag, failed)}
	case s.missing != "":
		return check.Verdict{State: check.Failed, Again: s.watched < check.DefaultMetricTimeout, Message: s.missing}
	default:
		return check.Verdict{State: check.NotChecked, Again: true,
			Message: fmt.Sprintf("no job was done in %s%s; without jobs.lag an idle queue looks the same", s.all.Round(time.Second), failed)}
	}
}

// What to expose where nothing is.
const (
	exposePools  = "no source: no pool of database connections is exposed, as hikaricp_connections_*, go_sql_* or *_db_pool_in_use, _max and _waiting"
	exposeCaches = "no source: no cache is exposed, as *_cache_hits_total and *_cache_misses_total"
)

// The limits of what apps expose about themselves.
const (
	poolFull     = 0.90 // of a pool's connections, above which it is not healthy
	poolWaiting  = 0.10 // who waits on average, above which somebody waits: a moment at the start is none
	cacheLoss    = 0.10 // points of the hit rate that may be lost
	cacheEnough  = 400  // look-ups, below which ten points may be chance
	exposedSpan  = time.Minute
	firstScrapes = 2 * scrape.Every // until counters have two samples
)

// exposedChecks are about what the app exposes under well-known names. A red one is looked at again: what waits at the
// first moment may not wait at the next.
func (n *numbers) exposedChecks(r *rollout.Rollout) []check.Check {
	of := func(name string, now func(*rollout.Rollout) check.Verdict, known func(scrape.WellKnown) bool) check.Check {
		return check.Check{Name: name, Timeout: check.DefaultMetricTimeout, Look: func(context.Context) check.Verdict {
			v := now(r)
			v.Again = v.State == check.Failed || v.State == check.NotChecked && n.early(r, known)
			return v
		}}
	}
	return []check.Check{
		of("database connections", n.poolsNow, func(k scrape.WellKnown) bool { return k.Pools }),
		of("cache hit rate", n.cachesNow, func(k scrape.WellKnown) bool { return k.Caches }),
	}
}

// early reports whether numbers of a known kind may only be missing because two scrapes under traffic have not come yet.
func (n *numbers) early(r *rollout.Rollout, known func(scrape.WellKnown) bool) bool {
	s := spanOfNext(r)
	if !n.exposes(&r.Next) || s.to.Sub(s.from) >= firstScrapes {
		return false
	}
	seen := n.samples.WellKnown(r.Next.ID)
	return !seen.Any || known(seen)
}

// exposes reports whether any role of a release has metrics.
func (n *numbers) exposes(rel *domain.Release) bool {
	return slices.ContainsFunc(rel.Workloads, func(w domain.Workload) bool { return w.Metrics != "" })
}

// poolsNow judges next's pools by their last minute. What stable shows too, now or before the rollout, is not next's doing.
func (n *numbers) poolsNow(r *rollout.Rollout) check.Verdict {
	s := spanOfNext(r)
	if oldest := s.to.Add(-exposedSpan); s.from.Before(oldest) {
		s.from = oldest
	}
	window := scrape.Window{From: s.from, To: s.to}
	pools := n.samples.Pools(window, r.Next.ID)
	if len(pools) == 0 {
		return check.Verdict{State: check.NotChecked, Message: exposePools}
	}
	v := judgePools(pools)
	if v.State != check.Failed || r.Stable == nil {
		return v
	}
	before := scrape.Window{From: r.Record.Started.Add(-exposedSpan), To: r.Record.Started}
	for when, w := range map[string]scrape.Window{"now": window, "before the rollout": before} {
		if also := judgePools(n.samples.Pools(w, r.Stable.ID)); also.State == check.Failed {
			return check.Verdict{State: check.NotChecked, Message: v.Message + "; stable shows the same " + when + ": " + also.Message}
		}
	}
	return v
}

// judgePools says whether nobody waits for a connection and every pool has room.
func judgePools(pools []scrape.Pool) check.Verdict {
	var wrong []string
	judged, fullest, name := 0, 0.0, ""
	for _, p := range pools {
		at := fmt.Sprintf("%s/%d %s", p.Instance.Role, p.Instance.Index, p.Name)
		if p.Judged {
			judged++
		}
		if p.Max > 0 && p.Used/p.Max >= fullest {
			fullest, name = p.Used/p.Max, at
		}
		switch {
		case p.Errors > 0:
			wrong = append(wrong, fmt.Sprintf("%s: %.0f connections could not be had", at, p.Errors))
		case p.Waiting > poolWaiting:
			wrong = append(wrong, fmt.Sprintf("%s: %.3g wait for one of %.0f connections", at, p.Waiting, p.Max))
		case p.Max > 0 && p.Used/p.Max >= poolFull:
			wrong = append(wrong, fmt.Sprintf("%s: %.0f of %.0f connections in use (limit %.0f %%)", at, p.Used, p.Max, poolFull*100))
		}
	}
	switch {
	case len(wrong) > 0:
		return check.Verdict{State: check.Failed, Message: strings.Join(wrong, "; ")}
	case judged == 0:
		return check.Verdict{State: check.NotChecked, Message: "no source: neither a limit of the connections nor who waits for them is exposed"}
	case name == "":
		return check.Verdict{State: check.Passed, Message: "nobody waits for a connection"}
	default:
		return check.Verdict{State: check.Passed, Message: fmt.Sprintf("nobody waits; the fullest, %s, has %.0f %% in use", name, fullest*100)}
	}
}

// cachesNow compares the hit rates of next with those of stable before the rollout.
func (n *numbers) cachesNow(r *rollout.Rollout) check.Verdict {
	s := spanOfNext(r)
	now := n.samples.Caches(scrape.Window{From: s.from, To: s.to}, r.Next.ID)
	if len(now) == 0 {
		return check.Verdict{State: check.NotChecked, Message: exposeCaches}
	}
	var before, beside []scrape.Cache
	if r.Stable != nil {
		before = n.samples.Caches(scrape.Window{From: r.Record.Started.Add(-baselineSpan), To: r.Record.Started}, r.Stable.ID)
		beside = n.samples.Caches(scrape.Window{From: s.from, To: s.to}, r.Stable.ID)
	}
	return judgeCaches(now, before, beside)
}

// judgeCaches says whether no cache lost more than it may. A loss that stable has at the same time is not next's.
func judgeCaches(now, before, beside []scrape.Cache) check.Verdict {
	var wrong, fine, silent []string
	for _, c := range now {
		asked := c.Hits + c.Misses
		base, known := cacheNamed(before, c.Name)
		with, alongside := cacheNamed(beside, c.Name)
		told := fmt.Sprintf("%s: %.1f %% of %.0f", c.Name, c.Rate()*100, asked)
		switch {
		case asked < cacheEnough:
			silent = append(silent, fmt.Sprintf("%s: only %.0f look-ups", c.Name, asked))
		case !known:
			silent = append(silent, told+", no baseline")
		case c.Rate() >= base.Rate()-cacheLoss:
			fine = append(fine, fmt.Sprintf("%s (%.1f %% before)", told, base.Rate()*100))
		case alongside && with.Rate() < base.Rate()-cacheLoss:
			silent = append(silent, fmt.Sprintf("%s (%.1f %% before), but stable has %.1f %% at the same time", told, base.Rate()*100, with.Rate()*100))
		default:
			wrong = append(wrong, fmt.Sprintf("%s (%.1f %% before, %.0f points may be lost)", told, base.Rate()*100, cacheLoss*100))
		}
	}
	switch {
	case len(wrong) > 0:
		return check.Verdict{State: check.Failed, Message: strings.Join(wrong, "; ")}
	case len(fine) > 0:
		return check.Verdict{State: check.Passed, Message: strings.Join(append(fine, silent...), "; ")}
	default:
		return check.Verdict{State: check.NotChecked, Message: strings.Join(silent, "; ")}
	}
}

func cacheNamed(list []scrape.Cache, name string) (scrape.Cache, bool) {
	for _, c := range list {
		if c.Name == name && c.Hits+c.Misses >= cacheEnough {
			return c, true
		}
	}
	return scrape.Cache{}, false
}
