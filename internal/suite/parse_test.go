package suite

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// reports of several tools, shortened.
var dialects = map[string]struct {
	xml                     string
	passed, failed, skipped int
	flaky                   int
	first                   string
}{
	"pytest": {`<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="4" time="0.05">
<testcase classname="tests.test_a" name="test_ok" time="0.001" /><testcase classname="tests.test_a" name="test_bad" time="0.001"><failure message="AssertionError: assert 1 == 2">def test_bad():
&gt;       assert 1 == 2</failure><error message="teardown">x</error></testcase>
<testcase classname="tests.test_a" name="test_skip"><skipped type="pytest.skip" message="no">a.py:3: no</skipped></testcase></testsuite></testsuites>`, 1, 1, 1, 0, "tests.test_a.test_bad|AssertionError: assert 1 == 2"},
	"pytest that cannot collect": {`<testsuites><testsuite name="pytest" errors="1" tests="1"><testcase classname="" name="tests.test_b" time="0.0"><error message="collection failure">ImportError</error></testcase></testsuite></testsuites>`, 0, 1, 0, 0, "tests.test_b|collection failure"},
	"jest": {`<testsuites name="jest tests" tests="2" failures="1" errors="0"><testsuite name="sum" errors="0" failures="1" skipped="0"><testcase classname=" adds" name=" adds" time="0.01"></testcase><testcase classname=" subtracts" name=" subtracts"><failure>Error: expect(received).toBe(expected)
    at x.js:3</failure></testcase></testsuite></testsuites>`, 1, 1, 0, 0, " subtracts|Error: expect(received).toBe(expected)"},
	"vitest":                {`<?xml version="1.0" encoding="UTF-8" ?><testsuites name="vitest tests" tests="2" failures="0" errors="0" time="0.2"><testsuite name="a.test.ts" tests="2" skipped="1"><testcase classname="a.test.ts" name="one" time="0.002"><system-out>&#27;&#x1B;[0m x &amp; y</system-out></testcase><testcase classname="a.test.ts" name="two" time="0"><skipped/></testcase></testsuite></testsuites>`, 1, 0, 1, 0, ""},
	"surefire":              {`<testsuite xmlns:xsi="x" name="shop.ATest" time="1,234.5" tests="3" errors="0" skipped="0" failures="0" flakes="1"><properties><property name="a" value="b"/></properties><testcase name="a" classname="shop.ATest" time="1,234.5"/><testcase name="b" classname="shop.ATest"><flakyFailure message="once" type="T"><stackTrace>x</stackTrace></flakyFailure></testcase><testcase name="c" classname="shop.ATest"><system-out><![CDATA[<failure/>]]></system-out></testcase></testsuite>`, 3, 0, 0, 1, ""},
	"nextest":               {`<testsuites name="nextest-run" tests="2" failures="1" errors="0"><testsuite name="mailer" tests="2" disabled="0" errors="0" failures="1"><testcase name="sends" classname="mailer" time="0.004"/><testcase name="fails" classname="mailer"><failure type="test failure with exit code 101">thread 'fails' panicked at src/lib.rs:3</failure><rerunFailure type="x"/></testcase></testsuite></testsuites>`, 1, 1, 0, 0, "mailer.fails|test failure with exit code 101"},
	"playwright":            {`<testsuites id="" name="" tests="2" failures="1" skipped="0" errors="0" time="3"><testsuite name="shop.spec.ts" hostname="chromium" tests="2" failures="1"><testcase name="buys" classname="shop.spec.ts" time="1.2"></testcase><testcase name="pays" classname="shop.spec.ts"><failure message="shop.spec.ts:8:5 pays" type="FAILURE"><![CDATA[Error: locator]]></failure><system-out><![CDATA[[[ATTACHMENT|a.png]]]]></system-out></testcase></testsuite></testsuites>`, 1, 1, 0, 0, "shop.spec.ts.pays|shop.spec.ts:8:5 pays"},
	"googletest":            {`<testsuites tests="2"><testsuite name="S"><testcase name="a" status="run" result="completed"/><testcase name="b" status="notrun" result="suppressed"/></testsuite></testsuites>`, 1, 0, 1, 0, ""},
	"nested":                {`<testsuites><testsuite name="o" failures="1"><testsuite name="i" failures="1"><testcase name="a"><failure/></testcase></testsuite></testsuite></testsuites>`, 0, 1, 0, 0, "a|it failed"},
	"a suite that broke":    {`<testsuites><testsuite name="o" errors="2"><testcase name="a"/></testsuite></testsuites>`, 1, 1, 0, 0, "o|2 failures outside"},
	"latin 1":               {"<?xml version='1.0' encoding='ISO-8859-1'?><testsuite><testcase name='\xe4'><failure/></testcase></testsuite>", 0, 1, 0, 0, "ä|it failed"},
	"raw colours and bytes": {"<testsuite><testcase name='a\xff'><failure>\x1b[31mred\x1b[0m \xc3</failure></testcase></testsuite>", 0, 1, 0, 0, "a?|?[31mred"},
}

func TestJUnitDialects(t *testing.T) {
	for name, c := range dialects {
		t.Run(name, func(t *testing.T) {
			got, err := parseJUnit(strings.NewReader(c.xml))
			if err != nil {
				t.Fatal(err)
			}
			if got.Passed != c.passed || got.Failed != c.failed || got.Skipped != c.skipped || got.flaky != c.flaky {
				t.Errorf("%+v", got)
			}
			if c.first == "" {
				return
			}
			who, why, _ := strings.Cut(c.first, "|")
			if f := got.Failures[0]; f.Name != who || !strings.Contains(f.Message, why) {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestJUnitBombsAreHarmless(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString(`<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a0 "ha">`)
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&laughs, `<!ENTITY a%d "&a%d;&a%d;">`, i, i-1, i-1)
	}
	laughs.WriteString(`]><testsuite><testcase name="&a29;"/></testsuite>`)
	for name, r := range map[string]io.Reader{
		"a billion laughs": strings.NewReader(laughs.String()),
		"external entity":  strings.NewReader(`<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><testsuite><testcase name="&e;"/></testsuite>`),
		"deep":             strings.NewReader(strings.Repeat("<testsuite>", 1000) + strings.Repeat("</testsuite>", 1000)),
		"one huge text":    io.MultiReader(strings.NewReader("<testsuite><testcase><failure>"), io.LimitReader(endless("x"), 1<<40)),
		"one huge name":    io.MultiReader(strings.NewReader("<testsuite><testcase name='"), io.LimitReader(endless("x"), 1<<40)),
	} {
		if got, err := parseWithin(r, 1<<20); err == nil {
			t.Errorf("%s: accepted: %+v", name, got)
		}
	}
}

// endless repeats itself.
type endless string

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e[i%len(e)]
	}
	return len(p), nil
}

func TestJUnitHugeReportIsStreamed(t *testing.T) {
	const n = 20_000
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, "<testsuite>")
		for i := range n {
			_, _ = fmt.Fprintf(w, "<testcase name='t%d' time='%d'><system-out>%s</system-out></testcase>", i, i%7, strings.Repeat("some output of this test ", 8))
		}
		_, _ = io.WriteString(w, "</testsuite>")
		_ = w.Close()
	}()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	got, err := parseWithin(r, 1<<20)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if err != nil || got.Passed != n || len(got.Slowest) != maxSlowest {
		t.Errorf("%d passed, %d slowest, %v", got.Passed, len(got.Slowest), err)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 8<<20 {
		t.Errorf("it keeps %d bytes", grown)
	}
}

const goOutput = `npm noise
{"Time":"2026-11-23T10:00:00Z","Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: want 1\n"}
{"Action":"fail","Package":"p","Test":"TestA","Elapsed":0.25}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Test":"TestB","Elapsed":2}
{"not":"an event"}
{"Action":"fail","Package":"p","Elapsed":3}
{"Action":"skip","Package":"q"}
`

func TestGoTestInAnyPortions(t *testing.T) {
	for _, size := range []int{1, 7, 64, len(goOutput)} {
		var log bytes.Buffer
		g := NewGoTest(&log)
		for rest := goOutput; rest != ""; {
			n := min(size, len(rest))
			if _, err := io.WriteString(g, rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if !g.close() || g.t.Passed != 1 || g.t.Failed != 1 || g.t.Failures[0].Message != "a_test.go:3: want 1" {
			t.Errorf("portions of %d: %+v", size, g.t)
		}
		if g.t.Slowest[0] != (Slow{Name: "p.TestB", Took: 2 * time.Second}) {
			t.Errorf("%+v", g.t.Slowest)
		}
		if log.String() != "npm noise\n    a_test.go:3: want 1\n{\"not\":\"an event\"}\n" {
			t.Errorf("log %q", log.String())
		}
	}
}

func TestGoTestThatWasKilled(t *testing.T) {
	g := NewGoTest(nil)
	_, _ = io.WriteString(g, `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestHangs"}
{"Action":"output","Package":"p","Test":"TestHangs","Output":"=== RUN   TestHa`)
	g.close()
	if g.t.Passed != 1 || g.t.Failed != 1 || g.t.Failures[0].Name != "p.TestHangs" || g.t.Failures[0].Message != "it did not finish" {
		t.Errorf("%+v", g.t)
	}
}

func TestGoTestCountsRepeatedTests(t *testing.T) {
	g := NewGoTest(nil)
	_, _ = io.WriteString(g, strings.Repeat(`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA"}
`, 3)+`{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}
`)
	g.close()
	if g.t.Passed != 3 || g.t.Failed != 1 || g.t.flaky != 1 {
		t.Errorf("%+v", g.t)
	}
}

func TestGoTestPassesALongLineOn(t *testing.T) {
	var log bytes.Buffer
	g := NewGoTest(&log)
	long := "{" + strings.Repeat("x", 3*maxLine) + "\n"
	_, _ = io.WriteString(g, long+goOutput)
	if !g.close() || g.t.Passed != 1 || !strings.HasPrefix(log.String(), long) || len(g.line) > maxLine {
		t.Errorf("%+v", g.t)
	}
}

func FuzzGoTest(f *testing.F) {
	f.Add([]byte(goOutput), 3)
	f.Add([]byte(`{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`), 1)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		whole, parts := NewGoTest(nil), NewGoTest(nil)
		_, _ = whole.Write(in)
		seen := whole.close()
		size = max(1, min(size, 4096))
		for rest := in; len(rest) > 0; {
			n := min(size, len(rest))
			_, _ = parts.Write(rest[:n])
			rest = rest[n:]
		}
		if parts.close() != seen || whole.t.Passed != parts.t.Passed || whole.t.Failed != parts.t.Failed || whole.t.Skipped != parts.t.Skipped {
			t.Errorf("portions change the count: %+v, %+v", whole.t, parts.t)
		}
		check(t, whole.t)
	})
}

func FuzzJUnit(f *testing.F) {
	for _, c := range dialects {
		f.Add([]byte(c.xml))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, _ := parseJUnit(bytes.NewReader(in))
		check(t, got)
	})
}

// check holds a tally against what is always true of one.
func check(t *testing.T, got tally) {
	t.Helper()
	if got.Passed < 0 || got.Failed < len(got.Failures) || got.Skipped < 0 || len(got.Failures) > maxFailures || len(got.Slowest) > maxSlowest {
		t.Errorf("%+v", got)
	}
	for _, f := range got.Failures {
		if len(f.Output) > maxOutput+3 || f.Name == "" && f.Message == "" {
			t.Errorf("%+v", f)
		}
	}
}
