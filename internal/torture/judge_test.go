package torture

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// judgeFile leaves the judge as he is without a word in the file. What holds a release for the errors that all releases have
// is far away, and what acts on minutes is too slow for the seconds that a release gets here.
const judgeFile = `app: %[1]s
build: { run: test -s app, files: [app, mode, state], lint: [test -s mode] }
test:
  unit:        { run: ./app check }
  integration: { none: the app has one part only }
  e2e:         { none: the torture tests are its visitors }
roles:
  web:
    run: ./app
    hosts: { staging: [staging.%[1]s.localhost], production: [%[1]s.localhost] }
    probe: { http: /healthz, every: 1s, timeout: 900ms, start_within: 6s }
    drain: 1s
verify: { error_rate: 45%%, latency: +2000%% }
rollout: { %[2]s, min_soak: 2s, staging_hold: 0s }
guard: { error_rate: 50%% for 3m, undecided: promote, segments: { plan: { header: X-Plan } } }
monitor: { %[3]s }
`

// trial is an app under one kind of traffic, and what is released there.
type trial struct {
	app, traffic     string // traffic as the table shows it
	kind             string // of crowdMain
	rollout, monitor string
	usual            string  // what each release does
	fails            float64 // the share of requests that fail by it
	rate             int
	play             []scenario
}

const (
	usualMode = " dice=1 base=0.02 wait=150" // in each release 2 % fail, and an answer takes 150 ms
	quick     = "strategy: canary, steps: [20% for 25s, 50% for 15s]"
	fiveTimes = "×5 errors"
	allFail   = "all fail"
	oneSide   = "one endpoint only"
)

// judged are what each trial plays. So many times=errors are counted from what fails anyway.
var judged = []scenario{
	{name: "good", mode: "do=good", ends: done},
	{name: fiveTimes, mode: "do=errors times=5" + production, ends: back("judge")},
	{name: "×20 errors", mode: "do=errors times=20" + production, ends: back("judge")},
	{name: "good", mode: "do=good again=1", ends: done},
	{name: allFail, mode: "do=errors rate=1" + production, ends: back("judge", "errors", "health")},
	{name: "slow, +50 %", mode: "do=slow rate=1 ms=75" + production, ends: back("judge", "latency")},
	{name: "slow, ×2", mode: "do=slow rate=1 ms=150" + production, ends: back("judge", "latency")},
	{name: "good", mode: "do=good again=2", ends: done},
	{name: "slow tail, one in ten", mode: "do=slow rate=0.1 ms=600" + production, // at the edge of what these seconds can show
		ends: append(back("judge", "latency"), done...)},
	{name: oneSide, mode: "do=errors rate=0.5 path=/api/pay" + production, ends: back("judge", "errors")},
	{name: "one segment only", mode: "do=errors rate=0.5 plan=gold" + production, ends: back("judge", "errors")},
	{name: "late harm, ×20 after 20 s", mode: "do=errors times=20 after=20s" + production, ends: back("judge", "errors")},
}

// trials are what the long run plays: 72 releases, each at most a minute under at most 300 requests a second.
var trials = []trial{
	{app: "cookies", traffic: "visitors with cookies", kind: "cookies", rollout: quick, monitor: "for: 4s, holdback: 5%", usual: usualMode, fails: 0.02, rate: 150, play: judged},
	{app: "bare", traffic: "no cookies", kind: "bare", rollout: quick, monitor: "for: 4s, holdback: 5%", usual: usualMode, fails: 0.02, rate: 120, play: judged},
	{app: "heavy", traffic: "a few heavy visitors", kind: "heavy", rollout: quick, monitor: "for: 4s, holdback: 5%", usual: usualMode, fails: 0.02, rate: 150, play: judged},
	{app: "bursty", traffic: "bursts, no cookies", kind: "bursty", rollout: quick, monitor: "for: 4s, holdback: 5%", usual: usualMode, fails: 0.02, rate: 150, play: judged},
	{app: "incident", traffic: "incidents that both share", kind: "cookies", rollout: quick, monitor: "for: 4s, holdback: 5%", usual: usualMode + " incident=1", fails: 0.048, rate: 150, play: judged},
	{app: "uneven", traffic: "uneven, drawn by request", kind: "uneven", rollout: quick + ", split: request", monitor: "for: 4s, holdback: 5%", usual: usualMode, fails: 0.02, rate: 150, play: judged},
	{app: "flip", traffic: "blue-green, 40 % held back", kind: "cookies", rollout: "strategy: blue-green", monitor: "for: 40s, holdback: 40%", usual: usualMode, fails: 0.02, rate: 120, play: judged},
}

// shortTrials are what the ordinary run plays.
var shortTrials = []trial{
	{app: "good", traffic: "incidents that both share", kind: "cookies", rollout: "strategy: canary, steps: [50% for 12s]", monitor: "for: 2s, holdback: 5%",
		usual: usualMode + " incident=1", fails: 0.048, rate: 120, play: judged[:1]},
	{app: "failing", traffic: "visitors with cookies", kind: "cookies", rollout: "strategy: canary, steps: [50% for 25s]", monitor: "for: 2s, holdback: 5%",
		usual: usualMode, fails: 0.02, rate: 120, play: judgedAs(allFail, oneSide)},
	{app: "killed", traffic: "no cookies, serve dies", kind: "bare", rollout: "strategy: canary, steps: [50% for 25s]", monitor: "for: 2s, holdback: 5%",
		usual: usualMode, fails: 0.02, rate: 120, play: judgedAs(fiveTimes)},
}

func judgedAs(names ...string) []scenario {
	var list []scenario
	for _, name := range names {
		for _, s := range judged {
			if s.name == name {
				list = append(list, s)
			}
		}
	}
	return list
}

// verdictRow is what became of one judged release.
type verdictRow struct {
	release, traffic, by, metric string
	state                        domain.DeliveryState
	seconds                      float64 // from the first request that next harmed to the last that began on it
	onNext, because, usual       int
	replayed                     bool
}

// verdicts collects the rows of all trials.
type verdicts struct {
	mu   sync.Mutex
	rows []verdictRow
}

// trialsAtOnce is how many two cores bear without becoming slow themselves: who waits for a processor has no latency.
const trialsAtOnce = 3

// Releases of every kind go to visitors of several kinds through the real program, under the limits that hold without a word:
// those that are worse are taken back, those that are not are done, and each verdict can be reached again.
func TestJudgedReleases(t *testing.T) {
	w := newWorld(t, "1s", "")
	list, book, began := shortTrials, &verdicts{}, time.Now()
	if long {
		list = slices.Concat(trials, shortTrials[2:]) // the server dies under all of them
	}
	only := os.Getenv("BELAY_TRIALS")
	wanted := regexp.MustCompile(os.Getenv("BELAY_SCENARIOS"))
	var wg sync.WaitGroup
	var alive sync.RWMutex // held by whoever needs the server to live
	room := make(chan struct{}, trialsAtOnce)
	for _, tr := range list {
		if only != "" && !strings.Contains(only, tr.app) {
			continue
		}
		tr.play = slices.DeleteFunc(slices.Clone(tr.play), func(s scenario) bool { return !wanted.MatchString(s.name) })
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			t.Run(tr.app, func(t *testing.T) { w.newTrial(t, tr, book, &alive).judgeAll() })
		})
	}
	wg.Wait()
	text := book.table()
	t.Logf("%d releases in %s\n%s", len(book.rows), time.Since(began).Round(time.Second), text)
	if path := os.Getenv("BELAY_JUDGE_TABLE"); path != "" {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// court is one trial while it is played.
type court struct {
	*lane
	tr     trial
	server *world // all trials have the same
	book   *verdicts
	alive  *sync.RWMutex
}

func (w *world) newTrial(t *testing.T, tr trial, book *verdicts, alive *sync.RWMutex) *court {
	c := &court{lane: w.newLane(t, kind{app: tr.app, strategy: tr.traffic}, &ledger{}), tr: tr, server: w, book: book, alive: alive}
	c.file = fmt.Sprintf(judgeFile, tr.app, tr.rollout, tr.monitor)
	return c
}

// judgeAll delivers everything. Whatever follows a release that was taken back goes forward by itself.
func (c *court) judgeAll() {
	t := c.t
	first := c.judgeOne(scenario{name: "first", mode: "do=good", ends: done})
	if first.State != domain.DoneState {
		t.Fatalf("the first release is not done: %s", describe(first))
	}
	c.visits = startCrowd(t, c.http, c.app+".localhost", c.tr.kind, c.tr.rate)
	time.Sleep(2 * time.Second) // what was before a rollout needs something to be made of
	for _, s := range c.tr.play {
		if d := c.judgeOne(s); d.State == domain.DoneState && s.name != "good" {
			c.judgeOne(scenario{name: "good after a bad one", mode: "do=good", ends: done}) // nothing is compared with what is bad
		}
	}
	c.visits.stop()
	c.nothingElse()
	c.allBack()
}

// judgeOne delivers one release and asserts how it ends, and that its verdict can be reached again.
func (c *court) judgeOne(s scenario) domain.Delivery {
	t := c.t
	t.Helper()
	s.mode += c.tr.usual
	for _, times := range []string{"5", "20"} {
		n, _ := strconv.ParseFloat(times, 64)
		s.mode = strings.Replace(s.mode, "times="+times+" ", fmt.Sprintf("rate=%.3f ", (n-1)*c.tr.fails), 1)
	}
	c.alive.RLock()
	c.ship(s)
	c.alive.RUnlock()
	if c.app == "killed" && c.visits != nil {
		c.killAmidst()
	}
	d := c.await()
	by := why(d)
	if !s.allows(d.State, by) {
		t.Errorf("%s: it is %s by %q, wanted is %v:\n%s", s.name, d.State, by, s.ends, describe(d))
	}
	if d.State == domain.DoneState {
		c.stable = d
	}
	c.alive.RLock()
	defer c.alive.RUnlock()
	c.serves(s, d)
	if c.visits == nil {
		return d
	}
	time.Sleep(300 * time.Millisecond) // what was open at the end is told
	saw := c.visits.of(domain.ShortCommit(d.Commit))
	row := verdictRow{release: s.name, traffic: c.tr.traffic, by: by, state: d.State, onNext: saw.requests, because: saw.planted, usual: saw.usual}
	if d.State == domain.RolledBackState {
		since := saw.firstBegin
		if !saw.firstPlanted.IsZero() {
			since = saw.firstPlanted
		}
		row.seconds = saw.lastBegin.Sub(since).Seconds()
		_, said, _ := strings.Cut(d.Outcome.Sentence, ": ")
		row.metric, _, _ = strings.Cut(said, ":")
		if s.name == oneSide && !strings.Contains(d.Outcome.Sentence, "POST /api") {
			t.Errorf("%s: the sentence does not name it: %s", s.name, d.Outcome.Sentence)
		}
	}
	code, out := c.belay("explain", strconv.Itoa(d.Number))
	row.replayed = code == 0 && strings.Contains(out, "the same verdict")
	if !row.replayed {
		t.Errorf("%s: explain ends with %d:\n%s", s.name, code, out)
	}
	c.book.add(row)
	t.Logf("%-8s %-28s %-11s %-8s %5.1f s, %4d requests on it, %3d failed because of it: %s", c.app, s.name, d.State, by, row.seconds, row.onNext, row.because, d.Outcome.Sentence)
	return d
}

// killAmidst ends the server while next is judged, and starts it again: the data plane goes on, and so does the evidence.
func (c *court) killAmidst() {
	t := c.t
	t.Helper()
	eventually(t, time.Minute, "next has traffic", func() error {
		r, err := c.routeOf()
		if err == nil && (r.Weight == 0 || r.Next == nil) {
			err = errors.New("next has none")
		}
		return err
	})
	c.alive.Lock()
	defer c.alive.Unlock()
	time.Sleep(500 * time.Millisecond)
	if r, err := c.routeOf(); err != nil || r.Weight == 0 {
		t.Errorf("the server is to die while next is judged: %+v, %v", r, err)
	}
	c.server.killServe()
	time.Sleep(time.Second)
	c.server.start(binaries.belay)
}

func (b *verdicts) add(r verdictRow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows = append(b.rows, r)
}

// table prints one line per release and traffic, in the order of the releases.
func (b *verdicts) table() string {
	var text strings.Builder
	text.WriteString("| release | traffic | ended | who asked | seconds until rollback | requests on next | failed because of it | failed as ever | replayed |\n")
	text.WriteString("|---|---|---|---|---|---|---|---|---|\n")
	good, false1, seen := 0, 0, map[string]bool{}
	for _, s := range judged {
		for _, r := range b.rows {
			if r.release != s.name || seen[s.name] {
				continue
			}
			took, replayed := "–", "same verdict"
			if r.state == domain.RolledBackState {
				took = fmt.Sprintf("%.1f", r.seconds)
			}
			if !r.replayed {
				replayed = "no"
			}
			if r.release == "good" {
				good++
				if r.state != domain.DoneState {
					false1++
				}
			}
			fmt.Fprintf(&text, "| %s | %s | %s | %s | %s | %d | %d | %d | %s |\n", r.release, r.traffic, strings.ReplaceAll(string(r.state), "_", " "),
				strings.TrimSuffix(r.by+": "+r.metric, ": "), took, r.onNext, r.because, r.usual, replayed)
		}
		seen[s.name] = true
	}
	fmt.Fprintf(&text, "\n%d releases, %d of them good: %d of these were taken back. The bound is 1 of 1,000.\n", len(b.rows), good, false1)
	return text.String()
}
