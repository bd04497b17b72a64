package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/registry"
)

// Labels of an artifact's configuration.
const (
	LabelApp    = "dev.belay.app"
	LabelCommit = "dev.belay.commit"
	LabelFixed  = registry.FixedLabel
	// LabelHost says which programs of the host the artifact needs. An image with it runs on this machine only.
	LabelHost = "dev.belay.host-interpreter"
)

// imageConfig is an OCI image configuration; the order of its fields is part of the digest.
type imageConfig struct {
	Created      string `json:"created"`
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Config       struct {
		WorkingDir string            `json:"WorkingDir"`
		Labels     map[string]string `json:"Labels"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []history `json:"history"`
}

type history struct {
	Created   string `json:"created"`
	CreatedBy string `json:"created_by"`
}

// pack writes the image and gives it its tag.
func (b *Builder) pack(ctx context.Context, r Request, result *Result) (err error) {
	root, err := os.OpenRoot(r.root())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	names, err := collect(root, r)
	if err != nil {
		return err
	}
	host, err := hostPrograms(root, r, names)
	if err != nil {
		return err
	}
	diff := sha256.New()
	layer, size, err := b.Store.WriteBlob(ctx, "", func(w io.Writer) error {
		zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		if err := writeLayer(io.MultiWriter(zip, diff), root, r, names); err != nil {
			return err
		}
		return zip.Close()
	})
	if err != nil {
		return domain.Errorf(domain.CodeOf(err), "the artifact cannot be packed: %w", err).WithHint("%s", domain.HintOf(err))
	}
	config, err := json.Marshal(configOf(r, host, "sha256:"+hex.EncodeToString(diff.Sum(nil))))
	if err != nil {
		return err
	}
	digest, err := b.manifest(ctx, r, config, registry.Descriptor{MediaType: registry.LayerType, Digest: layer, Size: size}, result)
	if err != nil {
		return err
	}
	result.Artifact = Artifact{
		Digest: digest, App: r.App, Commit: r.Commit, Delivery: r.Delivery, Built: time.Now().UTC(),
		Files: len(names), Size: size, Fixed: r.Dir, Host: host,
	}
	return nil
}

func configOf(r Request, host []string, diffID string) imageConfig {
	var c imageConfig
	c.Created, c.Architecture, c.OS = r.Time.UTC().Format(time.RFC3339), runtime.GOARCH, "linux"
	c.Config.WorkingDir = r.Dir
	c.Config.Labels = map[string]string{
		LabelApp: r.App, LabelCommit: r.Commit, LabelFixed: r.Dir, "org.opencontainers.image.revision": r.Commit,
	}
	if len(host) > 0 {
		c.Config.Labels[LabelHost] = strings.Join(host, ", ")
	}
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", []string{diffID}
	c.History = []history{{c.Created, "belay build"}}
	return c
}

// manifest stores configuration and manifest. The tag is the commit; it stays with the first artifact of the commit, and
// one that differs is known by its digest only.
func (b *Builder) manifest(ctx context.Context, r Request, config []byte, layer registry.Descriptor, result *Result) (string, error) {
	digest, size, err := b.Store.PutBlob(ctx, bytes.NewReader(config), "")
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(registry.Manifest{
		SchemaVersion: 2, MediaType: registry.ManifestType,
		Config: &registry.Descriptor{MediaType: registry.ConfigType, Digest: digest, Size: size},
		Layers: []registry.Descriptor{layer},
	})
	if err != nil {
		return "", err
	}
	digest, err = b.Store.PutManifest(ctx, r.App, r.Commit, registry.ManifestType, body)
	if domain.CodeOf(err) != domain.Conflict {
		return digest, err
	}
	result.Warnings = append(result.Warnings, "this commit was built before with another result: the build is not reproducible, or its tools changed")
	return digest, nil
}

// writeLayer writes a tar whose bytes depend on names, modes, content and the commit's time only.
func writeLayer(w io.Writer, root *os.Root, r Request, names []string) error {
	archive := tar.NewWriter(w)
	prefix := strings.Trim(path.Clean(r.Dir), "/")
	when := r.Time.UTC().Truncate(time.Second)
	seen := map[string]bool{".": true}
	for _, name := range names {
		if err := folders(archive, path.Dir(path.Join(prefix, name)), when, seen); err != nil {
			return err
		}
		if err := writeEntry(archive, root, name, prefix, when, r.Finder); err != nil {
			return err
		}
		seen[path.Join(prefix, name)] = true
	}
	return archive.Close()
}

// folders writes the folders above an entry, each once.
func folders(archive *tar.Writer, folder string, when time.Time, seen map[string]bool) error {
	if seen[folder] {
		return nil
	}
	seen[folder] = true
	if err := folders(archive, path.Dir(folder), when, seen); err != nil {
		return err
	}
	return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder + "/", Mode: 0o755, ModTime: when})
}

func writeEntry(archive *tar.Writer, root *os.Root, name, prefix string, when time.Time, finder func() Finder) (err error) {
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: path.Join(prefix, name), ModTime: when, Mode: 0o644}
	switch {
	case info.IsDir():
		h.Typeflag, h.Mode, h.Name = tar.TypeDir, 0o755, h.Name+"/"
		return archive.WriteHeader(h)
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag, h.Mode = tar.TypeSymlink, 0o777
		if h.Linkname, err = root.Readlink(name); err != nil {
			return err
		}
		return archive.WriteHeader(h)
	case !info.Mode().IsRegular():
		return domain.Errorf(domain.Failed, "%s is a device, a pipe or a socket", name)
	}
	f, err := openFile(root, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err = f.Stat(); err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if info.Mode()&0o111 != 0 {
		h.Mode = 0o755
	}
	if err := archive.WriteHeader(h); err != nil {
		return err
	}
	to, find := io.Writer(archive), Finder(nil)
	if finder != nil {
		find = finder()
		to = io.MultiWriter(archive, find)
	}
	n, err := io.Copy(to, io.LimitReader(f, h.Size))
	if err != nil {
		return err
	}
	if find != nil && find.Found() {
		return domain.Errorf(domain.Failed, "%s holds the value of a secret, and would be packed", name).
			WithHint("leave the file out of build.files, or do not write the value into it; then rotate the secret")
	}
	if n != h.Size {
		return fmt.Errorf("%s changed while it was packed: %d of %d bytes", name, n, h.Size)
	}
	return nil
}
