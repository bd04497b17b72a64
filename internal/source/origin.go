package source

import (
	"context"
	"strings"
)

// Origin returns the identity of the repository that a commit belongs to: the first of its root commits. It stays the same
// wherever the repository is cloned or moved to.
func Origin(ctx context.Context, repo, sha string) (string, error) {
	out, err := hardened(repo).run(ctx, "rev-list", "--max-parents=0", sha)
	roots := strings.Fields(out)
	if err != nil || len(roots) == 0 {
		return "", err
	}
	return roots[len(roots)-1], nil
}
