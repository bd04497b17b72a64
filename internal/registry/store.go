// Package registry keeps artifacts: a content-addressed store of OCI images on disk, the distribution protocol over it,
// their unpacking, and the rules of what is kept. Everything written is complete or absent, whenever the machine stops.
package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// Options of a store. The zero value of a field means its default.
type Options struct {
	MinFree     uint64        // bytes that must stay free on the disk; below it nothing is taken in. 0: no guard
	MaxManifest int64         // bytes of a manifest; 4 MiB
	MaxUnpacked int64         // bytes of all files of an unpacked image; 16 GiB
	Grace       time.Duration // how long GC leaves a blob alone that nothing names yet; 1 h
	UploadAge   time.Duration // after which an upload that nobody goes on with is removed; 24 h
}

// Store is the content-addressed folder. Blobs are shared by all repositories. It is safe for concurrent use; one process
// at a time may have it open.
type Store struct {
	dir      string
	opt      Options
	mu       sync.RWMutex // held for writing by GC, for reading by whatever adds a name for a blob
	uploads  locks
	verified sync.Map // digest → stamp: what was read and found whole, and has not changed since
	touched  sync.Map // digest → time.Time: somebody was just told that the blob is here
}

// The scheme of folders below Store.dir.
const (
	blobsFolder   = "blobs/sha256"
	reposFolder   = "repositories"
	uploadsFolder = "uploads"
)

// Open makes or opens the store in dir and removes what interrupted writers left.
func Open(dir string, opt Options) (*Store, error) {
	if opt.MaxManifest == 0 {
		opt.MaxManifest = 4 << 20
	}
	if opt.MaxUnpacked == 0 {
		opt.MaxUnpacked = 16 << 30
	}
	if opt.Grace == 0 {
		opt.Grace = time.Hour
	}
	if opt.UploadAge == 0 {
		opt.UploadAge = 24 * time.Hour
	}
	s := &Store{dir: dir, opt: opt}
	for _, folder := range []string{blobsFolder, reposFolder, uploadsFolder} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			return nil, err
		}
	}
	if err := s.sweep(); err != nil {
		return nil, err
	}
	return s, nil
}

// sweep removes temporary files and uploads that are too old to be gone on with.
func (s *Store) sweep() error {
	folder := filepath.Join(s.dir, uploadsFolder)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue
		}
		if strings.HasPrefix(entry.Name(), tempPrefix) || time.Since(info.ModTime()) > s.opt.UploadAge {
			if err := os.Remove(filepath.Join(folder, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

const tempPrefix = "tmp-"

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// ValidDigest reports whether d has the form sha256:HEX.
func ValidDigest(d string) bool { return digestForm.MatchString(d) }

// blobPath returns where a blob of a valid digest lies.
func (s *Store) blobPath(digest string) string {
	h := strings.TrimPrefix(digest, "sha256:")
	return filepath.Join(s.dir, blobsFolder, h[:2], h)
}

// Has reports whether a blob is here, and its size.
func (s *Store) Has(digest string) (int64, bool) {
	if !ValidDigest(digest) {
		return 0, false
	}
	info, err := os.Stat(s.blobPath(digest))
	if err != nil {
		return 0, false
	}
	s.touched.Store(digest, time.Now())
	return info.Size(), true
}

// stamp changes whenever a file's content may have.
type stamp struct {
	size         int64
	mtime, ctime syscall.Timespec
	inode        uint64
}

func stampOf(info os.FileInfo) stamp {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{size: -1}
	}
	return stamp{size: info.Size(), mtime: st.Mtim, ctime: st.Ctim, inode: st.Ino}
}

// Blob opens a blob after its content was compared with its digest. A file that was compared before and has not been
// touched since is not read again.
func (s *Store) Blob(digest string) (*os.File, error) {
	if !ValidDigest(digest) {
		return nil, domain.Errorf(domain.Invalid, "%q is not a digest", digest)
	}
	f, err := os.Open(s.blobPath(digest))
	if errors.Is(err, os.ErrNotExist) {
		return nil, missing(digest)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	now := stampOf(info)
	if was, ok := s.verified.Load(digest); ok && was == now {
		return f, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if sum(h) != digest {
		return nil, errors.Join(altered(digest), f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.verified.Store(digest, now)
	return f, nil
}

func missing(digest string) error {
	return domain.Errorf(domain.NotFound, "artifact %s is not in the registry", digest).
		WithHint("ship the commit again; it is built anew")
}

func altered(digest string) error {
	return domain.Errorf(domain.Refused, "artifact %s was altered: its content has another digest", digest).
		WithHint("nothing runs from it; ship the commit again, and find out who wrote to the registry's folder")
}

func sum(h hash.Hash) string { return "sha256:" + hex.EncodeToString(h.Sum(nil)) }

// PutBlob stores what r holds. A want other than "" is the digest that it must have.
func (s *Store) PutBlob(ctx context.Context, r io.Reader, want string) (digest string, size int64, err error) {
	return s.WriteBlob(ctx, want, func(w io.Writer) error {
		_, err := io.Copy(w, r)
		return err
	})
}

// WriteBlob is PutBlob for a writer.
func (s *Store) WriteBlob(ctx context.Context, want string, write func(io.Writer) error) (digest string, size int64, err error) {
	if err := s.Guard(0); err != nil {
		return "", 0, err
	}
	f, err := os.CreateTemp(filepath.Join(s.dir, uploadsFolder), tempPrefix)
	if err != nil {
		return "", 0, err
	}
	defer func() {
		if cerr := f.Close(); cerr != nil && !errors.Is(cerr, os.ErrClosed) {
			err = errors.Join(err, cerr)
		}
		if rerr := os.Remove(f.Name()); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}()
	h := sha256.New()
	counter := &guarded{ctx: ctx, w: io.MultiWriter(f, h), store: s}
	if err := write(counter); err != nil {
		return "", 0, err
	}
	digest = sum(h)
	if want != "" && want != digest {
		return "", 0, domain.Errorf(domain.Refused, "the content has digest %s, not %s", digest, want)
	}
	return digest, counter.n, s.commit(f, digest)
}

// guarded counts, stops with its context, and asks the disk guard every 64 MiB.
type guarded struct {
	ctx   context.Context //nolint:containedctx // lives for one call of WriteBlob
	w     io.Writer
	store *Store
	n     int64
	asked int64
}

func (g *guarded) Write(p []byte) (int, error) {
	if err := context.Cause(g.ctx); err != nil {
		return 0, err
	}
	if g.n-g.asked > 64<<20 {
		g.asked = g.n
		if err := g.store.Guard(0); err != nil {
			return 0, err
		}
	}
	n, err := g.w.Write(p)
	g.n += int64(n)
	return n, err
}

// commit moves a written and checked file to where its digest says, durably.
func (s *Store) commit(f *os.File, digest string) error {
	if err := errors.Join(f.Chmod(0o400), f.Sync(), f.Close()); err != nil {
		return err
	}
	target := s.blobPath(digest)
	folder := filepath.Dir(target)
	if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
		if err := errors.Join(os.MkdirAll(folder, 0o700), syncFolder(filepath.Dir(folder))); err != nil {
			return err
		}
	}
	s.touched.Store(digest, time.Now())
	s.verified.Delete(digest)
	if err := os.Rename(f.Name(), target); err != nil { // over the same content, or over one that was altered
		return err
	}
	return syncFolder(folder)
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// writeFile writes a small file durably, and atomically unless it exists; exclusive makes an existing one an error.
func (s *Store) writeFile(name string, body []byte, exclusive bool) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Join(s.dir, uploadsFolder), tempPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	if _, err := f.Write(body); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if exclusive {
		err = os.Link(f.Name(), name)
	} else {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(name))
}

// locks is a set of locks by name.
type locks struct {
	mu   sync.Mutex
	held map[string]*entry
}

type entry struct {
	mu    sync.Mutex
	users int
}

// lock returns the function that unlocks.
func (l *locks) lock(name string) func() {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[string]*entry{}
	}
	e := l.held[name]
	if e == nil {
		e = &entry{}
		l.held[name] = e
	}
	e.users++
	l.mu.Unlock()
	e.mu.Lock()
	return func() {
		e.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if e.users--; e.users == 0 {
			delete(l.held, name)
		}
	}
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
