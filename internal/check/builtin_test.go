package check_test

import (
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/check"
	"github.com/belay-cd/belay/internal/domain"
)

func TestBuiltIn(t *testing.T) {
	web := check.BuiltIn(domain.Workload{Role: "web", Kind: domain.Web, Probe: domain.Probe{HTTP: "/healthz"}})
	if len(web) != 1 || web[0].HTTP.Path != "/healthz" || web[0].HTTP.Status != 200 {
		t.Errorf("web: %+v", web)
	}
	worker := check.BuiltIn(domain.Workload{Role: "worker", Kind: domain.Worker, Probe: domain.Probe{Heartbeat: time.Minute}})
	if len(worker) != 2 || worker[0].Kind() != check.None || worker[1].Kind() != check.None {
		t.Errorf("worker without jobs: %+v", worker)
	}
	worker = check.BuiltIn(domain.Workload{Role: "worker", Kind: domain.Worker, Jobs: &domain.Jobs{Done: "done_total"}})
	if len(worker) != 2 || worker[1].Kind() != check.KindMetric || !worker[1].Until {
		t.Errorf("worker with jobs: %+v", worker)
	}
}

// A queue that begins to move while the check looks makes progress.
func TestJobsProgressWaits(t *testing.T) {
	progress := check.BuiltIn(domain.Workload{Role: "worker", Jobs: &domain.Jobs{Done: "d"}})[1]
	asked := 0
	lookup := func(name string) (float64, bool) {
		if name == "jobs_lag" {
			return 5, true
		}
		asked++
		return float64(asked - 1), true
	}
	if res := one(t, &check.Runner{}, progress, check.Target{Traffic: true, Lookup: lookup}); res.State != check.Passed || res.Attempts != 2 {
		t.Errorf("%+v", res)
	}
}

func TestJobsProgress(t *testing.T) {
	progress := check.BuiltIn(domain.Workload{Role: "worker", Jobs: &domain.Jobs{Done: "d"}})[1]
	progress.Timeout = 30 * time.Millisecond
	for name, c := range map[string]struct {
		values map[string]float64
		want   check.State
	}{
		"works":           {map[string]float64{"jobs_done": 2, "jobs_lag": 9}, check.Passed},
		"idle":            {map[string]float64{"jobs_done": 0, "jobs_lag": 0}, check.Passed},
		"stuck":           {map[string]float64{"jobs_done": 0, "jobs_lag": 40}, check.Failed},
		"idle or stuck":   {map[string]float64{"jobs_done": 0}, check.NotChecked},
		"exposes nothing": {nil, check.NotChecked},
	} {
		lookup := func(n string) (float64, bool) { v, ok := c.values[n]; return v, ok }
		if res := one(t, &check.Runner{}, progress, check.Target{Traffic: true, Lookup: lookup}); res.State != c.want {
			t.Errorf("%s: %s, want %s: %s", name, res.State, c.want, res.Message)
		}
	}
}
