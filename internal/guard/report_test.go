package guard

import "testing"

func TestReportSpeaks(t *testing.T) {
	of := func(n, k int64) Side { return Side{Requests: n, Errors: k} }
	for name, c := range map[string]struct {
		r                 Report
		verdict, sentence string
	}{
		"much":            {Report{Next: of(13_504, 12), Stable: of(200_000, 180)}, NoHarm, "no harm in 13,504 requests, errors 0.09 % (stable 0.09 %)"},
		"much, alone":     {Report{Next: of(20_000, 2)}, NoHarm, "no harm in 20,000 requests, errors 0.01 % (stable had none to compare with)"},
		"little":          {Report{Next: of(212, 2), Stable: of(4000, 36)}, NotProven, "not proven: 212 requests; would have seen errors of ×6.9 or worse"},
		"no usual errors": {Report{Next: of(212, 0), Stable: of(4000, 0)}, NotProven, "not proven: 212 requests; would have seen an error rate of 1.4 % or worse"},
		"one request":     {Report{Next: of(1, 0), Stable: of(10, 0)}, NotProven, "not proven: 1 request; would have seen an error rate of 100 % or worse"},
		"none":            {Report{Stable: of(10, 0)}, NoData, "no requests: nothing could be seen"},
		"jobs":            {Report{Next: Side{Jobs: &Jobs{Done: 19980, Failed: 20}}, Stable: Side{Jobs: &Jobs{Done: 29970, Failed: 30}}}, NoHarm, "no harm in 20,000 jobs, errors 0.1 % (stable 0.1 %)"},
		"worse, below the limit": {Report{Next: of(10_000, 300), Stable: of(90_000, 90)}, NotProven,
			"not proven: errors 3 % in 10,000 requests (stable 0.1 %), more than chance explains"},
	} {
		if got := c.r.Verdict(); got != c.verdict {
			t.Errorf("%s: %s, want %s", name, got, c.verdict)
		}
		if got := c.r.Sentence(); got != c.sentence {
			t.Errorf("%s: %q, want %q", name, got, c.sentence)
		}
	}
}
