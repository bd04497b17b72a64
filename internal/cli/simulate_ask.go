package cli

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Bounds of what can be asked of a simulation. They keep a slip of the hand from running for hours.
const (
	maxRate      = 1_000_000.0 // requests per second
	maxRuns      = 10_000
	maxWithin    = 30 * 24 * time.Hour
	maxLatency   = time.Hour
	maxFactor    = 100_000.0
	defaultWish  = 15 * time.Minute
	secondsADay  = 24 * 60 * 60
	minutesAHour = 60
)

var ratePattern = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?/ ?(s|sec|second|m|min|minute|h|hour|d|day)$`)

// perSecond reads a rate of requests: 50/s, 3000/min, 180000/h.
func perSecond(flag, text string) (float64, error) {
	m := ratePattern.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		hint := "50/s, 3000/min or 180000/h"
		if _, ok := plainNumber(text); ok {
			hint = strings.TrimSpace(text) + "/s, or /min, or /h"
		}
		return 0, usage("%s %q: not a rate of requests", flag, text).WithHint("%s", hint)
	}
	n, _ := plainNumber(m[1]) // the pattern has seen to it
	switch m[2][0] {
	case 'm':
		n /= minutesAHour
	case 'h':
		n /= minutesAHour * minutesAHour
	case 'd':
		n /= secondsADay
	}
	if n <= 0 || n > maxRate {
		return 0, usage("%s %q: it is above 0 and at most 1,000,000/s", flag, text)
	}
	return n, nil
}

var numberPattern = regexp.MustCompile(`^[0-9]{1,15}(\.[0-9]{1,15})?$`)

// plainNumber reads digits with at most one point: no sign, no exponent, no NaN.
func plainNumber(text string) (float64, bool) {
	text = strings.TrimSpace(text)
	if !numberPattern.MatchString(text) {
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

// fraction reads a percentage: 0.1% is 0.001. It is at least low and at most high.
func fraction(flag, text string, low, high float64) (float64, error) {
	bare, found := strings.CutSuffix(strings.TrimSpace(text), "%")
	n, ok := plainNumber(bare)
	if !ok || !found {
		hint := "0.1%"
		if ok {
			hint = "a number needs its unit: " + strings.TrimSpace(text) + "%"
		}
		return 0, usage("%s %q: not a percentage", flag, text).WithHint("%s", hint)
	}
	if f := n / 100; f >= low && f <= high {
		return f, nil
	}
	return 0, usage("%s %q: it is %s to %s", flag, text, percent(low), percent(high))
}

// stretch reads a time above 0: 20ms, 1.5s, 15m, 2h.
func stretch(flag, text string, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(strings.ReplaceAll(strings.TrimSpace(text), " ", ""))
	if err != nil {
		hint := "20ms, 90s, 15m or 2h"
		if _, ok := plainNumber(text); ok {
			hint = "a number needs its unit: " + strings.TrimSpace(text) + "s, or ms, or m"
		}
		return 0, usage("%s %q: not a time", flag, text).WithHint("%s", hint)
	}
	if d <= 0 || d > most {
		return 0, usage("%s %q: it is above 0 and at most %s", flag, text, compact(most))
	}
	return d, nil
}

// harm is how much worse a simulated release is: exactly one of its fields says it. The zero value is no worse.
type harm struct {
	errors  float64 // times the error rate
	rate    float64 // the error rate itself
	latency float64 // times as long
}

// none is a release that is no worse.
var none harm

// asked are the releases that simulate shows when nothing else is asked for. allFail is the last of the errors.
var asked = []harm{{errors: 2}, {errors: 5}, {errors: 20}, {rate: 1}, {latency: 1.2}, {latency: 1.5}}

// cleanAsked are they where no error was seen: a multiple of nothing is nothing.
var cleanAsked = []harm{{rate: 0.005}, {rate: 0.02}, {rate: 0.1}, {rate: 1}, {latency: 1.2}, {latency: 1.5}}

// String says it as people read it: errors ×2, errors 2 %, all fail, latency +50 %.
func (h harm) String() string {
	switch {
	case h.rate == 1:
		return "all fail"
	case h.rate > 0:
		return "errors " + percent(h.rate)
	case h.errors > 0:
		return "errors ×" + factorText(h.errors)
	case h.latency >= 3:
		return "latency ×" + factorText(h.latency)
	case h.latency > 0:
		return "latency +" + percent(h.latency-1)
	}
	return "no worse"
}

// factorText writes a factor with the digits that count: 2, 1.5, 6.9, 140.
func factorText(f float64) string {
	if f >= 10 {
		return count(int64(math.Round(f)))
	}
	return trimZeros(strconv.FormatFloat(f, 'f', 1, 64))
}

const harmHint = `"errors x2", "errors 1%", "all fail", "latency +50%" or "latency x2"`

// seen reads what one would like to see.
func seen(text string) (harm, error) {
	wrong := func(why string) error { return usage("--see %q: %s", text, why).WithHint("%s", harmHint) }
	word := strings.Join(strings.Fields(strings.ToLower(text)), " ")
	if word == "all fail" || word == "errors 100%" || word == "everything fails" {
		return harm{rate: 1}, nil
	}
	what, much, _ := strings.Cut(word, " ")
	much = strings.ReplaceAll(much, " ", "")
	if what != "errors" && what != "latency" {
		return none, wrong("it is about errors or latency")
	}
	if much == "" {
		return none, wrong("how much worse?")
	}
	if f, ok := multiple(much); ok {
		if f <= 1 || f > maxFactor {
			return none, wrong("a factor is above 1 and at most 100,000")
		}
		if what == "latency" {
			return harm{latency: f}, nil
		}
		return harm{errors: f}, nil
	}
	bare, isPercent := strings.CutSuffix(strings.TrimPrefix(much, "+"), "%")
	n, ok := plainNumber(bare)
	switch more := strings.HasPrefix(much, "+"); {
	case !isPercent || !ok || n <= 0 || n/100 >= maxFactor:
		return none, wrong("how much worse?")
	case what == "latency" && !more:
		return none, wrong("slower by how much? +" + much)
	case what == "latency":
		return harm{latency: 1 + n/100}, nil
	case more:
		return harm{errors: 1 + n/100}, nil
	case n > 100:
		return none, wrong("an error rate is at most 100%")
	default:
		return harm{rate: n / 100}, nil
	}
}

// multiple reads x2, ×2 and 2x.
func multiple(text string) (float64, bool) {
	for _, mark := range []string{"x", "×", "*"} {
		if bare, found := strings.CutPrefix(text, mark); found {
			return plainNumber(bare)
		}
		if bare, found := strings.CutSuffix(text, mark); found {
			return plainNumber(bare)
		}
	}
	return 0, false
}
