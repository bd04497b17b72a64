package delivery

import (
	"testing"

	"github.com/belay-cd/belay/internal/domain"
)

func TestSharedHosts(t *testing.T) {
	web := func(path string, hosts ...string) []domain.Workload {
		return []domain.Workload{{Role: "web", Hosts: hosts, Paths: []string{path}}}
	}
	for name, c := range map[string]struct {
		a, b []domain.Workload
		want string
	}{
		"other hosts":          {web("/", "a.example"), web("/", "b.example"), ""},
		"one host, other path": {web("/", "a.example"), web("/billing/", "a.example"), ""},
		"one host, one path":   {web("/", "a.example", "b.example"), web("/", "c.example", "b.example"), "b.example/"},
		"a worker":             {web("/", "a.example"), []domain.Workload{{Role: "worker"}}, ""},
	} {
		if got := shared(c.a, c.b); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
