package config

import (
	"slices"
	"strings"
	"testing"
)

// parityFile is an app with what parity says of it.
func parityFile(t *testing.T, role, rest string) *File {
	t.Helper()
	text := strings.Replace(small, "roles:\n", "roles:\n  tidy: { run: ./app tidy, probe: { heartbeat: 10s }"+role+" }\n", 1) + rest
	return right(t, text)
}

func TestParityOfTheExamples(t *testing.T) {
	want := map[string]string{
		"shop-api": "1 declared: env.LOG_LEVEL, 0 undeclared",
		"clinic":   "2 declared: env.ALLOWED_HOSTS, roles.web.instances, 0 undeclared",
		"payments": "3 declared: env.PSP_URL, roles.web.instances, verify.checks.charge, 0 undeclared",
	}
	seen := 0
	for name, src := range examples(t) {
		f, _ := Parse(FileName, src, Options{})
		p := ParityOf(f, nil, nil, []string{"databases"})
		if len(p.Undeclared()) > 0 || len(p.Unused) > 0 {
			t.Errorf("%s: %v", name, p.Lines())
		}
		p.NotCompared = nil
		for key, line := range want {
			if name == key {
				seen++
				if p.String() != line {
					t.Errorf("%s: %s", name, p)
				}
			}
		}
	}
	if seen != len(want) {
		t.Errorf("%d of %d examples were compared", seen, len(want))
	}
}

func TestParityIDs(t *testing.T) {
	for _, c := range []struct{ role, rest, id, declared string }{
		{", instances: { staging: 1, production: 4 }", "", "roles.tidy.instances", ""},
		{", instances: { staging: 2, production: 4 }", "", "roles.tidy.instances", inColumns},
		{", memory: { staging: 64MiB, production: 1GiB }", "", "roles.tidy.memory", ""},
		{", memory: { staging: 64MiB, production: 64MiB }", "", "", ""},
		{", cpu: { staging: 1, production: 2 }", "", "roles.tidy.cpu", ""},
		{", env: { MODE: { staging: a, production: b } }", "", "roles.tidy.env.MODE", inColumns},
		{", env: { MODE: { staging: '', production: b } }", "", "roles.tidy.env.MODE", ""},
		{"", "env: { MODE: { staging: b, production: '' } }\n", "env.MODE", ""},
		{"", "env: { MODE: { staging: b, production: b } }\n", "", ""},
		{"", "env: { MODE: { staging: a, production: b } }\n", "env.MODE", inColumns},
		{"", "verify: { checks: { pay: { http: /, only: staging } } }\n", "verify.checks.pay", "only: staging"},
		{", memory: { staging: 64MiB, production: 1GiB }", "parity: { roles.tidy.memory: staging has no users }\n", "roles.tidy.memory", "staging has no users"},
	} {
		p := ParityOf(parityFile(t, c.role, c.rest), nil, nil, nil)
		if c.id == "" && len(p.Differences) == 0 {
			continue
		}
		if len(p.Differences) != 1 || p.Differences[0].ID != c.id || p.Differences[0].Declared != c.declared {
			t.Errorf("%s %s: %+v", c.role, c.rest, p)
		}
	}
}

// A commit does not accept the difference that it brings: its declaration counts from the next delivery on. What was there
// before it, or what no commit brought, it may declare.
func TestParityIsNotLoosenedByItsOwnCommit(t *testing.T) {
	const differs, declares = ", memory: { staging: 64MiB, production: 1GiB }", "parity: { roles.tidy.memory: staging has no users }\n"
	plain, both := parityFile(t, "", ""), parityFile(t, differs, declares)
	for what, c := range map[string]struct {
		own, last    *File
		stops, later bool
	}{
		"the first delivery":              {both, nil, false, false},
		"it brings both":                  {both, plain, true, true},
		"declared by the delivery before": {both, parityFile(t, "", declares), false, false},
		"there before it":                 {both, parityFile(t, differs, ""), false, false},
		"another difference before it":    {both, parityFile(t, ", memory: { staging: 64MiB, production: 65MiB }", ""), true, true},
		"the declaration is taken away":   {parityFile(t, differs, ""), both, true, false},
		"neither":                         {plain, both, false, false},
	} {
		p := ParityOf(c.own, c.last, nil, nil)
		stops := p.Undeclared()
		if len(stops) > 0 != c.stops || c.later && !stops[0].Later {
			t.Errorf("%s: %+v", what, p)
		}
	}
	rows := []Difference{{ID: DatabaseRows, What: "20 in staging, 4,000 in production", Fact: true}}
	if p := ParityOf(parityFile(t, "", "parity: { database_rows: sanitised }\n"), plain, rows, nil); len(p.Undeclared()) > 0 || len(p.Unused) > 0 {
		t.Errorf("a fact cannot be declared: %+v", p)
	}
	if p := ParityOf(plain, plain, rows, nil); len(p.Undeclared()) != 1 {
		t.Errorf("a fact stops nothing: %+v", p)
	}
}

// The declaration of what no longer differs is a warning; where the databases were not compared, nobody knows.
func TestParityUnused(t *testing.T) {
	src := []byte(small + "parity: { roles.web.memory: it was so, database_rows: a tenth }\n")
	f, findings := Parse(FileName, src, Options{})
	if f == nil || !finds(findings, "parity-unused", "parity.roles.web.memory: it does not differ") || finds(findings, "parity-unused", "database_rows") {
		t.Error(render(t, findings))
	}
	if p := ParityOf(f, nil, nil, nil); !slices.Equal(p.Unused, []string{"database_rows", "roles.web.memory"}) {
		t.Errorf("%+v", p)
	}
	src = []byte(strings.Replace(small, "roles:\n", "roles:\n  tidy: { run: ./app tidy, probe: { heartbeat: 10s }, cpu: { staging: 1, production: 2 } }\n", 1))
	if _, findings = Parse(FileName, src, Options{}); !finds(findings, "parity", "roles.tidy.cpu: 1 in staging, 2 in production: an undeclared difference stops") {
		t.Error(render(t, findings))
	}
}
