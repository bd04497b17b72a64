package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// level holds the delivery to what is stricter of a level of tests. Tests that a commit changes cannot be judged beforehand,
// in whatever file they are: what they run is said, and what made them count stays.
func (s *stricter) level(name string, own, last *Level) *Level {
	path := "test." + name
	if last == nil || last.Run.Zero() || own == nil {
		return own
	}
	if own.Run.Zero() {
		s.say("%s: it became none: %s", path, own.None)
		return s.known(last)
	}
	if last.counts() && !own.counts() {
		s.say("%s: its tests are no longer counted: %s, was %s", path, own.Run.Text, last.Run.Text)
		return s.known(last)
	}
	e := *own
	if own.Run.Text != last.Run.Text {
		s.tell("%s.run: %s, was %s", path, own.Run.Text, last.Run.Text)
	}
	if last.Report != "" && own.Report == "" {
		s.say("%s.report: it is removed, was %s", path, last.Report)
		e.Report = last.Report
	}
	if len(own.Inputs) > 0 && !covers(own.Inputs, last.Inputs) {
		s.say("%s.inputs: they leave something out that was looked at: %s, were %s", path, own.Inputs, orAll(last.Inputs))
		e.Inputs = nil
		if len(last.Inputs) > 0 {
			e.Inputs = slices.Compact(slices.Sorted(slices.Values(slices.Concat(own.Inputs, last.Inputs))))
		}
	}
	e.Services = slices.Clone(own.Services)
	for _, service := range last.Services {
		if !slices.ContainsFunc(own.Services, func(o Service) bool { return o.Kind == service.Kind }) {
			s.say("%s.services: %s is removed", path, service.Kind)
			e.Services = append(e.Services, service)
		}
	}
	e.Start = slices.Clone(own.Start)
	for _, role := range s.known(last).Start {
		if !slices.Contains(own.Start, role) {
			s.say("%s.start: %s is no longer started", path, role)
			e.Start = append(e.Start, role)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(own.Env)) {
		if before, ok := last.Env[name]; !ok || before != own.Env[name] {
			s.tell("%s.env.%s: it is %s", path, name, own.Env[name])
		}
	}
	return &e
}

// counts reports whether the level's tests can be counted.
func (l *Level) counts() bool {
	return l.Report != "" || strings.Contains(l.Run.Text, "go test") && strings.Contains(l.Run.Text, "-json")
}

// known is a level of the last file without roles that this file has no more.
func (s *stricter) known(last *Level) *Level {
	e := *last
	e.Start = slices.DeleteFunc(slices.Clone(last.Start), func(role Name) bool { return s.own.Roles[string(role)] == nil })
	return &e
}

func covers(own, last []Path) bool {
	if len(last) == 0 {
		return slices.Contains(own, ".")
	}
	return !slices.ContainsFunc(last, func(p Path) bool { return !slices.Contains(own, p) && !slices.Contains(own, ".") })
}

func orAll(list []Path) string {
	if len(list) == 0 {
		return "everything"
	}
	return fmt.Sprint(list)
}

// check holds the delivery to what is stricter of one check. A check that asks something else is a new one: the one of before
// is asked, too.
func (s *stricter) check(name string, own, last *CheckSpec) {
	path := "verify.checks." + name
	if target(own) != target(last) {
		s.say("%s: it asks %s, was %s: both are asked", path, target(own), target(last))
		s.e.Verify.Checks[name] = s.asked(last)
		s.e.Verify.Checks[name+"-of-this-commit"] = own
		return
	}
	c := *own
	if last.Only == "" && own.Only != "" || last.Only != "" && own.Only != "" && last.Only != own.Only {
		s.say("%s: it runs in %s only", path, own.Only)
		c.Only = last.Only
	}
	if bool(last.Critical) && !bool(own.Critical) {
		s.say("%s: it is no longer critical", path)
		c.Critical = Flag(own.HTTP != "" && own.Method.reads())
	}
	if last.Within > 0 && (own.Within == 0 || own.Within > last.Within) && own.HTTP != "" {
		s.say("%s: it may take longer than %s", path, last.Within)
		c.Within = last.Within
	}
	if own.Send != last.Send || own.Role != last.Role || !maps.Equal(own.Headers, last.Headers) {
		s.tell("%s: it asks otherwise: another role, body or headers", path)
	}
	s.expects(path, own, last, &c)
	s.e.Verify.Checks[name] = &c
}

// expects keeps what an answer had to be, where less is asked of it now.
func (s *stricter) expects(path string, own, last, c *CheckSpec) {
	if own.Status != last.Status && own.Status/100 != last.Status/100 {
		s.say("%s.status: %d, was %d", path, own.Status, last.Status)
		c.Status = last.Status
	}
	if last.Body != "" && own.Body != last.Body {
		if strings.Contains(string(last.Body), string(own.Body)) {
			s.say("%s.body: %q says less than %q", path, own.Body, last.Body)
			c.Body = last.Body
		} else {
			s.tell("%s.body: %q, was %q", path, own.Body, last.Body)
		}
	}
	c.JSON = maps.Clone(own.JSON)
	for _, at := range slices.Sorted(maps.Keys(last.JSON)) {
		now, ok := own.JSON[at]
		switch {
		case ok && now == last.JSON[at]:
		case !ok || now == "*":
			s.say("%s.json.%s: it may be anything, was %s", path, at, last.JSON[at])
			if c.JSON == nil {
				c.JSON = map[string]Text{}
			}
			c.JSON[at] = last.JSON[at]
		default:
			s.tell("%s.json.%s: %s, was %s", path, at, now, last.JSON[at])
		}
	}
}

// target is what a check asks.
func target(c *CheckSpec) string {
	switch {
	case c.HTTP != "":
		return strings.TrimSpace(string(c.Method) + " " + string(c.HTTP))
	case c.TCP != "":
		return string(c.TCP)
	case !c.Run.Zero():
		return c.Run.Text
	default:
		return c.Metric.Text
	}
}

// asked is a check of the last file as this one can answer it: a role that is no more does not answer, and what a metric
// means is kept.
func (s *stricter) asked(last *CheckSpec) *CheckSpec {
	c := *last
	if s.own.Roles[string(c.Role)] == nil {
		c.Role = ""
	}
	if c.Metric.Expr == nil {
		return &c
	}
	s.e.Metrics = maps.Clone(s.e.Metrics)
	for _, n := range c.Metric.Expr.Names() {
		if before := s.last.Metrics[n.Metric]; before != nil && s.own.Metrics[n.Metric] == nil {
			if s.e.Metrics == nil {
				s.e.Metrics = map[string]*Metric{}
			}
			s.e.Metrics[n.Metric] = before
		}
	}
	return &c
}
