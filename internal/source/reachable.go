package source

import (
	"context"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// reachWithin bounds what a remote may take to answer.
const reachWithin = 60 * time.Second

// remoteRef is where the repository keeps what a remote has as one of its branches.
func remoteRef(branch string) string { return "refs/remotes/policy/" + branch }

// Reachable fetches branches of a remote into the bare repository repo, and reports whether one of them leads to the commit
// sha. The remote is the administrator's: what a bundle calls a branch proves nothing, and is never asked. A branch that the
// remote has not leads nowhere.
func Reachable(ctx context.Context, repo, remote string, branches []string, sha string) (bool, error) {
	if !ValidSHA(sha) {
		return false, domain.Errorf(domain.Invalid, "%q is not a full SHA", sha)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reachWithin, domain.Errorf(domain.Unavailable, "%s did not answer within %s", remote, reachWithin))
	defer cancel()
	if err := initRepo(ctx, repo); err != nil {
		return false, err
	}
	g := hardened(repo).with("GIT_ALLOW_PROTOCOL=https:ssh:file", "GIT_SSH_COMMAND=ssh -o BatchMode=yes")
	there, err := g.branches(ctx, remote, branches)
	if err != nil || len(there) == 0 {
		return false, err
	}
	args := []string{"fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--force", "--", remote}
	for _, branch := range there {
		args = append(args, "refs/heads/"+branch+":"+remoteRef(branch))
	}
	if _, err := g.run(ctx, args...); err != nil {
		return false, err
	}
	for _, branch := range there {
		out, err := hardened(repo).run(ctx, "rev-list", "--max-count=1", sha, "--not", remoteRef(branch))
		if err != nil {
			return false, err
		}
		if strings.TrimSpace(out) == "" { // everything that sha leads to is on the branch
			return true, nil
		}
	}
	return false, nil
}

// branches are those that the remote has.
func (g git) branches(ctx context.Context, remote string, wanted []string) ([]string, error) {
	args := []string{"ls-remote", "--quiet", "--heads", "--", remote}
	for _, branch := range wanted {
		args = append(args, "refs/heads/"+branch)
	}
	out, err := g.run(ctx, args...)
	if err != nil {
		return nil, err
	}
	var there []string
	for _, branch := range wanted {
		for line := range strings.Lines(out) {
			if _, ref, _ := strings.Cut(strings.TrimSpace(line), "\t"); ref == "refs/heads/"+branch {
				there = append(there, branch)
				break
			}
		}
	}
	return there, nil
}
