package delivery

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/belay-cd/belay/internal/domain"
)

// Changes is what a delivery would bring to production, beside what serves there.
type Changes struct {
	// From is the commit that serves, "" when nothing does.
	From string `json:"from,omitempty"`
	// Commits counts those that From does not hold; Subjects are the newest of them. Back counts those that From holds and this
	// delivery does not.
	Commits  int      `json:"commits"`
	Back     int      `json:"back,omitempty"`
	Subjects []string `json:"subjects,omitempty"`
	// Migrations are the files that are new in the folder of migrations.
	Migrations []string `json:"migrations,omitempty"`
	// Variables are names whose values differ; Secrets tell other versions: "PSP_API_KEY 3 -> 4".
	Variables []string `json:"variables,omitempty"`
	Secrets   []string `json:"secrets,omitempty"`
}

// Range is what lies between two commits.
type Range struct {
	Ahead, Behind int
	Subjects      []string // of those ahead, the newest first
	Added         []string // files that are new in a folder
}

// shownSubjects is how many commits are named.
const shownSubjects = 10

// Changes compares what a delivery brings with what serves in production.
func (s *Service) Changes(ctx context.Context, app string, number int) (Changes, error) {
	d, err := s.ports.Store.Delivery(ctx, app, number)
	if err != nil {
		return Changes{}, err
	}
	own, err := s.fileOf(ctx, app, d.Number)
	if err != nil {
		return Changes{}, err
	}
	slot, err := s.ports.Store.Slot(ctx, app, domain.Production)
	if err != nil {
		return Changes{}, err
	}
	stable := domain.Release{}
	if slot.Stable != "" {
		if stable, err = s.ports.Store.Release(ctx, slot.Stable); err != nil {
			return Changes{}, err
		}
	}
	folder := ""
	if own.Migrations != nil {
		folder = string(own.Migrations.Dir)
	}
	c := Changes{From: stable.Commit}
	between, err := s.ports.Source.Between(ctx, app, stable.Commit, d.Commit, folderOf(d.Folder, folder), shownSubjects)
	if err != nil {
		return c, err
	}
	c.Commits, c.Back, c.Subjects, c.Migrations = between.Ahead, between.Behind, between.Subjects, between.Added
	c.Variables = otherVariables(stable.Workloads, workloads(own, domain.Production))
	_, versions, err := s.ports.Secrets.Resolve(ctx, app, own, domain.Production)
	c.Secrets = otherVersions(stable.Secrets, versions)
	return c, err
}

// folderOf is a folder of the app's within the repository, "" for none.
func folderOf(app, folder string) string {
	if folder == "" || app == "" {
		return folder
	}
	return app + "/" + folder
}

// otherVariables names what is set to something else in any role. Secrets are told by their versions.
func otherVariables(stable, next []domain.Workload) []string {
	values := func(list []domain.Workload) map[string]string {
		all := map[string]string{}
		for _, w := range list {
			for name, value := range w.Env {
				if !slices.Contains(w.Secrets, name) {
					all[w.Role+" "+name] = value
				}
			}
		}
		return all
	}
	before, after := values(stable), values(next)
	other := map[string]bool{}
	for _, side := range []map[string]string{before, after} {
		for key := range side {
			was, had := before[key]
			is, has := after[key]
			if had != has || was != is {
				var role, name string
				_, _ = fmt.Sscan(key, &role, &name)
				other[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(other))
}

// otherVersions tells which secrets have another version.
func otherVersions(stable, next map[string]int) []string {
	var list []string
	for name, is := range next {
		switch was, had := stable[name]; {
		case !had:
			list = append(list, fmt.Sprintf("%s %d is new", name, is))
		case was != is:
			list = append(list, fmt.Sprintf("%s %d -> %d", name, was, is))
		}
	}
	for name := range stable {
		if _, has := next[name]; !has {
			list = append(list, name+" is gone")
		}
	}
	slices.Sort(list)
	return list
}
