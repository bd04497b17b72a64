package measure

import (
	"sync/atomic"
	"time"
)

// None is the bucket of a request to which no byte of an answer ever came: it counts in no bucket.
const None = -1

// BucketOf is Bucket for a latency that may not be known: None below 0.
func BucketOf(latency time.Duration) int {
	if latency < 0 {
		return None
	}
	return Bucket(latency)
}

// page is how many buckets share one allocation.
const page = 64

// buckets count latencies from many goroutines without a lock. The zero value is ready.
type buckets struct {
	pages [Buckets / page]atomic.Pointer[[page]atomic.Uint32]
}

func (b *buckets) add(bucket int) {
	if bucket < 0 {
		return
	}
	slot := &b.pages[bucket/page]
	counts := slot.Load()
	if counts == nil {
		fresh := new([page]atomic.Uint32)
		if slot.CompareAndSwap(nil, fresh) {
			counts = fresh
		} else {
			counts = slot.Load()
		}
	}
	counts[bucket%page].Add(1)
}

// take returns what was counted since the last take, nil for nothing.
func (b *buckets) take() *Histogram {
	var pairs []Pair
	for i := range b.pages {
		counts := b.pages[i].Load()
		if counts == nil {
			continue
		}
		for j := range counts {
			if counts[j].Load() == 0 {
				continue
			}
			pairs = append(pairs, Pair{int32(i*page + j), int64(counts[j].Swap(0))})
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	return &Histogram{pairs: pairs}
}

// Recorder counts requests from many goroutines without a lock. Each request is one increment of its outcome and one of
// its latency bucket. The zero value is ready. Take hands out what was counted since the last Take: nothing is counted
// twice and nothing is lost.
type Recorder struct {
	outcomes [outcomes]atomic.Int64
	latency  buckets
}

// Outcome is how a request ended.
type Outcome int

// The outcomes of a request.
const (
	Served   Outcome = iota // answered, not with 5xx
	Errored                 // answered with 5xx
	Unserved                // no instance could answer it, or its answer broke off
	outcomes
)

// Record counts one request. A latency below 0 means that no byte of an answer ever came: it counts in no bucket.
func (r *Recorder) Record(o Outcome, latency time.Duration) { r.Count(o, BucketOf(latency)) }

// Count is Record where the bucket of the latency is known: one request that counts under many names is looked up once.
func (r *Recorder) Count(o Outcome, bucket int) {
	r.latency.add(bucket)
	r.outcomes[o].Add(1)
}

// Counts is what a Recorder counted between two Takes.
type Counts struct {
	Requests, Errors, Unserved int64
	Latency                    *Histogram // nil when no latency was counted
}

// Take returns what was counted since the last Take, and forgets it. Two Takes never run at once.
func (r *Recorder) Take() Counts {
	served, errored, unserved := r.outcomes[Served].Swap(0), r.outcomes[Errored].Swap(0), r.outcomes[Unserved].Swap(0)
	return Counts{Requests: served + errored + unserved, Errors: errored + unserved, Unserved: unserved, Latency: r.latency.take()}
}

// UnitRecorder counts draws from many goroutines without a lock, as a Recorder counts requests. Whoever counts sees to it
// that each unit has one draw, one first error and one first request. The zero value is ready.
type UnitRecorder struct {
	drawn, errors atomic.Int64
	latency       buckets
}

// Draw counts a draw.
func (r *UnitRecorder) Draw() { r.drawn.Add(1) }

// Fail counts the first error of a unit.
func (r *UnitRecorder) Fail() { r.errors.Add(1) }

// First counts the latency of the first request of a unit, by its bucket; None counts nothing.
func (r *UnitRecorder) First(bucket int) { r.latency.add(bucket) }

// Take returns what was counted since the last Take, and forgets it. Two Takes never run at once.
func (r *UnitRecorder) Take() Units {
	return Units{Drawn: r.drawn.Swap(0), Errors: r.errors.Swap(0), Latency: r.latency.take()}
}
