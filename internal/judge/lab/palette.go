package lab

import (
	"math"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

// Into how many equally likely latencies a distribution is cut. A forecast does with few.
const (
	colours = 1024
	sketch  = 256
)

// Palette is a distribution of latencies: equally likely ones, the shortest first.
type Palette struct{ cells []time.Duration }

// LogNormal has a median and a p95.
func LogNormal(p50, p95 time.Duration) *Palette { return logNormal(p50, p95, colours) }

func logNormal(p50, p95 time.Duration, cells int) *Palette {
	const z95 = 1.6448536269514722
	sigma := math.Log(float64(p95)/float64(p50)) / z95
	p := &Palette{make([]time.Duration, cells)}
	for i := range p.cells {
		z := math.Sqrt2 * math.Erfinv(2*(float64(i)+0.5)/float64(cells)-1)
		p.cells[i] = time.Duration(float64(p50) * math.Exp(sigma*z))
	}
	return p
}

// Mixed takes this share of its latencies from q and the rest from p: a cache that hits and misses.
func (p *Palette) Mixed(q *Palette, share float64) *Palette {
	all := len(p.cells)
	from := int((1 - share) * float64(all))
	mixed := &Palette{make([]time.Duration, all)}
	for i := range mixed.cells {
		if i < from {
			mixed.cells[i] = p.cells[i*all/from]
		} else {
			mixed.cells[i] = max(mixed.cells[i-1], q.cells[(i-from)*all/(all-from)])
		}
	}
	return mixed
}

// Recorded has the latencies of a histogram; nil when it is empty.
func Recorded(h *measure.Histogram) *Palette { return recorded(h, colours) }

func recorded(h *measure.Histogram, cells int) *Palette {
	all := h.Count()
	if all == 0 {
		return nil
	}
	p, pairs, seen := &Palette{make([]time.Duration, cells)}, h.Pairs(), int64(0)
	at := 0
	for i := range p.cells {
		rank := int64((float64(i) + 0.5) / float64(cells) * float64(all))
		for at < len(pairs)-1 && seen+pairs[at].Count <= rank {
			seen += pairs[at].Count
			at++
		}
		p.cells[i] = middle(int(pairs[at].Bucket))
	}
	return p
}

// painter draws latencies.
type painter struct {
	dice
	counts [colours]int64
}

// paint draws n latencies, all longer by the factor slower, and this share of them ten times as long besides.
func (b *painter) paint(p *Palette, n int64, slower, tail float64) *measure.Histogram {
	h := &measure.Histogram{}
	slow := b.binomial(n, tail)
	b.add(h, p, n-slow, slower)
	b.add(h, p, slow, 10*slower)
	return h
}

// few is the number of latencies that are counted one by one.
const few = 16

func (b *painter) add(h *measure.Histogram, p *Palette, n int64, slower float64) {
	cells := uint64(len(p.cells))
	if n <= few {
		for range n {
			h.Add(time.Duration(float64(p.cells[b.Uint64()%cells]) * slower))
		}
		return
	}
	counts := b.counts[:cells]
	if n > many {
		for i := range counts {
			counts[i] = b.binomial(n, 1/float64(len(counts)-i))
			n -= counts[i]
		}
	}
	for range n {
		counts[b.Uint64()%cells]++
	}
	for i, count := range counts {
		if count > 0 {
			h.AddN(time.Duration(float64(p.cells[i])*slower), count)
			counts[i] = 0
		}
	}
}

// middle is the latency that stands for a bucket.
func middle(bucket int) time.Duration {
	return time.Duration(float64(measure.Upper(bucket)) / math.Sqrt(measure.Ratio))
}
