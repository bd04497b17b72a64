package torture

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/domain"
)

// lane is one app with its own strategy, repository and visitors. Its releases are delivered one after the other.
type lane struct {
	*world
	t        *testing.T
	app      string
	strategy string // as the table shows it
	file     string // of each commit
	stable   domain.Delivery
	visits   *visits
	bad      map[string]scenario // what was shipped, by the label of its answers
	judged   map[string]int      // strange failures that were told already, by label
	count    int
	held     bool // as it was after the last delivery
	book     *ledger
}

// laneFile has short times. Whoever is slow is so by far more than a busy machine makes it.
const laneFile = `app: %[1]s
build: { run: test -s app, files: [app, mode, state], lint: [test -s mode] }
test:
  unit:        { run: ./app check }
  integration: { none: the app has one part only }
  e2e:         { none: the torture tests are its visitors }
roles:
  web:
    run: ./app
    hosts: { staging: [staging.%[1]s.localhost], production: [%[1]s.localhost] }
    instances: %[2]d
    memory: 96MiB
    probe: { http: /healthz, every: 1s, timeout: 900ms, start_within: 6s }
    drain: 1s
%[3]sverify:
  error_rate: 0.5%%
  latency: +500%%
  checks:
    items: { http: /api/items }
    deep:  { http: /api/deep, critical: true }
rollout: { %[4]s, min_soak: 2s, staging_hold: 0s }
guard:
  error_rate: 5%% for 3s
  latency: 10x
  failed_probes: 3
  undecided: promote
  segments: { plan: { header: X-Plan }, country: { cookie: country } }
monitor: { for: %[5]s }
`

const (
	workerRole = `  worker:
    run: ./app work
    instances: 2
    probe: { heartbeat: 4s, every: 1s, timeout: 900ms, start_within: 6s }
    drain: 1s
`
	singleRole = `  alone:
    run: ./app single
    singleton: true
    probe: { heartbeat: 4s, every: 1s, timeout: 900ms, start_within: 6s }
    volumes: { state: state }
    drain: 1s
`
)

// kind describes a lane.
type kind struct {
	app, strategy, rollout, roles, monitor string
	instances                              int
	play                                   []scenario
}

func (w *world) newLane(t *testing.T, k kind, book *ledger) *lane {
	mine := *w // another repository, and told to another test
	mine.t, mine.repo = t, filepath.Join(w.dir, "repo-"+k.app)
	l := &lane{world: &mine, t: t, app: k.app, strategy: k.strategy, bad: map[string]scenario{}, judged: map[string]int{}, book: book}
	l.file = fmt.Sprintf(laneFile, k.app, max(k.instances, 2), k.roles, k.rollout, k.monitor)
	if err := os.MkdirAll(filepath.Join(mine.repo, "state"), 0o755); err != nil {
		t.Fatal(err)
	}
	app, err := os.ReadFile(binaries.release)
	if err != nil {
		t.Fatal(err)
	}
	l.write("app", string(app), 0o755)
	l.write("state/keep", "a folder for the volume\n", 0o644)
	l.git("init", "--quiet", "--initial-branch=main")
	return l
}

// play delivers everything, a good release after each one that was taken back.
func (l *lane) play(list []scenario) {
	first := l.deliver(scenario{name: "first", mode: "do=good", ends: done})
	if first.State != domain.DoneState {
		l.t.Fatalf("the first release is not done: %s", describe(first))
	}
	l.visits = startVisits(l.t, l.http, l.app+".localhost", visitRate)
	time.Sleep(time.Second) // what was before a rollout needs something to be made of
	for n, s := range list {
		if end, ok := l.t.Deadline(); ok && long && time.Until(end) < spare {
			l.t.Errorf("the time is up: %d of %d scenarios were played", n, len(list))
			break
		}
		if d := l.deliver(s); d.State == domain.RolledBackState || s.taints {
			l.deliver(scenario{name: "good after " + s.name, mode: "do=good", ends: done})
		}
	}
	l.visits.stop()
	l.nothingElse()
	l.onlyOnce()
	l.allBack()
}

// spare is what a lane needs for its last release and the table.
const spare = 5 * time.Minute

// visitRate is how many requests per second each app gets.
const visitRate = 40

// ship commits one release and hands it over.
func (l *lane) ship(s scenario) {
	l.t.Helper()
	l.count++
	l.write("belay.yaml", l.file, 0o644)
	l.write("mode", fmt.Sprintf("name=%s-%d %s\n", l.app, l.count, s.mode), 0o644)
	l.git("add", "--all")
	l.git("commit", "--quiet", "--message", s.name)
	l.bad[domain.ShortCommit(l.git("rev-parse", "HEAD"))] = s
	if code, out := l.belay("ship", "--detach"); code != domain.Waiting.Exit() {
		l.t.Fatalf("%s: ship ended with %d: %s", s.name, code, out)
	}
}

// deliver ships one release and asserts everything about its end.
func (l *lane) deliver(s scenario) domain.Delivery {
	l.t.Helper()
	began := time.Now()
	l.ship(s)
	d := l.await()
	by := why(d)
	if !s.allows(d.State, by) {
		l.t.Errorf("%s: it is %s by %q, wanted is %v:\n%s", s.name, d.State, by, s.ends, describe(d))
	}
	if d.State == domain.DoneState {
		l.stable = d
	}
	l.serves(s, d)
	row := row{Scenario: s.name, Strategy: l.strategy, State: d.State, By: by, Stage: stageOf(d), Took: time.Since(began)}
	if l.visits != nil {
		l.judge(s, d, &row)
	}
	l.book.add(row)
	l.t.Logf("%-46s %-11s %-22s %5.1fs", s.name, d.State, by, time.Since(began).Seconds())
	return d
}

// await waits for the end of the newest delivery. It asks seldom: many lanes ask at once.
func (l *lane) await() domain.Delivery {
	l.t.Helper()
	for deadline := time.Now().Add(6 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
		d, err := l.api1.Delivery(l.t.Context(), l.app, client.Newest)
		switch {
		case err == nil && d.State.Final():
			return d
		case time.Now().After(deadline):
			l.t.Fatalf("the delivery does not end: %s, %v", describe(d), err)
		}
	}
}

// serves asserts that the release of the last delivery that was done has all traffic, and that the app is held exactly
// after a rollback.
func (l *lane) serves(s scenario, d domain.Delivery) {
	l.t.Helper()
	var r domain.Route
	eventually(l.t, 10*time.Second, s.name+": the route is settled", func() error {
		var err error
		if r, err = l.routeOf(); err == nil && (r.Rollout != "" || r.Stable == nil) {
			err = fmt.Errorf("rollout %q is open at weight %d", r.Rollout, r.Weight)
		}
		return err
	})
	if r.Weight != 0 || r.Next != nil || r.Stable.Commit != l.stable.Commit {
		l.t.Errorf("%s: afterwards %s serves, next %v at weight %d; %s is wanted", s.name, domain.ShortCommit(r.Stable.Commit),
			r.Next, r.Weight, domain.ShortCommit(l.stable.Commit))
	}
	status, err := l.api1.Status(l.t.Context(), l.app)
	if err != nil {
		l.t.Fatal(err)
	}
	if was := l.held; status.Held != (d.State == domain.RolledBackState) && (d.State != domain.FailedState || !was) {
		l.t.Errorf("%s: it is %s, and held is %t", s.name, d.State, status.Held)
	}
	l.held = status.Held // one that fails in staging leaves it as it was
}

func (l *lane) routeOf() (domain.Route, error) {
	s, err := l.proxy.Routes(l.t.Context())
	if err != nil {
		return domain.Route{}, err
	}
	for _, r := range s.Routes {
		if r.App == l.app && r.Environment == domain.Production {
			return r, nil
		}
	}
	return domain.Route{}, errors.New("production has no route")
}

// judge compares what the visitors saw with what may have happened.
func (l *lane) judge(s scenario, d domain.Delivery, row *row) {
	l.t.Helper()
	time.Sleep(300 * time.Millisecond) // what was open at the end is told
	saw := l.visits.of(domain.ShortCommit(d.Commit))
	row.Requests, row.Failed = saw.requests, saw.failed
	if d.State == domain.RolledBackState && !saw.firstFail.IsZero() {
		row.Harm = saw.lastBegin.Sub(saw.firstFail)
	}
	if d.State == domain.FailedState && saw.requests > 0 {
		l.t.Errorf("%s: it failed before production, and yet answered %d visitors", s.name, saw.requests)
	}
	if d.State == domain.DoneState && d.Outcome.FailedBecause != 0 {
		l.t.Errorf("%s: it says of itself: %s", s.name, d.Outcome.Sentence)
	}
	if t := d.Traffic; t != nil && t.Stable != nil && t.Stable.Unserved > 0 {
		l.t.Errorf("%s: the proxy could not serve %d requests of stable", s.name, t.Stable.Unserved)
	}
	l.ours(s, row)
}

// ours tells, once, each failed request that no release answered for: none may be.
func (l *lane) ours(now scenario, row *row) {
	l.t.Helper()
	for _, label := range l.visits.labels() {
		saw, s := l.visits.of(label), l.bad[label]
		strange := saw.strange
		if s.breaks {
			continue // it hung, or took its open requests with it
		}
		for _, r := range strange[l.judged[label]:] {
			if now.breaks && strings.HasPrefix(l.strategy, "rolling") && r.status >= http.StatusBadGateway {
				row.Failed++ // next has died everywhere, and what it replaced is gone: the proxy found nobody
				continue
			}
			row.Ours++
			l.t.Errorf("%s: failed and nobody says why: %s", s.name, r)
		}
		l.judged[label] = len(strange)
		if saw.planted > 0 && !strings.Contains(s.mode, "do=errors") {
			l.t.Errorf("%s: %d planted errors of a release that has none", s.name, saw.planted)
		}
	}
}

// nothingElse asserts that the end of the visits brought no further failure.
func (l *lane) nothingElse() {
	l.t.Helper()
	l.ours(scenario{}, &row{})
	if on := l.visits.of("-"); on.requests > 0 {
		l.t.Errorf("%d requests had no release to them", on.requests)
	}
	total := 0
	for _, label := range l.visits.labels() {
		total += l.visits.of(label).requests
	}
	if total < l.count*visitRate {
		l.t.Errorf("only %d requests were sent: the machine is too slow to say anything", total)
	}
	l.t.Logf("%d releases, %d requests", l.count, total)
}

// onlyOnce asserts that the singleton never ran twice, and took turns.
func (l *lane) onlyOnce() {
	l.t.Helper()
	for _, env := range domain.Environments {
		data, err := os.ReadFile(filepath.Join(l.data, "volumes", l.app, string(env), "state", "log"))
		if err != nil {
			if strings.Contains(l.file, "singleton") {
				l.t.Errorf("the singleton left no trace: %v", err)
			}
			continue
		}
		if n := strings.Count(string(data), " twice "); n > 0 {
			l.t.Errorf("%s: the singleton ran twice at the same time %d times:\n%s", env, n, data)
		}
		l.t.Logf("%s: the singleton began %d times and ended %d times", env, strings.Count(string(data), " begin "), strings.Count(string(data), " end "))
	}
}

// allBack asserts that the slots have exactly their instances.
func (l *lane) allBack() {
	l.t.Helper()
	eventually(l.t, 30*time.Second, "each slot has its instances and no other", func() error {
		s, err := l.api1.Status(l.t.Context(), l.app)
		if err != nil {
			return err
		}
		for _, e := range s.Environments {
			if e.Instances.Healthy != e.Instances.Wanted {
				return fmt.Errorf("%s has %d of %d", e.Name, e.Instances.Healthy, e.Instances.Wanted)
			}
			for _, i := range instances(l.data) {
				if i.app == l.app && i.env == string(e.Name) && e.Release != nil && i.release != e.Release.ID {
					return fmt.Errorf("%s/%s/%s runs beside %s", i.env, i.release, i.name, e.Release.ID)
				}
			}
		}
		return nil
	})
}

// row is one line of the table.
type row struct {
	Scenario, Strategy string
	State              domain.DeliveryState
	By                 string
	Stage              domain.Stage
	Harm               time.Duration // from the first failed request to the last that began on it, as the visitors saw it
	Requests, Failed   int           // of the release
	Ours               int           // failed, and no release answered for it
	Took               time.Duration
}

// ledger collects the rows of all lanes.
type ledger struct {
	mu   sync.Mutex
	rows []row
}

func (b *ledger) add(r row) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows = append(b.rows, r)
}
