package lab

import (
	"math"
	"time"

	"github.com/belay-cd/belay/internal/measure"
)

// colours is into how many equally likely latencies a distribution is cut.
const colours = 1024

// Palette is a distribution of latencies: equally likely ones, the shortest first.
type Palette struct{ cells [colours]time.Duration }

// LogNormal has a median and a p95.
func LogNormal(p50, p95 time.Duration) *Palette {
	const z95 = 1.6448536269514722
	sigma := math.Log(float64(p95)/float64(p50)) / z95
	p := &Palette{}
	for i := range p.cells {
		z := math.Sqrt2 * math.Erfinv(2*(float64(i)+0.5)/colours-1)
		p.cells[i] = time.Duration(float64(p50) * math.Exp(sigma*z))
	}
	return p
}

// Mixed takes this share of its latencies from q and the rest from p: a cache that hits and misses.
func (p *Palette) Mixed(q *Palette, share float64) *Palette {
	from := int((1 - share) * colours)
	mixed := &Palette{}
	for i := range mixed.cells {
		if i < from {
			mixed.cells[i] = p.cells[i*colours/from]
		} else {
			mixed.cells[i] = max(mixed.cells[i-1], q.cells[(i-from)*colours/(colours-from)])
		}
	}
	return mixed
}

// Recorded has the latencies of a histogram; nil when it is empty.
func Recorded(h *measure.Histogram) *Palette {
	all := h.Count()
	if all == 0 {
		return nil
	}
	p, pairs, seen := &Palette{}, h.Pairs(), int64(0)
	at := 0
	for i := range p.cells {
		rank := int64((float64(i) + 0.5) / colours * float64(all))
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
	tubes  [4]tube
	next   int // of the tubes, the one to be filled
}

// tube is a palette, slowed down, with the cells that fall into one bucket as one.
type tube struct {
	palette *Palette
	slower  float64
	cell    [colours]uint16 // to the place of its latency
	list    []time.Duration
}

// tube returns a palette slowed down.
func (b *painter) tube(p *Palette, slower float64) *tube {
	for i := range b.tubes {
		if t := &b.tubes[i]; t.palette == p && t.slower == slower {
			return t
		}
	}
	t := &b.tubes[b.next]
	b.next = (b.next + 1) % len(b.tubes)
	t.palette, t.slower, t.list = p, slower, t.list[:0]
	last := -1
	for i := range p.cells {
		d := time.Duration(float64(p.cells[i]) * slower)
		if bucket := measure.Bucket(d); bucket != last {
			t.list, last = append(t.list, d), bucket
		}
		t.cell[i] = uint16(len(t.list) - 1)
	}
	return t
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
const few = 64

func (b *painter) add(h *measure.Histogram, p *Palette, n int64, slower float64) {
	if n <= few {
		for range n {
			h.Add(time.Duration(float64(p.cells[b.Uint64()%colours]) * slower))
		}
		return
	}
	t := b.tube(p, slower)
	if n > many {
		for i := range colours {
			got := b.binomial(n, 1/float64(colours-i))
			b.counts[t.cell[i]] += got
			n -= got
		}
	}
	for range n {
		b.counts[t.cell[b.Uint64()%colours]]++
	}
	for i, d := range t.list {
		if b.counts[i] > 0 {
			h.AddN(d, b.counts[i])
			b.counts[i] = 0
		}
	}
}

// middle is the latency that stands for a bucket.
func middle(bucket int) time.Duration {
	return time.Duration(float64(measure.Upper(bucket)) / math.Sqrt(measure.Ratio))
}
