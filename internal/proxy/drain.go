package proxy

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// StreamsWithin is how long the streams of a release that retires may go on at most where nothing else is asked for.
const StreamsWithin = 5 * time.Minute

// The end of a drain. Streams are ended spread over a while, so that their clients do not come back all at once; the last
// ones are told early enough to answer before the deadline.
const (
	streamsFactor = 10 // streams go on so much longer than requests: 5 min where these have their usual 30 s
	drainSpread   = 30 * time.Second
	drainPoll     = 5 * time.Millisecond
	drainMargin   = 250 * time.Millisecond // the least that a stream has to end in good form, also past the deadline
)

// ending is when the streams of a drain are told to end: at a random moment from begin to end, all measured from its
// start, and each has so much time left to end in good form.
type ending struct{ begin, end, grace time.Duration }

// endingOf leaves a client the last fifth of the time, and spreads the ends over what comes before.
func endingOf(within time.Duration) ending {
	left := min(socketGrace, within/5)
	return ending{begin: max(within/5, within-drainSpread), end: within - left, grace: max(left, drainMargin)}
}

// drained is what a drain looks at: a release on each of its routes, or one instance of it.
type drained struct {
	addr     string
	releases []*release
	insts    []*instance
	idle     bool // no instance of the release gets new requests
}

// open counts what is not over.
func (d *drained) open() (n int64) {
	for _, r := range d.releases {
		switch {
		case d.addr == "":
			n += r.open.Load()
		case d.idle:
			n += r.starting.Load() // drawn before the table changed, and on its way to one of the instances
		}
	}
	for _, i := range d.insts {
		n += i.open.Load()
	}
	return n
}

// flowing counts those whose answer has begun.
func (d *drained) flowing() (n int64) {
	for _, r := range d.releases {
		if d.addr == "" {
			n += r.flowing.Load()
		}
	}
	for _, i := range d.insts {
		n += i.flowing.Load()
	}
	return n
}

// drain waits until nothing is open on a release, or one instance of it. Requests without an answer have d.Within;
// answers that have begun, and streams, have d.Streams, and streams are told to end before it is over.
func (c *control) drain(ctx context.Context, d DrainRequest) (DrainResult, error) {
	what, err := c.toDrain(&d)
	if err != nil {
		return DrainResult{}, err
	}
	start := time.Now()
	late := func(t time.Duration) bool { return time.Since(start) >= t }
	end := endingOf(d.Streams)
	var result DrainResult
	tell := func(from time.Duration) bool {
		if late(from) {
			result.Ended += endStreams(what.releases, d.Addr, end, start)
			return true
		}
		return false
	}
	begun, last := false, false
	over := func() bool {
		open := what.open()
		if open == 0 {
			return true
		}
		begun = begun || tell(end.begin)
		last = last || tell(end.end) // those that began meanwhile
		return late(d.Within) && what.flowing() == 0
	}
	if err := waitFor(ctx, max(d.Within, d.Streams+drainMargin), over); err != nil {
		return DrainResult{}, err
	}
	result.Open = what.open()
	for _, r := range what.releases {
		result.LastRequest = later(result.LastRequest, unixTime(r.first.Load()))
		result.LastConnection = later(result.LastConnection, unixTime(r.last.Load()))
	}
	return result, nil
}

// toDrain finds what a drain means and fills in how long its streams may go on. What still gets traffic is refused.
func (c *control) toDrain(d *DrainRequest) (*drained, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what := &drained{addr: d.Addr}
	env := string(d.Environment)
	back := false
	for _, r := range c.releases {
		if r.app == d.App && r.env == env && r.id == d.Release {
			what.releases = append(what.releases, r)
			back = back || r.takenBack
		}
	}
	if c.gets(d.App, env, d.Release, d.Addr) {
		return nil, domain.Errorf(domain.Conflict, "release %s of %s in %s still gets traffic", d.Release, d.App, d.Environment).
			WithHint("lower its weight first")
	}
	what.idle = !c.gets(d.App, env, d.Release, "")
	for id, i := range c.instances {
		if d.Addr != "" && id[1] == d.Release && i.addr == d.Addr {
			what.insts = append(what.insts, i)
		}
	}
	switch {
	case d.Streams > 0:
	case back:
		d.Streams = d.Within
	default:
		d.Streams = min(StreamsWithin, streamsFactor*d.Within)
	}
	return what, nil
}

// endStreams tells the open streams that were not told yet to end, each at a moment of its own, and says how many.
func endStreams(rels []*release, addr string, e ending, start time.Time) (told int64) {
	for _, s := range streamsOn(rels, addr) {
		if s.told.Swap(true) {
			continue
		}
		told++
		left := max(0, e.end-time.Since(start))
		time.AfterFunc(rand.N(left+1), func() { s.finish(e.grace) })
	}
	return told
}

func streamsOn(rels []*release, addr string) []*stream {
	var list []*stream
	for _, r := range rels {
		list = append(list, r.streamsOn(addr)...)
	}
	return list
}

// waitFor polls until done, the time has passed or the caller went away, which alone is an error.
func waitFor(ctx context.Context, within time.Duration, done func() bool) error {
	deadline := time.Now().Add(within)
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	for !done() && time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return domain.Errorf(domain.Unavailable, "drain: %w", ctx.Err())
		case <-poll.C:
		}
	}
	return nil
}
