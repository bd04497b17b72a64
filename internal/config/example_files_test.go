package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// examples are whole files as users write them.
func examples(t *testing.T) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob("testdata/examples/*.yaml")
	if err != nil || len(names) < 8 {
		t.Fatalf("examples: %v %v", names, err)
	}
	out := map[string][]byte{}
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(name), ".yaml")] = src
	}
	return out
}

func render(t *testing.T, findings []Finding) string {
	t.Helper()
	var b strings.Builder
	if err := Format(&b, findings, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestExamplesAreRight(t *testing.T) {
	for name, src := range examples(t) {
		f, findings := Parse(FileName, src, Options{})
		if f == nil || Failed(findings, false) {
			t.Errorf("%s:\n%s", name, render(t, findings))
		}
		for _, w := range findings {
			if w.ID != "no-linter" && w.ID != "declared-gap" {
				t.Errorf("%s: %s", name, render(t, findings))
			}
		}
	}
}
