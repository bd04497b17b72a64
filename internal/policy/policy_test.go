package policy

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

const whole = `approvals: { need: 1, from: [ana, ben] }
bake: 2m
monitor: 30m
levels: [unit, integration]
people:
  ana: [ana@example.com, Ana Lindt, ana-admin]
apps:
  payments:
    approvals: { need: 2, from: [ana, ben, cem], expire: 8h }
    monitor: 2h
    levels: [e2e]
    branches: [main]
    remote: https://git.example/payments.git
  blog:
    monitor: 5m
`

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFloors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, path, whole)
	p, err := Open(path, false)
	if err != nil {
		t.Fatal(err)
	}
	all := domain.Floors{Need: 1, From: []string{"ana", "ben"}, Bake: 2 * time.Minute, Monitor: 30 * time.Minute, Levels: []string{"unit", "integration"},
		Branches: []string{}, File: path}
	if got := p.Floors("shop"); !reflect.DeepEqual(got, all) {
		t.Errorf("%+v", got)
	}
	payments := all
	payments.Need, payments.From, payments.Expire, payments.Monitor = 2, []string{"ana", "ben", "cem"}, 8*time.Hour, 2*time.Hour
	payments.Levels, payments.Branches, payments.Remote = []string{"e2e", "integration", "unit"}, []string{"main"}, "https://git.example/payments.git"
	if got := p.Floors("payments"); !reflect.DeepEqual(got, payments) {
		t.Errorf("%+v", got)
	}
	if got := p.Floors("blog").Monitor; got != 30*time.Minute {
		t.Errorf("an app lowers what all apps have: %s", got)
	}
	for identity, person := range map[string]string{"ana": "ana", "ANA@example.com": "ana", "ana lindt": "ana", "ana-admin": "ana", "ben": "", "": ""} {
		if got := p.Person(identity); got != person {
			t.Errorf("%s is %q", identity, got)
		}
	}
	if text := p.Text(); !strings.Contains(text, "1 of ana, ben agree · bake at least 2m · Monitor at least 30m") {
		t.Error(text)
	}
}

func TestWrongFiles(t *testing.T) {
	for text, says := range map[string]string{
		"bakes: 2m\n":                    `policy.yaml:1:1: unknown key "bakes"`,
		"bake: 2\n":                      "policy.yaml:1:7:",
		"monitor: 30m\n\nskip: [test]\n": "policy.yaml:3:1:",
		"approvals: { need: 3, from: [ana, ben] }\n": "3 of 2 people can never be reached",
		"approvals: { need: 1 }\n":                   "approvals.from: from whom?",
		"approvals: { from: [ana] }\n":               "approvals.need: at least 1",
		"levels: [smoke]\n":                          "there are unit, integration and e2e",
		"people: { ana: [x], ben: [X] }\n":           "is both ana and ben",
		"approvals: { need: 2, from: [a, b] }\napps: { blog: { approvals: { need: 1, from: [a] } } }\n": "less than the 2 that all apps need",
		"apps: { blog: { remote: --upload-pack=x } }\n":                                                 "not the address of a repository",
	} {
		path := filepath.Join(t.TempDir(), "policy.yaml")
		write(t, path, text)
		_, err := Open(path, false)
		if domain.CodeOf(err) != domain.Invalid || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none.yaml"), false); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("a named file that is not there: %v", err)
	}
}

// What others may write is nobody's policy.
func TestUnsafeFiles(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"may be written by others":  func(path string) error { return os.Chmod(path, 0o666) },
		"may be replaced by others": func(path string) error { return os.Chmod(filepath.Dir(path), 0o777) },
		"belongs to another user":   func(path string) error { return os.Chown(path, 12345, -1) },
		"is no ordinary file":       func(path string) error { _ = os.Remove(path); return os.Mkdir(path, 0o700) },
	} {
		path := filepath.Join(t.TempDir(), "policy.yaml")
		write(t, path, whole)
		if err := spoil(path); err != nil {
			t.Logf("%s: only root can do that: %v", what, err)
			continue
		}
		_, err := Open(path, true)
		if domain.CodeOf(err) != domain.Invalid || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		if what == "may be written by others" && domain.HintOf(err) != "chmod go-w "+path {
			t.Errorf("hint %q", domain.HintOf(err))
		}
	}
}

// A change counts at once; a wrong one is told once, and the last right one holds.
func TestRefresh(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	p, err := Open(path, true)
	if err != nil || p.Text() != "" || p.Floors("shop").Need != 0 {
		t.Fatalf("%v %q", err, p.Text())
	}
	refresh := func(want bool, says string) {
		t.Helper()
		changed, err := p.Refresh()
		if changed != want || (err != nil) != (says != "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("changed %v: %v", changed, err)
		}
	}
	refresh(false, "")
	write(t, path, whole)
	refresh(true, "")
	refresh(false, "")
	write(t, path, "bakes: 2m\n")
	refresh(false, `unknown key "bakes"`)
	refresh(false, "")
	if p.Floors("shop").Need != 1 || !strings.Contains(p.Text(), "the last right one holds") {
		t.Errorf("%q", p.Text())
	}
	write(t, path, "monitor: 40m\n")
	refresh(true, "")
	if f := p.Floors("shop"); f.Monitor != 40*time.Minute || f.Need != 0 {
		t.Errorf("%+v", f)
	}
	if err := os.Rename(path, path+"~"); err != nil { // as editors do
		t.Fatal(err)
	}
	refresh(false, "cannot be read")
	if f := p.Floors("shop"); f.Monitor != 40*time.Minute {
		t.Errorf("without its file: %+v", f)
	}
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
	refresh(true, "")
	if err := os.Chmod(path, 0o622); err != nil {
		t.Fatal(err)
	}
	write(t, path, "monitor: 1m\n")
	refresh(false, "may be written by others")
	if f := p.Floors("shop"); f.Monitor != 40*time.Minute {
		t.Errorf("%+v", f)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	refresh(true, "")
	if f := p.Floors("shop"); f.Monitor != time.Minute || strings.Contains(p.Text(), "the last right one holds") {
		t.Errorf("%+v %q", f, p.Text())
	}
}
