package cli

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/judge/lab"
	"github.com/belay-cd/belay/internal/measure"
	"github.com/belay-cd/belay/internal/web"
)

// replay judges a recording again.
type replay struct {
	name  string
	held  held
	judge *judge.Judge

	own      *judge.Config // what the recording says the rollout was held to
	ticks    int
	from, to time.Time
	boot     string // of the last tick
	next     bool   // next had traffic
	lines    []replayLine
	verdict  judge.Verdict
	told     time.Time // of the newest line
	since    int       // ticks since that

	// What a recording of stable alone is resampled from: its newest seconds, and their latencies together.
	seconds []lab.Second
	oldest  int // place of the oldest second, once there are as many as are kept
	latency measure.Histogram
}

// replayLine is what the judge said at one moment.
type replayLine struct {
	At       time.Time      `json:"at,omitzero"`
	N        int64          `json:"n"`
	Decision judge.Decision `json:"decision"`
	Metric   string         `json:"metric,omitempty"`
	Evidence float64        `json:"evidence"`
	Proof    float64        `json:"proof"`
	Weight   float64        `json:"weight"`
	Next     judge.Total    `json:"next"`
	Stable   judge.Total    `json:"stable"`
}

// keptSeconds bounds what is kept of the traffic of a recording: a day.
const keptSeconds = secondsADay

// tickSpan is how often the evidence is told while the word stays the same. Of a recording of many hours it is told half as
// often for every manyLines lines there are.
const (
	tickSpan  = time.Minute
	manyLines = 120
)

func newReplay(name string, h held) *replay {
	if name == "-" {
		name = "stdin"
	}
	return &replay{name: name, held: h}
}

// errTakenBack ends the reading of a recording: there is no next any more.
var errTakenBack = errors.New("taken back")

func (r *replay) read(ctx context.Context, in io.Reader) (*replay, error) {
	err := readTicks(ctx, r.name, in, r.tick)
	if err != nil && !errors.Is(err, errTakenBack) {
		return nil, err
	}
	if r.ticks == 0 {
		return nil, usage("%s: there is no tick in it", r.name)
	}
	if n := len(r.lines); n > 0 && !errors.Is(err, errTakenBack) && r.since > 0 {
		r.tell(r.to, r.lines[n-1].Weight)
	}
	return r, nil
}

// tick takes one tick in.
func (r *replay) tick(t web.Replayed) error {
	if r.judge == nil {
		r.begin(t.Held)
	}
	r.ticks++
	if r.from.IsZero() {
		r.from = t.At
	}
	again := !t.At.IsZero() && t.Boot != r.boot && t.At.Truncate(time.Second).Equal(r.to.Truncate(time.Second))
	r.to, r.boot = t.At, t.Boot
	r.keep(t.Tick, again)
	if !r.judge.Tick(t.Tick) {
		return nil
	}
	r.verdict = r.judge.Verdict()
	drawn, weight := drawnIn(t.Tick)
	r.next = r.next || drawn
	if !r.next {
		return nil
	}
	r.since++
	n := len(r.lines)
	span := tickSpan << min(n/manyLines, 10)
	due := t.At.Sub(r.told) >= span || t.At.IsZero() && r.since >= int(span/time.Second)
	if n == 0 || r.lines[n-1].Decision != r.verdict.Decision || due {
		r.tell(t.At, weight)
	}
	if r.verdict.Decision == judge.RollBack {
		return errTakenBack
	}
	return nil
}

// begin takes what a file of settings cannot say from the recording, and all the rest where there is no such file.
func (r *replay) begin(own *judge.Config) {
	r.own = own
	if own != nil {
		before, minutes := own.Before, own.Minutes
		if r.held.file == nil {
			r.held.judge = *own
		}
		r.held.judge.Before, r.held.judge.Minutes = before, minutes
	}
	r.judge = judge.New(r.held.judge)
}

// tell keeps a line of the verdict.
func (r *replay) tell(at time.Time, weight float64) {
	v := r.verdict
	r.told, r.since = at, 0
	r.lines = append(r.lines, replayLine{At: at, N: v.N, Decision: v.Decision, Metric: v.Metric, Evidence: v.Evidence, Proof: v.Proof,
		Weight: weight, Next: v.Next, Stable: v.Stable})
}

// keep remembers the traffic while no next had any. Again says that it is another proxy's part of the same second.
func (r *replay) keep(t judge.Tick, again bool) {
	if r.next {
		r.seconds, r.latency = nil, measure.Histogram{}
		return
	}
	var s lab.Second
	for i := range t.Strata {
		side := &t.Strata[i].Stable
		s.Requests += side.Requests
		s.Errors += side.Errors
		r.latency.Merge(side.Latency)
	}
	if n := len(r.seconds); again && n > 0 {
		newest := &r.seconds[(r.oldest+n-1)%n]
		newest.Requests, newest.Errors = newest.Requests+s.Requests, newest.Errors+s.Errors
		return
	}
	if len(r.seconds) < keptSeconds {
		r.seconds = append(r.seconds, s)
		return
	}
	r.seconds[r.oldest] = s
	r.oldest = (r.oldest + 1) % keptSeconds
}

// drawnIn reports whether next was drawn in a tick, and its highest weight.
func drawnIn(t judge.Tick) (bool, float64) {
	drawn, weight := false, 0.0
	for i := range t.Strata {
		n := &t.Strata[i].Next
		drawn = drawn || n.Requests > 0 || n.Drawn > 0
		weight = max(weight, float64(t.Strata[i].Weight)/weightAll)
	}
	return drawn, weight
}

// judged reports whether there was a next to judge.
func (r *replay) judged() bool { return r.next }

// resampled is the recorded traffic of stable.
func (r *replay) resampled(perVisitor float64) lab.Traffic {
	seconds := slices.Concat(r.seconds[r.oldest:], r.seconds[:r.oldest])
	if len(seconds) > 0 && r.latency.Count() > 0 {
		seconds[0].Latency = r.latency.Clone()
	}
	return lab.Traffic{Seconds: seconds, PerVisitor: perVisitor}
}

// origin says where the traffic comes from.
func (r *replay) origin() string {
	return plural(int64(len(r.seconds)), "second", "seconds") + " of " + r.name + ", resampled"
}

// show prints what became of it.
func (r *replay) show(s *session) error {
	if s.json {
		return s.document(r.document())
	}
	return s.say(s.view().replay(r))
}

// replayJSON is what --json prints of a recording.
type replayJSON struct {
	Recording string        `json:"recording"`
	Ticks     int           `json:"ticks"`
	From      *time.Time    `json:"from,omitempty"`
	To        *time.Time    `json:"to,omitempty"`
	Settings  string        `json:"settings"`
	Held      judge.Config  `json:"held"`
	Lines     []replayLine  `json:"lines"`
	Verdict   judge.Verdict `json:"verdict"`
}

func (r *replay) document() replayJSON {
	d := replayJSON{Recording: r.name, Ticks: r.ticks, Settings: r.settings(), Held: r.held.judge, Lines: r.lines, Verdict: r.verdict}
	if !r.from.IsZero() {
		d.From, d.To = &r.from, &r.to
	}
	return d
}

// settings says where what it was judged by stands.
func (r *replay) settings() string {
	switch {
	case r.held.name != "":
		return r.held.name
	case r.own != nil:
		return "those of the rollout"
	default:
		return "the defaults"
	}
}
