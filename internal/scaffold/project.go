package scaffold

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

// project is what is known of a checkout while it is surveyed.
type project struct {
	tree   *tree
	has    func(program string) bool
	name   string
	folder string
	lines  []Line

	build      build
	tests      [3]level // unit, integration, e2e
	roles      []role
	hosts      hosts
	secrets    []string
	variables  []variable
	migrations string // flow mapping, "" is none
	compose    compose
	services   []string // that tests get, from the compose file
	heavy      bool     // an instance takes much memory
}

type build struct {
	lint       []string
	linted     bool // the linters stand among the commands of run
	run        []string
	files      []string
	cache      []string
	dockerfile string
}

// level is one level of tests: a command, or the reason why there is none.
type level struct {
	run      string
	report   string
	none     string
	services []string
	start    bool
}

type role struct {
	name    string
	run     string
	static  string
	port    int
	web     bool
	probe   string // flow mapping
	metrics string
}

type variable struct{ name, value string }

var levelNames = [3]string{"unit", "integration", "e2e"}

func (p *project) add(kind Kind, format string, args ...any) {
	p.lines = append(p.lines, Line{Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// survey fills the project from the tree. What is known first wins: a language before a Dockerfile, since processes need
// nothing but this machine.
func (p *project) survey() error {
	p.readCompose()
	switch {
	case p.tree.has("go.mod"):
		p.golang()
	case p.isRust():
		p.rust()
	case p.tree.first(javaFiles...) != "":
		p.java()
	case p.isRuby():
		p.ruby()
	case p.isPHP():
		p.php()
	case p.tree.has("package.json"):
		p.node()
	case p.tree.first(pythonFiles...) != "":
		p.python()
	case p.tree.has("Dockerfile"):
		p.docker()
	case p.pythonScript() != "":
		p.python()
	case p.tree.has("Procfile"):
		p.build.files = []string{"."}
	case p.staticFolder() != "":
		p.static()
	default:
		return domain.Errorf(domain.Invalid, "nothing is recognised here: no go.mod, package.json, pyproject.toml, requirements.txt, pom.xml, build.gradle, Gemfile, composer.json, "+
			"Cargo.toml, Dockerfile, Procfile or index.html").
			WithHint("write belay.yaml by hand: docs/first-app.md has one to start from")
	}
	p.procfile()
	if p.name == "" {
		p.name = p.folder
	}
	p.name = appName(p.name)
	p.unused()
	p.findHosts()
	p.findVariables()
	p.findMigrations()
	p.findWorkflows()
	p.fillLevels()
	p.findCompose()
	p.advise()
	if len(p.build.lint) == 0 && !p.build.linted {
		p.add(Gap, "no linter found: name one under build.lint")
	}
	return nil
}

// unused names what was found and is not what the file says.
func (p *project) unused() {
	if p.build.dockerfile == "" && p.tree.has("Dockerfile") {
		p.add(Found, "Dockerfile, not used: the app runs as processes of this machine; build: { dockerfile: Dockerfile } is the other way")
	}
}

// fillLevels says why a level is missing. A repository without any test gets one level that starts the app and asks it.
func (p *project) fillLevels() {
	none := true
	for _, l := range p.tests {
		if l.run != "" {
			none = false
		}
	}
	if none {
		p.tests[2] = p.askProbe()
	}
	for i, name := range levelNames {
		if p.tests[i].run != "" {
			continue
		}
		p.tests[i].none = "no " + name + " test yet"
		p.add(Gap, "no %s test found: written as { none: … }; say why, or write one", name)
	}
	if none {
		p.add(Gap, "no test at all: e2e only starts the app and asks %s; write a test of what must not break", p.tests[2].run)
	}
}

var probePath = regexp.MustCompile(`http: ("?)([^",} ]+)`)

// askProbe returns a level that starts the first role with traffic and asks its probe with a program that is there.
func (p *project) askProbe() level {
	target, strict := "/", "f" // without an endpoint that must answer well, any answer will do
	for _, r := range p.roles {
		if !r.web {
			continue
		}
		if match := probePath.FindStringSubmatch(r.probe); match != nil {
			target = match[2]
		} else if r.static == "" {
			strict = ""
		}
		break
	}
	run := "curl -" + strict + "sS -o /dev/null $BELAY_URL" + target
	switch {
	case p.has("curl"):
	case p.has("wget"):
		run = "wget -q -O /dev/null $BELAY_URL" + target
	case p.has("python3"):
		run = `python3 -c "import os, urllib.request as r; r.urlopen(os.environ['BELAY_URL'] + '` + target + `')"`
	case p.has("node"):
		run = `node -e "fetch(process.env.BELAY_URL + '` + target + `').then(a => process.exit(a.ok ? 0 : 1))"`
	}
	return level{run: run, start: true}
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// appName makes an allowed name of what a module, a package or a folder is called.
func appName(name string) string {
	name = notInName.ReplaceAllString(strings.ToLower(path.Base(name)), "-")
	name = strings.TrimLeft(strings.Trim(name, "-"), "0123456789-")
	if len(name) > config.MaxNameLength {
		name = strings.TrimRight(name[:config.MaxNameLength], "-")
	}
	if name == "" {
		return "app"
	}
	return name
}

func (p *project) nextSteps() {
	step := func(command, note string) { p.lines = append(p.lines, Line{Kind: Next, Text: command, Note: note}) }
	step("belay check", "is the file right")
	for _, name := range p.secrets {
		step("belay secret set "+name+" --env staging", "and production; the value is asked for")
	}
	step("git add belay.yaml && git commit -m 'Add belay.yaml'", "")
	step("belay ship", "the first delivery")
}

// advise says in one line why the default strategy fits, and when another does.
func (p *project) advise() {
	web, metrics := false, ""
	for _, r := range p.roles {
		if r.static != "" {
			return // pages fit any
		}
		web = web || r.web
		if r.metrics != "" {
			metrics = r.metrics
		}
	}
	why := "it needs traffic to compare, and sees errors and response times only: the app shows no metrics"
	switch {
	case !web:
		why = "next takes a share of the consumers"
	case metrics != "":
		why = "it needs traffic to compare, and " + metrics + " gives it more to judge by"
	}
	other := "blue-green is for what is critical and may run twice, rolling for little memory"
	if p.heavy {
		other = "two releases run side by side, and a JVM takes much memory: rolling replaces one instance at a time"
	}
	p.add(Guess, "the strategy is canary, the default: %s; %s", why, other)
}
