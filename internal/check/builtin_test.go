package check_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/check"
	"github.com/belay-cd/belay/internal/domain"
)

func TestHealth(t *testing.T) {
	web, ok := check.Health(domain.Workload{Role: "web", Kind: domain.Web, Probe: domain.Probe{HTTP: "/healthz"}})
	if !ok || web.Name != "health web" || web.HTTP.Path != "/healthz" || web.HTTP.Status != 200 {
		t.Errorf("web: %+v", web)
	}
	if static, ok := check.Health(domain.Workload{Role: "site", Static: "public"}); !ok || static.HTTP.Path != "/" {
		t.Errorf("static: %+v", static)
	}
	if worker, ok := check.Health(domain.Workload{Role: "worker", Probe: domain.Probe{Heartbeat: time.Minute}}); ok {
		t.Errorf("worker: %+v", worker)
	}
}

// A look that may still change is taken again; what it says at the end of its time stands.
func TestLook(t *testing.T) {
	asked := 0
	becomes := check.Check{Look: func(context.Context) check.Verdict {
		asked++
		if asked < 3 {
			return check.Verdict{State: check.Failed, Message: "starts", Again: true}
		}
		return check.Verdict{State: check.Passed, Message: "2 of 2"}
	}}
	res := one(t, &check.Runner{}, becomes, check.Target{})
	expect(t, res, check.Passed, "2 of 2")
	if res.Attempts != 3 || res.Kind != check.KindState {
		t.Errorf("%+v", res)
	}
	stays := func(state check.State) check.Check {
		return check.Check{Timeout: 50 * time.Millisecond, Look: func(context.Context) check.Verdict {
			return check.Verdict{State: state, Message: "as before", Again: true}
		}}
	}
	expect(t, one(t, &check.Runner{}, stays(check.Failed), check.Target{}), check.Failed, "as before")
	expect(t, one(t, &check.Runner{}, stays(check.Passed), check.Target{}), check.Passed, "as before")
	expect(t, one(t, &check.Runner{}, stays(check.NotChecked), check.Target{}), check.NotChecked, "not checked: as before")

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("somebody cancelled"))
	cut := (&check.Runner{}).Run(ctx, []check.Check{stays(check.Passed)}, check.Target{})[0]
	expect(t, cut, check.Failed, "somebody cancelled")
}
