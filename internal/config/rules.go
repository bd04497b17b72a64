package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/metric"
)

// rules checks what keys say about each other. Values that could not be read are left out: their findings stand
// already.
func (f *File) rules() {
	f.needed()
	f.rulesCluster()
	f.rulesInputs()
	f.rulesBuild()
	f.rulesTest()
	f.rulesVariables()
	f.rulesMigrations()
	for _, name := range inOrder(&f.places, "roles", f.Roles) {
		f.rulesRole("roles."+name, f.Roles[name])
	}
	f.rulesHosts()
	f.rulesConsumers()
	f.rulesVerify()
	f.rulesGates()
	f.rulesRollout()
	f.rulesGuard()
	f.rulesParity()
}

func (f *File) fail(id, path, hint, format string, args ...any) {
	f.errorf(id, f.Pos(path), hint, "%s: %s", path, fmt.Sprintf(format, args...))
}

func (f *File) failKey(id, path, hint, format string, args ...any) {
	f.errorf(id, f.KeyPos(path), hint, "%s: %s", path, fmt.Sprintf(format, args...))
}

// needed reports the blocks that must be there.
func (f *File) needed() {
	top := Span{1, 1, 2}
	for _, k := range []struct{ path, hint string }{
		{"app", "app: shop-api"},
		{"build", "build: { run: …, files: […] }"},
		{"test", "test: { unit: …, integration: …, e2e: … }"},
		{"roles", "roles: { web: { run: …, hosts: …, probe: … } }"},
	} {
		if !f.Has(k.path) {
			f.errorf("missing", top, k.hint, "%s: it is missing", k.path)
		}
	}
	if f.readable("roles") && len(f.Roles) == 0 {
		f.fail("missing", "roles", "web: { run: …, hosts: …, probe: … }", "the app has no role")
	}
	for _, name := range inOrder(&f.places, "metrics", f.Metrics) {
		if !f.Has("metrics." + name + ".query") {
			f.failKey("missing", "metrics."+name, "{ query: rate(x_total), good: up }", "its query is missing")
		}
	}
}

// either reports two keys of which one says it all, at the later one.
func (f *File) either(base string, keys []string, what string) {
	var there []string
	for _, k := range keys {
		if f.Has(base + "." + k) {
			there = append(there, k)
		}
	}
	there = f.order(base, there)
	for _, k := range there[min(1, len(there)):] {
		first := base + "." + there[0]
		f.failKey("two-of-one", base+"."+k, "keep one", "%s (line %d) already says %s", first, f.KeyPos(first).Line, what)
	}
}

// needs reports a key that makes no sense without another.
func (f *File) needs(base, key string, others ...string) {
	if !f.Has(base + "." + key) {
		return
	}
	for _, o := range others {
		if f.Has(base + "." + o) {
			return
		}
	}
	f.failKey("needs", base+"."+key, "write "+others[0]+", or take "+key+" away", "it needs %s", strings.Join(others, " or "))
}

// never reports a key that cannot stand beside another.
func (f *File) never(base, key string, others ...string) {
	for _, o := range others {
		if f.Has(base+"."+key) && f.Has(base+"."+o) {
			f.failKey("not-together", base+"."+key, "keep one", "it cannot stand with %s (line %d)", o, f.KeyPos(base+"."+o).Line)
		}
	}
}

func (f *File) rulesCluster() {
	if !f.Has("kubernetes") {
		return
	}
	if f.Driver != Kubernetes && !f.bad["driver"] {
		f.failKey("needs", "kubernetes", "driver: kubernetes, or take it away", "this app's driver is %s", f.Driver)
	}
	if k := f.Kubernetes; k != nil && f.readable("kubernetes.namespace") && k.Namespace.Staging == k.Namespace.Production {
		f.fail("one-namespace", "kubernetes.namespace.production", "each needs its own", "%s is also staging's", k.Namespace.Production)
	}
}

func (f *File) rulesBuild() {
	if !f.Has("build") {
		return
	}
	f.either("build", []string{"files", "dockerfile", "image"}, "what the artifact is")
	if f.Has("build") && !f.bad["build"] && !f.Has("build.files") && !f.Has("build.dockerfile") && !f.Has("build.image") {
		f.failKey("missing", "build", "one of files: […], dockerfile: …, image: …", "what is the artifact?")
	}
	for _, k := range []string{"context", "target", "args"} {
		f.needs("build", k, "dockerfile")
	}
	f.needs("build", "base", "files")
	if !f.Has("build.lint") && !f.bad["build"] {
		f.warnf("no-linter", f.KeyPos("build"), "lint: [go vet ./...], or what checks your language", "build.lint: no linter runs")
	}
	for i, c := range f.Build.Cache {
		if slices.ContainsFunc(f.Build.Files, func(p Path) bool { return strings.TrimSuffix(string(p), "/") == strings.TrimSuffix(string(c), "/") }) {
			f.fail("cache-packed", fmt.Sprintf("build.cache[%d]", i), "take it out of one of them", "%s is also in build.files", c)
		}
	}
	f.paths("build.files", f.Build.Files)
	f.paths("build.cache", f.Build.Cache)
	for i, name := range f.Build.Secrets {
		if at, ok := f.secretPlace(string(name)); ok {
			f.fail("build-secret", fmt.Sprintf("build.secrets[%d]", i), "use two names", "%s is also a secret of the roles: line %d", name, at.Line)
		}
	}
	f.positive("build.timeout", f.Build.Timeout)
}

// paths refuses what leaves the app's folder.
func (f *File) paths(path string, list []Path) {
	for i, p := range list {
		if p.outside() {
			f.fail("outside", fmt.Sprintf("%s[%d]", path, i), "move it into the folder", "%s lies outside the app's folder", p)
		}
	}
}

func (f *File) positive(path string, d Duration) {
	if f.readable(path) && d <= 0 {
		f.fail("zero", path, "90s, 15m or 1h", "it must be longer than 0")
	}
}

func (f *File) rulesTest() {
	if !f.Has("test") || f.bad["test"] {
		return
	}
	none := 0
	for _, l := range f.Test.Level() {
		path := "test." + l.Name
		if !f.Has(path) {
			f.errorf("level-missing", f.KeyPos("test"), fmt.Sprintf("write %s: { run: … }, or %s: { none: <reason> }", l.Name, l.Name), "%s: the level is missing", path)
			continue
		}
		if l.Level == nil || f.bad[path] {
			continue
		}
		if f.Has(path + ".none") {
			none++
		}
		f.rulesLevel(path, l.Level)
	}
	if none == 3 {
		f.failKey("no-tests", "test", "write one level: e2e starts the app and asks its probe", "all three levels are none: nothing is tested")
	}
}

func (f *File) rulesLevel(path string, l *Level) {
	run, none := f.Has(path+".run"), f.Has(path+".none")
	switch {
	case run && none:
		f.failKey("two-of-one", path+".none", "keep one", "run (line %d) says that there is one", f.KeyPos(path+".run").Line)
	case !run && !none:
		f.failKey("level-empty", path, "{ run: … }, or { none: <reason> }", "it says neither run nor none")
	case none:
		for _, k := range []string{"report", "services", "start", "shards", "inputs", "env", "timeout"} {
			if f.Has(path + "." + k) {
				f.failKey("not-together", path+"."+k, "take it away", "a level that does not exist has no %s", k)
			}
		}
		if f.readable(path + ".none") {
			f.warnf("declared-gap", f.KeyPos(path), "", "%s: a declared gap: %s", path, l.None)
		}
	}
	if part, weak := l.Run.CannotFail(); weak && f.readable(path+".run") {
		hint := "write the tests' command, or { none: <reason> }"
		if part != "" {
			hint = `take "` + oneLine(part) + `" away`
		}
		f.fail("cannot-fail", path+".run", hint, "this command cannot fail")
	}
	for i, name := range l.Start {
		at := fmt.Sprintf("%s.start[%d]", path, i)
		role, ok := f.Roles[string(name)]
		if !ok {
			f.fail("unknown-role", at, f.didYouMeanRole(string(name)), "unknown role %s", name)
		} else if role.Schedule.Zone != nil {
			f.fail("scheduled-role", at, "take it out", "%s has a schedule: it is started by the clock", name)
		}
	}
	if f.readable(path+".shards") && (l.Shards < 1 || l.Shards > MaxShards) {
		f.fail("range", path+".shards", "", "1 to %d", MaxShards)
	}
	f.rulesShards(path, l)
	for _, name := range inOrder(&f.places, path+".env", l.Env) {
		f.literal(path+".env."+name, name, string(l.Env[name]), false)
	}
	f.positive(path+".timeout", l.Timeout)
}

func (f *File) didYouMeanRole(name string) string {
	names := inOrder(&f.places, "roles", f.Roles)
	if near := nearest(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	return "there are: " + strings.Join(names, ", ")
}

// literal refuses names that Belay sets itself, and values that look like secrets. may says that the value could move to
// secrets.
func (f *File) literal(path, name, value string, may bool) {
	if name == "PORT" || strings.HasPrefix(name, "BELAY_") {
		f.failKey("reserved", path, "use another name", "Belay sets %s itself", name)
	}
	kind := looksSecret(name, value)
	if kind == "" || f.bad[path] {
		return
	}
	at := f.Pos(path)
	f.mask(at)
	hint := "tests get no secrets: use a value made for tests"
	if may {
		env := domain.Staging
		if strings.HasSuffix(path, ".production") {
			env = domain.Production
		}
		hint = fmt.Sprintf("name it under secrets.store; belay secret set %s --env %s; rotate it", name, env)
	}
	f.errorf("literal-secret", at, hint, "%s: it looks like a secret (%s)", path, kind)
}

// literalEnv checks both columns of a variable.
func (f *File) literalEnv(path, name string, v Env[Text]) {
	if !v.Columns {
		f.literal(path, name, string(v.Staging), true)
		return
	}
	f.literal(path, name, "", true)
	for _, env := range domain.Environments {
		if at := path + "." + string(env); f.Has(at) {
			f.literal(at, "", "", true)
			if kind := looksSecret(name, string(v.In(env))); kind != "" {
				f.mask(f.Pos(at))
				f.errorf("literal-secret", f.Pos(at), fmt.Sprintf("name it under secrets.store; belay secret set %s --env %s; rotate it", name, env),
					"%s: it looks like a secret (%s)", at, kind)
			}
		}
	}
}

// secretPlace returns where a name is declared as a secret of the roles.
func (f *File) secretPlace(name string) (Span, bool) {
	for i, v := range f.Secrets.Store {
		if string(v) == name {
			return f.Pos(fmt.Sprintf("secrets.store[%d]", i)), true
		}
	}
	for _, provider := range []string{"vault", "file", "env", "exec"} {
		if path := "secrets." + provider + "." + name; f.Has(path) {
			return f.KeyPos(path), true
		}
	}
	return Span{}, false
}

func (f *File) rulesVariables() {
	for _, name := range inOrder(&f.places, "env", f.Env) {
		f.literalEnv("env."+name, name, f.Env[name])
	}
	seen := map[string]Span{}
	secret := func(name string, at Span) {
		switch first, twice := seen[name]; {
		case twice:
			f.errorf("secret-twice", at, "keep one", "%s has two providers: line %d has it already", name, first.Line)
		case f.Has("env." + name):
			f.errorf("secret-and-variable", at, "keep one", "%s is both a secret and a variable: line %d has it under env", name, f.KeyPos("env."+name).Line)
		case name == "PORT" || strings.HasPrefix(name, "BELAY_"):
			f.errorf("reserved", at, "use another name", "%s: Belay sets it itself", name)
		}
		seen[name] = at
	}
	for i, name := range f.Secrets.Store {
		secret(string(name), f.Pos(fmt.Sprintf("secrets.store[%d]", i)))
	}
	for _, m := range f.secretMaps() {
		for _, name := range f.order("secrets."+m.provider, m.names) {
			secret(name, f.KeyPos("secrets."+m.provider+"."+name))
		}
	}
	for _, name := range inOrder(&f.places, "secrets.file", f.Secrets.File) {
		if place := string(f.Secrets.File[name]); place != "" && !strings.Contains(place, "$BELAY_ENV") {
			f.warnf("one-secret", f.Pos("secrets.file."+name), perEnvironment(place), "secrets.file.%s: one secret for both environments", name)
		}
	}
}

// secretMaps returns the names of the secrets of each provider but the store.
func (f *File) secretMaps() []struct {
	provider string
	names    []string
} {
	s := f.Secrets
	return []struct {
		provider string
		names    []string
	}{
		{"vault", inOrder(&f.places, "secrets.vault", s.Vault)},
		{"file", inOrder(&f.places, "secrets.file", s.File)},
		{"env", inOrder(&f.places, "secrets.env", s.Env)},
		{"exec", inOrder(&f.places, "secrets.exec", s.Exec)},
	}
}

// SecretNames returns the names of all secrets of the roles, sorted.
func (f *File) SecretNames() []string {
	var out []string
	for _, v := range f.Secrets.Store {
		out = append(out, string(v))
	}
	for _, m := range f.secretMaps() {
		out = append(out, m.names...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (f *File) rulesMigrations() {
	m := f.Migrations
	if m == nil || f.bad["migrations"] {
		return
	}
	f.either("migrations", []string{"tool", "up"}, "how the schema is changed")
	if !f.Has("migrations.tool") && !f.Has("migrations.up") {
		f.failKey("missing", "migrations", "tool: goose, or up: … and down: …", "how is the schema changed?")
	}
	if f.Has("migrations.up") && !f.Has("migrations.down") {
		f.failKey("needs", "migrations.up", "write down: …", "it needs down: without it nothing can be taken back")
	}
	f.needs("migrations", "down", "up")
	f.needs("migrations", "status", "up")
	if f.readable("migrations.lock_timeout") && m.LockTimeout.D() > MaxLockTimeout {
		f.fail("range", "migrations.lock_timeout", formatDuration(DefaultLockTimeout), "above %s requests pile up behind the lock", formatDuration(MaxLockTimeout))
	}
	if _, ok := f.secretPlace(string(m.Database)); !ok && !f.bad["migrations.database"] {
		f.fail("not-a-secret", "migrations.database", "secrets: { store: ["+string(m.Database)+"] }", "%s is not a secret", m.Database)
	}
	f.positive("migrations.timeout", m.Timeout)
}

// metricNames are the names that expressions may use.
func (f *File) metricNames() []string {
	return append(inOrder(&f.places, "metrics", f.Metrics), metric.Builtin...)
}
