package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// queueWait is the longest wait for a place: then the delivery ends, and nothing was touched.
const queueWait = 24 * time.Hour

// queue lets one delivery at a time into each place of its kind: an app's environment, or the machine's build place. Its
// order is that of arrival, but an urgent one goes before those that are not, and all go before test runs. Where newest is set, an older one that waits
// gives way to a newer one of its app; an urgent one gives way only to an urgent one.
type queue struct {
	newest bool
	key    func(*run) string

	mu     sync.Mutex
	places map[string]*place
}

type place struct {
	holder  *run
	waiting []*waiter
}

type waiter struct {
	run   *run
	ready chan struct{}
	gone  chan int // number of the newer delivery
}

func newQueue(newest bool, key func(*run) string) *queue {
	return &queue{newest: newest, key: key, places: map[string]*place{}}
}

// acquire waits for the place and returns how to give it back. While it waits, reason is shown, and meanwhile is called once a
// second; its error ends the wait.
func (q *queue) acquire(ctx context.Context, r *run, reason func(holder *run) string, meanwhile func(context.Context) error) (func(), error) {
	w, holder := q.join(r, true)
	free := func() { q.free(r) }
	if holder == nil {
		return free, nil
	}
	deadline := time.Now().Add(queueWait)
	why := reason(holder)
	r.wait(ctx, why, "belay", deadline)
	timeout := time.NewTimer(queueWait)
	defer timeout.Stop()
	var second <-chan time.Time
	if meanwhile != nil {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		second = ticker.C
	}
	for {
		select {
		case <-w.ready:
			r.goOn(ctx)
			return free, nil
		case newer := <-w.gone:
			return nil, domain.Errorf(domain.Superseded, "by #%d, which passed Verify staging later", newer)
		case <-ctx.Done():
			q.quit(r, w)
			return nil, context.Cause(ctx)
		case <-timeout.C:
			q.quit(r, w)
			return nil, domain.Errorf(domain.Expired, "%s for more than %s", why, queueWait)
		case <-second:
			err := meanwhile(ctx)
			var known *domain.Error
			if err == nil || ctx.Err() != nil {
				continue
			}
			if errors.As(err, &known) {
				q.quit(r, w)
				return nil, err
			}
			r.s.options.Log.Error("make way for an urgent delivery", "delivery", r.d.Number, "error", err)
		}
	}
}

// claim takes the place for a run that had it before the process was started again; false when another had it after that.
// It is called before any other joins.
func (q *queue) claim(r *run) (func(), bool) {
	_, holder := q.join(r, false)
	return func() { q.free(r) }, holder == nil
}

// join takes the place when it is free and returns nil, or waits behind the holder.
func (q *queue) join(r *run, wait bool) (*waiter, *run) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.places[q.key(r)]
	if p == nil {
		q.places[q.key(r)] = &place{holder: r}
		return nil, nil
	}
	w := &waiter{run: r, ready: make(chan struct{}), gone: make(chan int, 1)}
	if wait {
		p.waiting = slices.Insert(p.waiting, p.turn(r), w)
	}
	if wait && q.newest {
		p.giveWay()
	}
	return w, p.holder
}

// turn is the place in the line of one that joins it.
func (p *place) turn(r *run) int {
	for i, w := range p.waiting {
		if w.run.rank() < r.rank() {
			return i
		}
	}
	return len(p.waiting)
}

// rank says who goes first: an urgent delivery, then any other, then what is tested before its merge.
func (r *run) rank() int {
	switch {
	case r.d.Urgent != "":
		return 2
	case r.isTrial():
		return 0
	default:
		return 1
	}
}

// isTrial reports whether the run is no delivery but a test before a merge.
// It reads the id alone, which never changes.
func (r *run) isTrial() bool { return strings.HasPrefix(r.d.ID, testPrefix) }

// name says what holds a place of the machine.
func (r *run) name() string {
	if r.isTrial() {
		return "a test run of " + r.d.App
	}
	return fmt.Sprintf("#%d of %s", r.d.Number, r.d.App)
}

// giveWay ends the wait of each run that is older than one that waits or holds the place.
func (p *place) giveWay() {
	newest := p.holder.d.Number
	urgent := 0
	for _, w := range p.waiting {
		newest = max(newest, w.run.d.Number)
		if w.run.d.Urgent != "" {
			urgent = max(urgent, w.run.d.Number)
		}
	}
	p.waiting = slices.DeleteFunc(p.waiting, func(w *waiter) bool {
		newer := newest
		if w.run.d.Urgent != "" {
			newer = urgent
		}
		if w.run.d.Number >= newer {
			return false
		}
		w.gone <- newer
		return true
	})
}

// next returns the number of the delivery that waits for the place of r, and whether it is urgent; 0 when none does.
func (q *queue) next(r *run) (number int, urgent bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.places[q.key(r)]
	if p == nil || p.holder != r || len(p.waiting) == 0 {
		return 0, false
	}
	first := p.waiting[0].run // what is read of it never changes
	return first.d.Number, first.d.Urgent != ""
}

// holder returns who has the place that r wants; nil when it is free.
func (q *queue) holder(r *run) *run {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p := q.places[q.key(r)]; p != nil && p.holder != r {
		return p.holder
	}
	return nil
}

// free gives the place to the next in line.
func (q *queue) free(r *run) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := q.key(r)
	p := q.places[key]
	if p == nil || p.holder != r {
		return
	}
	if len(p.waiting) == 0 {
		delete(q.places, key)
		return
	}
	next := p.waiting[0]
	p.holder, p.waiting = next.run, p.waiting[1:]
	close(next.ready)
}

// quit leaves the line; a place that was given at the same moment is given on.
func (q *queue) quit(r *run, w *waiter) {
	q.mu.Lock()
	p := q.places[q.key(r)]
	if p != nil {
		for i := range p.waiting {
			if p.waiting[i] == w {
				p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
				break
			}
		}
	}
	q.mu.Unlock()
	select {
	case <-w.ready:
		q.free(r)
	default:
	}
}
