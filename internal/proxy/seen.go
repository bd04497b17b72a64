package proxy

import "sync/atomic"

// seen remembers for one rollout of one route which units were counted under which labels, so that a visitor has one first
// error and one first request there, however often they come, whatever the weight.
//
// It knows draws and labels, never sides: what it takes for counted by mistake is as likely next's as stable's, and costs
// both the same share of evidence. The mistakes are few until millions of visitors came, and then grow slowly; its size is
// bounded.
type seen struct {
	visits filter // (draw, label) of requests that began
	errors filter // (draw, label) of requests that failed
}

func newSeen() *seen {
	return &seen{visits: newFilter(4), errors: newFilter(3)}
}

// layerWords are the sizes of a filter's layers: 4 KiB, 64 KiB, 1 MiB and 8 MiB. Most rollouts need the first two.
var layerWords = [...]int{1 << 9, 1 << 13, 1 << 17, 1 << 20}

// perWord is how many entries a word takes before the next layer is begun. Four bits of 64 for each of them leave one
// mistake in about 150.
const perWord = 4

// filter is a set of hashes that errs on one side: it may take for known what it never saw. It is used by many goroutines without a
// lock. Each hash sets four bits of one word, so that one instruction asks and remembers, and of two goroutines that come
// with the same hash only one is told that it is new, but for the instant in which a layer fills up. The last layer takes
// whatever comes.
type filter struct {
	layers []atomic.Pointer[layer]
}

type layer struct {
	added   atomic.Int64
	words   []atomic.Uint64
	touched []atomic.Uint64 // bit i is set where page i has changed since it was last written
}

// pageWords is how many words are written at once.
const pageWords = 512

func newLayer(words int) *layer {
	return &layer{words: make([]atomic.Uint64, words), touched: make([]atomic.Uint64, (words/pageWords+63)/64)}
}

func newFilter(layers int) filter {
	return filter{layers: make([]atomic.Pointer[layer], layers)}
}

// add remembers a hash and reports whether it is new.
func (f *filter) add(hash uint64) bool {
	for i := range f.layers {
		l := f.layer(i)
		if i < len(f.layers)-1 && l.full() {
			if l.has(hash) {
				return false
			}
			continue
		}
		return l.add(hash)
	}
	return false
}

func (f *filter) layer(i int) *layer {
	if l := f.layers[i].Load(); l != nil {
		return l
	}
	f.layers[i].CompareAndSwap(nil, newLayer(layerWords[i]))
	return f.layers[i].Load()
}

func (l *layer) full() bool { return l.added.Load() >= int64(perWord*len(l.words)) }

// close lets nothing more in.
func (l *layer) close() { l.added.Store(int64(perWord * len(l.words))) }

func (l *layer) has(hash uint64) bool {
	at, bits := l.place(hash)
	return l.words[at].Load()&bits == bits
}

func (l *layer) add(hash uint64) bool {
	at, bits := l.place(hash)
	word := &l.words[at]
	if word.Load()&bits == bits || word.Or(bits)&bits == bits {
		return false
	}
	l.added.Add(1)
	l.touch(at / pageWords)
	return true
}

func (l *layer) touch(page uint64) {
	mark, bit := &l.touched[page/64], uint64(1)<<(page%64)
	if mark.Load()&bit == 0 {
		mark.Or(bit)
	}
}

// place is the word of a hash and its four bits there.
func (l *layer) place(hash uint64) (at, bits uint64) {
	for i := range 4 {
		bits |= 1 << (hash >> (6 * i) & 63)
	}
	return (hash >> 32) * uint64(len(l.words)) >> 32, bits
}

// hashUnit is the hash of a draw under a label.
func hashUnit(u uint32, l *label) uint64 {
	h := (uint64(u)+1)*0x9e3779b97f4a7c15 ^ l.hash
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
