package scaffold

import (
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	phpTest = regexp.MustCompile(`(?m)function\s+test\w*\s*\(|#\[Test\]|@test\b|^\s*(?:it|test)\(`)
	phpFile = extension(".php")
)

// composer is what composer.json says of interest.
type composer struct {
	Name    string            `json:"name"`
	Require map[string]string `json:"require"`
	Dev     map[string]string `json:"require-dev"`
}

func (c composer) has(name string) bool { return c.Require[name] != "" || c.Dev[name] != "" }

// isPHP reports whether composer.json is that of a server: others keep tools in one.
func (p *project) isPHP() bool {
	return p.tree.has("composer.json") && p.phpFront() != ""
}

// phpFront returns the folder of the front controller, "" when there is none.
func (p *project) phpFront() string {
	for _, folder := range []string{"public", "web", "www", "htdocs", "."} {
		if p.tree.has(path.Join(folder, "index.php")) {
			return folder
		}
	}
	return ""
}

// php surveys a Composer project: its framework, its tests, and how it can be served.
func (p *project) php() {
	var c composer
	if err := json.Unmarshal([]byte(p.tree.texts["composer.json"]), &c); err != nil {
		p.add(Gap, "composer.json cannot be read: %v", err)
	}
	if p.name == "" {
		p.name = c.Name
	}
	all := p.tree.with(phpFile)
	tests, sources := split(all, func(name string) bool { return inFolder(name, "tests", "test", "Tests") })
	p.phpTests(c, tests)
	p.build.run = []string{"composer install --no-interaction --no-progress --prefer-dist"}
	if len(p.tests[0].run+p.tests[1].run+p.tests[2].run) == 0 {
		p.build.run[0] += " --no-dev -o"
	} else {
		p.add(Guess, "composer installs the packages of require-dev, too: the tests need them, and the artifact carries them")
	}
	p.build.files = []string{".", "vendor"}
	if !p.tree.has("composer.lock") {
		p.add(Gap, "no composer.lock found: two builds of one commit may differ; commit it")
	}
	probe, metrics := p.probe(sources)
	p.roles = []role{{name: "web", run: p.phpRun(c), web: true, probe: probe, metrics: metrics}}
	switch {
	case c.has("laravel/framework"):
		p.variables = append(p.variables, variable{"APP_ENV", "production"}, variable{"LOG_CHANNEL", "stderr"})
		p.secret("APP_KEY", "Laravel")
		p.add(Gap, "Laravel writes to storage and bootstrap/cache, and all but $TMPDIR is read-only: VIEW_COMPILED_PATH, CACHE_STORE and SESSION_DRIVER lead elsewhere; uploads belong into roles.web.volumes")
		if inAny(p.tree.order, "database/migrations/") {
			p.add(Gap, "the migrations of Laravel are not written down: migrations: { up: php artisan migrate --force, down: php artisan migrate:rollback --force }, and name DATABASE_URL under secrets")
		}
	case c.has("symfony/framework-bundle"):
		p.variables = append(p.variables, variable{"APP_ENV", "prod"})
		p.secret("APP_SECRET", "Symfony")
		p.add(Gap, "Symfony writes its cache to var, and all but $TMPDIR is read-only: warm it in build.run (bin/console cache:warmup), and pack var")
	}
}

// phpRun names what serves. FPM speaks no HTTP: it would need a web server of its own beside each instance.
func (p *project) phpRun(c composer) string {
	front := p.phpFront()
	octane := "php artisan octane:start --host=127.0.0.1 --port=$PORT"
	switch {
	case c.has("laravel/octane"):
		p.add(Found, "laravel/octane takes its port as an argument; its server (FrankenPHP, Swoole or RoadRunner) must be installed on the server")
		return octane
	case c.has("spiral/roadrunner") || p.tree.has(".rr.yaml"):
		p.add(Found, "RoadRunner takes its address as an argument; rr must be installed on the server")
		return "rr serve -o http.address=127.0.0.1:$PORT"
	case p.has("frankenphp"):
		p.add(Found, "frankenphp is installed here and takes its address as an argument")
		return "frankenphp php-server --listen 127.0.0.1:$PORT --root " + front
	}
	p.add(Gap, "nothing that serves PHP over HTTP was found: php-fpm needs a web server in front of it, and PHP's own server, which is written down, "+
		"is not made for production; FrankenPHP is: frankenphp php-server --listen 127.0.0.1:$PORT --root %s", front)
	return "php -S 127.0.0.1:$PORT -t " + front
}

// phpTests counts the tests by folder: what Laravel calls feature is integration.
func (p *project) phpTests(c composer, tests []string) {
	var byLevel [3][]string
	for _, name := range tests {
		switch {
		case inFolder(name, "E2E", "e2e", "EndToEnd"):
			byLevel[2] = append(byLevel[2], name)
		case inFolder(name, "Browser"): // Dusk starts a browser, and asks the app of APP_URL
		case inFolder(name, "Feature", "Integration", "Functional", "integration"):
			byLevel[1] = append(byLevel[1], name)
		default:
			byLevel[0] = append(byLevel[0], name)
		}
	}
	runner := ""
	switch {
	case c.has("pestphp/pest"):
		runner = "vendor/bin/pest"
	case c.has("phpunit/phpunit") || c.has("symfony/phpunit-bridge"):
		runner = "vendor/bin/phpunit"
	}
	total := 0
	for i, files := range byLevel {
		n := p.tree.count(files, phpTest)
		total += n
		if n == 0 || runner == "" {
			continue
		}
		report := [3]string{"unit.xml", "int.xml", "e2e.xml"}[i]
		p.tests[i] = level{run: runner + " --log-junit " + report + " " + commonFolder(files), report: report, start: i == 2}
	}
	what := "composer.json"
	for _, f := range []struct{ require, name string }{{"laravel/framework", "Laravel"}, {"symfony/framework-bundle", "Symfony"}, {"slim/slim", "Slim"}} {
		if c.has(f.require) {
			what += ", " + f.name
		}
	}
	p.add(Found, "%s, %s", what, plural(total, "test"))
	if total > 0 && runner == "" {
		p.add(Gap, "neither phpunit nor pest is in require-dev: nothing runs these tests")
	}
	if strings.Contains(strings.Join(tests, " "), "/Browser/") {
		p.add(Gap, "the tests in tests/Browser need a browser and APP_URL: run them as e2e with APP_URL=$BELAY_URL where the server has one")
	}
}

// inAny reports whether one of the files is in a folder.
func inAny(files []string, folder string) bool {
	return slices.ContainsFunc(files, func(name string) bool { return strings.HasPrefix(name, folder) })
}
