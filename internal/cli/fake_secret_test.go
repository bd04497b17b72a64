package cli

import (
	"context"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/web"
)

func (f *fake) SetSecret(_ context.Context, q web.SecretRequest) (domain.SecretSet, error) {
	f.record("set %s from %s: %q", q.SecretPlace, q.From, q.Value.Reveal())
	v := domain.SecretVersion{SecretPlace: q.SecretPlace, Version: 4, State: domain.CurrentSecret}
	return domain.SecretSet{SecretVersion: v, InUse: 3, Sentence: "stored: " + q.SecretPlace.String() + " v4; in use: v3"}, nil
}

func (f *fake) RotateSecret(_ context.Context, q web.SecretRequest) (web.RotationResult, error) {
	f.record("rotate %s value=%t revoke=%t", q.SecretPlace, q.Value != nil, q.Revoke)
	v := domain.SecretVersion{SecretPlace: q.SecretPlace, Version: 4}
	return web.RotationResult{SecretSet: domain.SecretSet{SecretVersion: v, Sentence: "shop-api production DATABASE_URL: v4 takes over from v3"}}, nil
}

func (f *fake) Secrets(_ context.Context, app string) (domain.SecretReport, error) {
	ago := func(d time.Duration) *time.Time { t := time.Now().Add(-d); return &t }
	const day = 24 * time.Hour
	in := func(env domain.Environment, version, inUse int, age time.Duration, old bool) domain.SecretPresence {
		return domain.SecretPresence{Environment: env, State: "set", Version: version, InUse: inUse, Since: ago(age), Old: old}
	}
	return domain.SecretReport{App: app, Secrets: []domain.SecretStatus{
		{Name: "DATABASE_URL", From: "store", UsedBy: []string{"web", "migrate"}, Environments: []domain.SecretPresence{
			in(domain.Staging, 3, 3, 12*day, false), in(domain.Production, 4, 3, time.Second, false)}},
		{Name: "SESSION_KEY", From: "store", UsedBy: []string{"web"}, Environments: []domain.SecretPresence{
			in(domain.Staging, 1, 1, 210*day, true), in(domain.Production, 1, 1, 210*day, true)}},
		{Name: "STRIPE_KEY", From: "vault", UsedBy: []string{"web"}, Environments: []domain.SecretPresence{
			in(domain.Staging, 2, 2, 30*day, false), {Environment: domain.Production, State: "missing"}}},
	}, Findings: []domain.SecretFinding{
		{ID: "missing", Name: "STRIPE_KEY", Message: "STRIPE_KEY is missing in production"},
		{ID: "old", Name: "SESSION_KEY", Message: "SESSION_KEY is 210 d old (limit 180 d)", Hint: "belay secret rotate SESSION_KEY"},
	}}, nil
}

func (f *fake) SecretHistory(_ context.Context, app, name string) ([]domain.SecretVersion, error) {
	if name != "DATABASE_URL" {
		return nil, domain.Errorf(domain.NotFound, "no secret %s in the store of %s", name, app)
	}
	p := domain.SecretPlace{App: app, Environment: domain.Production, Name: name}
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	return []domain.SecretVersion{
		{SecretPlace: p, Version: 1, State: domain.RevokedSecret, By: "ana", From: "prompt", Set: at, Ended: &at, Releases: []string{"rel_1"}},
		{SecretPlace: p, Version: 2, State: domain.CurrentSecret, By: "ben", From: "stdin", Set: at, Releases: []string{"rel_1", "rel_2"}},
	}, nil
}
