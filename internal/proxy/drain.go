package proxy

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// The end of a drain: streams end spread over jitter, so that their clients do not come back all at once, and have so
// long to end in good form.
const (
	drainJitter = 2 * time.Second
	drainGrace  = socketGrace + time.Second
	drainPoll   = 5 * time.Millisecond
)

// drain waits until nothing is open on a release, or one instance of it, at most d.Within; then it ends the streams.
func (c *control) drain(ctx context.Context, d DrainRequest) (DrainResult, error) {
	c.mu.Lock()
	var rels []*release
	for _, r := range c.releases {
		if r.app == d.App && r.env == string(d.Environment) && r.id == d.Release {
			rels = append(rels, r)
		}
	}
	busy := c.gets(d.App, string(d.Environment), d.Release, d.Addr)
	var insts []*instance
	for id, i := range c.instances {
		if d.Addr != "" && id[1] == d.Release && i.addr == d.Addr {
			insts = append(insts, i)
		}
	}
	c.mu.Unlock()
	if busy {
		return DrainResult{}, domain.Errorf(domain.Conflict, "release %s of %s in %s still gets traffic", d.Release, d.App, d.Environment).
			WithHint("lower its weight first")
	}
	open := func() (n int64) {
		if d.Addr != "" {
			for _, i := range insts {
				n += i.open.Load()
			}
			return n
		}
		for _, r := range rels {
			n += r.open.Load()
		}
		return n
	}
	if err := waitFor(ctx, d.Within, func() bool { return open() == 0 }); err != nil {
		return DrainResult{}, err
	}
	result := DrainResult{Ended: endStreams(rels, d.Addr, min(drainJitter, d.Within/2))}
	if result.Ended > 0 {
		gone := func() bool { return open() == 0 || len(streamsOn(rels, d.Addr)) == 0 }
		if err := waitFor(ctx, min(drainJitter, d.Within/2)+drainGrace, gone); err != nil {
			return DrainResult{}, err
		}
	}
	result.Open = open()
	for _, r := range rels {
		if at := unixTime(r.first.Load()); at.After(result.LastRequest) {
			result.LastRequest = at
		}
	}
	return result, nil
}

// endStreams finishes the open streams, spread over the jitter, and says how many there were.
func endStreams(rels []*release, addr string, jitter time.Duration) int64 {
	streams := streamsOn(rels, addr)
	for _, s := range streams {
		time.AfterFunc(rand.N(jitter+1), s.finish)
	}
	return int64(len(streams))
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

// inFlight lists what is open on each release.
func (c *control) inFlight() []InFlight {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := []InFlight{}
	for _, r := range c.releases {
		f := InFlight{
			App: r.app, Environment: domain.Environment(r.env), Role: r.role, Release: r.id, Streams: r.streamed.Load(),
			LastRequest: unixTime(r.first.Load()), LastConnection: unixTime(r.last.Load()), Saved: r.saved.Load(),
		}
		f.Requests = max(0, r.open.Load()-f.Streams)
		for id, i := range c.instances {
			if id[0] == r.route && id[1] == r.id {
				f.Instances = append(f.Instances, InstanceInFlight{Addr: i.addr, Open: i.open.Load(), Dead: i.dead.Load()})
			}
		}
		slices.SortFunc(f.Instances, func(a, b InstanceInFlight) int { return cmp.Compare(a.Addr, b.Addr) })
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b InFlight) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Role, b.Role), cmp.Compare(a.Release, b.Release))
	})
	return list
}

func unixTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
