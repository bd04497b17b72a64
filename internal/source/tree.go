package source

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// Entry is one tracked file of a commit.
type Entry struct {
	Mode string // 100644, 100755, 120000 for a symbolic link, 160000 for a submodule
	SHA  string // of the content; the commit of a submodule
	Path string // from the top of the repository
	Link string // where a symbolic link leads
}

// modeLink is the mode of a symbolic link.
const modeLink = "120000"

// Tree lists all tracked files of a commit, in git's order.
func Tree(ctx context.Context, repo, sha string) ([]Entry, error) {
	if !ValidSHA(sha) {
		return nil, domain.Errorf(domain.Invalid, "%q is not a full SHA", sha)
	}
	g := hardened(repo)
	out, err := g.run(ctx, "ls-tree", "-r", "-z", "--full-tree", sha)
	if err != nil {
		return nil, domain.Errorf(domain.NotFound, "commit %s cannot be listed: %w", domain.ShortCommit(sha), err)
	}
	var entries []Entry
	var links []int
	for line := range strings.SplitSeq(strings.TrimSuffix(out, "\x00"), "\x00") {
		if line == "" {
			continue
		}
		meta, name, ok := strings.Cut(line, "\t")
		f := strings.Fields(meta)
		if !ok || len(f) != 3 {
			return nil, fmt.Errorf("git ls-tree: unexpected line %q", line)
		}
		if f[0] == modeLink {
			links = append(links, len(entries))
		}
		entries = append(entries, Entry{Mode: f[0], SHA: f[2], Path: name})
	}
	return entries, g.readLinks(ctx, entries, links)
}

// readLinks fills in where the symbolic links lead, with one call of git.
func (g git) readLinks(ctx context.Context, entries []Entry, links []int) error {
	if len(links) == 0 {
		return nil
	}
	var in strings.Builder
	for _, i := range links {
		in.WriteString(entries[i].SHA + "\n")
	}
	out, err := g.feed(ctx, strings.NewReader(in.String()), "cat-file", "--batch")
	if err != nil {
		return err
	}
	r := bufio.NewReader(bytes.NewReader([]byte(out)))
	for _, i := range links {
		var sha, kind string
		var size int
		if _, err := fmt.Fscanf(r, "%s %s %d\n", &sha, &kind, &size); err != nil || sha != entries[i].SHA || size < 0 || size > 64<<10 {
			return fmt.Errorf("git cat-file: no link %s", entries[i].SHA)
		}
		body := make([]byte, size+1)
		if _, err := io.ReadFull(r, body); err != nil {
			return fmt.Errorf("git cat-file: %w", err)
		}
		entries[i].Link = string(body[:size])
	}
	return nil
}
