package app

import (
	"context"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/proxy"
	"github.com/belay-cd/belay/internal/registry"
	"github.com/belay-cd/belay/internal/rollout"
	"github.com/belay-cd/belay/internal/scrape"
)

// restoreRoutes makes the routes fit what runs: addresses may have changed in a reboot, and a lost table is made again from
// the slots. Weights are the proxy's own: they are never raised here.
func (s *Server) restoreRoutes(ctx context.Context) error {
	slots, err := s.store.Slots(ctx)
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if slot.Stable == "" {
			continue
		}
		rel, err := s.store.Release(ctx, slot.Stable)
		if err != nil {
			return err
		}
		if !s.router.knows(slot.App, slot.Environment) && len(webRoles(&rel)) > 0 {
			err = s.router.Split(ctx, rollout.Split{App: slot.App, Environment: slot.Environment, Stable: &rel})
		} else {
			err = s.router.refresh(ctx, slot.App, slot.Environment)
		}
		if err != nil {
			s.log.Error("restore the routes", "app", slot.App, "environment", slot.Environment, "error", err)
		}
	}
	return nil
}

// followInterval is how often the list of what is scraped, the proxy and the disk are looked at.
const followInterval = 2 * time.Second

// follow keeps the scraper's sources what runs, the proxy running, and room on the disk for what a rollback must record.
func (s *Server) follow(ctx context.Context) {
	every := time.NewTicker(followInterval)
	defer every.Stop()
	releases := map[string]domain.Release{}
	for {
		if sources, err := s.sources(ctx, releases); err == nil {
			s.scraper.Set(sources)
		}
		if err := s.reviveProxy(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("the proxy does not run", "error", err)
		}
		if err := s.watchDisk(); err != nil {
			s.log.Error("watch the disk", "error", err)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// reviveProxy starts the proxy again when nothing of it is left. It serves the table that it kept.
func (s *Server) reviveProxy(ctx context.Context) error {
	if _, err := s.proxy.Health(ctx); err == nil || domain.CodeOf(err) != domain.Unavailable {
		return nil
	}
	if err := proxy.Spawn(ctx, s.proxyConfig()); err != nil {
		return err
	}
	if err := s.router.load(ctx); err != nil {
		return err
	}
	return s.restoreRoutes(ctx)
}

// watchDisk gives the ballast back while the disk is full, and takes it again when there is room.
func (s *Server) watchDisk() error {
	free, _, err := registry.Free(s.o.Data)
	switch {
	case err != nil:
		return err
	case free < diskFull:
		freed, err := registry.FreeBallast(s.path("ballast"))
		if freed > 0 {
			s.log.Error("the disk is full: the ballast is given back", "free", registry.Size(free), "freed", registry.Size(uint64(freed)))
		}
		return err
	case free > minFree:
		return registry.Ballast(s.path("ballast"), ballast)
	default:
		return nil
	}
}

// diskFull is where the ballast is given back.
const diskFull = 4 << 20

// sources lists every instance that runs.
func (s *Server) sources(ctx context.Context, known map[string]domain.Release) ([]scrape.Source, error) {
	apps, err := s.store.Apps(ctx)
	if err != nil {
		return nil, err
	}
	var sources []scrape.Source
	for _, app := range apps {
		for _, env := range domain.Environments {
			list, err := s.runner.List(ctx, app, env)
			if err != nil {
				return nil, err
			}
			for _, i := range list {
				rel, ok := known[i.Release]
				if !ok {
					if rel, err = s.store.Release(ctx, i.Release); err != nil {
						continue
					}
					known[i.Release] = rel
				}
				sources = append(sources, sourceOf(i, rel))
			}
		}
	}
	return sources, nil
}

func sourceOf(i domain.InstanceStatus, rel domain.Release) scrape.Source {
	src := scrape.Source{Instance: i.InstanceID, PID: i.PID}
	for _, w := range rel.Workloads {
		if w.Role == i.Role && w.Metrics != "" && i.Addr != "" {
			src.URL = "http://" + i.Addr + w.Metrics
		}
	}
	return src
}

// retainEvery is how often what is no longer needed is removed.
const retainEvery = time.Hour

// retain removes old artifacts, never one that somebody may go back to, and old ticks.
func (s *Server) retain(ctx context.Context) {
	every := time.NewTicker(retainEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		if err := s.retainOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Error("remove what is no longer needed", "error", err)
		}
	}
}

// retained is how many releases of an environment are looked at.
const retained = 1000

func (s *Server) retainOnce(ctx context.Context, now time.Time) error {
	var all []registry.Retained
	var targets []string
	apps, err := s.store.Apps(ctx)
	if err != nil {
		return err
	}
	for _, app := range apps {
		for _, env := range domain.Environments {
			releases, err := s.store.Releases(ctx, app, env, retained)
			if err != nil {
				return err
			}
			wanted, err := s.targets(ctx, app, env)
			if err != nil {
				return err
			}
			if err := s.forget(ctx, releases, wanted, now); err != nil {
				return err
			}
			for _, r := range releases {
				all = append(all, registry.Retained{App: app, Environment: env, Digest: r.Digest, Created: r.Created})
				if wanted[r.ID] {
					targets = append(targets, r.Digest)
				}
			}
		}
	}
	active, err := s.store.ActiveDeliveries(ctx)
	if err != nil {
		return err
	}
	for _, d := range active {
		if d.Digest != "" {
			targets = append(targets, d.Digest)
		}
	}
	keep, _ := registry.Keep(all, targets, now, registry.DefaultRetention)
	if _, err := s.registry.GC(ctx, keep); err != nil {
		return err
	}
	if _, err := registry.Prune(s.path("releases"), keep); err != nil {
		return err
	}
	_, err = s.store.PruneTicks(ctx, now.Add(-config.KeepTicks))
	return err
}

// forget removes the folders of instances, their logs among them, that stopped long ago.
func (s *Server) forget(ctx context.Context, releases []domain.Release, wanted map[string]bool, now time.Time) error {
	for i, r := range releases {
		if wanted[r.ID] || i < config.KeepReleases || now.Sub(r.Created) < config.KeepFor {
			continue
		}
		for _, w := range r.Workloads {
			for n := range w.Instances {
				if err := s.runner.Remove(ctx, rollout.InstanceOf(&r, w.Role, n).InstanceID); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// targets lists the releases of an environment that run or may be gone back to.
func (s *Server) targets(ctx context.Context, app string, env domain.Environment) (map[string]bool, error) {
	slot, err := s.store.Slot(ctx, app, env)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{slot.Stable: true, slot.Previous: true, slot.Done: true}
	open, err := s.store.OpenRollouts(ctx)
	for _, r := range open {
		if r.App == app && r.Environment == env {
			wanted[r.Stable], wanted[r.Next] = true, true
		}
	}
	return wanted, err
}

// wanted lists the releases that may run: what slots own, and what the rollouts move that are not over with all that is left
// to do.
func (s *Server) wanted(ctx context.Context) (map[string]bool, error) {
	slots, err := s.store.Slots(ctx)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	apps := map[string]bool{}
	for _, slot := range slots {
		wanted[slot.Stable], apps[slot.App] = true, true
	}
	open, err := s.store.OpenRollouts(ctx)
	if err != nil {
		return nil, err
	}
	active, err := s.store.ActiveDeliveries(ctx)
	if err != nil {
		return nil, err
	}
	deliveries := map[string][]int{}
	for app := range apps {
		deliveries[app] = []int{0} // ways back after done belong to none
	}
	for _, d := range active {
		deliveries[d.App] = append(deliveries[d.App], d.Number)
	}
	for app, numbers := range deliveries {
		for _, n := range numbers {
			past, err := s.store.RolloutsOf(ctx, app, n)
			if err != nil {
				return nil, err
			}
			open = append(open, past...)
		}
	}
	for _, r := range open {
		wanted[r.Stable], wanted[r.Next] = true, true
	}
	return wanted, nil
}
