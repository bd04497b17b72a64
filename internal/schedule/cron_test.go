package schedule

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const layout = "2006-01-02 15:04:05 -0700"

func parse(t testing.TB, text string) Cron {
	t.Helper()
	c, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		text, after string
		want        []string
	}{
		{"0 3 * * * Europe/Berlin", "2026-01-01 02:59:59 +0100", []string{"2026-01-01 03:00:00 +0100", "2026-01-02 03:00:00 +0100"}},
		{"0 3 * * * Europe/Berlin", "2026-01-01 03:00:00 +0100", []string{"2026-01-02 03:00:00 +0100"}},
		{"*/20 8-9 * * * UTC", "2026-01-01 08:30:00 +0000", []string{"2026-01-01 08:40:00 +0000", "2026-01-01 09:00:00 +0000",
			"2026-01-01 09:20:00 +0000", "2026-01-01 09:40:00 +0000", "2026-01-02 08:00:00 +0000"}},
		{"5/20 0 * * * UTC", "2026-01-01 00:00:00 +0000", []string{"2026-01-01 00:05:00 +0000", "2026-01-01 00:25:00 +0000", "2026-01-01 00:45:00 +0000"}},
		{"0 0 31 * * UTC", "2026-01-31 12:00:00 +0000", []string{"2026-03-31 00:00:00 +0000", "2026-05-31 00:00:00 +0000"}},
		{"0 0 29 2 * UTC", "2096-03-01 00:00:00 +0000", []string{"2104-02-29 00:00:00 +0000"}},
		{"0 9 * * 1-5 Europe/Berlin", "2026-06-05 10:00:00 +0200", []string{"2026-06-08 09:00:00 +0200"}}, // a Friday
		{"0 9 * * 7 UTC", "2026-06-05 10:00:00 +0000", []string{"2026-06-07 09:00:00 +0000"}},
		{"0 9 * * 5-7 UTC", "2026-06-05 10:00:00 +0000", []string{"2026-06-06 09:00:00 +0000", "2026-06-07 09:00:00 +0000", "2026-06-12 09:00:00 +0000"}},
		// Both days are named: either will do.
		{"0 0 13 * 5 UTC", "2026-06-01 00:00:00 +0000", []string{"2026-06-05 00:00:00 +0000", "2026-06-12 00:00:00 +0000", "2026-06-13 00:00:00 +0000"}},
		// With a star in one of them, both must fit: here every second day that is a Monday.
		{"0 0 */2 * 1 UTC", "2026-06-01 00:00:00 +0000", []string{"2026-06-15 00:00:00 +0000", "2026-06-29 00:00:00 +0000", "2026-07-13 00:00:00 +0000"}},
		{"0 0 1 1 * Asia/Kolkata", "2026-01-01 00:00:00 +0530", []string{"2027-01-01 00:00:00 +0530"}},
		// Seconds first.
		{"*/20 * * * * * UTC", "2026-01-01 00:00:30 +0000", []string{"2026-01-01 00:00:40 +0000", "2026-01-01 00:01:00 +0000"}},
		{"* * * * * * UTC", "2026-01-01 00:00:30 +0000", []string{"2026-01-01 00:00:31 +0000", "2026-01-01 00:00:32 +0000"}},

		// The clocks go forward: half past two is left out and comes at three, once.
		{"30 2 * * * Europe/Berlin", "2026-03-28 02:30:00 +0100", []string{"2026-03-29 03:00:00 +0200", "2026-03-30 02:30:00 +0200"}},
		{"30 2 * * * Europe/Berlin", "2026-03-29 01:59:59 +0100", []string{"2026-03-29 03:00:00 +0200", "2026-03-30 02:30:00 +0200"}},
		{"0,30 2,3 * * * Europe/Berlin", "2026-03-29 01:00:00 +0100", []string{"2026-03-29 03:00:00 +0200", "2026-03-29 03:30:00 +0200"}},
		{"0 2 * * * Europe/Berlin", "2026-03-29 01:00:00 +0100", []string{"2026-03-29 03:00:00 +0200", "2026-03-30 02:00:00 +0200"}},
		{"0 3 * * * Europe/Berlin", "2026-03-29 01:00:00 +0100", []string{"2026-03-29 03:00:00 +0200", "2026-03-30 03:00:00 +0200"}},
		// They go back: half past two comes twice and counts the first time.
		{"30 2 * * * Europe/Berlin", "2026-10-25 00:00:00 +0200", []string{"2026-10-25 02:30:00 +0200", "2026-10-26 02:30:00 +0100"}},
		{"30 2 * * * Europe/Berlin", "2026-10-25 02:30:00 +0100", []string{"2026-10-26 02:30:00 +0100"}},
		{"0 3 * * * Europe/Berlin", "2026-10-25 02:30:00 +0200", []string{"2026-10-25 03:00:00 +0100"}},
		{"0 2 * * * Europe/Berlin", "2026-10-25 01:59:59 +0200", []string{"2026-10-25 02:00:00 +0200", "2026-10-26 02:00:00 +0100"}},
		// At midnight, as in Cairo, and by half an hour, as on Lord Howe.
		{"15 0 * * * Africa/Cairo", "2024-04-25 12:00:00 +0200", []string{"2024-04-26 01:00:00 +0300", "2024-04-27 00:15:00 +0300"}},
		{"15 2 * * * Australia/Lord_Howe", "2026-10-03 12:00:00 +1030", []string{"2026-10-04 02:30:00 +1100", "2026-10-05 02:15:00 +1100"}},
		{"45 1 * * * Australia/Lord_Howe", "2026-04-04 12:00:00 +1100", []string{"2026-04-05 01:45:00 +1100", "2026-04-06 01:45:00 +1030"}},
		// A whole day that never was.
		{"0 12 * * * Pacific/Apia", "2011-12-29 13:00:00 -1000", []string{"2011-12-31 00:00:00 +1400", "2011-12-31 12:00:00 +1400"}},
		// Every hour is time that passes: no hour is without its ticks, and none has them twice.
		{"*/30 * * * * Europe/Berlin", "2026-03-29 01:00:00 +0100", []string{"2026-03-29 01:30:00 +0100", "2026-03-29 03:00:00 +0200", "2026-03-29 03:30:00 +0200"}},
		{"15 * * * * Europe/Berlin", "2026-03-29 01:00:00 +0100", []string{"2026-03-29 01:15:00 +0100", "2026-03-29 03:15:00 +0200"}},
		{"15 * * * * Europe/Berlin", "2026-10-25 01:30:00 +0200", []string{"2026-10-25 02:15:00 +0200", "2026-10-25 02:15:00 +0100", "2026-10-25 03:15:00 +0100"}},
	} {
		at, err := time.Parse(layout, c.after)
		if err != nil {
			t.Fatal(err)
		}
		s := parse(t, c.text)
		for _, want := range c.want {
			at = s.Next(at)
			if got := at.In(s.zone).Format(layout); got != want {
				t.Errorf("%s after %s: %s, want %s", c.text, c.after, got, want)
				break
			}
		}
	}
}

func TestNextStartsAnywhereInASecond(t *testing.T) {
	s := parse(t, "* * * * * * UTC")
	at := time.Date(2026, 1, 1, 0, 0, 0, 999_999_999, time.UTC)
	if got := s.Next(at); !got.Equal(at.Truncate(time.Second).Add(time.Second)) {
		t.Errorf("after %s comes %s", at, got)
	}
}

func TestNoSchedule(t *testing.T) {
	if got := (Cron{}).Next(time.Now()); !got.IsZero() {
		t.Errorf("the zero schedule ticks at %s", got)
	}
	for text, id := range map[string]string{
		"": "schedule", "0 3 * *": "schedule", "0 3 * * Europe/Berlin": "schedule", "a b c d e UTC": "schedule",
		"60 * * * * UTC": "schedule", "* 24 * * * UTC": "schedule", "* * 0 * * UTC": "schedule", "* * * 13 * UTC": "schedule", "* * * * 8 UTC": "schedule",
		"5-1 * * * * UTC": "schedule", "*/0 * * * * UTC": "schedule", "1,,2 * * * * UTC": "schedule", "+5 * * * * UTC": "schedule",
		"60 * * * * * UTC": "schedule", "0 3 * * * * * UTC": "schedule",
		"0 3 * * *": "schedule-zone", "0 3 * * * Mars/Olympus": "zone", "0 3 * * * Local": "zone",
		"0 0 30 2 * UTC": "schedule-never", "0 0 31 4,6 * UTC": "schedule-never",
	} {
		_, err := Parse(text)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || syntax.ID != id || syntax.Why == "" || syntax.Hint == "" {
			t.Errorf("%q: %#v, want %s", text, err, id)
		}
	}
}

// The fields mean the same as looking at every minute of the clock on the wall.
func TestNextIsTheFirstMinuteThatFits(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe"}
	pick := func(t *rapid.T, name string, choices ...string) string {
		return rapid.SampledFrom(choices).Draw(t, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join([]string{
			pick(t, "minute", "*", "0", "30", "*/7", "59", "10-20/3"), pick(t, "hour", "*", "0", "2", "1-3", "23"),
			pick(t, "day", "*", "1", "31", "*/9", "25-29"), pick(t, "month", "*", "3", "10", "*/2"), pick(t, "weekday", "*", "0", "7", "1-5"),
			pick(t, "zone", zones...),
		}, " ")
		s, err := Parse(text)
		if err != nil {
			t.Skip()
		}
		at := time.Unix(rapid.Int64Range(1_700_000_000, 1_900_000_000).Draw(t, "after"), 0)
		next := s.Next(at)
		if !next.After(at) || next.Nanosecond() != 0 {
			t.Fatalf("%s after %s: %s", text, at, next)
		}
		local := next.In(s.zone)
		begin, _ := local.ZoneBounds()
		if !next.Equal(begin) && !s.fits(local) {
			t.Fatalf("%s after %s: %s does not fit", text, at, local)
		}
		// Nothing that fits lies between, but for what the clocks showed twice.
		for m := at.Truncate(time.Minute).Add(time.Minute); m.Before(next) && m.Before(at.Add(72*time.Hour)); m = m.Add(time.Minute) {
			if local := m.In(s.zone); s.fits(local) && !shownBefore(local) {
				t.Fatalf("%s after %s: %s, but %s fits", text, at, next.In(s.zone), local)
			}
		}
	})
}

func (c Cron) fits(local time.Time) bool {
	return has(c.minute, local.Minute()) && has(c.hour, local.Hour()) && has(c.month, int(local.Month())) && c.onDay(local.Day(), local.Weekday()) &&
		has(c.second, local.Second())
}

// shownBefore reports whether the clock on the wall showed this already, up to an hour before.
func shownBefore(local time.Time) bool {
	for _, before := range []time.Duration{30 * time.Minute, time.Hour} {
		if wall(local.Add(-before)).Equal(wall(local)) {
			return true
		}
	}
	return false
}

func FuzzParse(f *testing.F) {
	f.Add("0 3 * * * Europe/Berlin")
	f.Add("*/5 1-3,7 * 2 */2 UTC")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		if next := c.Next(at); !next.After(at) {
			t.Errorf("%q: after %s comes %s", text, at, next)
		}
	})
}
