package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/judge/lab"
	"github.com/belay-cd/belay/internal/web"
)

func TestWhatCanBeAsked(t *testing.T) {
	for text, want := range map[string]float64{
		"50/s": 50, "3000/min": 50, "180000/h": 50, " 0.5 / s ": 0.5, "86400/day": 1, "12/minute": 0.2,
		"": -1, "50": -1, "-5/s": -1, "NaN/s": -1, "Inf/s": -1, "1e308/s": -1, "1e3/s": -1, "0/s": -1, "0x10/s": -1, "50/week": -1,
		"99999999999999999999999/s": -1, "2000000/s": -1, "5/s/s": -1,
	} {
		if got, err := perSecond("--rate", text); (err != nil) != (want < 0) || err == nil && math.Abs(got-want) > 1e-9 {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]float64{
		"0.1%": 0.001, "0%": 0, "99%": 0.99, "1": -1, "0.1": -1, "-1%": -1, "100%": -1, "NaN%": -1, "1e308%": -1, "%": -1, "1e-400%": -1, "5%%": -1,
	} {
		if got, err := fraction("--errors", text, 0, 0.99); (err != nil) != (want < 0) || err == nil && math.Abs(got-want) > 1e-12 {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]time.Duration{
		"20ms": 20 * time.Millisecond, "1.5s": 1500 * time.Millisecond, "1h30m": 90 * time.Minute, "20 ms": 20 * time.Millisecond,
		"20": 0, "-1s": 0, "0s": 0, "NaN": 0, "9999999h": 0, "": 0, "2h1ms": 0,
	} {
		if got, err := stretch("--within", text, 2*time.Hour); (err != nil) != (want == 0) || err == nil && got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestHarmIsNamed(t *testing.T) {
	for text, want := range map[string]harm{
		"errors x2": {errors: 2}, "errors ×2": {errors: 2}, "Errors  2x": {errors: 2}, "errors x 1.5": {errors: 1.5}, "errors +50%": {errors: 1.5},
		"errors 2%": {rate: 0.02}, "errors 100%": {rate: 1}, "all fail": {rate: 1}, "latency +50%": {latency: 1.5}, "latency x2": {latency: 2},
	} {
		got, err := seen(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if again, err := seen(strings.ReplaceAll(got.String(), " %", "%")); err != nil || again != got {
			t.Errorf("%q is written as %q and read as %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "errors", "crashes", "errors x1", "errors x0.5", "errors xNaN", "errors x1e308", "errors -5%", "errors 101%",
		"latency 50%", "latency +0%", "latency -5%", "errors x2 x3", "latency x", "errors +NaN%", "all", "errors x999999999"} {
		if h, err := seen(text); err == nil || domain.HintOf(err) == "" {
			t.Errorf("%q: %+v, %v", text, h, err)
		}
	}
	if e := (harm{rate: 0.02}).effect(0.001); math.Abs(e.Fail+0.001*(1-e.Fail)-0.02) > 1e-12 {
		t.Errorf("a rate of 2 %% beside one of 0.1 %%: %+v", e)
	}
}

// asks is what flags and a file come to.
func asks(t *testing.T, o simulateOptions, h held) (simulation, error) {
	t.Helper()
	o.perVisitor, o.seed = 1, 1
	if o.runs == 0 {
		o.runs = 20
	}
	g, err := o.parse()
	if err != nil {
		return simulation{}, err
	}
	g.source = "as the flags have it"
	return g.question(h)
}

func TestPlansOfFiles(t *testing.T) {
	file := func(rest string) *config.File {
		f, findings := config.Parse("belay.yaml", []byte(strings.Replace(projectFile, "rollout: { strategy: blue-green }\n", rest, 1)), serverBounds)
		if config.Failed(findings, false) {
			t.Fatalf("%s: %+v", rest, findings)
		}
		return f
	}
	for rest, want := range map[string]string{
		"": "5 % for 15m, 50 % for 15m, 95 % for 1h00m",
		"rollout: { steps: [10% for 5m, 30% until proved within 20m] }\nmonitor: { for: 30m, holdback: 1% }\n": "10 % for 5m, 30 % for 20m, 99 % for 30m",
		"monitor: { holdback: 0% }\n":                                     "5 % for 15m, 50 % for 15m",
		"rollout: { strategy: blue-green }\n":                             "95 % for 1h00m",
		"rollout: { strategy: blue-green }\nmonitor: { holdback: 10% }\n": "90 % for 1h00m",
		"rollout: { strategy: rolling, min_soak: 3m }\n":                  "50 % for 3m",
	} {
		plan, note := planOf(file(rest))
		if got := rolloutText(plan); got != want {
			t.Errorf("%q: %s, not %s", rest, got, want)
		}
		if quiet := rest == "" || strings.Contains(rest, "holdback: 1"); quiet != (note == "") {
			t.Errorf("%q: note %q", rest, note)
		}
	}
	h := heldTo(file("guard: { false_rollbacks: 1%, margin: 10%, error_floor: 0.5% }\n"), "belay.yaml")
	if c := h.judge; c.Alpha != 0.01 || c.Margin != 1.1 || c.Floor != 0.005 || c.Ratio != config.JudgeRatio || c.Minutes != 90 {
		t.Errorf("%+v", c)
	}
}

func TestWhatCannotBeAsked(t *testing.T) {
	traffic := simulateOptions{rate: "50/s", errors: "0.1%"}
	for want, change := range map[string]func(*simulateOptions){
		"not below --p95":          func(o *simulateOptions) { o.p50, o.p95 = "80ms", "80ms" },
		"both --p50 and --p95":     func(o *simulateOptions) { o.p50 = "80ms" },
		"it is 1 to 10,000":        func(o *simulateOptions) { o.runs = 10001 },
		"the latency is not known": func(o *simulateOptions) { o.see = "latency x2" },
		"has 0.1 % of errors":      func(o *simulateOptions) { o.see = "errors 0.05%" },
		"more than all":            func(o *simulateOptions) { o.see = "errors x2000" },
		"it is 0.01 % to 99 %":     func(o *simulateOptions) { o.weight = "100%" },
		"nothing is nothing":       func(o *simulateOptions) { o.errors, o.see = "0%", "errors x2" },
	} {
		o := traffic
		change(&o)
		if _, err := asks(t, o, defaultHeld()); err == nil || domain.CodeOf(err) != domain.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if _, err := (simulateOptions{rate: "50/s", perVisitor: math.NaN(), runs: 1}).parse(); err == nil {
		t.Error("NaN requests of a visitor")
	}
}

// A forecast is the same for the same seed, and says what it must of traffic that is too little.
func TestForecast(t *testing.T) {
	q, err := asks(t, simulateOptions{rate: "50/s", errors: "0.1%", p50: "20ms", p95: "80ms", weight: "5%", within: "15m"}, defaultHeld())
	if err != nil {
		t.Fatal(err)
	}
	still := func() time.Time { return begun }
	out, err := q.answer(t.Context(), still)
	if err != nil {
		t.Fatal(err)
	}
	again, err := q.answer(t.Context(), still)
	if a, b := fmt.Sprintf("%+v", out), fmt.Sprintf("%+v", again); err != nil || a != b {
		t.Errorf("the same seed says\n%s\nand\n%s", a, b)
	}
	narrow(t, at(0).simulation(q, out))
	for i, want := range map[int]string{0: "no worse", 1: "errors ×2", 4: "all fail", 5: "latency +20 %", 6: "latency +50 %"} {
		if out.Answers[i].Release != want {
			t.Errorf("%d: %s, not %s", i, out.Answers[i].Release, want)
		}
	}
	if f := out.Answers[4]; f.Found != 1 || f.Seconds.Median > 10 || f.Failed.Median > 30 {
		t.Errorf("all fail: %+v", f)
	}
	if s := out.Wish.Sentence; !strings.Contains(s, "cannot show errors ×2 of 0.1 % to anyone") {
		t.Error(s)
	}
}

// same fails when colours say something that the words do not.
func same(t *testing.T, plain string, draw func(view) string) {
	t.Helper()
	coloured := at(0)
	coloured.paint.on = true
	if got := draw(coloured); ansi.Strip(got) != plain || got == plain {
		t.Errorf("with colours it says something else:\n%s", got)
	}
}

func TestSimulationIsDrawn(t *testing.T) {
	h := defaultHeld()
	q := simulation{held: h, traffic: lab.Traffic{Rate: 50, Errors: 0.001, P50: 20 * time.Millisecond, P95: 80 * time.Millisecond},
		source: "as the flags have it", planFrom: "the defaults have", seed: 7, runs: 200, harms: asked,
		wish: wish{harm: harm{errors: 5}, within: 15 * time.Minute}}
	q.plan, q.note = planOf(nil)
	row := func(h harm, found []float64, after, failed lab.Spread) answerJSON {
		return answerJSON{Release: h.String(), Runs: 200, Steps: found, Found: found[2], Seconds: after, Failed: failed}
	}
	out := simulationJSON{Settings: "the defaults", Held: h.judge, Runs: 200, Seed: 7, Took: 1.9,
		Traffic: trafficJSON{Rate: 50, Errors: 0.001, P50: 0.02, P95: 0.08, PerVisitor: 1, Source: "as the flags have it"},
		Plan:    []stepJSON{{0.05, 900, 2250, 9.1, 0.0092}, {0.5, 900, 22500, 4, 0.0041}, {0.95, 3600, 171000, 0, 0.0043}},
		Answers: []answerJSON{
			row(none, []float64{0, 0, 0.001}, lab.Spread{}, lab.Spread{}),
			row(asked[0], []float64{0, 0.05, 0.1}, lab.Spread{}, lab.Spread{}),
			row(asked[1], []float64{0.27, 1, 1}, lab.Spread{Median: 969, P90: 1259}, lab.Spread{Median: 23, P90: 50}),
			row(asked[3], []float64{1, 1, 1}, lab.Spread{Median: 2, P90: 3}, lab.Spread{Median: 5, P90: 7}),
			{Release: "latency +20 %", Tolerated: "no harm: guard.margin allows +20 %"},
			row(asked[5], []float64{1, 1, 1}, lab.Spread{Median: 159, P90: 240}, lab.Spread{Median: 2, P90: 3}),
		}}
	out.Answers[0].Proved, out.Answers[0].Runs = lab.Spread{Median: 1331, P90: 2480}, 20
	out.Wish = wishJSON{See: "errors ×5", Within: 900, Weight: 0.05, Found: 0.27, NeededWeight: 0.15, NeededTime: 1600}
	out.Wish.Sentence = q.wishSentence(out.Wish)
	draw := func(v view) string { return v.simulation(q, out) }
	text := draw(at(0))
	narrow(t, text)
	golden(t, "simulate", text)
	same(t, text, draw)
	for want, w := range map[string]wishJSON{
		"errors ×5 of 0.1 % is seen in 96 % of the rollouts": {Weight: 0.05, Found: 0.96},
		": 15 % would, and no day at 5 %":                    {Weight: 0.05, NeededWeight: 0.15},
		": 1h30m would, and no weight up to 50 % within 15m": {Weight: 0.05, NeededTime: 4000},
		": no weight up to 50 % would, and no day":           {Weight: 0.05},
		"with guard.error_floor: 0.05%; it is 0.1% now":      {Weight: 0.05, Floor: 0.0005},
	} {
		if got := q.wishSentence(w); !strings.Contains(got, want) {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

func TestReplayIsDrawn(t *testing.T) {
	line := func(second int, d judge.Decision, evidence float64, next, stable judge.Total, metric string) replayLine {
		return replayLine{At: begun.Add(time.Duration(second) * time.Second), Decision: d, Metric: metric, Evidence: evidence, Weight: 0.05, Next: next, Stable: stable}
	}
	r := &replay{name: "143.jsonl", held: defaultHeld(), own: &judge.Config{}, ticks: 112, from: begun, to: begun.Add(111 * time.Second),
		lines: []replayLine{
			line(0, judge.NoData, 1, judge.Total{}, judge.Total{Requests: 284}, ""),
			line(1, judge.Watch, 0.02, judge.Total{Requests: 11}, judge.Total{Requests: 600}, "errors"),
			line(61, judge.Watch, 212.4, judge.Total{Requests: 704, Errors: 4}, judge.Total{Requests: 13806, Errors: 3}, "errors"),
			line(111, judge.RollBack, 1904, judge.Total{Requests: 1302, Errors: 7}, judge.Total{Requests: 25698, Errors: 5}, "errors of GET /v1/search"),
		},
		verdict: judge.Verdict{Decision: judge.RollBack, Needed: 1111.1, Sentence: "7 of 1,302 requests to next failed; stable had 5 of 25,698. If the new release were no worse, evidence this strong would turn up in fewer than 1 of 1,000 releases"}}
	draw := func(v view) string { return v.replay(r) }
	text := draw(at(0))
	narrow(t, text)
	golden(t, "replay", text)
	same(t, text, draw)
}

func TestTicksAreDrawn(t *testing.T) {
	var b strings.Builder
	first := true
	for _, tick := range []web.Replayed{
		{Environment: domain.Production, Held: &defaultConfig, Tick: judge.Tick{N: 1, At: begun, Strata: []judge.Stratum{{Weight: 500, Stable: judge.Side{Requests: 284}}}},
			Decision: judge.NoData, Evidence: 1, Needed: 1111.1},
		{Tick: judge.Tick{N: 2, At: begun.Add(time.Second), Strata: []judge.Stratum{{Weight: 500, Next: judge.Side{Requests: 14, Errors: 3}, Stable: judge.Side{Requests: 301, Errors: 1}}}},
			Decision: judge.RollBack, Metric: "errors of GET /v1/search", Evidence: 22100, Needed: 1111.1},
		{Tick: judge.Tick{N: 3}},
	} {
		if first {
			b.WriteString(at(0).tickHead(rolledBackSample(), tick))
			first = false
		}
		b.WriteString(at(0).tick(tick))
	}
	narrow(t, b.String())
	golden(t, "ticks", b.String())
}

var defaultConfig = defaultHeld().judge

func TestWish(t *testing.T) {
	for want, o := range map[string]simulateOptions{
		"500 requests/s × 5 % × 2m: errors ×20 of 0.1 % is seen in ": {rate: "500/s", errors: "0.1%", see: "errors x20", weight: "5%", within: "2m"},
		" % would, or ":                 {rate: "200/s", errors: "0.1%", see: "errors x5", weight: "1%", within: "5m"},
		"no harm: guard.margin allows ": {rate: "50/s", errors: "0.1%", p50: "20ms", p95: "80ms", see: "latency +20%", weight: "5%"},
		"no harm: 0.05 points more":     {rate: "50/s", errors: "0.1%", see: "errors +50%", weight: "5%"},
	} {
		q, err := asks(t, o, defaultHeld())
		if err != nil {
			t.Fatal(err)
		}
		if got := q.wished().Sentence; !strings.Contains(got, want) {
			t.Errorf("%s, not %s", got, want)
		}
	}
}

func TestCtrlCEndsAForecast(t *testing.T) {
	q, err := asks(t, simulateOptions{rate: "1000/s", errors: "0.1%", runs: 10000}, defaultHeld())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errInterrupted)
	q.plan = []lab.Step{{Weight: 500, Hold: time.Minute}} // it ends by itself soon after the test
	q.runs = 20
	if _, err := q.answer(ctx, time.Now); !errors.Is(err, errInterrupted) {
		t.Errorf("%v", err)
	}
}

func replayed(t *testing.T, h held, text []byte) (*replay, error) {
	t.Helper()
	return newReplay("ticks.jsonl", h).read(t.Context(), bytes.NewReader(text))
}

func TestRecordingsAreJudgedAgain(t *testing.T) {
	c := defaultHeld().judge
	bad := recorded(t, c, made(lab.Effect{Fail: 0.2}, 180, 500))
	r, err := replayed(t, defaultHeld(), bad)
	if err != nil {
		t.Fatal(err)
	}
	narrow(t, at(0).replay(r))
	if !r.judged() || r.verdict.Decision != judge.RollBack || r.ticks > 60 {
		t.Errorf("%d ticks: %+v", r.ticks, r.verdict)
	}
	good, err := replayed(t, defaultHeld(), recorded(t, c, made(lab.Effect{}, 300, 500)))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(good.lines); good.verdict.Decision != judge.Watch || n < 5 || n > 8 {
		t.Errorf("%d lines: %+v", n, good.lines)
	}
	// Stricter settings see more, looser ones less: the file's hold, and what it cannot say is the recording's.
	loose := defaultHeld()
	loose.file, loose.name, loose.judge.Floor = &config.File{}, "belay.yaml", 0.5
	c.Minutes = 7
	other, err := replayed(t, loose, recorded(t, c, made(lab.Effect{Fail: 0.2}, 180, 500)))
	if err != nil || other.verdict.Decision == judge.RollBack || other.held.judge.Minutes != 7 || other.settings() != "belay.yaml" {
		t.Errorf("%s by %+v: %v", other.verdict.Decision, other.held.judge, err)
	}
	if doc, err := json.Marshal(r.document()); err != nil || !bytes.Contains(doc, []byte(`"decision":"roll_back"`)) {
		t.Errorf("%s: %v", doc, err)
	}
}

// What only stable served is traffic.
func TestRecordingOfStableIsResampled(t *testing.T) {
	ticks := made(lab.Effect{}, 120, 0)
	r, err := replayed(t, defaultHeld(), recorded(t, defaultHeld().judge, ticks))
	if err != nil || r.judged() {
		t.Fatalf("%v, judged %t", err, r != nil && r.judged())
	}
	o := simulateOptions{perVisitor: 1, runs: 20, seed: 1, weight: "5%", within: "2m"}
	g, err := o.parse()
	if err != nil {
		t.Fatal(err)
	}
	g.traffic, g.source = r.resampled(1), r.origin()
	q, err := g.question(defaultHeld())
	if err != nil {
		t.Fatal(err)
	}
	if got := q.rate(); math.Abs(got-300) > 10 || !q.timed() || g.source != "120 seconds of ticks.jsonl, resampled" {
		t.Errorf("%g requests/s, timed %t, %s", got, q.timed(), g.source)
	}
	out, err := q.answer(t.Context(), time.Now)
	if err != nil || out.Answers[4].Found < 0.9 {
		t.Errorf("%+v, %v", out.Answers, err)
	}
}

func TestBrokenRecordings(t *testing.T) {
	ok := `{"boot":"b","n":1,"strata":[{"weight":500,"next":{"requests":2},"stable":{"requests":40}}]}` + "\n"
	for line, want := range map[string]string{
		`{"boot":"b","n":2,"strata":[`:     "2: cut off in the middle",
		`nonsense`:                         "2: not a tick: invalid character 'o'",
		`[]`:                               "2: ",
		`{"boot":"b"}`:                     "2: n is 0",
		`{"boot":"b","n":-4}`:              "2: n is -4",
		`{"boot":"b","n":2,"stratums":[]}`: `2: not a tick: json: unknown field "stratums"`,
		`{"boot":"b","n":2,"strata":[{"weight":500,"next":{"requests":-1}}]}`:                                  "2: strata[0].next.requests is -1",
		`{"boot":"b","n":2,"strata":[{"weight":500,"next":{"requests":1e308}}]}`:                               "2: strata.next.requests: number 1e308 does not fit",
		`{"boot":"b","n":2,"strata":[{"weight":500,"next":{"requests":NaN}}]}`:                                 "2: not a tick: invalid character 'N'",
		`{"boot":"b","n":2,"strata":[{"weight":500,"next":{"requests":1.5}}]}`:                                 "2: strata.next.requests: number 1.5 does not fit",
		`{"boot":"b","n":2,"strata":[{"weight":500,"stable":{"failed":9000000000}}]}`:                          "2: strata[0].stable.failed is 9000000000",
		`{"boot":"b","n":2,"strata":[{"weight":10001}]}`:                                                       "2: strata[0].weight is 10001",
		`{"boot":"b","n":2,"strata":[{"next":{"latency":[[5,9223372036854775807],[6,9223372036854775807]]}}]}`: "2: strata[0].next.latency is 9223372036854775807",
		`{"boot":"b","n":2,"strata":[{"next":{"latency":[[99999,1]]}}]}`:                                       "2: not a tick: histogram: bucket 99999",
		`{"boot":"b","n":2,"strata":[{"next":{"parts":[{"name":"a","errors":-2}]}}]}`:                          "2: strata[0].next.parts[0].errors is -2",
		`{"boot":"b","n":2} {"boot":"b","n":3}`:                                                                "2: not a tick: something follows",
		`{"rollout":"a","boot":"b","n":2}` + "\n" + `{"rollout":"z","boot":"b","n":3}`:                         "3: another rollout begins here",
		strings.Repeat("x", maxTickLine+1):                                                                     "2: longer than 8 MiB",
	} {
		_, err := replayed(t, defaultHeld(), []byte(ok+line+"\n"))
		if err == nil || domain.CodeOf(err) != domain.Invalid || !strings.HasPrefix(err.Error(), "ticks.jsonl:"+want) {
			t.Errorf("%s: %v, not %s", clip(line, 100), err, want)
		}
	}
	if _, err := replayed(t, defaultHeld(), []byte("\n\n")); err == nil || !strings.Contains(err.Error(), "no tick in it") {
		t.Errorf("an empty one: %v", err)
	}
	// What is hostile and still a count must neither fire nor pass, and must not become a number that is none.
	r, err := replayed(t, defaultHeld(), []byte(`{"boot":"b","n":1,"strata":[{"weight":500,"next":{"requests":0,"errors":1000000000,"failed":1000000000}}]}`))
	if err != nil || r.judged() {
		t.Errorf("%+v, %v", r, err)
	}
}

// endless is a recording that is made while it is read.
type endless struct {
	line []byte
	left int
	rest []byte
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		if e.left--; e.left < 0 {
			return 0, io.EOF
		}
		e.rest = bytes.Replace(e.line, []byte(`"n":1,`), fmt.Appendf(nil, `"n":%d,`, 1_000_000-e.left), 1)
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// A long recording takes no more memory than a short one.
func TestLongRecordingTakesLittleMemory(t *testing.T) {
	line, err := json.Marshal(made(lab.Effect{}, 1, 0)[0])
	if err != nil {
		t.Fatal(err)
	}
	line = append(line, '\n')
	in := &endless{line: line, left: 24_000_000 / len(line)}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r, err := newReplay("long", defaultHeld()).read(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&now)
	if grown := int64(now.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("%d ticks take %d MiB", r.ticks, grown>>20)
	}
	if n := len(r.resampled(1).Seconds); n != min(r.ticks, keptSeconds) {
		t.Errorf("%d seconds of %d", n, r.ticks)
	}
	t.Logf("%d ticks", r.ticks)
}

func TestFilesThatAreNeither(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.txt": "hello", "empty": " \n", "z.jsonl": `{"boot":"b","n":1}` + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := &session{dir: dir}
	for name, want := range map[string]string{"a.txt": "neither", "empty": "it is empty", "missing": "no such file"} {
		if _, _, err := (simulateOptions{file: name}).open(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f, file, err := (simulateOptions{file: "z.jsonl"}).open(s)
	if err != nil || f == nil || file != "" {
		t.Fatalf("%v, %s, %v", f, file, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if f, file, err := (simulateOptions{file: "shop.yaml"}).open(s); err != nil || f != nil || file != filepath.Join(dir, "shop.yaml") {
		t.Errorf("%v, %s, %v", f, file, err)
	}
}

// The page's example of a recording is one.
func TestTheExampleOfARecording(t *testing.T) {
	page, err := os.ReadFile("../../docs/simulate.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "```json\n")
	example, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("the page has no example")
	}
	r, err := replayed(t, defaultHeld(), []byte(example))
	if err != nil || !r.judged() || r.verdict.Next != (judge.Total{Requests: 14, Errors: 1}) {
		t.Errorf("%v: %+v", err, r)
	}
}
