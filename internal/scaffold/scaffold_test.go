package scaffold

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belay-cd/belay/internal/config"
	"github.com/belay-cd/belay/internal/domain"
)

var update = flag.Bool("update", false, "write the golden files again")

// has is a machine with curl.
func has(program string) bool { return program == "curl" }

// archive is a text of files, each after a line "-- name --".
type archive []struct{ name, data string }

func readArchive(t *testing.T, name string) archive {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var files archive
	for line := range strings.Lines(string(data)) {
		rest, begins := strings.CutPrefix(line, "-- ")
		file, ends := strings.CutSuffix(rest, " --\n")
		if begins && ends {
			files = append(files, struct{ name, data string }{name: file})
		} else if len(files) > 0 {
			files[len(files)-1].data += line
		}
	}
	return files
}

// write puts the repository of an archive, which is all but what is wanted, into a folder named dir.
func (a archive) write(t *testing.T, dir string) {
	t.Helper()
	for _, file := range a {
		if strings.HasPrefix(file.name, "want.") {
			continue
		}
		name := filepath.Join(dir, file.name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(file.data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func (a archive) get(name string) string {
	for _, file := range a {
		if file.name == name {
			return file.data
		}
	}
	return ""
}

func TestInitGolden(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) < 8 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, name := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a := readArchive(t, name)
			dir := filepath.Join(t.TempDir(), "Sample App")
			a.write(t, dir)
			report, err := Init(dir, Options{Has: has})
			if err != nil {
				t.Fatalf("%v\n%s", err, report)
			}
			written, err := os.ReadFile(filepath.Join(dir, config.FileName))
			if err != nil || string(written) != string(report.File) {
				t.Fatalf("what was written is not what was reported: %v", err)
			}
			if *update {
				rewrite(t, name, a, report)
				return
			}
			compare(t, "report", report.String(), a.get("want.txt"))
			compare(t, config.FileName, string(written), a.get("want.yaml"))

			again, err := Init(dir, Options{Has: has})
			if err != nil || again.Wrote || again.String() != "belay.yaml is there and right: nothing changed\n" {
				t.Errorf("again: %v, %q", err, again)
			}
		})
	}
}

func compare(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

func rewrite(t *testing.T, name string, a archive, report Report) {
	t.Helper()
	var out strings.Builder
	for _, file := range a {
		if !strings.HasPrefix(file.name, "want.") {
			out.WriteString("-- " + file.name + " --\n" + file.data)
		}
	}
	out.WriteString("-- want.txt --\n" + report.String() + "-- want.yaml --\n" + string(report.File))
	if err := os.WriteFile(name, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The examples have files of their own; what init would write for them must be right as well.
func TestInitOfTheExamples(t *testing.T) {
	for _, example := range []string{"shop", "node-hello", "python-hello", "static-site"} {
		t.Run(example, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), example)
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "..", "examples", example))); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, config.FileName)); err != nil {
				t.Fatal(err)
			}
			report, err := Init(dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range report.Lines {
				if line.Kind == Gap && strings.Contains(line.Text, "listens was not found") {
					t.Errorf("%s: %s", example, line.Text)
				}
			}
		})
	}
}

func TestExamplesAreRight(t *testing.T) {
	for _, example := range []string{"shop", "node-hello", "python-hello", "static-site"} {
		dir := filepath.Join("..", "..", "examples", example)
		file, findings, err := config.Load(dir, config.Options{Demo: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range findings {
			if f.Severity != config.Note && f.ID != "declared-gap" {
				t.Errorf("%s: %d:%d: %s %s", example, f.Line, f.Column, f.Message, f.Hint)
			}
		}
		if file == nil {
			t.Errorf("%s: no file", example)
		}
	}
}

func TestInitLeavesAWrongFileAlone(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, config.FileName)
	if err := os.WriteFile(name, []byte("app: x\nenvironments: {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Init(dir, Options{})
	if domain.CodeOf(err) != domain.Invalid || domain.HintOf(err) == "" || !strings.Contains(err.Error(), "4 errors, the first at 1:1") {
		t.Errorf("%v", err)
	}
	if data, _ := os.ReadFile(name); string(data) != "app: x\nenvironments: {}\n" {
		t.Errorf("changed: %s", data)
	}
}

func TestInitWithoutAnythingKnown(t *testing.T) {
	dir := t.TempDir()
	if _, err := Init(dir, Options{}); domain.CodeOf(err) != domain.Invalid || domain.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	if _, err := Init(filepath.Join(dir, "nowhere"), Options{}); domain.CodeOf(err) != domain.Invalid {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAppName(t *testing.T) {
	for in, want := range map[string]string{
		"shop": "shop", "@acme/Store_Front": "store-front", "github.com/x/42api": "api", "Ünï": "n", "": "app", "--": "app",
		strings.Repeat("long", 20): strings.Repeat("long", 10),
	} {
		if got := appName(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// What is written must be read back as it was meant, whatever a Procfile or a dotenv file holds.
func FuzzPlain(f *testing.F) {
	for _, seed := range []string{"go test ./...", "a: b", "- x", "-x", "#", "{a}", "yes", "1.10", "", " x ", "*", `"`, "a #b", "a,b", "\t", "é", "node -e \"x\""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !validText(text) {
			t.Skip("no line of a text file")
		}
		for _, flow := range []bool{false, true} {
			got := readBack(t, plain(text, flow), flow)
			if got != text {
				t.Errorf("%q written as %s is read as %q", text, plain(text, flow), got)
			}
		}
	})
}
