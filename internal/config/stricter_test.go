package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const strict = small + `env: { A: b }
verify:
  error_rate: 0.5%
  checks:
    items: { http: /v1/items, within: 300ms, critical: true }
    flow:  { run: ./flow.sh }
gates: { approvals: { need: 2, from: [ana, ben, cem] }, window: Mon-Fri 09:00-16:00 UTC }
rollout: { strategy: blue-green, staging_hold: 30s }
guard: { error_rate: 2% for 1m, endpoints: [POST /v1/pay], false_rollbacks: 1%, margin: 10%, error_floor: 0.05% }
monitor: { for: 2h }
`

func TestACommitDoesNotJudgeItself(t *testing.T) {
	last := right(t, strict)
	if e, loosened := Stricter(last, nil); e != last || loosened != nil {
		t.Error("a first delivery is held to its own file")
	}
	if _, loosened := Stricter(right(t, strict), last); len(loosened) > 0 {
		t.Errorf("the same file loosens nothing, got %q", loosened)
	}
	src := strict
	for _, c := range [][2]string{
		{"unit:        { run: go test ./... }", "unit: { none: they were red all the time }"},
		{"error_rate: 0.5%", "error_rate: 0.9%"},
		{"within: 300ms, critical: true", "within: 1s"},
		{"    flow:  { run: ./flow.sh }\n", ""},
		{"need: 2", "need: 1"},
		{"window: Mon-Fri 09:00-16:00 UTC", "window: Mon-Sun 00:00-24:00 UTC"},
		{"staging_hold: 30s", "staging_hold: 5s"},
		{"error_rate: 2% for 1m, endpoints: [POST /v1/pay]", "error_rate: 20% for 5m, latency: 5x, failed_probes: 9"},
		{"false_rollbacks: 1%, margin: 10%, error_floor: 0.05%", "false_rollbacks: 0.1%, margin: 50%, error_floor: 1%"},
		{"monitor: { for: 2h }", "monitor: { for: 5m }\nparity: { data: a tenth of it }"},
	} {
		if !strings.Contains(src, c[0]) {
			t.Fatalf("%q is not in the file", c[0])
		}
		src = strings.Replace(src, c[0], c[1], 1)
	}
	own := right(t, src)
	e, loosened := Stricter(own, last)
	want := []string{
		"test.unit: it became none: they were red all the time",
		"verify.error_rate: 0.9%, was 0.5%",
		"verify.checks.flow: it is removed",
		"verify.checks.items: it is no longer critical",
		"verify.checks.items: it may take longer than 300ms",
		"guard.error_rate: 20% for 5m, was 2% for 60s",
		"guard.latency: 5x, was 2x",
		"guard.margin: 50%, was 10%",
		"guard.error_floor: 1%, was 0.05%",
		"guard.failed_probes: 9, was 2",
		"guard.false_rollbacks: 0.1%, was 1%: harm is found later",
		"guard.endpoints: POST /v1/pay is no longer judged on its own",
		"monitor.for: 5m, was 2h",
		"rollout.staging_hold: 5s, was 30s",
		"gates.window: Mon-Sun 00:00-24:00 UTC, was Mon-Fri 09:00-16:00 UTC: both hold",
		"gates.approvals.need: 1, was 2",
		"parity.data: a difference is newly accepted: a tenth of it",
	}
	if !slices.Equal(loosened, want) {
		t.Errorf("got %q", loosened)
	}
	if e.Test.Unit.Run.Text != "go test ./..." || e.Verify.ErrorRate != 0.005 || e.Verify.Checks["flow"] == nil || !bool(e.Verify.Checks["items"].Critical) ||
		e.Verify.Checks["items"].Within.D() != 300*time.Millisecond || e.Guard.ErrorRate.String() != "2% for 60s" || e.Guard.Latency != 2 || e.Guard.FailedProbes != 2 ||
		len(e.Guard.Endpoints) != 1 || e.Monitor.For.D() != 2*time.Hour || e.Rollout.StagingHold.D() != 30*time.Second || e.Gates.Approvals.Need != 2 ||
		e.Gates.Window.Open(time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)) {
		t.Errorf("not held to the stricter: %+v", e)
	}
	if own.Guard.Latency != 5 || own.Verify.Checks["items"].Critical || own.Test.Unit.None == "" || last.Verify.Checks["flow"] == nil {
		t.Error("the files themselves were changed")
	}
}

func TestStricterFilesHoldAtOnce(t *testing.T) {
	last := right(t, small+"rollout: { strategy: blue-green }\n")
	e, loosened := Stricter(right(t, strict), last)
	if len(loosened) > 0 || e.Guard.ErrorRate.Rate != 0.02 || e.Monitor.For.D() != 2*time.Hour {
		t.Errorf("%q %+v", loosened, e.Guard)
	}
}

func steps(t *testing.T, list ...string) (out []Step) {
	t.Helper()
	for _, s := range list {
		var step Step
		if f := step.parse(s); f != nil {
			t.Fatal(f.why)
		}
		out = append(out, step)
	}
	return out
}

func TestLooserSteps(t *testing.T) {
	last := steps(t, "5% for 15m", "50% for 15m")
	proved := steps(t, "5% until proved within 30m", "50% for 15m")
	for _, c := range []struct {
		own, last []Step
		looser    bool
	}{
		{last, last, false},
		{steps(t, "1% for 10m", "5% for 15m", "50% for 15m"), last, false},
		{steps(t, "5% for 20m", "50% for 15m"), last, false},
		{steps(t, "5% for 15m", "50% for 5m"), last, true},
		{steps(t, "50% for 1h"), last, true},
		{steps(t, "5% until proved within 15m", "50% for 15m"), last, true},
		{nil, last, true},
		{last, nil, false},
		{proved, proved, false},
		{steps(t, "5% until proved within 30m", "20% for 5m", "50% for 15m"), proved, false},
		{last, proved, true}, // what is not proved is watched for half as long
		{steps(t, "5% for 30m", "50% for 15m"), proved, false},
	} {
		if got := looserSteps(c.own, c.last, 2*time.Minute); got != c.looser {
			t.Errorf("%v after %v: %v", c.own, c.last, got)
		}
	}
}

// A commit that changes the strategy is delivered by the last one wherever its own would show next to more people sooner.
func TestACommitDoesNotChooseAnEasierStrategyForItself(t *testing.T) {
	const canary, blueGreen = "rollout: { strategy: canary }\n", "rollout: { strategy: blue-green }\n"
	rolling := func(soak string) string { return "rollout: { strategy: rolling, min_soak: " + soak + " }\n" }
	for _, c := range []struct {
		name, own, last string
		strategy        Strategy
		holdback        Percent
		loosened        []string
	}{
		{"canary to blue-green", blueGreen, canary, Canary, 0.05,
			[]string{"rollout.strategy: blue-green, was canary: all traffic is on next after 0s instead of 30m", "monitor.holdback: 0%, was 5%"}},
		{"canary to rolling", rolling("2m"), canary, Canary, 0.05,
			[]string{"rollout.strategy: rolling, was canary: all traffic is on next after 2m instead of 30m", "monitor.holdback: 0%, was 5%"}},
		{"canary to a slow rolling", rolling("3h"), canary, Canary, 0.05,
			[]string{"rollout.strategy: rolling, was canary: it begins with 50% instead of 5%", "monitor.holdback: 0%, was 5%"}},
		{"rolling to blue-green", blueGreen, rolling("2m"), Rolling, 0,
			[]string{"rollout.strategy: blue-green, was rolling: all traffic is on next after 0s instead of 2m"}},
		{"a holdback lost", rolling("2m"), blueGreen + "monitor: { holdback: 5% }\n", BlueGreen, 0.05,
			[]string{"rollout.strategy: rolling, was blue-green: less of it is watched beside stable", "monitor.holdback: 0%, was 5%"}},
		{"blue-green to canary", canary, blueGreen, Canary, 0.05, nil},
		{"blue-green to rolling", rolling("2m"), blueGreen, Rolling, 0, nil},
		{"rolling to canary", canary, rolling("2m"), Canary, 0.05, nil},
		{"a smaller holdback", canary + "monitor: { holdback: 1% }\n", blueGreen + "monitor: { holdback: 5% }\n", Canary, 0.05,
			[]string{"monitor.holdback: 1%, was 5%"}},
		{"shorter steps", "rollout: { steps: [5% for 1m, 50% for 15m] }\n", canary, Canary, 0.05,
			[]string{"rollout.steps: [5% for 60s 50% for 15m], was [5% for 15m 50% for 15m]"}},
		{"a shorter soak", rolling("1m"), rolling("2m"), Rolling, 0, []string{"rollout.min_soak: 60s, was 2m"}},
	} {
		own, last := right(t, small+c.own), right(t, small+c.last)
		e, loosened := Stricter(own, last)
		if !slices.Equal(loosened, c.loosened) {
			t.Errorf("%s: loosened %q, want %q", c.name, loosened, c.loosened)
		}
		if e.Rollout.Strategy != c.strategy || e.Monitor.Holdback != c.holdback || (e.Rollout.Strategy == Canary) != (len(e.Rollout.Steps) > 0) {
			t.Errorf("%s: held to %s %v with %s on stable", c.name, e.Rollout.Strategy, e.Rollout.Steps, e.Monitor.Holdback)
		}
		if loosened != nil && c.strategy == Canary && last.Rollout.Strategy == Canary && !slices.Equal(e.Rollout.Steps, last.Rollout.Steps) {
			t.Errorf("%s: held to the steps %v", c.name, e.Rollout.Steps)
		}
		if last.Rollout.MinSoak > own.Rollout.MinSoak && e.Rollout.MinSoak != last.Rollout.MinSoak {
			t.Errorf("%s: watched for %s only", c.name, e.Rollout.MinSoak)
		}
	}
}

// Nobody in from is nobody who can agree, and no way around those who were asked.
func TestApprovalsFromNobody(t *testing.T) {
	const asks = small + "gates: { approvals: { need: 1, from: [%s] } }\n"
	last := right(t, fmt.Sprintf(asks, "ana"))
	if _, findings := Parse("belay.yaml", []byte(fmt.Sprintf(asks, "")), Options{}); !Failed(findings, false) {
		t.Errorf("it is right: %+v", findings)
	}
	own := *last
	own.Gates.Approvals = &Approvals{Need: 1, Expire: last.Gates.Approvals.Expire}
	e, loosened := Stricter(&own, last)
	if len(e.Gates.Approvals.From) != 1 || len(loosened) != 1 {
		t.Errorf("%+v, loosened %q", e.Gates.Approvals, loosened)
	}
}
