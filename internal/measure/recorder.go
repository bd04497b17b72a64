package measure

import (
	"sync/atomic"
	"time"
)

// page is how many buckets share one allocation of a Recorder.
const page = 64

// Recorder counts requests from many goroutines without a lock. Each request is one increment of its outcome and one of
// its latency bucket. The zero value is ready. Take hands out what was counted since the last Take: nothing is counted
// twice and nothing is lost.
type Recorder struct {
	outcomes [outcomes]atomic.Int64
	pages    [Buckets / page]atomic.Pointer[[page]atomic.Uint32]
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
func (r *Recorder) Record(o Outcome, latency time.Duration) {
	if latency >= 0 {
		bucket := Bucket(latency)
		slot := &r.pages[bucket/page]
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
	c := Counts{Requests: served + errored + unserved, Errors: errored + unserved, Unserved: unserved}
	var pairs []Pair
	for i := range r.pages {
		counts := r.pages[i].Load()
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
	if len(pairs) > 0 {
		c.Latency = &Histogram{pairs: pairs}
	}
	return c
}
