package registry_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/registry"
)

// entry is one entry of a layer.
type entry struct {
	name, body, link string
	kind             byte
	mode             int64
}

// layerOf packs entries; the digest of the tar and of the gzip are returned.
func layerOf(t *testing.T, entries []entry) (packed []byte, diffID string) {
	t.Helper()
	var raw, zipped bytes.Buffer
	w := tar.NewWriter(&raw)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if e.mode == 0 {
			e.mode = 0o644
		}
		if err := w.WriteHeader(&tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: e.mode, Size: int64(len(e.body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(raw.Bytes())
	_ = z.Close()
	return zipped.Bytes(), digestOf(raw.Bytes())
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	body, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// store packs layers into an image. A diffID that is given replaces the first layer's own.
func store(t *testing.T, s *registry.Store, labels map[string]string, diffID string, layers ...[]entry) string {
	t.Helper()
	ctx := context.Background()
	var config registry.Config
	config.Config.Labels = labels
	m := registry.Manifest{SchemaVersion: 2, MediaType: registry.ManifestType}
	for _, entries := range layers {
		packed, diff := layerOf(t, entries)
		if diffID != "" {
			diff = diffID
		}
		d, n, err := s.PutBlob(ctx, bytes.NewReader(packed), "")
		if err != nil {
			t.Fatal(err)
		}
		m.Layers = append(m.Layers, registry.Descriptor{MediaType: registry.LayerType, Digest: d, Size: n})
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diff)
	}
	body := encode(t, config)
	d, n, err := s.PutBlob(ctx, bytes.NewReader(body), "")
	if err != nil {
		t.Fatal(err)
	}
	m.Config = &registry.Descriptor{MediaType: registry.ConfigType, Digest: d, Size: n}
	body = encode(t, m)
	digest, err := s.PutManifest(ctx, "shop", digestOf(body), registry.ManifestType, body)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// releases is a folder whose read-only trees are removed at the end, also by an ordinary user.
func releases(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			_ = registry.RemoveUnpacked(filepath.Join(dir, e.Name()))
		}
	})
	return dir
}

func TestUnpack(t *testing.T) {
	s := open(t, t.TempDir(), registry.Options{})
	d := store(t, s, map[string]string{registry.FixedLabel: "/data/work/shop/src"}, "",
		[]entry{
			{name: "data/work/shop/src/bin/api", body: "program", mode: 0o4755},
			{name: "data/work/shop/src/gone", body: "x"},
			{name: "data/work/shop/src/dir/a", body: "x"},
			{name: "data/work/shop/src/python", kind: tar.TypeSymlink, link: "/usr/bin/python3"},
			{name: "data/work/shop/src/python3", kind: tar.TypeSymlink, link: "python"},
			{name: "data/work/shop/src/hard", kind: tar.TypeLink, link: "data/work/shop/src/bin/api"},
		},
		[]entry{
			{name: "data/work/shop/src/.wh.gone"},
			{name: "data/work/shop/src/dir/.wh..wh..opq"},
			{name: "data/work/shop/src/dir/b", body: "b"},
		})
	dest := filepath.Join(releases(t), d[7:])
	for range 2 {
		if err := s.Unpack(t.Context(), d, dest); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{"bin/api": "program", "hard": "program", "dir/b": "b"} {
		if body, err := os.ReadFile(filepath.Join(dest, file)); err != nil || string(body) != want {
			t.Errorf("%s: %q, %v", file, body, err)
		}
	}
	for _, gone := range []string{"gone", "dir/a", "data"} {
		if _, err := os.Lstat(filepath.Join(dest, gone)); err == nil {
			t.Errorf("%s is there", gone)
		}
	}
	if info, _ := os.Stat(filepath.Join(dest, "bin/api")); info.Mode() != 0o555 {
		t.Errorf("mode %v", info.Mode())
	}
	if info, _ := os.Stat(dest); info.Mode().Perm() != 0o555 {
		t.Errorf("mode %v", info.Mode())
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dest), ".unpack-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestUnpackRefusesHostileLayers(t *testing.T) {
	for what, layers := range map[string][][]entry{
		"path out":             {{{name: "../evil", body: "x"}}},
		"path out, deep":       {{{name: "a/../../evil", body: "x"}}},
		"link out":             {{{name: "a", kind: tar.TypeSymlink, link: "../evil"}}},
		"link to secrets":      {{{name: "a", kind: tar.TypeSymlink, link: "/etc/shadow"}}},
		"link up from system":  {{{name: "a", kind: tar.TypeSymlink, link: "/usr/../etc/shadow"}}},
		"link through a link":  {{{name: "d", kind: tar.TypeSymlink, link: "."}, {name: "l", kind: tar.TypeSymlink, link: "d/d/../.."}}},
		"write through a link": {{{name: "a", kind: tar.TypeSymlink, link: "/usr/lib"}, {name: "a/evil", body: "x"}}},
		"and in a next layer":  {{{name: "a", kind: tar.TypeSymlink, link: "../.."}}, {{name: "a/evil", body: "x"}}},
		"hard link out":        {{{name: "a", kind: tar.TypeLink, link: "../../etc/passwd"}}},
		"hard link to a link":  {{{name: "l", kind: tar.TypeSymlink, link: "/usr/bin/env"}, {name: "a", kind: tar.TypeLink, link: "l"}}},
		"device":               {{{name: "a", kind: tar.TypeBlock}}},
		"pipe":                 {{{name: "a", kind: tar.TypeFifo}}},
		"whiteout of the top":  {{{name: ".wh..", body: ""}}},
		"bomb":                 {{{name: "a", body: strings.Repeat("0", 3<<20)}}},
	} {
		t.Run(what, func(t *testing.T) {
			s := open(t, t.TempDir(), registry.Options{MaxUnpacked: 2 << 20})
			d := store(t, s, nil, "", layers...)
			base := releases(t)
			dest := filepath.Join(base, "r", d[7:])
			if err := s.Unpack(t.Context(), d, dest); err == nil || domain.CodeOf(err) != domain.Refused {
				t.Errorf("not refused: %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(base, "*", ".*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if _, err := os.Lstat(dest); err == nil {
				t.Error("dest is there")
			}
			for _, evil := range []string{filepath.Join(base, "evil"), filepath.Join(base, "r", "evil"), "/usr/lib/evil"} {
				if _, err := os.Lstat(evil); err == nil {
					t.Fatalf("%s was written", evil)
				}
			}
		})
	}
}

func TestUnpackRefusesAlteredLayers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, registry.Options{})
	lying := store(t, s, nil, digestOf([]byte("other")), []entry{{name: "a", body: "x"}})
	if err := s.Unpack(t.Context(), lying, filepath.Join(releases(t), "x")); err == nil || !strings.Contains(err.Error(), "content has digest") {
		t.Errorf("a layer with another diffID: %v", err)
	}
	good := store(t, s, nil, "", []entry{{name: "a", body: "y"}})
	packed, _ := layerOf(t, []entry{{name: "a", body: "y"}})
	file := blobFile(dir, digestOf(packed))
	_ = os.Chmod(file, 0o600)
	packed[len(packed)/2] ^= 1
	if err := os.WriteFile(file, packed, 0o600); err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(releases(t), "x")
	if err := s.Unpack(t.Context(), good, dest); err == nil || !strings.Contains(err.Error(), "was altered") {
		t.Errorf("an altered layer: %v", err)
	}
	if err := s.Verify(t.Context(), good); err == nil || !strings.Contains(err.Error(), "was altered") {
		t.Errorf("verify: %v", err)
	}
	if err := s.Unpack(t.Context(), digestOf([]byte("none")), dest); domain.CodeOf(err) != domain.NotFound {
		t.Errorf("a missing image: %v", err)
	}
}
