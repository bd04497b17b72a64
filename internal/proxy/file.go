package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/belay-cd/belay/internal/domain"
)

// record is a route as it is kept on disk: with the key of its rollout, so that a restarted proxy keeps every visitor
// on their side.
type record struct {
	domain.Route
	Salt []byte `json:"salt,omitempty"`
	Gone bool   `json:"gone,omitempty"` // the route was deleted: only its key and its last epoch are kept
}

// tableFile keeps the table on disk. It is written whole or not at all.
type tableFile struct{ path string }

// reserve is how much room is kept beside the table, for the day on which the disk is full.
const reserve = 256 << 10

func (f tableFile) reservePath() string { return f.path + ".reserve" }

// load reads the last table; one that was never written is empty.
func (f tableFile) load() ([]record, error) {
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []record
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("table %s: %w", f.path, err)
	}
	return list, nil
}

// save replaces the table. A full disk costs the reserve first: a rollback must be remembered.
func (f tableFile) save(list []record) error {
	data, err := json.MarshalIndent(list, "", " ")
	if err != nil {
		return err
	}
	err = f.write(data)
	if errors.Is(err, syscall.ENOSPC) && os.Remove(f.reservePath()) == nil {
		err = f.write(data)
	}
	if err == nil {
		f.keepReserve()
	}
	return err
}

// keepReserve makes the reserve again. Without room there is none; the next save tries again.
func (f tableFile) keepReserve() {
	if s, err := os.Stat(f.reservePath()); err == nil && s.Size() == reserve {
		return
	}
	if os.WriteFile(f.reservePath(), make([]byte, reserve), 0o600) != nil {
		_ = os.Remove(f.reservePath())
	}
}

func (f tableFile) write(data []byte) (err error) {
	dir := filepath.Dir(f.path)
	tmp, err := os.CreateTemp(dir, filepath.Base(f.path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = tmp.Close()
			_ = os.Remove(tmp.Name())
		}
	}()
	if _, err = tmp.Write(data); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	if err = os.Rename(tmp.Name(), f.path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
