package build

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// Folder keeps records as one file per key.
type Folder string

var keyForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Find implements Records. A record that cannot be read is none: the worst is a build too many.
func (d Folder) Find(_ context.Context, key string) (Artifact, bool, error) {
	if !keyForm.MatchString(key) {
		return Artifact{}, false, nil
	}
	body, err := os.ReadFile(filepath.Join(string(d), key+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Artifact{}, false, nil
	}
	if err != nil {
		return Artifact{}, false, err
	}
	var a Artifact
	return a, json.Unmarshal(body, &a) == nil, nil
}

// Save implements Records, at once or not at all.
func (d Folder) Save(_ context.Context, key string, a Artifact) (err error) {
	if !keyForm.MatchString(key) {
		return errors.New("not a key of a build")
	}
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(string(d), ".record-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(body)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(string(d), key+".json"))
}
