package config

import (
	"fmt"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Path is a file or folder of the checkout, relative to the app's folder; it may be a glob.
type Path string

func (p *Path) parse(s string) *fault {
	if strings.HasPrefix(s, "/") || strings.HasPrefix(s, "~") {
		return &fault{id: "path", why: "a path is relative to the app's folder", hint: strings.TrimLeft(s, "/~")}
	}
	if _, err := path.Match(s, ""); err != nil {
		return &fault{id: "path", why: "not a valid pattern", hint: "close the bracket, or escape it"}
	}
	*p = Path(s)
	return nil
}
func (*Path) shape() shape { return shape{name: "path"} }

// outside reports whether the path leaves the folder it is relative to.
func (p Path) outside() bool {
	clean := path.Clean(string(p))
	return clean == ".." || strings.HasPrefix(clean, "../")
}

// URLPath is the path of a URL, with its query.
type URLPath string

var urlPathPattern = regexp.MustCompile(`^/[^ #]*$`)

func (u *URLPath) parse(s string) *fault {
	if strings.Contains(s, "://") {
		return &fault{id: "url", why: "a URL of another host is not asked here", hint: "a path; use tcp, or run"}
	}
	if !urlPathPattern.MatchString(s) {
		f := &fault{id: "url-path", why: "a path begins with / and holds no space or #", hint: "/healthz"}
		if urlPathPattern.MatchString("/" + s) {
			f.hint = "/" + s
		}
		return f
	}
	*u = URLPath(s)
	return nil
}
func (*URLPath) shape() shape { return shape{name: "URL path", pattern: urlPathPattern.String()} }

// Host is a host name that takes traffic.
type Host string

var hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

func (h *Host) parse(s string) *fault {
	if hostPattern.MatchString(s) && len(s) <= 253 {
		*h = Host(s)
		return nil
	}
	f := &fault{id: "host", why: "not a host name", hint: "api.shop.example"}
	bare := strings.ToLower(s)
	if _, rest, ok := strings.Cut(bare, "://"); ok {
		f.why, bare = "a host has no scheme", rest
	}
	if before, _, ok := strings.Cut(bare, "/"); ok {
		if !strings.Contains(s, "://") {
			f.why = "a host has no path"
		}
		bare = before
	}
	switch {
	case strings.Contains(s, "*"):
		f.why, f.hint = "each host is written out", "api.shop.example"
	case hostPattern.MatchString(bare):
		f.hint = bare
	case strings.Contains(bare, ":"):
		f.why = "a host has no port"
		f.hint, _, _ = strings.Cut(bare, ":")
	}
	return f
}
func (*Host) shape() shape { return shape{name: "host", pattern: hostPattern.String()} }

// Prefix is a path prefix of a host.
type Prefix string

func (p *Prefix) parse(s string) *fault {
	var u URLPath
	if f := u.parse(s); f != nil {
		return f
	}
	*p = Prefix(s)
	return nil
}
func (*Prefix) shape() shape { return shape{name: "path prefix", pattern: urlPathPattern.String()} }

// Addr is host:port.
type Addr string

var addrPattern = regexp.MustCompile(`^[^ :/]+:[0-9]+$`)

func (a *Addr) parse(s string) *fault {
	if !addrPattern.MatchString(s) {
		return &fault{id: "address", why: "host:port is expected", hint: `"smtp.example.net:587"`}
	}
	*a = Addr(s)
	return nil
}
func (*Addr) shape() shape { return shape{name: "host:port", pattern: addrPattern.String()} }

// Pattern is a regular expression in Go's syntax.
type Pattern string

func (p *Pattern) parse(s string) *fault {
	if _, err := regexp.Compile(s); err != nil {
		return &fault{id: "pattern", why: "not a regular expression", hint: strings.TrimPrefix(err.Error(), "error parsing regexp: ")}
	}
	*p = Pattern(s)
	return nil
}
func (*Pattern) shape() shape { return shape{name: "regular expression"} }

// PinnedImage is an image named by its digest.
type PinnedImage string

var pinnedPattern = regexp.MustCompile(`^[^ @]+@sha256:[0-9a-f]{64}$`)

func (p *PinnedImage) parse(s string) *fault {
	if !pinnedPattern.MatchString(s) {
		name, _, _ := strings.Cut(s, "@")
		return &fault{id: "mutable-base", why: "a tag can move under you", hint: "pin it: " + withoutTag(name) + "@sha256:…"}
	}
	*p = PinnedImage(s)
	return nil
}
func (*PinnedImage) shape() shape {
	return shape{name: "image by digest", pattern: pinnedPattern.String()}
}

// Repository is an image's repository without a tag.
type Repository string

var repositoryPattern = regexp.MustCompile(`^[a-z0-9._-]+(:[0-9]+)?(/[a-z0-9._-]+)*$`)

func (r *Repository) parse(s string) *fault {
	if name := withoutTag(s); name != s || strings.Contains(s, "@") {
		return &fault{id: "image-tag", why: "the commit's SHA is the tag", hint: "leave it out: " + name}
	}
	if !repositoryPattern.MatchString(s) {
		return &fault{id: "image", why: "not a repository of images", hint: "registry.example/shop/api"}
	}
	*r = Repository(s)
	return nil
}
func (*Repository) shape() shape {
	return shape{name: "repository", pattern: repositoryPattern.String()}
}

func withoutTag(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") && i > 0 && strings.Contains(image[:i], "/") || i > 0 && !strings.Contains(image, "/") {
		return image[:i]
	}
	return image
}

// Service is a server that tests need: its kind and its major version, "" for production's.
type Service struct{ Kind, Version string }

var servicePattern = regexp.MustCompile(`^(postgres|mysql|redis)( [0-9]+)?$`)

func (v *Service) parse(s string) *fault {
	if servicePattern.MatchString(s) {
		v.Kind, v.Version, _ = strings.Cut(s, " ")
		return nil
	}
	kind, version, ok := strings.Cut(s, ":")
	if ok {
		major, _, _ := strings.Cut(strings.TrimSpace(version), ".")
		return &fault{id: "service-version", why: "a service and its version are two words", hint: "write " + kind + " " + major}
	}
	kind, _, _ = strings.Cut(s, " ")
	return pickOr(pick("service", "service", kind, []string{"postgres", "mysql", "redis"}), &fault{id: "service-version", why: "not a major version", hint: kind + " 17"})
}
func (*Service) shape() shape { return shape{name: "service", pattern: servicePattern.String()} }

func (v Service) String() string { return strings.TrimSpace(v.Kind + " " + v.Version) }

func pickOr(f, other *fault) *fault {
	if f != nil {
		return f
	}
	return other
}

// EndpointPattern is "METHOD /path", with * for one segment of the path.
type EndpointPattern string

var endpointPattern = regexp.MustCompile(`^[A-Z]+ /[^ ?#]*$`)

func (e *EndpointPattern) parse(s string) *fault {
	if !endpointPattern.MatchString(s) {
		f := &fault{id: "endpoint", why: "a method and a path are expected", hint: "POST /v1/payments"}
		if strings.HasPrefix(s, "/") && endpointPattern.MatchString("GET "+s) {
			f.hint = "GET " + s
		}
		return f
	}
	*e = EndpointPattern(s)
	return nil
}
func (*EndpointPattern) shape() shape {
	return shape{name: "METHOD /path", pattern: endpointPattern.String()}
}

// Step is one shift of a canary before the last one.
type Step struct {
	Weight Percent
	For    time.Duration // longest time at the weight
	Proved bool          // may end earlier, when it is proven that next is no worse
}

var stepPattern = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?%) (?:for|until proved within) ([0-9]+(?:ms|s|m|h|d))$`)

func (t *Step) parse(s string) *fault {
	m := stepPattern.FindStringSubmatch(s)
	if m == nil {
		if v, ok := parsePercent(s); ok {
			if v >= 1 {
				return &fault{id: "last-step", why: "the last shift always goes to all but the holdback", hint: "leave it out"}
			}
			return &fault{id: "step", why: "for how long?", hint: s + " for " + formatDuration(DefaultSteps[0].For)}
		}
		return &fault{id: "step", why: "not a step", hint: "5% for 15m, or 5% until proved within 30m"}
	}
	weight, ok := parsePercent(m[1])
	long, isDuration := parseDuration(m[2])
	switch {
	case !ok || !isDuration || weight == 0:
		return &fault{id: "step", why: "not a step", hint: "5% for 15m"}
	case weight >= 1:
		return &fault{id: "last-step", why: "the last shift always goes to all but the holdback", hint: "leave it out"}
	}
	*t = Step{Weight: Percent(weight), For: long, Proved: strings.Contains(s, " until ")}
	return nil
}
func (*Step) shape() shape { return shape{name: "step", pattern: stepPattern.String()} }

func (t Step) String() string {
	if t.Proved {
		return fmt.Sprintf("%s until proved within %s", t.Weight, formatDuration(t.For))
	}
	return fmt.Sprintf("%s for %s", t.Weight, formatDuration(t.For))
}

// ProviderPath is the place of a secret in Vault: mount/path#field.
type ProviderPath string

var providerPattern = regexp.MustCompile(`^[^#/ ]+/[^# ]+#[^# ]+$`)

func (p *ProviderPath) parse(s string) *fault {
	if !strings.Contains(s, "#") {
		return &fault{id: "secret-field", why: "which field of it?", hint: s + "#value"}
	}
	if !providerPattern.MatchString(s) {
		return &fault{id: "secret-place", why: "mount/path#field is expected", hint: "kv/shop/$BELAY_ENV#database_url"}
	}
	if !strings.Contains(s, "$BELAY_ENV") {
		return &fault{id: "one-secret", why: "one secret for both environments", hint: perEnvironment(s)}
	}
	*p = ProviderPath(s)
	return nil
}
func (*ProviderPath) shape() shape {
	return shape{name: "mount/path#field", pattern: providerPattern.String()}
}

// perEnvironment puts $BELAY_ENV where a path names an environment, or before its last part.
func perEnvironment(s string) string {
	place, field, cut := strings.Cut(s, "#")
	parts := strings.Split(place, "/")
	for i, part := range parts {
		switch strings.ToLower(part) {
		case "prod", "production", "live", "staging", "stage", "dev":
			parts[i], place = "$BELAY_ENV", ""
		}
	}
	if place != "" {
		parts = append(parts, "$BELAY_ENV")
	}
	if cut {
		return strings.Join(parts, "/") + "#" + field
	}
	return strings.Join(parts, "/")
}

// ServerFile is a file on the server, or one KEY of a dotenv file on it.
type ServerFile string

func (p *ServerFile) parse(s string) *fault {
	if !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "$CREDENTIALS_DIRECTORY/") {
		return &fault{id: "secret-file", why: "a path on the server is absolute", hint: "/etc/shop/$BELAY_ENV.env#NAME"}
	}
	*p = ServerFile(s)
	return nil
}
func (*ServerFile) shape() shape { return shape{name: "file, or file#KEY"} }

// DaemonVar is a variable of the daemon; it names the environment.
type DaemonVar string

func (p *DaemonVar) parse(s string) *fault {
	if !strings.Contains(s, "$BELAY_ENV") {
		return &fault{id: "one-secret", why: "one secret for both environments", hint: s + "_$BELAY_ENV"}
	}
	*p = DaemonVar(s)
	return nil
}
func (*DaemonVar) shape() shape { return shape{name: "variable of the daemon"} }

// Status is an HTTP status.
type Status int

func (v *Status) parse(s string) *fault {
	n, err := strconv.Atoi(s)
	if err != nil || n < 100 || n > 599 {
		return &fault{id: "status", why: "not an HTTP status", hint: strconv.Itoa(DefaultCheckStatus)}
	}
	*v = Status(n)
	return nil
}
func (*Status) shape() shape {
	least, most := 100.0, 599.0
	return shape{name: "number", json: []string{"integer"}, least: &least, most: &most}
}

// Method is an HTTP method.
type Method string

var methodPattern = regexp.MustCompile(`^[A-Z]+$`)

func (v *Method) parse(s string) *fault {
	if !methodPattern.MatchString(s) {
		return &fault{id: "method", why: "not an HTTP method", hint: strings.ToUpper(s)}
	}
	*v = Method(s)
	return nil
}

// reads reports whether the method changes nothing.
func (v Method) reads() bool { return v == http.MethodGet || v == http.MethodHead }
func (*Method) shape() shape { return shape{name: "method", pattern: methodPattern.String()} }
