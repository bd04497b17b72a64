package config

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// file builds a source from lines by number; the others are empty.
func lines(at map[int]string) []byte {
	numbers := slices.Sorted(maps.Keys(at))
	out := make([]string, numbers[len(numbers)-1])
	for n, text := range at {
		out[n-1] = text
	}
	return []byte(strings.Join(out, "\n") + "\n")
}

// fakeKey is a made-up key; it stands in two parts so that no scanner takes it for a real one.
const fakeKey = "sk_live_" + "51HxQ4k9Zr2mWq8vTn3bYc7d"

// Each finding must read exactly so.
var samples = []struct {
	id   string
	src  map[int]string
	want string
}{
	{"unknown-key", map[int]string{1: "app: shop", 2: "environments:", 3: "  staging: {}"}, `
belay.yaml:2:1: unknown key "environments": belay.yaml has no such block
    2 | environments:
      | ^^^^^^^^^^^^ write the value where it is used: { staging: …, production: … }
`},
	{"unknown-key", map[int]string{14: "roles:", 15: "  web:", 16: "    command: bin/api"}, `
belay.yaml:16:5: unknown key "command": roles.web has no such key
   16 |     command: bin/api
      |     ^^^^^^^ did you mean run?
`},
	{"unknown-key", map[int]string{7: "test:", 8: "  unit: { run: npm test, skip: true }"}, `
belay.yaml:8:26: unknown key "skip": no level can be skipped
    8 |   unit: { run: npm test, skip: true }
      |                          ^^^^ say why there is none: { none: <reason> }
`},
	{"level-missing", map[int]string{6: "test:", 7: "  unit: { run: npm test }", 8: "  integration: { none: there is one service only }"}, `
belay.yaml:6:1: test.e2e: the level is missing
    6 | test:
      | ^^^^ write e2e: { run: … }, or e2e: { none: <reason> }
`},
	{"cannot-fail", map[int]string{6: "test:", 9: "  e2e: { run: npx playwright test || true }"}, `
belay.yaml:9:15: test.e2e.run: this command cannot fail
    9 |   e2e: { run: npx playwright test || true }
      |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^ take "|| true" away
`},
	{"column-missing", map[int]string{12: "env:", 13: "  REGION: { staging: eu-1 }"}, `
belay.yaml:13:11: env.REGION: it has no value for production
   13 |   REGION: { staging: eu-1 }
      |           ^ every value exists in both environments
`},
	{"unknown-environment", map[int]string{12: "env:", 13: "  REGION: { staging: eu-1, prodution: eu-2 }"}, `
belay.yaml:13:28: unknown environment "prodution": there are two, staging and production
   13 |   REGION: { staging: eu-1, prodution: eu-2 }
      |                            ^^^^^^^^^ did you mean production?
`},
	{"literal-secret", map[int]string{12: "env:", 14: "  STRIPE_KEY: " + fakeKey}, `
belay.yaml:14:15: env.STRIPE_KEY: it looks like a secret (Stripe live key)
   14 |   STRIPE_KEY: sk_live_51Hx…
      |               ^^^^^^^^^^^^^
        hint: name it under secrets.store; belay secret set STRIPE_KEY --env staging; rotate it
`},
	{"one-secret", map[int]string{16: "secrets:", 17: "  vault:", 18: "    API_KEY: kv/shop/prod#api_key"}, `
belay.yaml:18:14: secrets.vault.API_KEY: one secret for both environments
   18 |     API_KEY: kv/shop/prod#api_key
      |              ^^^^^^^^^^^^^^^^^^^^ kv/shop/$BELAY_ENV#api_key
`},
	{"secret-and-variable", map[int]string{11: "env:", 12: "  LOG_LEVEL: debug", 20: "secrets:", 21: "  store: [DATABASE_URL, LOG_LEVEL]"}, `
belay.yaml:21:25: LOG_LEVEL is both a secret and a variable: line 12 has it under env
   21 |   store: [DATABASE_URL, LOG_LEVEL]
      |                         ^^^^^^^^^ keep one
`},
	{"columns", map[int]string{22: "roles:", 23: "  web:", 24: "    hosts: [api.shop.example]"}, `
belay.yaml:24:12: roles.web.hosts: one list for both environments
   24 |     hosts: [api.shop.example]
      |            ^ { staging: [api.staging.shop.example], production: [api.shop.example] }
`},
	{"one-instance", map[int]string{22: "roles:", 23: "  web:", 25: "    instances: { staging: 2, production: 1 }"}, `
belay.yaml:25:42: roles.web.instances: 1 in production: nobody serves while it restarts
   25 |     instances: { staging: 2, production: 1 }
      |                                          ^ 2 or more
`},
	{"probe-missing", map[int]string{22: "roles:", 23: "  web:", 24: "    hosts: { staging: [a.example], production: [b.example] }"}, `
belay.yaml:23:3: roles.web.probe: it is missing: without it nobody knows when an instance is ready
   23 |   web:
      |   ^^^ probe: { http: /healthz } (cmd/api/main.go:41 serves it)
`},
	{"not-a-mapping", map[int]string{22: "roles:", 23: "  web:", 26: "    probe: /healthz"}, `
belay.yaml:26:12: roles.web.probe: a mapping is expected
   26 |     probe: /healthz
      |            ^^^^^^^^ { http: /healthz }
`},
	{"fixed-port", map[int]string{22: "roles:", 23: "  web:", 27: "    port: 3000"}, `
belay.yaml:27:5: roles.web.port: two instances on one machine cannot share it
   27 |     port: 3000
      |     ^^^^ leave it out and listen on $PORT (driver process)
`},
	{"size", map[int]string{22: "roles:", 23: "  web:", 28: "    memory: 512MB"}, `
belay.yaml:28:13: roles.web.memory: not a size
   28 |     memory: 512MB
      |             ^^^^^ 512MiB
`},
	{"unquoted-star", map[int]string{22: "roles:", 30: "  tidy:", 31: "    schedule: */5 * * * *"}, `
belay.yaml:31:15: roles.tidy.schedule: an unquoted * starts a YAML alias
   31 |     schedule: */5 * * * *
      |               ^^^ "*/5 * * * *"
`},
	{"two-of-one", map[int]string{32: "build:", 33: "  dockerfile: Dockerfile", 34: "  files: [bin/api]"}, `
belay.yaml:34:3: build.files: build.dockerfile (line 33) already says what the artifact is
   34 |   files: [bin/api]
      |   ^^^^^ keep one
`},
	{"mutable-base", map[int]string{32: "build:", 34: "  files: [bin/api]", 35: "  base: debian:12-slim"}, `
belay.yaml:35:9: build.base: a tag can move under you
   35 |   base: debian:12-slim
      |         ^^^^^^^^^^^^^^ pin it: debian@sha256:…
`},
	{"critical-write", map[int]string{36: "verify:", 37: "  checks:", 38: "    pay: { http: /v1/pay, method: POST, critical: true }"}, `
belay.yaml:38:41: verify.checks.pay: a critical check repeats for hours, a POST should not
   38 |     pay: { http: /v1/pay, method: POST, critical: true }
      |                                         ^^^^^^^^
        hint: check a read here, and name the write: guard: { endpoints: [POST /v1/pay] }
`},
	{"unknown-name", map[int]string{28: "metrics:", 29: "  cache_hit_rate: { query: rate(hits) / rate(gets) }", 36: "verify:", 37: "  checks:", 39: "    cache: { metric: cache_hits > 80% }"}, `
belay.yaml:39:22: verify.checks.cache: unknown name cache_hits
   39 |     cache: { metric: cache_hits > 80% }
      |                      ^^^^^^^^^^ did you mean cache_hit_rate? (metrics, line 29)
`},
	{"approvals", map[int]string{41: "gates:", 42: "  approvals: { need: 3, from: [ana, ben] }"}, `
belay.yaml:42:22: gates.approvals.need: 3 of 2 people can never be reached
   42 |   approvals: { need: 3, from: [ana, ben] }
      |                      ^ 2, or a third person
`},
	{"window-zone", map[int]string{41: "gates:", 43: "  window: Mon-Fri 09:00-16:00"}, `
belay.yaml:43:11: gates.window: it has no time zone
   43 |   window: Mon-Fri 09:00-16:00
      |           ^^^^^^^^^^^^^^^^^^^ Mon-Fri 09:00-16:00 Europe/Berlin
`},
	{"last-step", map[int]string{45: "rollout:", 46: "  steps: [5% for 15m, 50% for 15m, 100%]"}, `
belay.yaml:46:36: rollout.steps[2]: the last shift always goes to all but the holdback
   46 |   steps: [5% for 15m, 50% for 15m, 100%]
      |                                    ^^^^ leave it out
`},
	{"limit", map[int]string{48: "guard:", 49: "  error_rate: 5%"}, `
belay.yaml:49:15: guard.error_rate: for how long?
   49 |   error_rate: 5%
      |               ^^ 5% for 3m
`},
	{"unknown-key", map[int]string{15: "roles:", 16: "  web:", 17: "    replicas: 4"}, `
belay.yaml:17:5: unknown key "replicas": roles.web has no such key
   17 |     replicas: 4
      |     ^^^^^^^^ did you mean instances?
`},
	{"host-in-both", map[int]string{15: "roles:", 16: "  web:", 18: "    hosts: { staging: [pay.shop.example], production: [pay.shop.example] }"}, `
belay.yaml:18:56: roles.web.hosts.production: pay.shop.example is also in staging
   18 |     hosts: { staging: [pay.shop.example], production: [pay.shop.example] }
      |                                                        ^^^^^^^^^^^^^^^^ each needs its own
`},
}

func TestFindingsReadSo(t *testing.T) {
	dir := fstest.MapFS{"cmd/api/main.go": {Data: []byte(strings.Repeat("\n", 40) + `mux.HandleFunc("GET /healthz", ok)`)}}
	for _, s := range samples {
		want := strings.TrimPrefix(s.want, "\n")
		_, findings := Parse(FileName, lines(s.src), Options{Dir: dir})
		at := slices.IndexFunc(findings, func(f Finding) bool { return render1(f) == want })
		if at < 0 {
			t.Errorf("want\n%sgot\n%s", want, render(t, findings))
			continue
		}
		if findings[at].ID != s.id {
			t.Errorf("id %q, want %q, of\n%s", findings[at].ID, s.id, want)
		}
	}
}

func render1(f Finding) string {
	var b strings.Builder
	f.format(&b, false)
	return b.String()
}

// All mistakes of one file are told at once, with one line at the end.
func TestEveryFindingAtOnce(t *testing.T) {
	src := strings.ReplaceAll(string(examples(t)["payments"]), "instances: { staging: 2, production: 4 }", "replicas: 4")
	src = strings.ReplaceAll(src, "pay.staging.shop.example", "pay.shop.example")
	src = strings.ReplaceAll(src, " Europe/Berlin", "")
	_, findings := Parse(FileName, []byte(src), Options{})
	got := render(t, findings)
	if !strings.HasSuffix(got, "\n3 errors in belay.yaml\n") || !Failed(findings, false) {
		t.Errorf("got\n%s", got)
	}
	if !slices.IsSortedFunc(findings, func(a, b Finding) int { return a.Line - b.Line }) {
		t.Error("not sorted by place")
	}
}
