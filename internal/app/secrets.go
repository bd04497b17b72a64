package app

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
	"github.com/belay-cd/belay/internal/secrets"
	"github.com/belay-cd/belay/internal/store"
)

// sealed lets the store keep values of secrets that only this server can read.
type sealed struct{ *secrets.Sealer }

// Seal binds the value to the place that aad names.
func (s sealed) Seal(plain []byte, aad string) ([]byte, error) {
	return []byte(s.Sealer.Seal(secrets.Place{Name: aad}, domain.NewSecret(string(plain)))), nil
}

// Open fails for another place.
func (s sealed) Open(sealed []byte, aad string) ([]byte, error) {
	v, err := s.Sealer.Open(secrets.Place{Name: aad}, string(sealed))
	return []byte(v.Reveal()), err
}

// versions numbers the values of secrets.
type versions struct{ store *store.Store }

// Version returns the number of a value by its fingerprint.
func (v versions) Version(app, env, name, fingerprint string) (int, error) {
	return v.store.SecretVersion(context.Background(), app, domain.Environment(env), name, fingerprint)
}

// See notes when a version of a provider with numbers of its own was seen first.
func (v versions) See(ctx context.Context, p domain.SecretPlace, version int, fingerprint string) error {
	return v.store.SeeSecret(ctx, p, version, fingerprint)
}

// shelf keeps the encrypted values of the store of secrets.
type shelf struct{ store *store.Store }

// Add stores a new version.
func (s shelf) Add(ctx context.Context, v domain.SecretVersion, recipients string, r *domain.Rotation,
	seal func(domain.SecretVersion) ([]byte, error),
) (domain.SecretVersion, error) {
	return s.store.AddSecret(ctx, v, recipients, r, seal)
}

// Of lists the values of a place that are not wiped.
func (s shelf) Of(ctx context.Context, p domain.SecretPlace) ([]secrets.Stored, error) {
	list, err := s.store.SealedSecrets(ctx, p)
	return storedOf(list), err
}

// Stale lists the values that are encrypted for other recipients.
func (s shelf) Stale(ctx context.Context, recipients string) ([]secrets.Stored, error) {
	list, err := s.store.StaleSecrets(ctx, recipients)
	return storedOf(list), err
}

// Replace stores the same value, encrypted anew.
func (s shelf) Replace(ctx context.Context, one secrets.Stored) error {
	return s.store.ResealSecret(ctx, store.SealedSecret{
		SecretVersion: domain.SecretVersion{SecretPlace: one.SecretPlace, Version: one.Version}, Sealed: one.Sealed, Recipients: one.Recipients,
	})
}

func storedOf(list []store.SealedSecret) []secrets.Stored {
	out := make([]secrets.Stored, len(list))
	for i, v := range list {
		out[i] = secrets.Stored{SecretPlace: v.SecretPlace, Version: v.Version, Sealed: v.Sealed, Recipients: v.Recipients}
	}
	return out
}

// resolver gives releases and builds the values of their secrets, and knows what no text may show.
type resolver struct {
	*store.Store
	safe     *secrets.Safe
	resolver *secrets.Resolver
	masks    *masks

	mu     sync.Mutex
	values map[string]map[domain.Secret]bool // by app: what was resolved in this life
}

// openSecrets opens the store of secrets, and encrypts for the present recipients what was encrypted for others.
func (s *Server) openSecrets(ctx context.Context) (*resolver, error) {
	keys, err := secrets.OpenKeyring(s.path("keys"))
	if err != nil {
		return nil, err
	}
	safe := &secrets.Safe{Keys: keys, Shelf: shelf{s.store}}
	n, err := safe.Reseal(ctx)
	if err != nil {
		s.log.Error("encrypt the stored secrets for the present recipients", "error", err)
	}
	if n > 0 {
		s.log.Info("the stored secrets are encrypted for the present recipients", "values", n)
	}
	vault := &secrets.Vault{}
	run := &secretCommands{box: s.box, accounts: s.runner.accounts, data: s.o.Data}
	r := &resolver{
		Store: s.store, safe: safe, values: map[string]map[domain.Secret]bool{},
		resolver: &secrets.Resolver{
			Sealer: s.sealer, Versions: versions{s.store}, Safe: safe, Vault: vault, Run: run.run,
			Private: append([]string{s.o.Data}, vault.Private()...),
		},
	}
	r.masks = &masks{known: r.known, each: map[string]*madeMasker{}, apps: func() []string {
		apps, err := s.store.Apps(context.WithoutCancel(ctx))
		if err != nil {
			return nil
		}
		return apps
	}}
	s.maskedLog.with(r.masks.anyApp)
	return r, nil
}

// refs says where the secrets of the roles come from.
func refs(f *config.File) []secrets.Ref {
	var list []secrets.Ref
	for _, name := range f.Secrets.Store {
		list = append(list, secrets.Ref{Name: string(name), Provider: secrets.Store})
	}
	for name, place := range f.Secrets.Vault {
		list = append(list, secrets.Ref{Name: name, Provider: secrets.Kv, Place: string(place)})
	}
	for name, place := range f.Secrets.File {
		list = append(list, secrets.Ref{Name: name, Provider: secrets.File, Place: string(place)})
	}
	for name, place := range f.Secrets.Env {
		list = append(list, secrets.Ref{Name: name, Provider: secrets.Env, Place: string(place)})
	}
	for name, run := range f.Secrets.Exec {
		list = append(list, secrets.Ref{Name: name, Provider: secrets.Exec, Place: run.Text})
	}
	slices.SortFunc(list, func(a, b secrets.Ref) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Resolve reads every secret of the file for one environment.
func (r *resolver) Resolve(ctx context.Context, app string, f *config.File, env domain.Environment) (map[string]domain.Secret, map[string]int, error) {
	set, err := r.resolver.Resolve(ctx, app, env, refs(f))
	if err != nil {
		return nil, nil, err
	}
	r.learn(app, set.Values)
	return set.Values, set.Versions, nil
}

// build reads the secrets that only build.run gets, as NAME=value.
func (r *resolver) build(ctx context.Context, app string, f *config.File) ([]string, []domain.Secret, error) {
	values := map[string]domain.Secret{}
	for _, name := range f.Build.Secrets {
		value, _, err := r.safe.Current(ctx, domain.SecretPlace{App: app, Environment: domain.BuildSecrets, Name: string(name)})
		if err != nil {
			return nil, nil, err
		}
		values[string(name)] = value
	}
	r.learn(app, values)
	var env []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		env = append(env, name+"="+values[name].Reveal())
	}
	return env, slices.Collect(maps.Values(values)), nil
}

func (r *resolver) learn(app string, values map[string]domain.Secret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.values[app])
	defer func() {
		if len(r.values[app]) > before {
			r.masks.forget(app)
		}
	}()
	if r.values[app] == nil {
		r.values[app] = map[domain.Secret]bool{}
	}
	for _, v := range values {
		r.values[app][v] = true
	}
}

// knownWithin bounds how long is looked for what a text may not show.
const knownWithin = 5 * time.Second

// known lists the values that an app's texts must not show: what was resolved in this life, what its recent releases have,
// and what the store holds for it and for the channels.
func (r *resolver) known(app string) []domain.Secret {
	ctx, cancel := context.WithTimeout(context.Background(), knownWithin)
	defer cancel()
	all := map[domain.Secret]bool{}
	r.mu.Lock()
	maps.Copy(all, r.values[app])
	r.mu.Unlock()
	for _, env := range domain.Environments {
		list, err := r.Releases(ctx, app, env, loggedReleases)
		if err != nil {
			continue
		}
		for _, rel := range list {
			for _, w := range rel.Workloads {
				for _, name := range w.Secrets {
					all[domain.NewSecret(w.Env[name])] = true
				}
			}
		}
	}
	for _, scope := range []string{app, ""} {
		list, err := r.SecretVersions(ctx, scope)
		if err != nil {
			continue
		}
		seen := map[domain.SecretPlace]bool{}
		for _, v := range list {
			seen[v.SecretPlace] = true
		}
		values, err := r.safe.All(ctx, slices.Collect(maps.Keys(seen)))
		if err != nil {
			continue
		}
		for _, v := range values {
			all[v] = true
		}
	}
	return slices.Collect(maps.Keys(all))
}

// SetSecret stores a value.
func (r *resolver) SetSecret(ctx context.Context, v domain.SecretVersion, value domain.Secret, rot *domain.Rotation) (domain.SecretVersion, bool, error) {
	if err := checkChannel(v.SecretPlace, value); err != nil {
		return v, false, err
	}
	defer r.masks.forget(v.App)
	return r.safe.Set(ctx, v, value, rot)
}

// CurrentSecret returns the newest value of a place.
func (r *resolver) CurrentSecret(ctx context.Context, p domain.SecretPlace) (domain.Secret, int, error) {
	return r.safe.Current(ctx, p)
}

// Channel returns the address of a notification channel.
func (r *resolver) Channel(ctx context.Context, app, channel string) (domain.Secret, error) {
	return r.safe.Channel(ctx, app, channel)
}

// inspectWithin bounds a look at all secrets of an app; inspectors is how many are asked for at once.
const (
	inspectWithin = 15 * time.Second
	inspectors    = 8
)

// glance is one secret in one environment.
type glance struct {
	ref      secrets.Ref
	env      domain.Environment
	value    domain.Secret
	presence domain.SecretPresence
	err      error
}

// Inspect reads what a release of the file would get now. Commands are not run for a look: what the stable release has
// stands for what they would print.
func (r *resolver) Inspect(ctx context.Context, app string, f *config.File, stable map[domain.Environment]*domain.Release) ([]domain.SecretStatus, []domain.SecretFinding, error) {
	stored, err := r.SecretVersions(ctx, app)
	if err != nil {
		return nil, nil, err
	}
	looks := looksAt(f, stored)
	ctx, cancel := context.WithTimeout(ctx, inspectWithin)
	defer cancel()
	turn := make(chan struct{}, inspectors)
	var wg sync.WaitGroup
	for i := range looks {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			r.inspect(ctx, app, &looks[i], stable[looks[i].env])
		})
	}
	wg.Wait()
	values := map[domain.Environment]map[string]domain.Secret{domain.Staging: {}, domain.Production: {}, domain.BuildSecrets: {}}
	var findings []domain.SecretFinding
	statuses := map[string]*domain.SecretStatus{}
	for _, l := range looks {
		one := statuses[l.ref.Name]
		if one == nil {
			one = &domain.SecretStatus{Name: l.ref.Name, From: l.ref.Provider, UsedBy: usedBy(f, l.ref.Name, l.env)}
			statuses[l.ref.Name] = one
		}
		one.Environments = append(one.Environments, l.presence)
		if l.presence.State == "set" && values[l.env] != nil {
			values[l.env][l.ref.Name] = l.value
		}
		if l.err != nil {
			findings = append(findings, l.finding())
		}
	}
	findings = append(findings, secrets.Judge(values[domain.Staging], values[domain.Production])...)
	var list []domain.SecretStatus
	for _, name := range slices.Sorted(maps.Keys(statuses)) {
		list = append(list, *statuses[name])
	}
	return list, findings, nil
}

// looksAt lists what the file names, and what is stored although no file names it.
func looksAt(f *config.File, stored []domain.SecretVersion) []glance {
	var looks []glance
	named := map[domain.SecretPlace]bool{}
	add := func(ref secrets.Ref, env domain.Environment) {
		looks = append(looks, glance{ref: ref, env: env})
		named[domain.SecretPlace{Environment: env, Name: ref.Name}] = true
	}
	for _, ref := range refs(f) {
		for _, env := range domain.Environments {
			add(ref, env)
		}
	}
	for _, name := range f.Build.Secrets {
		add(secrets.Ref{Name: string(name), Provider: secrets.Store}, domain.BuildSecrets)
	}
	for _, v := range stored {
		if !named[domain.SecretPlace{Environment: v.Environment, Name: v.Name}] {
			add(secrets.Ref{Name: v.Name, Provider: secrets.Store}, v.Environment)
		}
	}
	return looks
}

func (r *resolver) inspect(ctx context.Context, app string, l *glance, stable *domain.Release) {
	l.presence = domain.SecretPresence{Environment: l.env, State: "set"}
	if l.ref.Provider == secrets.Exec {
		l.presence.State = "not asked"
		if value, ok := valueIn(stable, l.ref.Name); ok {
			l.value, l.presence.State = value, "set"
		}
		return
	}
	l.value, l.presence.Version, l.err = r.resolver.Read(ctx, app, l.env, l.ref)
	if l.err == nil {
		return
	}
	l.presence.State, l.presence.Message = "unreadable", l.err.Error()
	if domain.CodeOf(l.err) == domain.NotFound || errors.Is(l.err, fs.ErrNotExist) {
		l.presence.State = "missing"
	}
}

func valueIn(rel *domain.Release, name string) (domain.Secret, bool) {
	if rel != nil {
		for _, w := range rel.Workloads {
			if value, ok := w.Env[name]; ok && slices.Contains(w.Secrets, name) {
				return domain.NewSecret(value), true
			}
		}
	}
	return domain.Secret{}, false
}

func (l glance) finding() domain.SecretFinding {
	f := domain.SecretFinding{ID: "missing", Name: l.ref.Name, Environment: l.env, Message: l.ref.Name + " is missing in " + string(l.env)}
	if l.ref.Provider == secrets.Store {
		f.Hint = domain.SecretPlace{Environment: l.env, Name: l.ref.Name}.SetCommand()
	}
	if domain.CodeOf(l.err) != domain.NotFound {
		f.Message += ": " + l.err.Error()
	}
	if errors.Is(l.err, secrets.ErrExposed) {
		f.ID, f.Message = "readable", l.ref.Name+" lies open in "+string(l.env)+": "+l.err.Error()
		f.Hint = "whoever could read it may have it: close the file, and rotate"
	}
	return f
}

// usedBy lists who gets a secret: every role gets all of them.
func usedBy(f *config.File, name string, env domain.Environment) []string {
	if env == domain.BuildSecrets {
		return []string{"build"}
	}
	if !env.Valid() || !slices.Contains(f.SecretNames(), name) {
		return []string{}
	}
	list := f.RoleNames()
	if f.Migrations != nil && string(f.Migrations.Database) == name {
		list = append(slices.Clone(list), "migrate")
	}
	return list
}

// execEnv names the variable of the daemon by which an administrator hands variables to the commands of secrets, app by app:
// BELAY_EXEC_ENV="shop:OP_SERVICE_ACCOUNT_TOKEN *:HTTPS_PROXY". Nothing else of the daemon's environment reaches them.
const execEnv = "BELAY_EXEC_ENV"

// handed lists the variables that the commands of an app's secrets may see.
func handed(app string) map[string]string {
	env := map[string]string{}
	for _, word := range strings.FieldsFunc(os.Getenv(execEnv), func(r rune) bool { return r == ' ' || r == ',' }) {
		for_, name, ok := strings.Cut(word, ":")
		if value, set := os.LookupEnv(name); ok && set && (for_ == app || for_ == "*") {
			env[name] = value
		}
	}
	return env
}

// secretHome is where the commands of an app's secrets keep what they like; nothing else of the app can see it.
func secretHome(data, app string) string { return filepath.Join(data, "work", app, "secrets") }
