package app

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/check"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
)

// builtIn are the checks that every release gets without declaring any: each role's health, and under traffic what tells
// of jobs, of the database and of caches. Those without a source are listed as not checked, so that the gap is seen.
func (c *checks) builtIn(j delivery.CheckJob) []check.Check {
	var list []check.Check
	for _, w := range j.Rollout.Next.Workloads {
		switch health, ok := check.Health(w); {
		case w.Kind == domain.Cron:
			if j.Traffic {
				list = append(list, check.Check{Name: "last run " + w.Role, Role: w.Role, Look: c.lastRun(j.Rollout, w)})
			}
		case ok && w.Kind == domain.Web:
			list = append(list, health)
		default:
			list = append(list, c.instances(j, w))
		}
		if j.Traffic {
			list = append(list, c.numbers.jobsCheck(j.Rollout, w)...)
		}
	}
	if j.Traffic {
		list = append(list, check.Check{Name: "schema level", NoSource: "no source"})
		list = append(list, c.numbers.exposedChecks(j.Rollout)...)
	}
	return list
}

// instances checks a role that answers no http through a route, by what its own probe says of each instance.
func (c *checks) instances(j delivery.CheckJob, w domain.Workload) check.Check {
	name, means := "health "+w.Role, ""
	if w.Probe.Heartbeat > 0 {
		name, means = "heartbeat "+w.Role, fmt.Sprintf(", their heartbeats at most %s old", w.Probe.Heartbeat)
	}
	return check.Check{
		Name: name, Role: w.Role, Timeout: max(check.DefaultTimeout, 2*w.Probe.Every+w.Probe.Timeout),
		Look: func(ctx context.Context) check.Verdict {
			list, err := c.router.list(ctx, j.Rollout.Next.App, j.Rollout.Next.Environment)
			if err != nil {
				return check.Verdict{State: check.Failed, Message: err.Error(), Again: true}
			}
			return healthOf(list, j.Rollout.Next.ID, w.Role, j.Traffic, means)
		},
	}
}

// healthOf judges the instances of a role of a release.
func healthOf(list []domain.InstanceStatus, release, role string, traffic bool, means string) check.Verdict {
	healthy := 0
	var sick []string
	for _, i := range list {
		if i.Release != release || i.Role != role {
			continue
		}
		if i.State == domain.Healthy && i.Failed == 0 {
			healthy++
			continue
		}
		text := fmt.Sprintf("%s/%d is %s", i.Role, i.Index, i.State)
		if i.Failed > 0 {
			text += fmt.Sprintf(", %d probes in a row failed", i.Failed)
		}
		if i.Message != "" {
			text += ": " + i.Message
		}
		sick = append(sick, text)
	}
	switch {
	case len(sick) > 0:
		return check.Verdict{State: check.Failed, Again: true,
			Message: fmt.Sprintf("%d of %d healthy: %s", healthy, healthy+len(sick), strings.Join(sick, "; "))}
	case healthy > 0:
		return check.Verdict{State: check.Passed, Message: fmt.Sprintf("%d of %d healthy%s", healthy, healthy, means)}
	case traffic:
		return check.Verdict{State: check.Failed, Message: "no instance runs", Again: true}
	default:
		return check.Verdict{State: check.NotChecked, Message: "it starts with the first traffic"}
	}
}

// lastRun checks a scheduled role by its last run. What another release ran says nothing about this one.
func (c *checks) lastRun(r *rollout.Rollout, w domain.Workload) check.Look {
	return func(ctx context.Context) check.Verdict {
		if c.jobs == nil {
			return check.Verdict{State: check.NotChecked, Message: "no source: nothing starts scheduled roles here"}
		}
		list, err := c.jobs(ctx, r.Next.App, r.Next.Environment)
		if err != nil {
			return check.Verdict{State: check.NotChecked, Message: "no source: " + err.Error()}
		}
		for _, s := range list {
			if s.Role == w.Role {
				return runVerdict(s, r.Next.ID)
			}
		}
		return check.Verdict{State: check.NotChecked, Message: "no source: it is not scheduled yet"}
	}
}

func runVerdict(s domain.JobStatus, release string) check.Verdict {
	next := "the next run is due at " + s.Next.UTC().Format(time.RFC3339)
	if s.Last == nil {
		return check.Verdict{State: check.NotChecked, Message: "it has not run yet; " + next}
	}
	told := fmt.Sprintf("the run of %s is %s", s.Last.Tick.UTC().Format(time.RFC3339), s.Last.State)
	if s.Last.State == domain.JobFailed {
		told = fmt.Sprintf("the run of %s failed with exit %d", s.Last.Tick.UTC().Format(time.RFC3339), s.Last.Code)
		if s.Last.Message != "" {
			told += ": " + s.Last.Message
		}
	}
	switch {
	case s.Last.Release != release:
		return check.Verdict{State: check.NotChecked, Message: "this release has not run it yet, and before it " + told + "; " + next}
	case s.Last.State == domain.JobFailed:
		return check.Verdict{State: check.Failed, Message: told}
	case s.Last.State == domain.JobDone:
		return check.Verdict{State: check.Passed, Message: told}
	default:
		return check.Verdict{State: check.NotChecked, Message: told + "; " + next}
	}
}
