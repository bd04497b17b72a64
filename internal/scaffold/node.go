package scaffold

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// manifest is what package.json says of interest.
type manifest struct {
	Name            string            `json:"name"`
	Main            string            `json:"main"`
	Scripts         map[string]string `json:"scripts"`
	Dependencies    map[string]string `json:"dependencies"`
	DevDependencies map[string]string `json:"devDependencies"`
	Engines         map[string]string `json:"engines"`
}

func (m manifest) has(name string) bool {
	return m.Dependencies[name] != "" || m.DevDependencies[name] != ""
}

var (
	nodeTest      = regexp.MustCompile(`(?m)^\s*(?:test|it|Deno\.test)(?:\.\w+)?\(`)
	nodeEnvPort   = regexp.MustCompile(`process\.env(?:\.PORT\b|\[['"]PORT['"]\])|(?:\{|,)\s*PORT\b[^}\n]*\}\s*=\s*process\.env`)
	nodeFixedPort = regexp.MustCompile(`\.listen\(\s*(\d{2,5})|\b(?:const|let|var)\s+(?:port|PORT)\s*=\s*(\d{2,5})`)
	nodeListens   = regexp.MustCompile(`\.listen\(|createServer\(|Bun\.serve`)
	nodeSource    = extension(".js", ".mjs", ".cjs", ".ts", ".mts", ".jsx", ".tsx")
)

// node surveys a package: what starts it, its scripts, its tests by file name and folder.
func (p *project) node() {
	var m manifest
	if err := json.Unmarshal([]byte(p.tree.texts["package.json"]), &m); err != nil {
		p.add(Gap, "package.json cannot be read: %v", err)
	}
	if p.name == "" {
		p.name = m.Name
	}
	all := p.tree.with(nodeSource)
	all = slices.DeleteFunc(all, func(name string) bool { return inFolder(name, "dist", "build", "out") })
	tests, sources := split(all, isNodeTest)
	p.nodeTests(m, tests)
	p.nodeBuild(m)

	run := p.nodeRun(m)
	if run == "" && !p.matches(sources, nodeListens) {
		p.nodeStatic(m)
		return
	}
	if run == "" {
		at, _ := p.tree.find(sources, nodeListens)
		run = "node " + at.path
		p.add(Guess, "%s starts it: %s:%d listens", run, at.path, at.line)
	}
	switch {
	case strings.HasPrefix(run, "npx next start"):
		run = "npx next start -H 127.0.0.1 -p $PORT"
		p.add(Found, "next start, which takes its port as an argument")
	case !p.port(sources, nodeEnvPort, nodeFixedPort):
		p.add(Gap, "where it listens was not found: it must listen on $PORT")
	}
	probe, metrics := p.probe(sources)
	p.roles = []role{{name: "web", run: run, web: true, probe: probe, metrics: metrics}}
}

func isNodeTest(name string) bool {
	base := path.Base(name)
	return strings.Contains(base, ".test.") || strings.Contains(base, ".spec.") || strings.Contains(base, ".e2e.") ||
		strings.Contains(base, ".integration.") || inFolder(name, "test", "tests", "__tests__", "e2e")
}

// nodeRun returns the command that starts the server, without npm between: npm does not pass TERM on.
func (p *project) nodeRun(m manifest) string {
	start := m.Scripts["start"]
	switch {
	case start == "":
		return ""
	case strings.HasPrefix(start, "next start"):
		return "npx " + start
	case strings.HasPrefix(start, "node "):
		return start
	default:
		p.add(Guess, "npm start starts it (%s); if TERM does not reach it, write the command itself", start)
		return "npm start"
	}
}

// nodeBuild says what is installed, built and packed.
func (p *project) nodeBuild(m manifest) {
	p.build.files = []string{"."}
	if len(m.Dependencies)+len(m.DevDependencies) > 0 {
		install := "npm install"
		switch {
		case p.tree.has("package-lock.json"):
			install = "npm ci"
		case p.tree.has("pnpm-lock.yaml"):
			install = "pnpm install --frozen-lockfile"
		case p.tree.has("yarn.lock"):
			install = "yarn install --frozen-lockfile"
		default:
			p.add(Gap, "no lock file found: two builds of one commit may differ; commit package-lock.json")
		}
		p.build.run = append(p.build.run, install)
		p.build.files = append(p.build.files, "node_modules")
	}
	p.nodeLint(m)
	if m.Scripts["build"] == "" {
		return
	}
	p.build.run = append(p.build.run, "npm run build")
	if out := p.nodeOutput(m); out != "" {
		p.build.files = append(p.build.files, out)
	} else {
		p.add(Gap, "what npm run build writes was not found: add it to build.files")
	}
}

// nodeLint runs the linters beside the build where they need nothing, and in it where they need what npm installs.
func (p *project) nodeLint(m manifest) {
	for _, script := range []string{"lint", "format:check", "typecheck"} {
		switch {
		case m.Scripts[script] == "":
		case len(p.build.run) > 0:
			p.build.run = append(p.build.run, "npm run "+script)
			p.build.linted = true
		default:
			p.build.lint = append(p.build.lint, "npm run "+script)
		}
	}
}

var outDir = regexp.MustCompile(`"outDir":\s*"\.?/?([\w./-]+?)/?"`)

// nodeOutput returns the folder that the build writes, "" when it is not known.
func (p *project) nodeOutput(m manifest) string {
	switch {
	case m.has("next"):
		return ".next"
	case m.has("vite"), m.has("astro"), m.has("parcel"):
		return "dist"
	case m.has("react-scripts"):
		return "build"
	case m.has("@11ty/eleventy"):
		return "_site"
	}
	if at, ok := p.tree.find([]string{"tsconfig.json"}, outDir); ok && at.sub[0] != "." {
		return at.sub[0]
	}
	return ""
}

// nodeStatic is a package that only builds pages.
func (p *project) nodeStatic(m manifest) {
	folder := p.nodeOutput(m)
	if folder == "" {
		folder = p.staticFolder()
	}
	if folder == "" {
		folder = "dist"
		p.add(Gap, "nothing starts a server, and the folder of the pages was not found: written as %s", folder)
	} else {
		p.add(Guess, "static pages in %s: nothing in package.json starts a server", folder)
	}
	p.build.files = []string{folder}
	p.roles = []role{{name: "web", static: folder, web: true}}
}

// nodeTests finds which script or file belongs to which level, and a reporter that counts where the runner has one.
func (p *project) nodeTests(m manifest, tests []string) {
	var byLevel [3][]string
	for _, name := range tests {
		base := path.Base(name)
		switch {
		case inFolder(name, "e2e") || strings.Contains(base, ".e2e.") || strings.Contains(base, "e2e."):
			byLevel[2] = append(byLevel[2], name)
		case inFolder(name, "integration") || strings.Contains(base, ".integration."):
			byLevel[1] = append(byLevel[1], name)
		default:
			byLevel[0] = append(byLevel[0], name)
		}
	}
	total := 0
	for i, files := range byLevel {
		total += p.tree.count(files, nodeTest)
		p.tests[i] = nodeLevel(m, i, p.tree.count(files, nodeTest) > 0)
	}
	text := "package.json"
	if version := m.Engines["node"]; version != "" {
		text += " (node " + version + ")"
	}
	p.add(Found, "%s, %s", text, plural(total, "test"))
	for i, l := range p.tests {
		if l.run != "" && l.report == "" {
			p.add(Gap, "%s tests write no JUnit report: they are shown as uncounted", levelNames[i])
		}
	}
}

var nodeScripts = [3][]string{
	{"test:unit", "unit", "test"},
	{"test:integration", "integration", "test:int"},
	{"test:e2e", "e2e"},
}

func nodeLevel(m manifest, i int, written bool) level {
	for _, name := range nodeScripts[i] {
		script := m.Scripts[name]
		if script == "" || !written || strings.Contains(script, "no test specified") {
			continue
		}
		l := level{start: i == 2}
		report := [3]string{"unit.xml", "int.xml", "e2e.xml"}[i]
		rest, isNode := strings.CutPrefix(script, "node --test")
		switch {
		case isNode && !strings.Contains(script, "&&"):
			l.run = "node --test --test-reporter=junit --test-reporter-destination=" + report + rest
			l.report = report
		case script == "vitest" || strings.HasPrefix(script, "vitest run"):
			l.run = fmt.Sprintf("npx vitest run%s --reporter=junit --outputFile=%s",
				strings.TrimPrefix(strings.TrimPrefix(script, "vitest"), " run"), report)
			l.report = report
		case strings.HasPrefix(script, "mocha"):
			l.run, l.report = fmt.Sprintf("npx %s --reporter xunit --reporter-option output=%s", script, report), report
		case name == "test":
			l.run = "npm test"
		default:
			l.run = "npm run " + name
		}
		return l
	}
	return level{}
}
