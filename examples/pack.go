//go:build ignore

// Pack writes shop.txtar from the folder shop.
package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"log"
	"os"
)

func main() {
	var out bytes.Buffer
	out.WriteString("Generated from examples/shop by `make generate`: edit the files there.\n")
	shop := os.DirFS("shop")
	err := fs.WalkDir(shop, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name == "bin" {
			return fs.SkipDir
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		data, err := fs.ReadFile(shop, name)
		if err != nil {
			return err
		}
		if !bytes.HasSuffix(data, []byte("\n")) || bytes.HasPrefix(data, []byte("-- ")) || bytes.Contains(data, []byte("\n-- ")) {
			return fmt.Errorf("%s: it cannot be packed: it must end with a newline and have no line that begins with \"-- \"", name)
		}
		fmt.Fprintf(&out, "-- %s --\n%s", name, data)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("shop.txtar", out.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
}
