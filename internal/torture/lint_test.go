package torture

import (
	"strings"
	"testing"
)

// lintFile is an app whose linters and build are scripts of the commit.
const lintFile = `app: torture
build: { run: sh build.sh, files: [app, mode, aim], cache: [.kept], lint: [sh lint.sh, test -s mode] }
test:
  unit:        { run: ./app check }
  integration: { none: the app has one part only }
  e2e:         { none: the torture tests are its visitors }
roles:
  web:
    run: ./app
    hosts: { staging: [staging.torture.localhost], production: [torture.localhost] }
    probe: { http: /healthz, every: 1s, timeout: 900ms }
    drain: 1s
rollout: { strategy: blue-green, staging_hold: 0s }
monitor: { for: 1s }
`

// Linters run beside the build, see the commit as it is whatever the build writes meanwhile, and can change none of it.
func TestLintersChangeNothing(t *testing.T) {
	w := newWorld(t, "1s", "")
	health, err := w.api1.Health(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(health.Sandbox, "namespaces") {
		t.Skip("nothing can be shown read-only on this machine: " + health.Sandbox)
	}
	// The build says when it has half written its output, and goes on only when the linter has looked.
	build := "rm -f .kept/*\necho half > made; echo half > mode.half; touch .kept/half\n" +
		"i=0; until [ -e .kept/looked ] || [ $i -gt 600 ]; do sleep 0.05; i=$((i+1)); done\n[ -e .kept/looked ]\n"
	look := "i=0; until [ -e .kept/half ] || [ $i -gt 600 ]; do sleep 0.05; i=$((i+1)); done\n" +
		"[ ! -e made ] && [ ! -e mode.half ] && echo SEES THE COMMIT\ntouch .kept/looked\n"
	for _, c := range []struct {
		name, lint string
		code       int
		says       []string
	}{
		{"looks", look, 0, []string{"SEES THE COMMIT", "lint sh lint.sh: clean", "lint 2 of 2"}},
		{"writes where it may", look + `echo x > "$HOME/x" && echo x > "$TMPDIR/x" && mkdir -p "$XDG_CACHE_HOME" && echo x > "$XDG_CACHE_HOME/x" && echo WROTE` + "\n", 0, []string{"WROTE"}},
		{"formats", look + "echo formatted >> mode\n", 1, []string{
			"lint failed: sh lint.sh: exit ", "ead-only file system", "use the check form: gofmt -l, prettier --check",
			"lint sh lint.sh: exit ", "first: ", // what it printed and what it complained about come by two pipes
		}},
		{"adds a file", look + "touch new\n", 1, []string{"use the check form"}},
		{"removes a file", look + "rm -f aim\n", 1, []string{"use the check form"}},
		{"changes the mode of a file", look + "chmod 600 aim\n", 1, []string{"use the check form"}},
		{"goes another way", look + "cd \"$(dirname \"$PWD\")\" && ls; touch ../src/new || touch \"$OLDPWD/../clean/new\"\n", 1, nil},
		{"mounts", look + "mount -o remount,rw \"$PWD\" 2>/dev/null || umount \"$PWD\" 2>/dev/null; touch new\n", 1, nil},
	} {
		w.write("belay.yaml", lintFile, 0o644)
		w.write("mode", "name="+strings.ReplaceAll(c.name, " ", "-")+" \n", 0o644)
		w.write("build.sh", build, 0o644)
		w.write("lint.sh", "set -e\n"+c.lint, 0o644)
		w.git("add", "--all")
		w.git("commit", "--quiet", "--message", c.name)
		code, said := w.belay("test")
		if code != c.code {
			t.Errorf("%s: exit %d\n%s", c.name, code, said)
		}
		for _, part := range c.says {
			if !strings.Contains(said, part) {
				t.Errorf("%s: it does not say %q:\n%s", c.name, part, said)
			}
		}
	}
}
