package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// Secrets says everything that is known about the secrets of an app but their values: where each is set, who uses it, since
// when, and what a person should change.
func (s *Service) Secrets(ctx context.Context, app string) (domain.SecretReport, error) {
	report := domain.SecretReport{App: app, Secrets: []domain.SecretStatus{}, Findings: []domain.SecretFinding{}}
	if s.ports.Safe == nil {
		return report, domain.Errorf(domain.Unavailable, "this server keeps no secrets")
	}
	stored, err := s.ports.Safe.SecretVersions(ctx, app)
	if err != nil {
		return report, err
	}
	f, err := s.presentFile(ctx, app)
	if err != nil {
		return report, err
	}
	if f == nil && len(stored) == 0 {
		return report, domain.Errorf(domain.NotFound, "app %s has no secrets here", app).WithHint("belay secret set NAME --env staging")
	}
	nothing := f == nil // was delivered: what is set waits for the first file
	if nothing {
		f = &config.File{}
	}
	stable := map[domain.Environment]*domain.Release{}
	for _, env := range domain.Environments {
		if stable[env], err = s.stableOf(ctx, app, env); err != nil {
			return report, err
		}
	}
	report.Secrets, report.Findings, err = s.ports.Safe.Inspect(ctx, app, f, stable)
	if err != nil {
		return report, err
	}
	if err := s.date(ctx, app, &report, stored, stable); err != nil {
		return report, err
	}
	if !nothing {
		report.Findings = append(report.Findings, unused(f, stored)...)
	}
	if err := s.unfinished(ctx, app, &report); err != nil {
		return report, err
	}
	sortFindings(report.Findings)
	return report, nil
}

// presentFile is the file of the last delivery that was done; before the first one, that of the newest; nil: none.
func (s *Service) presentFile(ctx context.Context, app string) (*config.File, error) {
	newest, err := s.ports.Store.Delivery(ctx, app, 0)
	switch {
	case err == nil:
	case domain.CodeOf(err) == domain.NotFound:
		return nil, nil //nolint:nilerr // an app that was never shipped has no file
	default:
		return nil, err
	}
	f, err := s.lastDone(ctx, app, newest.Number+1)
	if err != nil || f != nil {
		return f, err
	}
	return s.fileOf(ctx, app, newest.Number)
}

// date says since when each version stands, which one runs, and who uses it.
func (s *Service) date(ctx context.Context, app string, report *domain.SecretReport, stored []domain.SecretVersion, stable map[domain.Environment]*domain.Release) error {
	for i := range report.Secrets {
		one := &report.Secrets[i]
		for j := range one.Environments {
			p := &one.Environments[j]
			if rel := stable[p.Environment]; rel != nil {
				p.InUse = rel.Secrets[one.Name]
			}
			if p.Version == 0 && p.State != "missing" {
				p.Version = p.InUse // its provider counts nothing: the number is that of the last release
			}
			at, err := s.setAt(ctx, domain.SecretPlace{App: app, Environment: p.Environment, Name: one.Name}, p.Version, stored)
			if err != nil {
				return err
			}
			if at.IsZero() {
				continue
			}
			p.Since = &at
			if age := time.Since(at); age > config.SecretAge {
				p.Old = true
				report.Findings = append(report.Findings, domain.SecretFinding{ID: "old", Name: one.Name, Environment: p.Environment,
					Message: fmt.Sprintf("%s is %d d old in %s (limit %d d)", one.Name, days(age), p.Environment, days(config.SecretAge)),
					Hint:    domain.SecretPlace{Environment: p.Environment, Name: one.Name}.RotateCommand()})
			}
		}
	}
	return nil
}

func days(d time.Duration) int { return int(d / (24 * time.Hour)) }

func (s *Service) setAt(ctx context.Context, p domain.SecretPlace, version int, stored []domain.SecretVersion) (time.Time, error) {
	for _, v := range stored {
		if v.SecretPlace == p && v.Version == version {
			return v.Set, nil
		}
	}
	if version == 0 {
		return time.Time{}, nil
	}
	return s.ports.Safe.SecretSeen(ctx, p, version)
}

// unused finds what is in the store and named by nothing.
func unused(f *config.File, stored []domain.SecretVersion) []domain.SecretFinding {
	var found []domain.SecretFinding
	for _, v := range stored {
		if v.State != domain.CurrentSecret {
			continue
		}
		list := f.Secrets.Store
		if v.Environment == domain.BuildSecrets {
			list = f.Build.Secrets
		}
		used := slices.Contains(list, config.Var(v.Name))
		if channel, ok := v.Channel(); ok {
			_, used = f.Notify[channel]
		}
		if !used {
			where := strings.TrimSpace(v.Name + " " + string(v.Environment))
			found = append(found, domain.SecretFinding{ID: "unused", Name: v.Name, Environment: v.Environment,
				Message: where + " is set, and no file names it", Hint: "name it in belay.yaml; what leaks from here would be missed by nobody"})
		}
	}
	return found
}

// unfinished finds revocations that wait.
func (s *Service) unfinished(ctx context.Context, app string, report *domain.SecretReport) error {
	open, err := s.ports.Safe.OpenRotations(ctx)
	if err != nil {
		return err
	}
	for _, r := range open {
		if r.App != app || !r.Revoke {
			continue
		}
		why, err := s.revokeWaits(ctx, r)
		if err != nil {
			return err
		}
		if why == "" {
			why = "it is being done"
		}
		report.Findings = append(report.Findings, domain.SecretFinding{ID: "revoking", Name: r.Name, Environment: r.Environment,
			Message: fmt.Sprintf("%s before v%d is not revoked in %s yet: %s", r.Name, r.Version, r.Environment, why),
			Hint:    "it is, as soon as a delivery with the newer version is done"})
	}
	return nil
}

func sortFindings(list []domain.SecretFinding) {
	slices.SortStableFunc(list, func(a, b domain.SecretFinding) int {
		return strings.Compare(a.Name+" "+string(a.Environment), b.Name+" "+string(b.Environment))
	})
}

// SecretHistory lists the versions of a secret, oldest first, each with the releases that have it.
func (s *Service) SecretHistory(ctx context.Context, app, name string) ([]domain.SecretVersion, error) {
	if s.ports.Safe == nil {
		return nil, domain.Errorf(domain.Unavailable, "this server keeps no secrets")
	}
	all, err := s.ports.Safe.SecretVersions(ctx, app)
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(all, func(v domain.SecretVersion) bool { return v.Name != name })
	if len(list) == 0 {
		return nil, domain.Errorf(domain.NotFound, "no secret %s in the store of %s", name, orServer(app)).WithHint("belay secret list")
	}
	used, err := s.secretUsers(ctx, app)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].State != domain.RevokedSecret {
			list[i].Releases = used[list[i].SecretPlace][list[i].Version]
		}
	}
	return list, nil
}

func orServer(app string) string {
	if app == "" {
		return "the server"
	}
	return app
}
