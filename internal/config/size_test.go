package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The largest file that is read, in shapes that invite quadratic work, takes seconds at most (the limit leaves room for the race detector on a busy machine).
func TestLargestFilesAreReadInTime(t *testing.T) {
	grow := func(head string, item func(i int) string) []byte {
		var b strings.Builder
		b.WriteString(head)
		for i := 0; b.Len() < MaxFileBytes-200; i++ {
			b.WriteString(item(i))
		}
		return []byte(b.String())
	}
	for name, src := range map[string][]byte{
		"unknown keys":  grow("", func(i int) string { return fmt.Sprintf("k%d: v\n", i) }),
		"secrets":       grow("env:\n", func(i int) string { return fmt.Sprintf("  K%d: %s\n", i, fakeKey) }),
		"secrets flow":  append(grow("env: { A: 1", func(i int) string { return fmt.Sprintf(",\n  K%d: %s", i, fakeKey) }), " }\n"...),
		"store":         append(grow("build: { secrets: [A] }\nsecrets: { store: [A", func(i int) string { return fmt.Sprintf(",\n  K%d", i) }), "] }\n"...),
		"roles":         grow("roles:\n", func(i int) string { return fmt.Sprintf("  r%d: { hosts: { staging: [a.b], production: [c.d] } }\n", i) }),
		"list":          append(grow("inputs: [a", func(i int) string { return fmt.Sprintf(",\n  /k%d", i) }), "]\n"...),
		"command":       grow("build:\n  run: |\n", func(i int) string { return "    a && b || c\n" }),
		"one line":      append(grow("app: ", func(i int) string { return "x " }), '\n'),
		"open brackets": grow("a: ", func(i int) string { return "[" }),
	} {
		start := time.Now()
		_, findings := Parse(FileName, src, Options{})
		render(t, findings)
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: %s", name, took)
		} else {
			t.Log(name, took, len(findings))
		}
	}
}
