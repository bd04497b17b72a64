// Package policy reads the server's policy: what its administrator demands of every delivery, outside of every repository.
package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// file is a whole policy file.
type file struct {
	Approvals *approvals               `key:"approvals" doc:"people who must agree before production"`
	Bake      config.Duration          `key:"bake" doc:"shortest hold of a step in production"`
	Monitor   config.Duration          `key:"monitor" doc:"shortest Monitor"`
	Levels    []config.Text            `key:"levels" doc:"levels that must each count at least one test"`
	Branches  []config.Text            `key:"branches" doc:"a commit must be reachable from one of them"`
	People    map[string][]config.Text `key:"people" names:"any" doc:"all names and addresses of one person"`
	Apps      map[string]*app          `key:"apps" names:"name" doc:"what is demanded of one app beyond that"`
}

// app is what is demanded of one app beyond what is demanded of all.
type app struct {
	Approvals *approvals      `key:"approvals"`
	Bake      config.Duration `key:"bake"`
	Monitor   config.Duration `key:"monitor"`
	Levels    []config.Text   `key:"levels"`
	Branches  []config.Text   `key:"branches"`
	Remote    config.Text     `key:"remote" doc:"repository that the server asks for the branches"`
}

type approvals struct {
	Need   config.Count    `key:"need"`
	From   []config.Text   `key:"from"`
	Expire config.Duration `key:"expire"`
}

// set is a policy that was read and found right.
type set struct {
	all     domain.Floors
	apps    map[string]domain.Floors
	persons map[string]string // by name or address in lower case
}

// parse reads a policy file. Findings of severity error make it unusable.
func parse(name string, text []byte) (set, error) {
	var f file
	has, findings := config.Decode(name, text, &f)
	report, bad := config.Report(findings)
	if bad {
		return set{}, domain.Errorf(domain.Invalid, "%s", report)
	}
	s := set{apps: map[string]domain.Floors{}, persons: map[string]string{}}
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	s.all = domain.Floors{Bake: f.Bake.D(), Monitor: f.Monitor.D(), Levels: texts(f.Levels), Branches: texts(f.Branches), File: name}
	approve(&s.all, f.Approvals, "approvals", has, fault)
	levels(s.all.Levels, "levels", fault)
	for app, a := range f.Apps {
		path := "apps." + app
		floors := merge(s.all, a)
		approve(&floors, a.Approvals, path+".approvals", has, fault)
		levels(texts(a.Levels), path+".levels", fault)
		if strings.HasPrefix(floors.Remote, "-") || strings.ContainsAny(floors.Remote, " \n") {
			fault("%s.remote: not the address of a repository", path)
		}
		s.apps[app] = floors
	}
	for person, list := range f.People {
		for _, name := range append(texts(list), person) {
			low := strings.ToLower(name)
			if other := s.persons[low]; other != "" && other != person {
				fault("people: %s is both %s and %s", name, min(person, other), max(person, other))
			}
			s.persons[low] = person
		}
	}
	if len(faults) > 0 {
		slices.Sort(faults)
		return set{}, domain.Errorf(domain.Invalid, "%s: %s", name, strings.Join(faults, "; "))
	}
	return s, nil
}

// merge is what is demanded of an app: the stricter of both.
func merge(all domain.Floors, a *app) domain.Floors {
	f := all
	f.Bake, f.Monitor, f.Remote = max(f.Bake, a.Bake.D()), max(f.Monitor, a.Monitor.D()), string(a.Remote)
	f.Levels = slices.Compact(slices.Sorted(slices.Values(slices.Concat(all.Levels, texts(a.Levels)))))
	if len(a.Branches) > 0 {
		f.Branches = texts(a.Branches)
	}
	return f
}

// approve takes the rule of approvals over, where it is stricter.
func approve(f *domain.Floors, a *approvals, path string, has func(string) bool, fault func(string, ...any)) {
	if a == nil {
		return
	}
	switch {
	case !has(path+".need") || a.Need < 1:
		fault("%s.need: at least 1", path)
	case len(a.From) == 0:
		fault("%s.from: from whom? [ana, ben]", path)
	case len(a.From) > 1 && int(a.Need) > len(a.From):
		fault("%s.need: %d of %d people can never be reached", path, a.Need, len(a.From))
	case int(a.Need) < f.Need:
		fault("%s.need: %d is less than the %d that all apps need", path, a.Need, f.Need)
	}
	f.Need, f.From = int(a.Need), texts(a.From)
	if expire := a.Expire.D(); expire > 0 {
		f.Expire = min(expire, config.MaxApprovalExpire)
	}
}

func levels(list []string, path string, fault func(string, ...any)) {
	for _, l := range list {
		if !slices.Contains([]string{"unit", "integration", "e2e"}, l) {
			fault("%s: %s: there are unit, integration and e2e", path, l)
		}
	}
}

func texts(list []config.Text) []string {
	out := make([]string, 0, len(list))
	for _, t := range list {
		out = append(out, string(t))
	}
	return out
}

// floors of an app.
func (s set) floors(app string) domain.Floors {
	if f, ok := s.apps[app]; ok {
		return f
	}
	return s.all
}

// summary tells a policy in one line.
func (s set) summary() string {
	var parts []string
	if s.all.Need > 0 {
		parts = append(parts, fmt.Sprintf("%d of %s agree", s.all.Need, strings.Join(s.all.From, ", ")))
	}
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"bake", s.all.Bake}, {"Monitor", s.all.Monitor}} {
		if t.d > 0 {
			parts = append(parts, fmt.Sprintf("%s at least %s", t.name, domain.Span(t.d)))
		}
	}
	if len(s.all.Levels) > 0 {
		parts = append(parts, "tests counted in "+strings.Join(s.all.Levels, ", "))
	}
	if len(s.all.Branches) > 0 {
		parts = append(parts, "commits of "+strings.Join(s.all.Branches, " or "))
	}
	if len(s.apps) > 0 {
		parts = append(parts, fmt.Sprintf("%d apps with more", len(s.apps)))
	}
	if len(parts) == 0 {
		return "it demands nothing"
	}
	return strings.Join(parts, " · ")
}
