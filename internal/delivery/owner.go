package delivery

import (
	"context"
	"fmt"
	"slices"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// taken refuses hosts and paths that another app serves already, before anything is built for them. Both owners are named.
func (s *Service) taken(ctx context.Context, f *config.File) error {
	apps, err := s.ports.Store.Apps(ctx)
	if err != nil {
		return err
	}
	for _, app := range apps {
		if app == string(f.App) {
			continue
		}
		for _, env := range domain.Environments {
			slot, err := s.ports.Store.Slot(ctx, app, env)
			if err != nil {
				return err
			}
			if slot.Stable == "" {
				continue
			}
			rel, err := s.ports.Store.Release(ctx, slot.Stable)
			if err != nil {
				return err
			}
			if place := shared(workloads(f, env), rel.Workloads); place != "" {
				return domain.Errorf(domain.Conflict, "%s in %s belongs to %s: %s cannot have it too", place, env, app, f.App).
					WithHint("give roles.….hosts of one of the two another host, or paths that differ")
			}
		}
	}
	return nil
}

// shared returns a host and path that both have, "" when there is none.
func shared(a, b []domain.Workload) string {
	for _, x := range a {
		for _, y := range b {
			for _, host := range x.Hosts {
				if !slices.Contains(y.Hosts, host) {
					continue
				}
				for _, path := range x.Paths {
					if slices.Contains(y.Paths, path) {
						return fmt.Sprintf("%s%s", host, path)
					}
				}
			}
		}
	}
	return ""
}
