package measure

import "encoding/binary"

// Pack appends the histogram to b in a few bytes: about one for each bucket. A nil histogram packs as an empty one.
func (h *Histogram) Pack(b []byte) []byte {
	pairs := h.Pairs()
	b = binary.AppendUvarint(b, uint64(len(pairs)))
	last := int32(0)
	for _, p := range pairs {
		// The lowest bit says that a count other than 1 follows.
		step := uint64(p.Bucket-last) << 1
		last = p.Bucket
		if p.Count == 1 {
			b = binary.AppendUvarint(b, step)
			continue
		}
		b = binary.AppendUvarint(b, step|1)
		b = binary.AppendUvarint(b, uint64(p.Count))
	}
	return b
}

// Unpack calls each with the buckets of a histogram that Pack wrote at the beginning of b, and returns what follows it.
// It trusts b: what is packed never leaves the process.
func Unpack(b []byte, each func(Pair)) []byte {
	n, size := binary.Uvarint(b)
	b = b[size:]
	p := Pair{}
	for range n {
		step, size := binary.Uvarint(b)
		b = b[size:]
		p.Bucket, p.Count = p.Bucket+int32(step>>1), 1
		if step&1 != 0 {
			count, size := binary.Uvarint(b)
			b, p.Count = b[size:], int64(count)
		}
		each(p)
	}
	return b
}

// UnpackHistogram returns a histogram that Pack wrote at the beginning of b, and what follows it; nil for an empty one.
func UnpackHistogram(b []byte) (h *Histogram, rest []byte) {
	n, _ := binary.Uvarint(b)
	if n > 0 {
		h = &Histogram{pairs: make([]Pair, 0, n)}
	}
	rest = Unpack(b, func(p Pair) { h.pairs = append(h.pairs, p) })
	return h, rest
}
