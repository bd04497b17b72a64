package config

import (
	"strings"
	"testing"
	"time"

	"github.com/belay-cd/belay/internal/domain"
)

func withSchedule(text string) string {
	return strings.Replace(small, "roles:\n", "roles:\n  tidy: { run: ./app tidy, schedule: '"+text+"' }\n", 1)
}

func TestSchedules(t *testing.T) {
	f := right(t, withSchedule("30 2 * * 1-5 Europe/Berlin"))
	next := f.Roles["tidy"].Schedule.Next(time.Date(2026, 6, 6, 0, 0, 0, 0, time.UTC)) // a Saturday
	if want := time.Date(2026, 6, 8, 0, 30, 0, 0, time.UTC); !next.Equal(want) {
		t.Errorf("the next tick is %s, want %s", next, want)
	}
	for text, id := range map[string]string{
		"0 3 * * *": "schedule-zone", "0 3 * * * Mars/Olympus": "zone", "61 3 * * * UTC": "schedule",
		"0 0 30 2 * UTC": "schedule-never", "* * * * * * UTC": "schedule",
	} {
		if _, findings := parsed(t, withSchedule(text)); !finds(findings, id, "") {
			t.Errorf("%s is not refused with %s:\n%s", text, id, render(t, findings))
		}
	}
}

// Seconds are for servers with short times only.
func TestScheduleWithSeconds(t *testing.T) {
	f, findings := Parse(FileName, []byte(withSchedule("* * * * * * UTC")), Options{Demo: true})
	if f == nil || Failed(findings, false) {
		t.Fatalf("a demo refuses it:\n%s", render(t, findings))
	}
	for _, w := range Workloads(f, domain.Staging) {
		if w.Role == "tidy" && (w.Schedule != "* * * * * * UTC" || w.Kind != domain.Cron) {
			t.Errorf("%+v", w)
		}
	}
}
