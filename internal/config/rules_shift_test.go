package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/rollout"
)

// worker is a role beside small's web that takes no traffic.
func worker(run, more string) string {
	return small + fmt.Sprintf("  jobs: { run: %q, probe: { heartbeat: 30s }%s }\n", run, more)
}

// A step that no number of whole consumers can be is told with the share that it really is.
func TestStepsBelowOneConsumerSayWhatTheyAre(t *testing.T) {
	const steps = "rollout: { steps: [5% for 15m, 50% for 15m] }\n"
	_, findings := parsed(t, worker("./jobs", "")+steps)
	if !finds(findings, "step-consumers", "rollout.steps[0]: 5% of 2 consumers (roles.jobs): the step is really 1 of 3 = 33%") ||
		!finds(findings, "step-consumers", "20 consumers make it true") || Failed(findings, false) {
		t.Error(render(t, findings))
	}
	for name, src := range map[string]string{
		"enough of them":       worker("./jobs", ", instances: 20") + steps,
		"the default steps":    worker("./jobs", ""),
		"a job":                small + "  jobs: { run: ./jobs, schedule: 0 3 * * * UTC }\n" + steps,
		"one of its kind":      worker("./jobs", ", singleton: true") + steps,
		"no consumers":         small + steps,
		"another strategy":     worker("./jobs", "") + "rollout: { strategy: blue-green }\n",
		"steps without a need": worker("./jobs", "") + "rollout: { steps: [50% for 15m] }\n",
	} {
		if _, findings := parsed(t, src); finds(findings, "step-consumers", "") || Failed(findings, false) {
			t.Errorf("%s:\n%s", name, render(t, findings))
		}
	}
}

// What is warned of is what a plan does.
func TestConsumersAtAStepAreThoseOfThePlan(t *testing.T) {
	for n := 2; n <= 40; n++ {
		for _, weight := range []Percent{0.01, 0.05, 0.2, 0.5, 0.9} {
			roles := []rollout.Role{{Name: "jobs", Kind: domain.Worker, Instances: n}}
			plan := rollout.Canary(rollout.Fleet{Environment: domain.Production, Stable: roles, Next: roles},
				rollout.Settings{Steps: []rollout.Weight{{Weight: int(weight * domain.WeightAll), Hold: time.Minute}}, Holdback: 500})
			started, left := 0, n
			for _, s := range plan {
				if s.Verb == rollout.Bake {
					break
				}
				switch s.Verb {
				case rollout.Start:
					started++
				case rollout.Retire:
					left--
				}
			}
			if next, stable := consumersAt(weight, n); next != started || stable != left {
				t.Errorf("%s of %d: %d and %d, the plan has %d and %d", weight, n, next, stable, started, left)
			}
		}
	}
}

func TestSchedulersInsideARoleAreWarnedOf(t *testing.T) {
	for _, run := range []string{
		"sh -c './app & crond -f'", "npx node-cron jobs.js", "supercronic /app/crontab", "bundle exec clockwork clock.rb",
		"celery -A shop worker -B", ".venv/bin/celery -A shop beat", "/usr/sbin/cron -f",
	} {
		for name, src := range map[string]string{
			"worker": worker(run, ""), "web": strings.Replace(small, "run: ./app", fmt.Sprintf("run: %q", run), 1),
		} {
			if _, findings := parsed(t, src); !finds(findings, "scheduler", "schedule: 0 3") || Failed(findings, false) {
				t.Errorf("%s: %s\n%s", name, run, render(t, findings))
			}
		}
	}
	for name, src := range map[string]string{
		"a singleton":    worker("celery -A shop beat", ", singleton: true"),
		"a job":          small + "  jobs: { run: ./cron, schedule: 0 3 * * * UTC }\n",
		"consumers only": worker(".venv/bin/celery -A clinic worker --concurrency 4", ""),
		"grep -B":        worker("sh -c 'grep -B 3 x | ./jobs'", ""),
		"an upbeat app":  worker("./upbeat --heartbeat 5", ""),
	} {
		if _, findings := parsed(t, src); finds(findings, "scheduler", "") || Failed(findings, false) {
			t.Errorf("%s:\n%s", name, render(t, findings))
		}
	}
}

// What an app is made of is in its repository: what lies beside it is in no commit.
func TestInputsStayInTheRepository(t *testing.T) {
	src := []byte("inputs: [., ../../libs/money, ../../../elsewhere]\n" + small)
	for _, c := range []struct {
		folder string
		wrong  []string
	}{
		{"services/billing", []string{"inputs[2]"}}, {"billing", []string{"inputs[1]", "inputs[2]"}}, {".", []string{"inputs[1]", "inputs[2]"}}, {"", nil},
	} {
		_, findings := Parse(FileName, src, Options{Folder: c.folder})
		var got []string
		for _, f := range findings {
			if f.ID == "outside" {
				got = append(got, strings.SplitN(f.Message, ":", 2)[0])
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.wrong) {
			t.Errorf("in %q: %q, want %q", c.folder, got, c.wrong)
		}
	}
	top := t.TempDir()
	dir := filepath.Join(top, "services", "billing")
	for _, d := range []string{dir, filepath.Join(top, ".git"), filepath.Join(top, "libs", "money")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), src, 0o600); err != nil {
		t.Fatal(err)
	}
	_, findings, err := Load(dir, Options{})
	if err != nil || !finds(findings, "outside", "inputs[2]: ../../../elsewhere leaves the repository") || finds(findings, "outside", "inputs[1]") {
		t.Errorf("%v\n%s", err, render(t, findings))
	}
}

// Rolling draws each request: nobody can be kept with an instance that is going.
func TestRollingSplitsByRequest(t *testing.T) {
	if s := right(t, small+"rollout: { strategy: rolling }\n").Rollout.Split; s != Request {
		t.Errorf("rolling splits by %s", s)
	}
	if s := right(t, small).Rollout.Split; s != Visitor {
		t.Errorf("canary splits by %s", s)
	}
}

// Tests and demos run in seconds.
func TestDemoTakesSecondsForEveryHold(t *testing.T) {
	src := small + "monitor: { for: 2s }\nrollout: { steps: [5% for 1s, 50% until proved within 2s], min_soak: 1s, staging_hold: 500ms }\n"
	f, findings := Parse(FileName, []byte(src), Options{Demo: true})
	if Failed(findings, false) || f.Rollout.MinSoak.D() != time.Second || f.Rollout.Steps[1].For != 2*time.Second {
		t.Error(render(t, findings))
	}
	if _, findings := Parse(FileName, []byte(src), Options{}); !finds(findings, "monitor-short", "") {
		t.Error("a Monitor of 2 s is taken outside the demo")
	}
	roll := small + "monitor: { for: 2s }\nrollout: { strategy: rolling, min_soak: 0s }\n"
	if _, findings := Parse(FileName, []byte(roll), Options{Demo: true}); Failed(findings, false) {
		t.Error(render(t, findings))
	}
}
