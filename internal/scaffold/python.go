package scaffold

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

var pythonFiles = []string{"pyproject.toml", "requirements.txt", "setup.py", "Pipfile", "manage.py", "app.py", "main.py"}

var (
	pythonName      = regexp.MustCompile(`(?m)^name\s*=\s*"([^"]+)"`)
	pythonTest      = regexp.MustCompile(`(?m)^\s*(?:async )?def test_\w+\(`)
	pythonEnvPort   = regexp.MustCompile(`(?:environ(?:\.get)?|getenv)[\[(]\s*['"]PORT['"]`)
	pythonFixedPort = regexp.MustCompile(`\bport\s*=\s*(\d{2,5})|(?:HTTPServer|TCPServer)\(\(\s*['"][^'"]*['"],\s*(\d{2,5})|\b(?:port|PORT)\s*=\s*(\d{2,5})`)
	pythonApp       = regexp.MustCompile(`(?m)^(\w+)\s*=\s*(FastAPI|Flask|Starlette|Quart)\(`)
	pythonMain      = regexp.MustCompile(`__name__\s*==\s*['"]__main__['"]`)
	pythonServes    = regexp.MustCompile(`serve_forever|HTTPServer\(|\.run\(|uvicorn\.run|run_app\(`)
	pythonWSGI      = regexp.MustCompile(`WSGI_APPLICATION\s*=\s*['"]([\w.]+)\.application['"]`)
)

// python surveys a Python app: its requirements, the server that runs it, its tests.
func (p *project) python() {
	requirements := p.tree.texts["requirements.txt"] + p.tree.texts["pyproject.toml"] + p.tree.texts["Pipfile"] +
		p.tree.texts["requirements-dev.txt"] + p.tree.texts["dev-requirements.txt"]
	if match := pythonName.FindStringSubmatch(p.tree.texts["pyproject.toml"]); p.name == "" && match != nil {
		p.name = match[1]
	}
	all := p.tree.with(extension(".py"))
	tests, sources := split(all, func(name string) bool {
		base := path.Base(name)
		return strings.HasPrefix(base, "test_") || strings.HasSuffix(base, "_test.py") || inFolder(name, "test", "tests", "e2e")
	})
	python := p.pythonBuild(requirements)
	p.pythonTests(python, requirements, tests)
	switch {
	case !strings.Contains(requirements, "ruff"):
	case p.tree.has("uv.lock"):
		p.build.lint = []string{"uvx ruff check ."} // linters run beside the build: .venv is not there yet
	default:
		p.build.lint = []string{"ruff check ."}
		p.add(Found, "ruff is the linter, and must be installed on the server: linters run beside the build")
	}

	run := p.pythonRun(python, requirements, sources)
	if strings.Contains(run, "$PORT") {
		p.add(Found, "it listens on $PORT: %s takes it as an argument", path.Base(strings.Fields(run)[0]))
	} else if !p.port(sources, pythonEnvPort, pythonFixedPort) {
		p.add(Gap, "where it listens was not found: it must listen on $PORT")
	}
	probe, metrics := p.probe(sources)
	p.roles = []role{{name: "web", run: run, web: true, probe: probe, metrics: metrics}}
}

// pythonBuild says what is installed and packed, and returns the interpreter to use.
func (p *project) pythonBuild(requirements string) string {
	p.build.files = []string{"."}
	switch {
	case p.tree.has("uv.lock"):
		p.build.run = []string{"uv sync --frozen --no-dev"}
	case strings.TrimSpace(p.tree.texts["requirements.txt"]) != "":
		p.build.run = []string{"python3 -m venv .venv", ".venv/bin/pip install --quiet -r requirements.txt"}
		if !strings.Contains(requirements, "==") {
			p.add(Gap, "requirements.txt pins no version: two builds of one commit may differ")
		}
	case p.tree.has("poetry.lock"):
		p.build.run = []string{"poetry config virtualenvs.in-project true --local", "poetry install --only main"}
	default:
		return "python3"
	}
	p.build.files = append(p.build.files, ".venv")
	return ".venv/bin/python3"
}

// pythonRun returns the command that serves.
func (p *project) pythonRun(python, requirements string, sources []string) string {
	bin := strings.TrimSuffix(python, "python3")
	if at, ok := p.tree.find(sources, pythonWSGI); ok && strings.Contains(requirements, "gunicorn") {
		p.add(Found, "Django, WSGI application %s in %s:%d", at.sub[0], at.path, at.line)
		return fmt.Sprintf("%sgunicorn %s --bind 127.0.0.1:$PORT", bin, at.sub[0])
	}
	if p.tree.has("manage.py") {
		p.add(Gap, "Django without gunicorn in its requirements: runserver is not made for production; add gunicorn")
		return python + " manage.py runserver --noreload 127.0.0.1:$PORT"
	}
	if at, ok := p.tree.find(sources, pythonApp); ok {
		module := strings.ReplaceAll(strings.TrimSuffix(at.path, ".py"), "/", ".") + ":" + at.sub[0]
		p.add(Found, "%s application %s in %s:%d", at.sub[1], at.sub[0], at.path, at.line)
		switch {
		case strings.Contains(requirements, "uvicorn") || strings.Contains(requirements, "fastapi[standard]"):
			return fmt.Sprintf("%suvicorn %s --host 127.0.0.1 --port $PORT", bin, module)
		case strings.Contains(requirements, "gunicorn"):
			return fmt.Sprintf("%sgunicorn %s --bind 127.0.0.1:$PORT", bin, module)
		case at.sub[1] == "Flask":
			p.add(Gap, "Flask's own server is not made for production: add gunicorn to the requirements")
			return fmt.Sprintf("%s -m flask --app %s run --port $PORT", python, strings.TrimSuffix(at.path, ".py"))
		}
	}
	if name := p.pythonScript(); name != "" {
		return python + " " + name
	}
	if name := p.tree.first("app.py", "main.py", "server.py"); name != "" {
		p.add(Guess, "%s starts it", name)
		return python + " " + name
	}
	p.add(Gap, "what starts it was not found: say it under roles.web.run")
	return python + " app.py"
}

// pythonScript returns the first program that serves by itself, "" without one.
func (p *project) pythonScript() string {
	for _, name := range p.tree.with(extension(".py")) {
		text := p.tree.texts[name]
		if pythonMain.MatchString(text) && pythonServes.MatchString(text) {
			return name
		}
	}
	return ""
}

// pythonTests counts test functions by folder and chooses the runner.
func (p *project) pythonTests(python, requirements string, tests []string) {
	pytest := strings.Contains(requirements, "pytest") || p.tree.first("pytest.ini", "conftest.py", "tests/conftest.py") != ""
	var byLevel [3][]string
	for _, name := range tests {
		switch {
		case inFolder(name, "e2e"):
			byLevel[2] = append(byLevel[2], name)
		case inFolder(name, "integration", "int"):
			byLevel[1] = append(byLevel[1], name)
		default:
			byLevel[0] = append(byLevel[0], name)
		}
	}
	total := 0
	for i, files := range byLevel {
		n := p.tree.count(files, pythonTest)
		total += n
		if n == 0 {
			continue
		}
		p.tests[i] = p.pythonLevel(python, pytest, i, files, len(byLevel[0]) == len(tests))
	}
	manifest := p.tree.first(pythonFiles...)
	if manifest == "" {
		manifest = p.pythonScript()
	}
	text := manifest + ", " + plural(total, "test")
	if total > 0 && pytest {
		text += " for pytest"
	} else if total > 0 {
		text += " for unittest"
	}
	p.add(Found, "%s", text)
	if total > 0 && !pytest {
		p.add(Gap, "unittest writes no JUnit report: these levels are shown as uncounted")
	}
	if total > 0 && pytest && !p.tree.has("uv.lock") && !strings.Contains(p.tree.texts["requirements.txt"], "pytest") {
		p.add(Gap, "pytest is not in requirements.txt: the build must install it, or the server must have it")
	}
}

func (p *project) pythonLevel(python string, pytest bool, i int, files []string, alone bool) level {
	folders := commonFolder(files)
	l := level{start: i == 2}
	if pytest {
		report := [3]string{"unit.xml", "int.xml", "e2e.xml"}[i]
		l.run, l.report = python+" -m pytest", report
		if p.tree.has("uv.lock") {
			l.run = "uv run --frozen pytest" // with the group dev, which the artifact does not carry
		}
		if !alone && folders != "." {
			l.run += " " + folders
		}
		l.run += " --junitxml=" + report
		return l
	}
	if p.tree.has("manage.py") {
		l.run = python + " manage.py test " + folders
		return l
	}
	l.run = python + " -m unittest discover -s " + folders
	if folders != "." {
		l.run += " -t ."
	}
	return l
}

// commonFolder returns the longest folder that all files share.
func commonFolder(files []string) string {
	common := path.Dir(files[0])
	for _, name := range files[1:] {
		for common != "." && !strings.HasPrefix(name, common+"/") {
			common = path.Dir(common)
		}
	}
	return common
}
