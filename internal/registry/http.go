package registry

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Handler speaks the distribution protocol (version 1.1) under /v2/: push in one piece or in chunks that can be resumed,
// mounts, pull with ranges, tags, catalog, referrers. Nothing can be deleted through it. Who may call it is decided before.
func (s *Store) Handler() http.Handler { return handler{s} }

type handler struct{ store *Store }

// target is a parsed path: a repository, a kind (tags, manifests, blobs, uploads, referrers) and what of it.
type target struct{ name, kind, ref string }

// parsePath cuts a path from its end, because names have slashes.
func parsePath(path string) (target, bool) {
	parts := strings.Split(strings.TrimPrefix(path, "/v2/"), "/")
	n := len(parts)
	if n >= 4 && parts[n-3] == "blobs" && parts[n-2] == "uploads" {
		return target{strings.Join(parts[:n-3], "/"), "uploads", parts[n-1]}, true
	}
	if n >= 3 && parts[n-2] == "blobs" && parts[n-1] == "uploads" {
		return target{strings.Join(parts[:n-2], "/"), "uploads", ""}, true
	}
	if n < 3 {
		return target{}, false
	}
	t := target{strings.Join(parts[:n-2], "/"), parts[n-2], parts[n-1]}
	return t, slices.Contains([]string{"tags", "manifests", "blobs", "referrers"}, t.kind)
}

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch r.URL.Path {
	case "/v2", "/v2/":
		reply(w, http.StatusOK, map[string]string{})
		return
	case "/v2/_catalog":
		h.catalog(w, r)
		return
	}
	t, ok := parsePath(r.URL.Path)
	switch {
	case !ok:
		fail(w, http.StatusNotFound, "UNSUPPORTED", "the registry has no such path")
	case !ValidName(t.name):
		fail(w, http.StatusBadRequest, "NAME_INVALID", strconv.Quote(t.name)+" cannot be the name of a repository")
	case r.Method == http.MethodDelete && t.kind != "uploads":
		w.Header().Set("Allow", "GET, HEAD, PUT")
		fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "nothing is deleted through the registry: belay keeps what a rollback may need and removes the rest")
	default:
		h.route(w, r, t)
	}
}

func (h handler) route(w http.ResponseWriter, r *http.Request, t target) {
	read := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case t.kind == "tags" && t.ref == "list" && read:
		h.tags(w, r, t)
	case t.kind == "manifests" && read:
		h.getManifest(w, r, t)
	case t.kind == "manifests" && r.Method == http.MethodPut:
		h.putManifest(w, r, t)
	case t.kind == "blobs" && read:
		h.getBlob(w, r, t)
	case t.kind == "uploads":
		h.upload(w, r, t)
	case t.kind == "referrers" && read:
		h.referrers(w, r, t)
	default:
		fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED", r.Method+" is not possible here")
	}
}

func (h handler) catalog(w http.ResponseWriter, r *http.Request) {
	names, err := h.store.Repositories()
	if err != nil {
		failWith(w, err, "UNKNOWN")
		return
	}
	page, ok := paged(w, r, names)
	if ok {
		reply(w, http.StatusOK, map[string][]string{"repositories": page})
	}
}

func (h handler) tags(w http.ResponseWriter, r *http.Request, t target) {
	tags, err := h.store.Tags(t.name)
	if err != nil {
		failWith(w, err, "NAME_UNKNOWN")
		return
	}
	if page, ok := paged(w, r, tags); ok {
		reply(w, http.StatusOK, map[string]any{"name": t.name, "tags": page})
	}
}

// paged cuts a sorted list by the parameters n and last, and links to the rest.
func paged(w http.ResponseWriter, r *http.Request, all []string) ([]string, bool) {
	q := r.URL.Query()
	if last := q.Get("last"); last != "" {
		i, found := slices.BinarySearch(all, last)
		if found {
			i++
		}
		all = all[i:]
	}
	if text := q.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			fail(w, http.StatusBadRequest, "UNSUPPORTED", "n is not a number")
			return nil, false
		}
		if n < len(all) {
			if all = all[:n]; n > 0 {
				next := *r.URL
				q.Set("last", all[n-1])
				next.RawQuery = q.Encode()
				w.Header().Set("Link", "<"+next.RequestURI()+`>; rel="next"`)
			}
		}
	}
	if all == nil {
		all = []string{}
	}
	return all, true
}

func (h handler) getManifest(w http.ResponseWriter, r *http.Request, t target) {
	digest, kind, body, err := h.store.Manifest(t.name, t.ref)
	if err != nil {
		failWith(w, err, "MANIFEST_UNKNOWN")
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("ETag", `"`+digest+`"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // whoever left does not read the error
	}
}

func (h handler) putManifest(w http.ResponseWriter, r *http.Request, t target) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.store.opt.MaxManifest))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		fail(w, http.StatusRequestEntityTooLarge, "SIZE_INVALID", "the manifest is too large")
		return
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "MANIFEST_INVALID", err.Error())
		return
	}
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	digest, err := h.store.PutManifest(r.Context(), t.name, t.ref, strings.TrimSpace(kind), body)
	if err != nil {
		code := "MANIFEST_INVALID"
		if errors.Is(err, ErrBlobUnknown) {
			code = "MANIFEST_BLOB_UNKNOWN"
		}
		failWith(w, err, code)
		return
	}
	if m, err := parseManifest(body, ""); err == nil && m.Subject != nil {
		w.Header().Set("OCI-Subject", m.Subject.Digest)
	}
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Location", "/v2/"+t.name+"/manifests/"+digest)
	w.WriteHeader(http.StatusCreated)
}

func (h handler) getBlob(w http.ResponseWriter, r *http.Request, t target) {
	f, err := h.store.Blob(t.ref)
	if err != nil {
		failWith(w, err, "BLOB_UNKNOWN")
		return
	}
	defer func() { _ = f.Close() }()
	h.store.touched.Store(t.ref, time.Now())
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", t.ref)
	w.Header().Set("ETag", `"`+t.ref+`"`)
	http.ServeContent(w, r, "", time.Time{}, f)
}

func (h handler) referrers(w http.ResponseWriter, r *http.Request, t target) {
	all, err := h.store.Referrers(t.name, t.ref)
	if err != nil {
		failWith(w, err, "DIGEST_INVALID")
		return
	}
	found := []Descriptor{}
	only := r.URL.Query().Get("artifactType")
	for _, d := range all {
		if only == "" || d.ArtifactType == only {
			found = append(found, d)
		}
	}
	if only != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	w.Header().Set("Content-Type", IndexType)
	reply(w, http.StatusOK, struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []Descriptor `json:"manifests"`
	}{2, IndexType, found})
}

func reply(w http.ResponseWriter, status int, body any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) //nolint:errchkjson // own types only; whoever left does not read the error
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	reply(w, status, map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

// failWith maps a domain error to a status; code is the protocol's word for it.
func failWith(w http.ResponseWriter, err error, code string) {
	status := http.StatusInternalServerError
	switch domain.CodeOf(err) {
	case domain.NotFound:
		status = http.StatusNotFound
	case domain.Invalid:
		status = http.StatusBadRequest
	case domain.Conflict:
		status, code = http.StatusConflict, "DENIED"
	case domain.Refused:
		status, code = http.StatusForbidden, "DENIED"
	default:
		if errors.Is(err, os.ErrNotExist) {
			status = http.StatusNotFound
		}
	}
	message := err.Error()
	if hint := domain.HintOf(err); hint != "" {
		message += "; " + hint
	}
	fail(w, status, code, message)
}
