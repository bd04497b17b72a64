package scaffold

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/belay-cd/belay/internal/config"
)

const billingFile = `app: billing
build: { run: go build -o app ., files: [app] }
test:
  unit:        { run: go test ./... }
  integration: { none: one service without a database }
  e2e:         { none: covered by the storefront }
roles:
  worker: { run: ./app, probe: { heartbeat: 30s } }
`

// At the root of a repository of several apps init names them: a file there would be that of an app that does not exist.
func TestInitAtTheRootNamesTheApps(t *testing.T) {
	for _, c := range []struct {
		name  string
		files archive
		want  string
	}{
		{"one has a file", archive{
			{"go.mod", "module shop.example/all\n"}, {"services/billing/belay.yaml", billingFile}, {"services/billing/main.go", "package main\n"},
			{"services/web/package.json", `{ "scripts": { "start": "next start" } }`}, {"libs/money/package.json", `{ "name": "money" }`},
			{"services/web/node_modules/x/package.json", `{ "scripts": { "start": "x" } }`}, {"services/web/examples/belay.yaml", billingFile},
		}, `found   services/billing/belay.yaml: app billing
guess   services/web looks like an app (package.json), and has no belay.yaml yet
next    belay -C services/web init                      writes its file
        belay ship                                      here: every app whose inputs the commit changed
`},
		{"a workspace", archive{
			{"go.work", "go 1.26\nuse ./api\n"}, {"api/go.mod", "module a\n"}, {"api/cmd/api/main.go", "package main\n"}, {"lib/go.mod", "module l\n"}, {"lib/l.go", "package l\n"},
		}, `guess   api looks like an app (go.mod), and has no belay.yaml yet
next    belay -C api init                               writes its file
`},
		{"nothing at the root", archive{{"README.md", "# all\n"}, {"a/Procfile", "web: ./a\n"}, {"b/manage.py", "\n"}},
			`guess   a looks like an app (Procfile), and has no belay.yaml yet
guess   b looks like an app (manage.py), and has no belay.yaml yet
next    belay -C a init                                 writes its file
        belay -C b init                                 writes its file
`},
		{"other languages", archive{
			{"README.md", "# all\n"}, {"bank/pom.xml", "<plugin><artifactId>spring-boot-maven-plugin</artifactId></plugin>"}, {"money/pom.xml", "<project/>"},
			{"mailer/Cargo.toml", "[package]\n"}, {"mailer/src/main.rs", "fn main() {}\n"}, {"crate/Cargo.toml", "[package]\n"},
			{"clinic/config.ru", "run App\n"}, {"portal/artisan", "<?php\n"}, {"shelf/build.gradle.kts", "plugins { application }\n"},
		}, `guess   bank looks like an app (pom.xml), and has no belay.yaml yet
guess   clinic looks like an app (config.ru), and has no belay.yaml yet
guess   mailer looks like an app (Cargo.toml), and has no belay.yaml yet
guess   portal looks like an app (artisan), and has no belay.yaml yet
guess   shelf looks like an app (build.gradle.kts), and has no belay.yaml yet
next    belay -C bank init                              writes its file
        belay -C clinic init                            writes its file
        belay -C mailer init                            writes its file
        belay -C portal init                            writes its file
        belay -C shelf init                             writes its file
`},
	} {
		dir := t.TempDir()
		c.files.write(t, dir)
		report, err := Init(dir, Options{Has: has})
		if err != nil || report.Wrote || report.String() != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", c.name, err, report, c.want)
		}
		if _, err := os.Stat(filepath.Join(dir, config.FileName)); err == nil {
			t.Errorf("%s: a file was written at the root", c.name)
		}
	}
}

// An app whose folder holds others that are no apps is one app.
func TestInitOfOneAppWithFoldersBelow(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shop")
	archive{{"go.mod", "module shop\n"}, {"main.go", "package main\n"}, {"web/package.json", `{ "scripts": { "start": "vite" } }`}, {"deploy/Dockerfile", "FROM x\n"}}.write(t, dir)
	if report, err := Init(dir, Options{Has: has}); err != nil || !report.Wrote {
		t.Errorf("%v\n%s", err, report)
	}
}
