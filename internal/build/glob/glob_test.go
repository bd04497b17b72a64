package glob_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/belay-cd/belay/internal/build/glob"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true}, {"a", "a/b", false}, {"*", "a", true}, {"*", "a/b", false}, {"**", "a/b", true},
		{"dist/**", "dist/a/b", true}, {"dist/**", "dist", true}, {"dist/**", "distx/a", false},
		{"**/*.xml", "a.xml", true}, {"**/*.xml", "a/b/c.xml", true}, {"a/**/b", "a/b", true}, {"a/**/b", "a/x/y/b", true},
		{"a/**/b", "a/x/y/c", false}, {"./a/", "a", true}, {"[ab].go", "b.go", true}, {"[", "[", false}, {"?", "ab", false},
	} {
		if got := glob.Match(c.pattern, c.name); got != c.want {
			t.Errorf("%s on %s: %v", c.pattern, c.name, got)
		}
	}
}

func TestFind(t *testing.T) {
	fsys := fstest.MapFS{"reports/a.xml": {}, "reports/deep/b.xml": {}, "c.xml": {}, "reports/d.txt": {}}
	for pattern, want := range map[string]string{
		"reports/*.xml": "reports/a.xml", "**/*.xml": "c.xml reports/a.xml reports/deep/b.xml", "missing/*": "", "c.xml": "c.xml",
	} {
		got, err := glob.Find(fsys, pattern)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", pattern, got, err)
		}
	}
	for _, bad := range []string{"", "/etc/*", "../x", "a/../../x", "[", strings.Repeat("**/a/", 9)} {
		if got, err := glob.Find(fsys, bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}
