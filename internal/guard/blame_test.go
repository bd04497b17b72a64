package guard

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

// judge is the verdict at the end of n seconds of f.
func verdictOn(n int, f func(i int) (stable, next Side), change ...func(*History)) Verdict {
	h := traffic(n, f)
	for _, c := range change {
		c(&h)
	}
	return Judge(limits, h)
}

func constant(stable, next Side) func(int) (Side, Side) {
	return func(int) (Side, Side) { return stable, next }
}

// every gives a side its requests in every k-th second only.
func every(k, i int, s Side) Side {
	if i%k == 0 {
		return s
	}
	return Side{}
}

func TestBlameByErrorsIsHonest(t *testing.T) {
	for name, c := range map[string]struct {
		v    Verdict
		kind Kind
		says string
	}{
		"three of three, stable none of three: it may be chance": {verdictOn(180, func(i int) (Side, Side) {
			return every(60, i, side(1, 0, ms)), every(60, i, side(1, 1, ms))
		}), Hold, "3 of 3 requests to next failed in the last 3m (limit 5 %); stable had 0 of 3: too few to tell them apart"},
		"twelve of twelve, stable none of twelve": {verdictOn(180, func(i int) (Side, Side) {
			return every(15, i, side(1, 0, ms)), every(15, i, side(1, 1, ms))
		}), RollBack, "12 of 12 requests to next failed in the last 3m (limit 5 %); stable had 0 of 12"},
		"much, beside three requests that stable answered": {verdictOn(180, func(i int) (Side, Side) {
			return every(60, i, side(1, 0, ms)), side(5, 1, ms)
		}), RollBack, "180 of 900 requests to next failed in the last 3m (limit 5 %); stable had 0 of 3, too few to compare with"},
		"a little above the limit, beside few requests to stable": {verdictOn(180, func(i int) (Side, Side) {
			failed := int64(0)
			if i%17 == 0 {
				failed = 5
			}
			return every(6, i, side(1, 0, ms)), side(5, failed, ms)
		}), Hold, "too few to tell them apart"},
		"without a control it acts alone": {verdictOn(180, constant(Side{}, side(10, 1, ms))), RollBack, "stable had no traffic to compare with"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.v.Kind != c.kind || !strings.Contains(c.v.Sentence, c.says) {
				t.Errorf("%+v", c.v)
			}
		})
	}
}

// Errors come in a burst while next's weight is high: over the whole window next fails more often than stable, at no
// weight it does.
func TestAWeightThatChangesIsNoExcess(t *testing.T) {
	h := traffic(180, func(i int) (Side, Side) {
		if i < 90 {
			return side(95, 0, ms), side(5, 0, ms)
		}
		return side(5, 1, ms), side(95, 19, ms)
	})
	for i := range h.Seconds {
		h.Seconds[i].Weight = 500
		if i >= 90 {
			h.Seconds[i].Weight = 9500
		}
	}
	c := compare(h, limits.ErrorFor, requests, true)
	if p := Excess(c.strata); p < 0.01 {
		t.Errorf("the p-value is %g", p)
	}
	if p := Fisher(Stratum{9000, 1710, 9000, 90}); p > 1e-9 {
		t.Errorf("without strata it would be blamed: %g", p)
	}
}

// A new endpoint has no control; one that failed before as well is nobody's fault.
func TestAPartAgainstWhatWasBefore(t *testing.T) {
	search := func(n, errors int64) Side {
		s := side(50, errors, ms)
		s.Parts = []Part{{Name: "GET /", Requests: 50 - n}, {Name: "GET /search", Requests: n, Errors: errors}}
		return s
	}
	alone := constant(Side{}, search(1, 1))
	for name, c := range map[string]struct {
		before []Part
		kind   Kind
	}{
		"it never failed before":   {[]Part{{Name: "GET /search", Requests: 812}}, RollBack},
		"it failed as often":       {[]Part{{Name: "GET /search", Requests: 812, Errors: 800}}, Calm},
		"nobody knows":             {nil, Calm},
		"a segment has that name":  {[]Part{{Name: "GET /search", Segment: true, Requests: 812}}, Calm},
		"it was asked a few times": {[]Part{{Name: "GET /search", Requests: 5}}, Calm},
	} {
		v := verdictOn(180, alone, func(h *History) { h.BaselineParts = c.before })
		if v.Kind != c.kind {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// The few requests that stable answers say too little of a part, and then it is not blamed.
func TestAPartIsNotBlamedAlone(t *testing.T) {
	search := func(n, errors int64) Side {
		return Side{Requests: 50, Errors: errors, Parts: []Part{{Name: "GET /", Requests: 50 - n}, {Name: "GET /search", Requests: n, Errors: errors}}}
	}
	v := verdictOn(180, func(i int) (Side, Side) { return every(60, i, search(1, 0)), search(5, 1) })
	if v.Kind != Calm {
		t.Errorf("180 of 900, beside none of 3: %+v", v)
	}
	v = verdictOn(180, func(i int) (Side, Side) { return search(5, 0), search(5, 1) })
	if v.Kind != RollBack || !strings.HasPrefix(v.Sentence, "errors of GET /search: 180 of 900") {
		t.Errorf("180 of 900, beside none of 900: %+v", v)
	}
}

func TestCommonCausesHold(t *testing.T) {
	sick := func(name string, restarts int) Instance {
		return Instance{Name: name, Failed: 2, Restarts: restarts, Message: "503"}
	}
	well := []Instance{{Name: "web/0"}, {Name: "web/1"}}
	for name, c := range map[string]struct {
		stable, next []Instance
		kind         Kind
	}{
		"one of each stays failed":               {[]Instance{sick("web/0", 1), well[1]}, []Instance{sick("web/0", 1), well[1]}, Hold},
		"next wholly, of stable one":             {[]Instance{sick("web/0", 1), well[1]}, []Instance{sick("web/0", 0), sick("web/1", 0)}, RollBack},
		"one of next, stable wholly":             {[]Instance{sick("web/0", 0), sick("web/1", 0)}, []Instance{sick("web/0", 1), well[1]}, Hold},
		"both crash":                             {[]Instance{{Name: "web/0", Restarts: 3}}, []Instance{{Name: "web/0", Restarts: 3}}, Hold},
		"stable crashes less":                    {[]Instance{{Name: "web/0", Restarts: 2}}, []Instance{{Name: "web/0", Restarts: 3}}, RollBack},
		"next fails, there is no stable":         {nil, []Instance{sick("web/0", 0)}, RollBack},
		"half of next is no majority":            {well, []Instance{sick("web/0", 0), well[1]}, Calm},
		"nothing runs at all":                    {nil, nil, Calm},
		"it stayed failed, and is started again": {well, []Instance{{Name: "web/0", Failed: 2, Restarts: 2, Starting: true}, well[1]}, Calm},
	} {
		v := verdictOn(9, constant(Side{}, Side{}), func(h *History) { h.Stable, h.Next = c.stable, c.next })
		if v.Kind != c.kind {
			t.Errorf("%s: %+v", name, v)
		}
		if v.Kind == Hold && !strings.Contains(v.Sentence, "common cause") {
			t.Errorf("%s: %s", name, v.Sentence)
		}
	}
}

// An instance's first minute counts on neither side.
func TestWarmUp(t *testing.T) {
	end := 200
	at := func(second int) time.Time { return t0.Add(time.Duration(second) * time.Second) }
	started := func(second int) []Instance {
		return []Instance{{Name: "web/0", Traffic: true, Started: at(-3600)}, {Name: "web/1", Traffic: true, Started: at(second)},
			{Name: "worker/0", Started: at(end - 1)}} // takes no traffic
	}
	slow := constant(side(50, 0, 20*ms), side(50, 0, 60*ms))
	for name, c := range map[string]struct {
		stable, next int
		f            func(int) (Side, Side)
		kind         Kind
	}{
		"all warm":                        {-3600, -3600, slow, RollBack},
		"next's was started a minute ago": {-3600, 170, slow, RollBack}, // by the minute before that
		"next's are all young":            {-3600, 125, func(i int) (Side, Side) { return side(50, 0, 20*ms), side(int64(min(50, max(0, i-125)*50)), 0, 60*ms) }, Calm},
		"slow since its restart only": {-3600, 150, func(i int) (Side, Side) {
			if i < 150 {
				return side(50, 0, 20*ms), side(50, 0, 20*ms)
			}
			return side(50, 0, 20*ms), side(50, 0, 500*ms)
		}, Calm},
		"stable's restart makes stable slow, and next looks quick": {150, -3600, func(i int) (Side, Side) {
			if i < 150 {
				return side(50, 0, 20*ms), side(50, 0, 60*ms)
			}
			return side(50, 0, 500*ms), side(50, 0, 60*ms)
		}, RollBack},
		"stable cold and slow is no measure": {145, -3600, func(i int) (Side, Side) {
			if i < 145 {
				return side(50, 0, 30*ms), side(50, 0, 40*ms)
			}
			return side(50, 0, ms), side(50, 0, 40*ms) // it answers errors quickly
		}, Calm},
	} {
		v := verdictOn(end, c.f, func(h *History) { h.Stable, h.Next = started(c.stable), started(c.next) })
		if v.Kind != c.kind {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestSlowBesideHistory(t *testing.T) {
	base := func(h *History) { h.BaselineP95 = 20 * ms }
	if v := verdictOn(200, constant(side(1, 0, 60*ms), side(50, 0, 60*ms)), base); v.Kind != Hold || !strings.Contains(v.Sentence, "common cause") {
		t.Errorf("the little that stable serves is slow, too: %+v", v)
	}
	if v := verdictOn(200, constant(side(1, 0, 20*ms), side(50, 0, 60*ms)), base); v.Kind != RollBack || !strings.Contains(v.Sentence, "before the rollout") {
		t.Errorf("the little that stable serves is not: %+v", v)
	}
}

// done is a second in which consumers told what they did.
func done(n, failed int64, lag float64) Side {
	return Side{Jobs: &Jobs{Done: n, Failed: failed, Lag: lag}}
}

func TestJobs(t *testing.T) {
	consumer := func(n int) (list []Instance) {
		for range n {
			list = append(list, Instance{Name: "worker/0", Jobs: true, Started: t0.Add(-time.Hour)})
		}
		return list
	}
	both := func(h *History) { h.Stable, h.Next = consumer(2), consumer(1) }
	scraped := func(stable, next Side) func(int) (Side, Side) {
		return func(i int) (Side, Side) { return every(5, i, stable), every(5, i, next) }
	}
	for name, c := range map[string]struct {
		v    Verdict
		kind Kind
		says string
	}{
		"well":                           {verdictOn(200, scraped(done(8, 0, 3), done(4, 0, 3)), both), Calm, ""},
		"a third fails":                  {verdictOn(200, scraped(done(8, 0, 3), done(4, 2, 3)), both), RollBack, "72 of 216 jobs of next failed in the last 3m (limit 5 %); stable had 0 of 288"},
		"both fail":                      {verdictOn(200, scraped(done(8, 4, 3), done(4, 2, 3)), both), Hold, "common cause"},
		"fails alone":                    {verdictOn(200, scraped(Side{}, done(4, 2, 3)), both), RollBack, "stable had no jobs to compare with"},
		"finishes nothing":               {verdictOn(200, scraped(done(8, 0, 3), done(0, 0, 3)), both), RollBack, "next finished no job in the last 3m, with 1 of 3 consumers; stable finished 288"},
		"the queue is empty":             {verdictOn(200, scraped(done(0, 0, 0), done(0, 0, 0)), both), Calm, ""},
		"few jobs":                       {verdictOn(200, func(i int) (Side, Side) { return every(20, i, done(1, 0, 0)), every(5, i, done(0, 0, 0)) }, both), Calm, ""},
		"it has been consuming a minute": {verdictOn(200, scraped(done(8, 0, 3), done(0, 0, 3)), both, func(h *History) { h.Next[0].Started = h.Now.Add(-time.Minute) }), Calm, ""},
		"it does not answer":             {verdictOn(200, scraped(done(8, 0, 3), Side{}), both), Calm, ""},
		"a long queue":                   {verdictOn(200, scraped(done(8, 0, 300), done(4, 0, 300)), both, func(h *History) { h.BaselineLag = 100 }), Hold, "the oldest job waits for 300 s, at most 100 s before"},
		"a queue as long as before":      {verdictOn(200, scraped(done(8, 0, 300), done(4, 0, 300)), both, func(h *History) { h.BaselineLag = 200 }), Calm, ""},
	} {
		if c.v.Kind != c.kind || !strings.Contains(c.v.Sentence, c.says) || c.kind != Calm && c.v.Trigger != "jobs" {
			t.Errorf("%s: %+v", name, c.v)
		}
	}
}

// Hours of releases that are no worse, at rates of errors below, at and above the limit, with a latency that has a long
// tail: nobody is blamed.
func TestNoBlameByChance(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates hours")
	}
	for seed, world := range []struct {
		rate      float64
		n         int
		share     float64
		endpoints int
	}{{0.001, 40, 0.05, 5}, {0.02, 10, 0.5, 20}, {0.05, 20, 0.5, 5}, {0.05, 40, 0.05, 5}, {0.06, 3, 0.3, 10}, {0.3, 2, 0.5, 3}} {
		random := rand.New(rand.NewPCG(uint64(seed), 7))
		h := History{Since: t0, Started: t0.Add(-time.Hour)}
		names := []string{"GET /a", "GET /b", "GET /c", "GET /d", "GET /e"}
		for i := range 3600 {
			var sides [2]Side
			for range world.n {
				s := &sides[0]
				if random.Float64() < world.share {
					s = &sides[1]
				}
				failed := int64(0)
				if random.Float64() < world.rate {
					failed = 1
				}
				s.Requests, s.Errors = s.Requests+1, s.Errors+failed
				if s.Latency == nil {
					s.Latency = &measure.Histogram{}
				}
				took := 20 * ms
				if random.IntN(15) == 0 {
					took = time.Duration((1 + random.ExpFloat64()) * 4e8)
				}
				s.Latency.Add(took)
				at := random.IntN(min(world.endpoints, len(names)))
				for len(s.Parts) <= at {
					s.Parts = append(s.Parts, Part{Name: names[len(s.Parts)]})
				}
				s.Parts[at].Requests, s.Parts[at].Errors = s.Parts[at].Requests+1, s.Parts[at].Errors+failed
			}
			h.Now = t0.Add(time.Duration(i+1) * time.Second)
			h.Last = h.Now
			h.Seconds = append(h.Seconds, Second{At: h.Now, Weight: int(world.share * 10_000), Stable: sides[0], Next: sides[1]})
			if len(h.Seconds) > 180 {
				h.Seconds = h.Seconds[1:]
			}
			if v := Judge(limits, h); v.Kind == RollBack {
				t.Errorf("world %d: blamed after %d s: %s", seed, i, v.Sentence)
				break
			}
		}
	}
}
