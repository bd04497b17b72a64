package suite

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// parseJUnit counts the test cases of a JUnit XML report, in the dialects of pytest, surefire, jest, vitest, nextest,
// playwright and their like. It reads as a stream: neither a large file nor a deep one, nor one large element, costs more
// than a bounded amount of memory. Entities are never expanded.
func parseJUnit(r io.Reader) (tally, error) { return parseWithin(r, maxToken) }

// parseWithin is parseJUnit with the largest single element given, in bytes.
func parseWithin(r io.Reader, token int) (tally, error) {
	limited := &tokenLimit{r: r, limit: token}
	buffered := bufio.NewReaderSize(limited, 64<<10)
	j := &junit{}
	decoder := xml.NewDecoder(&printable{r: buffered, utf8: isUTF8(buffered)})
	decoder.CharsetReader = charset
	for {
		limited.n = 0
		next, err := decoder.RawToken()
		if errors.Is(err, io.EOF) {
			return j.end()
		}
		if err != nil {
			return j.t, fmt.Errorf("not a readable report: %w", err)
		}
		if err := j.token(next); err != nil {
			return j.t, err
		}
	}
}

// maxToken is the largest single element, attribute or text, in bytes; maxDepth the deepest nesting.
const (
	maxToken = 16 << 20
	maxDepth = 200
)

type tokenLimit struct {
	r        io.Reader
	n, limit int
}

func (t *tokenLimit) Read(p []byte) (int, error) {
	if t.n > t.limit {
		return 0, fmt.Errorf("one element is larger than %d MiB", t.limit>>20)
	}
	n, err := t.r.Read(p)
	t.n += n
	return n, err
}

// junit walks a report.
type junit struct {
	t      tally
	path   []string
	suites []junitSuite
	test   *junitCase
	within string // the element inside a test case whose text is being read
	text   tail
	any    bool // a testsuite or testsuites element was there
}

type junitSuite struct {
	name     string
	file     string // of its test cases; "" when it does not say
	declared int    // failures and errors that it claims for itself
	failed   int    // those of its test cases, below it too
}

type junitCase struct {
	name, unit      string // unit: the file, else the class
	failed, skipped bool
	flaky           bool
	took            float64
	message, output string
}

func (j *junit) token(token xml.Token) error {
	switch t := token.(type) {
	case xml.StartElement:
		if len(j.path) == maxDepth {
			return fmt.Errorf("not a readable report: nested deeper than %d", maxDepth)
		}
		j.path = append(j.path, t.Name.Local)
		j.start(t)
	case xml.EndElement:
		if len(j.path) == 0 || j.path[len(j.path)-1] != t.Name.Local {
			return fmt.Errorf("not a readable report: </%s> closes nothing", t.Name.Local)
		}
		j.path = j.path[:len(j.path)-1]
		j.stop(t.Name.Local)
	case xml.CharData:
		if j.test != nil && j.within != "" {
			j.text.add(string(last2(t)))
		}
	}
	return nil
}

// last2 spares converting a huge text of which only the end is kept.
func last2(b []byte) []byte { return b[max(0, len(b)-2*maxOutput):] }

func (j *junit) start(e xml.StartElement) {
	switch e.Name.Local {
	case "testsuites":
		j.any = true
	case "testsuite":
		j.any = true
		j.openSuite(e)
	case "testcase":
		j.test = newCase(e)
		if n := len(j.suites); n > 0 {
			j.test.unit = first(attr(e, "file"), j.suites[n-1].file, j.test.unit)
		}
	case "failure", "error":
		if j.test != nil {
			j.test.failed = true
			if j.test.message == "" {
				j.test.message = first(attr(e, "message"), attr(e, "type"))
			}
			j.within, j.text = e.Name.Local, tail{}
		}
	case "skipped", "disabled":
		if j.test != nil {
			j.test.skipped = true
		}
	case "flakyFailure", "flakyError", "rerunFailure", "rerunError":
		if j.test != nil {
			j.test.flaky = true
		}
	}
}

func (j *junit) openSuite(e xml.StartElement) {
	s := junitSuite{name: attr(e, "name"), file: first(attr(e, "file"), attr(e, "filepath")), declared: count(e, "failures") + count(e, "errors")}
	if n := len(j.suites); n > 0 && s.file == "" {
		s.file = j.suites[n-1].file
	}
	j.suites = append(j.suites, s)
}

func newCase(e xml.StartElement) *junitCase {
	name := attr(e, "name")
	if class := first(attr(e, "classname"), attr(e, "class"), attr(e, "file")); class != "" && class != name {
		name = class + "." + name
	}
	status := strings.ToLower(first(attr(e, "status"), attr(e, "result")))
	took, err := strconv.ParseFloat(strings.ReplaceAll(attr(e, "time"), ",", ""), 64)
	if err != nil {
		took = 0
	}
	return &junitCase{
		name: first(name, "(a test without a name)"), took: took, unit: first(attr(e, "file"), attr(e, "classname"), attr(e, "class")),
		skipped: status == "notrun" || status == "disabled" || status == "skipped" || status == "suppressed",
		failed:  status == "failed" || status == "failure" || status == "error",
	}
}

func (j *junit) stop(name string) {
	switch name {
	case "failure", "error":
		if j.test != nil && j.within == name {
			j.test.output = j.text.String()
			j.within = ""
		}
	case "testcase":
		if j.test != nil {
			j.count(*j.test)
			j.test, j.within = nil, ""
		}
	case "testsuite":
		if len(j.suites) > 0 {
			j.closeSuite()
		}
	}
}

func (j *junit) count(c junitCase) {
	kept := Case{Name: c.name, Unit: c.unit, State: CasePassed, Took: seconds(c.took), Flaky: c.flaky && !c.failed}
	defer func() { j.t.keep(kept) }()
	switch {
	case c.failed:
		kept.State = CaseFailed
		message := first(c.message, firstReason(c.output))
		j.t.fail(Failure{Name: c.name, Message: message, Output: c.output})
		if n := len(j.suites); n > 0 {
			j.suites[n-1].failed++
		}
	case c.skipped:
		kept.State = CaseSkipped
		j.t.Skipped++
		return
	default:
		j.t.Passed++
		if c.flaky {
			j.t.flaky++
		}
	}
	j.t.slow(c.name, seconds(c.took))
}

// closeSuite counts a suite that says it failed although none of its test cases did: it broke before it reached them.
func (j *junit) closeSuite() {
	s := j.suites[len(j.suites)-1]
	j.suites = j.suites[:len(j.suites)-1]
	if s.declared > 0 && s.failed == 0 {
		j.t.fail(Failure{Name: first(s.name, "(a suite without a name)"), Message: fmt.Sprintf("the suite reports %d failures outside of its test cases", s.declared)})
		s.failed = 1
	}
	if n := len(j.suites); n > 0 {
		j.suites[n-1].failed += s.failed
	}
}

func (j *junit) end() (tally, error) {
	switch {
	case len(j.path) > 0:
		return j.t, errors.New("not a readable report: it is cut off")
	case !j.any:
		return j.t, errors.New("not a JUnit report: it has no testsuite")
	}
	return j.t, nil
}

func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

func count(e xml.StartElement, name string) int {
	n, err := strconv.Atoi(attr(e, name))
	if err != nil || n < 0 || n > 1_000_000 {
		return 0
	}
	return n
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// isUTF8 looks at the declaration: only then is invalid UTF-8 a fault to be mended.
func isUTF8(r *bufio.Reader) bool {
	head, _ := r.Peek(200) // a short file is fine
	text := strings.ToLower(string(head))
	_, rest, found := strings.Cut(text, "encoding=")
	return !found || strings.HasPrefix(strings.TrimLeft(rest, `"'`), "utf-8")
}

// charset reads the one-byte encodings that reports come in.
func charset(label string, input io.Reader) (io.Reader, error) {
	switch strings.ToLower(label) {
	case "utf-8", "utf8", "us-ascii", "ascii":
		return input, nil
	case "iso-8859-1", "iso-8859-15", "latin1", "windows-1252", "cp1252":
		return &latin1{r: input}, nil
	}
	return nil, fmt.Errorf("the encoding %s is not known", label)
}

type latin1 struct {
	r    io.Reader
	rest []byte
}

func (l *latin1) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		var in [4096]byte
		n, err := l.r.Read(in[:])
		for _, b := range in[:n] {
			l.rest = utf8.AppendRune(l.rest, rune(b))
		}
		if n == 0 {
			return 0, err
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// printable replaces what XML does not allow and test output often has: control characters (colours) and bytes that are
// not UTF-8.
type printable struct {
	r    io.Reader
	utf8 bool
	buf  [8192]byte
	n    int // bytes of buf that are filled
	out  []byte
	err  error
}

func (p *printable) Read(b []byte) (int, error) {
	for len(p.out) == 0 {
		if p.err != nil && p.n == 0 {
			return 0, p.err
		}
		if p.err == nil {
			var n int
			n, p.err = p.r.Read(p.buf[p.n:])
			p.n += n
		}
		p.out = p.mend()
	}
	n := copy(b, p.out)
	p.out = p.out[n:]
	return n, nil
}

// mend takes whole characters out of buf and leaves the beginning of one that is cut by the end.
func (p *printable) mend() []byte {
	in := p.buf[:p.n]
	out := make([]byte, 0, len(in))
	for len(in) > 0 {
		c := in[0]
		switch {
		case c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c == 0x7f:
			out, in = append(out, '?'), in[1:]
		case c == '&' && len(in) < longestRef && bytes.IndexByte(in, ';') < 0 && p.err == nil:
			p.n = copy(p.buf[:], in) // the rest of the reference is to come
			return out
		case c == '&' && forbidden(in) > 0:
			out, in = append(out, '?'), in[forbidden(in):]
		case c < utf8.RuneSelf || !p.utf8:
			out, in = append(out, c), in[1:]
		case !utf8.FullRune(in) && p.err == nil:
			p.n = copy(p.buf[:], in)
			return out
		default:
			r, size := utf8.DecodeRune(in)
			if r == utf8.RuneError && size == 1 || r == 0xfffe || r == 0xffff {
				out = append(out, '?')
			} else {
				out = append(out, in[:size]...)
			}
			in = in[size:]
		}
	}
	p.n = 0
	return out
}

// longestRef is the longest reference to a character, in bytes.
const longestRef = 12

// forbidden returns the length of a reference at the beginning of in, as &#27; or &#x1b;, to a character that XML does not
// allow and that some tools write all the same; else 0.
func forbidden(in []byte) int {
	end := bytes.IndexByte(in[:min(len(in), longestRef)], ';')
	if end < 0 || !bytes.HasPrefix(in, []byte("&#")) {
		return 0
	}
	digits, base := string(in[2:end]), 10
	if strings.HasPrefix(strings.ToLower(digits), "x") {
		digits, base = digits[1:], 16
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if err != nil || n >= 0x20 && (n < 0xd800 || n > 0xdfff) && n != 0xfffe && n != 0xffff && n <= 0x10ffff || n == '\t' || n == '\n' || n == '\r' {
		return 0
	}
	return end + 1
}
