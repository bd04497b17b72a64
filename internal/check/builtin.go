package check

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// jobsWithin is how long a worker may take to show its first finished job.
const jobsWithin = 30 * time.Second

// BuiltIn returns the checks that every release gets for one role without being declared: health 200, and for a worker
// that jobs make progress. Those without a source are listed as not checked.
func BuiltIn(w domain.Workload) []Check {
	var list []Check
	switch {
	case w.Probe.HTTP != "":
		list = append(list, Check{Name: "health " + w.Role, HTTP: &HTTP{Path: w.Probe.HTTP, Status: http.StatusOK}})
	case w.Static != "":
		list = append(list, Check{Name: "health " + w.Role, HTTP: &HTTP{Path: "/", Status: http.StatusOK}})
	default:
		// Its probe is another kind, which only the driver asks, for the whole life of the instance.
		list = append(list, Check{Name: "health " + w.Role, NoSource: "no http probe; the instance's own probe watches it"})
	}
	switch {
	case w.Jobs != nil && w.Jobs.Done != "":
		list = append(list, Check{Name: "jobs progress " + w.Role, Metric: jobsProgress{}, Until: true, Timeout: jobsWithin})
	case w.Kind == domain.Worker:
		list = append(list, Check{Name: "jobs progress " + w.Role, NoSource: "no source: " + w.Role + " names no jobs.done metric"})
	}
	for i := range list {
		list[i].Role = w.Role
	}
	return list
}

// Unsourced returns the checks of a release as a whole that have no source yet, so that a person sees the gap.
func Unsourced() []Check {
	return []Check{
		{Name: "schema level", NoSource: "no source"},
		{Name: "database connections", NoSource: "no source"},
		{Name: "cache hit rate", NoSource: "no source"},
	}
}

// jobsProgress holds when jobs are being done, or when nothing waits to be done.
type jobsProgress struct{}

func (jobsProgress) String() string { return "jobs_done > 0 or jobs_lag == 0" }

// Eval reads jobs_done (per second) and jobs_lag (seconds). Nothing done and no lag known says nothing either way.
func (jobsProgress) Eval(lookup func(string) (float64, bool)) (bool, error) {
	done, known := lookup("jobs_done")
	if !known {
		return false, errors.New("jobs_done is not known")
	}
	if done > 0 {
		return true, nil
	}
	lag, known := lookup("jobs_lag")
	if !known {
		return false, fmt.Errorf("no job was done, and without jobs_lag an idle queue looks the same")
	}
	return lag == 0, nil
}
