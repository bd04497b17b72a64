package scaffold

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/config"
)

// makesProgram is what the build file of a Java program has, and that of a library has not.
var makesProgram = regexp.MustCompile(`org\.springframework\.boot['"]|spring-boot-maven-plugin|quarkus-maven-plugin|io\.quarkus['"]|<mainClass>|\bapplication\b`)

// deepest is how many folders below the root of a repository an app is looked for.
const deepest = 3

// subApp is a folder below the root that is an app of its own, or looks like one.
type subApp struct {
	folder string
	sign   string // what says so
	app    string // name in its belay.yaml; "" when it has none yet
}

// subApps lists the apps below the root, those with a file first found by it, the others by what a language leaves there.
func (t *tree) subApps() []subApp {
	found := map[string]subApp{}
	for _, name := range t.order {
		folder := path.Dir(name)
		if folder == "." || strings.Count(folder, "/") >= deepest || inFolder(name, "examples", "fixtures") {
			continue
		}
		if path.Base(name) == config.FileName {
			file, _ := config.Parse(config.FileName, []byte(t.texts[name]), config.Options{Demo: true})
			if file != nil && file.App != "" {
				found[folder] = subApp{folder, name, string(file.App)}
			}
			continue
		}
		if _, known := found[folder]; !known && t.starts(name) {
			found[folder] = subApp{folder: folder, sign: path.Base(name)}
		}
	}
	list := make([]subApp, 0, len(found))
	for _, a := range found {
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b subApp) int { return strings.Compare(a.folder, b.folder) })
	return list
}

// starts reports whether a file says that its folder is something that can be started, not a library.
func (t *tree) starts(name string) bool {
	switch path.Base(name) {
	case "package.json":
		return strings.Contains(t.texts[name], `"start"`)
	case "go.mod":
		below := path.Dir(name) + "/"
		return slices.ContainsFunc(t.order, func(other string) bool {
			return strings.HasPrefix(other, below) && strings.HasSuffix(other, ".go") && strings.HasPrefix(t.texts[other], "package main\n")
		})
	case "Cargo.toml":
		return t.has(path.Join(path.Dir(name), "src/main.rs"))
	case "pom.xml", "build.gradle", "build.gradle.kts":
		return makesProgram.MatchString(t.texts[name])
	case "Procfile", "Dockerfile", "manage.py", "config.ru", "artisan":
		return true
	}
	return false
}

// several reports whether the tree is the root of a repository of several apps: one below it has a file already, the root
// says that it is a workspace, or nothing at the root is an app.
func (t *tree) several(apps []subApp) bool {
	withFile := slices.ContainsFunc(apps, func(a subApp) bool { return a.app != "" })
	workspace := t.has("go.work") || t.has("pnpm-workspace.yaml") || strings.Contains(t.texts["package.json"], `"workspaces"`)
	return withFile || len(apps) > 0 && (workspace || !t.isApp())
}

// isApp reports whether something at the root is recognised.
func (t *tree) isApp() bool {
	p := project{tree: t}
	return t.first("go.mod", "package.json", "Dockerfile", "Procfile", "Cargo.toml") != "" || t.first(javaFiles...) != "" || p.isRuby() || p.isPHP() || t.first(pythonFiles...) != "" || p.pythonScript() != "" || p.staticFolder() != ""
}

// names is the report about the root of a repository of several apps: nothing is written there.
func names(apps []subApp) Report {
	var r Report
	add := func(kind Kind, text, note string) {
		r.Lines = append(r.Lines, Line{Kind: kind, Text: text, Note: note})
	}
	files := 0
	for _, a := range apps {
		if a.app != "" {
			files++
			add(Found, fmt.Sprintf("%s: app %s", a.sign, a.app), "")
		} else {
			add(Guess, fmt.Sprintf("%s looks like an app (%s), and has no %s yet", a.folder, a.sign, config.FileName), "")
		}
	}
	for _, a := range apps {
		if a.app == "" {
			add(Next, "belay -C "+a.folder+" init", "writes its file")
		}
	}
	if files > 0 {
		add(Next, "belay ship", "here: every app whose inputs the commit changed")
	}
	return r
}
