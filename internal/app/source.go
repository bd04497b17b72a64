package app

import (
	"context"
	"io"
	"strings"

	"github.com/belay-cd/belay/internal/delivery"
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
	return delivery.Commit{SHA: c.SHA, Subject: c.Subject, Author: c.Author, AuthorEmail: c.AuthorEmail, Committer: c.Committer,
		CommitterEmail: c.CommitterEmail, Repository: root}, err
}

// Reachable asks a remote whether one of its branches leads to a commit.
func (r repositories) Reachable(ctx context.Context, app, sha, remote string, branches []string) (bool, error) {
	return source.Reachable(ctx, repoDir(r.data, app), remote, branches, sha)
}

// Between says what one commit brings beside another.
func (r repositories) Between(ctx context.Context, app, from, to, folder string, most int) (delivery.Range, error) {
	b, err := source.Compare(ctx, repoDir(r.data, app), from, to, folder, most)
	return delivery.Range(b), err
}

// Have lists the commits that bundles need not hold.
func (r repositories) Have(ctx context.Context, app string) ([]string, error) {
	return source.Have(ctx, repoDir(r.data, app))
}

// File reads one file of a commit.
func (r repositories) File(ctx context.Context, app, sha, path string) ([]byte, error) {
	return source.ReadFile(ctx, repoDir(r.data, app), sha, path)
}
