package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// small is a whole file that is right.
const small = `app: shop
build: { run: go build -o app ., lint: [go vet ./...], files: [app] }
test:
  unit:        { run: go test ./... }
  integration: { none: one service without a database }
  e2e:         { run: ./e2e.sh, start: [web] }
roles:
  web:
    run: ./app
    hosts: { staging: [a.example], production: [b.example] }
    probe: { http: /healthz }
`

func parsed(t *testing.T, src string) (*File, []Finding) {
	t.Helper()
	return Parse(FileName, []byte(src), Options{})
}

func right(t *testing.T, src string) *File {
	t.Helper()
	f, findings := parsed(t, src)
	if f == nil || Failed(findings, false) {
		t.Fatalf("not right:\n%s", render(t, findings))
	}
	return f
}

// finds reports whether a finding's first line and hint hold the texts.
func finds(findings []Finding, id, part string) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool {
		return f.ID == id && (strings.Contains(f.Message, part) || strings.Contains(f.Hint, part))
	})
}

func TestRefusals(t *testing.T) {
	if _, findings := parsed(t, small); len(findings) != 1 || findings[0].ID != "declared-gap" {
		t.Fatal(render(t, findings))
	}
	role := func(line string) string { return small + "    " + line + "\n" }
	build := func(with string) string { return strings.Replace(small, "files: [app]", with, 1) }
	for _, c := range []struct{ src, id, part string }{
		{strings.Replace(small, "app: shop", "app: Shop_API", 1), "name", "shop-api"},
		{"driver: { staging: docker, production: docker }\n" + small, "columns", "the same in both"},
		{"driver: dokcer\n" + small, "driver", "did you mean docker?"},
		{"kubernetes: { namespace: { staging: a, production: b } }\n" + small, "needs", "driver: kubernetes"},
		{"driver: kubernetes\nkubernetes: { namespace: { staging: a, production: a } }\n" + small, "one-namespace", "each needs its own"},
		{build("files: [app], target: x"), "needs", "dockerfile"},
		{build("files: [../x]"), "outside", "outside"},
		{build("files: [app], cache: [app]"), "cache-packed", "build.files"},
		{build("image: registry.example/shop:1.2"), "image-tag", "leave it out: registry.example/shop"},
		{build("dockerfile: D, args: { A: { staging: 1, production: 2 } }"), "columns", "the same in both"},
		{build("timeout: 15"), "duration", "15s"},
		{build("timeout: 0s, files: [app]"), "zero", "longer than 0"},
		{strings.Replace(small, "one service without a database", "TODO", 1), "empty-reason", "sentence"},
		{strings.Replace(small, "run: go test ./...", "run: go test ./..., none: really not", 1), "two-of-one", "keep one"},
		{strings.Replace(small, "run: go test ./... ", "timeout: 5m ", 1), "level-empty", "none"},
		{strings.Replace(small, "start: [web]", "start: [wbe]", 1), "unknown-role", "did you mean web?"},
		{strings.Replace(small, "start: [web]", "services: [postgres:17]", 1), "service-version", "write postgres 17"},
		{strings.Replace(small, "start: [web]", "services: [postgres: 17]", 1), "service-version", "write postgres 17"},
		{strings.Replace(small, "start: [web]", "services: [mongo]", 1), "service", "unknown service mongo"},
		{strings.Replace(small, "start: [web]", "shards: 65", 1), "range", "64"},
		{strings.Replace(small, "run: go test ./...", "run: npm test, shards: 4", 1), "shards-command", "$BELAY_SHARD_TESTS"},
		{strings.Replace(small, "run: go test ./...", "run: go test ./... | tee x, shards: 4", 1), "shards-command", "4 parts"},
		{strings.Replace(small, "run: go test ./...", "run: npx jest $BELAY_SHARD_TESTS, report: out/j.xml, shards: 4", 1), "shards-report", "out/j-$BELAY_SHARD.xml"},
		{"env: { PORT: 80 }\n" + small, "reserved", "PORT"},
		{"env: { BELAY_X: 80 }\n" + small, "reserved", "BELAY_X"},
		{"env: { 1X: 80 }\n" + small, "variable-name", "letters"},
		{"env: { A: { staging: x, production: " + fakeKey + " } }\n" + small, "literal-secret", "--env production"},
		{"secrets: { store: [A], env: { A: X_$BELAY_ENV } }\n" + small, "secret-twice", "line 1"},
		{"secrets: { vault: { A: kv/shop/$BELAY_ENV } }\n" + small, "secret-field", "#value"},
		{"secrets: { file: { A: etc/x } }\n" + small, "secret-file", "absolute"},
		{"secrets: { env: { A: TOKEN } }\n" + small, "one-secret", "TOKEN_$BELAY_ENV"},
		{"migrations: { tool: goose }\n" + small, "not-a-secret", "DATABASE_URL"},
		{"migrations: { up: x }\nsecrets: { store: [DATABASE_URL] }\n" + small, "needs", "down"},
		{"migrations: { tool: goose, lock_timeout: 6s }\nsecrets: { store: [DATABASE_URL] }\n" + small, "range", "5s"},
		{role("static: x"), "two-of-one", "already says what runs"},
		{role("singleton: true"), "not-together", "hosts"},
		{role("schedule: 0 3 * * * Europe/Berlin"), "not-together", "hosts"},
		{role("overlap: skip"), "needs", "schedule"},
		{role("jobs: { done: x }"), "needs", "metrics"},
		{role("instances: 0"), "range", "at least 1"},
		{role("instances: 1"), "one-instance", "nobody serves"},
		{role("instances: 101"), "range", "at most 100"},
		{role("drain: 16m"), "range", "15m"},
		{role("memory: 512m"), "size", "512MiB"},
		{role("cpu: 2 cores"), "cores", "0.5"},
		{role("env: { A: 1 }") + "env: { A: 2 }\n", "variable-twice", "line 13"},
		{role("volumes: { data: /data }"), "path", "relative"},
		{role("volumes: { data: pgdata }"), "database-volume", "database"},
		{strings.Replace(small, "{ http: /healthz }", "{ http: healthz }", 1), "url-path", "/healthz"},
		{strings.Replace(small, "{ http: /healthz }", "{ http: /a, timeout: 5s }", 1), "probe-timeout", "overlap"},
		{strings.Replace(small, "{ http: /healthz }", "{ every: 5s }", 1), "probe-kind", "one of"},
		{strings.Replace(small, "{ http: /healthz }", "{ log: '(' }", 1), "pattern", "missing"},
		{strings.Replace(small, "[b.example]", "['*.example']", 1), "host", "written out"},
		{strings.Replace(small, "[b.example]", "['https://b.example/x']", 1), "host", "b.example"},
		{strings.Replace(small, "[b.example]", "['b.example:80']", 1), "host", "no port"},
		{small + "  api:\n    run: x\n    hosts: { staging: [a.example], production: [b.example] }\n    probe: { tcp: true }\n", "host-taken", "roles.web"},
		{small + "metrics: { p95: { query: rate(x) } }\n", "metric-taken", "app_p95"},
		{small + "metrics: { x: { query: rat(x) } }\n", "query", "did you mean rate?"},
		{small + "metrics: { x: { good: up } }\n", "missing", "query"},
		{small + "verify: { error_rate: 6% }\n", "verify-guard", "5% for 3m"},
		{small + "verify: { latency: 20% }\n", "growth", "+20%"},
		{small + "verify: { checks: { a: { http: /a, tcp: 'b:1' } } }\n", "two-of-one", "what is checked"},
		{small + "verify: { checks: { a: { critical: true } } }\n", "check-kind", "one of"},
		{small + "verify: { checks: { a: { tcp: 'b:1', critical: true } } }\n", "not-together", "http"},
		{small + "verify: { checks: { a: { http: 'https://x.example/a' } } }\n", "url", "another host"},
		{small + "verify: { checks: { a: { run: 'true' } } }\n", "cannot-fail", "cannot fail"},
		{small + "verify: { checks: { a: { metric: error_rate } } }\n", "expression", "what must it be?"},
		{small + "gates: { window: Mon-Fri 16:00-09:00 UTC }\n", "window-empty", "never open"},
		{small + "gates: { window: Mon-Fri 09:00-16:00 Europe/Berln }\n", "zone", "unknown time zone"},
		{small + "gates: { approvals: { need: 1, from: [a], expire: 8d } }\n", "range", "7d"},
		{small + "rollout: { strategy: blue-green, steps: [5% for 15m] }\n", "steps-strategy", "blue-green has no steps"},
		{small + "rollout: { steps: [50% for 15m, 5% for 15m] }\n", "steps-rise", "rise"},
		{small + "rollout: { steps: [5% until proved within 1m] }\n", "soak", "min_soak"},
		{small + "rollout: { strategy: rolling }\nmonitor: { holdback: 5% }\n", "not-together", "keeps nothing on stable"},
		{small + "rollout: { strategy: rolling, split: visitor }\n", "not-together", "does not split"},
		{small + "rollout: { strategy: rolling, min_soak: 0s }\n", "zero", "longer than 0"},
		{role("instances: { staging: 1, production: 2 }") + "rollout: { strategy: rolling }\n", "one-instance", "rolling with 1"},
		{small + "rollout: { split: request, sticky: { cookie: a } }\n", "not-together", "each request"},
		{small + "rollout: { sticky: { cookie: a, header: b } }\n", "two-of-one", "read from"},
		{small + "guard: { latency: 2 }\n", "factor", "2x"},
		{small + "guard: { margin: 0% }\n", "range", "above 0%"},
		{small + "guard: { false_rollbacks: 6% }\n", "range", "5%"},
		{small + "guard: { endpoints: [/v1/x] }\n", "endpoint", "GET /v1/x"},
		{small + "monitor: { for: 4m }\n", "monitor-short", "5m or longer"},
		{small + "monitor: { holdback: 51% }\n", "range", "50%"},
		{small + "notify: { team: ['https://hooks.example'] }\n", "channel-url", "belay secret set"},
		{small + "notify: { team: [finished] }\n", "event", "unknown event"},
	} {
		_, findings := parsed(t, c.src)
		if !finds(findings, c.id, c.part) {
			t.Errorf("want %s with %q, got\n%s", c.id, c.part, render(t, findings))
		}
	}
}

func TestSynonymsHaveHints(t *testing.T) {
	for _, word := range strings.Fields("environments environment variables services processes command cmd start replicas count scale host domain " +
		"healthcheck health readiness ports domains image_tag cron canary bluegreen weights timezone approvers reviewers skip if when script steps strategy deploy restart") {
		_, findings := parsed(t, small+word+": x\n")
		for _, f := range findings {
			if f.ID == "unknown-key" && (f.Hint == "" || strings.HasPrefix(f.Hint, "it has:")) {
				t.Errorf("%s: no hint of its own: %q", word, f.Hint)
			}
		}
	}
}

// What YAML makes of innocent text.
func TestYAMLTraps(t *testing.T) {
	f := right(t, "env: { A: off, B: no, C: 1.10, D: 0x10, E: 1e3, F: 'a: b', G: 2026-01-01, H: true, I: 007 }\n"+small)
	for name, want := range map[string]string{"A": "off", "B": "no", "C": "1.10", "D": "0x10", "E": "1e3", "F": "a: b", "G": "2026-01-01", "H": "true", "I": "007"} {
		if got := string(f.Env[name].Staging); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, c := range []struct{ src, id string }{
		{"env: &x { A: b }\n" + small, "alias"},
		{"env: { A: &x b, B: *x }\n" + small, "alias"},
		{"env: { <<: { A: b } }\n" + small, "key"},
		{"env: { A: !!str b }\n" + small, "tag"},
		{small + "---\napp: other\n", "second-document"},
		{small + "app: other\n", "twice"},
		{"env: { A: }\n" + small, "empty"},
		{"env:\n" + small, "empty"},
		{"a: [\n", "syntax"},
		{"a:\n\tb: c\n", "syntax"},
		{"", "empty-file"},
		{"# nothing\n", "empty-file"},
		{"- a\n", "not-a-mapping"},
		{"app\n", "not-a-mapping"},
		{strings.Repeat("[", 70), "too-deep"},
		{strings.Repeat(" ", 300) + "a: b", "too-deep"},
		{strings.Repeat("#\n", MaxFileBytes), "too-large"},
		{strings.Replace(small, "run: ./e2e.sh", "run: ./e2e.sh { a }", 1), "syntax"},
	} {
		_, findings := parsed(t, c.src)
		if !finds(findings, c.id, "") {
			t.Errorf("%.60q: want %s, got\n%s", c.src, c.id, render(t, findings))
		}
	}
}

func TestStarIsQuotedAndTheRestIsRead(t *testing.T) {
	_, findings := parsed(t, small+"  tidy: { run: ./tidy, schedule: */5 * * * *, timeout: 5 }\n")
	if !finds(findings, "unquoted-star", `"*/5 * * * *"`) || !finds(findings, "duration", "5s") || len(findings) != 3 {
		t.Error(render(t, findings))
	}
}

func TestDemoMayBeShort(t *testing.T) {
	src := small + "monitor: { for: 10s }\nrollout: { strategy: blue-green, staging_hold: 1s }\n"
	if _, findings := Parse(FileName, []byte(src), Options{}); !finds(findings, "monitor-short", "") {
		t.Error("a short Monitor is taken outside the demo")
	}
	f, findings := Parse(FileName, []byte(src), Options{Demo: true})
	if Failed(findings, false) || f.Monitor.For.D() != 10*time.Second {
		t.Error(render(t, findings))
	}
}

func TestNoSecretIsEverShown(t *testing.T) {
	src := "env: { KEY: " + fakeKey + ", KEY: x, BAD: { staging: 1 } }\n" + small
	_, findings := parsed(t, src)
	if text := render(t, findings); len(findings) < 3 || strings.Contains(text, fakeKey[13:]) {
		t.Error(text)
	}
}

func TestSecretsByForm(t *testing.T) {
	for _, c := range [][2]string{
		{"A", fakeKey}, {"A", "AKIA" + "IOSFODNN7EXAMPLE"}, {"A", "ghp_" + strings.Repeat("a1B2", 9)},
		{"SESSION_SECRET", "9f8a7c6b5d4e3f2a1b0c"}, {"DB_PASSWORD", "hunter22"}, {"A", "postgres://u:pa55w0rd@db/x"},
		{"A", "-----BEGIN RSA " + "PRIVATE KEY-----"},
	} {
		if looksSecret(c[0], c[1]) == "" {
			t.Errorf("%s=%.8s… is a secret", c[0], c[1])
		}
	}
	for _, c := range [][2]string{
		{"LOG_LEVEL", "debug"}, {"API_URL", "https://api.shop.example"}, {"DJANGO_SETTINGS_MODULE", "clinic.settings.deployed"},
		{"TOKEN_TTL", "3600"}, {"PASSWORD_FILE", "/run/secrets/password"}, {"DATABASE_URL", "postgres://db/x"}, {"SECRET", "$OTHER"},
		{"COMMIT", "4f2c81a94f2c81a94f2c81a94f2c81a94f2c81a9"}, {"AUTH_TOKEN", "none"},
	} {
		if kind := looksSecret(c[0], c[1]); kind != "" {
			t.Errorf("%s=%s is no secret, said %s", c[0], c[1], kind)
		}
	}
}

func TestNotesSayWhatIsNotInForce(t *testing.T) {
	f := right(t, string(examples(t)["payments"]))
	var got []string
	for _, n := range NotInForce(f) {
		if n.Severity != Note || n.ID != "not-in-force" {
			t.Errorf("%+v", n)
		}
		got = append(got, strings.SplitN(n.Message, ": ", 2)[0])
	}
	want := []string{"migrations"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if notes := NotInForce(right(t, small)); len(notes) != 0 {
		t.Errorf("the smallest file: %+v", notes)
	}
	if notes := NotInForce(right(t, small+"rollout: { steps: [5% until proved within 30m, 50% for 15m] }\nguard: { margin: 10% }\n")); len(notes) != 0 {
		t.Errorf("what is in force: %+v", notes)
	}
	if notes := NotInForce(f); Failed(notes, true) || Summary(notes) != "" {
		t.Error("notes count")
	}
}

func TestCheckoutFacts(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := Load(dir, Options{}); domain.CodeOf(err) != domain.Invalid || domain.HintOf(err) == "" {
		t.Errorf("no file: %v", err)
	}
	write(FileName, strings.Replace(small, "{ run: go build -o app ., lint: [go vet ./...], files: [app] }", "{ files: [app], lint: [x] }", 1)+
		"migrations: { tool: goose, dir: migrations }\nsecrets: { store: [DATABASE_URL] }\n")
	_, findings, err := Load(dir, Options{})
	if err != nil || !finds(findings, "not-there", "app is not in the checkout") || !finds(findings, "not-there", "migrations is not") {
		t.Errorf("%v\n%s", err, render(t, findings))
	}
	write("app", "")
	write("migrations", "")
	_, findings, err = Load(dir, Options{})
	if err != nil || Failed(findings, false) || finds(findings, "not-there", "") || !finds(findings, "declared-gap", "test.integration") {
		t.Errorf("%v\n%s", err, render(t, findings))
	}
}

func TestWorkloads(t *testing.T) {
	f := right(t, string(examples(t)["clinic"]))
	p := Workloads(f, domain.Production)
	if len(p) != 3 || p[0].Role != "nightly" || p[0].Kind != domain.Cron || p[1].Role != "web" || p[1].Kind != domain.Web || p[2].Kind != domain.Worker {
		t.Fatalf("%+v", p)
	}
	web := p[1]
	if web.Instances != 4 || web.Memory != 512<<20 || web.Env["ALLOWED_HOSTS"] != "clinic.example,www.clinic.example" || web.Probe.StartWithin != 90*time.Second ||
		web.Probe.Every != DefaultProbeEvery || !slices.Equal(web.Secrets, []string{"DATABASE_URL", "SECRET_KEY", "SENTRY_DSN"}) || web.Volumes["uploads"] != "media" ||
		!slices.Equal(web.Paths, []string{"/"}) || web.TLS != "auto" || web.Drain != DefaultDrain {
		t.Errorf("%+v", web)
	}
	if p[2].Jobs == nil || p[2].Drain != 5*time.Minute {
		t.Errorf("%+v", p)
	}
	if job := p[0]; job.Instances != 0 || job.Schedule != "0 3 * * * Europe/Berlin" || job.Overlap != "skip" || job.Timeout != 30*time.Minute {
		t.Errorf("%+v", job)
	}
	if s := Workloads(f, domain.Staging)[1]; s.Instances != 2 || s.Hosts[0] != "staging.clinic.example" {
		t.Errorf("%+v", s)
	}
	if static := Workloads(right(t, string(examples(t)["handbook"])), domain.Staging)[0]; static.Probe.HTTP != "/" || static.Static != "dist" {
		t.Errorf("%+v", static)
	}
}

func TestHash(t *testing.T) {
	f := right(t, string(examples(t)["clinic"]))
	w := Workloads(f, domain.Production)
	hash := HashOf(w)
	if !strings.HasPrefix(hash, "sha256:") || hash != Hash(f, domain.Production) || hash == Hash(f, domain.Staging) {
		t.Error(hash)
	}
	slices.Reverse(w)
	w[1].Env["SECRET_KEY"] = "value"
	if HashOf(w) != hash {
		t.Error("the value of a secret or the order changes the hash")
	}
	w[1].Env["DJANGO_SETTINGS_MODULE"] = "other"
	if HashOf(w) == hash {
		t.Error("a variable does not change the hash")
	}
}

func TestWindow(t *testing.T) {
	var w Window
	if f := w.parse("Mon-Thu 09:00-16:00, Fri 09:00-12:00 Europe/Berlin"); f != nil {
		t.Fatal(f.why)
	}
	for at, open := range map[string]bool{
		"2026-11-23T08:00:00Z": true, "2026-11-23T07:59:59Z": false, "2026-11-23T15:00:00Z": false, // Monday, 9:00 in Berlin
		"2026-11-27T10:59:59Z": true, "2026-11-27T11:00:00Z": false, "2026-11-28T10:00:00Z": false, // Friday, Saturday
		"2026-07-06T07:00:00Z": true, // summer time
	} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil || w.Open(when) != open {
			t.Errorf("%s: %v, want %v", at, !open, open)
		}
	}
	if !(Window{}).Open(time.Now()) {
		t.Error("no window is always open")
	}
}

func ExampleFormat() {
	_, findings := Parse(FileName, []byte(strings.Replace(small, "files: [app]", "filse: [app]", 1)), Options{})
	var b strings.Builder
	_ = Format(&b, findings[1:2], false)
	fmt.Print(b.String())
	// Output:
	// belay.yaml:2:56: unknown key "filse": build has no such key
	//     2 | build: { run: go build -o app ., lint: [go vet ./...], filse: [app] }
	//       |                                                        ^^^^^ did you mean files?
	// 1 error in belay.yaml
}
