package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// NotInForce returns a note for each key that is accepted and has no effect yet. Notes never count as findings.
func NotInForce(f *File) []Finding {
	if f == nil {
		return nil
	}
	if len(f.keys) == 0 {
		return nil // an empty file chooses nothing
	}
	before := f.found
	f.found = nil
	defer func() { f.found = before }()
	f.notYet(reflect.TypeFor[File](), reflect.ValueOf(*f), "")
	f.notYetValues()
	return f.findings()
}

func (f *File) note(path string, at Span, why string) {
	f.add(Note, "not-in-force", at, path+": "+why, "")
}

// partly says of keys that come later what they do already.
var partly = map[string]string{
	"migrations": "they run for the databases of tests; production's is not changed by belay yet",
}

// notYet walks the table for keys that come later.
func (f *File) notYet(t reflect.Type, v reflect.Value, path string) {
	for _, row := range fieldsOf(t) {
		at := join(path, row.key)
		if !f.Has(at) {
			continue
		}
		if row.later {
			why, ok := partly[at]
			if !ok {
				why = "accepted, not in force yet"
			}
			f.note(at, f.KeyPos(at), why)
			continue
		}
		f.notYetValue(v.Field(row.index), at)
	}
}

func (f *File) notYetValue(v reflect.Value, path string) {
	if _, isScalar := reflect.New(v.Type()).Interface().(scalar); isScalar || isEnv(v.Type()) {
		return
	}
	switch v.Kind() { //nolint:exhaustive // scalars end above, lists hold scalars
	case reflect.Pointer:
		if !v.IsNil() {
			f.notYetValue(v.Elem(), path)
		}
	case reflect.Struct:
		f.notYet(v.Type(), v, path)
	case reflect.Map:
		for _, key := range slices.Sorted(maps.Keys(mapOf(v))) {
			f.notYetValue(v.MapIndex(reflect.ValueOf(key)), path+"."+key)
		}
	}
}

func mapOf(v reflect.Value) map[string]bool {
	out := map[string]bool{}
	for _, k := range v.MapKeys() {
		out[k.String()] = true
	}
	return out
}

// notYetValues notes values of keys in force whose function comes later.
func (f *File) notYetValues() {
	if f.Driver != Process && !f.bad["driver"] {
		at, why := f.KeyPos("build"), fmt.Sprintf("%s is not in force yet: this server runs processes", f.Driver)
		if f.Has("driver") {
			at = f.Pos("driver")
		}
		f.note("driver", at, why)
	}
	for _, l := range f.Test.Level() {
		if l.Level == nil {
			continue
		}
		for i, v := range l.Level.Services {
			if at := fmt.Sprintf("test.%s.services[%d]", l.Name, i); v.Kind == "mysql" && !f.bad[at] {
				f.note(at, f.Pos(at), "mysql cannot be provided yet: this level will be red")
			}
		}
	}
}
