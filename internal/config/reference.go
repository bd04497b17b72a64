package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
)

// blank is a file that writes as little as it can, so that its values are the defaults.
const blank = `
app: x
build: { run: x, files: [.] }
test: { unit: { run: x }, integration: { run: x }, e2e: { run: x } }
secrets: { store: [DATABASE_URL] }
migrations: { tool: goose }
metrics: { x: { query: rate(x) } }
roles: { x: { run: x, hosts: { staging: [a.example], production: [b.example] }, probe: { http: / } } }
verify: { checks: { x: { http: / } } }
gates: { approvals: { need: 1, from: [x] } }
`

// Reference returns the reference page of belay.yaml in Markdown, made from the same table as the decoder.
func Reference() []byte {
	f, _ := Parse(FileName, []byte(blank), Options{})
	var b bytes.Buffer
	b.WriteString("# belay.yaml\n\nEvery key, its type, its default and what is refused. This page is generated: `go generate ./internal/config`.\n\n" +
		"± means that the value may differ: `{ staging: …, production: … }`. Everything else is the same in both environments. " +
		"Keys marked *later* are accepted and checked, and have no effect yet; `belay check` says so.\n")
	for _, row := range fieldsOf(reflect.TypeFor[File]()) {
		fmt.Fprintf(&b, "\n## %s\n\n%s.%s\n\n| key | type | default | meaning | refused |\n|---|---|---|---|---|\n", row.key, upperFirst(row.doc), laterMark(row))
		r := reference{f: f, out: &b}
		r.row(row, reflect.ValueOf(*f).Field(row.index), row.key, row.key)
	}
	b.WriteString("\n## Numbers that no key sets\n\n| what | value |\n|---|---|\n")
	for _, n := range Numbers() {
		fmt.Fprintf(&b, "| %s | %s |\n", n.What, n.Value)
	}
	return b.Bytes()
}

func laterMark(row field) string {
	if row.later {
		return " *later*"
	}
	return ""
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

type reference struct {
	f   *File
	out *bytes.Buffer
}

// row writes a key and everything under it. path is where its default stands in the blank file, shown what is printed.
func (r reference) row(row field, v reflect.Value, path, shown string) {
	typ := typeName(row.typ)
	if isEnv(row.typ) || row.typ.Kind() == reflect.Map && isEnv(row.typ.Elem()) {
		typ += " ±"
	}
	name := shown
	if row.typ.Kind() == reflect.Map {
		name += "." + placeholder(row)
	}
	if typ != "" {
		standard := r.standard(row, v, path)
		fmt.Fprintf(r.out, "| `%s` | %s | %s | %s%s | %s |\n", name, typ, standard, row.doc, laterMark(row), strings.ReplaceAll(row.refuse, "|", `\|`))
	}
	t := row.typ
	if t.Kind() == reflect.Map {
		t, path = t.Elem(), path+".x"
		v = v.MapIndex(reflect.ValueOf("x"))
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
		if v.IsValid() && !v.IsNil() {
			v = v.Elem()
		} else {
			v = reflect.Value{}
		}
	}
	if _, isScalar := reflect.New(t).Interface().(scalar); isScalar || t.Kind() != reflect.Struct || isEnv(t) {
		return
	}
	for _, child := range fieldsOf(t) {
		cv := reflect.New(child.typ).Elem()
		if v.IsValid() {
			cv = v.Field(child.index)
		}
		r.row(child, cv, path+"."+child.key, name+"."+child.key)
	}
}

func placeholder(row field) string {
	switch row.key {
	case "notify":
		return "CHANNEL"
	case "parity":
		return "ID"
	default:
		return "NAME"
	}
}

// typeName describes a type for people, "" for a mapping with keys of its own.
func typeName(t reflect.Type) string {
	if s, ok := reflect.New(t).Interface().(scalar); ok {
		if sh := s.shape(); len(sh.enum) > 0 {
			return strings.Join(sh.enum, ", ")
		}
		return s.shape().name
	}
	if isEnv(t) {
		f, _ := t.FieldByName("Staging")
		return typeName(f.Type)
	}
	switch t.Kind() {
	case reflect.Slice:
		return "list of: " + typeName(t.Elem())
	case reflect.Map:
		return typeName(t.Elem())
	default:
		return ""
	}
}

// standard returns the default of a key, or that it is required.
func (r reference) standard(row field, v reflect.Value, path string) string {
	if row.need {
		return "required"
	}
	if r.f.Has(path) || !v.IsValid() || v.IsZero() {
		return "–"
	}
	if isEnv(v.Type()) {
		v = v.FieldByName("Production")
	}
	return fmt.Sprintf("`%v`", v.Interface())
}
