package scaffold

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

var (
	exposed  = regexp.MustCompile(`(?mi)^EXPOSE\s+(\d+)`)
	procLine = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9_-]*):\s*(.+)$`)
)

// docker surveys an app that is only known by its Dockerfile.
func (p *project) docker() {
	p.build.dockerfile = "Dockerfile"
	web := role{name: "web", web: true}
	if at, ok := p.tree.find([]string{"Dockerfile"}, exposed); ok {
		web.port, _ = strconv.Atoi(at.sub[0])
		p.add(Found, "Dockerfile, which exposes port %d in line %d", web.port, at.line)
	} else if service, port := p.compose.port(); port != "" {
		web.port, _ = strconv.Atoi(port)
		p.add(Found, "Dockerfile")
		p.add(Guess, "it listens on port %s, from %s in %s", port, service, p.compose.path)
	} else {
		p.add(Found, "Dockerfile")
		p.add(Gap, "the Dockerfile exposes no port: the app must listen on $PORT, or say roles.web.port")
	}
	_, sources := split(p.tree.order, func(name string) bool { return strings.Contains(name, "test") || path.Ext(name) == ".md" })
	web.probe, web.metrics = p.probe(sources)
	p.roles = []role{web}
}

// staticFolder returns the folder of pages that are served as they are, "" when there is none.
func (p *project) staticFolder() string {
	for _, folder := range []string{"public", "dist", "site", "docs", "src", "www"} {
		if p.tree.has(folder + "/index.html") {
			return folder
		}
	}
	if p.tree.has("index.html") {
		return "."
	}
	return ""
}

// static surveys pages that nothing builds.
func (p *project) static() {
	folder := p.staticFolder()
	pages := p.tree.with(extension(".html"))
	p.add(Found, "%s in %s, and nothing that builds them", plural(len(pages), "page"), folder)
	p.build.files = []string{folder}
	if folder == "." {
		p.add(Guess, "every tracked file is served, also README and scripts if there are any: a folder of its own is better")
	}
	p.roles = []role{{name: "web", static: folder, web: true}}
}

// procfile takes the commands of a Procfile: its author said what runs.
func (p *project) procfile() {
	if !p.tree.has("Procfile") || p.build.dockerfile != "" {
		return
	}
	n := 0
	for line := range strings.Lines(p.tree.texts["Procfile"]) {
		n++
		match := procLine.FindStringSubmatch(strings.TrimSpace(line))
		if match == nil {
			continue
		}
		name, run := strings.ToLower(strings.ReplaceAll(match[1], "_", "-")), match[2]
		switch name {
		case "release":
			p.add(Gap, "Procfile:%d runs %q at each release: schema changes belong under migrations", n, run)
		case "web":
			p.procWeb(run, n)
		default:
			p.add(Found, "Procfile:%d, role %s", n, name)
			p.add(Gap, "the probe of %s takes any line of its log for ready: let it touch $BELAY_HEARTBEAT, then { heartbeat: 30s }", name)
			p.roles = append(p.roles, role{name: name, run: run, probe: `{ log: "." }`})
		}
	}
	if len(p.build.run) == 0 && len(p.tests) > 0 && p.build.files[0] == "." && !p.tree.has("package.json") && p.tree.first(pythonFiles...) == "" {
		p.add(Gap, "how the app is built is not known: say it under build.run")
	}
}

func (p *project) procWeb(run string, line int) {
	p.add(Found, "Procfile:%d, role web", line)
	if p.tree.has("go.mod") && len(p.roles) > 0 {
		return // it names the binary of another builder; what build.run makes is known better
	}
	if len(p.roles) > 0 {
		p.roles[0].run = run
		return
	}
	if !strings.Contains(run, "$PORT") && !strings.Contains(run, "${PORT") {
		p.add(Gap, "Procfile:%d does not name $PORT: the app must listen on it", line)
	}
	probe, metrics := p.probe(p.tree.with(func(name string) bool { return path.Ext(name) != ".md" }))
	p.roles = append([]role{{name: "web", run: run, web: true, probe: probe, metrics: metrics}}, p.roles...)
}

var (
	sqlGoose   = regexp.MustCompile(`(?m)^-- \+goose Up`)
	sqlUpFile  = regexp.MustCompile(`^\d+_.+\.up\.sql$`)
	flywayFile = regexp.MustCompile(`^V[\d._]+__.+\.sql$`)
	versionsIn = "versions"
)

// findMigrations names what changes the schema. It is written only if the database's address is known to be a secret.
func (p *project) findMigrations() {
	tool, dir, n := p.migrationTool()
	if tool == "" {
		return
	}
	p.add(Found, "%s in %s", plural(n, tool+" migration"), dir)
	known := false
	for _, name := range p.secrets {
		known = known || name == "DATABASE_URL"
	}
	if !known {
		p.add(Gap, "the migrations are not written down: name the secret with the database's address, then migrations: { tool: %s, dir: %s }", tool, dir)
		return
	}
	p.migrations = fmt.Sprintf("{ tool: %s, dir: %s }", tool, dir)
	switch tool {
	case "django", "rails":
		p.migrations = "{ tool: " + tool + " }"
	case "flyway":
		if p.tree.first(javaFiles...) != "" {
			p.add(Gap, "if the app runs Flyway at its start, switch that off (spring.flyway.enabled=false): next would change the schema before it is checked")
		}
	}
	packed := false
	for _, f := range p.build.files {
		packed = packed || f == "." || f == dir
	}
	if !packed && p.build.dockerfile == "" {
		p.build.files = append(p.build.files, dir)
	}
}

func (p *project) migrationTool() (tool, dir string, n int) {
	byDir := map[string]int{}
	for _, name := range p.tree.order {
		folder, base := path.Dir(name), path.Base(name)
		switch {
		case path.Ext(name) == ".sql" && sqlGoose.MatchString(p.tree.texts[name]):
			tool, dir = "goose", folder
		case path.Base(folder) == "migration" && flywayFile.MatchString(base):
			tool, dir = "flyway", folder
		case folder == "db/migrate" && path.Ext(name) == ".rb":
			tool, dir = "rails", folder
		case sqlUpFile.MatchString(base) && !p.tree.has("Cargo.toml"):
			tool, dir = "golang-migrate", folder
		case p.tree.has("alembic.ini") && path.Base(folder) == versionsIn && path.Ext(name) == ".py":
			tool, dir = "alembic", path.Dir(folder)
			byDir[dir]++
			continue
		case p.tree.has("manage.py") && path.Base(folder) == "migrations" && base != "__init__.py" && path.Ext(name) == ".py":
			tool, dir = "django", folder
		default:
			continue
		}
		byDir[folder]++
	}
	return tool, dir, byDir[dir]
}
