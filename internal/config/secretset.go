package config

import (
	"fmt"
	"strings"

	"github.com/belay-cd/belay/internal/domain"
)

// StoredNames lists the secrets whose values Belay's own store has, those of builds among them.
func StoredNames(f *File) []string {
	var names []string
	for _, v := range f.Secrets.Store {
		names = append(names, string(v))
	}
	for _, v := range f.Build.Secrets {
		names = append(names, string(v))
	}
	return names
}

// NotSet warns of each secret of the store that has no value yet, as set says.
func NotSet(f *File, set func(p domain.SecretPlace) bool) []Finding {
	before := f.found
	f.found = nil
	defer func() { f.found = before }()
	warn := func(path, name string, environments ...domain.Environment) {
		var where, hints []string
		for _, env := range environments {
			if p := (domain.SecretPlace{App: string(f.App), Environment: env, Name: name}); !set(p) {
				where, hints = append(where, string(env)), append(hints, p.SetCommand())
			}
		}
		if len(where) > 0 {
			f.warnf("secret-not-set", f.Pos(path), strings.Join(hints, "; "), "%s is not set in %s yet: ship will be refused", name, strings.Join(where, " and "))
		}
	}
	for i, v := range f.Secrets.Store {
		warn(fmt.Sprintf("secrets.store[%d]", i), string(v), domain.Environments[:]...)
	}
	for i, v := range f.Build.Secrets {
		warn(fmt.Sprintf("build.secrets[%d]", i), string(v), domain.BuildSecrets)
	}
	return f.findings()
}
