package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// change is one commit of the shop, as replacements that must each fit exactly once.
type change struct {
	subject string
	edits   []edit
}

type edit struct{ file, from, to string }

// The good change: the search answers differently, and nothing breaks.
var goodChange = change{
	subject: "search: the cheapest first",
	edits: []edit{
		{"catalogue.go", `import "strings"`, "import (\n\t\"slices\"\n\t\"strings\"\n)"},
		{"catalogue.go", "in the order of the catalogue. No words", "the cheapest first. No words"},
		{"catalogue.go", "\treturn found\n}\n", "\tslices.SortStableFunc(found, func(a, b Item) int { return a.Price - b.Price })\n\treturn found\n}\n"},
		{"page.html", "Everything is fresh today.", "Everything is fresh today, and the cheapest is found first."},
	},
}

// The bad change: the shelves are loaded in pages and only the first page is. The tests of the shop look at its first
// twelve items, so they stay green; every request for one of the other eight fails, which is 30 % of the traffic.
var badChange = change{
	subject: "stock: load the shelves in pages",
	edits: []edit{
		{
			"stock.go", "\tfor _, item := range items {\n\t\tstock.shelf",
			"\tconst page = 12 // the warehouse answers in pages\n\tfor _, item := range items[:min(page, len(items))] {\n\t\tstock.shelf",
		},
	},
}

// apply makes the change in a folder. A replacement that does not fit exactly once is an error.
func (c change) apply(dir string) error {
	for _, e := range c.edits {
		name := filepath.Join(dir, e.file)
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		text := string(data)
		if n := strings.Count(text, e.from); n != 1 {
			return fmt.Errorf("%s: %q stands there %d times, once is needed", e.file, e.from, n)
		}
		if err := os.WriteFile(name, []byte(strings.Replace(text, e.from, e.to, 1)), 0o644); err != nil {
			return err
		}
	}
	return nil
}
