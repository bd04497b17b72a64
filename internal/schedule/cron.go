package schedule

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones are known on machines without a zone database too
)

// Schedule says when ticks come.
type Schedule interface {
	// Next returns the first tick after t, in whole seconds; the zero time when none comes any more.
	Next(t time.Time) time.Time
}

// Cron is a schedule of cron fields in a time zone. The zero value never ticks.
type Cron struct {
	second, minute, hour, day, month, weekday uint64 // bit n: the value n
	anyDay, anyWeekday                        bool
	everyHour                                 bool
	seconds                                   bool
	zone                                      *time.Location
	text                                      string
}

// SyntaxError is why a text is no schedule.
type SyntaxError struct {
	ID   string // schedule, schedule-zone, schedule-never or zone
	Why  string
	Hint string
}

func (e *SyntaxError) Error() string { return e.Why }

var fields = [...]struct {
	name     string
	min, max int
}{{"second", 0, 59}, {"minute", 0, 59}, {"hour", 0, 23}, {"day", 1, 31}, {"month", 1, 12}, {"weekday", 0, 7}}

// horizon is how far ahead a tick is looked for: eight years lie between some leap days.
const horizon = 9

var zonePattern = regexp.MustCompile(`^[A-Za-z_+-]+(/[A-Za-z0-9_+-]+)*$`)

// Parse reads five cron fields (minute, hour, day of the month, month, day of the week with 0 and 7 for Sunday) and a time
// zone: "0 3 * * * Europe/Berlin". A field before them counts seconds: see Seconds. The error is a *SyntaxError.
func Parse(text string) (Cron, error) {
	words := strings.Fields(text)
	c := Cron{text: text, second: 1, seconds: len(words) == len(fields)+1}
	first := 1
	if c.seconds {
		first = 0
	}
	if n := len(words) + first; n != len(fields)+1 && (n != len(fields) || zonePattern.MatchString(words[len(words)-1])) {
		return Cron{}, &SyntaxError{"schedule", "five cron fields and a zone are expected", `"0 3 * * * Europe/Berlin"`}
	}
	bits := [...]*uint64{&c.second, &c.minute, &c.hour, &c.day, &c.month, &c.weekday}
	for i, word := range words[:len(fields)-first] {
		f := fields[i+first]
		set, ok := parseField(word, f.min, f.max)
		if !ok {
			return Cron{}, &SyntaxError{"schedule", fmt.Sprintf("the field %s is not a %s", word, f.name),
				fmt.Sprintf("%d-%d, *, */2 or a list", f.min, f.max)}
		}
		*bits[i+first] = set
	}
	if len(words) < len(fields)+1-first {
		return Cron{}, &SyntaxError{"schedule-zone", "it has no time zone", `"` + text + ` Europe/Berlin"`}
	}
	zone := words[len(words)-1]
	var err error
	if c.zone, err = time.LoadLocation(zone); err != nil || zone == "Local" {
		return Cron{}, &SyntaxError{"zone", "unknown time zone " + zone, "Europe/Berlin, or UTC"}
	}
	c.weekday = (c.weekday | c.weekday>>7) & 0x7f
	c.anyDay, c.anyWeekday = words[3-first][0] == '*', words[5-first][0] == '*'
	c.everyHour = c.hour == 1<<24-1
	if c.nextLocal(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return Cron{}, &SyntaxError{"schedule-never", "it never comes: no month of it has such a day", `"0 3 * * * ` + zone + `"`}
	}
	return c, nil
}

// parseField reads a list of *, n, n-m, each with an optional /step, within lo … hi.
func parseField(s string, lo, hi int) (set uint64, ok bool) {
	for part := range strings.SplitSeq(s, ",") {
		span, stepText, stepped := strings.Cut(part, "/")
		step := 1
		if stepped {
			n, err := strconv.ParseUint(stepText, 10, 16)
			if err != nil || n < 1 {
				return 0, false
			}
			step = int(n)
		}
		a, b := uint64(lo), uint64(hi)
		if span != "*" {
			from, to, ranged := strings.Cut(span, "-")
			if !ranged {
				to = from
			}
			var errFrom, errTo error
			a, errFrom = strconv.ParseUint(from, 10, 16)
			b, errTo = strconv.ParseUint(to, 10, 16)
			if errFrom != nil || errTo != nil || a < uint64(lo) || b > uint64(hi) || a > b {
				return 0, false
			}
			if stepped && !ranged { // 5/15 is 5, 20, 35, 50
				b = uint64(hi)
			}
		}
		for n := int(a); n <= int(b); n += step {
			set |= 1 << n
		}
	}
	return set, true
}

func (c Cron) String() string { return c.text }

// Zone is the time zone of the fields; nil for the zero value.
func (c Cron) Zone() *time.Location { return c.zone }

// Seconds reports whether the schedule has a field for seconds, which is for tests and demonstrations only.
func (c Cron) Seconds() bool { return c.seconds }

// Next returns the first tick after t.
//
// Where clocks change, a schedule that names hours means the time on the clock: a time that is left out that day comes at
// the first instant after the gap, once, and a time that comes twice counts the first time. A schedule of every hour means
// the time that passes: it ticks through both, and nothing is made up for.
func (c Cron) Next(t time.Time) time.Time {
	if c.zone == nil {
		return time.Time{}
	}
	at := t.Truncate(time.Second).In(c.zone)
	from := wall(at).Add(time.Second)
	for {
		begin, end := at.ZoneBounds() // between them the clocks do not change
		if !c.everyHour && !begin.IsZero() {
			// What the clocks showed before they went back does not come again.
			if shown := wall(begin.Add(-time.Second)).Add(time.Second); from.Before(shown) {
				from = shown
			}
		}
		found := c.nextLocal(from)
		if found.IsZero() {
			return time.Time{}
		}
		if tick := found.Add(-offsetOf(at)); end.IsZero() || tick.Before(end) {
			return tick
		}
		at = end
		from = wall(at)
		if !c.everyHour && found.Before(from) { // the clocks leave it out
			return end.UTC()
		}
	}
}

// wall is what the clock on the wall shows, written as if it were UTC, so that it can be counted with.
func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

func offsetOf(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}

// nextLocal returns the first time on the wall clock from t on that the fields name.
func (c Cron) nextLocal(t time.Time) time.Time {
	for last := t.Year() + horizon; t.Year() <= last; {
		year, month, day := t.Date()
		hour, minute, second := t.Clock()
		switch {
		case !has(c.month, int(month)):
			t = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
		case !c.onDay(day, t.Weekday()):
			t = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
		case !has(c.hour, hour):
			t = time.Date(year, month, day, hour+1, 0, 0, 0, time.UTC)
		case !has(c.minute, minute):
			t = time.Date(year, month, day, hour, minute+1, 0, 0, time.UTC)
		case !has(c.second, second):
			t = t.Add(time.Second)
		default:
			return t
		}
	}
	return time.Time{}
}

// onDay follows cron's old rule: where both the day of the month and the day of the week are named, either will do.
func (c Cron) onDay(day int, weekday time.Weekday) bool {
	inMonth, inWeek := has(c.day, day), has(c.weekday, int(weekday))
	if c.anyDay || c.anyWeekday {
		return inMonth && inWeek
	}
	return inMonth || inWeek
}

func has(set uint64, n int) bool { return set&(1<<n) != 0 }
