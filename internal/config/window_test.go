package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// zones are those with half hours, without changes, with changes of half an hour, across the date line, with changes around
// Ramadan, at midnight and in both halves of the earth.
var zones = strings.Fields(`UTC Europe/Berlin Europe/London Europe/Dublin Europe/Lisbon Europe/Athens Europe/Chisinau Europe/Moscow
	Europe/Istanbul Europe/Kyiv America/New_York America/Chicago America/Denver America/Phoenix America/Los_Angeles America/Anchorage
	America/Adak America/Halifax America/St_Johns America/Sao_Paulo America/Santiago America/Asuncion America/Havana America/Nuuk
	America/Scoresbysund America/Mexico_City America/Tijuana America/Caracas America/Bogota America/Argentina/Buenos_Aires
	Atlantic/Azores Africa/Casablanca Africa/El_Aaiun Africa/Cairo Africa/Lagos Africa/Johannesburg Africa/Monrovia
	Asia/Jerusalem Asia/Beirut Asia/Gaza Asia/Tehran Asia/Kabul Asia/Karachi Asia/Kolkata Asia/Kathmandu Asia/Yangon Asia/Singapore
	Asia/Shanghai Asia/Tokyo Asia/Pyongyang Asia/Almaty Australia/Perth Australia/Eucla Australia/Darwin Australia/Adelaide
	Australia/Sydney Australia/Lord_Howe Pacific/Auckland Pacific/Chatham Pacific/Apia Pacific/Kiritimati Pacific/Marquesas
	Pacific/Norfolk Pacific/Easter Antarctica/Troll`)

func windowOf(t interface {
	Helper()
	Fatalf(string, ...any)
}, text string,
) Window {
	t.Helper()
	var w Window
	if f := w.parse(text); f != nil {
		t.Fatalf("%s: %s", text, f.why)
	}
	return w
}

// onTheWall says whether a window is open, from the text and what a clock on the wall shows, and nothing else.
func onTheWall(text string, t time.Time) bool {
	i := strings.LastIndexByte(text, ' ')
	zone, err := time.LoadLocation(text[i+1:])
	if err != nil {
		panic(err)
	}
	shows := t.In(zone).Format("Mon 15:04")
	day, clock := shows[:3], shows[4:]
	for span := range strings.SplitSeq(text[:i], ", ") {
		days, hours, _ := strings.Cut(span, " ")
		from, to, _ := strings.Cut(hours, "-")
		first, last, ranged := strings.Cut(days, "-")
		if !ranged {
			last = first
		}
		for d := slices.Index(weekdays, first); ; d = (d + 1) % 7 {
			if weekdays[d] == day && clock >= from && clock < to {
				return true
			}
			if weekdays[d] == last {
				break
			}
		}
	}
	return false
}

// changes are the instants at which a zone's clock is set, in the years that are drawn.
func changes(zone *time.Location) (list []time.Time) {
	end := time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC)
	for at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC); at.Before(end); {
		_, next := at.In(zone).ZoneBounds()
		if next.IsZero() || next.After(end) {
			break
		}
		list, at = append(list, next), next
	}
	return list
}

func drawWindow(t *rapid.T, zone string) string {
	spans := make([]string, rapid.IntRange(1, 3).Draw(t, "spans"))
	for i := range spans {
		from := rapid.IntRange(0, 24*60-1).Draw(t, "from")
		if rapid.Bool().Draw(t, "at night") {
			from = rapid.IntRange(0, 4*60).Draw(t, "from at night")
		}
		to := min(24*60, from+rapid.SampledFrom([]int{1, 10, 30, 59, 60, 90, 240, 1440}).Draw(t, "length"))
		days := rapid.SampledFrom([]string{"Mon", "Sun", "Sat-Sun", "Fri-Mon", "Mon-Fri", "Mon-Sun", "Wed"}).Draw(t, "days")
		spans[i] = fmt.Sprintf("%s %02d:%02d-%02d:%02d", days, from/60, from%60, to/60, to%60)
	}
	return strings.Join(spans, ", ") + " " + zone
}

// A window is what clocks on the wall show: asked minute by minute over three days around a change of the clock.
func TestWindowIsTheClockOnTheWall(t *testing.T) {
	if len(zones) < 60 {
		t.Fatalf("%d zones", len(zones))
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(zones).Draw(t, "zone")
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 5*365*24*60).Draw(t, "minute")) * time.Minute)
		if around := changes(zone); len(around) > 0 && rapid.IntRange(0, 3).Draw(t, "near a change") > 0 {
			start = rapid.SampledFrom(around).Draw(t, "change").Add(-time.Duration(rapid.IntRange(0, 48*60).Draw(t, "before")) * time.Minute)
		}
		texts := []string{drawWindow(t, name)}
		w := windowOf(t, texts[0])
		if rapid.IntRange(0, 3).Draw(t, "two") == 0 {
			texts = append(texts, drawWindow(t, rapid.SampledFrom(zones).Draw(t, "other zone")))
			w = w.With(windowOf(t, texts[1]))
		}
		open := func(at time.Time) bool {
			for _, text := range texts {
				if !onTheWall(text, at) {
					return false
				}
			}
			return true
		}
		const minutes = 3 * 24 * 60
		answers := make([]bool, minutes)
		for i := range answers {
			at := start.Add(time.Duration(i) * time.Minute)
			if answers[i] = open(at); w.Open(at) != answers[i] || w.Open(at.Add(59*time.Second)) != answers[i] {
				t.Fatalf("%s at %s: open=%v, the wall says %v", w, w.In(at), w.Open(at), answers[i])
			}
		}
		var opening, closing = -1, -1 // the next ones, computed from the end
		for i := minutes - 1; i >= 0; i-- {
			if answers[i] {
				opening = i
			} else {
				closing = i
			}
			at := start.Add(time.Duration(i) * time.Minute)
			if i%97 != 0 && i > 0 && answers[i] == answers[i-1] {
				continue
			}
			first(t, w, "opens", at, opening, start, minutes, w.NextOpening)
			first(t, w, "closes", at, closing, start, minutes, w.Closes)
		}
	})
}

// first compares what a search found with the first minute of the brute force; -1: none within it.
func first(t *rapid.T, w Window, what string, at time.Time, want int, start time.Time, minutes int, search func(time.Time) (time.Time, bool)) {
	got, ok := search(at)
	if want < 0 {
		if ok && got.Before(start.Add(time.Duration(minutes)*time.Minute)) {
			t.Fatalf("%s %s at %s, not by the wall", w, what, w.In(got))
		}
		return
	}
	if right := start.Add(time.Duration(want) * time.Minute); !ok || !got.Equal(right) {
		t.Fatalf("%s after %s %s at %s, %v; by the wall at %s", w, w.In(at), what, w.In(got), ok, w.In(right))
	}
}

// What fits stays open, and nothing that fits comes before it.
func TestFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := windowOf(t, drawWindow(t, rapid.SampledFrom(zones).Draw(t, "zone")))
		now := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 5*365*24*60).Draw(t, "minute")) * time.Minute)
		d := time.Duration(rapid.IntRange(0, 300).Draw(t, "minutes")) * time.Minute
		at, ok := w.Fit(now, d)
		longest := w.Longest(now)
		if !ok {
			if longest > d {
				t.Fatalf("%s: %s fits nowhere, and an opening lasts %s", w, d, longest)
			}
			return
		}
		if longest <= d || at.Before(now) || !w.Open(at) || !w.Open(at.Add(d)) {
			t.Fatalf("%s: %s from %s on, longest %s", w, d, w.In(at), longest)
		}
		if closes, ok := w.Closes(at); ok && !closes.After(at.Add(d)) {
			t.Fatalf("%s: closes at %s, before %s after %s", w, w.In(closes), d, w.In(at))
		}
		for open, ok := w.NextOpening(now); ok && open.Before(at); {
			closes, shuts := w.Closes(open)
			if !shuts || closes.Sub(open) > d {
				t.Fatalf("%s: %s fits at %s already", w, d, w.In(open))
			}
			open, ok = w.NextOpening(closes)
		}
	})
}

func at(t *testing.T, zone, text string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	when, err := time.ParseInLocation("2006-01-02 15:04", text, loc)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

// The day on which 02:30 does not exist, and the day on which it exists twice.
func TestWindowAtBothChanges(t *testing.T) {
	w := windowOf(t, "Mon-Sun 02:00-03:30 Europe/Berlin")
	for _, c := range []struct{ now, opens, closes string }{
		{"2026-03-28T23:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"}, // 03:00 to 03:30: half an hour is left of it
		{"2026-10-24T22:00:00Z", "2026-10-25T00:00:00Z", "2026-10-25T02:30:00Z"}, // 02:00 to 03:30, one hour twice
	} {
		now, _ := time.Parse(time.RFC3339, c.now)
		opens, _ := w.NextOpening(now)
		closes, _ := w.Closes(opens)
		if got := opens.UTC().Format(time.RFC3339) + " " + closes.UTC().Format(time.RFC3339); got != c.opens+" "+c.closes {
			t.Errorf("from %s: %s, want %s %s", c.now, got, c.opens, c.closes)
		}
	}
	w = windowOf(t, "Sun 02:10-02:50 Europe/Berlin") // never on the day of the change
	if opens, _ := w.NextOpening(at(t, "UTC", "2026-03-28 00:00")); !opens.Equal(at(t, "Europe/Berlin", "2026-04-05 02:10")) {
		t.Error(w.In(opens))
	}
	if opens, ok := w.Fit(at(t, "UTC", "2026-10-19 00:00"), time.Hour); ok {
		t.Errorf("an hour fits at %s: between the two there is a pause", w.In(opens))
	}
}

func TestWindowThatNeverShuts(t *testing.T) {
	now := time.Now()
	for _, w := range []Window{{}, windowOf(t, "Mon-Sun 00:00-24:00 Pacific/Apia")} {
		if opens, ok := w.NextOpening(now); !ok || !opens.Equal(now) {
			t.Errorf("%s opens at %s", w, opens)
		}
		if at, ok := w.Closes(now); ok && !w.Zero() {
			t.Errorf("%s closes at %s", w, at)
		}
		if _, ok := w.Fit(now, 30*24*time.Hour); !ok {
			t.Errorf("nothing fits into %s", w)
		}
	}
	never := windowOf(t, "Mon 09:00-10:00 UTC").With(windowOf(t, "Tue 09:00-10:00 UTC"))
	if at, ok := never.NextOpening(now); ok {
		t.Errorf("%s opens at %s", never, at)
	}
	if never.Longest(now) != 0 {
		t.Error("it has an opening")
	}
}

func TestWindowIsStored(t *testing.T) {
	type settings struct {
		Window Window `json:"window,omitzero"`
	}
	for _, w := range []Window{{}, windowOf(t, "Mon-Thu 09:00-16:00, Fri 09:00-12:00 Europe/Berlin"),
		windowOf(t, "Mon-Fri 09:00-16:00 UTC").With(windowOf(t, "Mon-Sun 07:00-15:00 America/New_York"))} {
		raw, err := json.Marshal(settings{w})
		if err != nil {
			t.Fatal(err)
		}
		var back settings
		if err := json.Unmarshal(raw, &back); err != nil || back.Window.String() != w.String() || w.Zero() != (string(raw) == "{}") {
			t.Errorf("%s came back as %s: %v", raw, back.Window, err)
		}
		for i := range 24 * 7 {
			if now := time.Now().Add(time.Duration(i) * time.Hour); back.Window.Open(now) != w.Open(now) {
				t.Errorf("%s differs at %s", w, now)
			}
		}
	}
}

// A window that is only narrower is no loosening; one that opens at another time holds beside the last.
func TestStricterWindow(t *testing.T) {
	for _, c := range []struct {
		own, last, holds string
		loosened         int
	}{
		{"Mon-Fri 09:00-16:00 Europe/Berlin", "Mon-Fri 09:00-16:00 Europe/Berlin", "Mon-Fri 09:00-16:00 Europe/Berlin", 0},
		{"Mon-Thu 10:00-16:00 Europe/Berlin", "Mon-Fri 09:00-16:00 Europe/Berlin", "Mon-Thu 10:00-16:00 Europe/Berlin", 0},
		{"Mon-Fri 09:00-17:00 Europe/Berlin", "Mon-Fri 09:00-16:00 Europe/Berlin", "Mon-Fri 09:00-17:00 Europe/Berlin and Mon-Fri 09:00-16:00 Europe/Berlin", 1},
		{"Mon-Fri 09:00-16:00 America/New_York", "Mon-Fri 09:00-16:00 Europe/Berlin", "Mon-Fri 09:00-16:00 America/New_York and Mon-Fri 09:00-16:00 Europe/Berlin", 1},
		{"", "Mon-Fri 09:00-16:00 Europe/Berlin", "Mon-Fri 09:00-16:00 Europe/Berlin", 1},
		{"Mon-Fri 09:00-16:00 Europe/Berlin", "", "Mon-Fri 09:00-16:00 Europe/Berlin", 0},
	} {
		file := func(window string) *File {
			f := right(t, small)
			if window != "" {
				f.Gates.Window = windowOf(t, window)
			}
			return f
		}
		got, loosened := Stricter(file(c.own), file(c.last))
		if got.Gates.Window.String() != c.holds || len(loosened) != c.loosened {
			t.Errorf("%q after %q: %s, %q", c.own, c.last, got.Gates.Window, loosened)
		}
	}
}
