package config

import (
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/belay-cd/belay/internal/metric"
)

// field is one row of the table of belay.yaml.
type field struct {
	key, doc, refuse, names, lone string
	need, columns, later          bool
	least, most                   int // of a whole number; 0: no bound
	index                         int
	typ                           reflect.Type
}

type fields []field

// fieldsOf reads the table of one mapping out of its struct.
func fieldsOf(t reflect.Type) fields {
	var out fields
	for i := range t.NumField() {
		f := t.Field(i)
		key := f.Tag.Get("key")
		if key == "" {
			continue
		}
		least, _ := strconv.Atoi(f.Tag.Get("least")) // no tag is no bound
		most, _ := strconv.Atoi(f.Tag.Get("most"))
		out = append(out, field{least: least, most: most, key: key, doc: f.Tag.Get("doc"), refuse: f.Tag.Get("refuse"), names: f.Tag.Get("names"),
			lone: f.Tag.Get("lone"), need: f.Tag.Get("need") == "yes", columns: f.Tag.Get("columns") == "always",
			later: f.Tag.Get("later") == "yes", index: i, typ: f.Type})
	}
	return out
}

func (fs fields) byKey(key string) (field, bool) {
	i := slices.IndexFunc(fs, func(f field) bool { return f.key == key })
	if i < 0 {
		return field{}, false
	}
	return fs[i], true
}

func (fs fields) keys() []string {
	var out []string
	for _, f := range fs {
		out = append(out, f.key)
	}
	return out
}

var metricNamePattern = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)

// checkNamePattern allows _ too: checks and metrics are also named in expressions.
var checkNamePattern = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// namesPattern returns the pattern of a map's keys, nil for any.
func namesPattern(names string) *regexp.Regexp {
	switch names {
	case "name":
		return namePattern
	case "NAME":
		return varPattern
	case "metric":
		return regexpMetricKey
	case "check":
		return checkNamePattern
	default:
		return nil
	}
}

var regexpMetricKey = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// checkName checks a key of a map.
func (f field) checkName(name string) *fault {
	switch f.names {
	case "name":
		var n Name
		return n.parse(name)
	case "NAME":
		var v Var
		return v.parse(name)
	case "metric":
		if slices.Contains(metric.Builtin, name) || name == "baseline" || name == "stable" {
			return &fault{id: "metric-taken", why: "Belay measures this one itself", hint: "app_" + name}
		}
		if !regexpMetricKey.MatchString(name) {
			return &fault{id: "name", why: "a metric's name is lower-case letters, digits and _", hint: strings.ReplaceAll(suggestName(name), "-", "_")}
		}
	case "check":
		if !checkNamePattern.MatchString(name) {
			return &fault{id: "name", why: "a name is lower-case letters, digits, - and _, and begins with a letter", hint: suggestName(name)}
		}
	case "any":
		if name == "" {
			return &fault{id: "name", why: "it has no name"}
		}
	}
	return nil
}

// metricFault turns an error of an expression or a query into a fault with its place.
func metricFault(id, text string, err error) *fault {
	f := &fault{id: id, why: err.Error()}
	if e, ok := err.(*metric.SyntaxError); ok { //nolint:errorlint // both parsers return it unwrapped
		if e.Offset <= len(text) && e.Offset+e.Length <= len(text) {
			f.at = len([]rune(text[:e.Offset]))
			f.length = len([]rune(text[e.Offset : e.Offset+e.Length]))
		}
	}
	if id == "query" && strings.HasPrefix(f.why, "unknown function ") {
		f.hint = strings.Join(metric.Functions, ", ")
		if near := nearest(strings.TrimPrefix(f.why, "unknown function "), metric.Functions); near != "" {
			f.hint = "did you mean " + near + "?"
		}
	}
	return f
}
