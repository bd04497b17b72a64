package registry

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Freed is what a collection removed.
type Freed struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

// GC removes every image that is not named by keep (digests of manifests or indexes), with its tags, and the blobs that no
// kept image needs. What is attached to a kept image stays. Blobs younger than the grace stay: a push may be under way. An
// image in keep that is missing or altered stops the collection before anything is removed.
func (s *Store) GC(ctx context.Context, keep []string) (Freed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	needed := map[string]bool{}
	for _, digest := range keep {
		if err := s.mark(digest, needed); err != nil {
			return Freed{}, domain.Errorf(domain.CodeOf(err), "nothing removed: %w", err)
		}
	}
	repos, err := s.Repositories()
	if err != nil {
		return Freed{}, err
	}
	if err := s.markReferrers(repos, needed); err != nil {
		return Freed{}, err
	}
	if err := s.markYoung(repos, needed); err != nil {
		return Freed{}, err
	}
	for _, name := range repos {
		if err := s.unlink(name, needed); err != nil {
			return Freed{}, err
		}
	}
	return s.removeBlobs(ctx, needed)
}

// markReferrers keeps what is attached to something kept, over several levels.
func (s *Store) markReferrers(repos []string, needed map[string]bool) error {
	for grown := true; grown; {
		before := len(needed)
		for _, name := range repos {
			subjects, err := list(s.repo(name, "_referrers"))
			if err != nil {
				return err
			}
			for _, subject := range subjects {
				if !needed["sha256:"+subject] {
					continue
				}
				referrers, err := list(filepath.Join(s.repo(name, "_referrers"), subject))
				if err != nil {
					return err
				}
				for _, h := range referrers {
					if err := s.mark("sha256:"+h, needed); err != nil {
						return err
					}
				}
			}
		}
		grown = len(needed) > before
	}
	return nil
}

// markYoung keeps manifests that were pushed within the grace: whoever pushed them has not said yet what they are for.
func (s *Store) markYoung(repos []string, needed map[string]bool) error {
	for _, name := range repos {
		entries, err := os.ReadDir(s.repo(name, "_manifests"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, entry := range entries {
			info, err := entry.Info()
			if err == nil && time.Since(info.ModTime()) < s.opt.Grace {
				_ = s.mark("sha256:"+entry.Name(), needed) // a young one that is broken need not stay
			}
		}
	}
	return nil
}

// unlink removes the names of what is not needed: tags first, so that no tag ever names nothing.
func (s *Store) unlink(name string, needed map[string]bool) error {
	tags, err := list(s.repo(name, "_tags"))
	if err != nil {
		return err
	}
	for _, tag := range tags {
		file := filepath.Join(s.repo(name, "_tags"), tag)
		body, err := os.ReadFile(file)
		if err == nil && !needed[string(body)] {
			err = os.Remove(file)
		}
		if err != nil {
			return err
		}
	}
	for _, folder := range []string{"_manifests", "_referrers"} {
		names, err := list(s.repo(name, folder))
		if err != nil {
			return err
		}
		for _, h := range names {
			if !needed["sha256:"+h] {
				if err := os.RemoveAll(filepath.Join(s.repo(name, folder), h)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (s *Store) removeBlobs(ctx context.Context, needed map[string]bool) (Freed, error) {
	var freed Freed
	err := filepath.WalkDir(filepath.Join(s.dir, blobsFolder), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return errors.Join(err, context.Cause(ctx))
		}
		digest := "sha256:" + entry.Name()
		info, err := entry.Info()
		if err != nil || needed[digest] || s.young(digest, info) {
			return err
		}
		if err := os.Remove(path); err != nil { //nolint:gosec // the folder is the daemon's own
			return err
		}
		s.verified.Delete(digest)
		s.touched.Delete(digest)
		freed.Blobs++
		freed.Bytes += info.Size()
		return nil
	})
	return freed, err
}

func (s *Store) young(digest string, info fs.FileInfo) bool {
	if at, ok := s.touched.Load(digest); ok {
		if t, ok := at.(time.Time); ok && time.Since(t) < s.opt.Grace {
			return true
		}
		s.touched.Delete(digest)
	}
	return time.Since(info.ModTime()) < s.opt.Grace
}
