package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones are known on machines without a zone database too
)

// Window is when traffic may shift up in production: days and hours in a zone.
type Window struct {
	Spans []WindowSpan
	Zone  *time.Location
	text  string
	and   *Window // a second window that must be open too
}

// WindowSpan is one part of a Window: on the days, from Start to End after midnight.
type WindowSpan struct {
	Days       [7]bool // by time.Weekday
	Start, End time.Duration
}

// Zero reports whether there is no window: always open.
func (w Window) Zero() bool { return w.Zone == nil }

func (w Window) String() string { return w.text }

// Open reports whether t lies in the window. Without a window it is always open.
func (w Window) Open(t time.Time) bool {
	if w.Zero() {
		return true
	}
	if w.and != nil && !w.and.Open(t) {
		return false
	}
	t = t.In(w.Zone)
	clock := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
	for _, span := range w.Spans {
		if span.Days[t.Weekday()] && clock >= span.Start && clock < span.End {
			return true
		}
	}
	return false
}

var (
	windowPattern = regexp.MustCompile(`^[A-Z][a-z]{2}(-[A-Z][a-z]{2})? [0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}(, [A-Z][a-z]{2}(-[A-Z][a-z]{2})? [0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2})* [A-Za-z_+-]+(/[A-Za-z0-9_+-]+)*$`)
	spanPattern   = regexp.MustCompile(`^([A-Z][a-z]{2})(?:-([A-Z][a-z]{2}))? ([0-9]{2}:[0-9]{2})-([0-9]{2}:[0-9]{2})$`)
	zonePattern   = regexp.MustCompile(`^[A-Za-z_+-]+(/[A-Za-z0-9_+-]+)*$`)
)

const windowExample = "Mon-Fri 09:00-16:00 Europe/Berlin"

func (w *Window) parse(s string) *fault {
	spans := strings.Split(s, ",")
	last := strings.TrimSpace(spans[len(spans)-1])
	zone := ""
	if i := strings.LastIndexByte(last, ' '); i >= 0 && zonePattern.MatchString(last[i+1:]) {
		last, zone = strings.TrimSpace(last[:i]), last[i+1:]
	}
	spans[len(spans)-1] = last
	*w = Window{text: s}
	for _, text := range spans {
		span, f := parseSpan(strings.TrimSpace(text))
		if f != nil {
			return f
		}
		w.Spans = append(w.Spans, span)
	}
	if zone == "" {
		return &fault{id: "window-zone", why: "it has no time zone", hint: s + " Europe/Berlin"}
	}
	loc, f := loadZone(zone)
	w.Zone = loc
	return f
}
func (*Window) shape() shape { return shape{name: "window", pattern: windowPattern.String()} }

func loadZone(zone string) (*time.Location, *fault) {
	loc, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" || zone == "" {
		return nil, &fault{id: "zone", why: "unknown time zone " + zone, hint: "Europe/Berlin, or UTC"}
	}
	return loc, nil
}

var weekdays = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}

func weekday(s string) int {
	for i, name := range weekdays {
		if name == s {
			return i
		}
	}
	return -1
}

func parseSpan(s string) (WindowSpan, *fault) {
	m := spanPattern.FindStringSubmatch(s)
	if m == nil {
		return WindowSpan{}, &fault{id: "window", why: "days and hours are expected", hint: windowExample}
	}
	if m[2] == "" {
		m[2] = m[1]
	}
	from, to := weekday(m[1]), weekday(m[2])
	if from < 0 || to < 0 {
		return WindowSpan{}, &fault{id: "window", why: "unknown day", hint: "Mon, Tue, Wed, Thu, Fri, Sat, Sun"}
	}
	span := WindowSpan{Start: clock(m[3]), End: clock(m[4])}
	if span.Start < 0 || span.End < 0 {
		return WindowSpan{}, &fault{id: "window", why: "not a time of day", hint: "09:00-16:00, at most 24:00"}
	}
	if span.End <= span.Start {
		return WindowSpan{}, &fault{id: "window-empty", why: "it is never open: it ends before it begins", hint: windowExample}
	}
	for d := from; ; d = (d + 1) % 7 {
		span.Days[d] = true
		if d == to {
			return span, nil
		}
	}
}

// clock reads HH:MM up to 24:00; -1 when it is none.
func clock(s string) time.Duration {
	h, errHour := strconv.Atoi(s[:2])
	m, errMinute := strconv.Atoi(s[3:])
	if errHour != nil || errMinute != nil || m > 59 || h > 24 || h == 24 && m > 0 {
		return -1
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
}

// Schedule is when a job is started: five cron fields and a zone.
type Schedule struct {
	Fields [5]string // minute, hour, day of the month, month, day of the week
	Zone   *time.Location
	text   string
}

func (v Schedule) String() string { return v.text }

var cronRanges = [5]struct {
	name     string
	min, max int
}{{"minute", 0, 59}, {"hour", 0, 23}, {"day", 1, 31}, {"month", 1, 12}, {"weekday", 0, 7}}

func (v *Schedule) parse(s string) *fault {
	parts := strings.Fields(s)
	if len(parts) != 5 && len(parts) != 6 {
		return &fault{id: "schedule", why: "five cron fields and a zone are expected", hint: `"0 3 * * * Europe/Berlin"`}
	}
	*v = Schedule{text: s}
	for i, field := range parts[:5] {
		if !cronField(field, cronRanges[i].min, cronRanges[i].max) {
			return &fault{id: "schedule", why: fmt.Sprintf("the field %s is not a %s", field, cronRanges[i].name),
				hint: fmt.Sprintf("%d-%d, *, */2 or a list", cronRanges[i].min, cronRanges[i].max)}
		}
		v.Fields[i] = field
	}
	if len(parts) == 5 {
		return &fault{id: "schedule-zone", why: "it has no time zone", hint: `"` + s + ` Europe/Berlin"`}
	}
	loc, f := loadZone(parts[5])
	v.Zone = loc
	return f
}
func (*Schedule) shape() shape {
	return shape{name: "schedule", pattern: `^[0-9*/,-]+( [0-9*/,-]+){4} [A-Za-z_+-]+(/[A-Za-z0-9_+-]+)*$`}
}

// cronField reports whether s is a list of *, n, n-m, each with an optional /step, within lo … hi.
func cronField(s string, lo, hi int) bool {
	for _, part := range strings.Split(s, ",") {
		span, step, stepped := strings.Cut(part, "/")
		if n, err := strconv.Atoi(step); stepped && (err != nil || n < 1) {
			return false
		}
		if span == "*" {
			continue
		}
		from, to, ranged := strings.Cut(span, "-")
		if !ranged {
			to = from
		}
		a, errFrom := strconv.Atoi(from)
		b, errTo := strconv.Atoi(to)
		if errFrom != nil || errTo != nil || a < lo || b > hi || a > b {
			return false
		}
	}
	return true
}
