package judge

import (
	"math"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

// enough is how many latencies of stable's past are needed before any is ranked.
const enough = 20

// spread counts latencies by bucket, where a bucket is one or several of a histogram's. It forgets: see halve.
type spread struct {
	begin  int // the bucket of counts[0]
	counts []int64
	total  int64
}

// add counts n in a bucket.
func (s *spread) add(bucket int, n int64) {
	switch {
	case len(s.counts) == 0:
		s.begin, s.counts = bucket, append(s.counts, 0)
	case bucket < s.begin:
		grown := make([]int64, s.begin-bucket+len(s.counts))
		copy(grown[s.begin-bucket:], s.counts)
		s.begin, s.counts = bucket, grown
	}
	for bucket >= s.begin+len(s.counts) {
		s.counts = append(s.counts, 0)
	}
	s.counts[bucket-s.begin] += n
	s.total += n
}

// halve forgets half of what was counted and keeps every quantile where it is.
func (s *spread) halve() {
	seen, kept := int64(0), int64(0)
	for i, n := range s.counts {
		seen += n
		s.counts[i] = seen/2 - kept
		kept = seen / 2
	}
	s.total = kept
}

// quantile returns the bucket below or in which the share q of two spreads lies, -1 when nothing was counted.
func quantile(q float64, a, b *spread) int {
	rank := max(1, int64(math.Ceil(q*float64(a.total+b.total))))
	for bucket := min(a.first(), b.first()); bucket < measure.Buckets; bucket++ {
		n := a.at(bucket) + b.at(bucket)
		if rank -= n; rank <= 0 && n > 0 {
			return bucket
		}
	}
	return -1
}

func (s *spread) first() int {
	if len(s.counts) == 0 {
		return measure.Buckets
	}
	return s.begin
}

func (s *spread) at(bucket int) int64 {
	if i := bucket - s.begin; i >= 0 && i < len(s.counts) {
		return s.counts[i]
	}
	return 0
}

// cut returns the rank of each bucket from begin on: the middle of those between the levels that lie in or below it, so that
// ties are ranked as their average. What lies below begin has rank 0, what lies above the last has the highest.
func (s *spread) cut(to []uint8) []uint8 {
	to = to[:0]
	below, seen := 0, int64(0) // levels that lie below this bucket
	for _, n := range s.counts {
		seen += n
		until := below
		for until < len(levels) && int64(math.Ceil(levels[until]*float64(s.total))) <= seen {
			until++
		}
		to = append(to, uint8((below+until)/2))
		below = until
	}
	return to
}

// latency is one metric's evidence of slowness.
type latency struct {
	harm         capital
	menu         *menu
	coarse       int    // how many of a histogram's buckets are one here
	keep         int64  // how many of stable's latencies are kept
	halved       int64  // the second of the rollout when they were last halved
	next, stable spread // what was counted, half forgotten again and again: stable's ranks the next batch
	recent       [2]sides
	batches      []batch
}

// sides are the latencies of both. The recent ones are shown to people, and are where slowness that began late shows: one
// fills while the one before is kept. Parts do without.
type sides struct{ next, stable spread }

// recentSize is how many latencies of next fill it.
const recentSize = 100

// batch collects latencies of one stratum over several ticks, for with few of them a comparison that next is itself a good
// part of says little. It ends with a number of latencies of both sides together, or with time, neither of which depends on
// the draws; and until it has ended, nothing of it goes into the past that ranks it.
type batch struct {
	role         string
	weight       int
	began        int64 // second of the rollout
	next, stable *measure.Histogram
}

const (
	batchSize    = 40
	batchSeconds = 60
	maxBatches   = 4 // of one metric, for several roles
)

func newLatency(m *menu, coarse int, keep int64) latency {
	return latency{harm: newCapital(len(m.prior)), menu: m, coarse: coarse, keep: keep}
}

// scratch is memory that a judge uses again for every tick; nothing in it outlives one.
type scratch struct {
	cut          []uint8
	next, stable tally
}

// rank tallies one side by the ranks of stable's past; shift takes buckets of next to where they are without the margin.
func (l *latency) rank(h *measure.Histogram, shift []int16, cut []uint8, to *tally) {
	*to = tally{}
	for _, p := range h.Pairs() {
		bucket := int(p.Bucket)
		if shift != nil {
			bucket = int(shift[bucket])
		}
		g, at := 0, bucket/l.coarse-l.stable.begin
		if at >= len(cut) {
			g = ranks - 1
		} else if at >= 0 {
			g = int(cut[at])
		}
		to[g] += p.Count
	}
}

// time adds one stratum's latencies to a metric.
func (j *Judge) time(m *metric, s *Stratum, next, stable *measure.Histogram) {
	l, now := &m.latency, j.clock.now
	for i := len(l.batches) - 1; i >= 0; i-- {
		if now-l.batches[i].began >= batchSeconds {
			j.settle(m, l.take(i))
		}
	}
	n := next.Count() + stable.Count()
	if n == 0 {
		return
	}
	i := slices.IndexFunc(l.batches, func(b batch) bool { return b.role == s.Role && b.weight == s.Weight })
	if i < 0 {
		b := batch{role: s.Role, weight: s.Weight, began: now, next: next, stable: stable}
		if n >= batchSize {
			j.settle(m, b)
			return
		}
		if len(l.batches) == maxBatches {
			j.settle(m, l.take(0))
		}
		b.next, b.stable = next.Clone(), stable.Clone()
		l.batches = append(l.batches, b)
		return
	}
	b := &l.batches[i]
	b.next.Merge(next)
	b.stable.Merge(stable)
	if b.next.Count()+b.stable.Count() >= batchSize {
		j.settle(m, l.take(i))
	}
}

// take takes a batch out of those that wait.
func (l *latency) take(i int) batch {
	b := l.batches[i]
	l.batches = slices.Delete(l.batches, i, i+1)
	return b
}

// settle multiplies the bets with a batch, and only then learns from it.
func (j *Judge) settle(m *metric, b batch) {
	l, s := &m.latency, &j.scratch
	if l.stable.total >= enough && len(b.next.Pairs()) > 0 && len(b.stable.Pairs()) > 0 {
		l.harm.begin(j.clock.minute(), j.config.Minutes, l.menu.prior)
		s.cut = l.stable.cut(s.cut)
		l.rank(b.next, j.shift, s.cut, &s.next)
		l.rank(b.stable, nil, s.cut, &s.stable)
		l.menu.scores(l.harm.logs, &s.next, &s.stable)
		if !m.part {
			safeMenu.scores(j.swift, &s.next, &s.stable)
		}
	}
	l.learn(b.next, b.stable, m.part, j.clock.now)
}

// learn adds a batch to the past.
func (l *latency) learn(next, stable *measure.Histogram, part bool, now int64) {
	l.next.count(next, l.coarse)
	l.stable.count(stable, l.coarse)
	for l.stable.total > l.keep || l.next.total > l.keep || now-l.halved >= 60 && l.stable.total > l.keep/10 {
		l.next.halve()
		l.stable.halve()
		l.halved = now
	}
	if part {
		return
	}
	if l.recent[0].next.total >= recentSize {
		old := l.recent[1]
		old.next.clear()
		old.stable.clear()
		l.recent[0], l.recent[1] = old, l.recent[0]
	}
	l.recent[0].next.count(next, l.coarse)
	l.recent[0].stable.count(stable, l.coarse)
}

func (s *spread) count(h *measure.Histogram, coarse int) {
	for _, p := range h.Pairs() {
		s.add(int(p.Bucket)/coarse, p.Count)
	}
}

func (s *spread) clear() { s.counts, s.total = s.counts[:0], 0 }

// seconds returns both sides' quantile in seconds, of all that is remembered.
func (l *latency) seconds(q float64) (next, stable float64) {
	var none spread
	return l.middle(quantile(q, &l.next, &none)), l.middle(quantile(q, &l.stable, &none))
}

// lately returns the same of the latest, 0 and 0 when they are few.
func (l *latency) lately(q float64) (next, stable float64) {
	a, b := &l.recent[0], &l.recent[1]
	if a.next.total+b.next.total < recentSize/2 {
		return 0, 0
	}
	return l.middle(quantile(q, &a.next, &b.next)), l.middle(quantile(q, &a.stable, &b.stable))
}

// middle is the geometric middle of the buckets that are one here, in seconds.
func (l *latency) middle(bucket int) float64 {
	if bucket < 0 {
		return 0
	}
	return float64(measure.Upper(bucket*l.coarse)) / float64(time.Second) * math.Pow(measure.Ratio, float64(l.coarse-2)/2)
}

// shifts returns, for each bucket, the one that a latency of next is ranked as: shorter by the margin or by the grain,
// whichever is more. Harm is more than both.
func shifts(margin float64, grain time.Duration) []int16 {
	down := int(math.Round(math.Log(margin) / math.Log(measure.Ratio)))
	list := make([]int16, measure.Buckets)
	for b := range list {
		to := max(b-down, 0)
		if grain > 0 {
			to = min(to, measure.Bucket(measure.Upper(b)-grain))
		}
		list[b] = int16(to)
	}
	return list
}
