package judge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/belay-cd/belay/internal/measure"
)

// checkpointVersion is the first byte of a checkpoint.
const checkpointVersion = 3

// ErrOtherConfig says that a checkpoint was made under another configuration: evidence is not carried over from one bet to
// another.
var ErrOtherConfig = errors.New("the checkpoint is of another configuration")

var errBroken = errors.New("the checkpoint is damaged")

// Checkpoint returns all that the judge knows, in at most a few tens of kilobytes.
func (j *Judge) Checkpoint() ([]byte, error) {
	c := &codec{out: append(make([]byte, 0, 4096+1024*len(j.parts)), checkpointVersion)}
	hash := j.config.Hash()
	c.text(&hash)
	j.visit(c)
	return c.out, nil
}

// Resume goes on where Checkpoint was called, bit for bit. A checkpoint of another configuration is ErrOtherConfig; an empty
// one begins without any evidence.
func Resume(c Config, checkpoint []byte) (*Judge, error) {
	j := New(c)
	if len(checkpoint) == 0 {
		return j, nil
	}
	if checkpoint[0] != checkpointVersion {
		return nil, fmt.Errorf("resume the evidence: checkpoint version %d is unknown", checkpoint[0])
	}
	r := &codec{in: checkpoint[1:], reading: true}
	var hash string
	r.text(&hash)
	if !r.failed && hash != c.Hash() {
		return nil, fmt.Errorf("resume the evidence: %w", ErrOtherConfig)
	}
	j.visit(r)
	if r.failed || len(r.in) > 0 {
		return nil, fmt.Errorf("resume the evidence: %w", errBroken)
	}
	for _, m := range j.parts {
		j.byName[m.partName] = m
	}
	return j, nil
}

// codec writes values to out, or reads them from in into the same places, so that one list of the state serves both.
type codec struct {
	out     []byte
	in      []byte
	reading bool
	failed  bool
}

func (c *codec) int(x *int64) {
	if !c.reading {
		c.out = binary.AppendVarint(c.out, *x)
		return
	}
	value, n := binary.Varint(c.in)
	if n <= 0 {
		c.failed, c.in = true, nil
		return
	}
	*x, c.in = value, c.in[n:]
}

func (c *codec) count(x *int) {
	wide := int64(*x)
	c.int(&wide)
	*x = int(wide)
}

func (c *codec) bool(x *bool) {
	bit := int64(0)
	if *x {
		bit = 1
	}
	c.int(&bit)
	*x = bit == 1
}

func (c *codec) float(x *float64) {
	if !c.reading {
		c.out = binary.LittleEndian.AppendUint64(c.out, math.Float64bits(*x))
		return
	}
	if len(c.in) < 8 {
		c.failed, c.in = true, nil
		return
	}
	*x, c.in = math.Float64frombits(binary.LittleEndian.Uint64(c.in)), c.in[8:]
}

func (c *codec) floats(list []float64) {
	for i := range list {
		c.float(&list[i])
	}
}

func (c *codec) text(x *string) {
	n := len(*x)
	c.count(&n)
	if !c.reading {
		c.out = append(c.out, *x...)
		return
	}
	if n < 0 || n > len(c.in) {
		c.failed, c.in = true, nil
		return
	}
	*x, c.in = string(c.in[:n]), c.in[n:]
}

// list writes or reads the length of a list and each of its elements.
func list[T any](c *codec, x *[]T, each func(*T)) {
	n := len(*x)
	c.count(&n)
	if c.reading {
		if n < 0 || n > len(c.in) { // each element takes a byte at least
			c.failed, c.in = true, nil
			return
		}
		*x = slices.Grow((*x)[:0], n)[:n]
	}
	for i := range *x {
		each(&(*x)[i])
	}
}

// visit goes through all of the state.
func (j *Judge) visit(c *codec) {
	c.int(&j.clock.now)
	list(c, &j.clock.lives, func(l *life) {
		c.text(&l.boot)
		c.int(&l.begin)
		c.int(&l.first)
		c.int(&l.last)
	})
	c.int(&j.at)
	c.text(&j.boot)
	c.int(&j.n)
	c.int(&j.ticks)
	c.text(&j.broken)
	c.bool(&j.served)
	c.total(&j.next)
	c.total(&j.stable)
	c.bool(&j.alone)
	c.int(&j.drawn[0])
	c.int(&j.drawn[1])
	list(c, &j.unripe, func(d *draws) {
		c.int(&d.clock)
		c.weight(&d.weight)
		c.failed = c.failed || d.weight == 0
		c.int(&d.made)
		c.int(&d.failed)
	})
	c.floats(j.safety.floor[:])
	c.floats(j.safety.ratio[:])
	c.floats(j.swift)
	c.capital(&j.split)
	for _, p := range []*capital{&j.placebo.worse, &j.placebo.better, &j.placebo.slower, &j.placebo.faster} {
		c.capital(p)
	}
	c.total(&j.placebo.next)
	c.total(&j.placebo.stable)
	c.floats(j.limit.logs[:])
	c.capital(&j.past.errors)
	c.capital(&j.past.latency)
	c.total(&j.past.next)
	c.int(&j.past.slowed)
	c.int(&j.past.timed)
	c.metric(j.all)
	list(c, &j.parts, func(m **metric) {
		var name partName
		if *m != nil {
			name = (*m).partName
		}
		c.bool(&name.segment)
		c.text(&name.name)
		if c.reading {
			*m = newMetric(name, true)
		}
		c.metric(*m)
	})
}

func (c *codec) total(t *Total) {
	c.int(&t.Requests)
	c.int(&t.Errors)
}

// capital takes little room before it has begun.
func (c *codec) capital(x *capital) {
	c.int(&x.minute)
	if x.minute >= 0 {
		c.floats(x.logs)
	}
}

func (c *codec) metric(m *metric) {
	for side := range m.spent.failed {
		c.int(&m.spent.failed[side])
		c.int(&m.spent.units[side])
	}
	c.mark(&m.windows.now)
	list(c, &m.windows.marks, c.mark)
	list(c, &m.splits, func(b *byWeight) {
		c.weight(&b.weight)
		c.int(&b.next)
		c.int(&b.stable)
	})
	c.capital(&m.harm)
	c.capital(&m.latency.harm)
	c.int(&m.latency.halved)
	c.spread(&m.latency.next)
	c.spread(&m.latency.stable)
	if !m.part {
		for i := range m.latency.recent {
			c.spread(&m.latency.recent[i].next)
			c.spread(&m.latency.recent[i].stable)
		}
	}
	list(c, &m.latency.batches, func(b *batch) {
		c.text(&b.role)
		c.weight(&b.weight)
		c.int(&b.began)
		c.histogram(&b.next)
		c.histogram(&b.stable)
	})
}

// histogram is read through its JSON, which refuses what is none.
func (c *codec) histogram(h **measure.Histogram) {
	pairs := (*h).Pairs()
	bucket := int64(0)
	list(c, &pairs, func(p *measure.Pair) {
		step := int64(p.Bucket) - bucket
		c.int(&step)
		bucket += step
		c.int(&p.Count)
		if c.reading {
			p.Bucket = int32(min(max(bucket, -1), measure.Buckets))
		}
	})
	if !c.reading || c.failed {
		return
	}
	text := []byte{'['}
	for i, p := range pairs {
		if i > 0 {
			text = append(text, ',')
		}
		text = fmt.Appendf(text, "[%d,%d]", p.Bucket, p.Count)
	}
	*h = &measure.Histogram{}
	c.failed = (*h).UnmarshalJSON(append(text, ']')) != nil
}

func (c *codec) mark(m *mark) {
	for _, x := range []*int64{&m.clock, &m.at, &m.failedNext, &m.failedStab} {
		c.int(x)
	}
	c.float(&m.share)
	c.total(&m.next)
	c.total(&m.stable)
}

// spread is written as its counts, and how many empty ones follow each other as a negative number.
func (c *codec) spread(s *spread) {
	c.count(&s.begin)
	n := len(s.counts)
	c.count(&n)
	if !c.reading {
		for i := 0; i < n; {
			x := s.counts[i]
			i++
			if x == 0 {
				for x = -1; i < n && s.counts[i] == 0; i++ {
					x--
				}
			}
			c.int(&x)
		}
		return
	}
	if s.begin < 0 || n < 0 || s.begin+n > measure.Buckets {
		c.failed = true
		return
	}
	s.counts, s.total = make([]int64, 0, n), 0
	for len(s.counts) < n && !c.failed {
		x := int64(0)
		c.int(&x)
		switch {
		case x > 0:
			s.counts = append(s.counts, x)
			s.total += x
		case x < 0 && -x <= int64(n-len(s.counts)):
			s.counts = append(s.counts, make([]int64, -x)...)
		default:
			c.failed = true
		}
	}
}

// weight refuses one at which there is no control.
func (c *codec) weight(x *int) {
	c.count(x)
	c.failed = c.failed || *x < 0 || *x >= whole
}
