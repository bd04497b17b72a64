package examples

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPackedShopIsTheFolder(t *testing.T) {
	packed := map[string]string{}
	for _, file := range Shop() {
		packed[file.Name] = file.Data
	}
	found := 0
	err := filepath.WalkDir("shop", func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path == filepath.Join("shop", "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel("shop", path)
		if err != nil {
			return err
		}
		if packed[filepath.ToSlash(name)] != string(data) {
			t.Errorf("%s differs from the packed one: run make generate", name)
		}
		found++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found != len(packed) || found < 10 {
		t.Errorf("%d files in the folder, %d packed", found, len(packed))
	}
}
