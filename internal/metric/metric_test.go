package metric

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func TestExpressions(t *testing.T) {
	values := map[string]float64{"error_rate": 0.02, "p95": 0.25, "baseline.p95": 0.2, "stable.error_rate": 0.01, "jobs_lag": 90, "hits": 0.85, "zero": 0}
	look := func(name string) (float64, bool) { v, ok := values[name]; return v, ok }
	for text, want := range map[string]bool{
		"error_rate < 5%":                 true,
		"error_rate >= 2%":                true,
		"p95 < 300ms":                     true,
		"p95 < 0.2s":                      false,
		"jobs_lag < 2m":                   true,
		"jobs_lag < 1m":                   false,
		"hits > 80%":                      true,
		"hits>80%and p95<1s":              true,
		"p95 > 0.8 * baseline.p95":        true,
		"p95 < baseline.p95 + 50ms + 1ms": true,
		"not (p95 < 200ms) and error_rate > stable.error_rate": true,
		"p95 < 1ms or error_rate == 2%":                        true,
		"p95 < 1s or missing > 1":                              true, // the left side decides
		"-p95 < 0":                                             true,
		"2 * (p95 + 0.25) == 1":                                true,
	} {
		e, err := ParseExpr(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got, err := e.Eval(look); err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"missing > 1", "p95 / zero > 1", "baseline.missing < 1"} {
		e, err := ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Eval(look); !errors.Is(err, ErrNoData) {
			t.Errorf("%q: %v, want no data", text, err)
		}
	}
}

func TestExpressionsThatAreNone(t *testing.T) {
	for text, reason := range map[string]string{
		"error_rate":             "what must it be",
		"":                       "not an expression",
		"p95 <":                  "not an expression",
		"p95 < 5 %":              "% stands after",
		"p95 % 2 == 0":           "% stands after",
		"p95 < 3parsecs":         "not a number",
		"(p95 < 1) + 1 > 0":      "mixed",
		"p95 and p99":            "mixed",
		"not p95":                "mixed",
		"env.HOME == 1":          "only names",
		"len(p95) > 1":           "only names",
		`p95 == "x"`:             "no meaning",
		"p95 < 1 ? true : false": "no meaning",
		"p95 ** 2 > 1":           "unknown operator",
		"p95 in 1..3":            "",
		"true":                   "only names",
		strings.Repeat("(", 300): "nested",
	} {
		_, err := ParseExpr(text)
		var s *SyntaxError
		if !errors.As(err, &s) || !strings.Contains(s.Reason, reason) || s.Offset < 0 || s.Offset+s.Length > len(text) {
			t.Errorf("%q: %+v, want %q", text, err, reason)
		}
	}
}

func TestNamesHaveTheirPlace(t *testing.T) {
	e, err := ParseExpr("cache_hits > 0.8 * baseline.hits and 10ms < p95")
	if err != nil {
		t.Fatal(err)
	}
	names := e.Names()
	if len(names) != 3 || names[0] != (Name{"cache_hits", "cache_hits", 0, 10}) || names[1] != (Name{"baseline.hits", "hits", 19, 13}) || names[2].Text != "p95" {
		t.Errorf("%+v", names)
	}
}

// fixed is a set of series by metric, which also checks the window.
type fixed map[string][]Series

func (f fixed) Range(name string, matchers []Matcher, _ time.Duration) []Series {
	var out []Series
	for _, s := range f[name] {
		ok := true
		for _, m := range matchers {
			ok = ok && (s.Labels[m.Label] == m.Value) != m.Negated
		}
		if ok {
			out = append(out, s)
		}
	}
	return out
}

func points(values ...float64) (out []Point) {
	start := time.Unix(0, 0)
	for i, v := range values {
		out = append(out, Point{start.Add(time.Duration(i) * 10 * time.Second), v})
	}
	return out
}

func TestQueries(t *testing.T) {
	data := fixed{
		"sent_total":  {{map[string]string{"kind": "mail"}, points(100, 110, 120)}, {map[string]string{"kind": "sms"}, points(0, 20, 40)}},
		"reset_total": {{nil, points(90, 100, 5, 15)}}, // 10, then from zero: 5, then 10
		"pending":     {{nil, points(1, 5)}, {nil, points(9, 3)}},
		"took_bucket": {{map[string]string{"le": "0.1"}, points(0, 50)}, {map[string]string{"le": "0.2"}, points(0, 100)}, {map[string]string{"le": "+Inf"}, points(0, 100)}},
		"young_total": {{nil, points(5)}},
		"late_bucket": {{map[string]string{"le": "1"}, points(0, 1)}, {map[string]string{"le": "+Inf"}, points(0, 100)}},
	}
	for text, want := range map[string]float64{
		"rate(sent_total)":                     3,
		"60 * rate(sent_total{kind=\"mail\"})": 60,
		"rate(sent_total{kind!=\"mail\"}[1m])": 2,
		"sum(rate(sent_total))":                3,
		"max(rate(sent_total))":                2,
		"increase(reset_total)":                25,
		"max(pending)":                         5,
		"min(pending)":                         3,
		"avg(pending)":                         4,
		"sum(pending) - 2":                     6,
		"pending":                              8,
		"-(pending + 2) * 3":                   -30,
		"8 - 2 - pending":                      -2,
		"rate(sent_total) / rate(sent_total)":  1,
		"quantile(0.5, took)":                  0.1,
		"quantile(0.75, took)":                 0.15,
		"quantile(0.99, late)":                 1,
	} {
		q, err := ParseQuery(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got, err := q.Eval(data); err != nil || math.Abs(got-want) > 1e-9 {
			t.Errorf("%q: %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"rate(young_total)", "absent", "pending / (pending - pending)", "quantile(0.5, absent)", "max(absent)"} {
		q, err := ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Eval(data); !errors.Is(err, ErrNoData) {
			t.Errorf("%q: %v, want no data", text, err)
		}
	}
	q, err := ParseQuery("rate(a_total) / rate(b_total) + rate(a_total)")
	if names := q.Metrics(); err != nil || len(names) != 2 || names[0] != "a_total" || names[1] != "b_total" {
		t.Errorf("%v %v", names, err)
	}
}

func TestQueriesThatAreNone(t *testing.T) {
	for text, at := range map[string]int{
		"":                       0,
		"1 + 2":                  0,
		"reat(x)":                0,
		"60 * reat(x)":           5,
		"rate(x":                 6,
		"rate(x))":               7,
		"rate(rate(x))":          5,
		"x{a}":                   3,
		"x{a=~\"b\"}":            5,
		"x{a=b}":                 4,
		"x[soon]":                2,
		"quantile(2, x)":         -1,
		"x +":                    3,
		"x y":                    2,
		strings.Repeat("(", 200): -1,
		strings.Repeat("-", 200): -1,
	} {
		_, err := ParseQuery(text)
		var s *SyntaxError
		if !errors.As(err, &s) || at >= 0 && s.Offset != at || s.Offset+s.Length > len(text)+1 {
			t.Errorf("%q: %+v, want at %d", text, err, at)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{"rate(x)", "quantile(0.9, x{a=\"b\",c!=\"d\"}[5m]) / 2 - y", "sum(rate(x[1m]))", "((((", "x{"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := ParseQuery(text)
		if err == nil {
			_, _ = q.Eval(fixed{})
		}
	})
}

func FuzzParseExpr(f *testing.F) {
	for _, s := range []string{"a < 5%", "not a > 1 and b.c < 2m", "1 == 1", "baseline.x > 0.8 * stable.y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseExpr(text)
		if err == nil {
			for _, n := range e.Names() {
				if text[n.Offset:n.Offset+n.Length] != n.Text {
					t.Fatalf("%+v", n)
				}
			}
			_, _ = e.Eval(func(string) (float64, bool) { return 1, true })
		}
	})
}
