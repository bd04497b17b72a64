package source

import (
	"context"
	"path"
	"strconv"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// Between is what one commit brings beside another.
type Between struct {
	Ahead, Behind int      // commits that only the one, or only the other holds
	Subjects      []string // of those ahead, the newest first
	Added         []string // files that are new below a folder
}

// Compare says what to brings beside from; from "" is nothing. It names at most so many commits, and the files that are new
// below folder, "" for none. When the repository does not keep from, only to itself is counted.
func Compare(ctx context.Context, repo, from, to, folder string, most int) (Between, error) {
	if !ValidSHA(to) || from != "" && !ValidSHA(from) {
		return Between{}, domain.Errorf(domain.Invalid, "%q and %q are not full SHAs", from, to)
	}
	g := hardened(repo)
	var b Between
	if from != "" && g.exists(ctx, from) != nil {
		from = "" // it was taken over, or is of another repository
	}
	span, empty := to, "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
	if from != "" {
		out, err := g.run(ctx, "rev-list", "--left-right", "--count", from+"..."+to)
		if err != nil {
			return b, err
		}
		behind, ahead, _ := strings.Cut(strings.TrimSpace(out), "\t")
		b.Behind, _ = strconv.Atoi(behind)
		b.Ahead, _ = strconv.Atoi(ahead)
		span, empty = from+".."+to, from
	} else {
		out, err := g.run(ctx, "rev-list", "--count", to)
		if err != nil {
			return b, err
		}
		b.Ahead, _ = strconv.Atoi(strings.TrimSpace(out))
	}
	out, err := g.run(ctx, "log", "--format=%s", "--max-count="+strconv.Itoa(most), span, "--")
	if err != nil {
		return b, err
	}
	for line := range strings.Lines(out) {
		b.Subjects = append(b.Subjects, strings.ToValidUTF8(strings.TrimSuffix(line, "\n"), "?"))
	}
	if folder == "" {
		return b, nil
	}
	out, err = g.run(ctx, "diff-tree", "-r", "-z", "--name-only", "--diff-filter=A", empty, to, "--", ":(literal)"+path.Clean(folder))
	for name := range strings.SplitSeq(out, "\x00") {
		if name != "" {
			b.Added = append(b.Added, path.Base(name))
		}
	}
	return b, err
}
