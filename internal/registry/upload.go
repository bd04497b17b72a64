package registry

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// An upload is a file below uploads whose size is how far it came: there is no other state, so that it can be gone on with
// after a restart.

var uploadForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

func (h handler) upload(w http.ResponseWriter, r *http.Request, t target) {
	if t.ref == "" {
		if r.Method != http.MethodPost {
			fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "an upload begins with POST")
			return
		}
		h.begin(w, r, t)
		return
	}
	if !uploadForm.MatchString(t.ref) {
		fail(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
		return
	}
	defer h.store.uploads.lock(t.ref)()
	file := filepath.Join(h.store.dir, uploadsFolder, t.ref)
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		fail(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload; begin again")
		return
	}
	defer func() { _ = f.Close() }() // commit has closed it where it counts
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		h.progress(w, t, f, http.StatusNoContent)
	case http.MethodPatch:
		if h.append(w, r, t, f) {
			h.progress(w, t, f, http.StatusAccepted)
		}
	case http.MethodPut:
		h.finish(w, r, t, f)
	case http.MethodDelete:
		if err := os.Remove(file); err != nil {
			failWith(w, err, "BLOB_UPLOAD_UNKNOWN")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED", r.Method+" is not possible on an upload")
	}
}

// begin mounts, takes a whole blob, or opens an upload.
func (h handler) begin(w http.ResponseWriter, r *http.Request, t target) {
	q := r.URL.Query()
	if digest := q.Get("mount"); digest != "" {
		if _, ok := h.store.Has(digest); ok { // blobs are shared: from need not be looked at
			created(w, t, digest)
			return
		}
	}
	if err := h.store.Guard(uint64(max(r.ContentLength, 0))); err != nil {
		fail(w, http.StatusInsufficientStorage, "DENIED", err.Error())
		return
	}
	if digest := q.Get("digest"); digest != "" {
		if !ValidDigest(digest) {
			fail(w, http.StatusBadRequest, "DIGEST_INVALID", strconv.Quote(digest)+" is not a sha256 digest")
			return
		}
		if _, _, err := h.store.PutBlob(r.Context(), r.Body, digest); err != nil {
			failUpload(w, err)
			return
		}
		created(w, t, digest)
		return
	}
	t.ref = newID()
	f, err := os.OpenFile(filepath.Join(h.store.dir, uploadsFolder, t.ref), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		failUpload(w, err)
		return
	}
	defer func() { _ = f.Close() }()
	h.progress(w, t, f, http.StatusAccepted)
}

func created(w http.ResponseWriter, t target, digest string) {
	w.Header().Set("Location", "/v2/"+t.name+"/blobs/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
}

// progress says how far an upload came.
func (h handler) progress(w http.ResponseWriter, t target, f *os.File, status int) {
	info, err := f.Stat()
	if err != nil {
		failUpload(w, err)
		return
	}
	w.Header().Set("Location", "/v2/"+t.name+"/blobs/uploads/"+t.ref)
	w.Header().Set("Docker-Upload-UUID", t.ref)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(info.Size()-1, 0)))
	w.WriteHeader(status)
}

// append adds a chunk. What arrived of a torn chunk stays, and is counted by the next progress.
func (h handler) append(w http.ResponseWriter, r *http.Request, t target, f *os.File) bool {
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		failUpload(w, err)
		return false
	}
	if text := r.Header.Get("Content-Range"); text != "" {
		first, _, _ := strings.Cut(strings.TrimPrefix(text, "bytes "), "-")
		if begin, err := strconv.ParseInt(first, 10, 64); err != nil || begin != at {
			h.progress(w, t, f, http.StatusRequestedRangeNotSatisfiable)
			return false
		}
	}
	if err := h.store.Guard(uint64(max(r.ContentLength, 0))); err != nil {
		fail(w, http.StatusInsufficientStorage, "DENIED", err.Error())
		return false
	}
	if _, err := io.Copy(&guarded{ctx: r.Context(), w: f, store: h.store}, r.Body); err != nil {
		failUpload(w, err)
		return false
	}
	return true
}

// finish takes the last chunk, compares the digest and moves the file to its place.
func (h handler) finish(w http.ResponseWriter, r *http.Request, t target, f *os.File) {
	want := r.URL.Query().Get("digest")
	if !ValidDigest(want) {
		fail(w, http.StatusBadRequest, "DIGEST_INVALID", strconv.Quote(want)+" is not a sha256 digest")
		return
	}
	if !h.append(w, r, t, f) {
		return
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		failUpload(w, err)
		return
	}
	sha := sha256.New()
	if _, err := io.Copy(sha, f); err != nil {
		failUpload(w, err)
		return
	}
	if got := sum(sha); got != want {
		_ = os.Remove(f.Name())
		fail(w, http.StatusBadRequest, "DIGEST_INVALID", "the content has digest "+got+", not "+want)
		return
	}
	if err := h.store.commit(f, want); err != nil {
		failUpload(w, err)
		return
	}
	created(w, t, want)
}

func failUpload(w http.ResponseWriter, err error) {
	var e *domain.Error
	if errors.As(err, &e) && e.Code == domain.Refused {
		fail(w, http.StatusBadRequest, "DIGEST_INVALID", e.Message)
		return
	}
	failWith(w, err, "BLOB_UPLOAD_INVALID")
}
