package suite

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxFailures = 50      // failures kept with their output; all are counted
	maxSlowest  = 10      // slowest tests kept
	maxOutput   = 8 << 10 // bytes of output kept per failure
	maxName     = 500     // bytes of a test's name that are kept
	maxCases    = 20_000  // tests kept by name; all are counted
)

// Failure is one failed test.
type Failure struct {
	Name    string `json:"name"`
	Message string `json:"message"`
	Output  string `json:"output,omitempty"` // its end, at most 8 KiB
}

// Slow is one of the slowest tests.
type Slow struct {
	Name string        `json:"name"`
	Took time.Duration `json:"took"`
	// Usual is the median of the newest green runs; 0 when it is not known.
	Usual time.Duration `json:"usual,omitempty"`
}

// tally adds up tests.
type tally struct {
	Passed, Failed, Skipped int
	flaky                   int
	cached                  int // of Passed: go's cache answered for them
	Slowest                 []Slow
	Failures                []Failure
	Cases                   []Case
	unkept                  int // tests that are counted and not among Cases
}

// keep remembers a test by its name; it counts nothing.
func (t *tally) keep(c Case) {
	if len(t.Cases) == maxCases {
		t.unkept++
		return
	}
	c.Name, c.Unit, c.Took = cut(clean(c.Name), maxName), cut(clean(c.Unit), maxName), max(c.Took, 0)
	t.Cases = append(t.Cases, c)
}

func (t *tally) fail(f Failure) {
	t.Failed++
	if len(t.Failures) == maxFailures {
		return
	}
	f.Name, f.Message, f.Output = cut(clean(f.Name), maxName), cut(clean(f.Message), 1000), last(clean(f.Output), maxOutput)
	t.Failures = append(t.Failures, f)
}

func (t *tally) slow(name string, took time.Duration) {
	if took <= 0 || len(t.Slowest) == maxSlowest && took <= t.Slowest[maxSlowest-1].Took {
		return
	}
	t.Slowest = append(t.Slowest, Slow{Name: cut(clean(name), maxName), Took: took})
	slices.SortStableFunc(t.Slowest, func(a, b Slow) int { return cmp.Compare(b.Took, a.Took) })
	t.Slowest = t.Slowest[:min(len(t.Slowest), maxSlowest)]
}

func (t *tally) add(o tally) {
	t.Passed += o.Passed
	t.Skipped += o.Skipped
	t.flaky += o.flaky
	t.cached += o.cached
	unkept := o.Failed - len(o.Failures)
	for _, f := range o.Failures {
		t.fail(f)
	}
	t.Failed += unkept
	for _, s := range o.Slowest {
		t.slow(s.Name, s.Took)
	}
	for _, c := range o.Cases {
		t.keep(c)
	}
	t.unkept += o.unkept
}

// tail keeps the end of a text.
type tail struct{ b []byte }

func (t *tail) add(s string) {
	t.b = append(t.b, s...)
	if len(t.b) > 2*maxOutput {
		t.b = append(t.b[:0], t.b[len(t.b)-maxOutput:]...)
	}
}

func (t *tail) String() string { return last(string(t.b), maxOutput) }

// cut keeps the beginning of s, at most n bytes of it.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// last keeps the end of s, at most n bytes of it.
func last(s string, n int) string {
	if len(s) <= n {
		return s
	}
	from := len(s) - n
	for from < len(s) && !utf8.RuneStart(s[from]) {
		from++
	}
	return "…" + s[from:]
}

func clean(s string) string { return strings.ToValidUTF8(s, "?") }
