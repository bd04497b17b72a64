package torture

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// What the ordinary run plays: one lane per strategy.
var shortLanes = []kind{
	{app: "canary", strategy: "canary", rollout: "strategy: canary, steps: [5% for 2s, 50% for 2s]", monitor: "3s, holdback: 5%",
		play: named("100 % errors")},
	{app: "bluegreen", strategy: "blue-green", rollout: "strategy: blue-green", monitor: "3s", play: named("crash at start", "wrong port")},
	{app: "rolling", strategy: "rolling", rollout: "strategy: rolling", monitor: "3s", play: named("one segment only, by header")},
}

// What the long run plays.
var longLanes = []kind{
	{app: "canary", strategy: "canary, 5 % held back", rollout: "strategy: canary, steps: [5% for 2s, 50% for 2s]", monitor: "6s, holdback: 5%", play: named()},
	{app: "requests", strategy: "canary by request, 20 % held back", rollout: "strategy: canary, steps: [10% for 2s, 50% for 2s], split: request",
		monitor: "6s, holdback: 20%", play: named()},
	{app: "bluegreen", strategy: "blue-green", rollout: "strategy: blue-green", monitor: "8s", play: named()},
	{app: "heldback", strategy: "blue-green, 20 % held back, worker", rollout: "strategy: blue-green", roles: workerRole,
		monitor: "12s, holdback: 20%", play: named()},
	{app: "rolling", strategy: "rolling", rollout: "strategy: rolling", monitor: "6s", play: named()},
	{app: "crowd", strategy: "rolling, 3 instances, worker", rollout: "strategy: rolling", roles: workerRole, instances: 3, monitor: "12s", play: named()},
	{app: "family", strategy: "canary, worker and singleton", rollout: "strategy: canary, steps: [50% for 2s]", roles: workerRole + singleRole,
		monitor: "12s, holdback: 5%", play: named()},
	// The guard's own look at latency needs a minute to warm up and a minute of harm, whatever the file says.
	{app: "patient", strategy: "canary, 20 % held back, long", rollout: "strategy: canary, steps: [50% for 2s]", monitor: "150s, holdback: 20%", play: slowLater},
	{app: "patience", strategy: "blue-green, long", rollout: "strategy: blue-green", monitor: "150s", play: slowLater},
}

var slowLater = []scenario{{name: "slow after 20 s", mode: "do=slow rate=1 ms=600 after=20s" + production, ends: back("latency")}}

// leastReleases is how many the long run has.
const leastReleases = 200

// Releases of every kind are delivered through the real program: each one ends as it must, no request fails but by the
// release itself, what was taken back gets nothing any more, and the next good release passes.
func TestScriptedReleases(t *testing.T) {
	w := newWorld(t, "1s", "")
	lanes, book := shortLanes, &ledger{}
	if long {
		lanes = longLanes
	}
	began := time.Now()
	w.playAll(lanes, book)
	t.Logf("%d releases in %s", len(book.rows), time.Since(began).Round(time.Second))
	if long && len(book.rows) < leastReleases && os.Getenv("BELAY_SCENARIOS") == "" {
		t.Errorf("%d releases are wanted", leastReleases)
	}
	text := book.table()
	t.Log("\n" + text)
	if path := os.Getenv("BELAY_TORTURE_TABLE"); path != "" {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// lanesAtOnce is how many lanes two cores bear without becoming slow themselves.
const lanesAtOnce = 4

// playAll plays the lanes, some at the same time. Where a lane has all scenarios it leaves three of seven to the other
// lanes. BELAY_SCENARIOS, a regular expression, plays those that match, in each lane.
func (w *world) playAll(lanes []kind, book *ledger) {
	var wg sync.WaitGroup
	room := make(chan struct{}, lanesAtOnce)
	only := regexp.MustCompile(os.Getenv("BELAY_SCENARIOS"))
	for at, k := range lanes {
		var play []scenario
		for n, s := range k.play {
			impossible := s.needs == "worker" && k.roles == "" || s.needs == "memory" && os.Geteuid() != 0
			elsewhere := len(k.play) == len(scenarios) && s.needs != "worker" && slices.Contains([]int{0, 2, 4}, (n+at)%7) && os.Getenv("BELAY_SCENARIOS") == ""
			if !impossible && !elsewhere && only.MatchString(s.name) {
				play = append(play, s)
			}
		}
		wg.Go(func() {
			if len(play) > 1 { // one scenario is mostly a wait
				room <- struct{}{}
				defer func() { <-room }()
			}
			w.t.Run(k.app, func(t *testing.T) { w.newLane(t, k, book).play(play) })
		})
	}
	wg.Wait()
}

// table prints one line per scenario and strategy, in the order of the scenarios.
func (b *ledger) table() string {
	var text strings.Builder
	order := func(name string) int {
		return slices.IndexFunc(scenarios, func(s scenario) bool { return s.name == name })
	}
	rows := slices.Clone(b.rows)
	slices.SortStableFunc(rows, func(x, y row) int { return order(x.Scenario) - order(y.Scenario) })
	text.WriteString("| release | strategy | ended | by | harm to rollback | requests on it | failed on it | failed because of Belay |\n")
	text.WriteString("|---|---|---|---|---|---|---|---|\n")
	good, served, ours := 0, 0, 0
	for _, r := range rows {
		if strings.HasPrefix(r.Scenario, "good") || r.Scenario == "first" {
			good++
			served += r.Requests
			ours += r.Failed + r.Ours
			continue
		}
		harm := "–"
		if r.Harm > 0 {
			harm = fmt.Sprintf("%.1f s", r.Harm.Seconds())
		}
		state := strings.ReplaceAll(string(r.State), "_", " ")
		if r.State == domain.FailedState {
			state += " in " + string(r.Stage)
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %d | %d | %d |\n", r.Scenario, r.Strategy, state, r.By, harm, r.Requests, r.Failed, r.Ours)
	}
	fmt.Fprintf(&text, "\n%d releases in all, %d of them good: these served %d requests while they were rolled out, and %d failed.\n", len(rows), good, served, ours)
	return text.String()
}
