package registry

import (
	"cmp"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Retained is a release as far as retention cares.
type Retained struct {
	App         string
	Environment domain.Environment
	Digest      string
	Created     time.Time
}

// Retention says how much is kept besides the rollback targets.
type Retention struct {
	Releases int           // newest different artifacts per app and environment
	Age      time.Duration // everything younger
}

// DefaultRetention keeps 5 releases and 30 days.
var DefaultRetention = Retention{Releases: 5, Age: 30 * 24 * time.Hour}

// Keep divides the digests of all releases into those to keep and those to remove. A digest stays if any app and any
// environment has a reason for it: it is a rollback target (in targets, wherever it came from), it is young, or it is among
// the newest. Both results are sorted and have no digest in common.
func Keep(releases []Retained, targets []string, now time.Time, r Retention) (keep, remove []string) {
	kept := map[string]bool{}
	for _, digest := range targets {
		kept[digest] = true
	}
	newest := slices.Clone(releases)
	slices.SortStableFunc(newest, func(a, b Retained) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.Digest, b.Digest))
	})
	type place struct {
		app         string
		environment domain.Environment
	}
	counted := map[place]map[string]bool{}
	for _, rel := range newest {
		at := place{rel.App, rel.Environment}
		if counted[at] == nil {
			counted[at] = map[string]bool{}
		}
		if !counted[at][rel.Digest] && len(counted[at]) < r.Releases {
			counted[at][rel.Digest] = true
		}
		if counted[at][rel.Digest] || now.Sub(rel.Created) < r.Age {
			kept[rel.Digest] = true
		}
	}
	gone := map[string]bool{}
	for _, rel := range releases {
		if !kept[rel.Digest] {
			gone[rel.Digest] = true
		}
	}
	return sorted(kept), sorted(gone)
}

func sorted(set map[string]bool) []string {
	all := make([]string, 0, len(set))
	for digest := range set {
		all = append(all, digest)
	}
	slices.Sort(all)
	return all
}
