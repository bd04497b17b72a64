package cli

import (
	"context"
	"errors"
	"path"
	"path/filepath"
	"slices"

	"github.com/belay-cd/belay/internal/client"
	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/source"
)

// candidate is one app of a repository of several: a session in its folder, and what would be handed over.
type candidate struct {
	s   *session
	sub client.Submission
	dir string // of the app, absolute
	// root is the top of the repository, absolute.
	root string
}

// several lists the apps below a folder that belongs to none; it is empty in an app's folder, and where there are no apps.
func (o shipOptions) several(ctx context.Context, s *session) ([]candidate, error) {
	if _, err := s.project(); s.app != "" || !errors.Is(err, errMissing) {
		return nil, nil
	}
	root, folder, err := place(ctx, s.dir)
	if err != nil {
		return nil, nil //nolint:nilerr // no repository: that there is no file is what matters
	}
	commit, err := source.Ref(ctx, s.dir, o.ref)
	if err != nil {
		return nil, o.nothing(err)
	}
	folders, err := source.Folders(ctx, root, commit.SHA, config.FileName)
	if err != nil {
		return nil, err
	}
	var list []candidate
	names := map[string]string{}
	for _, f := range folders {
		if rel, err := filepath.Rel(folder, f); err != nil || !filepath.IsLocal(rel) {
			continue
		}
		one := *s
		one.above = true
		one.dir = filepath.Join(root, filepath.FromSlash(f))
		sub, dir, err := o.prepare(ctx, &one)
		if err != nil {
			return nil, err
		}
		if other, taken := names[sub.App]; taken {
			return nil, usage("%s: %s and %s both name the app %s", o.prefix(), filepath.Join(other, config.FileName),
				filepath.Join(f, config.FileName), sub.App).WithHint("each app has a name of its own")
		}
		names[sub.App] = f
		list = append(list, candidate{&one, sub, dir, root})
	}
	return list, nil
}

// shipSeveral delivers each app whose inputs changed since its newest delivery, one delivery each. All are handed over before
// the first is followed. The first end that is not good is the end of the command.
func (o shipOptions) shipSeveral(ctx context.Context, s *session, list []candidate, until domain.Stage) error {
	c, err := s.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	var deliveries []domain.Delivery
	for _, one := range list {
		if number := o.unchanged(ctx, c, one); number != 0 {
			s.note("%s: nothing that it is made of changed since #%d", one.sub.App, number)
			continue
		}
		d, err := one.s.handOver(ctx, c, one.sub, one.dir)
		if err != nil {
			return err
		}
		deliveries = append(deliveries, d)
	}
	var first error
	for _, d := range deliveries {
		if o.detach {
			err = s.handedOver(d)
		} else {
			err = s.follow(ctx, c, d, watching{until: until})
		}
		if ctx.Err() != nil {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// unchanged returns the newest delivery of an app when it needs no other: what the app is made of is the same, and it did
// not fail in a way that another try might mend. What was taken back or rejected comes again when it has changed.
func (o shipOptions) unchanged(ctx context.Context, c *client.Client, one candidate) int {
	newest, err := c.Delivery(ctx, one.sub.App, client.Newest)
	if err != nil {
		return 0
	}
	switch newest.State {
	case domain.FailedState, domain.ExpiredState, domain.SupersededState:
		return 0
	}
	if one.touchedSince(ctx, newest.Commit) {
		return 0
	}
	return newest.Number
}

// touchedSince reports whether what the app is made of differs from what it was at a commit.
func (one candidate) touchedSince(ctx context.Context, commit string) bool {
	git := filepath.Join(one.root, ".git")
	changed, err := source.Changed(ctx, git, commit, one.sub.Commit)
	if err != nil { // the commit is of a history that is not here
		return true
	}
	name := path.Join(one.sub.Folder, config.FileName)
	inputs := []config.Path{"."}
	if text, err := source.ReadFile(ctx, git, one.sub.Commit, name); err == nil {
		if file, _ := config.Parse(config.FileName, text, serverBounds); file != nil && len(file.Inputs) > 0 {
			inputs = file.Inputs
		}
	}
	for _, c := range changed {
		if c == name || slices.ContainsFunc(inputs, func(in config.Path) bool { return below(c, path.Join(one.sub.Folder, string(in))) }) {
			return true
		}
	}
	return false
}

// below reports whether a path is a folder or in it. The folder may be a pattern.
func below(name, folder string) bool {
	if folder == "." {
		return true
	}
	for ; name != "."; name = path.Dir(name) {
		if ok, err := path.Match(folder, name); name == folder || err == nil && ok {
			return true
		}
	}
	return false
}
