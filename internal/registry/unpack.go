package registry

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/belay-cd/belay/internal/domain"
)

// FixedLabel names, in an image's configuration, the folder that its files lie under: where the app was built. Unpack
// leaves this prefix out.
const FixedLabel = "dev.belay.fixed"

// Config is what the store reads of an image's configuration.
type Config struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Config       struct {
		WorkingDir string            `json:"WorkingDir"`
		Env        []string          `json:"Env"`
		Labels     map[string]string `json:"Labels"`
	} `json:"config"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// Config returns the configuration of an image, for its labels.
func (s *Store) Config(digest string) (Config, error) {
	m, err := s.parsed(digest)
	if err != nil {
		return Config{}, err
	}
	if m.Config == nil {
		return Config{}, domain.Errorf(domain.Invalid, "%s is an index of several images, not one", digest)
	}
	body, err := s.small(m.Config.Digest)
	if err != nil {
		return Config{}, err
	}
	var c Config
	if err := json.Unmarshal(body, &c); err != nil {
		return Config{}, domain.Errorf(domain.Invalid, "the configuration of %s cannot be read: %w", digest, err)
	}
	return c, nil
}

// Unpack makes dest hold the files of an image, read-only, without the folder that FixedLabel names. It is done at once
// or not at all: dest appears by one rename after every layer was compared with its digests. A dest that is there is left
// alone. Nothing in an image can write outside of dest.
func (s *Store) Unpack(ctx context.Context, digest, dest string) (err error) {
	if _, err := os.Lstat(dest); err == nil {
		return nil
	}
	config, err := s.Config(digest)
	if err != nil {
		return err
	}
	m, err := s.parsed(digest)
	if err != nil {
		return err
	}
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return domain.Errorf(domain.Refused, "artifact %s has %d layers and %d digests for them", digest, len(m.Layers), len(config.RootFS.DiffIDs))
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o711); err != nil { // instances pass through it
		return err
	}
	if err := s.Guard(0); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(filepath.Dir(dest), scratchPrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeReadOnly(scratch)) }()
	u := &unpacker{ctx: ctx, store: s, left: s.opt.MaxUnpacked}
	if u.root, err = os.OpenRoot(scratch); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.root.Close()) }()
	for i, layer := range m.Layers {
		if err := u.layer(layer, config.RootFS.DiffIDs[i]); err != nil {
			return domain.Errorf(domain.Refused, "artifact %s cannot be unpacked: %w", digest, err)
		}
	}
	return publish(scratch, config.Config.Labels[FixedLabel], dest)
}

// publish makes the tree read-only, writes it to the disk and gives it its name.
func publish(scratch, fixed, dest string) (err error) {
	tree := filepath.Join(scratch, filepath.FromSlash(path.Clean("/"+fixed)))
	if info, err := os.Lstat(tree); err != nil || !info.IsDir() {
		return domain.Errorf(domain.Refused, "the image says its files lie below %s, but they do not", fixed)
	}
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	err = filepath.WalkDir(tree, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.Type()&fs.ModeSymlink != 0 {
			relative, err := filepath.Rel(tree, name)
			return errors.Join(err, CheckLink(root, relative))
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o444)
		if entry.IsDir() || info.Mode()&0o111 != 0 {
			mode = 0o555
		}
		if name == tree {
			return nil // still to be renamed
		}
		return os.Chmod(name, mode) //nolint:gosec // the tree is still hidden, and the daemon's own
	})
	if err != nil {
		return err
	}
	if err := os.Chmod(tree, 0o755); err != nil { // instances of another user read it
		return err
	}
	if err := syncDisk(tree); err != nil {
		return err
	}
	if err := os.Rename(tree, dest); err != nil {
		if _, there := os.Lstat(dest); there == nil {
			return nil // somebody else was faster; the content is the same by its digest
		}
		return err
	}
	if err := os.Chmod(dest, 0o555); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(dest))
}

// syncDisk writes everything on the disk of dir: cheaper than one fsync for each of thousands of files.
func syncDisk(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// unpacker writes layers below a root that no path can leave.
type unpacker struct {
	ctx     context.Context //nolint:containedctx // lives for one Unpack
	store   *Store
	root    *os.Root
	left    int64
	entries int
}

const maxEntries = 1_000_000

// layer checks the digest of the compressed layer while it is opened, and that of its content while it is read.
func (u *unpacker) layer(d Descriptor, diffID string) (err error) {
	f, err := u.store.Blob(d.Digest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var content io.Reader = bufio.NewReader(f)
	switch {
	case strings.HasSuffix(d.MediaType, "gzip"):
		if content, err = gzip.NewReader(content); err != nil {
			return err
		}
	case !strings.HasSuffix(d.MediaType, "tar"):
		return domain.Errorf(domain.Refused, "a layer of type %s is not known", d.MediaType)
	}
	h := sha256.New()
	content = io.TeeReader(&bounded{r: content, u: u}, h)
	if err := u.extract(tar.NewReader(content)); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, content); err != nil { //nolint:gosec // bounded; what tar leaves after its end counts too
		return err
	}
	if got := sum(h); got != diffID {
		return domain.Errorf(domain.Refused, "a layer's content has digest %s, not %s", got, diffID)
	}
	return nil
}

// bounded stops a decompression bomb and a cancelled unpacking.
type bounded struct {
	r io.Reader
	u *unpacker
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := context.Cause(b.u.ctx); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	if b.u.left -= int64(n); b.u.left < 0 {
		return 0, domain.Errorf(domain.Refused, "the image is larger than %s unpacked", Size(uint64(b.u.store.opt.MaxUnpacked)))
	}
	return n, err
}

func (u *unpacker) extract(archive *tar.Reader) error {
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if u.entries++; u.entries > maxEntries {
			return domain.Errorf(domain.Refused, "the image has more than %d files", maxEntries)
		}
		name := path.Clean(header.Name)
		if name == "." || name == "/" {
			continue
		}
		if name = strings.TrimPrefix(name, "/"); !filepath.IsLocal(name) {
			return domain.Errorf(domain.Refused, "%q leaves the image", header.Name)
		}
		if err := u.entry(name, header, archive); err != nil {
			return err
		}
	}
}

const whiteout = ".wh."

func (u *unpacker) entry(name string, header *tar.Header, content io.Reader) error {
	folder, base := path.Split(name)
	folder = path.Clean(folder)
	if base == ".wh..wh..opq" {
		return u.empty(folder)
	}
	if hidden, ok := strings.CutPrefix(base, whiteout); ok {
		if hidden == "" || hidden == "." || hidden == ".." {
			return domain.Errorf(domain.Refused, "%q is not a name", header.Name)
		}
		return u.root.RemoveAll(path.Join(folder, hidden))
	}
	if err := u.root.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if header.Typeflag == tar.TypeDir {
		if info, err := u.root.Lstat(name); err == nil && info.IsDir() {
			return nil
		}
	}
	if err := u.root.RemoveAll(name); err != nil { // a later layer replaces, and never writes through a link
		return err
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return u.root.Mkdir(name, 0o755)
	case tar.TypeReg:
		return u.file(name, header, content)
	case tar.TypeSymlink:
		return u.root.Symlink(header.Linkname, name)
	case tar.TypeLink:
		return u.hardlink(name, header.Linkname)
	}
	return domain.Errorf(domain.Refused, "%s is a device, a pipe or a socket", name)
}

func (u *unpacker) file(name string, header *tar.Header, content io.Reader) error {
	mode := fs.FileMode(0o644)
	if header.Mode&0o111 != 0 {
		mode = 0o755
	}
	f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// hardlink links to a regular file of the image; never to a link, which may lead out.
func (u *unpacker) hardlink(name, to string) error {
	to = strings.TrimPrefix(path.Clean(to), "/")
	if !filepath.IsLocal(to) {
		return domain.Errorf(domain.Refused, "%s is a hard link out of the image", name)
	}
	info, err := u.root.Lstat(to)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return domain.Errorf(domain.Refused, "%s is a hard link to something that is not a file", name)
	}
	return u.root.Link(to, name)
}

func (u *unpacker) empty(folder string) error {
	dir, err := u.root.Open(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	err = errors.Join(err, dir.Close())
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := u.root.RemoveAll(path.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}
