package app

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/proxy"
	"github.com/belay-cd/belay/internal/rollout"
)

// router turns the split of an environment into the routes of its web roles. What the data plane does is read from the
// data plane; the router only remembers the epochs.
type router struct {
	proxy *proxy.Client
	list  func(ctx context.Context, app string, env domain.Environment) ([]domain.InstanceStatus, error)
	// warmUp is the age from which an instance is warm; each start of one begins anew.
	warmUp time.Duration

	mu     sync.Mutex
	routes map[string]domain.Route // as the proxy last answered them
	// leaving holds the instances that retire, by the time at which they were started: a later life of one is another.
	leaving map[domain.InstanceID]time.Time
}

// load reads the proxy's table: it is what traffic follows, whatever the store says.
func (r *router) load(ctx context.Context) error {
	status, err := r.proxy.Routes(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.routes = map[string]domain.Route{}
	for _, route := range status.Routes {
		r.routes[route.Key()] = route
	}
	return nil
}

// knows reports whether the environment has a route.
func (r *router) knows(app string, env domain.Environment) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, route := range r.routes {
		if route.App == app && route.Environment == env {
			return true
		}
	}
	return false
}

// Split makes every web role's route what s says.
func (r *router) Split(ctx context.Context, s rollout.Split) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Stable != nil && (s.Latched || s.Rollout == "") {
		r.back(s.Stable.ID)
	}
	if s.Next != nil && !s.Latched {
		r.back(s.Next.ID)
	}
	addresses, err := r.addresses(ctx, s.App, s.Environment)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, role := range webRoles(s.Stable, s.Next) {
		route := routeOf(s, role, addresses)
		wanted[route.Key()] = true
		if err := r.put(ctx, route); err != nil {
			return err
		}
	}
	if s.Rollout != "" {
		return nil
	}
	for key, route := range r.routes {
		if route.App == s.App && route.Environment == s.Environment && !wanted[key] {
			if err := r.proxy.Delete(ctx, route.App, route.Environment, route.Role); err != nil {
				return err
			}
			delete(r.routes, key)
		}
	}
	return nil
}

// put raises the epoch. Where the proxy knows a newer one (another process put it), it is taken over from there once.
func (r *router) put(ctx context.Context, route domain.Route) error {
	route.Epoch = r.routes[route.Key()].Epoch + 1
	applied, err := r.proxy.Put(ctx, route)
	if domain.CodeOf(err) == domain.Conflict {
		if status, lerr := r.proxy.Routes(ctx); lerr == nil {
			for _, known := range status.Routes {
				if known.Key() == route.Key() && known.Epoch >= route.Epoch {
					route.Epoch = known.Epoch + 1
					applied, err = r.proxy.Put(ctx, route)
				}
			}
		}
	}
	if err != nil {
		return err
	}
	r.routes[route.Key()] = applied
	return nil
}

// State returns what the data plane does now. Several web roles move together; of those that both releases have, the one
// with most on next counts.
func (r *router) State(ctx context.Context, app string, env domain.Environment) (rollout.Traffic, error) {
	status, err := r.proxy.Routes(ctx)
	if err != nil {
		return rollout.Traffic{}, err
	}
	var t rollout.Traffic
	alone := 0
	for _, route := range status.Routes {
		if route.App != app || route.Environment != env {
			continue
		}
		if route.Stable != nil {
			t.Stable = route.Stable.Release
		}
		if route.Rollout == "" {
			continue
		}
		t.Rollout = route.Rollout
		t.Latched = t.Latched || route.Latched
		if route.Stable == nil || route.Next == nil {
			alone = max(alone, route.Weight)
			continue
		}
		t.Weight = max(t.Weight, route.Weight)
	}
	if t.Stable == "" {
		t.Weight = alone // a first delivery
	}
	return t, nil
}

// Drain takes one instance out of the routes and waits for its open requests, then ends its streams. One that the data
// plane does not know has none.
func (r *router) Drain(ctx context.Context, id domain.InstanceID, within time.Duration) error {
	addr, err := r.leave(ctx, id)
	if err != nil || addr == "" {
		return err
	}
	if err := r.refresh(ctx, id.App, id.Environment); err != nil {
		return err
	}
	streams := time.Duration(0) // as long as the proxy lets them
	if within <= config.RollbackWebSocketDrain {
		streams = within
	}
	_, err = r.proxy.Drain(ctx, proxy.DrainRequest{App: id.App, Environment: id.Environment, Release: id.Release, Addr: addr, Within: within,
		Streams: streams})
	if domain.CodeOf(err) == domain.NotFound {
		return nil
	}
	return err
}

// leave marks an instance as one that gets no traffic any more, for as long as this life of it lasts, and returns where it
// listens; "" when it does not.
func (r *router) leave(ctx context.Context, id domain.InstanceID) (string, error) {
	list, err := r.list(ctx, id.App, id.Environment)
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range list {
		if i.InstanceID == id && i.Addr != "" {
			if r.leaving == nil {
				r.leaving = map[domain.InstanceID]time.Time{}
			}
			r.leaving[id] = i.Started
			return i.Addr, nil
		}
	}
	delete(r.leaving, id)
	return "", nil
}

// forget drops the marks of instances that are gone. The caller holds the lock.
func (r *router) forget(list []domain.InstanceStatus, app string, env domain.Environment) {
	for id := range r.leaving {
		there := slices.ContainsFunc(list, func(i domain.InstanceStatus) bool { return i.InstanceID == id })
		if id.App == app && id.Environment == env && !there {
			delete(r.leaving, id)
		}
	}
}

// back takes the instances of a release into the traffic again: it gets some after all, whichever of them was about to
// leave. The caller holds the lock.
func (r *router) back(release string) {
	for id := range r.leaving {
		if id.Release == release {
			delete(r.leaving, id)
		}
	}
}

// left reports whether this life of an instance has left the traffic. The caller holds the lock.
func (r *router) left(i domain.InstanceStatus) bool {
	since, known := r.leaving[i.InstanceID]
	return known && since.Equal(i.Started)
}

// LastRequest says when the newest request began on a release, and how many are open.
func (r *router) LastRequest(ctx context.Context, app string, env domain.Environment, release string) (time.Time, int, error) {
	flights, err := r.proxy.InFlight(ctx)
	var last time.Time
	open := 0
	for _, f := range flights {
		if f.App == app && f.Environment == env && f.Release == release {
			open += int(f.Requests + f.Streams)
			if f.LastRequest.After(last) {
				last = f.LastRequest
			}
		}
	}
	return last, open, err
}

// checksURL returns the base of the listener that reaches next only, for one role.
func (r *router) checksURL(app string, env domain.Environment, role string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	route := r.routes[domain.Route{App: app, Environment: env, Role: role}.Key()]
	if route.Checks == "" {
		return ""
	}
	return "http://" + route.Checks
}

// refresh puts the routes of an environment again with the addresses that its instances have now. Weights stay.
func (r *router) refresh(ctx context.Context, app string, env domain.Environment) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	addresses, err := r.addresses(ctx, app, env)
	if err != nil {
		return err
	}
	for _, route := range r.routes {
		if route.App != app || route.Environment != env {
			continue
		}
		changed := false
		for _, b := range []**domain.Backend{&route.Stable, &route.Next} {
			if *b == nil {
				continue
			}
			fresh := **b
			fresh.Instances = addresses[fresh.Release+"/"+route.Role]
			changed = changed || !sameEndpoints((*b).Instances, fresh.Instances)
			*b = &fresh
		}
		if !changed {
			continue
		}
		if err := r.put(ctx, route); err != nil {
			return err
		}
	}
	return nil
}

func sameEndpoints(a, b []domain.Endpoint) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Index != b[i].Index || a[i].Addr != b[i].Addr || !a[i].Warm.Equal(b[i].Warm) {
			return false
		}
	}
	return true
}

// listening is addresses for whoever does not hold the lock.
func (r *router) listening(ctx context.Context, app string, env domain.Environment) (map[string][]domain.Endpoint, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addresses(ctx, app, env)
}

// addresses lists where the instances listen that have not left, by release and role. The caller holds the lock from the
// list to the put: an older list must not come after a newer one.
func (r *router) addresses(ctx context.Context, app string, env domain.Environment) (map[string][]domain.Endpoint, error) {
	list, err := r.list(ctx, app, env)
	if err != nil {
		return nil, err
	}
	r.forget(list, app, env)
	at := map[string][]domain.Endpoint{}
	for _, i := range list {
		if i.Addr != "" && i.State != domain.Stopped && i.State != domain.Stopping && !r.left(i) {
			key := i.Release + "/" + i.Role
			at[key] = append(at[key], domain.Endpoint{Index: i.Index, Addr: i.Addr, Warm: r.warm(i)})
		}
	}
	return at, nil
}

// warm is when an instance has warmed up; zero when that is of no interest, or its start is not known.
func (r *router) warm(i domain.InstanceStatus) time.Time {
	if r.warmUp == 0 || i.Started.IsZero() {
		return time.Time{}
	}
	return i.Started.Add(r.warmUp).Round(0).UTC()
}

// webRoles lists the roles that take traffic in either release.
func webRoles(releases ...*domain.Release) []string {
	var roles []string
	seen := map[string]bool{}
	for _, rel := range releases {
		if rel == nil {
			continue
		}
		for _, w := range rel.Workloads {
			if w.Kind == domain.Web && !seen[w.Role] {
				seen[w.Role] = true
				roles = append(roles, w.Role)
			}
		}
	}
	return roles
}

// routeOf describes one role's route. While both releases have traffic it has the hosts and paths of both: nobody's way in
// goes away before its release does. Everything else is as the newer release says.
func routeOf(s rollout.Split, role string, addresses map[string][]domain.Endpoint) domain.Route {
	route := domain.Route{App: s.App, Environment: s.Environment, Role: role, Rollout: s.Rollout, Weight: s.Weight, Latched: s.Latched}
	if s.Latched {
		route.LatchedBy = "serve"
	}
	backend := func(rel *domain.Release) *domain.Backend {
		if rel == nil {
			return nil
		}
		for _, w := range rel.Workloads {
			if w.Role != role || w.Kind != domain.Web {
				continue
			}
			route.Hosts, route.Paths, route.TLS, route.Drain = union(route.Hosts, w.Hosts), union(route.Paths, w.Paths), w.TLS, w.Drain
			route.Split, route.Sticky, route.Endpoints, route.Segments = w.Split, w.Sticky, w.Endpoints, w.Segments
			return &domain.Backend{Release: rel.ID, Commit: rel.Commit, Instances: addresses[rel.ID+"/"+role], Probe: w.Probe.HTTP}
		}
		return nil
	}
	route.Stable = backend(s.Stable)
	route.Next = backend(s.Next)
	switch {
	case route.Next == nil:
		route.Weight = 0 // next has no such role: stable keeps it until it retires
	case route.Stable == nil && route.Weight > 0:
		route.Weight = domain.WeightAll // there is nobody else
	}
	return route
}

// union appends to a list what it does not have yet.
func union(list, more []string) []string {
	list = slices.Clone(list)
	for _, item := range more {
		if !slices.Contains(list, item) {
			list = append(list, item)
		}
	}
	return list
}
