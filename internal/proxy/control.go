package proxy

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/measure"
)

// control owns every change of the table. Requests never wait for it.
type control struct {
	plane  *plane
	socket string // control socket, beside which workers that leave listen; "" for none
	file   tableFile
	ledger *ledger
	log    *slog.Logger
	life   context.Context // of the worker: probes and check listeners end with it

	mu        sync.Mutex
	closed    bool                   // the worker leaves: another one changes the table
	gone      map[string]int64       // the last epochs of deleted routes, by key
	releases  map[[2]string]*release // by key of the route and release
	instances map[[3]string]*instance
	meters    []*meter
	listeners map[[3]string]*checkListener // by key of the route, rollout and next
	unsaved   error                        // why the table in memory is not on disk
	watch     map[string][]window          // the last minute of each route, for the dead-man rule
}

func newControl(ctx context.Context, p *plane, file string, l *ledger, log *slog.Logger) *control {
	c := &control{
		plane: p, file: tableFile{file}, ledger: l, log: log, life: ctx,
		gone: map[string]int64{}, releases: map[[2]string]*release{}, instances: map[[3]string]*instance{},
		listeners: map[[3]string]*checkListener{}, watch: map[string][]window{},
	}
	p.table.Store(newTable(nil))
	return c
}

// restore serves the last table. A route that cannot be read any more is left out and logged; the others serve.
func (c *control) restore() error {
	list, err := c.file.load()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	routes := map[string]*route{}
	for _, r := range list {
		if r.Gone {
			c.gone[r.Key()] = r.Epoch
			continue
		}
		if err := normalise(&r.Route); err != nil {
			c.log.Error("route left out", "route", r.Key(), "error", err)
			continue
		}
		routes[r.Key()] = c.build(r.Route, nil, r.Salt)
	}
	c.swap(routes)
	return nil
}

// put makes r the route of its key and answers it as applied.
func (c *control) put(r domain.Route) (domain.Route, error) {
	if err := normalise(&r); err != nil {
		return r, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.closedError(); err != nil {
		return r, err
	}
	current := c.plane.table.Load().routes
	was := current[r.Key()]
	if err := c.revived(&r, was); err != nil {
		return r, err
	}
	if err := c.allowed(&r, was); err != nil {
		return r, err
	}
	if err := owned(&r, current); err != nil {
		return r, err
	}
	routes := maps.Clone(current)
	if routes == nil {
		routes = map[string]*route{}
	}
	next := c.build(r, was, nil)
	routes[r.Key()] = next
	lowers := was != nil && was.Rollout == r.Rollout && (r.Latched || r.Weight < was.Weight)
	if err := c.apply(routes, lowers); err != nil {
		return r, err
	}
	return next.Route, nil
}

// remove takes a route away.
func (c *control) remove(key string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.closedError(); err != nil {
		return err
	}
	routes := maps.Clone(c.plane.table.Load().routes)
	was := routes[key]
	if was == nil {
		return nil
	}
	delete(routes, key)
	c.gone[key] = was.Epoch
	err := c.apply(routes, false)
	if err != nil {
		delete(c.gone, key)
	}
	return err
}

// revived refuses what was meant for a route before it was deleted. Epoch 1 begins a new life, which goes on from the last
// epoch of the one before.
func (c *control) revived(r *domain.Route, was *route) error {
	last, gone := c.gone[r.Key()]
	switch {
	case was != nil || !gone || r.Epoch > last:
		return nil
	case r.Epoch == 1:
		r.Epoch = last + 1
		return nil
	}
	return domain.Errorf(domain.Conflict, "epoch %d of %s is older than its deletion after %d", r.Epoch, r.Key(), last).
		WithHint("begin again with epoch 1")
}

// allowed refuses what would undo a later decision: an older epoch, or the raise of a rollout that was rolled back.
func (c *control) allowed(r *domain.Route, was *route) error {
	if was == nil {
		return nil
	}
	if r.Epoch < was.Epoch {
		return domain.Errorf(domain.Conflict, "epoch %d of %s is older than %d, which is applied", r.Epoch, r.Key(), was.Epoch).
			WithHint("read the routes again")
	}
	if !was.Latched || was.Next == nil {
		return nil
	}
	refused := domain.Errorf(domain.Conflict, "rollout %s of %s was rolled back by %s: its next gets no more than %d",
		was.Rollout, r.Key(), cmp.Or(was.LatchedBy, "serve"), was.Weight).WithHint("go on with the rollback")
	if r.Rollout != was.Rollout {
		if r.Rollout == "" && r.Stable != nil && r.Stable.Release == was.Next.Release && was.Stable != nil {
			return refused
		}
		return nil
	}
	if r.Weight > was.Weight || r.Stable != nil && r.Stable.Release == was.Next.Release {
		return refused
	}
	r.Latched, r.LatchedBy = true, cmp.Or(was.LatchedBy, r.LatchedBy)
	return nil
}

// owned refuses a host and path that another route owns.
func owned(r *domain.Route, routes map[string]*route) error {
	for key, o := range routes {
		if key == r.Key() {
			continue
		}
		for _, h := range r.Hosts {
			for _, p := range r.Paths {
				if slices.Contains(o.Hosts, h) && slices.Contains(o.Paths, p) {
					return domain.Errorf(domain.Invalid, "%s%s is owned by %s and wanted by %s", h, p, key, r.Key()).
						WithHint("give one of them another host or path")
				}
			}
		}
	}
	return nil
}

// apply swaps the table and writes it: what lowers next comes first and is written after, all else is written first.
// A full disk never keeps traffic on a release that is taken back.
func (c *control) apply(routes map[string]*route, lowers bool) error {
	if lowers {
		c.swap(routes)
		c.tellLeaving(routes)
		c.unsaved = c.file.save(c.records(routes))
		if c.unsaved != nil {
			c.log.Error("table not written", "error", c.unsaved)
		}
		return nil
	}
	if err := c.file.save(c.records(routes)); err != nil {
		c.swap(c.plane.table.Load().routes) // lets go of what was built for the change
		return domain.Errorf(domain.Unavailable, "table not written: %w", err).WithHint("free some disk space")
	}
	c.unsaved = nil
	c.swap(routes)
	c.tellLeaving(routes)
	return nil
}

// How long a change waits for requests that were drawn before it.
const (
	settleWithin = 100 * time.Millisecond // for those not yet written; a user's request to next that comes later is not
	departWithin = 500 * time.Millisecond // for those being written, which takes longer only where nobody reads
)

// swap makes the routes the table of every new request, waits until those that were drawn before are on their way, and lets go of what nothing
// refers to any more.
func (c *control) swap(routes map[string]*route) {
	c.plane.table.Store(newTable(routes))
	c.tidy(routes)
	deadline := time.Now().Add(settleWithin)
	for _, r := range c.releases {
		if c.gets(r.app, r.env, r.id, "") {
			continue
		}
		for r.starting.Load() > 0 && time.Now().Before(deadline) {
			time.Sleep(200 * time.Microsecond)
		}
		for r.departing.Load() > 0 && time.Now().Before(deadline.Add(departWithin)) {
			time.Sleep(200 * time.Microsecond)
		}
	}
}

// gets reports whether new requests of users may reach a release, or one instance of it.
func (c *control) gets(app, env, id, addr string) bool {
	for _, t := range c.plane.table.Load().routes {
		if t.App != app || string(t.Environment) != env {
			continue
		}
		for _, side := range []domain.Side{domain.Stable, domain.Next} {
			b := t.backendOf(side)
			if idOf(b) == id && b != nil && t.takes(side) &&
				(addr == "" || slices.ContainsFunc(b.instances, func(i *instance) bool { return i.addr == addr })) {
				return true
			}
		}
	}
	return false
}

// build makes a route ready for requests, with the live parts that it shares with the one before it.
func (c *control) build(r domain.Route, was *route, salt []byte) *route {
	t := &route{Route: r, key: r.Key(), cookie: cookieName(r.Key())}
	switch {
	case was != nil && was.Rollout == r.Rollout:
		t.salt, t.seal, t.draws, t.seen = was.salt, was.seal, was.draws, was.seen
	case len(salt) == len(t.salt):
		copy(t.salt[:], salt)
		t.seen = c.recall(t)
	default:
		_, _ = rand.Read(t.salt[:]) // never fails
	}
	if t.seal == nil {
		t.seal = newSeal(t.salt)
	}
	if t.draws == nil {
		t.draws = newDrawer(t.salt)
	}
	if t.seen == nil {
		t.seen = newSeen()
	}
	t.labels = newLabels(r.Endpoints, r.Segments)
	if was != nil && slices.Equal(was.Endpoints, r.Endpoints) && maps.Equal(was.Segments, r.Segments) {
		t.labels = was.labels
	}
	t.stable, t.next = c.backend(t, r.Stable), c.backend(t, r.Next)
	if t.stable != nil {
		t.stable.takenBack = false
	}
	if t.next != nil {
		t.next.takenBack = t.Latched
	}
	t.stableMeter = c.meter(t, was, domain.Stable)
	t.nextMeter = c.meter(t, was, domain.Next)
	t.Checks = c.listen(t)
	return t
}

func (c *control) backend(t *route, b *domain.Backend) *backend {
	if b == nil {
		return nil
	}
	id := [2]string{t.key, b.Release}
	rel := c.releases[id]
	if rel == nil {
		rel = &release{route: t.key, id: b.Release, app: t.App, env: string(t.Environment), role: t.Role}
		c.releases[id] = rel
	}
	live := &backend{release: rel, commit: b.Commit}
	for _, e := range b.Instances {
		id := [3]string{t.key, b.Release, e.Addr}
		i := c.instances[id]
		if i == nil || i.probe != b.Probe {
			if i != nil {
				i.cancel()
			}
			i = &instance{addr: e.Addr, probe: b.Probe}
			i.left.Store(true)
			c.instances[id] = i
		}
		if i.left.Swap(false) {
			i.live(c.life)
		}
		live.instances = append(live.instances, i)
		live.warm = later(live.warm, e.Warm)
	}
	return live
}

// meter returns the meter of a side: the one of before while nothing changed that its counts carry.
func (c *control) meter(t, was *route, side domain.Side) *meter {
	b := t.backendOf(side)
	if b == nil {
		return nil
	}
	var m *meter
	if was != nil && was.Rollout == t.Rollout && was.Weight == t.Weight && was.labels == t.labels &&
		was.splits() == t.splits() && was.Split == t.Split && idOf(was.backendOf(side)) == b.id {
		m = was.meterOf(side)
	} else {
		m = newMeter(t, side, b.id)
		c.meters = append(c.meters, m)
	}
	m.warm = later(m.warm, b.warm)
	return m
}

func (t *route) meterOf(side domain.Side) *meter {
	if side == domain.Next {
		return t.nextMeter
	}
	return t.stableMeter
}

// forgetAfter is how long an instance is remembered that left every table: what was drawn before may still come to it.
const forgetAfter = time.Minute

// tidy lets go of releases, instances and listeners that no route names. What is still open keeps a release.
func (c *control) tidy(routes map[string]*route) {
	liveReleases, liveInstances := map[*release]bool{}, map[*instance]bool{}
	liveMeters := map[*meter]bool{}
	for _, t := range routes {
		liveMeters[t.stableMeter], liveMeters[t.nextMeter] = true, true
		for _, b := range []*backend{t.stable, t.next} {
			if b == nil {
				continue
			}
			liveReleases[b.release] = true
			for _, i := range b.instances {
				liveInstances[i] = true
			}
		}
	}
	for id, r := range c.releases {
		if !liveReleases[r] && r.open.Load() == 0 && time.Since(time.Unix(0, r.last.Load())) > time.Hour {
			delete(c.releases, id)
		}
	}
	now := time.Now()
	for id, i := range c.instances {
		switch was := i.left.Swap(!liveInstances[i]); {
		case liveInstances[i]:
		case !was:
			i.cancel()
			i.leftAt = now
		case i.open.Load() == 0 && now.Sub(i.leftAt) > forgetAfter:
			delete(c.instances, id)
		}
	}
	for _, m := range c.meters {
		m.retired = !liveMeters[m]
	}
	for id, l := range c.listeners {
		if t := routes[id[0]]; t == nil || t.checkID() != id {
			l.close()
			delete(c.listeners, id)
		}
	}
}

// tick ends a second: it hands what was counted to the ledger, and tries again to write a table that could not be written.
func (c *control) tick(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var series []measure.Series
	kept := c.meters[:0]
	for _, m := range c.meters {
		series = m.take(now, series)
		if m.idle++; !m.retired || m.open.Load() > 0 {
			m.idle = 0
		}
		if m.idle < 3 { // a request that was just drawn under the last table is still counted
			kept = append(kept, m)
		}
	}
	clear(c.meters[len(kept):])
	c.meters = kept
	if err := c.ledger.close(now, series); err != nil {
		c.log.Error("tick lost", "error", err)
	}
	if c.closed {
		return
	}
	c.deadMan(now, series)
	if c.unsaved != nil {
		c.unsaved = c.file.save(c.records(c.plane.table.Load().routes))
	}
}

// records is what is kept on disk of the routes, and of those that were deleted.
func (c *control) records(routes map[string]*route) []record {
	list := make([]record, 0, len(routes)+len(c.gone))
	for _, key := range slices.Sorted(maps.Keys(routes)) {
		list = append(list, record{Route: routes[key].Route, Salt: routes[key].salt[:]})
	}
	for _, key := range slices.Sorted(maps.Keys(c.gone)) {
		if app, rest, _ := strings.Cut(key, "/"); routes[key] == nil {
			env, role, _ := strings.Cut(rest, "/")
			list = append(list, record{Gone: true, Route: domain.Route{
				App: app, Environment: domain.Environment(env), Role: role, Epoch: c.gone[key],
			}})
		}
	}
	return list
}
