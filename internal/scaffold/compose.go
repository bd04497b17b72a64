package scaffold

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/belay-cd/belay/internal/config"
)

// compose is what a compose file says of interest. It describes one machine, so only what is true anywhere is taken.
type compose struct {
	path     string
	Services map[string]composeService `yaml:"services"`
}

type composeService struct {
	Image       string `yaml:"image"`
	Build       any    `yaml:"build"`
	Command     any    `yaml:"command"`
	Ports       []any  `yaml:"ports"`
	Environment any    `yaml:"environment"`
	EnvFile     any    `yaml:"env_file"`
	Healthcheck struct {
		Test any `yaml:"test"`
	} `yaml:"healthcheck"`
}

var (
	composeFiles = []string{"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"}
	imageName    = regexp.MustCompile(`^(?:.*/)?([a-z0-9_.-]+)(?::(?:v)?(\d+)?[^@]*)?(?:@.*)?$`)
	healthURL    = regexp.MustCompile(`https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0)(?::\d+)?(/[^\s"'\]|;]*)`)
	inner        = regexp.MustCompile(`(?:^|:)(\d{2,5})(?:/tcp)?$`)
)

// images are the services that tests can have, by the name of their image.
var images = map[string]string{
	"postgres": "postgres", "postgresql": "postgres", "postgis": "postgres", "redis": "redis", "valkey": "redis", "mysql": "mysql",
}

// readCompose reads the compose file, if there is one.
func (p *project) readCompose() {
	name := p.tree.first(composeFiles...)
	if name == "" {
		return
	}
	p.compose.path = name
	if err := yaml.Unmarshal([]byte(p.tree.texts[name]), &p.compose); err != nil {
		p.compose.Services = nil
		p.add(Gap, "%s cannot be read", name)
	}
}

func (c compose) names() []string { return slices.Sorted(maps.Keys(c.Services)) }

// here reports whether a service is built from the root of the checkout.
func (s composeService) here() bool {
	context, _ := s.Build.(string)
	if m, ok := s.Build.(map[string]any); ok {
		context, _ = m["context"].(string)
		if context == "" {
			context = "."
		}
	}
	return path.Clean(context) == "." && s.Build != nil
}

// health is the path that the health check of a service asks.
func (c compose) health() (service, path string) {
	for _, name := range c.names() {
		s := c.Services[name]
		if match := healthURL.FindStringSubmatch(strings.Join(words(s.Healthcheck.Test), " ")); s.here() && match != nil {
			return name, match[1]
		}
	}
	return "", ""
}

// port is the port on which the first service that is built here listens.
func (c compose) port() (service, port string) {
	for _, name := range c.names() {
		if s := c.Services[name]; s.here() && len(s.Ports) > 0 {
			if match := inner.FindStringSubmatch(fmt.Sprint(s.Ports[0])); match != nil {
				return name, match[1]
			}
		}
	}
	return "", ""
}

// words reads what may be one text or a list of them.
func words(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		list := make([]string, len(v))
		for i, w := range v {
			list[i] = fmt.Sprint(w)
		}
		return list
	}
	return nil
}

// findCompose takes from the compose file what runs beside the web role, what tests need, and the names of variables.
func (p *project) findCompose() {
	c := p.compose
	if len(c.Services) == 0 {
		return
	}
	var said []string
	for _, name := range c.names() {
		s := c.Services[name]
		switch {
		case s.here():
			said = append(said, name+" is built here")
		case s.Build != nil:
			p.add(Gap, "%s: %s is built in another folder: belay -C there init", c.path, name)
		case s.Image != "":
			said = append(said, name+" is "+s.Image)
		}
	}
	if len(said) > 0 {
		p.add(Found, "%s: %s; it is not used to deliver", c.path, strings.Join(said, ", "))
	}
	for _, name := range c.names() {
		s := c.Services[name]
		switch {
		case s.here():
			p.composeRole(name, s)
			p.composeVariables(name, s)
		case s.Build == nil:
			p.composeImage(name, s)
		}
	}
	p.giveServices()
}

// composeRole makes a role of a service that is built here, has a command of its own and takes no traffic.
func (p *project) composeRole(name string, s composeService) {
	argv := words(s.Command)
	if len(argv) == 0 || len(s.Ports) > 0 {
		return
	}
	run := argv[0]
	if _, isList := s.Command.([]any); isList {
		quoted := make([]string, len(argv))
		for i, w := range argv {
			quoted[i] = w
			if strings.ContainsAny(w, " \t'\"$&|;<>()*?\\`#") {
				quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
			}
		}
		run = strings.Join(quoted, " ")
	}
	run = strings.TrimSpace(run)
	worker := role{name: appName(name), run: run, probe: `{ log: "." }`}
	if run == "" || slices.ContainsFunc(p.roles, func(r role) bool { return r.name == worker.name || r.run == run }) {
		return
	}
	p.roles = append(p.roles, worker)
	p.add(Guess, "role %s: the command of %s in %s", worker.name, name, p.compose.path)
	p.add(Gap, "the probe of %s takes any line of its log for ready: let it touch $BELAY_HEARTBEAT, then { heartbeat: 30s }", worker.name)
}

// composeVariables takes names of variables. Values of a dotenv file that is no example are never written.
func (p *project) composeVariables(service string, s composeService) {
	where := p.compose.path + ", " + service
	values := map[string]string{}
	switch e := s.Environment.(type) {
	case map[string]any:
		for name, v := range e {
			if v != nil {
				values[name] = fmt.Sprint(v)
			} else {
				values[name] = "$"
			}
		}
	case []any:
		for _, line := range words(e) {
			name, v, set := strings.Cut(line, "=")
			if !set {
				v = "$"
			}
			values[name] = v
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		p.composeVariable(name, values[name], where)
	}
	for _, file := range words(s.EnvFile) {
		file = path.Clean(file)
		for line := range strings.Lines(p.tree.texts[file]) {
			if match := dotenvLine.FindStringSubmatch(strings.TrimSpace(line)); match != nil {
				p.composeVariable(match[1], "$", file)
			}
		}
	}
}

var variableName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

func (p *project) composeVariable(name, value, where string) {
	known := slices.Contains(p.secrets, name) || slices.ContainsFunc(p.variables, func(v variable) bool { return v.name == name })
	switch {
	case known || name == "PORT" || strings.HasPrefix(name, "BELAY_") || !variableName.MatchString(name):
	case secretName.MatchString(name) || config.LooksSecret(name, value) != "":
		p.secret(name, where)
	case value == "$" || !plainValue.MatchString(value) || strings.Contains(value, "${"):
		p.add(Gap, "the variable %s (%s): say its value in each environment under env", name, where)
	case p.compose.means(value):
		p.add(Gap, "the variable %s leads to a service of %s: say under env where that is in each environment", name, p.compose.path)
	default:
		p.variables = append(p.variables, variable{name, value})
		p.add(Guess, "%s is %s in both environments, from %s", name, value, where)
	}
}

// means reports whether a value names another service as its host.
func (c compose) means(value string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune("/:@,; ", r) }), func(word string) bool {
		_, named := c.Services[word]
		return named
	})
}

// composeImage notes what tests can have of their own.
func (p *project) composeImage(name string, s composeService) {
	match := imageName.FindStringSubmatch(s.Image)
	if match == nil {
		return
	}
	kind, ok := images[match[1]]
	if !ok {
		p.add(Gap, "%s: %s (%s) is no service that tests get by themselves: say its address under env", p.compose.path, name, s.Image)
		return
	}
	if kind != match[1] && kind == "redis" || match[2] == "" || match[1] == "postgis" {
		p.services = append(p.services, kind) // its number is another product's, or there is none
		return
	}
	p.services = append(p.services, kind+" "+match[2])
}

// giveServices gives each level that works with them its databases.
func (p *project) giveServices() {
	if len(p.services) == 0 {
		return
	}
	slices.Sort(p.services)
	p.services = slices.Compact(p.services)
	var levels []string
	for i := range p.tests {
		if p.tests[i].run != "" && (i > 0 || p.tree.has("bin/rails")) {
			p.tests[i].services = p.services
			levels = append(levels, levelNames[i])
		}
	}
	if len(levels) > 0 {
		p.add(Guess, "%s: each run of %s gets its own, from %s", strings.Join(p.services, ", "), strings.Join(levels, " and "), p.compose.path)
	}
}
