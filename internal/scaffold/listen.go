package scaffold

import (
	"fmt"
	"regexp"
	"strings"
)

// The endpoints that mean "I am healthy", the best first.
var healthPaths = []string{
	"/healthz", "/readyz", "/health/ready", "/health", "/health/", "/api/health", "/api/healthz", "/_health", "/ready", "/livez",
	"/live", "/health/live", "/up", "/ping", "/status",
}

// port finds how the app learns its port in the files of a language. A fixed one is a gap: two instances cannot share it.
func (p *project) port(files []string, fromEnv, fixed *regexp.Regexp) (listens bool) {
	if at, ok := p.tree.find(files, fromEnv); ok {
		p.add(Found, "it listens on $PORT, %s:%d", at.path, at.line)
		return true
	}
	if at, ok := p.tree.find(files, fixed); ok {
		p.add(Gap, "%s:%d listens on port %s, not on $PORT: two instances cannot share it; read PORT there", at.path, at.line, lastOf(at.sub))
		return true
	}
	return false
}

func lastOf(groups []string) string {
	for i := len(groups) - 1; i >= 0; i-- {
		if groups[i] != "" {
			return groups[i]
		}
	}
	return ""
}

// probe finds the health endpoint, or says what is asked instead; then it finds /metrics.
func (p *project) probe(files []string) (probe, metrics string) {
	quoted := func(path string) *regexp.Regexp {
		return regexp.MustCompile("[\"'`](?:GET )?" + regexp.QuoteMeta(path) + "(?:\\{\\$\\})?[\"'`]")
	}
	defer func() {
		if at, ok := p.tree.find(files, quoted("/metrics")); ok {
			metrics = "/metrics"
			p.add(Found, "GET /metrics in %s:%d", at.path, at.line)
		}
	}()
	for _, path := range healthPaths {
		at, ok := p.tree.find(files, quoted(path))
		if !ok {
			at, ok = p.routed(path)
		}
		if ok {
			p.add(Found, "GET %s in %s:%d", path, at.path, at.line)
			return fmt.Sprintf("{ http: %s }", path), ""
		}
	}
	if service, path := p.compose.health(); path != "" {
		p.add(Guess, "GET %s, from the health check of %s in %s", path, service, p.compose.path)
		return "{ http: " + plain(path, true) + " }", ""
	}
	if at, ok := p.tree.find(files, quoted("/")); ok {
		p.add(Gap, "no health endpoint found: the probe asks /, which %s:%d serves; better is one that answers when the app can work", at.path, at.line)
		return "{ http: / }", ""
	}
	p.add(Gap, "no health endpoint found: the probe only sees whether the port accepts a connection; add one, then { http: /healthz }")
	return "{ tcp: true }", ""
}

// routed finds a route that frameworks write without its first slash (Django), or as the name of a file (Next.js).
func (p *project) routed(path string) (place, bool) {
	if p.tree.has("manage.py") {
		pattern := regexp.MustCompile(`path\(\s*r?['"]` + regexp.QuoteMeta(strings.TrimPrefix(path, "/")) + `['"]`)
		return p.tree.find(p.tree.with(extension(".py")), pattern)
	}
	for _, root := range []string{"", "src/"} {
		for _, form := range []string{"app%s/route.ts", "app%s/route.js", "pages%s.ts", "pages%s.js"} {
			if name := root + fmt.Sprintf(form, path); p.tree.has(name) {
				return place{path: name, line: 1}, true
			}
		}
	}
	return place{}, false
}

// tests keeps the files that are tests, sources those that are not.
func split(files []string, isTest func(string) bool) (tests, sources []string) {
	for _, name := range files {
		if isTest(name) {
			tests = append(tests, name)
		} else {
			sources = append(sources, name)
		}
	}
	return tests, sources
}

// plural writes a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
