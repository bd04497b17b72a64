// Package measure counts what users see of a release: requests, errors and latencies, second by second, in a form that
// can be added up, compared and stored.
package measure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"
)

// Ratio is the width of a bucket of a Histogram: each bucket is 1 % wider than the one before, so that every quantile is
// right to 1 %.
const Ratio = 1.01

// Buckets is how many buckets there are. The last one takes everything above about two and a half hours.
const Buckets = 2304

// finest is the lower bound of bucket 1; bucket 0 takes everything up to it.
const finest = time.Microsecond

var invLogRatio = 1 / math.Log(Ratio)

// Pair is one bucket of a Histogram with its count.
type Pair struct {
	Bucket int32
	Count  int64
}

// Histogram counts durations in logarithmic buckets of ratio 1.01 from 1 µs. It is sparse: only buckets that counted
// something take room. The zero value is empty and ready. A Histogram is not safe for concurrent use; see Recorder.
//
// Its JSON is a list of [bucket, count] pairs in the order of the buckets.
type Histogram struct {
	pairs []Pair // sorted by bucket, counts never 0
}

// Bucket returns the number of the bucket that counts d.
func Bucket(d time.Duration) int {
	if d <= finest {
		return 0
	}
	return min(Buckets-1, int(math.Log(float64(d)/float64(finest))*invLogRatio)+1)
}

// Upper returns the upper bound of a bucket.
func Upper(bucket int) time.Duration {
	return time.Duration(float64(finest) * math.Pow(Ratio, float64(bucket)))
}

// middle returns the geometric middle of a bucket: the value that Quantile answers.
func middle(bucket int32) time.Duration {
	if bucket <= 0 {
		return finest
	}
	return time.Duration(float64(finest) * math.Pow(Ratio, float64(bucket)-0.5))
}

// Add counts d once.
func (h *Histogram) Add(d time.Duration) { h.AddN(d, 1) }

// AddN counts d n times. An n below 1 counts nothing.
func (h *Histogram) AddN(d time.Duration, n int64) {
	if n > 0 {
		h.add(int32(Bucket(d)), n)
	}
}

// add changes the count of one bucket and drops it at 0.
func (h *Histogram) add(bucket int32, n int64) {
	i, found := slices.BinarySearchFunc(h.pairs, bucket, func(p Pair, b int32) int { return int(p.Bucket - b) })
	if !found {
		h.pairs = slices.Insert(h.pairs, i, Pair{Bucket: bucket})
	}
	h.pairs[i].Count += n
	if h.pairs[i].Count <= 0 {
		h.pairs = slices.Delete(h.pairs, i, i+1)
	}
}

// Merge adds the counts of o. A nil o adds nothing.
func (h *Histogram) Merge(o *Histogram) { h.combine(o, 1) }

// Sub takes the counts of o away. Counts never fall below 0.
func (h *Histogram) Sub(o *Histogram) { h.combine(o, -1) }

func (h *Histogram) combine(o *Histogram, sign int64) {
	if o == nil || len(o.pairs) == 0 {
		return
	}
	merged := make([]Pair, 0, len(h.pairs)+len(o.pairs))
	a, b := h.pairs, o.pairs
	for len(a) > 0 || len(b) > 0 {
		var p Pair
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Bucket < b[0].Bucket:
			p, a = a[0], a[1:]
		case len(a) == 0 || b[0].Bucket < a[0].Bucket:
			p, b = Pair{b[0].Bucket, sign * b[0].Count}, b[1:]
		default:
			p = Pair{a[0].Bucket, a[0].Count + sign*b[0].Count}
			a, b = a[1:], b[1:]
		}
		if p.Count > 0 {
			merged = append(merged, p)
		}
	}
	h.pairs = merged
}

// Clone returns an independent copy.
func (h *Histogram) Clone() *Histogram {
	if h == nil {
		return &Histogram{}
	}
	return &Histogram{pairs: slices.Clone(h.pairs)}
}

// Count returns how many durations were counted.
func (h *Histogram) Count() int64 {
	if h == nil {
		return 0
	}
	var n int64
	for _, p := range h.pairs {
		n += p.Count
	}
	return n
}

// Pairs returns the buckets that counted something, in order. The slice belongs to the histogram.
func (h *Histogram) Pairs() []Pair {
	if h == nil {
		return nil
	}
	return h.pairs
}

// Quantile returns the duration below which the share q (0 … 1) of the counts lie, right to 1 %; 0 when it is empty.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	rank := rankOf(q, total)
	for _, p := range h.pairs {
		if rank -= p.Count; rank <= 0 {
			return middle(p.Bucket)
		}
	}
	return middle(h.pairs[len(h.pairs)-1].Bucket)
}

// QuantileOf returns how many durations many histograms counted together, and the quantile of them. It adds nothing up: it
// walks through them a dozen times and needs no memory, which is what matters where it is asked of hundreds every second.
func QuantileOf(q float64, list iter.Seq[*Histogram]) (count int64, quantile time.Duration) {
	for h := range list {
		count += h.Count()
	}
	if count == 0 {
		return 0, 0
	}
	rank := rankOf(q, count)
	low, high := int32(0), int32(Buckets-1) // the least bucket with at least rank counts in it and below
	for low < high {
		middle, n := (low+high)/2, int64(0)
		for h := range list {
			for _, p := range h.Pairs() {
				if p.Bucket > middle {
					break
				}
				n += p.Count
			}
		}
		if n >= rank {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return count, middle(low)
}

// rankOf is the place, from 1, of quantile q among so many.
func rankOf(q float64, total int64) int64 {
	return max(1, int64(math.Ceil(min(max(q, 0), 1)*float64(total))))
}

// CountAbove returns how many counts lie in buckets above the one of d.
func (h *Histogram) CountAbove(d time.Duration) int64 {
	if h == nil {
		return 0
	}
	limit := int32(Bucket(d))
	var n int64
	for _, p := range h.pairs {
		if p.Bucket > limit {
			n += p.Count
		}
	}
	return n
}

// Shift returns a copy whose durations are longer by the factor 1.01^k (shorter for a negative k).
func (h *Histogram) Shift(k int) *Histogram {
	shifted := &Histogram{}
	for _, p := range h.Pairs() {
		bucket := int32(min(max(int(p.Bucket)+k, 0), Buckets-1))
		if n := len(shifted.pairs); n > 0 && shifted.pairs[n-1].Bucket == bucket {
			shifted.pairs[n-1].Count += p.Count
			continue
		}
		shifted.pairs = append(shifted.pairs, Pair{bucket, p.Count})
	}
	return shifted
}

// MarshalJSON writes the sorted [bucket, count] pairs.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	out := make([]byte, 0, 2+10*len(h.pairs))
	out = append(out, '[')
	for i, p := range h.pairs {
		if i > 0 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, "[%d,%d]", p.Bucket, p.Count)
	}
	return append(out, ']'), nil
}

// UnmarshalJSON reads what MarshalJSON wrote. Buckets out of range or order and counts below 1 are errors.
func (h *Histogram) UnmarshalJSON(data []byte) error {
	var raw [][2]int64
	pairs, plain := parsePairs(data)
	if !plain { // spaces, or a mistake that is to be told
		if err := json.Unmarshal(data, &raw); err != nil {
			return fmt.Errorf("histogram: %w", err)
		}
		pairs = make([]Pair, 0, len(raw))
		for _, p := range raw {
			if p[0] < 0 || p[0] >= Buckets {
				return fmt.Errorf("histogram: bucket %d is out of range", p[0])
			}
			pairs = append(pairs, Pair{int32(p[0]), p[1]})
		}
	}
	last := int32(-1)
	for _, p := range pairs {
		if p.Bucket <= last || p.Bucket >= Buckets || p.Count < 1 {
			return fmt.Errorf("histogram: bucket %d with count %d is out of range or order", p.Bucket, p.Count)
		}
		last = p.Bucket
	}
	h.pairs = pairs
	return nil
}

// parsePairs reads exactly what MarshalJSON writes: a server reads thousands of them a second. Anything else is left to
// the general reader.
func parsePairs(data []byte) ([]Pair, bool) {
	n := len(data)
	if n == 2 && string(data) == "[]" {
		return nil, true
	}
	if n < 7 || data[0] != '[' || data[n-1] != ']' {
		return nil, false
	}
	pairs := make([]Pair, 0, bytes.Count(data, []byte{'['})-1)
	for i := 1; ; {
		if i >= n || data[i] != '[' {
			return nil, false
		}
		bucket, after := digits(data, i+1)
		if after == i+1 || after >= n || data[after] != ',' || bucket >= Buckets {
			return nil, false
		}
		count, end := digits(data, after+1)
		if end == after+1 || end >= n || data[end] != ']' {
			return nil, false
		}
		pairs = append(pairs, Pair{int32(bucket), count})
		if i = end + 1; i == n-1 {
			return pairs, true
		}
		if data[i] != ',' {
			return nil, false
		}
		i++
	}
}

// digits reads a number of at most 18 digits and returns where it ends.
func digits(data []byte, i int) (n int64, end int) {
	for end = i; end < len(data) && end-i < 18 && data[end] >= '0' && data[end] <= '9'; end++ {
		n = 10*n + int64(data[end]-'0')
	}
	return n, end
}
