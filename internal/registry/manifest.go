package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// Media types that the store knows.
const (
	ManifestType       = "application/vnd.oci.image.manifest.v1+json"
	IndexType          = "application/vnd.oci.image.index.v1+json"
	ConfigType         = "application/vnd.oci.image.config.v1+json"
	LayerType          = "application/vnd.oci.image.layer.v1.tar+gzip"
	EmptyType          = "application/vnd.oci.empty.v1+json"
	dockerManifestType = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndexType    = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Descriptor names a blob or a manifest.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	URLs         []string          `json:"urls,omitempty"`
}

// Manifest is what the store reads of an image manifest or of an index.
type Manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType,omitempty"`
	ArtifactType  string            `json:"artifactType,omitempty"`
	Config        *Descriptor       `json:"config,omitempty"`
	Layers        []Descriptor      `json:"layers,omitempty"`
	Manifests     []Descriptor      `json:"manifests,omitempty"`
	Subject       *Descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// blobs returns the descriptors of the blobs that an image manifest needs here. Foreign layers (with URLs) lie elsewhere.
func (m Manifest) blobs() []Descriptor {
	var all []Descriptor
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	for _, layer := range m.Layers {
		if len(layer.URLs) == 0 {
			all = append(all, layer)
		}
	}
	return all
}

var (
	nameForm = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// ValidName reports whether name can be a repository.
func ValidName(name string) bool { return len(name) <= 255 && nameForm.MatchString(name) }

// The folders of one repository begin with an underscore, which no part of a name does.
func (s *Store) repo(name, folder string) string {
	return filepath.Join(s.dir, reposFolder, filepath.FromSlash(name), folder)
}

func (s *Store) manifestLink(name, digest string) string {
	return filepath.Join(s.repo(name, "_manifests"), strings.TrimPrefix(digest, "sha256:"))
}

// PutManifest stores a manifest in a repository under its digest and, when ref is a tag, under that tag. A tag stays with
// its first digest for ever, and latest is refused: both are domain errors (Conflict, Refused).
func (s *Store) PutManifest(ctx context.Context, name, ref, mediaType string, body []byte) (string, error) {
	if !ValidName(name) {
		return "", domain.Errorf(domain.Invalid, "%q cannot be the name of a repository", name)
	}
	if err := checkRef(ref); err != nil {
		return "", err
	}
	m, err := parseManifest(body, mediaType)
	if err != nil {
		return "", err
	}
	want := ""
	if ValidDigest(ref) {
		want = ref
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.complete(m); err != nil {
		return "", err
	}
	digest, _, err := s.PutBlob(ctx, bytes.NewReader(body), want)
	if err != nil {
		return "", err
	}
	if m.MediaType == "" {
		m.MediaType = mediaType
	}
	if err := s.writeFile(s.manifestLink(name, digest), []byte(m.MediaType), false); err != nil {
		return "", err
	}
	if m.Subject != nil && ValidDigest(m.Subject.Digest) {
		link := filepath.Join(s.repo(name, "_referrers"), m.Subject.Digest[7:], digest[7:])
		if err := s.writeFile(link, nil, false); err != nil {
			return "", err
		}
	}
	if want != "" {
		return digest, nil
	}
	return digest, s.tag(name, ref, digest)
}

func checkRef(ref string) error {
	switch {
	case ref == "latest":
		return domain.Errorf(domain.Refused, "the tag latest is refused: it names another image tomorrow").
			WithHint("tag with the full commit SHA, and use the digest from then on")
	case ValidDigest(ref), tagForm.MatchString(ref):
		return nil
	}
	return domain.Errorf(domain.Invalid, "%q is neither a tag nor a digest", ref)
}

func parseManifest(body []byte, mediaType string) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(body, &m); err != nil {
		return m, domain.Errorf(domain.Invalid, "the manifest is not JSON: %w", err)
	}
	if m.MediaType != "" && mediaType != "" && m.MediaType != mediaType {
		return m, domain.Errorf(domain.Invalid, "the manifest says it is %s, the request %s", m.MediaType, mediaType)
	}
	if mediaType == "" {
		mediaType = m.MediaType
	}
	switch mediaType {
	case ManifestType, dockerManifestType:
		if m.Config == nil {
			return m, domain.Errorf(domain.Invalid, "the manifest names no config")
		}
	case IndexType, dockerIndexType:
		if m.Config != nil {
			return m, domain.Errorf(domain.Invalid, "the index has a config")
		}
		if m.Manifests == nil {
			m.Manifests = []Descriptor{}
		}
	default:
		return m, domain.Errorf(domain.Invalid, "a manifest of type %q is not known here", mediaType)
	}
	m.MediaType = mediaType
	for _, d := range append(m.blobs(), m.Manifests...) {
		if !ValidDigest(d.Digest) {
			return m, domain.Errorf(domain.Invalid, "the manifest names %q, which is not a sha256 digest", d.Digest)
		}
	}
	return m, nil
}

// ErrBlobUnknown says that a manifest names what is not here.
var ErrBlobUnknown = errors.New("blob unknown")

func (s *Store) complete(m Manifest) error {
	for _, d := range append(m.blobs(), m.Manifests...) {
		size, ok := s.Has(d.Digest)
		if !ok {
			return domain.Errorf(domain.Invalid, "the manifest names %s, which was not pushed: %w", d.Digest, ErrBlobUnknown)
		}
		if size != d.Size {
			return domain.Errorf(domain.Invalid, "the manifest says %s has %d bytes, it has %d", d.Digest, d.Size, size)
		}
	}
	return nil
}

// tag binds a tag to a digest once and for ever.
func (s *Store) tag(name, tag, digest string) error {
	file := filepath.Join(s.repo(name, "_tags"), tag)
	err := s.writeFile(file, []byte(digest), true)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if string(body) != digest {
		return domain.Errorf(domain.Conflict, "tag %s of %s is %s for ever, not %s", tag, name, body, digest).
			WithHint("tags are immutable; name the image by its digest")
	}
	return nil
}

// Resolve returns the digest that ref (a tag or a digest) has in a repository.
func (s *Store) Resolve(name, ref string) (string, error) {
	unknown := domain.Errorf(domain.NotFound, "%s has no image %s", name, ref)
	if !ValidName(name) || checkRef(ref) != nil {
		return "", unknown
	}
	digest := ref
	if !ValidDigest(ref) {
		body, err := os.ReadFile(filepath.Join(s.repo(name, "_tags"), ref))
		if err != nil {
			return "", unknown
		}
		digest = string(body)
	}
	if _, err := os.Stat(s.manifestLink(name, digest)); err != nil {
		return "", unknown
	}
	return digest, nil
}

// Manifest returns a manifest's bytes, checked against its digest, and its media type.
func (s *Store) Manifest(name, ref string) (digest, mediaType string, body []byte, err error) {
	if digest, err = s.Resolve(name, ref); err != nil {
		return "", "", nil, err
	}
	kind, err := os.ReadFile(s.manifestLink(name, digest))
	if err != nil {
		return "", "", nil, err
	}
	body, err = s.small(digest)
	return digest, string(kind), body, err
}

// small reads a manifest or a config as a whole.
func (s *Store) small(digest string) ([]byte, error) {
	f, err := s.Blob(digest)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(f, s.opt.MaxManifest+1))
	err = errors.Join(err, f.Close())
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > s.opt.MaxManifest {
		return nil, domain.Errorf(domain.Refused, "%s is too large for a manifest or a configuration", digest)
	}
	return body, nil
}

func (s *Store) parsed(digest string) (Manifest, error) {
	body, err := s.small(digest)
	if err != nil {
		return Manifest{}, err
	}
	var kind struct {
		MediaType string `json:"mediaType"`
		Manifests []any  `json:"manifests"`
	}
	if err := json.Unmarshal(body, &kind); err != nil {
		return Manifest{}, domain.Errorf(domain.Invalid, "%s is not a manifest: %w", digest, err)
	}
	if kind.MediaType == "" {
		if kind.MediaType = ManifestType; kind.Manifests != nil {
			kind.MediaType = IndexType
		}
	}
	return parseManifest(body, kind.MediaType)
}

// Tags returns the tags of a repository, sorted.
func (s *Store) Tags(name string) ([]string, error) {
	if !ValidName(name) {
		return nil, domain.Errorf(domain.NotFound, "there is no repository %q", name)
	}
	if _, err := os.Stat(s.repo(name, "_manifests")); err != nil {
		return nil, domain.Errorf(domain.NotFound, "there is no repository %q", name)
	}
	return list(s.repo(name, "_tags"))
}

// Repositories returns all repositories, sorted.
func (s *Store) Repositories() ([]string, error) {
	var names []string
	root := filepath.Join(s.dir, reposFolder)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), "_") {
			if entry.Name() == "_manifests" {
				name, err := filepath.Rel(root, filepath.Dir(path))
				if err != nil {
					return err
				}
				names = append(names, filepath.ToSlash(name))
			}
			return fs.SkipDir
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

// Referrers returns the descriptors of the manifests in a repository whose subject is digest.
func (s *Store) Referrers(name, digest string) ([]Descriptor, error) {
	if !ValidName(name) || !ValidDigest(digest) {
		return nil, domain.Errorf(domain.Invalid, "%s@%s is not an image", name, digest)
	}
	found, err := list(filepath.Join(s.repo(name, "_referrers"), digest[7:]))
	if err != nil {
		return nil, err
	}
	var all []Descriptor
	for _, h := range found {
		d := "sha256:" + h
		m, err := s.parsed(d)
		if err != nil {
			return nil, err
		}
		size, _ := s.Has(d)
		kind := m.ArtifactType
		if kind == "" && m.Config != nil {
			kind = m.Config.MediaType
		}
		all = append(all, Descriptor{MediaType: m.MediaType, Digest: d, Size: size, ArtifactType: kind, Annotations: m.Annotations})
	}
	return all, nil
}

func list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, err
}

// Attach stores a small document about an image beside it, as a referrer. Attaching the same twice is the same as once.
func (s *Store) Attach(ctx context.Context, name, subject, artifactType string, document []byte) error {
	m, err := s.parsed(subject)
	if err != nil {
		return err
	}
	size, _ := s.Has(subject)
	config, configSize, err := s.PutBlob(ctx, strings.NewReader("{}"), "")
	if err != nil {
		return err
	}
	layer, layerSize, err := s.PutBlob(ctx, bytes.NewReader(document), "")
	if err != nil {
		return err
	}
	body, err := json.Marshal(Manifest{
		SchemaVersion: 2, MediaType: ManifestType, ArtifactType: artifactType,
		Config:  &Descriptor{MediaType: EmptyType, Digest: config, Size: configSize},
		Layers:  []Descriptor{{MediaType: artifactType, Digest: layer, Size: layerSize}},
		Subject: &Descriptor{MediaType: m.MediaType, Digest: subject, Size: size},
	})
	if err != nil {
		return err
	}
	h, _, err := s.PutBlob(ctx, bytes.NewReader(body), "")
	if err != nil {
		return err
	}
	_, err = s.PutManifest(ctx, name, h, ManifestType, body)
	return err
}

// Attached returns the documents of a type that are attached to an image. One that was altered is an error.
func (s *Store) Attached(_ context.Context, name, subject, artifactType string) ([][]byte, error) {
	referrers, err := s.Referrers(name, subject)
	if err != nil {
		return nil, err
	}
	var documents [][]byte
	for _, r := range referrers {
		if r.ArtifactType != artifactType {
			continue
		}
		m, err := s.parsed(r.Digest)
		if err != nil {
			return nil, err
		}
		for _, layer := range m.Layers {
			body, err := s.small(layer.Digest)
			if err != nil {
				return nil, err
			}
			documents = append(documents, body)
		}
	}
	return documents, nil
}

// Verify reads an image or index and all that it names, and says what is missing or altered.
func (s *Store) Verify(ctx context.Context, digest string) error {
	all := map[string]bool{}
	if err := s.mark(digest, all); err != nil {
		return err
	}
	for d := range all {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		f, err := s.Blob(d)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// mark adds a manifest and all that it needs to seen.
func (s *Store) mark(digest string, seen map[string]bool) error {
	if seen[digest] {
		return nil
	}
	m, err := s.parsed(digest)
	if err != nil {
		return err
	}
	seen[digest] = true
	for _, d := range m.blobs() {
		seen[d.Digest] = true
	}
	for _, d := range m.Manifests {
		if err := s.mark(d.Digest, seen); err != nil {
			return err
		}
	}
	return nil
}
