// Command gen writes the JSON Schema and the reference page of belay.yaml into a folder.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/belay-cd/belay/internal/config"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: gen FOLDER")
	}
	schema, err := config.Schema()
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	for name, text := range map[string][]byte{"belay.schema.json": schema, "belay-yaml.md": config.Reference()} {
		if err := os.WriteFile(filepath.Join(args[0], name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
