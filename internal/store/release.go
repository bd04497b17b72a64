package store

import (
	"context"
	"database/sql"
	"maps"
	"slices"

	"github.com/belay-cd/belay/internal/domain"
)

// storedRelease is a release as it lies on the disk: the values of its secrets are sealed, role by role and name by name.
type storedRelease struct {
	domain.Release
	Sealed map[string]map[string][]byte `json:"sealed,omitempty"`
}

// seal moves the secret values of a release out of its workloads. The release that was given stays as it is.
func (s *Store) seal(r domain.Release) (storedRelease, error) {
	stored := storedRelease{Release: r}
	stored.Workloads = slices.Clone(r.Workloads)
	for i, w := range stored.Workloads {
		for _, name := range w.Secrets {
			value, ok := w.Env[name]
			if !ok {
				continue
			}
			if s.sealer == nil {
				return stored, domain.Errorf(domain.Refused, "store release %s: %s is secret, and there is no key to seal it with", r.ID, name)
			}
			sealed, err := s.sealer.Seal([]byte(value), placeOf(r, w.Role, name))
			if err != nil {
				return stored, domain.Errorf(domain.Failed, "seal %s of release %s: %w", name, r.ID, err)
			}
			if stored.Sealed == nil {
				stored.Sealed = map[string]map[string][]byte{}
			}
			if stored.Sealed[w.Role] == nil {
				stored.Sealed[w.Role] = map[string][]byte{}
			}
			stored.Sealed[w.Role][name] = sealed
		}
		stored.Workloads[i].Env = maps.Clone(w.Env)
		for name := range stored.Sealed[w.Role] {
			delete(stored.Workloads[i].Env, name)
		}
	}
	return stored, nil
}

// open puts the secret values back.
func (s *Store) open(stored storedRelease) (domain.Release, error) {
	r := stored.Release
	for i, w := range r.Workloads {
		for name, sealed := range stored.Sealed[w.Role] {
			if s.sealer == nil {
				return r, domain.Errorf(domain.Refused, "read release %s: %s is sealed, and there is no key to open it with", r.ID, name)
			}
			value, err := s.sealer.Open(sealed, placeOf(r, w.Role, name))
			if err != nil {
				return r, domain.Errorf(domain.Failed, "open %s of release %s: %w", name, r.ID, err)
			}
			if w.Env == nil {
				w.Env = map[string]string{}
				r.Workloads[i].Env = w.Env
			}
			w.Env[name] = string(value)
		}
	}
	return r, nil
}

// placeOf names the one place that a sealed value belongs to.
func placeOf(r domain.Release, role, name string) string {
	return r.App + "/" + string(r.Environment) + "/" + r.ID + "/" + role + "/" + name
}

// SaveRelease stores a release; one with the same ID is replaced and keeps its place in the order. The values of the
// variables that Workload.Secrets names are sealed before they reach the disk.
func (s *Store) SaveRelease(ctx context.Context, r domain.Release) error {
	stored, err := s.seal(r)
	if err != nil {
		return err
	}
	return s.write(ctx, "store release "+r.ID, func(tx *sql.Tx) error {
		at, err := position(ctx, tx)
		if err != nil {
			return err
		}
		_, err = exec(ctx, tx, `INSERT INTO releases (id, app, environment, position, document) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET document = excluded.document`, r.ID, r.App, r.Environment, at, asJSON{stored})
		return err
	})
}

// Release returns one release with its secret values.
func (s *Store) Release(ctx context.Context, id string) (domain.Release, error) {
	stored, err := document[storedRelease](ctx, s.readers, `SELECT document FROM releases WHERE id = ?`, id)
	if err != nil {
		return domain.Release{}, missing(err, "release %s", id)
	}
	return s.open(stored)
}

// Releases lists the releases of an app in one environment, the newest first, at most limit; 0 is all.
func (s *Store) Releases(ctx context.Context, app string, env domain.Environment, limit int) ([]domain.Release, error) {
	stored, err := documents[storedRelease](ctx, s.readers,
		`SELECT document FROM releases WHERE app = ? AND environment = ? ORDER BY position DESC LIMIT ?`, app, env, limited(limit))
	if err != nil {
		return nil, reading(err, "releases of "+app)
	}
	list := make([]domain.Release, len(stored))
	for i := range stored {
		if list[i], err = s.open(stored[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}
