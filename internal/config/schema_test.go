package config

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"gopkg.in/yaml.v3"
)

func compiled(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tree decodes a file with another YAML library.
func tree(t *testing.T, src []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(src, &v); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExamplesFitTheSchema(t *testing.T) {
	schema := compiled(t)
	for name, src := range examples(t) {
		if err := schema.Validate(tree(t, src)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the decoder refuses by its form, the schema refuses too.
func TestSchemaRefusesWhatTheDecoderRefuses(t *testing.T) {
	schema := compiled(t)
	good := string(examples(t)["payments"])
	for _, c := range [][2]string{
		{"app: payments", "app: Payments"},
		{"app: payments", "app: payments\nenvironments: {}"},
		{"memory: 1GiB", "memory: 512MB"},
		{"error_rate: 2% for 1m", "error_rate: 2%"},
		{"strategy: blue-green", "strategy: bluegreen"},
		{"files: [build/libs/payments.jar]", "files: [a]\n  dockerfile: b"},
		{"hosts: { staging: [pay.staging.shop.example], production: [pay.shop.example] }", "hosts: [pay.shop.example]"},
		{"instances: { staging: 2, production: 4 }", "instances: { staging: 2 }"},
		{"instances: { staging: 2, production: 4 }", "instances: { staging: 2, prodution: 4 }"},
		{"metrics: /actuator/prometheus", "jobs: { done: a }"},
		{"{ http: /health/ready, start_within: 2m }", "{ http: /a, tcp: true }"},
		{"{ http: /health/ready, start_within: 2m }", "{ start_within: 2m }"},
		{"{ http: /health/ready, critical: true }", "{ critical: true }"},
		{"need: 2", "need: two"},
		{"need: 2", "need: 0"},
		{"instances: { staging: 2, production: 4 }", "instances: { staging: 0, production: 4 }"},
		{"instances: { staging: 2, production: 4 }", "instances: 101"},
		{"cpu: 2", "cpu: 0"},
		{"error_rate: 2% for 1m", "error_rate: 102% for 1m"},
		{"holdback: 5%", "holdback: 101%"},
		{"error_rate: 2% for 1m", "failed_probes: 0"},
		{"{ http: /health/ready, critical: true }", "{ http: /health/ready, status: 99 }"},
		{"monitor: { for: 2h", "monitor: { for: 120"},
	} {
		bad := strings.Replace(good, c[0], c[1], 1)
		if bad == good {
			t.Fatalf("%q is not in the example", c[0])
		}
		if schema.Validate(tree(t, []byte(bad))) == nil {
			t.Errorf("the schema takes %q", c[1])
		}
		if _, findings := Parse(FileName, []byte(bad), Options{}); !Failed(findings, false) {
			t.Errorf("the decoder takes %q", c[1])
		}
	}
}

// The bounds of the schema are those of the rules.
func TestSchemaBoundsAreThoseOfTheRules(t *testing.T) {
	for _, c := range []struct {
		of          reflect.Type
		key         string
		least, most int
	}{
		{reflect.TypeFor[Role](), "instances", 1, MaxInstances}, {reflect.TypeFor[Role](), "port", 1, MaxPort},
		{reflect.TypeFor[Level](), "shards", 1, MaxShards}, {reflect.TypeFor[Guard](), "failed_probes", 1, 0},
		{reflect.TypeFor[Approvals](), "need", 1, 0},
	} {
		row, ok := fieldsOf(c.of).byKey(c.key)
		if !ok || row.least != c.least || row.most != c.most {
			t.Errorf("%s: %d to %d, the rules say %d to %d", c.key, row.least, row.most, c.least, c.most)
		}
	}
}

func TestGeneratedFilesAreUpToDate(t *testing.T) {
	schema, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"belay.schema.json": schema, "belay-yaml.md": Reference()} {
		got, err := os.ReadFile("../../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("docs/%s is not up to date: go generate ./internal/config", name)
		}
	}
}

// The numbers of the specification, as the reference quotes them. They stand here a second time on purpose.
func TestReferenceQuotesTheNumbers(t *testing.T) {
	text := string(Reference())
	for key, want := range map[string]string{
		"build.timeout": "15m", "test.unit.timeout": "5m", "test.integration.timeout": "15m", "test.e2e.timeout": "30m",
		"migrations.lock_timeout": "1s", "migrations.timeout": "15m", "roles.NAME.instances": "2", "roles.NAME.probe.every": "5s",
		"roles.NAME.probe.timeout": "2s", "roles.NAME.probe.start_within": "60s", "roles.NAME.drain": "30s", "roles.NAME.timeout": "1h",
		"verify.error_rate": "1%", "verify.latency": "+20%", "verify.checks.NAME.timeout": "10s", "gates.approvals.expire": "24h",
		"rollout.strategy": "canary", "rollout.steps": "[5% for 15m 50% for 15m]", "rollout.split": "visitor", "rollout.min_soak": "2m",
		"rollout.staging_hold": "30s", "guard.error_rate": "5% for 3m", "guard.latency": "2x", "guard.failed_probes": "2",
		"guard.false_rollbacks": "0.1%", "guard.margin": "20%", "guard.error_floor": "0.1%", "guard.undecided": "ladder",
		"monitor.for": "1h", "monitor.holdback": "5%",
	} {
		row := regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(key) + "` \\|[^|]*\\| `([^`]*)` \\|").FindStringSubmatch(text)
		if row == nil || row[1] != want {
			t.Errorf("%s: %q, want %q", key, row, want)
		}
	}
	for what, want := range map[string]string{
		"requests to next in a step that are enough to go on when there was no harm": "100", "how long an undecided step waits for a person": "4h",
		"rounds of the app's own flows that stand for them, one a second": "30", "longest hold of a step of an urgent delivery": "2m",
		"time between TERM and KILL": "10s", "deadline of a rollback, then somebody is paged": "60s", "time between two pages after that": "5m",
		"releases kept, besides every rollback target": "5", "how long releases are kept at least": "30d", "how long measurements are kept": "14d",
		"size of an instance's log before it is rotated": "100 MB", "rotated logs kept": "3", "what a step's deadline adds to its hold": "10m",
		"age below which an instance counts for no latency trigger": "60s", "largest header of a request": "64KiB", "time for the header of a request": "10s",
	} {
		if !strings.Contains(text, "| "+what+" | "+want+" |") {
			t.Errorf("%s is not %s", what, want)
		}
	}
}

// Every key has a meaning, and every scalar a shape.
func TestTableIsComplete(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Map || typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if _, ok := reflect.New(typ).Interface().(scalar); ok || isEnv(typ) || seen[typ] {
			return
		}
		if typ.Kind() != reflect.Struct {
			t.Errorf("%s is no value of the file", typ)
			return
		}
		seen[typ] = true
		for _, row := range fieldsOf(typ) {
			if row.doc == "" {
				t.Errorf("%s.%s has no meaning", typ.Name(), row.key)
			}
			if row.typ.Kind() == reflect.Map && row.names == "" {
				t.Errorf("%s.%s does not say what its names are", typ.Name(), row.key)
			}
			walk(row.typ)
		}
	}
	walk(reflect.TypeFor[File]())
}
