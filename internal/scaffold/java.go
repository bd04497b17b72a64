package scaffold

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

var (
	pomParent    = regexp.MustCompile(`(?s)<parent>.*?</parent>|<dependencies>.*?</dependencies>|<build>.*?</build>|<profiles>.*?</profiles>|<dependencyManagement>.*?</dependencyManagement>|<!--.*?-->`)
	pomModules   = regexp.MustCompile(`<modules>`)
	pomArtifact  = regexp.MustCompile(`<artifactId>\s*([^<\s]+)\s*</artifactId>`)
	pomVersion   = regexp.MustCompile(`<version>\s*([^<\s]+)\s*</version>`)
	pomFinal     = regexp.MustCompile(`<finalName>\s*([^<\s]+)\s*</finalName>`)
	gradleRoot   = regexp.MustCompile(`rootProject\.name\s*=\s*['"]([^'"]+)['"]`)
	gradleNumber = regexp.MustCompile(`(?m)^\s*version\s*=?\s*['"]([^'"]+)['"]`)
	gradleTask   = regexp.MustCompile(`(?i)\b(integrationTest|intTest|functionalTest|e2eTest|e2e)\b`)
	javaTest     = regexp.MustCompile(`@(?:Test|ParameterizedTest|RepeatedTest|TestFactory|Property)\b|(?m)^\s*(?:should|test|it|scenario)\(`)
	javaEnvPort  = regexp.MustCompile(`getenv\(\s*"PORT"|\$\{PORT[:}]|\$PORT\b`)
	javaPort     = regexp.MustCompile(`(?:ServerSocket|InetSocketAddress|\.listen|\.start|embeddedServer)\([^)\n]*?(\d{4,5})`)
	springPath   = regexp.MustCompile(`(?m)^\s*server\.servlet\.context-path\s*[=:]\s*(\S+)`)
	actuatorBase = regexp.MustCompile(`(?m)^\s*management\.endpoints\.web\.base-path\s*[=:]\s*(\S+)`)
	actuatorPort = regexp.MustCompile(`(?m)^\s*management\.server\.port\s*[=:]|(?s)management:\s.*?\n\s+server:\s*\n\s+port:`)
	actuatorShow = regexp.MustCompile(`(?m)exposure[.:]?\s*(?:include\s*[=:].*|\n\s+include:.*)`)
)

var javaFiles = []string{"pom.xml", "build.gradle", "build.gradle.kts"}

// java surveys a Maven or Gradle build: what it makes, the framework that serves, its tests.
func (p *project) java() {
	kind, text := "maven", p.tree.texts["pom.xml"]
	if !p.tree.has("pom.xml") {
		kind, text = "gradle", p.tree.texts["build.gradle"]+p.tree.texts["build.gradle.kts"]
	}
	folder := "."
	if kind == "maven" && pomModules.MatchString(text) {
		folder, text = p.mavenModule(text)
	}
	all := p.tree.with(func(name string) bool {
		return extension(".java", ".kt", ".groovy", ".scala")(name) && !inFolder(name, "build")
	})
	tests, sources := split(all, func(name string) bool {
		return strings.Contains("/"+name, "est/") && strings.Contains("/"+name, "/src/")
	})
	jar := javaJar{folder: folder, text: text, framework: framework(text)}
	if kind == "maven" {
		p.maven(&jar, tests)
	} else {
		p.gradle(&jar, tests)
	}
	p.javaRole(jar, sources)
}

// javaJar is what a build makes.
type javaJar struct {
	folder    string // of the module, "." is the root
	text      string // of its build file
	framework string
	run       string // the command up to the arguments
}

func framework(text string) string {
	for _, f := range []struct{ mark, name string }{
		{"org.springframework.boot", "Spring Boot"}, {"spring-boot-starter", "Spring Boot"}, {"quarkus", "Quarkus"}, {"micronaut", "Micronaut"},
	} {
		if strings.Contains(text, f.mark) {
			return f.name
		}
	}
	return ""
}

// mavenModule chooses the module that serves.
func (p *project) mavenModule(text string) (folder, pom string) {
	for _, name := range p.tree.order {
		if path.Base(name) != "pom.xml" || name == "pom.xml" {
			continue
		}
		module := p.tree.texts[name]
		if strings.Contains(module, "spring-boot-maven-plugin") || strings.Contains(module, "quarkus-maven-plugin") || strings.Contains(module, "<mainClass>") {
			p.add(Guess, "the module to deliver is %s: its pom.xml makes a program", path.Dir(name))
			return path.Dir(name), module
		}
	}
	p.add(Gap, "pom.xml has several modules, and which one is delivered was not found: say it under build and roles.web.run")
	return ".", text
}

func (p *project) maven(j *javaJar, tests []string) {
	mvn := "mvn -B"
	if p.tree.has("mvnw") {
		mvn = "./mvnw -B"
	}
	own := pomParent.ReplaceAllString(j.text, "")
	artifact := firstGroup(pomArtifact, own, p.folder)
	if p.name == "" {
		p.name = firstGroup(pomArtifact, pomParent.ReplaceAllString(p.tree.texts["pom.xml"], ""), p.folder)
	}
	jar := firstGroup(pomFinal, j.text, artifact+"-"+firstGroup(pomVersion, own, "*")) + ".jar"
	if strings.Contains(jar, "${") || strings.Contains(jar, "*") {
		jar = artifact + "*.jar"
	}
	module := ""
	if j.folder != "." {
		module = " -pl " + j.folder + " -am"
	}
	p.build.run = []string{mvn + " -DskipTests package" + module}
	p.javaArtifact(j, path.Join(j.folder, "target"), jar, "quarkus-app")
	if j.framework == "" && !strings.Contains(j.text, "mainClass") && !strings.Contains(j.text, "maven-shade-plugin") && !strings.Contains(j.text, "maven-assembly-plugin") {
		p.add(Gap, "no plugin that makes a jar with a main class was found in pom.xml: say what starts it under roles.web.run")
	}
	p.mavenTests(mvn, j.text+p.tree.texts["pom.xml"], tests)
	for _, tool := range []string{"spotless", "checkstyle"} {
		if strings.Contains(j.text+p.tree.texts["pom.xml"], tool+"-maven-plugin") || strings.Contains(j.text, "maven-"+tool+"-plugin") {
			p.build.lint = append(p.build.lint, mvn+" "+tool+":check")
		}
	}
}

// mavenTests counts the tests that surefire runs, and those that failsafe runs, if it is there.
func (p *project) mavenTests(mvn, poms string, tests []string) {
	it, unit := split(tests, func(name string) bool {
		base := strings.TrimSuffix(path.Base(name), path.Ext(name))
		return strings.HasSuffix(base, "IT") || strings.HasSuffix(base, "ITCase") || strings.HasPrefix(base, "IT")
	})
	n, m := p.tree.count(unit, javaTest), p.tree.count(it, javaTest)
	p.add(Found, "pom.xml%s, %s", suffix(", ", framework(poms)), plural(n+m, "test"))
	reports := "target/"
	if pomModules.MatchString(p.tree.texts["pom.xml"]) {
		reports = "**/target/"
	}
	if n > 0 {
		p.tests[0] = level{run: mvn + " test", report: reports + "surefire-reports/*.xml"}
	}
	switch {
	case m == 0:
	case strings.Contains(poms, "maven-failsafe-plugin"):
		p.tests[1] = level{run: mvn + " test-compile failsafe:integration-test failsafe:verify", report: reports + "failsafe-reports/*.xml"}
		p.add(Guess, "the %s in classes called …IT are integration tests: failsafe runs them", plural(m, "test"))
	default:
		p.add(Gap, "the %s in classes called …IT run in no build: maven-failsafe-plugin is not in pom.xml", plural(m, "test"))
	}
}

func (p *project) gradle(j *javaJar, tests []string) {
	gradle := "gradle --no-daemon"
	if p.tree.has("gradlew") {
		gradle = "./gradlew --no-daemon"
	}
	settings := p.tree.texts["settings.gradle"] + p.tree.texts["settings.gradle.kts"]
	name := firstGroup(gradleRoot, settings, p.folder)
	if p.name == "" {
		p.name = name
	}
	jar := name
	if version := firstGroup(gradleNumber, j.text, ""); version != "" {
		jar += "-" + version
	}
	task := "bootJar"
	switch {
	case j.framework == "Spring Boot":
	case j.framework == "Quarkus":
		task = "quarkusBuild"
	case strings.Contains(j.text, "shadow"):
		task, jar = "shadowJar", jar+"-all"
	case strings.Contains(j.text, "application"):
		task = "installDist"
		j.run = "build/install/" + name + "/bin/" + name
		p.build.files = []string{"build/install/" + name}
	default:
		task = "jar"
		p.add(Gap, "no plugin that makes a program was found in the Gradle build: say what starts it under roles.web.run")
	}
	p.build.run = []string{gradle + " " + task}
	if j.run == "" {
		folder, dir := "build/libs", "quarkus-app"
		if j.framework == "Quarkus" {
			folder = "build"
		}
		p.javaArtifact(j, folder, jar+".jar", dir)
	}
	p.gradleTests(gradle, j.text, tests)
	if strings.Contains(j.text, "spotless") {
		p.build.lint = append(p.build.lint, gradle+" spotlessCheck")
	}
}

// gradleTests takes the task test, and tasks of their own for the other levels where the build has them.
func (p *project) gradleTests(gradle, text string, tests []string) {
	var counts [3]int
	tasks := [3]string{0: "test"}
	for _, match := range gradleTask.FindAllStringSubmatch(text, -1) {
		i := 1
		if strings.HasPrefix(strings.ToLower(match[1]), "e2e") {
			i = 2
		}
		if tasks[i] == "" {
			tasks[i] = match[1]
		}
	}
	for _, name := range tests {
		i := 0
		for k := 1; k < 3; k++ {
			if tasks[k] != "" && strings.Contains("/"+name, "/src/"+tasks[k]+"/") {
				i = k
			}
		}
		counts[i] += p.tree.count([]string{name}, javaTest)
	}
	p.add(Found, "%s%s, %s", p.tree.first(javaFiles...), suffix(", ", framework(text)), plural(counts[0]+counts[1]+counts[2], "test"))
	for i, task := range tasks {
		if counts[i] > 0 {
			p.tests[i] = level{run: gradle + " " + task, report: "build/test-results/" + task + "/*.xml", start: i == 2}
		}
	}
}

// javaArtifact says what is packed and how it starts.
func (p *project) javaArtifact(j *javaJar, folder, jar, app string) {
	if j.framework == "Quarkus" {
		p.build.files = []string{path.Join(folder, app)}
		j.run = "java -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port=$PORT -jar " + path.Join(folder, app, "quarkus-run.jar")
		return
	}
	file := path.Join(folder, jar)
	p.build.files = []string{file}
	if strings.Contains(file, "*") {
		p.add(Guess, "the jar is %s: its version is not written in the build file", file)
	}
	j.run = "java -jar " + file
	if j.framework == "Micronaut" {
		j.run = "java -Dmicronaut.server.port=$PORT -jar " + file
	}
}

func (p *project) javaRole(j javaJar, sources []string) {
	settings := p.tree.with(func(name string) bool {
		base := path.Base(name)
		return strings.HasPrefix(base, "application") && extension(".properties", ".yml", ".yaml")(name) && !strings.Contains(name, "/test/")
	})
	web := role{name: "web", run: j.run, web: true}
	switch j.framework {
	case "Spring Boot":
		web.run += " --server.port=$PORT"
		p.add(Found, "Spring Boot takes its port as an argument")
		web.probe, web.metrics = p.actuator(j, settings, sources)
	case "Quarkus", "Micronaut":
		p.add(Found, "%s takes its port as an argument", j.framework)
		web.probe, web.metrics = p.otherHealth(j, sources)
	default:
		if !p.port(slices.Concat(sources, settings), javaEnvPort, javaPort) {
			p.add(Gap, "where it listens was not found: it must listen on $PORT")
		}
		web.probe, web.metrics = p.probe(sources)
	}
	p.heavy = true
	p.roles = []role{web}
}

// actuator finds what Spring Boot's own endpoints answer, where they are among the dependencies.
func (p *project) actuator(j javaJar, settings, sources []string) (probe, metrics string) {
	prefix := ""
	if at, ok := p.tree.find(settings, springPath); ok && strings.HasPrefix(at.sub[0], "/") {
		prefix = strings.TrimSuffix(at.sub[0], "/")
		p.add(Found, "everything is below %s, %s:%d", prefix, at.path, at.line)
	}
	if !strings.Contains(j.text, "spring-boot-starter-actuator") {
		p.add(Gap, "spring-boot-starter-actuator is not among the dependencies: it answers /actuator/health")
		return p.probe(sources)
	}
	base := "/actuator"
	if at, ok := p.tree.find(settings, actuatorBase); ok {
		base = "/" + strings.Trim(at.sub[0], "/")
	}
	if at, ok := p.tree.find(settings, actuatorPort); ok {
		p.add(Gap, "%s:%d gives the actuator a port of its own: it must answer on $PORT, or the probe only sees that the port is open", at.path, at.line)
		return "{ tcp: true }", ""
	}
	p.add(Found, "spring-boot-starter-actuator: it answers %s%s/health", prefix, base)
	if strings.Contains(j.text, "micrometer-registry-prometheus") {
		at, ok := p.tree.find(settings, actuatorShow)
		if ok && (strings.Contains(at.text, "prometheus") || strings.Contains(at.text, "*")) {
			p.add(Found, "%s%s/prometheus, %s:%d", prefix, base, at.path, at.line)
			metrics = prefix + base + "/prometheus"
		} else {
			p.add(Gap, "micrometer-registry-prometheus is there, and not shown: management.endpoints.web.exposure.include=health,prometheus, then metrics: %s%s/prometheus", prefix, base)
		}
	}
	return fmt.Sprintf("{ http: %s%s/health }", prefix, base), metrics
}

// otherHealth finds the endpoints of the frameworks that bring their own.
func (p *project) otherHealth(j javaJar, sources []string) (probe, metrics string) {
	for _, f := range []struct{ mark, health, mark2, metrics string }{
		{"smallrye-health", "/q/health/ready", "micrometer-registry-prometheus", "/q/metrics"},
		{"micronaut-management", "/health", "micronaut-micrometer-registry-prometheus", "/prometheus"},
	} {
		if !strings.Contains(j.text, f.mark) {
			continue
		}
		p.add(Found, "%s: it answers %s", f.mark, f.health)
		if strings.Contains(j.text, f.mark2) {
			metrics = f.metrics
		}
		return "{ http: " + f.health + " }", metrics
	}
	return p.probe(sources)
}

func firstGroup(pattern *regexp.Regexp, text, none string) string {
	if match := pattern.FindStringSubmatch(text); match != nil {
		return match[1]
	}
	return none
}

// suffix puts text behind a separator, and nothing where there is none.
func suffix(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + text
}
