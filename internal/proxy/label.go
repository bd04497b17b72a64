package proxy

import (
	"hash/fnv"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/belay-cd/belay/internal/domain"
)

// most is how many endpoints of a route, and how many values of a segment, are counted on their own.
const most = 20

const other = "other"

// label is one thing that is counted on its own. Its address is its identity while the route stands still, its hash also
// after that.
type label struct {
	endpoint, segment string
	hash              uint64
}

func newLabel(endpoint, segment string) label {
	h := fnv.New64a()
	_, _ = io.WriteString(h, endpoint+"\x00"+segment) // never fails
	return label{endpoint, segment, h.Sum64()}
}

// labels names what requests are counted under. Stable and next share it, so that both have the same names.
type labels struct {
	total     label
	patterns  []pattern
	segments  []segment
	rest      label // requests that no pattern, or no free name, fits
	endpoints interned
}

type pattern struct {
	label  label
	method string
	parts  []string
}

type segment struct {
	name   string
	source domain.Segment
	values *interned
}

func newLabels(endpoints []string, segments map[string]domain.Segment) *labels {
	l := &labels{total: newLabel("", ""), rest: newLabel(other, "")}
	l.endpoints.overflow = &l.rest
	for _, e := range endpoints {
		method, path, _ := strings.Cut(e, " ")
		l.patterns = append(l.patterns, pattern{label: newLabel(e, ""), method: method, parts: strings.Split(path, "/")})
	}
	for _, name := range slices.Sorted(maps.Keys(segments)) {
		rest := newLabel("", name+"="+other)
		l.segments = append(l.segments, segment{name: name, source: segments[name], values: &interned{overflow: &rest}})
	}
	return l
}

// of appends every label of the request: the total, its endpoint, its segments.
func (l *labels) of(r *http.Request, list []*label) []*label {
	list = append(list, &l.total, l.endpoint(r))
	for i := range l.segments {
		s := &l.segments[i]
		if v := s.value(r); v != "" {
			list = append(list, s.values.get(s.name, v, func() label { return newLabel("", s.name+"="+v) }))
		}
	}
	return list
}

func (l *labels) endpoint(r *http.Request) *label {
	if len(l.patterns) == 0 {
		part := firstPart(r.URL.Path)
		return l.endpoints.get(r.Method, part, func() label { return newLabel(r.Method+" "+part, "") })
	}
	for i := range l.patterns {
		if p := &l.patterns[i]; p.method == r.Method && p.matches(r.URL.Path) {
			return &p.label
		}
	}
	return &l.rest
}

func (p *pattern) matches(path string) bool {
	for i, part := range p.parts {
		var got string
		var more bool
		got, path, more = strings.Cut(path, "/")
		if part != "*" && part != got || more != (i < len(p.parts)-1) {
			return false
		}
	}
	return true
}

// firstPart is the path up to its second slash.
func firstPart(path string) string {
	if len(path) > 1 {
		if i := strings.IndexByte(path[1:], '/'); i >= 0 {
			return path[:i+1]
		}
	}
	return path
}

func (s *segment) value(r *http.Request) string {
	if s.source.Header != "" {
		return r.Header.Get(s.source.Header)
	}
	if c, err := r.Cookie(s.source.Cookie); err == nil {
		return c.Value
	}
	return ""
}

// interned is a bounded set of labels that is read without a lock.
type interned struct {
	overflow *label
	mu       sync.Mutex
	known    atomic.Pointer[map[[2]string]*label]
}

// longest is how long a counted name may be; longer ones are other.
const longest = 64

func (s *interned) get(a, b string, fresh func() label) *label {
	if m := s.known.Load(); m != nil {
		if l := (*m)[[2]string{a, b}]; l != nil {
			return l
		}
		if len(*m) >= most {
			return s.overflow
		}
	}
	if len(a)+len(b) > longest {
		return s.overflow
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	grown := map[[2]string]*label{}
	if m := s.known.Load(); m != nil {
		if l := (*m)[[2]string{a, b}]; l != nil {
			return l
		}
		if len(*m) >= most {
			return s.overflow
		}
		maps.Copy(grown, *m)
	}
	l := fresh()
	grown[[2]string{strings.Clone(a), strings.Clone(b)}] = &l
	s.known.Store(&grown)
	return &l
}
