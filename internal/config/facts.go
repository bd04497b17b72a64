package config

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Check compares a file with the folder it stands in: what it names must be there. dir is the app's folder in a
// checkout. Findings of Parse are not repeated.
func Check(f *File, dir fs.FS) []Finding {
	if f == nil || dir == nil {
		return nil
	}
	before := f.found
	f.found = nil
	defer func() { f.found = before }()
	for _, p := range []struct {
		path string
		file Path
	}{{"build.dockerfile", f.Build.Dockerfile}, {"build.context", f.Build.Context}} {
		if f.readable(p.path) && !exists(dir, p.file) {
			f.fail("not-there", p.path, "a path relative to this file", "%s is not in the checkout", p.file)
		}
	}
	if m := f.Migrations; m != nil && f.readable("migrations.dir") && !exists(dir, m.Dir) {
		f.fail("not-there", "migrations.dir", "the folder with the migrations", "%s is not in the checkout", m.Dir)
	}
	for i, p := range f.Inputs {
		if f.Has("inputs") && !p.outside() && !exists(dir, p) {
			f.warnf("not-there", f.Pos(fmt.Sprintf("inputs[%d]", i)), "", "inputs[%d]: %s is not in the checkout", i, p)
		}
	}
	for _, l := range f.Test.Level() {
		if l.Level == nil {
			continue
		}
		for i, p := range l.Level.Inputs {
			// Without build.run nothing can make what is not there. What lies beside the folder is not seen from here.
			if at := fmt.Sprintf("test.%s.inputs[%d]", l.Name, i); f.Build.Run.Zero() && !p.outside() && !exists(dir, start(p)) {
				f.fail("not-there", at, "a file, a folder or a glob of the commit", "%s matches nothing in the checkout", p)
			}
		}
	}
	if f.Build.Run.Zero() {
		// Nothing is built: what is packed must be there already.
		for i, p := range f.Build.Files {
			if !p.outside() && !exists(dir, p) {
				f.fail("not-there", fmt.Sprintf("build.files[%d]", i), "write build.run, or the right path", "%s is not in the checkout, and nothing builds it", p)
			}
		}
	}
	return f.findings()
}

// start returns a pattern up to its first **: no further does fs.Glob reach.
func start(p Path) Path {
	before, _, _ := strings.Cut(string(p), "**")
	return Path(before)
}

// exists reports whether a path, or anything that a glob matches, is in the folder.
func exists(dir fs.FS, p Path) bool {
	clean := path.Clean(strings.TrimSuffix(string(p), "/"))
	if clean == "." {
		return true
	}
	matches, err := fs.Glob(dir, clean)
	return err == nil && len(matches) > 0
}
