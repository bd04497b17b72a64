package scaffold

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// yaml writes the file: in the order of the stages, what is a default left out.
func (p *project) yaml() string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("app: %s", p.name)
	p.yamlBuild(line)
	line("test:")
	for i, name := range levelNames {
		line("  %-12s %s", name+":", p.tests[i].flow(p.startRole()))
	}
	if p.migrations != "" {
		line("migrations: %s", p.migrations)
	}
	if len(p.secrets) > 0 {
		line("secrets:")
		line("  store: %s", list(p.secrets))
	}
	if len(p.variables) > 0 {
		line("env:")
		for _, v := range p.variables {
			line("  %s: %s", v.name, value(v.value))
		}
	}
	line("roles:")
	for _, r := range p.roles {
		p.yamlRole(r, line)
	}
	return out.String()
}

// startRole is the role that an e2e level starts.
func (p *project) startRole() string {
	for _, r := range p.roles {
		if r.web {
			return r.name
		}
	}
	if len(p.roles) > 0 {
		return p.roles[0].name
	}
	return "web"
}

func (p *project) yamlBuild(line func(string, ...any)) {
	line("build:")
	if len(p.build.lint) > 0 {
		line("  lint: %s", list(p.build.lint))
	}
	if p.build.dockerfile != "" {
		line("  dockerfile: %s", p.build.dockerfile)
		return
	}
	switch len(p.build.run) {
	case 0:
	case 1:
		line("  run: %s", plain(p.build.run[0], false))
	default:
		line("  run: |")
		for _, command := range p.build.run {
			line("    %s", command)
		}
	}
	line("  files: %s", list(p.build.files))
	if len(p.build.cache) > 0 {
		line("  cache: %s", list(p.build.cache))
	}
}

func (p *project) yamlRole(r role, line func(string, ...any)) {
	line("  %s:", r.name)
	if r.static != "" {
		line("    static: %s", plain(r.static, false))
	}
	if r.run != "" {
		line("    run: %s", plain(r.run, false))
	}
	if r.port != 0 {
		line("    port: %d", r.port)
	}
	if r.web {
		line("    hosts: { staging: [%s], production: [%s] }", p.hosts.staging, p.hosts.production)
	}
	if r.probe != "" {
		line("    probe: %s", r.probe)
	}
	if r.metrics != "" {
		line("    metrics: %s", r.metrics)
	}
}

// flow writes a level in one line.
func (l level) flow(role string) string {
	if l.none != "" {
		return "{ none: " + plain(l.none, true) + " }"
	}
	text := "{ run: " + plain(l.run, true)
	if l.report != "" {
		text += ", report: " + plain(l.report, true)
	}
	if len(l.services) > 0 {
		text += ", services: " + list(l.services)
	}
	if l.start {
		text += ", start: [" + role + "]"
	}
	return text + " }"
}

func list(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = plain(item, true)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

var (
	needsQuotes = regexp.MustCompile(`^[\s?:,\[\]{}#&*!|>'"%@` + "`" + `]|^-(?:[\s-]|$)|:\s|:$|\s#|\s$|^$|[\x00-\x1f\x7f-\x{10ffff}]`)
	inFlow      = regexp.MustCompile(`[\[\]{},:#"?]`)
	notText     = regexp.MustCompile(`(?i)^(?:true|false|null|yes|no|on|off|~|[-+.]?\d[\d_.eExXoO+:-]*)$`)
)

// plain writes text as it is where YAML reads it back so, in quotes otherwise.
func plain(text string, flow bool) string {
	if needsQuotes.MatchString(text) || (flow && inFlow.MatchString(text)) || notText.MatchString(text) {
		return strconv.Quote(text)
	}
	return text
}

// value writes the value of a variable. Numbers and words like "no" keep their text in belay.yaml, so only syntax counts.
func value(text string) string {
	if notText.MatchString(text) && !needsQuotes.MatchString(text) {
		return text
	}
	return plain(text, false)
}
