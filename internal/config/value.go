// Package config reads belay.yaml: strictly, every finding at once with its place, defaults filled in. The structs of
// File are the one table from which the decoder, the JSON Schema and the reference page are made; defaults.go holds every
// number. Only Load touches a disk.
package config

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

// fault is what is wrong with one value: a stable id, the reason, and what to write instead.
type fault struct {
	id, why, hint string
	at, length    int // part of the value that is meant, in runes; length 0: all of it
}

// scalar is a value that is written as one YAML scalar. Each knows its pattern, so that the decoder and the JSON Schema
// agree.
type scalar interface {
	// parse reads text as written; plain says that it stood without quotes.
	parse(text string) *fault
	// shape describes the value for people and for the schema.
	shape() shape
}

// shape is how a scalar is written.
type shape struct {
	name    string   // for the reference: "duration"
	pattern string   // regular expression over the text, "" for any
	enum    []string // the only texts, in the order of the reference
	json    []string // JSON types; nil: string
	// Bounds of a number: above is exclusive; most goes with least. nil: none.
	above, least, most *float64
}

// Numbers that lack their unit, for the hint.
var (
	wholePattern   = regexp.MustCompile(`^[0-9]+$`)
	decimalPattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	nearSize       = regexp.MustCompile(`^([0-9]+) ?([kKmMgGtT])(i?[bB])?$`)
)

// Env is a value with two columns, one per environment. Written once, it holds for both.
type Env[T any] struct {
	Staging, Production T
	// Columns says that the file wrote two values.
	Columns bool
}

// In returns the value for an environment.
func (e Env[T]) In(env domain.Environment) T {
	if env == domain.Production {
		return e.Production
	}
	return e.Staging
}

// Both returns a value that is the same in both environments.
func Both[T any](v T) Env[T] { return Env[T]{Staging: v, Production: v} }

// Text is any scalar, kept as it was written: 1.10 stays 1.10.
type Text string

func (t *Text) parse(s string) *fault { *t = Text(s); return nil }
func (*Text) shape() shape {
	return shape{name: "text", json: []string{"string", "number", "boolean"}}
}

// Reason is a sentence that says why.
type Reason string

func (r *Reason) parse(s string) *fault {
	if low := strings.ToLower(strings.Trim(s, " .!")); slices.Contains([]string{"", "todo", "tbd", "later", "none", "n/a", "fixme", "-", "wip"}, low) {
		return &fault{id: "empty-reason", why: "a reason is a sentence", hint: "say why, so that the next reader can judge it"}
	}
	*r = Reason(s)
	return nil
}
func (*Reason) shape() shape { return shape{name: "reason"} }

// Name is the name of an app, a role or a check.
type Name string

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

func (n *Name) parse(s string) *fault {
	if !namePattern.MatchString(s) {
		return &fault{id: "name", why: "a name is lower-case letters, digits and -, and begins with a letter", hint: suggestName(s)}
	}
	if len(s) > MaxNameLength {
		return &fault{id: "name", why: fmt.Sprintf("a name has at most %d characters", MaxNameLength)}
	}
	*n = Name(s)
	return nil
}
func (*Name) shape() shape { return shape{name: "name", pattern: namePattern.String()} }

// suggestName makes a name that is allowed out of one that is not.
func suggestName(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' && b.Len() > 0 {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	if out := strings.Trim(b.String(), "-"); out != "" {
		return out
	}
	return "shop-api"
}

// Var is the NAME of a variable or a secret.
type Var string

var varPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (v *Var) parse(s string) *fault {
	if !varPattern.MatchString(s) {
		return &fault{id: "variable-name", why: "a variable's name is letters, digits and _", hint: suggestVar(s)}
	}
	*v = Var(s)
	return nil
}
func (*Var) shape() shape { return shape{name: "NAME", pattern: varPattern.String()} }

func suggestVar(s string) string {
	return strings.ToUpper(strings.ReplaceAll(suggestName(s), "-", "_"))
}

// Duration is a time with its unit: 90s, 15m, 1h, 7d.
type Duration time.Duration

var durationPattern = regexp.MustCompile(`^[0-9]+(ms|s|m|h|d)$`)

// D returns the duration as the standard library's.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d *Duration) parse(s string) *fault {
	v, ok := parseDuration(s)
	if !ok {
		f := &fault{id: "duration", why: "not a duration", hint: "90s, 15m, 1h or 7d"}
		if wholePattern.MatchString(s) {
			f.why, f.hint = "a number needs its unit", s+"s"
		}
		return f
	}
	*d = Duration(v)
	return nil
}
func (*Duration) shape() shape { return shape{name: "duration", pattern: durationPattern.String()} }

func (d Duration) String() string { return formatDuration(time.Duration(d)) }

func parseDuration(s string) (time.Duration, bool) {
	if !durationPattern.MatchString(s) {
		return 0, false
	}
	i := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.ParseInt(s[:i], 10, 64)
	unit := map[string]time.Duration{"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[s[i:]]
	if err != nil || n > int64(math.MaxInt64)/int64(unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

// formatDuration writes a duration with the largest unit that divides it.
func formatDuration(d time.Duration) string {
	switch {
	case d == 0:
		return "0s"
	case d%(24*time.Hour) == 0 && d >= 7*24*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0 && d >= 2*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d%time.Second == 0:
		return fmt.Sprintf("%ds", d/time.Second)
	default:
		return fmt.Sprintf("%dms", d/time.Millisecond)
	}
}

// Percent is a share: 5% is 0.05.
type Percent float64

var percentPattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?%$`)

// percentText is what the schema says of a percentage: the decoder compares the number instead.
const percentText = `0*(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)%`

func (p *Percent) parse(s string) *fault {
	v, ok := parsePercent(s)
	if !ok {
		f := &fault{id: "percent", why: "not a percentage", hint: "5%"}
		if decimalPattern.MatchString(s) {
			f.why, f.hint = "a number needs its unit", s+"%"
		}
		return f
	}
	*p = Percent(v)
	return nil
}
func (*Percent) shape() shape    { return shape{name: "percent", pattern: "^" + percentText + "$"} }
func (p Percent) String() string { return formatNumber(float64(p)*100) + "%" }
func formatNumber(v float64) string {
	return strconv.FormatFloat(math.Round(v*1e9)/1e9, 'f', -1, 64)
}

// parsePercent reads 0% … 100%.
func parsePercent(s string) (float64, bool) {
	if !percentPattern.MatchString(s) {
		return 0, false
	}
	v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	return v / 100, err == nil && v <= 100
}

// Factor is a multiple: 2x.
type Factor float64

var factorPattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?x$`)

func (f *Factor) parse(s string) *fault {
	v, err := strconv.ParseFloat(strings.TrimSuffix(s, "x"), 64)
	if !factorPattern.MatchString(s) || err != nil || v <= 1 {
		return &fault{id: "factor", why: "not a factor above 1", hint: "2x"}
	}
	*f = Factor(v)
	return nil
}
func (*Factor) shape() shape    { return shape{name: "factor", pattern: factorPattern.String()} }
func (f Factor) String() string { return formatNumber(float64(f)) + "x" }

// Growth is a share on top: +20% is 0.20.
type Growth float64

var growthPattern = regexp.MustCompile(`^\+[0-9]+(\.[0-9]+)?%$`)

func (g *Growth) parse(s string) *fault {
	v, err := strconv.ParseFloat(strings.Trim(s, "+%"), 64)
	if !growthPattern.MatchString(s) || err != nil {
		f := &fault{id: "growth", why: "not a growth", hint: "+20%"}
		if percentPattern.MatchString(s) {
			f.hint = "+" + s
		}
		return f
	}
	*g = Growth(v / 100)
	return nil
}
func (*Growth) shape() shape    { return shape{name: "growth", pattern: growthPattern.String()} }
func (g Growth) String() string { return "+" + formatNumber(float64(g)*100) + "%" }

// Limit is a share that may not be exceeded for longer than a time: 5% for 3m.
type Limit struct {
	Rate Percent
	For  Duration
}

var limitPattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?% for [0-9]+(ms|s|m|h|d)$`)

func (l *Limit) parse(s string) *fault {
	rate, long, cut := strings.Cut(s, " for ")
	r, ok := parsePercent(strings.TrimSpace(rate))
	d, isDuration := parseDuration(strings.TrimSpace(long))
	switch {
	case ok && !cut:
		return &fault{id: "limit", why: "for how long?", hint: s + " for " + formatDuration(DefaultGuardErrorFor)}
	case !ok || !isDuration || !limitPattern.MatchString(s):
		return &fault{id: "limit", why: "not a limit", hint: Limit{DefaultGuardErrorRate, Duration(DefaultGuardErrorFor)}.String()}
	}
	*l = Limit{Percent(r), Duration(d)}
	return nil
}
func (*Limit) shape() shape {
	return shape{name: "limit", pattern: "^" + percentText + " for [0-9]+(ms|s|m|h|d)$"}
}
func (l Limit) String() string { return l.Rate.String() + " for " + l.For.String() }

// Size is a number of bytes: 512MiB, 2GiB.
type Size int64

var sizePattern = regexp.MustCompile(`^[0-9]+(KiB|MiB|GiB|TiB)$`)

func (z *Size) parse(s string) *fault {
	if !sizePattern.MatchString(s) {
		f := &fault{id: "size", why: "not a size", hint: "512MiB"}
		if m := nearSize.FindStringSubmatch(s); m != nil {
			f.hint = m[1] + strings.ToUpper(m[2]) + "iB"
		} else if wholePattern.MatchString(s) {
			f.why, f.hint = "a number needs its unit", s+"MiB"
		}
		return f
	}
	n, err := strconv.ParseInt(s[:len(s)-3], 10, 64)
	shift := map[byte]uint{'K': 10, 'M': 20, 'G': 30, 'T': 40}[s[len(s)-3]]
	if err != nil || n > math.MaxInt64>>shift {
		return &fault{id: "size", why: "larger than any machine", hint: "512MiB"}
	}
	*z = Size(n << shift)
	return nil
}
func (*Size) shape() shape { return shape{name: "size", pattern: sizePattern.String()} }

func (z Size) String() string {
	for i, unit := range []string{"TiB", "GiB", "MiB"} {
		if shift := uint(40 - 10*i); z != 0 && z%(1<<shift) == 0 {
			return fmt.Sprintf("%d%s", z>>shift, unit)
		}
	}
	return fmt.Sprintf("%dKiB", z>>10)
}

// Cores is a number of processors: 2, 0.5.
type Cores float64

func (c *Cores) parse(s string) *fault {
	v, err := strconv.ParseFloat(s, 64)
	if !decimalPattern.MatchString(s) || err != nil || v <= 0 {
		return &fault{id: "cores", why: "not a number of cores", hint: "2, or 0.5"}
	}
	*c = Cores(v)
	return nil
}
func (*Cores) shape() shape {
	return shape{name: "cores", json: []string{"number"}, above: new(float64)}
}

// Count is a whole number.
type Count int

func (c *Count) parse(s string) *fault {
	v, err := strconv.Atoi(s)
	if err != nil || v < 0 || !wholePattern.MatchString(s) {
		return &fault{id: "number", why: "a whole number is expected", hint: "2"}
	}
	*c = Count(v)
	return nil
}
func (*Count) shape() shape {
	return shape{name: "number", json: []string{"integer"}, least: new(float64)}
}

// Flag is true or false.
type Flag bool

func (f *Flag) parse(s string) *fault {
	if s != "true" && s != "false" {
		return &fault{id: "true-or-false", why: "true or false is expected", hint: "true"}
	}
	*f = s == "true"
	return nil
}
func (*Flag) shape() shape { return shape{name: "true or false", json: []string{"boolean"}} }
