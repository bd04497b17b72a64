package registry_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/registry"
)

func open(t *testing.T, dir string, opt registry.Options) *registry.Store {
	t.Helper()
	s, err := registry.Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve puts a store behind a real socket.
func serve(t *testing.T, s *registry.Store) string {
	t.Helper()
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func ref(t *testing.T, host, image string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(host+"/"+image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func image(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(2048, 3)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func digestOf(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

const sha = "4f2c81a9d0b5e6f7a8b9c0d1e2f3a4b5c6d7e8f9"

func TestPushAndPullSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	img := image(t)
	host := serve(t, open(t, dir, registry.Options{}))
	if err := remote.Write(ref(t, host, "team/shop:"+sha), img); err != nil {
		t.Fatal(err)
	}
	host = serve(t, open(t, dir, registry.Options{})) // a new process on the same folder
	want, _ := img.Digest()
	for _, r := range []string{"team/shop:" + sha, "team/shop@" + want.String()} {
		got, err := remote.Image(ref(t, host, r))
		if err != nil {
			t.Fatal(err)
		}
		if d, err := got.Digest(); err != nil || d != want {
			t.Errorf("%s: digest %v, %v", r, d, err)
		}
		layers, err := got.Layers()
		if err != nil || len(layers) != 3 {
			t.Fatalf("%d layers, %v", len(layers), err)
		}
		for _, layer := range layers {
			content, err := layer.Uncompressed()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, content); err != nil { // the client checks digests
				t.Error(err)
			}
		}
	}
	tags, err := remote.List(ref(t, host, "team/shop").Context())
	if err != nil || len(tags) != 1 || tags[0] != sha {
		t.Errorf("tags %v, %v", tags, err)
	}
	reg, _ := name.NewRegistry(host, name.Insecure)
	repos, err := remote.Catalog(t.Context(), reg)
	if err != nil || len(repos) != 1 || repos[0] != "team/shop" {
		t.Errorf("catalog %v, %v", repos, err)
	}
}

// statusOf returns the HTTP status that made the client fail.
func statusOf(err error) int {
	var e *transport.Error
	if errors.As(err, &e) {
		return e.StatusCode
	}
	return 0
}

func TestTagsAreImmutable(t *testing.T) {
	host := serve(t, open(t, t.TempDir(), registry.Options{}))
	first := image(t)
	for range 2 { // the same again is fine
		if err := remote.Write(ref(t, host, "shop:"+sha), first); err != nil {
			t.Fatal(err)
		}
	}
	err := remote.Write(ref(t, host, "shop:"+sha), image(t))
	if statusOf(err) != 409 || !strings.Contains(err.Error(), "immutable") {
		t.Errorf("another image under the tag: %v", err)
	}
	err = remote.Write(ref(t, host, "shop:latest"), first)
	if err == nil || !strings.Contains(err.Error(), "latest is refused") {
		t.Errorf("latest: %v", err)
	}
	err = remote.Delete(ref(t, host, "shop:"+sha))
	if statusOf(err) != 405 {
		t.Errorf("delete: %v", err)
	}
	index, err := random.Index(512, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref(t, host, "shop:index"), index); err != nil {
		t.Errorf("an index: %v", err)
	}
}

func TestConcurrentPushesOfOneTagHaveOneWinner(t *testing.T) {
	host := serve(t, open(t, t.TempDir(), registry.Options{}))
	const n = 8
	images := make([]v1.Image, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		images[i] = image(t)
		r := ref(t, host, "shop:"+sha)
		wg.Go(func() { errs[i] = remote.Write(r, images[i]) })
	}
	wg.Wait()
	got, err := remote.Image(ref(t, host, "shop:"+sha))
	if err != nil {
		t.Fatal(err)
	}
	d, _ := got.Digest()
	won := 0
	for i, err := range errs {
		if err == nil {
			won++
			if mine, _ := images[i].Digest(); mine != d {
				t.Errorf("push %d said it won, the tag is another image", i)
			}
		}
	}
	if won != 1 {
		t.Errorf("%d pushes won", won)
	}
}

// do sends one request and returns the answer with its body.
func do(t *testing.T, method, url string, body io.Reader, header map[string]string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func TestChunkedUploadIsResumedAfterARestart(t *testing.T) {
	dir := t.TempDir()
	host := "http://" + serve(t, open(t, dir, registry.Options{}))
	content := bytes.Repeat([]byte("0123456789"), 1000)
	resp, _ := do(t, "POST", host+"/v2/shop/blobs/uploads/", nil, nil)
	if resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp.Status)
	}
	at := resp.Header.Get("Location")
	resp, _ = do(t, "PATCH", host+at, bytes.NewReader(content[:4000]), map[string]string{"Content-Range": "0-3999"})
	if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Range") != "0-3999" {
		t.Fatal(resp.Status, resp.Header)
	}
	host = "http://" + serve(t, open(t, dir, registry.Options{}))
	resp, _ = do(t, "GET", host+at, nil, nil)
	if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Range") != "0-3999" {
		t.Fatal(resp.Status, resp.Header)
	}
	resp, _ = do(t, "PATCH", host+at, bytes.NewReader(content[5000:]), map[string]string{"Content-Range": "5000-9999"})
	if resp.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("a chunk out of order: %s", resp.Status)
	}
	resp, _ = do(t, "PATCH", host+at, bytes.NewReader(content[4000:8000]), map[string]string{"Content-Range": "4000-7999"})
	if resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp.Status)
	}
	d := digestOf(content)
	resp, body := do(t, "PUT", host+at+"?digest="+d, bytes.NewReader(content[8000:]), nil)
	if resp.StatusCode != http.StatusCreated || resp.Header.Get("Docker-Content-Digest") != d {
		t.Fatal(resp.Status, body)
	}
	resp, body = do(t, "GET", host+"/v2/shop/blobs/"+d, nil, map[string]string{"Range": "bytes=10-19"})
	if resp.StatusCode != http.StatusPartialContent || body != "0123456789" {
		t.Errorf("range: %s %q", resp.Status, body)
	}
	resp, _ = do(t, "HEAD", host+"/v2/shop/blobs/"+d, nil, nil)
	if resp.StatusCode != http.StatusOK || resp.ContentLength != int64(len(content)) {
		t.Errorf("head: %s %d", resp.Status, resp.ContentLength)
	}
	resp, _ = do(t, "POST", host+"/v2/other/blobs/uploads/?mount="+d+"&from=shop", nil, nil)
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("mount: %s", resp.Status)
	}
	resp, _ = do(t, "GET", host+at, nil, nil)
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the upload is still there: %s", resp.Status)
	}
}

func TestWrongDigestsAreRefused(t *testing.T) {
	dir := t.TempDir()
	host := "http://" + serve(t, open(t, dir, registry.Options{}))
	wrong := digestOf([]byte("something else"))
	resp, body := do(t, "POST", host+"/v2/shop/blobs/uploads/?digest="+wrong, strings.NewReader("content"), nil)
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "DIGEST_INVALID") {
		t.Errorf("monolithic: %s %s", resp.Status, body)
	}
	resp, _ = do(t, "POST", host+"/v2/shop/blobs/uploads/", nil, nil)
	resp, body = do(t, "PUT", host+resp.Header.Get("Location")+"?digest="+wrong, strings.NewReader("content"), nil)
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "DIGEST_INVALID") {
		t.Errorf("chunked: %s %s", resp.Status, body)
	}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"x","size":1,"digest":%q},"layers":[]}`, wrong)
	resp, body = do(t, "PUT", host+"/v2/shop/manifests/v1", strings.NewReader(manifest), map[string]string{"Content-Type": registry.ManifestType})
	if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "MANIFEST_BLOB_UNKNOWN") {
		t.Errorf("a manifest without its blobs: %s %s", resp.Status, body)
	}
	for _, path := range []string{"/v2/shop/../../etc/passwd", "/v2/_tags/x/manifests/a", "/v2/shop/blobs/sha256:..", "/v2/SHOP/tags/list", "/v2/shop/manifests/..%2f..%2fetc"} {
		if resp, _ := do(t, "GET", host+path, nil, nil); resp.StatusCode < 400 || resp.StatusCode >= 500 {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "uploads", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// blobFile finds where a blob lies.
func blobFile(dir, digest string) string {
	return filepath.Join(dir, "blobs/sha256", digest[7:9], digest[7:])
}

func TestAlteredBlobIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, registry.Options{})
	d, _, err := s.PutBlob(t.Context(), strings.NewReader("the artifact"), "")
	if err != nil {
		t.Fatal(err)
	}
	host := "http://" + serve(t, s)
	if resp, body := do(t, "GET", host+"/v2/shop/blobs/"+d, nil, nil); resp.StatusCode != http.StatusOK || body != "the artifact" {
		t.Fatal(resp.Status, body)
	}
	file := blobFile(dir, d)
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(file)
	if err := os.WriteFile(file, []byte("The artifact"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, info.ModTime(), info.ModTime()); err != nil { // whoever alters it hides it
		t.Fatal(err)
	}
	resp, body := do(t, "GET", host+"/v2/shop/blobs/"+d, nil, nil)
	if resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "was altered") {
		t.Errorf("%s %s", resp.Status, body)
	}
	if _, _, err := s.PutBlob(t.Context(), strings.NewReader("the artifact"), d); err != nil { // pushing it again heals it
		t.Fatal(err)
	}
	if f, err := s.Blob(d); err != nil {
		t.Error(err)
	} else {
		_ = f.Close()
	}
}

func TestOpenSweepsWhatWritersLeft(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, registry.Options{})
	stale := filepath.Join(dir, "uploads", strings.Repeat("a", 32))
	fresh := filepath.Join(dir, "uploads", strings.Repeat("b", 32))
	torn := filepath.Join(dir, "uploads", "tmp-1")
	for _, f := range []string{stale, fresh, torn} {
		if err := os.WriteFile(f, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-25 * time.Hour)
	if err := os.Chtimes(stale, old, old); err != nil {
		t.Fatal(err)
	}
	open(t, dir, registry.Options{})
	for f, want := range map[string]bool{stale: false, fresh: true, torn: false} {
		if _, err := os.Stat(f); (err == nil) != want {
			t.Errorf("%s: there %v, want %v", filepath.Base(f), err == nil, want)
		}
	}
}

func TestGCKeepsWhatIsNamed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, registry.Options{Grace: time.Nanosecond})
	host := serve(t, s)
	stays, goes := image(t), image(t)
	for tag, img := range map[string]v1.Image{"stays": stays, "goes": goes} {
		if err := remote.Write(ref(t, host, "shop:"+tag), img); err != nil {
			t.Fatal(err)
		}
	}
	kept, _ := stays.Digest()
	gone, _ := goes.Digest()
	for _, d := range []v1.Hash{kept, gone} {
		if err := s.Attach(t.Context(), "shop", d.String(), "application/x-evidence", []byte("signed "+d.String())); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.GC(t.Context(), []string{digestOf([]byte("missing"))}); err == nil {
		t.Error("a missing image to keep did not stop it")
	}
	freed, err := s.GC(t.Context(), []string{kept.String()})
	if err != nil || freed.Blobs < 5 {
		t.Fatalf("%+v, %v", freed, err)
	}
	if err := s.Verify(t.Context(), kept.String()); err != nil {
		t.Error(err)
	}
	if _, err := remote.Image(ref(t, host, "shop:goes")); err == nil {
		t.Error("the other image is still there")
	}
	documents, err := s.Attached(t.Context(), "shop", kept.String(), "application/x-evidence")
	if err != nil || len(documents) != 1 || string(documents[0]) != "signed "+kept.String() {
		t.Errorf("%q, %v", documents, err)
	}
	if err := remote.Write(ref(t, host, "shop:goes"), goes); err != nil { // and it can come again
		t.Error(err)
	}
}

func TestGCLeavesAPushUnderWayAlone(t *testing.T) {
	s := open(t, t.TempDir(), registry.Options{})
	d, _, err := s.PutBlob(t.Context(), strings.NewReader("first layer"), "")
	if err != nil {
		t.Fatal(err)
	}
	if freed, err := s.GC(t.Context(), nil); err != nil || freed.Blobs != 0 {
		t.Errorf("%+v, %v", freed, err)
	}
	if _, ok := s.Has(d); !ok {
		t.Error("the blob is gone")
	}
}

// kamal#1922, #1655: pruning staging removed production's rollback target; disks filled.
func TestScar_kamal_1922(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var all []registry.Retained
	for i := range 12 { // staging: one release a day, 40 days ago and before
		all = append(all, registry.Retained{App: "shop", Environment: domain.Staging, Digest: fmt.Sprintf("d%02d", i), Created: now.AddDate(0, 0, -40-i)})
	}
	// Production rolled out d09 long ago, and its rollback target is d11.
	all = append(all,
		registry.Retained{App: "shop", Environment: domain.Production, Digest: "d09", Created: now.AddDate(0, 0, -49)},
		registry.Retained{App: "mailer", Environment: domain.Production, Digest: "m1", Created: now.AddDate(-1, 0, 0)},
		registry.Retained{App: "shop", Environment: domain.Staging, Digest: "young", Created: now.AddDate(0, 0, -29)})
	keep, remove := registry.Keep(all, []string{"d11", "elsewhere"}, now, registry.DefaultRetention)
	want := "d00 d01 d02 d03 d09 d11 elsewhere m1 young"
	if got := strings.Join(keep, " "); got != want {
		t.Errorf("keep %s, want %s", got, want)
	}
	if got := strings.Join(remove, " "); got != "d04 d05 d06 d07 d08 d10" {
		t.Errorf("remove %s", got)
	}

	// The same through the store: after a collection the target still unpacks.
	dir := t.TempDir()
	s := open(t, dir, registry.Options{Grace: time.Nanosecond})
	target := store(t, s, nil, "", []entry{{name: "a", body: "target"}})
	other := store(t, s, nil, "", []entry{{name: "a", body: "other"}})
	old := registry.Retained{App: "shop", Environment: domain.Staging, Created: now.AddDate(-1, 0, 0)}
	a, b := old, old
	a.Digest, b.Digest = target, other
	keep, _ = registry.Keep([]registry.Retained{a, b}, []string{target}, now, registry.Retention{})
	if _, err := s.GC(t.Context(), keep); err != nil {
		t.Fatal(err)
	}
	if err := s.Unpack(t.Context(), target, filepath.Join(releases(t), target[7:])); err != nil {
		t.Error(err)
	}
	// And the guard refuses before the disk is full, with the numbers.
	full := open(t, dir, registry.Options{MinFree: 1 << 60})
	_, _, err := full.PutBlob(t.Context(), strings.NewReader("more"), "")
	if domain.CodeOf(err) != domain.Refused || !strings.Contains(fmt.Sprint(err), "GiB free") {
		t.Errorf("%v", err)
	}
	resp, body := do(t, "POST", "http://"+serve(t, full)+"/v2/shop/blobs/uploads/", nil, nil)
	if resp.StatusCode != http.StatusInsufficientStorage {
		t.Errorf("%s %s", resp.Status, body)
	}
}

func TestBallast(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ballast")
	for range 2 {
		if err := registry.Ballast(file, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Size() != 1<<20 {
		t.Errorf("%v, %v", info, err)
	}
	if n, err := registry.FreeBallast(file); err != nil || n != 1<<20 {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := registry.FreeBallast(file); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
}
