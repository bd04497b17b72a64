package scaffold

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	goVersion   = regexp.MustCompile(`(?m)^go\s+(\S+)`)
	goModule    = regexp.MustCompile(`(?m)^module\s+(\S+)`)
	goMain      = regexp.MustCompile(`(?m)^package main\b`)
	goMainFunc  = regexp.MustCompile(`(?m)^func main\(\)`)
	goTest      = regexp.MustCompile(`(?m)^func Test[A-Z_]?\w*\(\w+ \*testing\.T\)`)
	goTag       = regexp.MustCompile(`(?m)^//go:build .*\b(integration|e2e)\b`)
	goEnvPort   = regexp.MustCompile(`(?:Getenv|LookupEnv|Get|env:)\(?"PORT"`)
	goFixedPort = regexp.MustCompile(`(?:ListenAndServe(?:TLS)?\(|Addr:\s*|net\.Listen\("tcp",\s*|\.(?:Run|Start|Listen)\()"[^"]*:(\d{2,5})"`)
	goFlagPort  = regexp.MustCompile(`flag\.(String|Int)\("(addr|address|listen|http|port)",`)
	goServes    = regexp.MustCompile(`http\.(?:ListenAndServe|Server\{)|net\.Listen\(|\.(?:Run|Start|Listen)\(":`)
)

// golang surveys a Go module: the command to build, its tests by build tag and folder, its port and endpoints.
func (p *project) golang() {
	mod := p.tree.texts["go.mod"]
	if match := goModule.FindStringSubmatch(mod); p.name == "" && match != nil {
		p.name = majorless(match[1])
	}
	all := p.tree.with(extension(".go"))
	tests, sources := split(all, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
	p.goTests(mod, tests)
	p.build.lint = []string{"go vet ./..."}
	if at := p.tree.first(".golangci.yml", ".golangci.yaml", ".golangci.toml"); at != "" {
		p.build.lint = append(p.build.lint, "golangci-lint run")
		p.add(Found, "%s: golangci-lint is one of the linters, and must be installed on the server", at)
	}

	command := p.goCommand(sources)
	if command == "" {
		p.add(Gap, "no command (package main with func main) found: say what is built under build.run and roles.web.run")
		command = "."
	}
	binary := "bin/" + appName(p.name)
	if command != "." {
		binary = "bin/" + appName(command)
	}
	p.build.run = []string{fmt.Sprintf("go build -trimpath -o %s %s", binary, command)}
	p.build.files = []string{binary}
	run := binary
	if at, ok := p.tree.find(sources, goFlagPort); ok && !p.matches(sources, goEnvPort) {
		value := "127.0.0.1:$PORT"
		if at.sub[1] == "port" || at.sub[0] == "Int" {
			value = "$PORT"
		}
		run = fmt.Sprintf("%s -%s %s", binary, at.sub[1], value)
		p.add(Guess, "the flag -%s says where it listens, from %s:%d", at.sub[1], at.path, at.line)
	} else if !p.port(sources, goEnvPort, goFixedPort) {
		p.add(Gap, "where it listens was not found: it must listen on $PORT")
	}
	probe, metrics := p.probe(sources)
	p.roles = []role{{name: "web", run: run, web: true, probe: probe, metrics: metrics}}
	p.goFolders()
}

func (p *project) matches(files []string, pattern *regexp.Regexp) bool {
	_, ok := p.tree.find(files, pattern)
	return ok
}

// majorless takes the /v2 off a module's path.
func majorless(module string) string {
	if base := path.Base(module); len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		return path.Dir(module)
	}
	return module
}

// goTests counts the tests by level: a build tag or a folder says which.
func (p *project) goTests(mod string, tests []string) {
	var byLevel [3][]string
	tagged := [3]bool{}
	for _, name := range tests {
		i := 0
		tag := goTag.FindStringSubmatch(p.tree.texts[name])
		switch {
		case len(tag) > 1 && tag[1] == "integration":
			i, tagged[1] = 1, true
		case len(tag) > 1:
			i, tagged[2] = 2, true
		case inFolder(name, "e2e"):
			i = 2
		case inFolder(name, "integration"):
			i = 1
		}
		byLevel[i] = append(byLevel[i], name)
	}
	counts := [3]int{}
	total := 0
	for i, files := range byLevel {
		counts[i] = p.tree.count(files, goTest)
		total += counts[i]
	}
	text := []string{"go.mod", plural(total, "test")}
	if match := goVersion.FindStringSubmatch(mod); match != nil {
		text[0] += " (go " + match[1] + ")"
	}
	for i := 1; i < 3; i++ {
		if counts[i] == 0 {
			continue
		}
		if tagged[i] {
			text = append(text, fmt.Sprintf("%d of them behind the tag %q", counts[i], levelNames[i]))
		} else {
			text = append(text, fmt.Sprintf("%d of them in a folder %s", counts[i], levelNames[i]))
		}
	}
	p.add(Found, "%s", strings.Join(text, ", "))

	var apart []string // folders that ./... would run as well
	for i := 1; i < 3; i++ {
		if counts[i] == 0 {
			continue
		}
		if !tagged[i] {
			apart = append(apart, "/"+levelNames[i])
		}
		p.tests[i] = level{run: goTestCommand(levelNames[i], tagged[i], byLevel[i]), start: i == 2}
	}
	if counts[0] > 0 {
		p.tests[0].run = "go test -json ./..."
		if len(apart) > 0 {
			p.tests[0].run = fmt.Sprintf("go test -json $(go list ./... | grep -v -E '%s')", strings.Join(apart, "|"))
		}
	}
}

// goTestCommand runs the packages that hold the tests of a level.
func goTestCommand(name string, tagged bool, files []string) string {
	var packages []string
	for _, file := range files {
		folder := "./" + path.Dir(file)
		if folder == "./." {
			folder = "."
		}
		if !slices.Contains(packages, folder) {
			packages = append(packages, folder)
		}
	}
	if len(packages) > 3 {
		packages = []string{"./..."}
	}
	command := "go test -json "
	if tagged {
		command += "-tags " + name + " "
	}
	return command + strings.Join(packages, " ")
}

// goCommand chooses the package main that serves.
func (p *project) goCommand(sources []string) string {
	var commands, serving []string
	for _, name := range sources {
		text := p.tree.texts[name]
		if !goMain.MatchString(text) || !goMainFunc.MatchString(text) || strings.Contains(text, "//go:build ignore") {
			continue
		}
		folder := path.Dir(name)
		if folder != "." {
			folder = "./" + folder
		}
		commands = append(commands, folder)
		for _, other := range sources {
			if path.Dir(other) == path.Dir(name) && goServes.MatchString(p.tree.texts[other]) {
				serving = append(serving, folder)
				break
			}
		}
	}
	candidates := commands
	if len(serving) > 0 {
		candidates = serving
	}
	if len(candidates) == 0 {
		return ""
	}
	chosen := candidates[0]
	for _, c := range candidates {
		if path.Base(c) == appName(p.name) || c == "." {
			chosen = c
			break
		}
	}
	if len(commands) > 1 {
		p.add(Guess, "the command to deliver is %s; there are also %s", chosen, strings.Join(without(commands, chosen), ", "))
	}
	return chosen
}

func without(all []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == one })
}

// goFolders adds the folders that a server usually reads at run time.
func (p *project) goFolders() {
	for _, folder := range []string{"templates", "static", "public", "web", "assets"} {
		files := p.tree.with(func(name string) bool { return strings.HasPrefix(name, folder+"/") })
		goFiles := p.tree.with(func(name string) bool {
			return strings.HasPrefix(name, folder+"/") && strings.HasSuffix(name, ".go")
		})
		if len(files) > 0 && len(goFiles) == 0 {
			p.build.files = append(p.build.files, folder)
			p.add(Guess, "the folder %s is read at run time, so it is packed", folder)
		}
	}
}
