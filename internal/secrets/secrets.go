// Package secrets resolves the secrets of an app from their providers, seals values at rest and masks them in every text
// that leaves Belay. No error, no fingerprint and no printed form of its types holds a value.
package secrets

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// The providers that Resolve knows.
const (
	Store = "store" // Belay's own store
	Env   = "env"   // a variable of the daemon
	File  = "file"  // a file on the server, or one key of a dotenv file
	Exec  = "exec"  // what a command prints
	Kv    = "vault" // a field in Vault's KV engine, version 2
)

// MaxValue is the longest value in bytes: a chain of certificates with its key fits, and its masker stays small.
const MaxValue = 32 << 10

// Ref says where a secret comes from. $BELAY_ENV in Place stands for the environment.
type Ref struct {
	Name     string // the variable that the roles get
	Provider string
	// Place is the name of a variable (env), an absolute path with an optional #KEY (file), which may begin with
	// $CREDENTIALS_DIRECTORY, mount/path#field (vault), or a command (exec). The store needs none.
	Place string
}

// Set is what Resolve found: the value and the version of each name.
type Set struct {
	Values   map[string]domain.Secret
	Versions map[string]int
}

// Versions numbers the values that a provider without versions was seen with. It returns the number that the fingerprint
// got when it was first seen for (app, env, name); one never seen gets the highest number so far plus one, from 1, durably
// before it returns. It is called by one goroutine at a time and the same question may be asked again.
type Versions interface {
	Version(app, env, name, fingerprint string) (int, error)
}

// Seer notes when a version was first seen of a provider that numbers its values itself. Versions may be one, too.
type Seer interface {
	See(ctx context.Context, p domain.SecretPlace, version int, fingerprint string) error
}

// Resolver reads secrets for the daemon. Because the places are named by a commit and read with the daemon's rights, it
// never hands out the daemon's own: files under Private, and variables that begin with BELAY_.
type Resolver struct {
	Sealer   *Sealer
	Versions Versions
	Safe     *Safe  // the store; nil: there is none
	Vault    *Vault // nil: there is none
	// Run runs the command of a secret as nobody that matters, and returns what it printed; nil: commands are not run.
	Run func(ctx context.Context, app string, env domain.Environment, command string) (string, error)
	// Private lists folders that no place may be in, whatever links lead there: the data folder at least.
	Private []string
	// Roots, when not empty, lists the only folders that files may be in.
	Roots []string
	// Lookup reads a variable of the daemon. Default os.LookupEnv.
	Lookup func(string) (string, bool)
}

// Finding is something about the secrets that a person should change. It names secrets, never values.
type Finding struct {
	Name    string `json:"name"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// problem is one secret that could not be read.
type problem struct {
	Ref
	message string
	unset   bool // the store has no value
}

// Resolve reads every ref for one environment of app. All that are missing or unreadable are reported in one error of code
// Refused, which names places and reasons but no value. Versions are only asked for when all were read.
func (r *Resolver) Resolve(ctx context.Context, app string, env domain.Environment, refs []Ref) (Set, error) {
	set := Set{Values: map[string]domain.Secret{}, Versions: map[string]int{}}
	var bad []problem
	own := map[string]bool{} // names whose provider numbers its values
	for _, ref := range refs {
		if err := ctx.Err(); err != nil {
			return Set{}, fmt.Errorf("resolve secrets: %w", context.Cause(ctx))
		}
		value, version, err := r.Read(ctx, app, env, ref)
		if err != nil {
			bad = append(bad, problem{ref, err.Error(), domain.CodeOf(err) == domain.NotFound})
			continue
		}
		set.Values[ref.Name], set.Versions[ref.Name] = value, version
		own[ref.Name] = version > 0
	}
	if len(bad) > 0 {
		return Set{}, missing(app, env, bad)
	}
	for _, ref := range refs {
		if ref.Provider == Store {
			continue
		}
		place := Place{app, env, ref.Name}
		if err := r.number(ctx, place, &set, own[ref.Name]); err != nil {
			return Set{}, fmt.Errorf("version of secret %s: %w", place, err)
		}
	}
	return set, nil
}

// number gives a value its version, or notes the one that it has.
func (r *Resolver) number(ctx context.Context, place Place, set *Set, own bool) (err error) {
	mark := r.Sealer.Fingerprint(place, set.Values[place.Name])
	if !own {
		set.Versions[place.Name], err = r.Versions.Version(place.App, string(place.Environment), place.Name, mark)
		return err
	}
	if seer, ok := r.Versions.(Seer); ok {
		at := domain.SecretPlace{App: place.App, Environment: place.Environment, Name: place.Name}
		return seer.See(ctx, at, set.Versions[place.Name], mark)
	}
	return nil
}

// Read reads one ref for one environment. The version is 0 where the provider gives none.
func (r *Resolver) Read(ctx context.Context, app string, env domain.Environment, ref Ref) (value domain.Secret, version int, err error) {
	place := strings.ReplaceAll(ref.Place, "$BELAY_ENV", string(env))
	var text string
	switch ref.Provider {
	case Store:
		if r.Safe == nil {
			return value, 0, errors.New("there is no store of secrets here")
		}
		return r.Safe.Current(ctx, domain.SecretPlace{App: app, Environment: env, Name: ref.Name})
	case Env:
		text, err = r.readEnv(place)
	case File:
		text, err = r.readFile(place)
	case Exec:
		if r.Run == nil {
			return value, 0, errors.New("commands are not run here")
		}
		// The command gets the environment as a variable: its own text is not rewritten.
		text, err = r.Run(ctx, app, env, ref.Place)
	case Kv:
		if r.Vault == nil {
			return value, 0, errors.New("no vault is known here")
		}
		text, version, err = r.Vault.Read(ctx, place)
	default:
		err = fmt.Errorf("provider %q is unknown", ref.Provider)
	}
	if err == nil {
		err = usable(text)
	}
	return domain.NewSecret(text), version, err
}

func (r *Resolver) readEnv(name string) (string, error) {
	if strings.HasPrefix(name, "BELAY_") || strings.HasPrefix(name, "VAULT_") {
		return "", fmt.Errorf("variable %s is the daemon's own", name)
	}
	value, ok := r.lookup(name)
	if !ok {
		return "", fmt.Errorf("variable %s of the daemon is not set", name)
	}
	return value, nil
}

func (r *Resolver) lookup(name string) (string, bool) {
	if r.Lookup != nil {
		return r.Lookup(name)
	}
	return os.LookupEnv(name)
}

// usable refuses what cannot be handed over as a variable.
func usable(value string) error {
	switch {
	case value == "":
		return fmt.Errorf("the value is empty")
	case len(value) > MaxValue:
		return fmt.Errorf("the value has %d bytes, above %d", len(value), MaxValue)
	case strings.ContainsRune(value, 0):
		return fmt.Errorf("the value holds a NUL byte, which no variable can")
	}
	return nil
}

func missing(app string, env domain.Environment, bad []problem) error {
	slices.SortFunc(bad, func(a, b problem) int { return strings.Compare(a.Name, b.Name) })
	lines := make([]string, len(bad))
	hint := "set them where the daemon runs, readable by its user only, then ship again"
	var unset []string
	for i, p := range bad {
		lines[i] = p.Name + ": " + p.message
		if p.unset {
			lines[i] = p.Name + ": not set"
			unset = append(unset, domain.SecretPlace{App: app, Environment: env, Name: p.Name}.SetCommand())
		}
	}
	if len(unset) > 0 {
		hint = strings.Join(unset, "; ")
	}
	noun := "secrets"
	if len(bad) == 1 {
		noun = "secret"
	}
	return domain.Errorf(domain.Refused, "%d %s of %s cannot be read for %s: %s", len(bad), noun, app, env, strings.Join(lines, "; ")).
		WithHint("%s", hint)
}

// SameValue finds the names whose value is the same in both environments: a leak of staging would be one of production.
// Equal values under different names of one environment are no finding.
func SameValue(staging, production map[string]domain.Secret) []Finding {
	var found []Finding
	for name, s := range staging {
		p, ok := production[name]
		if !ok || subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(p.Reveal())) != 1 {
			continue
		}
		found = append(found, Finding{
			Name:    name,
			Message: fmt.Sprintf("secret %s has the same value in staging and production", name),
			Hint:    "give staging a value of its own: whoever reads staging's can use production's",
		})
	}
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Name, b.Name) })
	return found
}
