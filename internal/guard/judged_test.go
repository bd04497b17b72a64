package guard

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-cd/belay/internal/judge"
)

// The judge's word stands behind what needs no statistics, and before the fixed triggers of errors.
func TestTheJudgeIsATrigger(t *testing.T) {
	calm := constant(side(50, 0, 20*ms), side(50, 0, 20*ms))
	failing := constant(side(50, 0, 20*ms), side(50, 5, 20*ms))
	both := constant(side(50, 10, 20*ms), side(50, 10, 20*ms))
	says := func(d judge.Decision) func(*History) {
		return func(h *History) { h.Evidence = &judge.Verdict{Decision: d, Sentence: "says the judge"} }
	}
	unsuspecting := func(evidence float64, history bool) func(*History) {
		return func(h *History) {
			h.Evidence = &judge.Verdict{Decision: judge.Watch, Evidence: evidence, Needed: 1111, History: history,
				Next: judge.Total{Requests: 9000}, Stable: judge.Total{Requests: 9000}}
		}
	}
	sick := func(h *History) { h.Next = []Instance{{Name: "web/0", Failed: 2, Message: "503"}} }
	for name, c := range map[string]struct {
		v        Verdict
		kind     Kind
		trigger  string
		sentence string
	}{
		"takes back":            {verdictOn(9, calm, says(judge.RollBack)), RollBack, "judge", "says the judge"},
		"holds":                 {verdictOn(9, calm, says(judge.Hold)), Hold, "judge", "says the judge"},
		"watches":               {verdictOn(9, calm, says(judge.Watch)), Calm, "", ""},
		"proves":                {verdictOn(9, calm, says(judge.Promote)), Calm, "", ""},
		"saw nothing":           {verdictOn(9, calm, says(judge.NoData)), Calm, "", ""},
		"after health":          {verdictOn(9, calm, says(judge.RollBack), sick), RollBack, "health", ""},
		"before errors":         {verdictOn(200, failing, says(judge.RollBack)), RollBack, "judge", "says the judge"},
		"a hold gives way":      {verdictOn(200, failing, says(judge.Hold)), RollBack, "errors", ""},
		"proved, and errors":    {verdictOn(200, failing, says(judge.Promote)), RollBack, "errors", ""},
		"few visitors":          {verdictOn(200, failing, unsuspecting(5, false)), Hold, "errors", ""},
		"he suspects it too":    {verdictOn(200, failing, unsuspecting(500, false)), RollBack, "errors", ""},
		"only history":          {verdictOn(200, failing, unsuspecting(5, true)), RollBack, "errors", ""},
		"takes back, both fail": {verdictOn(200, both, says(judge.RollBack)), RollBack, "judge", ""},
	} {
		if c.v.Kind != c.kind || c.v.Trigger != c.trigger || c.sentence != "" && c.v.Sentence != c.sentence {
			t.Errorf("%s: %+v", name, c.v)
		}
	}
	if by := (&Breach{Verdict: Verdict{Trigger: "judge"}}).AskedBy(); by != "judge" {
		t.Errorf("asked by %s", by)
	}
	if by := (&Breach{Verdict: Verdict{Trigger: "errors"}}).AskedBy(); by != "guard" {
		t.Errorf("asked by %s", by)
	}
}

// The chance of a false rollback is one for the whole decision: what each look may spend is a setting.
func TestBlameIsASetting(t *testing.T) {
	h := traffic(180, func(i int) (Side, Side) { // 18 of 180 beside 0 of 180 are 2.6e-6 by Fisher's test
		return side(1, 0, ms), Side{Requests: 1, Errors: every(10, i, side(1, 1, ms)).Errors, Latency: side(1, 0, ms).Latency}
	})
	strict := limits
	strict.Blame = 1e-6
	if v := Judge(limits, h); v.Kind != RollBack {
		t.Errorf("at 1e-5: %+v", v)
	}
	if v := Judge(strict, h); v.Kind != Hold {
		t.Errorf("at 1e-6: %+v", v)
	}
}

// saying is a tape with a judge.
type saying struct {
	tape
	says func(after time.Duration) judge.Decision
}

func (s saying) History(ctx context.Context, now time.Time, window time.Duration) (History, error) {
	h, err := s.tape.History(ctx, now, window)
	h.Evidence = &judge.Verdict{Decision: s.says(now.Sub(s.start)), Sentence: "says the judge"}
	return h, err
}

func TestProvedEndsAHold(t *testing.T) {
	from := func(began time.Duration) func(time.Duration) judge.Decision {
		return func(after time.Duration) judge.Decision {
			if after < began {
				return judge.Watch
			}
			return judge.Promote
		}
	}
	good := func(int) Side { return side(50, 0, 20*ms) }
	for name, c := range map[string]struct {
		w     Watcher
		says  func(time.Duration) judge.Decision
		lost  func(int) bool
		began time.Duration // how long before anybody watched the hold began
		took  time.Duration
	}{
		"proved from the beginning": {w: Watcher{Proved: true, Soak: 2 * time.Minute}, says: from(0), took: 2 * time.Minute},
		"proved later":              {w: Watcher{Proved: true, Soak: 2 * time.Minute}, says: from(7 * time.Minute), took: 7 * time.Minute},
		"not asked for":             {w: Watcher{Soak: 2 * time.Minute}, says: from(0), took: 15 * time.Minute},
		"never":                     {w: Watcher{Proved: true, Soak: 2 * time.Minute}, says: from(time.Hour), took: 15 * time.Minute},
		"a longer soak":             {w: Watcher{Proved: true, Soak: time.Hour}, says: from(0), took: 15 * time.Minute},
		"unseen":                    {w: Watcher{Proved: true, Soak: time.Minute}, says: from(0), lost: func(i int) bool { return i < 15 }, took: 5 * time.Minute},
		"it is not enough": {w: Watcher{Proved: true, Soak: time.Minute, Enough: func(r Report) (bool, error) {
			return r.To.Sub(r.From) >= 3*time.Minute, nil
		}}, says: from(0), took: 3 * time.Minute},
		"after a restart": {w: Watcher{Proved: true, Soak: 5 * time.Minute}, says: from(0), began: 4 * time.Minute, took: 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				time.Sleep(c.began)
				heard := 0
				c.w.Limits, c.w.Samples = limits, saying{tape{start: start, next: good, lost: c.lost}, c.says}
				c.w.Judged = func(judge.Verdict) { heard++ }
				report, err := c.w.Watch(t.Context(), start, 15*time.Minute)
				if took := time.Since(start); err != nil || took < c.took || took > c.took+2*time.Second {
					t.Errorf("it took %s: %v", took, err)
				}
				if report.Judge == nil || heard < int((c.took-c.began)/time.Second) {
					t.Errorf("heard %d times, %+v", heard, report.Judge)
				}
			})
		})
	}
	// What the judge says now says nothing about the seconds that passed while nobody watched.
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		time.Sleep(time.Minute)
		w := Watcher{Limits: limits, Samples: saying{tape{start: start, next: good}, func(time.Duration) judge.Decision { return judge.RollBack }}}
		_, err := w.Watch(t.Context(), start, 15*time.Minute)
		var b *Breach
		if !errors.As(err, &b) || b.Verdict.Trigger != "judge" || b.History.Evidence == nil || !b.History.Now.Equal(time.Now()) {
			t.Errorf("%v", err)
		}
	})
}

func TestReportOfWhatTheJudgeSays(t *testing.T) {
	of := func(n, k int64) Side { return Side{Requests: n, Errors: k} }
	says := func(v judge.Verdict) *judge.Verdict { v.Needed, v.ProofNeeded = 1111.1, 20; return &v }
	for name, c := range map[string]struct {
		r                 Report
		worse             bool
		verdict, sentence string
	}{
		"proved": {Report{Next: of(13_504, 12), Stable: of(200_000, 180), Judge: says(judge.Verdict{Decision: judge.Promote, Proof: 31})},
			false, NoHarm, "proved no worse in 13,504 requests, errors 0.09 % (stable 0.09 %)"},
		"little could be seen": {Report{Next: of(1204, 2), Stable: of(20_000, 36), Judge: says(judge.Verdict{Decision: judge.Watch, Detectable: 9.23, DetectableRate: 0.0166})},
			false, NotProven, "not proven: 1,204 requests; would have seen errors of ×9.3 or worse"},
		"much could be seen": {Report{Next: of(90_000, 80), Stable: of(90_000, 80), Judge: says(judge.Verdict{Decision: judge.Watch, Detectable: 1.9, DetectableRate: 0.0017})},
			false, NoHarm, "no harm in 90,000 requests, errors 0.09 % (stable 0.09 %)"},
		"nothing could": {Report{Next: of(12, 0), Stable: of(300, 0), Judge: says(judge.Verdict{Decision: judge.Watch})},
			false, NotProven, "not proven: 12 requests; would have seen an error rate of 100 % or worse"},
		"suspected": {Report{Next: of(3100, 12), Stable: of(60_000, 60), Judge: says(judge.Verdict{Decision: judge.Watch, Evidence: 400.7, Detectable: 1.5, DetectableRate: 0.001})},
			true, NotProven, "not proven: errors 0.39 % in 3,100 requests (stable 0.1 %), evidence of harm 400, with 1,111 it goes back"},
		"below the floor": {Report{Next: of(900_000, 700), Stable: of(900_000, 180), Judge: says(judge.Verdict{Decision: judge.Watch, Evidence: 1e6, Detectable: 1.5, DetectableRate: 0.001})},
			false, NoHarm, "no harm in 900,000 requests, errors 0.08 % (stable 0.02 %)"},
		"no requests in this step": {Report{Stable: of(300, 0), Judge: says(judge.Verdict{Decision: judge.Promote})}, false, NoData, "no requests: nothing could be seen"},
		"without a control": {Report{Next: of(20_000, 2), Judge: says(judge.Verdict{Decision: judge.Watch, History: true})},
			false, NoHarm, "no harm in 20,000 requests, errors 0.01 % (stable had none to compare with); no guarantee: compared with history"},
		"his word is on the whole rollout": {Report{Next: of(527, 0), Stable: of(30, 0), Judge: says(judge.Verdict{Decision: judge.Watch, DetectableRate: 0.0031,
			Next: judge.Total{Requests: 4321}, Stable: judge.Total{Requests: 15_130}})},
			false, NotProven, "not proven: 4,321 requests; would have seen an error rate of 0.31 % or worse"},
		"jobs are not his": {Report{Next: Side{Jobs: &Jobs{Done: 19980, Failed: 20}}, Stable: Side{Jobs: &Jobs{Done: 29970, Failed: 30}},
			Judge: says(judge.Verdict{Decision: judge.NoData})}, false, NoHarm, "no harm in 20,000 jobs, errors 0.1 % (stable 0.1 %)"},
	} {
		if got := c.r.Verdict(); got != c.verdict {
			t.Errorf("%s: %s, want %s", name, got, c.verdict)
		}
		if got := c.r.Sentence(); got != c.sentence {
			t.Errorf("%s: %q, want %q", name, got, c.sentence)
		}
		if c.r.Worse() != c.worse {
			t.Errorf("%s: suspected is %t", name, c.r.Worse())
		}
	}
}
