package secrets

import (
	"io"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Mask is what stands where a value was. Values that touch or overlap become one.
const Mask = "[redacted]"

// Masker finds values and their encoded forms in text: an Aho-Corasick automaton, so one pass whatever the number of
// values. It never changes and is safe for concurrent use. A nil Masker masks nothing.
//
// Mask a text before cutting it: half a value is not found.
type Masker struct {
	nodes []node
	root  [256]int32 // children of the root, and where bytes lead from it
}

// node is a prefix of at least one form. Its children are a linked list, as almost every node has one.
type node struct {
	child, sibling int32
	fail           int32 // the longest proper suffix that is a node too
	depth          int32 // bytes of the prefix
	match          int32 // bytes of the longest form that ends here; 0: none
	b              byte
}

// NewMasker makes the automaton for values. Values and lines shorter than MinMasked are left out.
func NewMasker(values ...domain.Secret) *Masker {
	m := &Masker{nodes: make([]node, 1)}
	for _, v := range values {
		for _, form := range forms(v.Reveal()) {
			m.insert(form)
		}
	}
	m.link()
	return m
}

func (m *Masker) insert(form string) {
	at := int32(0)
	for i := range len(form) {
		next := m.childOf(at, form[i])
		if next == 0 {
			next = int32(len(m.nodes))
			m.nodes = append(m.nodes, node{b: form[i], sibling: m.nodes[at].child, depth: int32(i + 1)})
			m.nodes[at].child = next
			if at == 0 {
				m.root[form[i]] = next
			}
		}
		at = next
	}
	m.nodes[at].match = int32(len(form))
}

func (m *Masker) childOf(at int32, b byte) int32 {
	if at == 0 {
		return m.root[b]
	}
	for c := m.nodes[at].child; c != 0; c = m.nodes[c].sibling {
		if m.nodes[c].b == b {
			return c
		}
	}
	return 0
}

// link sets the fail links breadth first: those of shorter prefixes are needed for the longer ones.
func (m *Masker) link() {
	queue := make([]int32, 0, len(m.nodes))
	for c := m.nodes[0].child; c != 0; c = m.nodes[c].sibling {
		queue = append(queue, c)
	}
	for i := 0; i < len(queue); i++ {
		at := queue[i]
		for c := m.nodes[at].child; c != 0; c = m.nodes[c].sibling {
			f := m.step(m.nodes[at].fail, m.nodes[c].b)
			m.nodes[c].fail = f
			m.nodes[c].match = max(m.nodes[c].match, m.nodes[f].match)
			queue = append(queue, c)
		}
	}
}

func (m *Masker) step(at int32, b byte) int32 {
	for at != 0 {
		if c := m.childOf(at, b); c != 0 {
			return c
		}
		at = m.nodes[at].fail
	}
	return m.root[b]
}

// String returns s with every value masked.
func (m *Masker) String(s string) string {
	if m == nil || len(m.nodes) == 1 {
		return s
	}
	var f filter
	out := append(f.feed(m, nil, []byte(s)), f.rest()...)
	return string(out)
}

// Writer returns a writer that masks what passes through it to w.
func (m *Masker) Writer(w io.Writer) *Writer { return &Writer{m: m, w: w} }

// filter is the state between two chunks of one stream. Positions count from the beginning of the stream.
type filter struct {
	at     int32
	held   []byte  // bytes that may still become part of a value, or are part of one
	ends   []int64 // for each of held: where the longest value that begins there ends; 0: none does
	base   int64   // position of held[0]
	until  int64   // end of the values that began before base
	masked bool    // the last byte that left was part of a value
}

// feed takes a chunk and appends to out what can no longer become part of a value.
func (f *filter) feed(m *Masker, out, chunk []byte) []byte {
	for i := 0; i < len(chunk); i++ {
		if f.at == 0 {
			// The common case: nothing is held and no form begins here. Pass the whole run on at once.
			from := i
			for i < len(chunk) && m.root[chunk[i]] == 0 {
				i++
			}
			out = append(out, chunk[from:i]...)
			f.base += int64(i - from)
			if i == len(chunk) {
				break
			}
		}
		f.at = m.step(f.at, chunk[i])
		f.held = append(f.held, chunk[i])
		f.ends = append(f.ends, 0)
		n := &m.nodes[f.at]
		if n.match > 0 {
			end := f.base + int64(len(f.held))
			if k := len(f.held) - int(n.match); k >= 0 {
				f.ends[k] = end
			} else {
				f.until = end // its beginning has left already
			}
		}
		out = f.release(out, int(n.depth))
	}
	return out
}

// release writes all held bytes but the last keep.
func (f *filter) release(out []byte, keep int) []byte {
	n := len(f.held) - keep
	if n <= 0 {
		return out
	}
	for k, b := range f.held[:n] {
		f.until = max(f.until, f.ends[k])
		covered := f.base < f.until
		switch {
		case !covered:
			out = append(out, b)
		case !f.masked:
			out = append(out, Mask...)
		}
		f.masked = covered
		f.base++
	}
	f.held, f.ends = f.held[n:], f.ends[n:]
	return out
}

// rest ends the stream: what was held back is no value any more.
func (f *filter) rest() []byte {
	out := f.release(nil, 0)
	f.at, f.masked = 0, false
	return out
}

// idleAfter is how long a writer waits before it lets a short harmless beginning go.
const idleAfter = 200 * time.Millisecond

// Writer masks a stream. A value may be split over any number of writes: it holds back the longest end that may still
// become one, and nothing else. When nothing follows for 200 ms, an end shorter than MinMasked is let go, so that a prompt
// appears; a longer one waits for the next write or Close, since it may be most of a value. It is safe for concurrent use.
type Writer struct {
	m    *Masker
	w    io.Writer
	mu   sync.Mutex
	f    filter
	buf  []byte
	idle *time.Timer
	err  error
	done bool
}

// Write masks p and passes on what is settled. It takes all of p or returns the error of the writer behind it, once that
// has failed for ever.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return 0, io.ErrClosedPipe
	}
	if w.m == nil || len(w.m.nodes) == 1 {
		return w.w.Write(p)
	}
	if w.err != nil {
		return 0, w.err
	}
	w.buf = w.f.feed(w.m, w.buf[:0], p)
	if w.pass(w.buf); w.err != nil {
		return 0, w.err
	}
	w.arm()
	return len(p), nil
}

func (w *Writer) pass(b []byte) {
	if len(b) > 0 && w.err == nil {
		_, w.err = w.w.Write(b)
	}
}

func (w *Writer) arm() {
	switch {
	case len(w.f.held) == 0:
		if w.idle != nil {
			w.idle.Stop()
		}
	case w.idle == nil:
		w.idle = time.AfterFunc(idleAfter, w.settle)
	default:
		w.idle.Reset(idleAfter)
	}
}

// settle lets go of a short end. The automaton stays where it is: if the value does follow, the rest of it is masked.
func (w *Writer) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done && len(w.f.held) < MinMasked {
		w.pass(w.f.release(nil, 0))
	}
}

// Close writes what was held back and returns the first error of the writer behind, which it does not close. A second
// Close does nothing.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done {
		return w.err
	}
	w.done = true
	if w.idle != nil {
		w.idle.Stop()
	}
	w.pass(w.f.rest())
	return w.err
}

// MaskError returns the message of err with every value masked, or "" for nil.
func (m *Masker) MaskError(err error) string {
	if err == nil {
		return ""
	}
	return m.String(strings.ToValidUTF8(err.Error(), "\uFFFD"))
}
