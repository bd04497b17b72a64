package lab

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/judge"
)

// The environment of the long benchmark: the file its tables are written to, and how many rollouts are played of errors, of
// latency and of each effect.
const (
	benchFile    = "BELAY_JUDGE_TABLE"
	benchErrors  = "BELAY_JUDGE_ERRORS"
	benchLatency = "BELAY_JUDGE_LATENCY"
	benchPower   = "BELAY_JUDGE_POWER"
	benchOnly    = "BELAY_JUDGE_ONLY" // the parts that are played: power, latency, wrong, errors, edges, slow; all of them when empty
)

// bench is one run of the benchmark.
type bench struct {
	t                      *testing.T
	out                    strings.Builder
	file                   string
	errors, latency, power int
	began                  time.Time
}

// TestBenchmark plays all that docs/judge.md says, in an hour or so: make bench-judge.
func TestBenchmark(t *testing.T) {
	if os.Getenv(benchFile) == "" {
		t.Skip("a long benchmark: make bench-judge")
	}
	b := &bench{t: t, file: os.Getenv(benchFile), errors: number(t, benchErrors, 100_000), latency: number(t, benchLatency, 10_000), power: number(t, benchPower, 1000),
		began: time.Now()}
	b.say("Run on %d cores (%s) on %s.\n", runtime.GOMAXPROCS(0), runtime.Version(), b.began.UTC().Format("2 January 2006"))
	for _, part := range []struct {
		name string
		play func()
	}{
		{"power", b.harmByErrors}, {"latency", b.harmByLatency}, {"wrong", b.wrongModes}, {"errors", b.nullsOfErrors},
		{"edges", b.edges}, {"slow", b.nullsOfLatency},
	} {
		if only := os.Getenv(benchOnly); only != "" && !strings.Contains(only, part.name) {
			continue
		}
		from := time.Now()
		part.play()
		t.Logf("%s: %s", part.name, time.Since(from).Round(time.Second))
	}
	b.say("\nIt took %s.", time.Since(b.began).Round(time.Minute))
}

func number(t *testing.T, name string, usual int) int {
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q is no number of rollouts", name, text)
	}
	return n
}

// say adds a line to the file; whoever waits may read what is there.
func (b *bench) say(format string, args ...any) {
	b.t.Helper()
	fmt.Fprintf(&b.out, format+"\n", args...)
	if err := os.MkdirAll(filepath.Dir(b.file), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.file, []byte(b.out.String()), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// heads begins a table.
func (b *bench) heads(title string, cells ...string) {
	b.say("\n%s\n\n| %s |\n|%s", title, strings.Join(cells, " | "), strings.Repeat("---|", len(cells)))
}

func (b *bench) row(cells ...string) { b.say("| %s |", strings.Join(cells, " | ")) }

// holds fails the benchmark when so many of n are surely more than bound.
func (b *bench) holds(what string, k, n int, bound float64) {
	if surelyAbove(k, n, bound) {
		b.t.Errorf("%s: %d of %d, the bound is %g", what, k, n, bound)
	}
}

// nulls plays worlds in which next is no worse.
func (b *bench) nulls(title string, worlds []World, c judge.Config, e Effect, runs int) {
	b.heads(title+", in per cent, with the upper end of the 95 % interval", "world", "rollouts", "judge, α = 5 %", "1 %", "0.1 %", "with the fixed triggers, 5 %", "1 %", "0.1 %")
	for i, w := range worlds {
		got := trial{world: w, effect: e, config: c, runs: runs, ticks: 1800, seed: uint64(i + 1), whole: true}.run()
		cells := []string{w.Name, strconv.Itoa(got.runs)}
		for _, list := range [][len(alphas)]int{got.crossed, got.whole} {
			for j, a := range alphas {
				cells = append(cells, share(list[j], got.runs))
				b.holds(w.Name, list[j], got.runs, a)
			}
		}
		b.holds(w.Name+", the decision", got.decided, got.runs, c.Alpha)
		b.row(cells...)
	}
}

func (b *bench) nullsOfErrors() {
	b.nulls("**Blamed though no worse, by errors** (ratio 1, no floor: next exactly as good as stable; 1,800 s each)",
		errorWorlds(), bare(), Effect{}, b.errors)
	b.nulls("**The same at the defaults** (ratio 1.25, floor 0.1 points)", errorWorlds(), defaults(), Effect{}, max(1, b.errors/10))
}

func (b *bench) nullsOfLatency() {
	b.nulls("**Blamed though no worse, by latency** (margin 1)", latencyWorlds(), bare(), Effect{}, b.latency)
}

// edges plays releases that lie exactly on the border.
func (b *bench) edges() {
	c := defaults()
	c.Floor = 0
	b.nulls("**On the edge of harm**: next fails exactly 1.25 times as often, the ratio that is allowed; no floor", errorWorlds()[:6], c,
		Effect{Errors: c.Ratio}, max(1, b.errors/10))
	b.heads("**Called proved though on the edge of harm** (β = 5 %)", "release", "rollouts", "proved, per cent")
	for i, one := range edgeReleases() {
		got := trial{world: one.world, effect: one.effect, config: one.config, runs: max(1, b.latency/5), ticks: 1800, seed: uint64(100 + i)}.run()
		b.holds(one.effect.Name, got.promoted, got.runs, one.config.Beta)
		b.row(one.effect.Name, strconv.Itoa(got.runs), share(got.promoted, got.runs))
	}
}

// edgeReleases are just as bad as what is harm.
func edgeReleases() []trial {
	noLatency := defaults()
	noLatency.Margin = 0
	slow := defaults()
	slow.Grain = 0
	quick := World{Rate: 200, Errors: 0.0001, Weight: 1000, Latency: usualLatency}
	return []trial{
		{world: World{Rate: 500, Errors: 0.001, Weight: 2000}, effect: Effect{Name: "0.2 % of its requests fail, 0.1 % of stable's", Errors: 2}, config: noLatency},
		{world: World{Rate: 500, Errors: 0.02, Weight: 2000}, effect: Effect{Name: "2.5 % of its requests fail, 2 % of stable's", Errors: 1.25}, config: noLatency},
		{world: quick, effect: Effect{Name: "all its requests take 1.2 times as long", Latency: 1.2}, config: slow},
	}
}

func (b *bench) wrongModes() {
	b.heads("**Modes that are wrong** and must be caught by this simulation (α = 1 %)", "mode", "rollouts", "blamed, per cent", "the right mode, per cent")
	for _, m := range wrongModes(max(100, b.latency/10)) {
		wrong, right := m.wrong.run(), m.right.run()
		if !surelyAbove(wrong.crossed[1], wrong.runs, alphas[1]) {
			b.t.Errorf("%s is not caught: %d of %d", m.name, wrong.crossed[1], wrong.runs)
		}
		b.holds(m.name+", the right mode", right.crossed[1], right.runs, alphas[1])
		b.row(m.name, strconv.Itoa(wrong.runs), share(wrong.crossed[1], wrong.runs), share(right.crossed[1], right.runs))
	}
}

// wrongMode is a way to use the judge that its promise does not hold for.
type wrongMode struct {
	name         string
	wrong, right trial
}

func wrongModes(runs int) []wrongMode {
	var list []wrongMode
	add := func(name string, wrong, right World, e Effect, worse, better judge.Config) {
		seed := uint64(len(list) + 1)
		list = append(list, wrongMode{name, trial{wrong, e, worse, runs, 1800, seed, false}, trial{right, e, better, runs, 1800, seed, false}})
	}
	for _, weight := range []int{500, 5000} {
		w := World{Rate: 50, Errors: 0.001, Weight: weight, Visitors: &crowd}
		perRequest := crowd
		perRequest.PerRequest = true
		bad := w
		bad.Visitors = &perRequest
		add(fmt.Sprintf("visitors who keep their release, counted per request, %d %%", weight/100), bad, w, Effect{}, bare(), bare())
	}
	rhythm := World{Rate: 100, Errors: 0.005, Weight: 2000}
	counter := rhythm
	counter.Deal = Counter
	add("a plain counter as split, and a client with its rhythm", counter, rhythm, Effect{}, bare(), bare())
	slow := World{Rate: 200, Errors: 0.001, Weight: 1000, Latency: usualLatency}
	margin := bare()
	margin.Margin = 1.1
	add("no margin, and an instance that is 3 % slower by chance (right: margin 1.1)", slow, slow, Effect{Latency: 1.03}, bare(), margin)
	return list
}

// canary is the traffic of the goals: 500 requests a second, 0.1 % errors, 5 %.
var canary = World{Rate: 500, Errors: 0.001, Weight: 500}

func (b *bench) harmByErrors() {
	names := []string{"release"}
	for _, r := range racers(1, true) {
		names = append(names, r.name)
	}
	b.heads(fmt.Sprintf("**Failed requests of next until it is taken back**: 500 requests/s, 0.1 %% errors, canary of 5 %%, at most an hour; medians of %d "+
		"releases with their 95 %% intervals, and the median of seconds", b.power), names...)
	for i, goal := range errorGoals {
		// What each racer needs is measured over the same traffic.
		list := racers(goal.times, true)
		got := race{canary, goal.effect, b.power, 3600 + int(goal.effect.After.Seconds()), uint64(i + 1)}.run(list)
		cells := []string{goal.effect.Name}
		for _, f := range got {
			cells = append(cells, fmt.Sprintf("%s in %s s", medianOf(f.failed), medianOf(f.seconds)))
		}
		b.row(cells...)
		goal.check(b.t, got)
	}
	b.goodReleases()
}

// goodReleases is how often each of them takes back a release with which nothing is wrong.
func (b *bench) goodReleases() {
	cells := []string{"a good release: share taken back"}
	for _, f := range (race{canary, Effect{}, b.power, 3600, 99}.run(racers(2, true))) {
		back := 0
		for _, seconds := range f.seconds {
			back += count(!math.IsInf(seconds, 1))
		}
		cells = append(cells, share(back, b.power)+" %")
	}
	b.row(cells...)
}

func (b *bench) harmByLatency() {
	var names []string
	for _, r := range racers(1, false) {
		names = append(names, r.name)
	}
	b.heads("**Seconds until a slow release is taken back**: 50 requests/s, canary of 5 %, p50 20 ms, p95 46 ms unless said otherwise", append([]string{"release"}, names...)...)
	for i, goal := range latencyGoals {
		got := race{goal.world, goal.effect, b.power, 3600, uint64(i + 1)}.run(racers(1, false))
		cells := []string{goal.effect.Name}
		for _, f := range got {
			cells = append(cells, medianOf(f.seconds).String())
		}
		b.row(cells...)
		goal.check(b.t, got)
	}
}
