// Package examples holds applications that Belay really delivers: in its demo, in its tests and in the documents.
// Each folder stands on its own, as a user's repository does.
package examples

import (
	_ "embed"
	"strings"
)

//go:generate go run pack.go

// The shop is a module of its own, and files of another module cannot be embedded: they are packed into one text
// first (the txtar form: a line "-- name --" before each file).
//
//go:embed shop.txtar
var shop string

// File is one file of an example, with a slash-separated name relative to the example's folder.
type File struct {
	Name string
	Data string
}

// Shop returns the files of examples/shop.
func Shop() []File {
	var files []File
	for line := range strings.Lines(shop) {
		if name, ok := marker(line); ok {
			files = append(files, File{Name: name})
			continue
		}
		if len(files) > 0 { // what stands before the first file is a comment
			files[len(files)-1].Data += line
		}
	}
	return files
}

// marker returns the name in a line that begins a file.
func marker(line string) (string, bool) {
	name, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "-- ")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, " --")
}
