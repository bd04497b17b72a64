package proxy

import (
	"context"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// release is the live side of one release on one route. It outlives every table that names it, until nothing is open.
type release struct {
	route, id string // key of the route, rel_…
	app, env  string
	role      string

	// open counts requests and streams. It grows before the table is looked at again, so that whoever sees 0 after a
	// change of the table knows that nothing will begin any more.
	open      atomic.Int64
	flowing   atomic.Int64 // of those, answers that have begun
	streamed  atomic.Int64 // of those, streams
	starting  atomic.Int64 // drawn, and not yet written to an instance
	departing atomic.Int64 // being written: grows before the table is looked at for the last time
	first     atomic.Int64 // unix nanoseconds of the last new request
	last      atomic.Int64 // unix nanoseconds of the last end
	saved     atomic.Int64

	mu      sync.Mutex
	streams map[*stream]struct{}

	takenBack bool // by a rollback; guarded by the control's lock
}

// begin counts a request in.
func (r *release) begin() {
	r.starting.Add(1)
	r.open.Add(1)
}

// depart lets a request begin if it still may. Whoever sees no one departing after a change of the table knows that what
// it forbids will not begin any more. The caller counts the request out of departing when it is written.
func (r *release) depart(may func() bool) bool {
	r.departing.Add(1)
	if may() {
		return true
	}
	r.departing.Add(-1)
	return false
}

// end counts a request out.
func (r *release) end() {
	r.last.Store(time.Now().UnixNano())
	r.open.Add(-1)
}

// stream is something long that a drain ends in good form.
type stream struct {
	inst   *instance
	finish func(within time.Duration) // ends it in good form, at the latest after within
	told   atomic.Bool                // that it is to end
}

func (r *release) addStream(s *stream) {
	r.streamed.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.streams == nil {
		r.streams = map[*stream]struct{}{}
	}
	r.streams[s] = struct{}{}
}

func (r *release) removeStream(s *stream) {
	r.mu.Lock()
	delete(r.streams, s)
	r.mu.Unlock()
	r.streamed.Add(-1)
}

// streamsOn lists the open streams of an instance, or of all.
func (r *release) streamsOn(addr string) []*stream {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*stream
	for s := range r.streams {
		if addr == "" || s.inst.addr == addr {
			list = append(list, s)
		}
	}
	return list
}

// backend is what one table knows of a release: which instances take its requests.
type backend struct {
	*release
	commit    string
	instances []*instance
	warm      time.Time // when the last of them has warmed up
}

// instance is the live side of one instance.
type instance struct {
	addr    string
	probe   string
	open    atomic.Int64 // requests and streams
	flowing atomic.Int64 // of those, answers that have begun
	left    atomic.Bool  // no table names it any more; set before a drain looks at open, which grows before this is asked
	dead    atomic.Bool  // by its probe
	ejected atomic.Int64 // until, unix nanoseconds
	hasty   atomic.Bool  // closes idle connections sooner than the proxy does
	cancel  context.CancelFunc
	leftAt  time.Time // guarded by the control's lock
}

// ejection is how long an instance that broke a request takes no other one, while another can.
const ejection = time.Second

func (i *instance) eject() { i.ejected.Store(time.Now().Add(ejection).UnixNano()) }

// notice learns from an answer how long the instance keeps an idle connection.
func (i *instance) notice(res *http.Response) {
	_, after, ok := strings.Cut(res.Header.Get("Keep-Alive"), "timeout=")
	if !ok {
		return
	}
	digits, _, _ := strings.Cut(after, ",")
	if s, err := strconv.Atoi(strings.TrimSpace(digits)); err == nil {
		i.hasty.Store(time.Duration(s)*time.Second <= idleFor)
	}
}

func (i *instance) usable(now int64) bool {
	return !i.dead.Load() && i.ejected.Load() <= now && !i.left.Load()
}

// pick returns the instance with the fewest open requests that is not in tried, one that looks alive before one that
// does not; nil when all were tried.
func (b *backend) pick(tried []*instance) *instance {
	var best *instance
	bestUsable, bestOpen, ties := false, int64(0), 0
	now := time.Now().UnixNano()
	for _, i := range b.instances {
		if slices.Contains(tried, i) {
			continue
		}
		usable, open := i.usable(now), i.open.Load()
		switch {
		case best == nil || usable && !bestUsable || usable == bestUsable && open < bestOpen:
			best, bestUsable, bestOpen, ties = i, usable, open, 1
		case usable == bestUsable && open == bestOpen:
			if ties++; rand.IntN(ties) == 0 {
				best = i
			}
		}
	}
	return best
}

// alive reports whether an instance of b looks able to serve.
func (b *backend) alive() bool {
	now := time.Now().UnixNano()
	return b != nil && slices.ContainsFunc(b.instances, func(i *instance) bool { return i.usable(now) })
}
