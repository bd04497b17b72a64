package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const judged = `app: shop
build: { run: go build -o bin/shop, files: [bin/shop], lint: [go vet ./...] }
test:
  unit:        { run: go test -json ./... }
  integration: { run: make int, report: int.xml, services: [postgres 17] }
  e2e:         { run: make e2e, report: e2e.xml, start: [web], inputs: [src, e2e] }
env: { A: b }
roles:
  web:
    run: bin/shop
    hosts: { staging: [staging.shop.example], production: [shop.example] }
    probe: { http: /healthz }
verify:
  checks:
    items: { http: /v1/items, body: "<ul class=items>", json: { 0.currency: EUR }, critical: true }
    flow:  { run: ./flow.sh }
gates: { approvals: { need: 2, from: [ana, ben, cem] } }
`

// What a commit changes of its own tests and checks: either the last file's stand in, or it is told that they are in force at
// once.
func TestTestsAndChecksOfTheStricterFile(t *testing.T) {
	last := right(t, judged)
	for _, c := range []struct {
		from, to string
		says     string
		holds    func(e *File) bool
	}{
		{"{ run: go test -json ./... }", "{ run: go test ./... }", "test.unit: its tests are no longer counted: go test ./..., was go test -json ./...",
			func(e *File) bool { return e.Test.Unit.Run.Text == "go test -json ./..." }},
		{"{ run: go test -json ./... }", "{ run: go test -json ./cmd }", "test.unit.run: go test -json ./cmd, was go test -json ./...: in force at once",
			func(e *File) bool { return e.Test.Unit.Run.Text == "go test -json ./cmd" }},
		{"{ run: go test -json ./... }", "{ run: go test -json ./..., env: { SKIP: slow } }", "test.unit.env.SKIP: it is slow: in force at once",
			func(e *File) bool { return e.Test.Unit.Env["SKIP"] == "slow" }},
		{", report: int.xml, services: [postgres 17]", ", report: int.xml", "test.integration.services: postgres is removed",
			func(e *File) bool { return len(e.Test.Integration.Services) == 1 }},
		{", report: int.xml, services", ", services", "test.integration: its tests are no longer counted: make int, was make int",
			func(e *File) bool { return e.Test.Integration.Report == "int.xml" }},
		{"run: make int, report: int.xml, services: [postgres 17]", "none: they are slow", "test.integration: it became none: they are slow",
			func(e *File) bool { return e.Test.Integration.Run.Text == "make int" && e.Test.Integration.None == "" }},
		{"start: [web], inputs", "inputs", "test.e2e.start: web is no longer started", func(e *File) bool { return len(e.Test.E2E.Start) == 1 }},
		{"inputs: [src, e2e]", "inputs: [e2e]", "test.e2e.inputs: they leave something out that was looked at: [e2e], were [src e2e]",
			func(e *File) bool { return slices.Contains(e.Test.E2E.Inputs, "src") }},
		{"{ run: go test -json ./... }", "{ run: go test -json ./..., inputs: [docs] }", "test.unit.inputs: they leave something out that was looked at: [docs], were everything",
			func(e *File) bool { return len(e.Test.Unit.Inputs) == 0 }},
		{", lint: [go vet ./...]", "", "build.lint: go vet ./... is no longer run: in force at once", nil},
		{"http: /v1/items", "http: /healthz", "verify.checks.items: it asks GET /healthz, was GET /v1/items: both are asked",
			func(e *File) bool {
				return e.Verify.Checks["items"].HTTP == "/v1/items" && e.Verify.Checks["items-of-this-commit"].HTTP == "/healthz"
			}},
		{"run: ./flow.sh", "run: ./other.sh", "verify.checks.flow: it asks ./other.sh, was ./flow.sh: both are asked",
			func(e *File) bool { return e.Verify.Checks["flow"].Run.Text == "./flow.sh" }},
		{`body: "<ul class=items>"`, "body: <ul", `verify.checks.items.body: "<ul" says less than "<ul class=items>"`,
			func(e *File) bool { return e.Verify.Checks["items"].Body == "<ul class=items>" }},
		{`body: "<ul class=items>"`, "body: Hello", `verify.checks.items.body: "Hello", was "<ul class=items>": in force at once`,
			func(e *File) bool { return e.Verify.Checks["items"].Body == "Hello" }},
		{"0.currency: EUR", `0.currency: "*"`, "verify.checks.items.json.0.currency: it may be anything, was EUR",
			func(e *File) bool { return e.Verify.Checks["items"].JSON["0.currency"] == "EUR" }},
		{", critical: true", ", critical: true, status: 503", "verify.checks.items.status: 503, was 200",
			func(e *File) bool { return e.Verify.Checks["items"].Status == 200 }},
		{"need: 2, from: [ana, ben, cem]", "need: 1, from: [ana]", "gates.approvals.need: 1, was 2",
			func(e *File) bool { return e.Gates.Approvals.Need == 2 && len(e.Gates.Approvals.From) == 3 }},
		{"need: 2, from: [ana, ben, cem]", "need: 2, from: [ana, ana-two]", "gates.approvals.from: ana-two is new",
			func(e *File) bool { return !slices.Contains(e.Gates.Approvals.From, "ana-two") }},
	} {
		if !strings.Contains(judged, c.from) {
			t.Fatalf("%q is not in the file", c.from)
		}
		e, loosened := Stricter(right(t, strings.Replace(judged, c.from, c.to, 1)), last)
		if !slices.Contains(loosened, c.says) {
			t.Errorf("%s: it says %q", c.to, loosened)
		}
		if c.holds != nil && !c.holds(e) {
			t.Errorf("%s: it does not hold", c.to)
		}
	}
	if _, loosened := Stricter(right(t, judged), last); len(loosened) > 0 {
		t.Errorf("the same file loosens %q", loosened)
	}
}

// The floors of the server raise what is shorter, and nothing else.
func TestRaise(t *testing.T) {
	f := right(t, judged+"rollout: { steps: [5% for 1m, 50% for 20m], min_soak: 30s }\nmonitor: { for: 10m }\n")
	e, said := Raise(f, Floors{Bake: 5 * time.Minute, Monitor: time.Hour})
	want := []string{"monitor.for: 1h instead of 10m", "rollout.min_soak: 5m instead of 30s", "rollout.steps: 5% for 5m instead of 60s"}
	if !slices.Equal(said, want) {
		t.Errorf("%q", said)
	}
	if e.Rollout.Steps[0].For != 5*time.Minute || e.Rollout.Steps[1].For != 20*time.Minute || f.Rollout.Steps[0].For != time.Minute {
		t.Errorf("%v", e.Rollout.Steps)
	}
	if _, said := Raise(f, Floors{}); len(said) > 0 {
		t.Errorf("no floors raise %q", said)
	}
}
