package delivery

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// Pauses of the work on secrets.
const (
	secretsLook  = 500 * time.Millisecond // after something happened
	secretsEvery = time.Minute            // when nothing did
)

// keepSecrets goes on with rotations, and wipes what nothing can use any more, until the process ends. Each step is absolute:
// what a crash left is done again.
func (s *Service) keepSecrets() {
	if s.ports.Safe == nil {
		return
	}
	wake, cancel := s.ports.Store.Subscribe()
	defer cancel()
	swept := time.Time{}
	for {
		open, err := s.goOnWithRotations(s.life)
		if err != nil && s.life.Err() == nil {
			s.options.Log.Error("go on with the rotation of secrets", "error", err)
		}
		again := secretsEvery
		if open > 0 || err != nil {
			again = rotationGrace
		}
		if time.Since(swept) >= secretsEvery {
			swept = time.Now()
			if err := s.retireSecrets(s.life); err != nil && s.life.Err() == nil {
				s.options.Log.Error("wipe secrets that nothing uses any more", "error", err)
			}
		}
		select {
		case <-wake:
		case <-time.After(again):
		case <-s.life.Done():
			return
		}
		select {
		case <-time.After(secretsLook):
		case <-s.life.Done():
			return
		}
	}
}

// goOnWithRotations does the next step of every rotation that is not done, and returns how many those were.
func (s *Service) goOnWithRotations(ctx context.Context) (int, error) {
	open, err := s.ports.Safe.OpenRotations(ctx)
	if err != nil {
		return 0, err
	}
	for _, r := range open {
		if r.Delivery == 0 && r.Refused == "" && time.Since(r.At) < rotationGrace {
			continue // whoever asked for it is about to hand it over
		}
		if r.Delivery == 0 && r.Refused == "" {
			if _, err := s.deliverRotation(ctx, &r); err != nil {
				s.options.Log.Error("deliver a rotated secret", "secret", r.SecretPlace.String(), "error", err)
			}
		}
		if r.Revoke && !r.Done {
			if err := s.revoke(ctx, r); err != nil {
				return len(open), fmt.Errorf("revoke %s: %w", r.SecretPlace, err)
			}
		}
	}
	return len(open), nil
}

// rotationGrace is how long the one who asked has to hand the delivery over.
const rotationGrace = 2 * time.Second

// revoke takes every version before the rotation's from all releases, once what runs does without them.
func (s *Service) revoke(ctx context.Context, r domain.Rotation) error {
	if busy, err := s.revokeWaits(ctx, r); err != nil || busy != "" {
		return err
	}
	value, version, err := s.ports.Safe.CurrentSecret(ctx, r.SecretPlace)
	if err != nil {
		return err
	}
	had, err := s.replaceSecret(ctx, r, value, version)
	if err != nil {
		return err
	}
	all, err := s.ports.Safe.SecretVersions(ctx, r.App)
	if err != nil {
		return err
	}
	for _, v := range all {
		if v.SecretPlace != r.SecretPlace || v.Version >= r.Version || v.State == domain.RevokedSecret {
			continue
		}
		v.State, v.Ended = domain.RevokedSecret, now()
		v.Releases = union(v.Releases, had[v.Version])
		if err := s.ports.Safe.WipeSecret(ctx, v); err != nil {
			return err
		}
		s.emit(ctx, domain.Event{Type: "secret.revoked", App: r.App, Environment: r.Environment, By: r.By, Data: map[string]any{
			"name": r.Name, "version": v.Version, "replaced": version,
			"sentence": fmt.Sprintf("%s v%d is revoked: every release that had it has v%d now", r.SecretPlace, v.Version, version)}})
	}
	r.Done = true
	return s.ports.Safe.SaveRotation(ctx, r)
}

// revokeWaits says why the versions before cannot be taken away yet: what runs, or may run again within an open rollout, has
// one of them. "" when nothing does.
func (s *Service) revokeWaits(ctx context.Context, r domain.Rotation) (string, error) {
	open, err := s.ports.Store.OpenRollouts(ctx)
	if err != nil {
		return "", err
	}
	for _, rec := range open {
		if rec.App == r.App && rec.Environment == r.Environment {
			return fmt.Sprintf("a rollout in %s is open", r.Environment), nil
		}
	}
	rel, err := s.stableOf(ctx, r.App, r.Environment)
	if err != nil || rel == nil {
		return "", err
	}
	if v := rel.Secrets[r.Name]; v > 0 && v < r.Version {
		return fmt.Sprintf("%s still runs with v%d", r.Environment, v), nil
	}
	if d := s.find(r.App, r.Delivery); d != nil { // its release before is warm until it ends
		return fmt.Sprintf("#%d is not over", r.Delivery), nil
	}
	return "", nil
}

// replaceSecret gives every release of the environment that has a version before the rotation's the current value, and
// returns which release had which version.
func (s *Service) replaceSecret(ctx context.Context, r domain.Rotation, value domain.Secret, version int) (map[int][]string, error) {
	list, err := s.ports.Store.Releases(ctx, r.App, r.Environment, 0)
	if err != nil {
		return nil, err
	}
	had := map[int][]string{}
	all, err := s.ports.Safe.SecretVersions(ctx, r.App)
	if err != nil {
		return nil, err
	}
	for _, rel := range list {
		v, ok := rel.Secrets[r.Name]
		known := slices.ContainsFunc(all, func(x domain.SecretVersion) bool { return x.SecretPlace == r.SecretPlace && x.Version == v })
		if !ok || !known || v >= r.Version {
			continue // it has none, or one of another provider
		}
		// The release that had it is noted before it has another: after a crash in between nobody could tell.
		if err := s.noteHad(ctx, r.SecretPlace, v, rel.ID, all); err != nil {
			return nil, err
		}
		had[v] = append(had[v], rel.ID)
		rel.Secrets[r.Name] = version
		for i := range rel.Workloads {
			if _, ok := rel.Workloads[i].Env[r.Name]; ok && slices.Contains(rel.Workloads[i].Secrets, r.Name) {
				rel.Workloads[i].Env[r.Name] = value.Reveal()
			}
		}
		if err := s.ports.Store.SaveRelease(ctx, rel); err != nil {
			return nil, err
		}
	}
	return had, nil
}

// noteHad wipes a version and stores which release had it.
func (s *Service) noteHad(ctx context.Context, p domain.SecretPlace, version int, release string, all []domain.SecretVersion) error {
	for i := range all {
		v := &all[i]
		if v.SecretPlace != p || v.Version != version || slices.Contains(v.Releases, release) {
			continue
		}
		v.Releases = append(v.Releases, release)
		return s.ports.Safe.WipeSecret(ctx, *v)
	}
	return nil
}

// replacedIn says which revoked versions a release had before, and what it has instead; "" for none.
func (s *Service) replacedIn(ctx context.Context, rel domain.Release) (string, error) {
	if s.ports.Safe == nil {
		return "", nil
	}
	all, err := s.ports.Safe.SecretVersions(ctx, rel.App)
	if err != nil {
		return "", err
	}
	text := ""
	for _, v := range all {
		if v.Environment != rel.Environment || v.State != domain.RevokedSecret || !slices.Contains(v.Releases, rel.ID) {
			continue
		}
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("%s v%d was revoked: it has v%d", v.Name, v.Version, rel.Secrets[v.Name])
	}
	return text, nil
}

// retireSecrets wipes the values of versions that are not current and that no release can use any more.
func (s *Service) retireSecrets(ctx context.Context) error {
	apps, err := s.ports.Store.Apps(ctx)
	if err != nil {
		return err
	}
	for _, app := range append(apps, "") {
		all, err := s.ports.Safe.SecretVersions(ctx, app)
		if err != nil {
			return err
		}
		retiring := slices.DeleteFunc(all, func(v domain.SecretVersion) bool { return v.State != domain.RetiringSecret })
		if len(retiring) == 0 {
			continue
		}
		users, err := s.secretUsers(ctx, app)
		if err != nil {
			return err
		}
		for _, v := range retiring {
			if len(users[v.SecretPlace][v.Version]) > 0 {
				continue
			}
			v.State, v.Ended = domain.RetiredSecret, now()
			if err := s.ports.Safe.WipeSecret(ctx, v); err != nil {
				return err
			}
			s.emit(ctx, domain.Event{Type: "secret.retired", App: app, Environment: v.Environment, By: "belay",
				Data: map[string]any{"name": v.Name, "version": v.Version, "sentence": fmt.Sprintf("%s v%d: nothing can use it any more, its value is wiped", v.SecretPlace, v.Version)}})
		}
	}
	return nil
}

// users is which releases can use which version of a place.
type users map[domain.SecretPlace]map[int][]string

// targetsOf is which releases of an environment run, or are gone back to without being named.
func (s *Service) targetsOf(ctx context.Context, app string, env domain.Environment) (map[string]bool, error) {
	slot, err := s.ports.Store.Slot(ctx, app, env)
	if err != nil {
		return nil, err
	}
	kept := map[string]bool{slot.Stable: true, slot.Previous: true, slot.Done: true}
	open, err := s.ports.Store.OpenRollouts(ctx)
	for _, r := range open {
		if r.App == app && r.Environment == env {
			kept[r.Stable], kept[r.Next] = true, true
		}
	}
	return kept, err
}

// secretUsers lists the releases of an app that run or can be gone back to, by the versions that they have.
func (s *Service) secretUsers(ctx context.Context, app string) (users, error) {
	found := users{}
	if app == "" {
		return found, nil
	}
	for _, env := range domain.Environments {
		list, err := s.ports.Store.Releases(ctx, app, env, releaseDepth)
		if err != nil {
			return nil, err
		}
		kept, err := s.targetsOf(ctx, app, env)
		if err != nil {
			return nil, err
		}
		for i, rel := range list {
			if !kept[rel.ID] && i >= config.KeepReleases && time.Since(rel.Created) > config.KeepFor {
				continue // its artifact is gone: nobody can go back to it
			}
			for name, version := range rel.Secrets {
				p := domain.SecretPlace{App: app, Environment: env, Name: name}
				if found[p] == nil {
					found[p] = map[int][]string{}
				}
				found[p][version] = append(found[p][version], rel.ID)
			}
		}
	}
	return found, nil
}
