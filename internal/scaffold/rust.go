package scaffold

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	cargoName   = regexp.MustCompile(`(?s)(?:^|\n)\[package\][^\[]*?\nname\s*=\s*"([^"]+)"`)
	cargoBin    = regexp.MustCompile(`\[\[bin\]\][^\[]*?\nname\s*=\s*"([^"]+)"`)
	rustTest    = regexp.MustCompile(`#\[(?:test|rstest|tokio::test|actix_web::test|actix_rt::test|async_std::test|sqlx::test)\b`)
	rustEnvPort = regexp.MustCompile(`env::var(?:_os)?\(\s*"PORT"|env!\(\s*"PORT"|env\s*=\s*"PORT"`)
	rustPort    = regexp.MustCompile(`(?:bind|try_bind|parse)\w*(?:::<[^>]*>)?\(\s*&?\(?\s*"[^"]*:(\d{2,5})"|SocketAddr::from\(\(\[[^\]]*\],\s*(\d{2,5})|"(?:0\.0\.0\.0|127\.0\.0\.1|\[::\]):(\d{2,5})"|bind\(\(\s*"[^"]*",\s*(\d{2,5})`)
	rustServes  = regexp.MustCompile(`axum::|actix_web::|warp::|rocket::|hyper::|poem::|tide::|salvo::|TcpListener`)
	rustMain    = regexp.MustCompile(`(?m)^\s*(?:pub )?(?:async )?fn main\(`)
)

// rust surveys a Cargo package or workspace: the program to deliver, its tests by place, its port and endpoints.
func (p *project) rust() {
	folder, manifest := p.cargoPackage()
	if match := cargoName.FindStringSubmatch(p.tree.texts[manifest]); p.name == "" && match != nil {
		p.name = match[1]
	}
	locked := ""
	if p.tree.has("Cargo.lock") {
		locked = " --locked"
	} else {
		p.add(Gap, "no Cargo.lock found: two builds of one commit may differ; commit it")
	}
	all := p.tree.with(func(name string) bool { return strings.HasSuffix(name, ".rs") && below(folder, name) })
	tests, sources := split(all, func(name string) bool { return strings.HasPrefix(name, path.Join(folder, "tests")+"/") })
	which := ""
	if folder != "." {
		which = " -p " + p.packageName(manifest)
	}
	p.rustTests(which+locked, folder, manifest, tests, sources)
	binary := p.rustBinary(folder, manifest, sources)
	p.build.run = []string{"cargo build --release" + locked + which}
	p.build.files = []string{"target/release/" + binary}
	p.build.cache = []string{"target"}
	p.rustLint()
	p.goFolders()
	if !p.matches(sources, rustServes) {
		p.add(Guess, "it is a worker: nothing that serves HTTP was found")
		p.add(Gap, "the probe of worker takes any line of its log for ready: let it touch $BELAY_HEARTBEAT, then { heartbeat: 30s }")
		p.roles = []role{{name: "worker", run: "target/release/" + binary, probe: `{ log: "." }`}}
		return
	}
	if !p.port(sources, rustEnvPort, rustPort) {
		p.add(Gap, "where it listens was not found: it must listen on $PORT")
	}
	probe, metrics := p.probe(sources)
	p.roles = []role{{name: "web", run: "target/release/" + binary, web: true, probe: probe, metrics: metrics}}
}

// below reports whether a file is in a folder; "." is the root.
func below(folder, name string) bool { return folder == "." || strings.HasPrefix(name, folder+"/") }

func (p *project) packageName(manifest string) string {
	if match := cargoName.FindStringSubmatch(p.tree.texts[manifest]); match != nil {
		return match[1]
	}
	return p.folder
}

// cargoPackage returns the package that is delivered: the root's own, else the member of the workspace that serves.
func (p *project) cargoPackage() (folder, manifest string) {
	if cargoName.MatchString(p.tree.texts["Cargo.toml"]) {
		return ".", "Cargo.toml"
	}
	var programs, serving []string
	for _, name := range p.tree.order {
		dir := path.Dir(name)
		if path.Base(name) != "Cargo.toml" || dir == "." || p.tree.first(dir+"/src/main.rs") == "" {
			continue
		}
		programs = append(programs, dir)
		inside := p.tree.with(func(other string) bool { return strings.HasPrefix(other, dir+"/src/") })
		if p.matches(inside, rustServes) {
			serving = append(serving, dir)
		}
	}
	candidates := programs
	if len(serving) > 0 {
		candidates = serving
	}
	if len(candidates) == 0 {
		return ".", "Cargo.toml"
	}
	if len(programs) > 1 {
		p.add(Guess, "the package to deliver is %s; there are also %s", candidates[0], strings.Join(without(programs, candidates[0]), ", "))
	}
	return candidates[0], candidates[0] + "/Cargo.toml"
}

// rustBinary names the program that the build makes.
func (p *project) rustBinary(folder, manifest string, sources []string) string {
	var names []string
	for _, match := range cargoBin.FindAllStringSubmatch(p.tree.texts[manifest], -1) {
		names = append(names, match[1])
	}
	if len(names) == 0 && p.tree.has(path.Join(folder, "src/main.rs")) {
		names = append(names, p.packageName(manifest))
	}
	for _, name := range sources {
		if path.Dir(name) == path.Join(folder, "src/bin") && rustMain.MatchString(p.tree.texts[name]) {
			if bin := strings.TrimSuffix(path.Base(name), ".rs"); !slices.Contains(names, bin) {
				names = append(names, bin)
			}
		}
	}
	switch {
	case len(names) == 0:
		p.add(Gap, "no program (src/main.rs, src/bin or [[bin]]) found: say what is built under build.run and roles.web.run")
		return appName(p.name)
	case len(names) > 1:
		p.add(Guess, "the program to deliver is %s; there are also %s", names[0], strings.Join(names[1:], ", "))
	}
	return names[0]
}

// rustTests counts the tests: those beside the code are unit tests, the files in tests/ are integration tests, those called
// e2e are e2e tests.
func (p *project) rustTests(flags, folder, manifest string, tests, sources []string) {
	var byLevel [3][]string
	unit := p.tree.count(sources, rustTest)
	total := unit
	for _, name := range tests {
		n := p.tree.count([]string{name}, rustTest)
		if n == 0 || path.Dir(name) != path.Join(folder, "tests") && path.Base(name) != "main.rs" {
			continue
		}
		target := strings.TrimSuffix(path.Base(name), ".rs")
		if target == "main" {
			target = path.Base(path.Dir(name))
		}
		i := 1
		if strings.Contains(target, "e2e") || strings.Contains(target, "end_to_end") {
			i = 2
		}
		total += n
		byLevel[i] = append(byLevel[i], "--test "+target)
	}
	p.add(Found, "%s, %s", manifest, plural(total, "test"))
	if unit > 0 {
		targets := "--bins"
		if p.tree.has(path.Join(folder, "src/lib.rs")) {
			targets = "--lib --bins"
		}
		p.tests[0].run = "cargo test" + flags + " " + targets
	}
	for i := 1; i < 3; i++ {
		if len(byLevel[i]) > 0 {
			p.tests[i] = level{run: "cargo test" + flags + " " + strings.Join(byLevel[i], " "), start: i == 2}
			p.add(Found, "%s: %s", levelNames[i], strings.ReplaceAll(strings.Join(byLevel[i], ", "), "--test ", "tests/"))
		}
	}
	if total > 0 {
		p.add(Gap, "cargo test writes no JUnit report: these levels are shown as uncounted; cargo nextest writes one")
	}
}

// rustLint takes the linters that the repository uses: others would be red from the first day.
func (p *project) rustLint() {
	uses := func(word string, files ...string) bool {
		if p.tree.first(files...) != "" {
			return true
		}
		return p.matches(p.workflows(), regexp.MustCompile(regexp.QuoteMeta(word)))
	}
	if uses("cargo fmt", "rustfmt.toml") {
		p.build.lint = append(p.build.lint, "cargo fmt --check")
	}
	if uses("cargo clippy", "clippy.toml") {
		p.build.lint = append(p.build.lint, "cargo clippy -- -D warnings")
	}
	if len(p.build.lint) > 0 {
		p.add(Found, "linters: %s", strings.Join(p.build.lint, ", "))
	}
}

// workflows are the files that say what a pipeline runs today.
func (p *project) workflows() []string {
	return p.tree.with(func(name string) bool {
		return strings.HasPrefix(name, ".github/workflows/") || name == ".gitlab-ci.yml" || name == "Makefile" || name == "justfile"
	})
}

// isRust reports whether the root is a Cargo package with a program, or a workspace.
func (p *project) isRust() bool {
	text, ok := p.tree.texts["Cargo.toml"]
	if !ok {
		return false
	}
	program := p.tree.has("src/main.rs") || cargoBin.MatchString(text) ||
		slices.ContainsFunc(p.tree.order, func(name string) bool { return path.Dir(name) == "src/bin" })
	return program || strings.Contains(text, "[workspace]") || p.tree.first("package.json", "pyproject.toml") == ""
}
