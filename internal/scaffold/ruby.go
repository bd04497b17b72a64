package scaffold

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	gemLine    = regexp.MustCompile(`(?m)^\s*gem\s+['"]([\w-]+)['"]`)
	rubyTest   = regexp.MustCompile(`(?m)^\s*(?:test\s+['"]|def test_|it\s+['"]|it\s+do\b|it\s*\{|specify\s+['"]|scenario\s+['"])`)
	rubyPort   = regexp.MustCompile(`set\s+:port,\s*(\d{2,5})`)
	rubyEnv    = regexp.MustCompile(`ENV(?:\.fetch\(|\[)\s*['"]PORT['"]`)
	railsUp    = regexp.MustCompile(`get\s+['"]/?up['"]`)
	pumaPID    = regexp.MustCompile(`(?m)^\s*pidfile\b[^\n]*$`)
	railsNames = regexp.MustCompile(`(?m)^\s*adapter:\s*(postgresql|mysql2|trilogy|sqlite3)`)
)

// gems are what a Gemfile names.
func (p *project) gems() []string {
	var names []string
	for _, match := range gemLine.FindAllStringSubmatch(p.tree.texts["Gemfile"], -1) {
		names = append(names, match[1])
	}
	return names
}

// isRuby reports whether the Gemfile is that of a server: others keep tools for other languages in one.
func (p *project) isRuby() bool {
	gems := p.gems()
	return p.tree.has("config.ru") || slices.ContainsFunc([]string{"rails", "sinatra", "rack", "hanami", "roda", "puma"}, func(g string) bool {
		return slices.Contains(gems, g)
	})
}

// ruby surveys a Rails or Rack app.
func (p *project) ruby() {
	gems := p.gems()
	rails := slices.Contains(gems, "rails")
	all := p.tree.with(extension(".rb", ".ru"))
	tests, sources := split(all, func(name string) bool { return inFolder(name, "test", "spec", "features") })
	p.rubyTests(gems, rails, tests)
	p.build.run = []string{"bundle config set --local path vendor/bundle", "bundle install --quiet"}
	p.build.files = []string{".", ".bundle", "vendor/bundle"}
	if p.tree.has("Gemfile.lock") {
		p.build.run = slices.Insert(p.build.run, 1, "bundle config set --local frozen true")
	} else {
		p.add(Gap, "no Gemfile.lock found: two builds of one commit may differ; commit it")
	}
	if slices.ContainsFunc(gems, func(g string) bool { return strings.HasPrefix(g, "rubocop") || g == "standard" }) {
		p.add(Gap, "linters run beside the build, before its gems are there: if rubocop is installed on the server, lint: [rubocop]")
	}
	probe, metrics := p.rubyProbe(sources)
	web := role{name: "web", run: p.rubyRun(gems, sources), web: true, probe: probe, metrics: metrics}
	p.roles = []role{web}
	if rails {
		p.rails(gems)
	}
}

func (p *project) rubyProbe(sources []string) (probe, metrics string) {
	if at, ok := p.tree.find([]string{"config/routes.rb"}, railsUp); ok {
		p.add(Found, "GET /up in %s:%d", at.path, at.line)
		return "{ http: /up }", ""
	}
	return p.probe(sources)
}

// rubyRun names the server. Puma takes its port as an argument.
func (p *project) rubyRun(gems, sources []string) string {
	if at, ok := p.tree.find([]string{"config/puma.rb"}, pumaPID); ok && !strings.Contains(at.text, "PIDFILE") {
		p.add(Gap, "%s:%d writes a pidfile: all but $TMPDIR is read-only; take it out", at.path, at.line)
	}
	for _, server := range []struct{ gem, run string }{
		{"puma", "bundle exec puma -b tcp://127.0.0.1:$PORT"}, {"falcon", "bundle exec falcon serve -b http://127.0.0.1:$PORT"},
		{"unicorn", "bundle exec unicorn -l 127.0.0.1:$PORT"}, {"thin", "bundle exec thin start -a 127.0.0.1 -p $PORT"},
	} {
		if slices.Contains(gems, server.gem) {
			p.add(Found, "it listens on $PORT: %s takes it as an argument", server.gem)
			return server.run
		}
	}
	if p.tree.has("config.ru") {
		p.add(Gap, "no server found in the Gemfile: add puma")
		return "bundle exec rackup -o 127.0.0.1 -p $PORT"
	}
	if !p.port(sources, rubyEnv, rubyPort) {
		p.add(Gap, "where it listens was not found: it must listen on $PORT")
	}
	name := p.tree.first("app.rb", "server.rb", "main.rb")
	if name == "" {
		p.add(Gap, "what starts it was not found: say it under roles.web.run")
		name = "app.rb"
	}
	return "bundle exec ruby " + name
}

// rails adds what every Rails app needs in production, and what its folders show.
func (p *project) rails(gems []string) {
	p.variables = append(p.variables, variable{"RAILS_ENV", "production"}, variable{"RAILS_LOG_TO_STDOUT", "1"})
	p.add(Guess, "RAILS_ENV is production in both environments, and it logs to stdout: all but $TMPDIR is read-only")
	if p.tree.has("config/credentials.yml.enc") {
		p.secret("RAILS_MASTER_KEY", "config/credentials.yml.enc")
	} else {
		p.secret("SECRET_KEY_BASE", "Rails")
	}
	if at, ok := p.tree.find([]string{"config/database.yml"}, railsNames); ok {
		if at.sub[0] == "sqlite3" {
			p.add(Gap, "%s:%d keeps the database in a file: two instances and two releases would share it; use a server, or a role with singleton and a volume", at.path, at.line)
		} else {
			p.secret("DATABASE_URL", "config/database.yml")
		}
	}
	if slices.ContainsFunc(gems, func(g string) bool {
		return slices.Contains([]string{"sprockets-rails", "propshaft", "cssbundling-rails", "jsbundling-rails", "tailwindcss-rails"}, g)
	}) {
		p.build.run = append(p.build.run, "SECRET_KEY_BASE_DUMMY=1 RAILS_ENV=production bundle exec rails assets:precompile")
		p.build.files = append(p.build.files, "public/assets")
	}
	if !p.tree.has("Procfile") && slices.Contains(gems, "sidekiq") {
		p.roles = append(p.roles, role{name: "worker", run: "bundle exec sidekiq", probe: `{ log: "." }`})
		p.add(Found, "sidekiq: role worker")
		p.add(Gap, "the probe of worker takes any line of its log for ready: let it touch $BELAY_HEARTBEAT, then { heartbeat: 30s }")
		p.secret("REDIS_URL", "sidekiq")
	}
}

// secret names a variable whose value belongs into the store, once.
func (p *project) secret(name, from string) {
	if slices.Contains(p.secrets, name) {
		return
	}
	p.secrets = append(p.secrets, name)
	p.add(Guess, "the variable %s is a secret, from %s", name, from)
}

// rubyTests counts the tests by folder and chooses the runner.
func (p *project) rubyTests(gems []string, rails bool, tests []string) {
	tests = slices.DeleteFunc(slices.Clone(tests), func(name string) bool {
		return !strings.HasSuffix(name, "_test.rb") && !strings.HasSuffix(name, "_spec.rb") && !strings.HasPrefix(path.Base(name), "test_")
	})
	var byLevel [3][]string
	for _, name := range tests {
		i := 0
		switch {
		case inFolder(name, "e2e"):
			i = 2
		case inFolder(name, "integration", "requests", "system", "features", "request"):
			i = 1 // also those with a browser: they start a server of their own, not the artifact
		}
		byLevel[i] = append(byLevel[i], name)
	}
	rspec := slices.ContainsFunc(gems, func(g string) bool { return strings.HasPrefix(g, "rspec") })
	junit := slices.Contains(gems, "rspec_junit_formatter")
	total := 0
	for i, files := range byLevel {
		n := p.tree.count(files, rubyTest)
		total += n
		if n == 0 {
			continue
		}
		l := level{start: i == 2}
		where := strings.Join(topFolders(files), " ")
		switch {
		case rspec && junit:
			l.report = [3]string{"unit.xml", "int.xml", "e2e.xml"}[i]
			l.run = "bundle exec rspec " + where + " --format RspecJunitFormatter --out " + l.report
		case rspec:
			l.run = "bundle exec rspec " + where
		case rails:
			l.run = "bin/rails test " + where
		default:
			l.run = `bundle exec ruby -Ilib -Itest -e 'ARGV.each { |d| Dir[d + "/**/*_test.rb"].each { |f| require "./" + f } }' ` + where
		}
		p.tests[i] = l
	}
	if inAny(tests, "test/system/") || inAny(tests, "spec/system/") {
		p.add(Gap, "the tests in system drive a browser against a server of their own: the server of Belay needs one, or leave them out")
	}
	what := "Rack"
	if rails {
		what = "Rails"
	}
	p.add(Found, "Gemfile, %s, %s", what, plural(total, "test"))
	if total > 0 && (!rspec || !junit) {
		p.add(Gap, "no JUnit report is written: these levels are shown as uncounted; rspec_junit_formatter writes one for RSpec")
	}
}

// topFolders are the folders of files, two deep: spec/models, spec/requests.
func topFolders(files []string) []string {
	var folders []string
	for _, name := range files {
		parts := strings.Split(path.Dir(name), "/")
		folder := strings.Join(parts[:min(2, len(parts))], "/")
		if !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	slices.Sort(folders)
	return folders
}
