package scaffold

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// readBack reads a scalar as a YAML library that Belay does not use itself.
func readBack(t *testing.T, written string, flow bool) string {
	t.Helper()
	text := "x: " + written + "\n"
	if flow {
		text = "x: { a: " + written + ", b: [" + written + "] }\n"
		var doc struct {
			X struct {
				A yaml.Node
				B []yaml.Node
			}
		}
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.X.B) != 1 || doc.X.B[0].Value != doc.X.A.Value {
			t.Fatalf("%s: %v", text, err)
		}
		return doc.X.A.Value
	}
	var doc struct{ X yaml.Node }
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return doc.X.Value
}

// validText is what can stand in a line of a text file.
func validText(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError })
}
