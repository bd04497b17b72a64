package config

import (
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
)

// walker decodes the syntax tree into the structs, by their tags. It goes on after each finding, so that all are told
// at once.
type walker struct {
	*places
	owner string // what the file is called in findings
	stars []Span // values that begin with an unquoted *, reported already
}

// file decodes the whole tree.
func (w *walker) file(body ast.Node, f *File) {
	if body == nil {
		return
	}
	w.decode(body, reflect.ValueOf(f).Elem(), "", field{})
}

// decode reads a node into v. path is "" for the file itself.
func (w *walker) decode(n ast.Node, v reflect.Value, path string, tag field) {
	if !w.allowed(n, path) {
		return
	}
	if s, ok := v.Addr().Interface().(scalar); ok {
		w.scalar(n, s, path)
		return
	}
	if isEnv(v.Type()) {
		w.columns(n, v, path, tag)
		return
	}
	switch v.Kind() { //nolint:exhaustive // all other kinds are scalars, a test walks the table
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		w.decode(n, v.Elem(), path, tag)
	case reflect.Struct:
		w.structure(n, v, path, tag)
	case reflect.Map:
		w.mapping(n, v, path, tag)
	case reflect.Slice:
		w.list(n, v, path, tag)
	}
}

// isEnv reports whether t is an Env.
func isEnv(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && strings.HasPrefix(t.Name(), "Env[")
}

// allowed refuses what YAML has and this file has not: anchors, aliases, tags, empty values.
func (w *walker) allowed(n ast.Node, path string) bool {
	at := w.span(n)
	for _, s := range w.stars {
		if s.Line == at.Line && s.Column == at.Column {
			w.bad[path] = true
			return false
		}
	}
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode:
		w.errorf("alias", at, "write the value where it is used; quote a value that begins with & or *", "%sanchors and aliases are not used here", prefix(path))
	case *ast.TagNode:
		w.errorf("tag", at, "take it away; quote a value that begins with !", "%sYAML tags are not used here", prefix(path))
	case *ast.NullNode:
		at = w.KeyPos(path)
		w.errorf("empty", at, "write a value, or take the key away", "%sit is empty", prefix(path))
	default:
		return true
	}
	w.bad[path] = true
	return false
}

func prefix(path string) string {
	if path == "" {
		return ""
	}
	return path + ": "
}

// scalarText returns the text of a scalar node as the file has it.
func scalarText(n ast.Node) (text string, ok bool) {
	switch n := n.(type) {
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// span is the place of a node: a scalar's text, the opening bracket of a flow, the first key of a block.
func (w *walker) span(n ast.Node) Span {
	t := n.GetToken()
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return w.span(n.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return w.span(n.Key)
	}
	if t == nil || t.Position == nil {
		return Span{1, 1, 2}
	}
	at := tokenSpan(t.Position.Line, max(t.Position.Column, 1), 1)
	text, ok := scalarText(n)
	if !ok || at.Line > len(w.lines) {
		if _, alias := n.(*ast.AliasNode); alias {
			at.EndColumn = at.Column + 1
		}
		return at
	}
	line := w.lines[at.Line-1]
	if at.Column > len(line) {
		return at
	}
	at.EndColumn = at.Column + scalarWidth(line[at.Column-1:], text)
	return at
}

// scalarWidth is how many characters of the line a scalar takes.
func scalarWidth(rest []rune, text string) int {
	if quote := rest[0]; quote == '"' || quote == '\'' {
		for i := 1; i < len(rest); i++ {
			if rest[i] == '\\' && quote == '"' {
				i++
			} else if rest[i] == quote {
				return i + 1
			}
		}
		return len(rest)
	}
	n := utf8.RuneCountInString(text)
	if n > 0 && n <= len(rest) && string(rest[:n]) == text {
		return n
	}
	return len([]rune(strings.TrimRight(string(rest), " ")))
}

func (w *walker) scalar(n ast.Node, s scalar, path string) {
	text, ok := scalarText(n)
	if !ok {
		w.bad[path] = true
		if _, isService := s.(*Service); isService {
			w.errorf("service-version", w.span(n), "write postgres 17", "%sa service and its version are two words", prefix(path))
			return
		}
		hint := ""
		if _, isText := s.(*Driver); isText {
			hint = "one driver for both environments"
		}
		if isColumns(n) {
			w.errorf("columns", w.span(n), "one value for both environments", "%sit is the same in both environments", prefix(path))
			return
		}
		w.errorf("not-a-scalar", w.span(n), hint, "%sone value is expected", prefix(path))
		return
	}
	at := w.span(n)
	w.values[path] = at
	if at.Line <= len(w.lines) && at.EndColumn-1 <= len(w.lines[at.Line-1]) {
		w.plain[path] = string(w.lines[at.Line-1][at.Column-1:at.EndColumn-1]) == text
	}
	if text == "" && s.shape().name != "text" {
		w.bad[path] = true
		w.errorf("empty", at, "write a value, or take the key away", "%sit is empty", prefix(path))
		return
	}
	if f := s.parse(text); f != nil {
		w.bad[path] = true
		w.errorf(f.id, w.within(path, f.at, f.length), f.hint, "%s%s", prefix(path), f.why)
	}
}

// isColumns reports whether a node is a mapping of environments.
func isColumns(n ast.Node) bool {
	for _, pair := range pairs(n) {
		if key, _ := scalarText(pair.Key); key == "staging" || key == "production" {
			return true
		}
	}
	return false
}

// pairs returns the pairs of a mapping, nil for any other node.
func pairs(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

func isMapping(n ast.Node) bool {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return true
	}
	return false
}

// pair is one key of a mapping.
type pair struct {
	name  string
	at    Span
	value ast.Node
}

// keysOf returns the pairs of a mapping whose keys are plain words, each once.
func (w *walker) keysOf(n ast.Node, path string) []pair {
	var out []pair
	seen := map[string]int{}
	for _, p := range pairs(n) {
		if p.Key == nil || p.Value == nil {
			continue
		}
		name, ok := scalarText(p.Key)
		at := w.span(p.Key)
		if !ok {
			w.errorf("key", at, "write it as word: value", "%sa key is one word", prefix(path))
			continue
		}
		if line, twice := seen[name]; twice {
			w.errorf("twice", at, "keep one", "%s%s is written twice: line %d has it already", prefix(path), name, line)
			continue
		}
		seen[name] = at.Line
		out = append(out, pair{name, at, p.Value})
	}
	return out
}

func (w *walker) structure(n ast.Node, v reflect.Value, path string, tag field) {
	if !isMapping(n) {
		w.bad[path] = true
		w.errorf("not-a-mapping", w.span(n), w.loneHint(n, tag), "%sa mapping is expected", prefix(path))
		return
	}
	fields := fieldsOf(v.Type())
	for _, p := range w.keysOf(n, path) {
		f, ok := fields.byKey(p.name)
		if !ok {
			w.unknown(path, p, fields)
			continue
		}
		w.enter(n, p, join(path, p.name))
		w.decode(p.value, v.Field(f.index), join(path, p.name), f)
	}
}

// enter remembers where a key and its value stand.
func (w *walker) enter(_ ast.Node, p pair, path string) {
	w.keys[path] = p.at
	w.values[path] = w.span(p.value)
	if m, ok := p.value.(*ast.MappingNode); ok && !m.IsFlowStyle {
		w.values[path] = p.at
	}
	if s, ok := p.value.(*ast.SequenceNode); ok && !s.IsFlowStyle {
		w.values[path] = p.at
	}
	if _, ok := p.value.(*ast.MappingValueNode); ok {
		w.values[path] = p.at
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (w *walker) loneHint(n ast.Node, tag field) string {
	text, ok := scalarText(n)
	if !ok || tag.lone == "" {
		return ""
	}
	return fmt.Sprintf("{ %s: %s }", tag.lone, oneLine(text))
}

func (w *walker) mapping(n ast.Node, v reflect.Value, path string, tag field) {
	if !isMapping(n) {
		w.bad[path] = true
		w.errorf("not-a-mapping", w.span(n), w.loneHint(n, tag), "%sa mapping is expected", prefix(path))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, p := range w.keysOf(n, path) {
		at := join(path, p.name)
		w.enter(n, p, at)
		if f := tag.checkName(p.name); f != nil {
			w.bad[at] = true
			w.errorf(f.id, p.at, f.hint, "%s: %s", at, f.why)
			continue
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		w.decode(p.value, elem, at, tag)
		v.SetMapIndex(reflect.ValueOf(p.name), elem)
	}
}

func (w *walker) list(n ast.Node, v reflect.Value, path string, tag field) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		hint := ""
		if text, isScalar := scalarText(n); isScalar {
			hint = "[" + oneLine(text) + "]"
		}
		w.bad[path] = true
		w.errorf("not-a-list", w.span(n), hint, "%sa list is expected", prefix(path))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, len(seq.Values)))
	for i, item := range seq.Values {
		at := fmt.Sprintf("%s[%d]", path, i)
		if item == nil {
			continue
		}
		w.values[at] = w.span(item)
		elem := reflect.New(v.Type().Elem()).Elem()
		w.decode(item, elem, at, tag)
		v.Set(reflect.Append(v, elem))
	}
}

// columns decodes one value for both environments, or one for each.
func (w *walker) columns(n ast.Node, v reflect.Value, path string, tag field) {
	staging, production := v.FieldByName("Staging"), v.FieldByName("Production")
	if !isMapping(n) {
		if tag.columns {
			w.bad[path] = true
			w.errorf("columns", w.span(n), w.columnsHint(n, path), "%sone %s for both environments", prefix(path), columnWord(staging))
			return
		}
		w.decode(n, staging, path, tag)
		production.Set(staging)
		return
	}
	v.FieldByName("Columns").SetBool(true)
	unknown := false
	for _, p := range w.keysOf(n, path) {
		w.enter(n, p, join(path, p.name))
		switch p.name {
		case "staging":
			w.decode(p.value, staging, join(path, p.name), tag)
		case "production":
			w.decode(p.value, production, join(path, p.name), tag)
		default:
			unknown = true
			hint := "{ staging: …, production: … }"
			if near := nearest(p.name, []string{"staging", "production"}); near != "" {
				hint = "did you mean " + near + "?"
			}
			w.errorf("unknown-environment", p.at, hint, "unknown environment %q: there are two, staging and production", p.name)
		}
	}
	for _, env := range []string{"staging", "production"} {
		if !w.Has(join(path, env)) && !unknown {
			w.bad[path] = true
			w.errorf("column-missing", w.Pos(path), "every value exists in both environments", "%sit has no value for %s", prefix(path), env)
		}
	}
}

func columnWord(v reflect.Value) string {
	if v.Kind() == reflect.Slice {
		return "list"
	}
	return "value"
}

// columnsHint proposes two columns for a value that was written once.
func (w *walker) columnsHint(n ast.Node, _ string) string {
	seq, ok := n.(*ast.SequenceNode)
	if !ok || len(seq.Values) == 0 {
		text, _ := scalarText(n)
		return fmt.Sprintf("{ staging: %s-staging, production: %s }", text, text)
	}
	var staging, production []string
	for _, item := range seq.Values {
		host, _ := scalarText(item)
		production = append(production, host)
		if label, rest, ok := strings.Cut(host, "."); ok && strings.Contains(rest, ".") {
			staging = append(staging, label+".staging."+rest)
		} else {
			staging = append(staging, "staging."+host)
		}
	}
	return fmt.Sprintf("{ staging: [%s], production: [%s] }", strings.Join(staging, ", "), strings.Join(production, ", "))
}
