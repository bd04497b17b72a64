package config

import (
	"encoding/json"
	"reflect"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"
)

//go:generate go run ./gen ../../docs

// SchemaID is the address of the JSON Schema of belay.yaml.
const SchemaID = "https://belay-cd.github.io/belay.schema.json"

// oneOf are the mappings of which exactly one of several sets of keys must be written.
var oneOf = map[reflect.Type][][]string{
	reflect.TypeFor[Build]():      {{"files"}, {"dockerfile"}, {"image"}},
	reflect.TypeFor[Level]():      {{"run"}, {"none"}},
	reflect.TypeFor[Migrations](): {{"tool"}, {"up", "down"}},
	reflect.TypeFor[Probe]():      {{"http"}, {"tcp"}, {"exec"}, {"heartbeat"}, {"log"}},
	reflect.TypeFor[CheckSpec]():  {{"http"}, {"tcp"}, {"run"}, {"metric"}},
	reflect.TypeFor[Visitors]():   {{"cookie"}, {"header"}},
}

// dependent are the keys that make no sense without others.
var dependent = map[reflect.Type]map[string][]string{
	reflect.TypeFor[Build]():      {"target": {"dockerfile"}, "context": {"dockerfile"}, "args": {"dockerfile"}, "base": {"files"}},
	reflect.TypeFor[Migrations](): {"down": {"up"}, "status": {"up"}},
	reflect.TypeFor[Role]():       {"jobs": {"metrics"}, "paths": {"hosts"}, "tls": {"hosts"}, "timeout": {"schedule"}, "overlap": {"schedule"}},
}

// Schema returns the JSON Schema (draft 2020-12) of belay.yaml, made from the same table as the decoder.
func Schema() ([]byte, error) {
	s := schemaOf(reflect.TypeFor[File](), field{})
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.ID = SchemaID
	s.Title = FileName
	out, err := json.MarshalIndent(s, "", "  ")
	return append(out, '\n'), err
}

func schemaOf(t reflect.Type, tag field) *jsonschema.Schema {
	if s, ok := reflect.New(t).Interface().(scalar); ok {
		return bounded(scalarSchema(s.shape()), tag)
	}
	if isEnv(t) {
		return envSchema(t, tag)
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), tag)
	case reflect.Slice:
		return &jsonschema.Schema{Type: "array", Items: schemaOf(t.Elem(), field{})}
	case reflect.Map:
		s := &jsonschema.Schema{Type: "object", AdditionalProperties: schemaOf(t.Elem(), field{})}
		if p := namesPattern(tag.names); p != nil {
			s.PropertyNames = &jsonschema.Schema{Pattern: p.String()}
		}
		return s
	default:
		return structSchema(t)
	}
}

// bounded adds the bounds of a whole number.
func bounded(s *jsonschema.Schema, tag field) *jsonschema.Schema {
	if tag.least != 0 {
		s.Minimum = jsonschema.Ptr(float64(tag.least))
	}
	if tag.most != 0 {
		s.Maximum = jsonschema.Ptr(float64(tag.most))
	}
	return s
}

func scalarSchema(sh shape) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "string", Pattern: sh.pattern}
	if len(sh.json) == 1 {
		s.Type = sh.json[0]
	} else if len(sh.json) > 1 {
		s.Type, s.Types = "", sh.json
	}
	if sh.above != nil {
		s.ExclusiveMinimum = sh.above
	}
	if sh.least != nil {
		s.Minimum, s.Maximum = sh.least, sh.most
	}
	for _, word := range sh.enum {
		s.Enum = append(s.Enum, word)
	}
	return s
}

// envSchema is the value itself, or one per environment.
func envSchema(t reflect.Type, tag field) *jsonschema.Schema {
	f, _ := t.FieldByName("Staging")
	value := field{least: tag.least, most: tag.most}
	columns := &jsonschema.Schema{Type: "object", AdditionalProperties: no(), Required: []string{"staging", "production"},
		Properties:    map[string]*jsonschema.Schema{"staging": schemaOf(f.Type, value), "production": schemaOf(f.Type, value)},
		PropertyOrder: []string{"staging", "production"}}
	if tag.columns {
		return columns
	}
	return &jsonschema.Schema{OneOf: []*jsonschema.Schema{schemaOf(f.Type, value), columns}}
}

func no() *jsonschema.Schema { return &jsonschema.Schema{Not: &jsonschema.Schema{}} }

func structSchema(t reflect.Type) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", AdditionalProperties: no(), Properties: map[string]*jsonschema.Schema{}}
	for _, f := range fieldsOf(t) {
		p := schemaOf(f.typ, f)
		p.Description = f.doc
		if f.later {
			p.Description += " (not in force yet)"
		}
		s.Properties[f.key] = p
		s.PropertyOrder = append(s.PropertyOrder, f.key)
		if f.need {
			s.Required = append(s.Required, f.key)
		}
	}
	for _, keys := range oneOf[t] {
		s.OneOf = append(s.OneOf, &jsonschema.Schema{Required: slices.Clone(keys)})
	}
	s.DependentRequired = dependent[t]
	return s
}
