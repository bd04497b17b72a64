package app

import (
	"context"
	"fmt"
	"slices"
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
}

// Run runs what belongs to the moment: http, tcp and run at 0 %, those and the metrics under traffic.
func (c *checks) Run(ctx context.Context, j delivery.CheckJob) ([]domain.CheckRecord, error) {
	if err := c.reachable(ctx, j.Rollout); err != nil {
		return nil, err
	}
	if j.Traffic {
		c.numbers.settle(ctx, j.Rollout)
	}
	byRole := map[string][]check.Check{}
	for _, w := range j.Rollout.Next.Workloads {
		byRole[w.Role] = append(byRole[w.Role], check.BuiltIn(w)...)
	}
	roles := webRoles(&j.Rollout.Next)
	first := ""
	if len(roles) > 0 {
		first = roles[0]
	}
	for name, declared := range declaredChecks(j) {
		role := string(declared.Role)
		if role == "" {
			role = first
		}
		byRole[role] = append(byRole[role], checkOf(name, declared))
	}
	runner := check.Runner{Exec: flow{c.runner, j.Rollout}, Mask: c.runner.masker(j.Rollout.Next).String}
	var records []domain.CheckRecord
	for role, list := range byRole {
		for _, r := range runner.Run(ctx, list, c.target(j, role)) {
			records = append(records, recordOf(r))
		}
	}
	if j.Traffic {
		records = append(records, c.numbers.limits(j)...)
		for _, u := range check.Unsourced() {
			records = append(records, domain.CheckRecord{Name: u.Name, State: "not checked", Message: u.NoSource})
		}
	}
	slices.SortFunc(records, func(a, b domain.CheckRecord) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return records, context.Cause(ctx)
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

// declaredChecks are those of the file that run in this environment.
func declaredChecks(j delivery.CheckJob) map[string]*config.CheckSpec {
	list := map[string]*config.CheckSpec{}
	if j.File == nil {
		return list
	}
	for name, c := range j.File.Verify.Checks {
		elsewhere := c.Only != "" && string(c.Only) != string(j.Rollout.Record.Environment)
		if elsewhere || c.Metric.Text != "" && !j.Traffic {
			continue
		}
		list[name] = c
	}
	return list
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

// target is what the checks of one role look at.
func (c *checks) target(j delivery.CheckJob, role string) check.Target {
	next := j.Rollout.Next
	t := check.Target{URL: c.router.checksURL(next.App, next.Environment, role), Traffic: j.Traffic, Env: map[string]string{}}
	for _, w := range next.Workloads {
		if w.Role != role {
			continue
		}
		for k, v := range w.Env {
			t.Env[k] = v
		}
		if len(w.Hosts) > 0 {
			t.Host = w.Hosts[0]
		}
	}
	t.Env["BELAY_URL"], t.Env["BELAY_ENV"], t.Env["BELAY_RELEASE"] = t.URL, string(next.Environment), next.ID
	if j.Traffic {
		t.Lookup = c.numbers.lookup(j.Rollout, j.File)
	}
	return t
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

// flow runs the command of a check in next's folder, with its variables.
type flow struct {
	runner *runner
	roll   *rollout.Rollout
}

// Exec runs one flow.
func (f flow) Exec(ctx context.Context, cmd check.Command) (check.Outcome, error) {
	next := f.roll.Next
	if len(next.Workloads) == 0 {
		return check.Outcome{}, fmt.Errorf("the release has no role to run it in")
	}
	out := &tail{limit: flowOutput}
	code, err := f.runner.Driver.Exec(ctx, rollout.InstanceOf(&next, next.Workloads[0].Role, 0), cmd.Run,
		process.Stdio{Out: out, Err: out}, cmd.Env)
	return check.Outcome{Code: code, Output: out.String()}, err
}

// flowOutput is how much of a flow's output is kept: its end.
const flowOutput = 4 << 10
