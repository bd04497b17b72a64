package suite

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"time"
)

// GoTest reads the output of go test -json as it is written, also mixed with other output. It counts leaves: a test with
// subtests is counted by them, unless it failed while none of them did.
type GoTest struct {
	log      io.Writer // readable text of the events, and every other line as it was
	line     []byte
	skipping bool // the rest of a line that is too long for an event
	packages map[string]*goPackage
	builds   map[string]*tail // output of the compiler by import path
	events   int
	t        tally
	err      error // the first error of log
}

type goPackage struct {
	tests  map[string]*goTest
	order  []string
	output tail
	ended  bool
}

type goTest struct {
	passed, failed, skipped int
	running                 bool
	took                    time.Duration
	output                  tail
}

// goEvent is one line of go test -json.
type goEvent struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// maxLine is the longest line that may be an event, in bytes; longer ones are passed on as they are.
const maxLine = 1 << 20

// NewGoTest returns a reader that copies readable output to log.
func NewGoTest(log io.Writer) *GoTest {
	return &GoTest{log: log, packages: map[string]*goPackage{}, builds: map[string]*tail{}}
}

// Write takes output in any portions. It fails only when the log does.
func (g *GoTest) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		chunk := p
		if i >= 0 {
			chunk = p[:i+1]
		}
		p = p[len(chunk):]
		g.take(chunk, i >= 0)
	}
	return n, g.err
}

func (g *GoTest) take(chunk []byte, whole bool) {
	if g.skipping || len(g.line)+len(chunk) > maxLine {
		g.print(g.line)
		g.print(chunk)
		g.line, g.skipping = g.line[:0], !whole
		return
	}
	g.line = append(g.line, chunk...)
	if whole {
		g.one(g.line)
		g.line = g.line[:0]
	}
}

func (g *GoTest) print(b []byte) {
	if g.log == nil || len(b) == 0 {
		return
	}
	if _, err := g.log.Write(b); err != nil && g.err == nil {
		g.err = err
	}
}

func (g *GoTest) one(line []byte) {
	var e goEvent
	trimmed := bytes.TrimSpace(line)
	if len(trimmed) == 0 || trimmed[0] != '{' || json.Unmarshal(trimmed, &e) != nil || !e.known() {
		g.print(line)
		return
	}
	g.events++
	g.print([]byte(e.Output))
	g.event(e)
}

func (e goEvent) known() bool {
	switch e.Action {
	case "build-output", "build-fail":
		return e.ImportPath != ""
	case "start", "run", "pause", "cont", "pass", "bench", "fail", "output", "skip", "attr", "artifacts":
		return e.Package != ""
	}
	return false
}

func (g *GoTest) event(e goEvent) {
	if e.ImportPath != "" && e.Package == "" {
		if g.builds[e.ImportPath] == nil {
			g.builds[e.ImportPath] = &tail{}
		}
		g.builds[e.ImportPath].add(e.Output)
		return
	}
	p := g.packages[e.Package]
	if p == nil || p.ended && (e.Action == "start" || e.Test != "") { // the same package may be tested again
		p = &goPackage{tests: map[string]*goTest{}}
		g.packages[e.Package] = p
	}
	if e.Test == "" {
		g.ofPackage(e, p)
		return
	}
	t := p.tests[e.Test]
	if t == nil {
		t = &goTest{}
		p.tests[e.Test] = t
		p.order = append(p.order, e.Test)
	}
	t.event(e)
}

func (t *goTest) event(e goEvent) {
	took := seconds(e.Elapsed)
	switch e.Action {
	case "run":
		t.running = true
	case "output":
		t.output.add(e.Output)
	case "pass":
		t.passed++
	case "fail":
		t.failed++
	case "skip":
		t.skipped++
	}
	if e.Action == "pass" || e.Action == "fail" || e.Action == "skip" {
		t.running = false
		t.took = max(t.took, took)
	}
}

func (g *GoTest) ofPackage(e goEvent, p *goPackage) {
	switch e.Action {
	case "output":
		p.output.add(e.Output)
	case "pass", "fail", "skip":
		if p.ended {
			return
		}
		p.ended = true
		g.count(e, p)
	}
}

// count adds a package to the tally once it has ended, when it is known which tests have subtests.
func (g *GoTest) count(e goEvent, p *goPackage) {
	parents, failedBelow := map[string]bool{}, map[string]bool{}
	for name, t := range p.tests {
		for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
			parents[name[:i]] = true
			if t.failed > 0 || t.running {
				failedBelow[name[:i]] = true
			}
		}
	}
	failed, passed := 0, g.t.Passed
	for _, name := range p.order {
		failed += g.countTest(e, name, p.tests[name], parents[name], failedBelow[name])
	}
	if e.Action == "pass" && strings.HasSuffix(strings.TrimSpace(p.output.String()), "\t(cached)") { // go's own words
		g.t.cached += g.t.Passed - passed
	}
	if e.Action == "fail" && failed == 0 {
		g.t.fail(Failure{Name: e.Package, Message: g.whyPackage(e, p), Output: g.outputOf(e, p)})
	}
	p.tests, p.order = nil, nil
}

func (g *GoTest) countTest(e goEvent, name string, t *goTest, parent, failedBelow bool) (failed int) {
	full := e.Package + "." + name
	unfinished := t.running && e.Action == "fail"
	switch {
	case t.failed > 0 && !failedBelow:
		for range t.failed {
			g.t.fail(Failure{Name: full, Message: firstReason(t.output.String()), Output: t.output.String()})
		}
		failed = t.failed
	case unfinished && !failedBelow:
		g.t.fail(Failure{Name: full, Message: "it did not finish", Output: t.output.String()})
		failed = 1
	}
	if parent {
		if failed > 0 { // its subtests passed: it is a test of its own
			g.keep(e.Package, full, t, failed)
		}
		return failed
	}
	g.t.Passed += t.passed
	g.t.Skipped += t.skipped
	if t.failed > 0 && t.passed > 0 {
		g.t.flaky++
	}
	g.keep(e.Package, full, t, failed)
	if t.passed+t.failed > 0 {
		g.t.slow(full, t.took)
	}
	return failed
}

// keep remembers a test once, however often it ran.
func (g *GoTest) keep(unit, name string, t *goTest, failed int) {
	c := Case{Name: name, Unit: unit, Took: t.took, Flaky: t.failed > 0 && t.passed > 0}
	switch {
	case failed > 0:
		c.State = CaseFailed
	case t.passed > 0:
		c.State = CasePassed
	case t.skipped > 0:
		c.State = CaseSkipped
	default:
		return // it neither began nor ended
	}
	g.t.keep(c)
}

func (g *GoTest) whyPackage(e goEvent, p *goPackage) string {
	text := p.output.String()
	switch {
	case e.FailedBuild != "" || strings.Contains(text, "[build failed]") || strings.Contains(text, "[setup failed]"):
		return "it does not build"
	case strings.Contains(text, "panic:"):
		return firstReason(text)
	}
	return "the package failed outside of its tests"
}

func (g *GoTest) outputOf(e goEvent, p *goPackage) string {
	if b := g.builds[e.FailedBuild]; b != nil {
		return b.String()
	}
	return p.output.String()
}

// firstReason returns the first line of a test's output that says something.
func firstReason(output string) string {
	for line := range strings.SplitSeq(output, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		return cut(line, 300)
	}
	return "it failed"
}

// Close takes what came last and counts packages that never ended, which a killed go test leaves. Seen says whether any
// event was there.
func (g *GoTest) close() (seen bool) {
	if len(g.line) > 0 {
		g.one(g.line)
		g.line = nil
	}
	for name, p := range g.packages {
		if !p.ended {
			p.ended = true
			g.count(goEvent{Action: "fail", Package: name}, p)
		}
	}
	for path, b := range g.builds {
		if len(g.packages) == 0 { // nothing was tested at all
			g.t.fail(Failure{Name: path, Message: "it does not build", Output: b.String()})
		}
	}
	return g.events > 0
}

func seconds(s float64) time.Duration {
	const longest = 1e6 // ten days: anything above is nonsense
	if !(s > 0) {       // also not a number
		return 0
	}
	return time.Duration(min(s, longest) * float64(time.Second))
}
