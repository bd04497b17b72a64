package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// Kind returns how the role takes part in a rollout.
func (r *Role) Kind() domain.RoleKind {
	switch {
	case r.Schedule.Zone != nil:
		return domain.Cron
	case bool(r.Singleton):
		return domain.Singleton
	case len(r.Hosts.Staging)+len(r.Hosts.Production) > 0:
		return domain.Web
	default:
		return domain.Worker
	}
}

// RoleNames returns the names of the roles in the order of the file.
func (f *File) RoleNames() []string { return inOrder(&f.places, "roles", f.Roles) }

// CheckNames returns the names of the checks in the order of the file.
func (f *File) CheckNames() []string { return inOrder(&f.places, "verify.checks", f.Verify.Checks) }

// MetricNames returns the names that `metrics` defines, in the order of the file.
func (f *File) MetricNames() []string { return inOrder(&f.places, "metrics", f.Metrics) }

// Workloads returns what each role is in an environment, sorted by role. Variables are all but those of Belay and
// secrets: Secrets names the latter, and whoever has the values puts them into Env.
func Workloads(f *File, env domain.Environment) []domain.Workload {
	secrets := f.SecretNames()
	var out []domain.Workload
	for _, name := range slices.Sorted(maps.Keys(f.Roles)) {
		out = append(out, workload(f, name, f.Roles[name], env, secrets))
	}
	return out
}

func workload(f *File, name string, r *Role, env domain.Environment, secrets []string) domain.Workload {
	w := domain.Workload{
		Role: name, Kind: r.Kind(), Run: r.Run.Text, Static: string(r.Static), Port: int(r.Port),
		Instances: int(r.Instances.In(env)), Env: map[string]string{}, Secrets: secrets,
		Metrics: string(r.Metrics), CPU: float64(r.CPU.In(env)), Memory: int64(r.Memory.In(env)), Drain: r.Drain.D(),
		TLS: string(r.TLS),
	}
	for _, vars := range []map[string]Env[Text]{f.Env, r.Env} {
		for k, v := range vars {
			w.Env[k] = string(v.In(env))
		}
	}
	if p := r.Probe; p != nil {
		w.Probe = domain.Probe{HTTP: string(p.HTTP), TCP: bool(p.TCP), Exec: p.Exec.Text, Heartbeat: p.Heartbeat.D(), Log: string(p.Log),
			Every: p.Every.D(), Timeout: p.Timeout.D(), StartWithin: p.StartWithin.D()}
	}
	if j := r.Jobs; j != nil {
		w.Jobs = &domain.Jobs{Done: string(j.Done), Failed: string(j.Failed), Lag: string(j.Lag)}
	}
	if w.Kind == domain.Cron {
		w.Instances, w.Schedule, w.Overlap, w.Timeout = 0, r.Schedule.String(), string(r.Overlap), r.Timeout.D()
	}
	if len(r.Volumes) > 0 {
		w.Volumes = map[string]string{}
		for k, v := range r.Volumes {
			w.Volumes[k] = string(v)
		}
	}
	for _, h := range r.Hosts.In(env) {
		w.Hosts = append(w.Hosts, string(h))
	}
	for _, p := range r.Paths {
		w.Paths = append(w.Paths, string(p))
	}
	return w
}

// HashOf returns sha256:… over workloads without the values of secrets: two releases with the same hash and the same
// artifact differ in secret versions or the schema only. The order of the workloads does not matter.
func HashOf(workloads []domain.Workload) string {
	clean := slices.Clone(workloads)
	slices.SortFunc(clean, func(a, b domain.Workload) int { return strings.Compare(a.Role, b.Role) })
	for i := range clean {
		vars := maps.Clone(clean[i].Env)
		for _, name := range clean[i].Secrets {
			delete(vars, name)
		}
		clean[i].Env = vars
	}
	text, err := json.Marshal(clean)
	if err != nil { // plain data: cannot happen
		return ""
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Hash returns the HashOf of a file's workloads in an environment.
func Hash(f *File, env domain.Environment) string { return HashOf(Workloads(f, env)) }

// ValidName reports whether s may be the name of an app or a role.
func ValidName(s string) bool {
	var n Name
	return n.parse(s) == nil
}
