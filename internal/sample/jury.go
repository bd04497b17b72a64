package sample

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/judge"
	"github.com/belay-cd/belay/internal/measure"
)

// Jury seats one judge for each open rollout, and gives each what the proxy counted of its rollout. It is safe for
// concurrent use.
//
// A judge is only given the ticks in which its rollout drew or served something under a weight above 0. Whoever replays a
// rollout may therefore leave out the others, as the store does, and comes to the same evidence.
type Jury struct {
	mu    sync.RWMutex
	seats map[string]*seat
}

// seat is one judge.
type seat struct {
	mu      sync.Mutex
	judge   *judge.Judge
	changed bool // since its last checkpoint
	known   bool // verdict is what it says now
	verdict judge.Verdict
}

// NewJury makes a jury without judges.
func NewJury() *Jury { return &Jury{seats: map[string]*seat{}} }

// Seat gives a rollout its judge, who goes on where the checkpoint was taken; an empty one is of one who has heard nothing.
// A seated judge stays as it is. A checkpoint that does not fit c is an error and seats nobody: the evidence can still be
// had by seating without it and adding every tick from the first on.
func (j *Jury) Seat(rollout string, c judge.Config, checkpoint []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.seats[rollout] != nil {
		return nil
	}
	resumed, err := judge.Resume(c, checkpoint)
	if err != nil {
		return fmt.Errorf("rollout %s: %w", rollout, err)
	}
	j.seats[rollout] = &seat{judge: resumed, changed: len(checkpoint) == 0}
	return nil
}

// Seated reports whether a rollout has a judge.
func (j *Jury) Seated(rollout string) bool { return j.of(rollout) != nil }

func (j *Jury) of(rollout string) *seat {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.seats[rollout]
}

// Leave ends the work of a rollout's judge.
func (j *Jury) Leave(rollout string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.seats, rollout)
}

// Add gives each judge what the ticks say of its rollout, in their order. What it heard already changes nothing.
func (j *Jury) Add(ticks []measure.Tick) {
	for i := range ticks {
		for rollout, t := range j.heard(&ticks[i]) {
			if s := j.of(rollout); s != nil {
				s.add(t)
			}
		}
	}
}

func (s *seat) add(t judge.Tick) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.judge.Tick(t) {
		s.changed, s.known = true, false
	}
}

// Verdict says what a rollout's judge thinks; false when there is none.
func (j *Jury) Verdict(rollout string) (judge.Verdict, bool) {
	s := j.of(rollout)
	if s == nil {
		return judge.Verdict{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known {
		s.verdict, s.known = s.judge.Verdict(), true
	}
	return s.verdict, true
}

// Checkpoints returns what the judges know who heard something since they were asked last, by rollout: of each part of
// them, 0 … of-1, so that the work of many can be spread.
func (j *Jury) Checkpoints(part, of int) (map[string][]byte, error) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	list := map[string][]byte{}
	for rollout, s := range j.seats {
		if partOf(rollout, of) != part {
			continue
		}
		known, err := s.checkpoint()
		if err != nil {
			return nil, fmt.Errorf("checkpoint the judge of %s: %w", rollout, err)
		}
		if known != nil {
			list[rollout] = known
		}
	}
	return list, nil
}

// checkpoint returns nil when nothing changed.
func (s *seat) checkpoint() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.changed {
		return nil, nil
	}
	known, err := s.judge.Checkpoint()
	s.changed = err != nil
	return known, err
}

func partOf(rollout string, of int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(rollout)) // never fails
	return int(h.Sum32() % uint32(of))
}

// heard is what a tick says of each rollout that has a judge.
func (j *Jury) heard(t *measure.Tick) map[string]judge.Tick {
	var list map[string][]*measure.Series
	for i := range t.Series {
		s := &t.Series[i]
		if !judged(s) || !j.Seated(s.Rollout) {
			continue
		}
		if list == nil {
			list = map[string][]*measure.Series{}
		}
		list[s.Rollout] = append(list[s.Rollout], s)
	}
	heard := make(map[string]judge.Tick, len(list))
	for rollout, series := range list {
		heard[rollout] = judgeTick(t, series)
	}
	return heard
}

// judged reports whether a series is evidence: something that was drawn under a rollout's weight.
func judged(s *measure.Series) bool { return s.Rollout != "" && s.Weight > 0 }

// TickOf is what a tick says of a rollout, as a judge hears it; false when it says nothing.
func TickOf(t *measure.Tick, rollout string) (judge.Tick, bool) {
	var list []*measure.Series
	for i := range t.Series {
		if s := &t.Series[i]; s.Rollout == rollout && judged(s) {
			list = append(list, s)
		}
	}
	if len(list) == 0 {
		return judge.Tick{}, false
	}
	return judgeTick(t, list), true
}

// judgeTick puts the series of one rollout together: a stratum for each role and weight, both sorted, so that the order in
// which the proxy or the store list them does not matter.
func judgeTick(t *measure.Tick, list []*measure.Series) judge.Tick {
	heard := judge.Tick{Boot: t.Boot, N: t.N, At: t.At.UTC().Truncate(time.Millisecond)} // as it is stored
	for _, s := range list {
		i := slices.IndexFunc(heard.Strata, func(x judge.Stratum) bool { return x.Role == s.Role && x.Weight == s.Weight })
		if i < 0 {
			heard.Strata = append(heard.Strata, judge.Stratum{Role: s.Role, Weight: s.Weight})
			i = len(heard.Strata) - 1
		}
		addSeries(&heard.Strata[i], s)
	}
	for i := range heard.Strata {
		sortParts(heard.Strata[i].Next.Parts)
		sortParts(heard.Strata[i].Stable.Parts)
	}
	slices.SortFunc(heard.Strata, func(a, b judge.Stratum) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Weight, b.Weight))
	})
	return heard
}

func sortParts(list []judge.Part) {
	slices.SortFunc(list, func(a, b judge.Part) int {
		switch {
		case a.Segment == b.Segment:
			return cmp.Compare(a.Name, b.Name)
		case b.Segment:
			return -1
		default:
			return 1
		}
	})
}

// addSeries adds one series to its stratum. Meters of before and after a change add up.
func addSeries(to *judge.Stratum, s *measure.Series) {
	side := &to.Stable
	if s.Side == domain.Next {
		side = &to.Next
	}
	failed, latency := s.Errors, s.Latency // every request is a draw of its own
	if s.Units != nil {
		failed, latency = s.Units.Errors, s.Units.Latency
	}
	if s.Endpoint != "" || s.Segment != "" {
		p := partIn(side, s)
		p.Requests, p.Errors, p.Failed = p.Requests+s.Requests, p.Errors+s.Errors, p.Failed+failed
		p.Latency = together(p.Latency, latency)
		return
	}
	side.Requests, side.Errors = side.Requests+s.Requests, side.Errors+s.Errors
	side.Drawn, side.Failed = side.Drawn+s.Drawn, side.Failed+failed
	side.Latency = together(side.Latency, latency)
	to.Cold = to.Cold || s.Cold
	if p := s.Placebo; p != nil && s.Side == domain.Stable {
		to.Placebo.Drawn, to.Placebo.Failed = to.Placebo.Drawn+p.Drawn, to.Placebo.Failed+p.Errors
		to.Placebo.Latency = together(to.Placebo.Latency, p.Latency)
	}
}

// partIn is the part of a side that a series counts.
func partIn(side *judge.Side, s *measure.Series) *judge.Part {
	name, segment := s.Endpoint, false
	if s.Segment != "" {
		name, segment = s.Segment, true
	}
	for i := range side.Parts {
		if p := &side.Parts[i]; p.Name == name && p.Segment == segment {
			return p
		}
	}
	side.Parts = append(side.Parts, judge.Part{Name: name, Segment: segment})
	return &side.Parts[len(side.Parts)-1]
}

// together adds two histograms up; those of a tick are never changed.
func together(a, b *measure.Histogram) *measure.Histogram {
	switch {
	case b.Count() == 0:
		return a
	case a == nil:
		return b
	}
	both := a.Clone()
	both.Merge(b)
	return both
}
