package config

import (
	"encoding/json"
	"fmt"
	"time"
)

// horizon bounds the search for an opening: a year has both changes of the clock in it, and whatever two windows in two
// zones have in common.
const horizon = 400 * 24 * time.Hour

// all calls f for each of the windows that must be open together.
func (w Window) all(f func(Window)) {
	for at := &w; at != nil && !at.Zero(); at = at.and {
		f(*at)
	}
}

// With returns the window that is open when both are.
func (w Window) With(other Window) Window {
	if w.Zero() {
		return other
	}
	if other.Zero() {
		return w
	}
	if w.and != nil {
		other = w.and.With(other)
	}
	w.and = &other
	return w
}

// edge returns the next instant after t at which the answer of Open may change: the beginning or the end of a span, a
// midnight, or a change of the zone's clock.
func (w Window) edge(t time.Time) time.Time {
	next := t.Add(horizon)
	w.all(func(one Window) {
		local := t.In(one.Zone)
		clock := sinceMidnight(local)
		least := 24*time.Hour - clock
		for _, span := range one.Spans {
			for _, at := range []time.Duration{span.Start, span.End} {
				if at > clock {
					least = min(least, at-clock)
				}
			}
		}
		// Up to the next change of the clock, the time of day runs as time does.
		if _, end := local.ZoneBounds(); !end.IsZero() {
			least = min(least, end.Sub(t))
		}
		if at := t.Add(least); at.Before(next) {
			next = at
		}
	})
	return next
}

// until returns the first instant from t on at which Open says open; false when there is none within a year.
func (w Window) until(t time.Time, open bool) (time.Time, bool) {
	t = t.Round(0) // by the clock on the wall: it may be set
	for at, last := t, t.Add(horizon); at.Before(last); at = w.edge(at) {
		if w.Open(at) == open {
			return at, true
		}
	}
	return time.Time{}, false
}

// NextOpening returns the first instant from t on at which the window is open: t itself when it is. It returns false for a
// window that never opens.
func (w Window) NextOpening(t time.Time) (time.Time, bool) { return w.until(t, true) }

// Closes returns the first instant from t on at which the window is shut: t itself when it is. It returns false for one that
// never closes.
func (w Window) Closes(t time.Time) (time.Time, bool) { return w.until(t, false) }

// Fit returns the first instant from t on at which the window is open and stays open for longer than d; it returns false
// when no opening is that long.
func (w Window) Fit(t time.Time, d time.Duration) (time.Time, bool) {
	for at, last := t, t.Add(horizon); at.Before(last); {
		open, ok := w.NextOpening(at)
		if !ok {
			break
		}
		closes, ok := w.Closes(open)
		if !ok || closes.Sub(open) > d {
			return open, true
		}
		at = closes
	}
	return time.Time{}, false
}

// Longest returns how long the longest opening of the year from t on lasts; the whole year when it never closes.
func (w Window) Longest(t time.Time) (longest time.Duration) {
	for at, last := t, t.Add(horizon); at.Before(last); {
		open, ok := w.NextOpening(at)
		if !ok {
			break
		}
		closes, ok := w.Closes(open)
		if !ok {
			return horizon
		}
		longest, at = max(longest, closes.Sub(open)), closes
	}
	return longest
}

// Within reports whether the window is never open when the other is shut, as far as that shows without a calendar: both
// must be in one zone.
func (w Window) Within(other Window) bool {
	if other.Zero() {
		return true
	}
	if w.Zero() || w.and != nil || other.and != nil || w.Zone.String() != other.Zone.String() {
		return false
	}
	for day := range 7 {
		for minute := time.Duration(0); minute < 24*time.Hour; minute += time.Minute {
			if w.has(time.Weekday(day), minute) && !other.has(time.Weekday(day), minute) {
				return false
			}
		}
	}
	return true
}

// has reports whether a time of day lies in one of the spans.
func (w Window) has(day time.Weekday, clock time.Duration) bool {
	for _, span := range w.Spans {
		if span.Days[day] && clock >= span.Start && clock < span.End {
			return true
		}
	}
	return false
}

// In shows an instant in the window's zone and in UTC: Mon 24 Nov 09:00 Europe/Berlin (08:00 UTC).
func (w Window) In(t time.Time) string {
	utc := t.UTC()
	if w.Zero() || w.Zone == time.UTC {
		return utc.Format("Mon 2 Jan 15:04 UTC")
	}
	local := t.In(w.Zone)
	layout := "15:04 UTC"
	if local.Day() != utc.Day() {
		layout = "Mon 15:04 UTC"
	}
	return fmt.Sprintf("%s %s (%s)", local.Format("Mon 2 Jan 15:04"), w.Zone, utc.Format(layout))
}

// MarshalJSON writes the window as people write it, and each that must be open with it.
func (w Window) MarshalJSON() ([]byte, error) {
	list := []string{}
	w.all(func(one Window) { list = append(list, one.text) })
	return json.Marshal(list)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (w *Window) UnmarshalJSON(raw []byte) error {
	var list []string
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	*w = Window{}
	for _, text := range list {
		var one Window
		if f := one.parse(text); f != nil {
			return fmt.Errorf("window %q: %s", text, f.why)
		}
		*w = w.With(one)
	}
	return nil
}
