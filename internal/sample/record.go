package sample

import (
	"encoding/binary"
	"slices"

	"github.com/belay-cd/belay/internal/guard"
	"github.com/belay-cd/belay/internal/measure"
)

// Bounds of what is counted apart from the total of a release. What is beyond them is in the total only.
const (
	mostEndpoints = 50
	mostValues    = 20 // of one segment
	mostSegments  = 10
)

// chunkTicks is how many ticks one chunk spans at most.
const chunkTicks = 64

// record is what one release served, packed: about one byte for each bucket of latency of a second. Its seconds without a
// request take no room.
type record struct {
	chunks  []chunk
	dropped int // chunks that were forgotten
	names   []guard.Part
	values  map[string]int // of each segment

	// The second that is being counted.
	open    bool
	now     cell
	latency *measure.Histogram
	parts   []count // by name
}

// count is one part's requests of a second.
type count struct{ requests, errors int64 }

// cell is what a release served in one second.
type cell struct {
	position                   int64
	weight                     int
	requests, errors, unserved int64
	packed                     []byte // latencies, then parts
}

// chunk is a run of cells under one weight.
type chunk struct {
	first, last int64 // positions
	weight      int
	data        []byte
}

// count adds one series to the second that is being counted: roles, and meters of before and after a change, add up.
func (r *record) count(s *measure.Series) {
	switch {
	case s.Endpoint == "" && s.Segment == "":
		r.now.weight = s.Weight
		r.now.requests += s.Requests
		r.now.errors += s.Errors
		r.now.unserved += s.Unserved
		switch {
		case s.Latency == nil:
		case r.latency == nil:
			r.latency = s.Latency // the tick's own: never changed
		default:
			both := r.latency.Clone()
			both.Merge(s.Latency)
			r.latency = both
		}
	default:
		if i := r.name(s); i >= 0 {
			r.parts[i].requests += s.Requests
			r.parts[i].errors += s.Errors
		}
	}
}

// name returns the number of an endpoint or of a segment's value, -1 beyond the bounds.
func (r *record) name(s *measure.Series) int {
	part := guard.Part{Name: s.Endpoint}
	if s.Segment != "" {
		part = guard.Part{Name: s.Segment, Segment: true}
	}
	i := slices.Index(r.names, part)
	if i < 0 {
		if r.values == nil {
			r.values = map[string]int{}
		}
		group, most := "", mostEndpoints
		if part.Segment {
			group, most = segmentOf(part.Name), mostValues
			if r.values[group] == 0 && len(r.values) > mostSegments {
				return -1
			}
		}
		if r.values[group] >= most {
			return -1
		}
		r.values[group]++
		r.names = append(r.names, part)
		i = len(r.names) - 1
	}
	for len(r.parts) <= i {
		r.parts = append(r.parts, count{})
	}
	return i
}

// segmentOf is the name of a segment in name=value; never "".
func segmentOf(value string) string {
	for i := range value {
		if value[i] == '=' {
			return value[:i+1]
		}
	}
	return value + "="
}

// close packs the second that was counted.
func (r *record) close(position int64) {
	n := len(r.chunks)
	if n == 0 || position-r.chunks[n-1].first >= chunkTicks || r.chunks[n-1].weight != r.now.weight {
		if n > 0 {
			r.chunks[n-1].data = slices.Clone(r.chunks[n-1].data) // without the room to grow
		}
		r.chunks = append(r.chunks, chunk{first: position, last: position, weight: r.now.weight})
		n++
	}
	c := &r.chunks[n-1]
	b := binary.AppendUvarint(c.data, uint64(position-c.last))
	for _, v := range []int64{r.now.requests, r.now.errors, r.now.unserved} {
		b = binary.AppendUvarint(b, uint64(max(0, v)))
	}
	head := len(b)
	b = append(b, 0, 0) // the length of what follows
	b = r.latency.Pack(b)
	b = r.packParts(b)
	size := len(b) - head - 2
	if size > 1<<16-1 { // far above what there can be: a latency takes a byte or two
		b, size = b[:head+2], 0
	}
	binary.LittleEndian.PutUint16(b[head:], uint16(size))
	c.data, c.last = b, position
	r.open, r.now, r.latency = false, cell{}, nil
	clear(r.parts)
}

// packParts appends the parts that had requests; the lowest bit of a number says that some failed.
func (r *record) packParts(b []byte) []byte {
	for i, p := range r.parts {
		if p.requests <= 0 {
			continue
		}
		number := uint64(i) << 1
		if p.errors > 0 {
			number |= 1
		}
		b = binary.AppendUvarint(b, number)
		b = binary.AppendUvarint(b, uint64(p.requests))
		if p.errors > 0 {
			b = binary.AppendUvarint(b, uint64(p.errors))
		}
	}
	return b
}

// forget drops the chunks that ended before a position.
func (r *record) forget(before int64) {
	n := 0
	for n < len(r.chunks) && r.chunks[n].last < before {
		n++
	}
	if n > 0 {
		r.chunks, r.dropped = slices.Clone(r.chunks[n:]), r.dropped+n
	}
}

// reader reads the cells of a record in order, and goes on where it stopped when there are more.
type reader struct {
	chunk, offset int // number since the beginning, place of the next cell in its data
	last          int64
	ready         bool // last is the position of the cell before
}

// next returns the next cell whose position is at least from; false when there is none yet.
func (r *reader) next(of *record, from int64) (cell, bool) {
	if r.chunk < of.dropped {
		*r = reader{chunk: of.dropped}
	}
	for i := r.chunk - of.dropped; i < len(of.chunks); i = r.chunk - of.dropped {
		c := &of.chunks[i]
		if c.last < from || r.offset >= len(c.data) {
			if i == len(of.chunks)-1 {
				return cell{}, false // it may still grow
			}
			*r = reader{chunk: r.chunk + 1}
			continue
		}
		if !r.ready {
			r.last, r.ready = c.first, true
		}
		found := r.cell(c)
		if found.position >= from {
			return found, true
		}
	}
	return cell{}, false
}

func (r *reader) cell(c *chunk) cell {
	b := c.data[r.offset:]
	var v [4]uint64
	for i := range v {
		n, size := binary.Uvarint(b)
		v[i], b = n, b[size:]
	}
	size := int(binary.LittleEndian.Uint16(b))
	packed := b[2 : 2+size]
	r.offset = len(c.data) - len(b) + 2 + size
	r.last += int64(v[0])
	return cell{position: r.last, weight: c.weight, requests: int64(v[1]), errors: int64(v[2]), unserved: int64(v[3]), packed: packed}
}

// side is the cell as a guard sees it.
func (c cell) side(names []guard.Part) guard.Side {
	s := guard.Side{Requests: c.requests, Errors: c.errors, Unserved: c.unserved}
	if len(c.packed) == 0 {
		return s
	}
	var rest []byte
	s.Latency, rest = measure.UnpackHistogram(c.packed)
	if len(rest) > 0 {
		s.Parts = make([]guard.Part, 0, len(rest)/2) // two bytes each, or a little more
	}
	eachPart(rest, func(i int, n count) {
		s.Parts = append(s.Parts, guard.Part{Name: names[i].Name, Segment: names[i].Segment, Requests: n.requests, Errors: n.errors})
	})
	return s
}

func eachPart(b []byte, each func(i int, n count)) {
	for len(b) > 0 {
		number, size := binary.Uvarint(b)
		b = b[size:]
		requests, size := binary.Uvarint(b)
		b = b[size:]
		n := count{requests: int64(requests)}
		if number&1 != 0 {
			errors, size := binary.Uvarint(b)
			b, n.errors = b[size:], int64(errors)
		}
		each(int(number>>1), n)
	}
}
