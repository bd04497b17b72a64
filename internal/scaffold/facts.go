package scaffold

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/config"
)

// hosts are where the app is reached.
type hosts struct{ staging, production string }

var (
	hostName  = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+$`)
	hostURL   = regexp.MustCompile(`https?://([a-zA-Z0-9.-]+\.[a-zA-Z]{2,})`)
	deployed  = regexp.MustCompile(`(?i)\b(production|staging|live (?:at|on)|deployed|hosted|runs (?:at|on))\b`)
	notOurs   = regexp.MustCompile(`(?i)(^|\.)(github\.com|gitlab\.com|shields\.io|githubusercontent\.com|npmjs\.com|pypi\.org|go\.dev|golang\.org|docker\.com|heroku\.com|localhost)$`)
	isStaging = regexp.MustCompile(`(?i)\b(staging|stage|test|preview|qa)\b`)
)

// findHosts takes the host of a CNAME file or of a README's line that speaks of a deployment; else names that lead to this
// machine everywhere.
func (p *project) findHosts() {
	web := false
	for _, r := range p.roles {
		web = web || r.web
	}
	if !web {
		return
	}
	if cname := p.tree.first("CNAME", "public/CNAME", "docs/CNAME", "static/CNAME"); cname != "" {
		if host := strings.TrimSpace(p.tree.texts[cname]); hostName.MatchString(host) {
			p.hosts = hosts{staging: "staging." + strings.TrimPrefix(host, "www."), production: host}
			p.add(Guess, "the hosts: %s and %s, from %s", p.hosts.staging, p.hosts.production, cname)
			return
		}
	}
	if p.readmeHosts() {
		return
	}
	p.hosts = hosts{staging: "staging." + p.name + ".localhost", production: p.name + ".localhost"}
	p.add(Guess, "the hosts: %s and %s: none was found, and these lead to one's own machine", p.hosts.staging, p.hosts.production)
}

func (p *project) readmeHosts() bool {
	readme := p.tree.first("README.md", "README", "README.rst", "readme.md")
	var found hosts
	at := 0
	n := 0
	for line := range strings.Lines(p.tree.texts[readme]) {
		n++
		if !deployed.MatchString(line) {
			continue
		}
		for _, match := range hostURL.FindAllStringSubmatch(line, -1) {
			host := strings.ToLower(match[1])
			switch {
			case notOurs.MatchString(host) || !hostName.MatchString(host):
			case isStaging.MatchString(host) && found.staging == "":
				found.staging = host
			case !isStaging.MatchString(host) && found.production == "":
				found.production, at = host, n
			}
		}
	}
	if found.production == "" {
		return false
	}
	if found.staging == "" {
		found.staging = "staging." + strings.TrimPrefix(found.production, "www.")
	}
	p.hosts = found
	p.add(Guess, "the hosts: %s and %s, from %s:%d", found.staging, found.production, readme, at)
	return true
}

var (
	dotenvLine = regexp.MustCompile(`^(?:export\s+)?([A-Z][A-Z0-9_]*)=(.*)$`)
	secretName = regexp.MustCompile(`(?:^|_)(?:SECRET|TOKEN|PASSWORD|PASSWD|PASS|KEY|DSN|CREDENTIALS?|PRIVATE)(?:_|$)|APIKEY|^(?:DATABASE|DB|REDIS|AMQP|MONGO|MONGODB|POSTGRES|MYSQL|CLOUDAMQP)_UR[IL]$`)
	plainValue = regexp.MustCompile(`^[A-Za-z0-9_./:@,+ -]{1,80}$`)
)

// findVariables reads the names in an example of a dotenv file. Values are taken only for what is no secret.
func (p *project) findVariables() {
	example := p.tree.first(".env.example", ".env.sample", ".env.template", "env.example", ".env.dist")
	n := 0
	for line := range strings.Lines(p.tree.texts[example]) {
		n++
		match := dotenvLine.FindStringSubmatch(strings.TrimSpace(line))
		if match == nil {
			continue
		}
		name, value := match[1], strings.Trim(strings.TrimSpace(match[2]), `"'`)
		switch {
		case name == "PORT" || strings.HasPrefix(name, "BELAY_") || slices.Contains(p.secrets, name):
		case secretName.MatchString(name) || config.LooksSecret(name, value) != "":
			p.secrets = append(p.secrets, name)
			p.add(Guess, "the variable %s is a secret, from %s:%d", name, example, n)
		case !plainValue.MatchString(value):
			p.add(Gap, "the variable %s has no value that could be written, %s:%d: put it under env", name, example, n)
		default:
			p.variables = append(p.variables, variable{name, value})
			p.add(Guess, "%s is %s in both environments, from %s:%d", name, value, example, n)
		}
	}
}

// What a workflow does to production by hand, and how to call it.
var deployMarks = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`systemctl\s+(?:re)?start|service\s+\S+\s+restart|pm2\s+(?:restart|reload)`), "restarts it in place"},
	{regexp.MustCompile(`docker[ -]compose\s+.*\bup\b`), "docker compose up"},
	{regexp.MustCompile(`kubectl\s+(?:apply|set image|rollout)`), "kubectl"},
	{regexp.MustCompile(`helm\s+upgrade`), "helm upgrade"},
	{regexp.MustCompile(`\brsync\s|\bscp\s`), "copies files to a server"},
	{regexp.MustCompile(`(?m)\bssh\s+\S+@`), "ssh"},
	{regexp.MustCompile(`flyctl\s+deploy|fly\s+deploy|heroku\s|vercel\s|netlify\s+deploy`), "deploys to a platform"},
}

// findWorkflows names what deploys today, so that it is taken out when Belay does.
func (p *project) findWorkflows() {
	files := p.tree.with(func(name string) bool {
		workflow := strings.HasPrefix(name, ".github/workflows/") || name == ".gitlab-ci.yml"
		script := path.Ext(name) == ".sh" && strings.Contains(path.Base(name), "deploy")
		return workflow || script
	})
	for _, name := range files {
		for _, mark := range deployMarks {
			if at, ok := p.tree.find([]string{name}, mark.pattern); ok {
				p.add(Found, "%s:%d deploys today (%s): take it out when belay ships", at.path, at.line, mark.name)
				break
			}
		}
	}
}
