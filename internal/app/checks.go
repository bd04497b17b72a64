package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/check"
	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/driver/process"
	"github.com/belay-cd/belay/internal/rollout"
)

// checks runs the verifications of a file through the loopback listener that reaches next only.
type checks struct {
	router  *router
	runner  *runner
	numbers *numbers
	// exec runs a command in the folder of an instance's release.
	exec func(ctx context.Context, inst domain.Instance, command string, stdio process.Stdio, env map[string]string) (int, error)
	// jobs lists the scheduled roles of an environment with their last runs; nil: nobody starts them here.
	jobs func(ctx context.Context, app string, env domain.Environment) ([]domain.JobStatus, error)
}

// Run runs what belongs to the moment: http, tcp and run at 0 %, those and the numbers under traffic. The records are in
// the order of their names.
func (c *checks) Run(ctx context.Context, j delivery.CheckJob) ([]domain.CheckRecord, error) {
	j.Rollout = j.Rollout.View()
	if err := c.reachable(ctx, j.Rollout); err != nil {
		return nil, err
	}
	if j.Traffic {
		c.numbers.settle(ctx, j)
	}
	list := append(c.builtIn(j), c.declared(j)...)
	jobs := make([]check.Job, len(list))
	for i, k := range list {
		jobs[i] = check.Job{Check: k, Target: c.target(ctx, j, k.Role)}
	}
	var records []domain.CheckRecord
	for _, r := range c.checker(j).RunAll(ctx, jobs) {
		records = append(records, recordOf(r))
	}
	if j.Traffic {
		limits, _ := c.numbers.limits(j)
		records = append(records, limits...)
	}
	slices.SortStableFunc(records, func(a, b domain.CheckRecord) int { return strings.Compare(a.Name, b.Name) })
	return records, context.Cause(ctx)
}

// checker runs checks whose messages show no secret of either release.
func (c *checks) checker(j delivery.CheckJob) *check.Runner {
	return &check.Runner{Exec: flow{c, j.Rollout.Next}, Mask: c.runner.masker(releasesOf(j.Rollout)...).String}
}

func releasesOf(r *rollout.Rollout) []domain.Release {
	if r.Stable == nil {
		return []domain.Release{r.Next}
	}
	return []domain.Release{r.Next, *r.Stable}
}

// reachable puts next into the routes at 0 %, so that its own listener opens; where it has traffic already nothing changes.
func (c *checks) reachable(ctx context.Context, r *rollout.Rollout) error {
	t, err := c.router.State(ctx, r.Record.App, r.Record.Environment)
	if err != nil || t.Rollout == r.Record.ID {
		return err
	}
	return c.router.Split(ctx, rollout.Split{App: r.Record.App, Environment: r.Record.Environment, Rollout: r.Record.ID,
		Stable: r.Stable, Next: &r.Next})
}

// declared are the checks of the file that run in this environment and at this moment, by name.
func (c *checks) declared(j delivery.CheckJob) []check.Check {
	if j.File == nil {
		return nil
	}
	var list []check.Check
	for _, name := range slices.Sorted(maps.Keys(j.File.Verify.Checks)) {
		spec := j.File.Verify.Checks[name]
		elsewhere := spec.Only != "" && string(spec.Only) != string(j.Rollout.Record.Environment)
		if elsewhere || spec.Metric.Text != "" && !j.Traffic {
			continue
		}
		k := checkOf(name, spec)
		if k.Role == "" {
			k.Role = serves(&j.Rollout.Next, string(spec.HTTP))
		}
		list = append(list, k)
	}
	return list
}

// serves names the web role that a path belongs to: that of the longest prefix, as in the data plane, and the first of
// several.
func serves(rel *domain.Release, path string) string {
	role, longest := "", -1
	for _, w := range rel.Workloads {
		if w.Kind != domain.Web {
			continue
		}
		if role == "" {
			role = w.Role
		}
		for _, prefix := range w.Paths {
			if strings.HasPrefix(path, prefix) && len(prefix) > longest {
				role, longest = w.Role, len(prefix)
			}
		}
	}
	return role
}

func checkOf(name string, c *config.CheckSpec) check.Check {
	k := check.Check{Name: name, Role: string(c.Role), Critical: bool(c.Critical), TCP: string(c.TCP), Timeout: time.Duration(c.Timeout)}
	switch {
	case c.HTTP != "":
		k.HTTP = &check.HTTP{Path: string(c.HTTP), Method: string(c.Method), Headers: texts(c.Headers), Send: string(c.Send),
			Status: int(c.Status), Body: string(c.Body), JSON: texts(c.JSON), Within: time.Duration(c.Within)}
	case !c.Run.Zero():
		k.Run = c.Run.Text
	case c.Metric.Text != "":
		k.Metric = c.Metric.Expr
		if k.Timeout == config.DefaultCheckTimeout {
			k.Timeout = 0 // nobody set it: the first scrape has its time
		}
	}
	return k
}

func texts(m map[string]config.Text) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = string(v)
	}
	return out
}

// target is what the checks of one role look at: next through its own listener, whatever its weight. A role without a
// route is asked directly.
func (c *checks) target(ctx context.Context, j delivery.CheckJob, role string) check.Target {
	next := &j.Rollout.Next
	url := c.router.checksURL(next.App, next.Environment, role)
	if url == "" {
		url = c.instanceURL(ctx, next, role)
	}
	t := targetOf(next, role, url)
	if t.Traffic = j.Traffic; j.Traffic {
		t.Lookup, t.Absent = c.numbers.lookup(j.Rollout, j.File), c.numbers.absent(j.Rollout, j.File)
	}
	return t
}

// targetOf gives a role of a release at an address its host and its variables.
func targetOf(rel *domain.Release, role, url string) check.Target {
	t := check.Target{URL: url, Env: map[string]string{}}
	for _, w := range rel.Workloads {
		if w.Role != role {
			continue
		}
		maps.Copy(t.Env, w.Env)
		if len(w.Hosts) > 0 {
			t.Host = w.Hosts[0]
		}
	}
	t.Env["BELAY_URL"], t.Env["BELAY_ENV"], t.Env["BELAY_RELEASE"] = url, string(rel.Environment), rel.ID
	return t
}

// instanceURL is the address of one instance of a role, of a healthy one where there is one; "" where none listens.
func (c *checks) instanceURL(ctx context.Context, rel *domain.Release, role string) string {
	if rel.External != "" {
		return "http://" + rel.External
	}
	list, err := c.router.list(ctx, rel.App, rel.Environment)
	if err != nil {
		return ""
	}
	url := ""
	for _, i := range list {
		if i.Release != rel.ID || i.Role != role || i.Addr == "" {
			continue
		}
		if i.State == domain.Healthy {
			return "http://" + i.Addr
		}
		url = "http://" + i.Addr
	}
	return url
}

func recordOf(r check.Result) domain.CheckRecord {
	state := "failed"
	switch r.State {
	case check.Passed:
		state = "passed"
	case check.NotChecked:
		state = "not checked"
	}
	return domain.CheckRecord{Name: r.Name, State: state, Message: r.Message, Took: r.Took.Seconds()}
}

// flow runs the command of a check in the folder of a release, with its variables.
type flow struct {
	checks *checks
	rel    domain.Release
}

// Exec runs one flow.
func (f flow) Exec(ctx context.Context, cmd check.Command) (check.Outcome, error) {
	if len(f.rel.Workloads) == 0 {
		return check.Outcome{}, fmt.Errorf("the release has no role to run it in")
	}
	out := &tail{limit: flowOutput}
	code, err := f.checks.exec(ctx, rollout.InstanceOf(&f.rel, f.rel.Workloads[0].Role, 0), cmd.Run,
		process.Stdio{Out: out, Err: out}, cmd.Env)
	return check.Outcome{Code: code, Output: out.String()}, err
}

// flowOutput is how much of a flow's output is kept: its end.
const flowOutput = 4 << 10
