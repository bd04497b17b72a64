package archtest

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tests' names into docs/SCARS.md")

var (
	scarTest   = regexp.MustCompile(`(?m)^func (TestScar_[A-Za-z]+(?:_[A-Za-z]+)*_(\d+)\w*)\(`)
	scarNumber = regexp.MustCompile(`#(\d+)`)
	scarRepo   = regexp.MustCompile(`([a-z-]+)#`)
)

const notYet = "–"

// TestScarsPage compares the last column of the page with the tests that exist; with -update it writes it.
func TestScarsPage(t *testing.T) {
	page := filepath.Join("..", "..", "docs", "SCARS.md")
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	tests := scarTests(t)
	placed := map[string]bool{}
	var out []string
	for line := range strings.SplitSeq(string(data), "\n") {
		cells := strings.Split(line, " | ")
		numbers := scarNumber.FindAllStringSubmatch(cells[0], -1)
		if len(cells) != 4 || len(numbers) == 0 {
			out = append(out, line)
			continue
		}
		var names []string
		for name, number := range tests {
			for _, n := range numbers {
				if n[1] == number && repoFits(cells[0], name) {
					names = append(names, "`"+name+"`")
					placed[name] = true
					break
				}
			}
		}
		slices.Sort(names)
		cells[3] = notYet + " |"
		if len(names) > 0 {
			cells[3] = strings.Join(names, " ") + " |"
		}
		out = append(out, strings.Join(cells, " | "))
	}
	for name := range tests {
		if !placed[name] {
			t.Errorf("%s: no row of docs/SCARS.md has its repository and number: add the scar", name)
		}
	}
	text := strings.Join(out, "\n")
	if *update {
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if text != string(data) {
		t.Error("docs/SCARS.md does not name the tests that exist: make generate")
	}
}

// repoFits reports whether a test's name speaks of one of the repositories of a row: by its first word, since names of
// functions have no dashes (argo stands for argo-rollouts and argo-cd).
func repoFits(cell, name string) bool {
	word, _, _ := strings.Cut(strings.TrimPrefix(name, "TestScar_"), "_")
	for _, match := range scarRepo.FindAllStringSubmatch(cell, -1) {
		repo := strings.ReplaceAll(match[1], "-", "")
		if strings.HasPrefix(repo, strings.ToLower(word)) {
			return true
		}
	}
	return false
}

// scarTests returns the number in the name of each test that is named after a scar.
func scarTests(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(filepath.Join("..", ".."), func(name string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "bin" || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, match := range scarTest.FindAllStringSubmatch(string(data), -1) {
			found[match[1]] = match[2]
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatal("no scar tests found: the test looks in the wrong place")
	}
	return found
}
