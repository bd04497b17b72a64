package proxy

import (
	"cmp"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

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
			if id[0] == r.route && id[1] == r.id && (!i.left.Load() || i.open.Load() > 0) {
				f.Instances = append(f.Instances, InstanceInFlight{Addr: i.addr, Open: i.open.Load(), Dead: i.dead.Load()})
			}
		}
		slices.SortFunc(f.Instances, func(a, b InstanceInFlight) int { return cmp.Compare(a.Addr, b.Addr) })
		list = append(list, f)
	}
	slices.SortFunc(list, inOrder)
	return list
}

func unixTime(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
