package config

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

func (f *File) rulesRole(path string, r *Role) {
	if f.bad[path] {
		return
	}
	if f.Has(path+".run") && f.Has(path+".static") {
		f.either(path, []string{"run", "static"}, "what runs")
	}
	if f.Has("build.files") && !f.Has(path+".run") && !f.Has(path+".static") {
		f.failKey("missing", path, "run: …, or static: <folder>", "what runs? an artifact of files has no command of its own")
	}
	for _, k := range []string{"probe", "port"} {
		if f.Has(path+".static") && f.Has(path+"."+k) {
			f.failKey("not-together", path+"."+k, "leave it out", "Belay serves the folder itself")
		}
	}
	if f.readable(path+".static") && r.Static.outside() {
		f.fail("outside", path+".static", "a folder of build.files", "%s lies outside the artifact", r.Static)
	}
	for _, k := range []string{"paths", "tls"} {
		f.needs(path, k, "hosts")
	}
	for _, k := range []string{"overlap", "timeout"} {
		f.needs(path, k, "schedule")
	}
	f.never(path, "schedule", "hosts", "instances")
	f.never(path, "singleton", "hosts", "schedule", "instances")
	f.needs(path, "jobs", "metrics")
	if f.Has(path+".port") && f.readable(path+".port") {
		if f.Driver == Process {
			f.failKey("fixed-port", path+".port", "leave it out and listen on $PORT (driver process)", "two instances on one machine cannot share it")
		} else if r.Port < 1 || r.Port > MaxPort {
			f.fail("range", path+".port", "", "1 to %d", MaxPort)
		}
	}
	f.rulesInstances(path, r)
	f.rulesSchedule(path, r)
	f.rulesScheduler(path, r)
	f.rulesProbe(path, r)
	if f.readable(path+".drain") && r.Drain.D() > MaxDrain {
		f.fail("range", path+".drain", formatDuration(MaxDrain), "at most %s: next waits for it", formatDuration(MaxDrain))
	}
	for _, v := range inOrder(&f.places, path+".env", r.Env) {
		at := path + ".env." + v
		if f.Has("env." + v) {
			f.failKey("variable-twice", at, "keep one", "env has it too: line %d", f.KeyPos("env."+v).Line)
		} else if place, ok := f.secretPlace(v); ok {
			f.failKey("secret-and-variable", at, "keep one", "it is also a secret: line %d", place.Line)
		}
		f.literalEnv(at, v, r.Env[v])
	}
	f.rulesVolumes(path, r)
}

func (f *File) rulesInstances(path string, r *Role) {
	at := path + ".instances"
	if !f.readable(at) {
		return
	}
	for _, env := range domain.Environments {
		n, where := r.Instances.In(env), at
		if r.Instances.Columns {
			where = at + "." + string(env)
		}
		switch {
		case n == 0:
			f.errorf("range", f.Pos(where), "2 or more", "%s: at least 1", at)
		case n > MaxInstances:
			f.errorf("range", f.Pos(where), strconv.Itoa(MaxInstances), "%s: at most %d", at, MaxInstances)
		case int(n) < MinProductionInstances && env == domain.Production:
			f.errorf("one-instance", f.Pos(where), "2 or more", "%s: 1 in production: nobody serves while it restarts", at)
		case int(n) < MinProductionInstances && f.Rollout.Strategy == Rolling:
			f.errorf("one-instance", f.Pos(where), "2 or more", "%s: rolling with 1: nobody serves while it is replaced", at)
		default:
			continue
		}
		if !r.Instances.Columns {
			return
		}
	}
}

var probeKinds = []string{"http", "tcp", "exec", "heartbeat", "log"}

func (f *File) rulesProbe(path string, r *Role) {
	at := path + ".probe"
	if !f.Has(at) {
		if !f.Has(path+".static") && !f.Has(path+".schedule") {
			f.errorf("probe-missing", f.KeyPos(path), f.probeHint(path), "%s: it is missing: without it nobody knows when an instance is ready", at)
		}
		return
	}
	p := r.Probe
	if p == nil || f.bad[at] {
		return
	}
	f.either(at, probeKinds, "how the instance is asked")
	kinds := 0
	for _, k := range probeKinds {
		if f.Has(at + "." + k) {
			kinds++
		}
	}
	if kinds == 0 && f.readable(at) {
		f.fail("probe-kind", at, "{ http: /healthz }", "one of http, tcp, exec, heartbeat, log is expected")
	}
	if f.readable(at+".tcp") && !bool(p.TCP) {
		f.fail("probe-tcp", at+".tcp", "tcp: true, or another kind", "false asks nobody")
	}
	if p.HTTP != "" && f.Has(path+".schedule") {
		f.failKey("probe-http", at+".http", "exec, heartbeat or log", "a job does not listen")
	}
	f.positive(at+".every", p.Every)
	f.positive(at+".timeout", p.Timeout)
	f.positive(at+".start_within", p.StartWithin)
	f.positive(at+".heartbeat", p.Heartbeat)
	if f.readable(at+".timeout") && p.Timeout >= p.Every && p.Every > 0 {
		f.fail("probe-timeout", at+".timeout", "shorter than "+p.Every.String(), "probes would overlap: they come every %s", p.Every)
	}
}

// probePaths are paths under which apps tell their health, the likeliest first.
var probePaths = []string{"/healthz", "/health/ready", "/readyz", "/health", "/ready", "/api/health", "/api/healthz", "/up", "/ping", "/livez"}

// probeHint proposes a probe; with a checkout, the one that the source serves.
func (f *File) probeHint(path string) string {
	if !f.Has(path + ".hosts") {
		return "probe: { heartbeat: 30s }, or { exec: … }"
	}
	if f.opts.Dir != nil {
		if found, place := findServed(f.opts.Dir); found != "" {
			return fmt.Sprintf("probe: { http: %s } (%s serves it)", found, place)
		}
	}
	return "probe: { http: /healthz }"
}

// findServed looks for a quoted path of probePaths in the sources of a checkout. It reads a bounded number of files.
func findServed(dir fs.FS) (path, place string) {
	const maxFiles, maxBytes = 2000, 512 << 10
	best, files := len(probePaths), 0
	_ = fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error { // a folder that cannot be read gives no hint
		if err != nil {
			return fs.SkipDir
		}
		if d.IsDir() {
			if base := d.Name(); name != "." && (strings.HasPrefix(base, ".") || base == "node_modules" || base == "vendor" || base == "target" || base == "dist") {
				return fs.SkipDir
			}
			return nil
		}
		if files++; files > maxFiles || best == 0 {
			return fs.SkipAll
		}
		if !isSource(name) {
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() > maxBytes || !info.Mode().IsRegular() {
			return nil //nolint:nilerr // only a hint is missing
		}
		src, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil //nolint:nilerr // only a hint is missing
		}
		for i, p := range probePaths[:best] {
			if line := quotedLine(string(src), p); line > 0 {
				best, path, place = i, p, fmt.Sprintf("%s:%d", name, line)
				break
			}
		}
		return nil
	})
	return path, place
}

func isSource(name string) bool {
	if strings.HasSuffix(name, "_test.go") || strings.Contains(name, ".test.") || strings.Contains(name, ".spec.") {
		return false
	}
	for _, ext := range []string{".go", ".js", ".mjs", ".ts", ".py", ".rb", ".java", ".kt", ".rs", ".php", ".ex", ".cs"} {
		if strings.HasSuffix(name, ext) {
			return true
		}
	}
	return false
}

// quotedLine returns the line on which src has the path at the beginning or the end of a quoted text, 0 when nowhere.
func quotedLine(src, path string) int {
	at := -1
	for _, q := range []string{`"`, `'`, "`"} {
		for _, form := range []string{q + path + q, " " + path + q} {
			if i := strings.Index(src, form); i >= 0 && (at < 0 || i < at) {
				at = i
			}
		}
	}
	if at < 0 {
		return 0
	}
	return strings.Count(src[:at], "\n") + 1
}

// databaseFolders are folders in which databases keep their data.
var databaseFolders = []string{"/var/lib/postgresql", "/var/lib/mysql", "/var/lib/redis", "/data/db", "/var/lib/mongodb", "pgdata", "postgres-data", "mysql-data"}

func (f *File) rulesVolumes(path string, r *Role) {
	for _, name := range inOrder(&f.places, path+".volumes", r.Volumes) {
		at, folder := path+".volumes."+name, r.Volumes[name]
		if folder != "" && folder.outside() {
			f.fail("outside", at, "a folder below the app's", "%s lies outside the app's folder", folder)
		}
		for _, db := range databaseFolders {
			if strings.HasPrefix(strings.Trim(string(folder), "/"), strings.Trim(db, "/")) {
				f.warnf("database-volume", f.Pos(at), "run the database beside Belay", "%s: two releases would write one database's files", at)
			}
		}
	}
}

// rulesHosts checks the hosts of all roles against each other.
func (f *File) rulesHosts() {
	type owner struct{ env, role, prefix string }
	taken := map[string][]owner{} // by host
	for _, name := range inOrder(&f.places, "roles", f.Roles) {
		r, path := f.Roles[name], "roles."+name+".hosts"
		if !f.Has(path) || f.bad[path] {
			continue
		}
		for _, env := range domain.Environments {
			column := path + "." + string(env)
			if f.readable(column) && len(r.Hosts.In(env)) == 0 {
				f.fail("empty", column, "[api.shop.example]", "it has no host")
			}
			for i, host := range r.Hosts.In(env) {
				for _, prefix := range r.Paths {
					o := owner{string(env), name, string(prefix)}
					at := f.Pos(fmt.Sprintf("%s[%d]", column, i))
					for _, other := range taken[string(host)] {
						if other.env != o.env {
							f.errorf("host-in-both", at, "each needs its own", "%s: %s is also in %s", column, host, other.env)
							break
						}
						if other.prefix == o.prefix {
							f.errorf("host-taken", at, "paths: [/"+name+"/]", "%s: %s%s belongs to roles.%s already", column, host, prefix, other.role)
							break
						}
					}
					taken[string(host)] = append(taken[string(host)], o)
				}
			}
		}
	}
}
