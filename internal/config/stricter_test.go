package config

import (
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
guard: { error_rate: 2% for 1m, endpoints: [POST /v1/pay] }
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
		"guard.failed_probes: 9, was 2",
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
	last := right(t, small)
	e, loosened := Stricter(right(t, strict), last)
	if len(loosened) > 0 || e.Guard.ErrorRate.Rate != 0.02 || e.Monitor.For.D() != 2*time.Hour {
		t.Errorf("%q %+v", loosened, e.Guard)
	}
}

func TestLooserSteps(t *testing.T) {
	steps := func(list ...string) (out []Step) {
		for _, s := range list {
			var step Step
			if f := step.parse(s); f != nil {
				t.Fatal(f.why)
			}
			out = append(out, step)
		}
		return out
	}
	last := steps("5% for 15m", "50% for 15m")
	for _, c := range []struct {
		own    []Step
		looser bool
	}{
		{last, false},
		{steps("1% for 10m", "5% for 15m", "50% for 15m"), false},
		{steps("5% for 20m", "50% for 15m"), false},
		{steps("5% for 15m", "50% for 5m"), true},
		{steps("50% for 1h"), true},
		{steps("5% until proved within 15m", "50% for 15m"), true},
		{nil, true},
	} {
		if got := looserSteps(c.own, last); got != c.looser {
			t.Errorf("%v: %v", c.own, got)
		}
	}
}
