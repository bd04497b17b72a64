package app

import (
	"context"
	"io"
	"strings"
	"sync"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/delivery"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/secrets"
	"github.com/belay-cd/belay/internal/source"
)

// repositories is the server's copy of what was shipped.
type repositories struct{ data string }

// Accept takes a bundle in and proves the commit.
func (r repositories) Accept(ctx context.Context, app, sha string, bundle io.Reader) (delivery.Commit, error) {
	repo := repoDir(r.data, app)
	if bundle == nil {
		bundle = strings.NewReader("")
	}
	c, err := source.Accept(ctx, repo, bundle, sha, source.DefaultLimits)
	if err != nil {
		return delivery.Commit{}, err
	}
	root, err := source.Origin(ctx, repo, c.SHA)
	return delivery.Commit{SHA: c.SHA, Subject: c.Subject, Author: c.Author, Committer: c.Committer, Repository: root}, err
}

// Have lists the commits that bundles need not hold.
func (r repositories) Have(ctx context.Context, app string) ([]string, error) {
	return source.Have(ctx, repoDir(r.data, app))
}

// File reads one file of a commit.
func (r repositories) File(ctx context.Context, app, sha, path string) ([]byte, error) {
	return source.ReadFile(ctx, repoDir(r.data, app), sha, path)
}

// resolver gives releases the values of their secrets.
type resolver struct {
	resolver *secrets.Resolver

	mu     sync.Mutex
	values map[string][]domain.Secret // by app: what was resolved in this life, to be masked in its logs
}

// Resolve reads every secret of the file for one environment.
func (r *resolver) Resolve(ctx context.Context, app string, f *config.File, env domain.Environment) (map[string]domain.Secret, map[string]int, error) {
	var refs []secrets.Ref
	for name, place := range f.Secrets.File {
		refs = append(refs, secrets.Ref{Name: name, Provider: secrets.File, Place: string(place)})
	}
	for name, place := range f.Secrets.Env {
		refs = append(refs, secrets.Ref{Name: name, Provider: secrets.Env, Place: string(place)})
	}
	set, err := r.resolver.Resolve(ctx, app, env, refs)
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range set.Values {
		r.values[app] = append(r.values[app], v)
	}
	return set.Values, set.Versions, nil
}

// known lists the values that an app's logs must not show.
func (r *resolver) known(app string) []domain.Secret {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]domain.Secret(nil), r.values[app]...)
}
