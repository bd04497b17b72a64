package registry

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// scratchPrefix begins the name of every folder beside unpacked images that is not one: half made or half removed.
const scratchPrefix = ".unpack-"

// Folder returns where the image of a digest is unpacked below releases.
func Folder(releases, digest string) string {
	return filepath.Join(releases, strings.TrimPrefix(digest, "sha256:"))
}

// Unpacked returns the digests that have an unpacked folder in releases.
func Unpacked(releases string) ([]string, error) {
	names, err := list(releases)
	var digests []string
	for _, name := range names {
		if d := "sha256:" + name; ValidDigest(d) {
			digests = append(digests, d)
		}
	}
	return digests, err
}

// Prune removes the unpacked images that keep does not name, and returns their digests.
func Prune(releases string, keep []string) ([]string, error) {
	there, err := Unpacked(releases)
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, digest := range there {
		if slices.Contains(keep, digest) {
			continue
		}
		if err := RemoveUnpacked(Folder(releases, digest)); err != nil {
			return gone, err
		}
		gone = append(gone, digest)
	}
	return gone, nil
}

// SweepUnpacked removes what interrupted unpacking and removing left in releases. It may run only while neither does: when
// the daemon starts.
func SweepUnpacked(releases string) error {
	left, err := filepath.Glob(filepath.Join(releases, scratchPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := removeReadOnly(dir); err != nil {
			return err
		}
	}
	return nil
}

// RemoveUnpacked removes an unpacked image. It loses its name first, so that half of it is never taken for the whole.
func RemoveUnpacked(dir string) error {
	trash := filepath.Join(filepath.Dir(dir), scratchPrefix+newID())
	err := os.Rename(dir, trash)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return removeReadOnly(trash)
}

// removeReadOnly removes a tree whose folders are read-only also for their owner.
func removeReadOnly(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			return os.Chmod(name, 0o700) //nolint:gosec // it is about to be removed
		}
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(dir))
}
