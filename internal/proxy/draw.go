package proxy

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// block is how many draws one permutation serves.
const block = 1024

// drawer deals out draws in [0, 2³²). Each block of 1,024 draws holds exactly one of every 1,024th part of the range, in
// an order that only the key knows: the share below any threshold is exact to one draw per block, and no client can
// have a rhythm that fits.
type drawer struct {
	key  [32]byte
	next atomic.Uint64
	last atomic.Pointer[dealt]
}

type dealt struct {
	index uint64
	draws [block]uint32
}

// newDrawer starts at a random block, so that a restarted proxy does not deal the same order again.
func newDrawer(key [32]byte) *drawer {
	d := &drawer{key: key}
	d.next.Store(rand.Uint64N(1<<40) * block)
	return d
}

// draw returns the next draw.
func (d *drawer) draw() uint32 {
	n := d.next.Add(1) - 1
	b := d.last.Load()
	if b == nil || b.index != n/block {
		b = deal(d.key, n/block) // goroutines that race here deal the same block
		d.last.Store(b)
	}
	return b.draws[n%block]
}

func deal(key [32]byte, index uint64) *dealt {
	var in [40]byte
	copy(in[:], key[:])
	binary.BigEndian.PutUint64(in[32:], index)
	rng := rand.New(rand.NewChaCha8(sha256.Sum256(in[:])))
	b := &dealt{index: index}
	for i := range b.draws {
		b.draws[i] = uint32(i)<<22 | rng.Uint32()>>10
	}
	rng.Shuffle(block, func(i, j int) { b.draws[i], b.draws[j] = b.draws[j], b.draws[i] })
	return b
}

// drawnNext reports whether a draw is next's at a weight in hundredths of a percent.
func drawnNext(u uint32, weight int) bool {
	return uint64(u)*10_000 < uint64(weight)<<32
}

// placeboShare is measure.PlaceboShare in the unit of weights.
const placeboShare uint64 = measure.PlaceboShare * domain.WeightAll

// drawnPlacebo reports whether a draw of stable's lies in the placebo's part: the top of what next leaves at a weight.
func drawnPlacebo(u uint32, weight int) bool {
	return (1<<32-uint64(u))*domain.WeightAll*domain.WeightAll <= placeboShare*uint64(domain.WeightAll-weight)<<32
}
