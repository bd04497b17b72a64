package proxy

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"time"
)

// What was seen outlives the worker: it is written beside the table, page by page as it changes, so that a visitor who failed before a
// restart has had their first error. Requests and ticks never wait for the disk, and where it fails they go on without.

// rememberVisits is every how many seconds the visits are written; errors, which are few, are written every second.
const rememberVisits = 10

// remember writes what was seen until ctx ends.
func (c *control) remember(ctx context.Context) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	failed := false
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		err := c.writeSeen(n%rememberVisits == 0)
		if err != nil && !failed {
			c.log.Error("what was seen is not written: visitors may count again after a restart", "error", err)
		}
		failed = err != nil
	}
}

// writeSeen writes what changed since the last time, the visits too where it is asked for, and removes what belongs to
// no open rollout any more.
func (c *control) writeSeen(visits bool) error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return nil // the worker after this one writes
	}
	var failed []error
	open := map[string]bool{}
	for _, t := range c.plane.table.Load().routes {
		if t.Rollout != "" {
			open[t.seenName()] = true
			failed = append(failed, t.seen.write(filepath.Join(c.file.seen(), t.seenName()), visits))
		}
	}
	if visits {
		files, _ := os.ReadDir(c.file.seen()) // there may be none
		for _, f := range files {
			if !open[f.Name()] {
				failed = append(failed, os.Remove(filepath.Join(c.file.seen(), f.Name())))
			}
		}
	}
	return errors.Join(failed...)
}

// recall is what was seen in the rollout of a route before this worker.
func (c *control) recall(t *route) *seen {
	s := newSeen()
	if t.Rollout == "" {
		return s
	}
	if err := s.read(filepath.Join(c.file.seen(), t.seenName())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Error("what was seen cannot be read: visitors may count again", "route", t.key, "error", err)
	}
	return s
}

// seen is the folder of what was seen.
func (f tableFile) seen() string { return f.path + ".seen" }

// seenName names the file of a route's rollout: the salt is of that rollout alone.
func (t *route) seenName() string {
	sum := sha256.Sum256(append([]byte(t.key), t.salt[:]...))
	return hex.EncodeToString(sum[:16])
}

// write writes the pages that changed. A file that is not there is made when there is something to write.
func (s *seen) write(path string, visits bool) error {
	filters := []*filter{&s.errors}
	if visits {
		filters = append(filters, &s.visits)
	}
	var file *os.File
	defer func() {
		if file != nil {
			_ = file.Close()
		}
	}()
	for _, f := range filters {
		err := f.changed(func(i, page int, data []byte) (err error) {
			if file == nil {
				if file, err = openSeen(path); err != nil {
					return err
				}
			}
			_, err = file.WriteAt(data, s.offset(f, i)+int64(page)*pageWords*8)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func openSeen(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		file, err = os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	}
	return file, err
}

// offset is where a layer of a filter begins in the file: the errors come first.
func (s *seen) offset(f *filter, layer int) (at int64) {
	if f == &s.visits {
		at = s.offset(&s.errors, len(s.errors.layers))
	}
	for _, words := range layerWords[:layer] {
		at += int64(words) * 8
	}
	return at
}

// changed calls f with each page that was touched, and keeps the mark of one that f could not write.
func (f *filter) changed(write func(layer, page int, data []byte) error) error {
	var data [pageWords * 8]byte
	for i := range f.layers {
		l := f.layers[i].Load()
		if l == nil {
			return nil
		}
		for m := range l.touched {
			for marks := l.touched[m].Swap(0); marks != 0; marks &= marks - 1 {
				page := m*64 + bits.TrailingZeros64(marks)
				for w := range pageWords {
					binary.LittleEndian.PutUint64(data[w*8:], l.words[page*pageWords+w].Load())
				}
				if err := write(i, page, data[:]); err != nil {
					l.touched[m].Or(marks)
					return err
				}
			}
		}
	}
	return nil
}

// read takes over what write left. The file has holes where nothing was written.
func (s *seen) read(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	for _, f := range []*filter{&s.errors, &s.visits} {
		for i := range f.layers {
			data := make([]byte, layerWords[i]*8)
			n, err := file.ReadAt(data, s.offset(f, i))
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if !f.fill(i, data[:n/8*8]) {
				break
			}
			if i > 0 {
				f.layers[i-1].Load().close()
			}
		}
	}
	return nil
}

// fill makes a layer of what was read, and reports whether there was anything.
func (f *filter) fill(i int, data []byte) bool {
	l, ones := newLayer(layerWords[i]), 0
	for w := range len(data) / 8 {
		word := binary.LittleEndian.Uint64(data[w*8:])
		ones += bits.OnesCount64(word)
		l.words[w].Store(word)
	}
	if ones == 0 {
		return false
	}
	l.added.Store(int64(ones / 4)) // a little less than there were: bits fall together
	f.layers[i].Store(l)
	return true
}
