package config

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones are known on machines without a zone database too

	"github.com/belay-cd/belay/internal/schedule"
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

// IsZero reports the same to encoders.
func (w Window) IsZero() bool { return w.Zero() }

func (w Window) String() string {
	if w.and != nil {
		return w.text + " and " + w.and.String()
	}
	return w.text
}

// Open reports whether t lies in the window, by the clock on the wall. Without a window it is always open.
func (w Window) Open(t time.Time) bool {
	open := true
	w.all(func(one Window) {
		local := t.In(one.Zone)
		open = open && one.has(local.Weekday(), sinceMidnight(local))
	})
	return open
}

// sinceMidnight is the time of day that a clock on the wall shows.
func sinceMidnight(t time.Time) time.Duration {
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second +
		time.Duration(t.Nanosecond())
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

// Schedule is when a job is started: five cron fields and a zone. With the times of `serve --demo` a field for seconds may
// stand before them.
type Schedule struct {
	schedule.Cron
	Zone *time.Location // nil: there is no schedule
}

func (v *Schedule) parse(s string) *fault {
	cron, err := schedule.Parse(s)
	var syntax *schedule.SyntaxError
	if errors.As(err, &syntax) {
		return &fault{id: syntax.ID, why: syntax.Why, hint: syntax.Hint}
	}
	*v = Schedule{Cron: cron, Zone: cron.Zone()}
	return nil
}
func (*Schedule) shape() shape {
	return shape{name: "schedule", pattern: `^[0-9*/,-]+( [0-9*/,-]+){4} [A-Za-z_+-]+(/[A-Za-z0-9_+-]+)*$`}
}

// rulesSchedule refuses seconds where times are not shortened: a minute is what cron promises.
func (f *File) rulesSchedule(path string, r *Role) {
	if at := path + ".schedule"; f.readable(at) && r.Schedule.Seconds() && !f.opts.Demo {
		f.fail("schedule", at, `"* * * * * UTC" is every minute`, "a field for seconds needs belay serve --demo: five cron fields and a zone are expected")
	}
}
